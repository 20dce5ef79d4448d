//! `tandem lb`: joins config, store and load balancer, and tells where packets go.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tandem_core::steering::{self, Location};
use tandem_lb::{Asker, Lb};
use tandem_state_client::RemoteStore;
use tandem_telemetry::http::extract::Query;
use tandem_telemetry::http::{Networks, Problem};
use tandem_wire::id::{BucketId, CallId, RelayId};

use super::{Process, Role, Stop, with_source};
use crate::cli;
use crate::config::lb::LbConfig;
use crate::config::role::LogConfig;

impl Role for LbConfig {
    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn admin(&self) -> (SocketAddr, Networks) {
        (self.admin, self.admin_allow.0.clone())
    }

    /// Where packets go is told on this machine alone: which relay has a call is nobody else's business.
    fn routes(&self) -> axum::Router {
        if !self.admin.ip().is_loopback() {
            return axum::Router::new();
        }
        axum::Router::new().route("/where", get(whereabouts)).with_state(Arc::clone(&self.running))
    }

    async fn serve(self, process: Process) -> Result<(), Stop> {
        let store =
            RemoteStore::of_several(&self.state.endpoints(), self.state.secret.get()).map_err(|e| e.to_string())?;
        let lb = Lb::start(&self.to_lb(), Arc::new(store)).map_err(|error| with_source(&error))?;
        for source in lb.sources() {
            process.metrics.attach(source);
        }
        // Set once: a process has one load balancer.
        let _ = self.running.set(lb.asker());
        tokio::select! {
            ready = lb.ready() => {
                let addresses = ready.map_err(|error| with_source(&error))?;
                if let Some(first) = addresses.and_then(|addresses| addresses.first().copied()) {
                    process.ready("turn", first);
                }
            },
            () = process.shutdown.requested() => return Ok(()),
        }
        tokio::select! {
            () = lb.ended() => Err("the packet thread has ended".to_owned().into()),
            () = process.shutdown.requested() => {
                lb.close().await;
                Ok(())
            }
        }
    }
}

/// Which bucket is asked for: by its digits, or by a call in it.
#[derive(Deserialize)]
struct Asked {
    bucket: Option<String>,
    call: Option<String>,
}

impl Asked {
    fn bucket(&self) -> Option<BucketId> {
        match (&self.bucket, &self.call) {
            (Some(digits), None) => cli::bucket(digits).ok(),
            (None, Some(call)) => call.parse::<CallId>().ok().map(CallId::bucket),
            _ => None,
        }
    }
}

/// A [`Location`] as it is told.
#[derive(Serialize)]
struct Told {
    bucket: String,
    epoch: u32,
    primary: Option<RelayId>,
    secondary: Option<RelayId>,
    now: Option<RelayId>,
    acting: bool,
    frozen: bool,
    relays: Vec<ToldRelay>,
}

#[derive(Serialize)]
struct ToldRelay {
    relay: RelayId,
    incarnation: u64,
    standing: tandem_core::topology::Standing,
    state: String,
    load_permille: u16,
}

impl Told {
    fn new(bucket: BucketId, location: &Location) -> Self {
        let relays = location.relays.iter().map(|seen| ToldRelay {
            relay: seen.id,
            incarnation: seen.incarnation.0,
            standing: seen.standing,
            state: match seen.state {
                steering::State::Down(cause) => format!("down ({cause:?})").to_lowercase(),
                other => format!("{other:?}").to_lowercase(),
            },
            load_permille: seen.load,
        });
        Self {
            bucket: format!("{:04x}", bucket.0),
            epoch: location.epoch,
            primary: location.primary,
            secondary: location.secondary,
            now: location.now,
            acting: location.acting,
            frozen: location.frozen,
            relays: relays.collect(),
        }
    }
}

async fn whereabouts(
    State(running): State<Arc<OnceLock<Asker>>>,
    Query(asked): Query<Asked>,
) -> Result<impl IntoResponse, Problem> {
    let bad =
        || Problem::new(StatusCode::BAD_REQUEST, "invalid_bucket", "Name a bucket (0abc) or a call, and not both");
    let bucket = asked.bucket().ok_or_else(bad)?;
    let away = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "The load balancer does not answer now");
    let location = running.get().ok_or_else(away)?.locate(bucket).await.ok_or_else(away)?;
    let mut text = serde_json::to_string_pretty(&Told::new(bucket, &location)).map_err(|_| away())?;
    text.push('\n');
    Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], text))
}
