//! What all roles have in common: config, logging, metrics, the admin port, readiness, an end.
//!
//! Decides in which order these happen. Leaves the rest to each role.

mod lb;
mod relay;
mod router;
mod signaling;
mod state_server;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use tandem_telemetry::http::Networks;
use tandem_telemetry::http::admin::{Admin, Readiness};
use tandem_telemetry::log;
use tandem_telemetry::registry::Metrics;
use tokio::net::TcpListener;

use crate::cli::RoleArgs;
use crate::config::role::LogConfig;
use crate::config::{self, RoleConfig};
use crate::shutdown::Shutdown;
use crate::{Failure, lifeline, limits};

/// Why a role ends without having been told to.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It cannot go on.
    Broken(String),
    /// Another process does its work, and came later.
    Superseded,
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

/// What a role adds to its config.
pub(crate) trait Role: RoleConfig + Serialize {
    /// Checks what only this machine can tell, before anything is bound.
    fn check_here(&self) -> Result<(), config::ConfigError> {
        Ok(())
    }

    /// How it logs.
    fn log(&self) -> &LogConfig;

    /// Where its admin port is, and who may connect there.
    fn admin(&self) -> (SocketAddr, Networks);

    /// What its admin port tells beside what all of them do.
    fn routes(&self) -> axum::Router {
        axum::Router::new()
    }

    /// Runs it until the shutdown is requested, or until it cannot go on.
    fn serve(self, process: Process) -> impl Future<Output = Result<(), Stop>>;
}

/// What a role is given to run in.
pub(crate) struct Process {
    role: &'static str,
    admin: SocketAddr,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    shutdown: Shutdown,
}

/// The line with which a role says that it serves.
#[derive(Serialize)]
struct Ready {
    role: &'static str,
    admin: SocketAddr,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

impl Process {
    /// Takes new work from now on, and says so: on `/readyz`, and with one line on stdout for whoever started us.
    fn ready(&self, listener: &'static str, address: SocketAddr) {
        self.readiness.set(true);
        tracing::info!(role = self.role, "ready");
        let more = [(listener.to_owned(), address.to_string().into())].into_iter().collect();
        if let Ok(json) = serde_json::to_string(&Ready { role: self.role, admin: self.admin, more }) {
            say(&format!("ready {json}\n"));
        }
    }
}

/// Writes to stdout. Who closed it does not want to hear.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Runs a role from its command line to its end.
pub(crate) fn main<R: Role>(args: &RoleArgs) -> Result<(), Failure> {
    let layers = args.layers(R::ROLE)?;
    let config: R = config::read(&layers)?;
    if config.is_development() && args.die_with_parent.is_none() {
        let what = "development only: it hands out tokens to whoever asks, and works only under `tandem dev`";
        return Err(config::ConfigError::new("dev", what).into());
    }
    if args.check_config {
        let shown = toml::to_string(&config).map_err(|error| Failure::Run(error.to_string()))?;
        say(&format!("config ok\n\n{shown}"));
        return Ok(());
    }
    config.check_here().map_err(|error| layers.blame(error))?;
    if let Some(parent) = args.die_with_parent {
        lifeline::tie_to(parent).map_err(Failure::Run)?;
    }
    let LogConfig { format, filter } = config.log();
    log::init(*format, &filter.filter).map_err(|error| Failure::Run(error.to_string()))?;
    log::install_panic_hook();
    let metrics = Metrics::new();
    metrics.install().map_err(|error| Failure::Run(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(limits::WORKERS).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Run(format!("the system refuses threads: {error}")))?;
    runtime.block_on(run(config, metrics)).map_err(|stop| match stop {
        Stop::Broken(what) => Failure::Run(what),
        Stop::Superseded => Failure::Superseded,
    })
}

async fn run<R: Role>(config: R, metrics: Arc<Metrics>) -> Result<(), Stop> {
    let shutdown = Shutdown::on_signals().map_err(|error| format!("signals cannot be heard: {error}"))?;
    let (address, from) = config.admin();
    let listener = TcpListener::bind(address).await.map_err(|error| format!("admin: cannot be bound: {error}"))?;
    let admin = listener.local_addr().map_err(|error| format!("admin: cannot be bound: {error}"))?;
    let readiness = Readiness::default();
    readiness.set(false);
    let server = Admin {
        role: R::ROLE,
        version: env!("CARGO_PKG_VERSION"),
        readiness: readiness.clone(),
        metrics: Arc::clone(&metrics),
    };
    let until = shutdown.clone();
    let server = tokio::spawn(server.serve(listener, from, config.routes(), async move { until.requested().await }));
    let process = Process { role: R::ROLE, admin, metrics, readiness: readiness.clone(), shutdown: shutdown.clone() };
    let result = config.serve(process).await;
    readiness.set(false);
    shutdown.request();
    // A panic of it was logged when it happened.
    let _ = server.await;
    tracing::info!(role = R::ROLE, "ended");
    result
}

/// An error and what it came from.
fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
