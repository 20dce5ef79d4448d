//! The HTTP endpoints of `tandem dev`: the page, demo calls, and what can be done to processes.
//!
//! Decides words and statuses. Leaves the doing to [`super::demo`] and [`super::supervisor`].

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tandem_telemetry::http::extract::{Json, Path, Query};
use tandem_telemetry::http::{Limits, Problem, serve};
use tokio::net::TcpListener;

use super::demo::{Demos, Joined};
use super::page;
use super::signal::{Item, Mailboxes};
use super::supervisor::{OrderError, Orders};
use super::table::{Kind, Name, Process};
use crate::limits;
use crate::shutdown::Shutdown;

/// What the endpoints work on.
#[derive(Clone)]
pub(crate) struct Dev {
    pub(crate) demos: Arc<Demos>,
    pub(crate) orders: Orders,
    /// Ends what waits.
    pub(crate) shutdown: Shutdown,
    /// Where signaling is, and where devices connect.
    pub(crate) api: String,
    pub(crate) connect: String,
}

impl Dev {
    /// Serves until the shutdown is requested.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let shutdown = self.shutdown.clone();
        let router = Router::new()
            .route("/v1/dev/demo", post(create))
            .route("/v1/dev/demo/join", post(join))
            .route("/v1/dev/demo/{call}/legs/{leg}/signal", get(take_signals).post(leave_signal))
            .route("/v1/dev/config", get(config))
            .route("/v1/dev/processes", get(processes))
            .route("/v1/dev/processes/{name}/kill", post(kill))
            .route("/v1/dev/processes/{name}/pause", post(pause))
            .route("/v1/dev/processes/{name}/resume", post(resume))
            .route("/", get(file))
            .route("/{*file}", get(file))
            .layer(middleware::from_fn(own_pages_only))
            .with_state(self);
        let shutdown = async move { shutdown.requested().await };
        serve(listener, router, shutdown, Limits::new(limits::DEV_CONNECTIONS, limits::SIGNAL_BYTES)).await;
    }
}

/// Refuses what another site's page, or a name that was pointed here (DNS rebinding), asks for: whoever has this page may
/// kill processes.
async fn own_pages_only(request: axum::extract::Request, next: Next) -> Response {
    if foreign(request.headers()) {
        let title = "Development endpoints answer to pages of this machine only";
        return Problem::new(StatusCode::FORBIDDEN, "foreign_origin", title).into_response();
    }
    let api = request.uri().path().starts_with("/v1/");
    let mut response = next.run(request).await;
    if api {
        // Tickets are nothing to keep in a browser's cache.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let local = |host: &str| {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
    };
    let host = text(header::HOST).is_some_and(|host| !local(host));
    let origin = text(header::ORIGIN).is_some_and(|origin| !origin.strip_prefix("http://").is_some_and(local));
    host || origin
}

/// What the phone must know.
#[derive(Serialize)]
struct PhoneConfig {
    api: String,
    connect: String,
}

async fn config(State(dev): State<Dev>) -> axum::Json<PhoneConfig> {
    axum::Json(PhoneConfig { api: dev.api, connect: dev.connect })
}

async fn file(State(dev): State<Dev>, uri: Uri) -> Response {
    let socket = dev.connect.split("/v1/").next().unwrap_or_default();
    page::file(&uri, &[&dev.api, socket])
}

