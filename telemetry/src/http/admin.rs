//! The admin port of every role: is it alive, does it take new work, what is it, what does it count.
//!
//! Decides those four routes. Leaves to the role when it is ready, and what else it tells there.

use std::future::Future;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Limits, Networks, Problem, serve};
use crate::registry::Metrics;
use crate::{limits, metric};

/// Whether a process takes new work. Clones are the same switch; it starts at "no".
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<bool>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Readiness {
    /// Flips it.
    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
        metric::READY.set(if ready { 1.0 } else { 0.0 });
    }

    /// How it stands.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }
}

/// What an admin port speaks of.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The subcommand that runs, as in `relay`.
    pub role: &'static str,
    /// The version of the binary.
    pub version: &'static str,
    /// Whether it takes new work.
    pub readiness: Readiness,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    role: &'static str,
    version: &'static str,
}

impl Admin {
    /// The four routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .route("/version", get(version))
            .route("/metrics", get(scrape))
            .with_state(self)
    }

    /// Serves them, and `more` that the role has, to whoever connects from `from`, until `shutdown`.
    pub async fn serve(self, listener: TcpListener, from: Networks, more: Router, shutdown: impl Future<Output = ()>) {
        let metrics = Arc::clone(&self.metrics);
        let upkeep = async {
            let mut ticks = tokio::time::interval(limits::UPKEEP_EVERY);
            loop {
                ticks.tick().await;
                metrics.upkeep();
            }
        };
        let limits = Limits { from, ..Limits::new(limits::ADMIN_CONNECTIONS, limits::ADMIN_BODY_BYTES) };
        tokio::select! {
            () = serve(listener, self.router().merge(more), shutdown, limits) => {}
            () = upkeep => {}
        }
    }
}

async fn ready(State(admin): State<Admin>) -> Result<&'static str, Problem> {
    if admin.readiness.is_ready() {
        Ok("ready\n")
    } else {
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "This process takes no new work now"))
    }
}

async fn version(State(admin): State<Admin>) -> Json<Version> {
    Json(Version { name: "tandem", role: admin.role, version: admin.version })
}

async fn scrape(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render())
}
