//! `tandem state-server`: joins config, store and service, and tells of the fleet.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use tandem_state_client::{Store, grpc};
use tandem_state_server::{StateServer, fleet};
use tandem_telemetry::http::{Networks, Problem};
use tandem_wire::id::PopId;
use tandem_wire::units::Wall;
use tokio::net::TcpListener;

use super::{Process, Role, Stop};
use crate::config::role::{EtcdConfig, LogConfig, StateServerConfig};
use crate::fleet::Fleet;
use crate::limits;

fn wall() -> Wall {
    tandem_net::clock::now().wall
}

/// Opens the file, or what is in etcd: the config has one of them.
async fn open(data: Option<PathBuf>, etcd: Option<EtcdConfig>, pop: PopId) -> Result<Arc<StateServer>, String> {
    if let Some(etcd) = etcd {
        let opened = StateServer::connect(&etcd.to_etcd(), pop, wall).await;
        return opened.map_err(|error| format!("etcd: {error}"));
    }
    let data = data.unwrap_or_default();
    match tokio::task::spawn_blocking(move || StateServer::open(&data, pop, wall)).await {
        Ok(opened) => opened.map_err(|error| format!("data: {error}")),
        Err(_) => Err("data: the store could not be opened".to_owned()),
    }
}

impl Role for StateServerConfig {
    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn admin(&self) -> (SocketAddr, Networks) {
        (self.admin, self.admin_allow.0.clone())
    }

    /// Who is in the fleet is told on this machine alone.
    fn routes(&self) -> axum::Router {
        if !self.admin.ip().is_loopback() {
            return axum::Router::new();
        }
        axum::Router::new().route("/relays", get(relays)).with_state((PopId(self.pop), Arc::clone(&self.running)))
    }

    async fn serve(self, process: Process) -> Result<(), Stop> {
        // Records hold client addresses: whatever file is made is nobody else's to read.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let pop = PopId(self.pop);
        let server = tokio::select! {
            opened = open(self.data, self.etcd, pop) => opened?,
            // Without etcd it waits for it, and may be told to end meanwhile.
            () = process.shutdown.requested() => return Ok(()),
        };
        let listener =
            TcpListener::bind(self.listen).await.map_err(|error| format!("listen: cannot be bound: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("listen: cannot be bound: {error}"))?;
        process.metrics.attach(server.source());
        // Set once: a process has one store.
        let _ = self.running.set(Arc::clone(&server));
        process.ready("listen", address);
        let fleet = fleet::keep(Arc::clone(&server) as Arc<dyn Store>, pop, tandem_net::clock::now);
        let until = process.shutdown.clone();
        let serving = grpc::serve(listener, server, self.secret.get(), async move { until.requested().await });
        let late = async {
            process.shutdown.requested().await;
            // Relays follow for as long as they live, which is longer than we want to wait.
            tokio::time::sleep(limits::STATE_SERVER_DRAIN).await;
        };
        tokio::select! {
            served = serving => served.map_err(|error| format!("listen: {error}").into()),
            () = late => Ok(()),
            () = fleet => Err("the fleet is no longer kept".to_owned().into()),
        }
    }
}

type Running = (PopId, Arc<OnceLock<Arc<StateServer>>>);

async fn relays(State((pop, running)): State<Running>) -> Result<impl IntoResponse, Problem> {
    let away = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "The store does not answer now");
    let fleet = Fleet::read(&**running.get().ok_or_else(away)?, pop).await.map_err(|_| away())?;
    let mut text = serde_json::to_string_pretty(&fleet).map_err(|_| away())?;
    text.push('\n');
    Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], text))
}