async fn create(State(dev): State<Dev>) -> Result<impl IntoResponse, Problem> {
    Ok((StatusCode::CREATED, axum::Json(dev.demos.create().await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    session: String,
}

async fn join(State(dev): State<Dev>, Json(join): Json<Join>) -> Result<axum::Json<Joined>, Problem> {
    dev.demos.join(&join.session).await.map(axum::Json)
}

fn mailboxes(dev: &Dev, call: &str) -> Result<Arc<Mailboxes>, Problem> {
    dev.demos.mailboxes(call).ok_or_else(Problem::not_found)
}

async fn leave_signal(
    State(dev): State<Dev>,
    Path((call, leg)): Path<(String, u16)>,
    Json(message): Json<Box<RawValue>>,
) -> Result<axum::Json<serde_json::Value>, Problem> {
    if !message.get().trim_start().starts_with('{') {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "wrong_type", "A signal is a JSON object"));
    }
    let seq = mailboxes(&dev, &call)?.leave(leg, message).ok_or_else(Problem::not_found)?;
    Ok(axum::Json(json!({ "seq": seq })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Poll {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
}

async fn take_signals(
    State(dev): State<Dev>,
    Path((call, leg)): Path<(String, u16)>,
    Query(poll): Query<Poll>,
) -> Result<axum::Json<Items<Item>>, Problem> {
    let wait = Duration::from_millis(poll.wait_ms.min(limits::POLL_WAIT_MS_MAX));
    let mailboxes = mailboxes(&dev, &call)?;
    let items = tokio::select! {
        items = mailboxes.take(leg, poll.after, wait) => items.ok_or_else(Problem::not_found)?,
        () = dev.shutdown.requested() => Vec::new(),
    };
    Ok(axum::Json(Items { items }))
}

async fn processes(State(dev): State<Dev>) -> axum::Json<Items<Process>> {
    axum::Json(Items { items: dev.orders.processes() })
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Kill {
    restart_after_ms: u64,
    wipe: bool,
}

async fn kill(
    State(dev): State<Dev>,
    Path(name): Path<String>,
    Json(kill): Json<Kill>,
) -> Result<axum::Json<serde_json::Value>, Problem> {
    if kill.restart_after_ms > limits::OUTAGE_MS_MAX {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "wrong_value", "An outage is at most ten minutes"));
    }
    let after = Duration::from_millis(kill.restart_after_ms);
    let killed = if name == "all" {
        dev.orders.kill_all(after, kill.wipe).await
    } else {
        let name = named(&dev, &name)?;
        if kill.wipe && name.kind != Kind::StateServer {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "wrong_value",
                "Only a state server has a store to wipe",
            ));
        }
        dev.orders.kill(name, after, kill.wipe).await
    };
    Ok(axum::Json(json!({ "pid": killed.map_err(problem)? })))
}

async fn pause(State(dev): State<Dev>, Path(name): Path<String>) -> Result<axum::Json<serde_json::Value>, Problem> {
    dev.orders.pause(named(&dev, &name)?).await.map_err(problem)?;
    Ok(axum::Json(json!({})))
}

async fn resume(State(dev): State<Dev>, Path(name): Path<String>) -> Result<axum::Json<serde_json::Value>, Problem> {
    dev.orders.resume(named(&dev, &name)?).await.map_err(problem)?;
    Ok(axum::Json(json!({})))
}

fn named(dev: &Dev, name: &str) -> Result<Name, Problem> {
    let names = dev.orders.processes().into_iter().map(|process| process.name);
    names.into_iter().find(|known| known.to_string() == name).ok_or_else(Problem::not_found)
}

fn problem(error: OrderError) -> Problem {
    match error {
        OrderError::NotRunning => Problem::new(StatusCode::CONFLICT, "not_running", "The process does not run now"),
        OrderError::Ending => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ending", "tandem dev is ending"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_are_answered() {
        let headers = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            headers
        };
        for (host, origin) in [
            ("127.0.0.1:8080", None),
            ("localhost:8080", Some("http://localhost:8080")),
            ("[::1]:8080", Some("http://[::1]:8080")),
            ("localhost", Some("http://127.0.0.1:5173")),
        ] {
            assert!(!foreign(&headers(host, origin)), "{host} {origin:?}");
        }
        for (host, origin) in [
            ("evil.example:8080", None),
            ("127.0.0.1:8080", Some("https://evil.example")),
            ("127.0.0.1:8080", Some("null")),
            ("127.0.0.1.evil.example:8080", None),
            ("localhost:8080", Some("http://localhost.evil.example")),
        ] {
            assert!(foreign(&headers(host, origin)), "{host} {origin:?}");
        }
    }
}
