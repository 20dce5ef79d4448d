//! `tandem dev`: every role on this machine, kept alive, and a phone to call with.
//!
//! Decides nothing about calls. Never for production: it hands out tickets to whoever asks on this machine.

mod children;
mod demo;
mod door;
mod fleet;
mod http;
mod keeper;
mod page;
mod ports;
mod signal;
mod supervisor;
mod table;

use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;
use tandem_state_client::RemoteStore;
use tandem_telemetry::log::{self, Filter, Format};
use tokio::net::TcpListener;

use crate::cli::DevArgs;
use crate::config::ConfigError;
use crate::shutdown::Shutdown;
use crate::{Failure, limits};
use children::Children;
use demo::{Demo, Demos};
use http::Dev;
use supervisor::Supervisor;
use table::Process;

/// What `--json` says once everything serves.
#[derive(Serialize)]
struct Started<'a> {
    page: String,
    turn: String,
    /// Signaling, and where devices connect.
    api: String,
    connect: String,
    data_dir: String,
    demo: &'a Demo,
    processes: &'a [Process],
}

/// Runs until it is told to end.
pub(crate) fn main(args: &DevArgs) -> Result<(), Failure> {
    if !args.http.ip().is_loopback() {
        let what = "development only: the page hands out tickets, so it is served on this machine's loopback only";
        return Err(ConfigError::new("--http", what).into());
    }
    if args.turn.ip().is_unspecified() {
        let what = "browsers are told this address: name one that they can send to";
        return Err(ConfigError::new("--turn", what).into());
    }
    let children = Children::prepare(args)?;
    let run = |what: &str, error: &dyn std::fmt::Display| Failure::Run(format!("{what}: {error}"));
    log::init(Format::Text, &Filter::info()).map_err(|error| run("logging", &error))?;
    log::install_panic_hook();
    // Children die with the thread that made them, so all of it runs on this one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| run("the system refuses a runtime", &error))?;
    runtime.block_on(serve(args, children))
}

async fn serve(args: &DevArgs, children: Children) -> Result<(), Failure> {
    let run = |what: &str, error: &dyn std::fmt::Display| Failure::Run(format!("{what}: {error}"));
    let shutdown = Shutdown::on_signals().map_err(|error| run("signals cannot be heard", &error))?;
    let listener = TcpListener::bind(children.page).await.map_err(|error| run("--http cannot be bound", &error))?;
    let page = listener.local_addr().map_err(|error| run("--http cannot be bound", &error))?;
    let store = RemoteStore::new(&children.endpoint, &children.state_secret);
    let store = store.map_err(|error| run("the store", &error))?;
    let demos = Demos::new(&children, Arc::new(store)).map_err(|error| run("the demo's key", &error))?;
    let (api, connect) = (children.api, children.connect);
    let supervisor = Supervisor::start(children.recipes);
    for door in children.doors {
        door.open(supervisor.orders()).await.map_err(|error| run("--api or --connect cannot be bound", &error))?;
    }
    let processes = tokio::select! {
        ready = supervisor.ready() => ready,
        () = shutdown.requested() => {
            supervisor.stop().await;
            return Ok(());
        }
    };
    let started = match processes {
        Ok(processes) => demos
            .create()
            .await
            .map(|demo| (processes, demo))
            .map_err(|problem| Failure::Run(format!("no demo call could be made ({})", problem.code()))),
        Err(name) => Err(Failure::Run(format!("the {name} does not start"))),
    };
    let (processes, demo) = match started {
        Ok(started) => started,
        Err(failure) => {
            supervisor.stop().await;
            return Err(failure);
        }
    };
    let data_dir = args.data_dir.display().to_string();
    let turn = children.turn.to_string();
    let started = Started {
        page: format!("http://{page}/"),
        turn,
        api: format!("http://{api}"),
        connect: format!("ws://{connect}/v1/connect"),
        data_dir,
        demo: &demo,
        processes: &processes,
    };
    say(&started, args.json);
    let (api, connect) = (started.api.clone(), started.connect.clone());
    let dev = Dev { demos: Arc::new(demos), orders: supervisor.orders(), shutdown, api, connect };
    dev.serve(listener).await;
    supervisor.stop().await;
    Ok(())
}

/// Says on stdout where everything is. Who closed it does not want to hear.
fn say(started: &Started<'_>, json: bool) {
    let text = if json {
        serde_json::to_string(started).map(|line| line + "\n").unwrap_or_default()
    } else {
        let mut text = format!(
            "\nTandem is running. Open this page in two tabs, be alice in one and bob in the other, and call:\n\n    {}\n\n\
             Device API: {}/docs\nDevices connect to: {}\nTURN relay: {} (UDP)\nStore and configs: {}\n\n\
             Without ringing, for looking closely: {}diagnostic.html\n\n\
             Tickets of a demo call, for any TURN client (good for {} hours):\n",
            started.page,
            started.api,
            started.connect,
            started.turn,
            started.data_dir,
            started.page,
            limits::DEMO_TICKET_LIFE.as_secs() / 3600,
        );
        for leg in &started.demo.legs {
            for server in &leg.ice_servers {
                text.push_str(&format!("  leg {}  {}  {}\n", leg.leg, server.username, server.credential));
            }
        }
        text + "\nCtrl-C ends it all.\n\n"
    };
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
