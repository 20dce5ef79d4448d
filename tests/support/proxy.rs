//! A signaling server that lies: it stands in front of the real one, and a test says what it changes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::ask;

/// What is asked or answered, before it is passed on.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// `POST /v1/calls`.
    pub(crate) line: String,
    pub(crate) body: Value,
    /// Of an answer.
    pub(crate) status: Option<u16>,
}

impl Exchange {
    /// Whether this is the answer to such a request.
    pub(crate) fn answers(&self, line: &str) -> bool {
        self.status == Some(200) && self.line == line
    }

    /// Whether this is such a request.
    pub(crate) fn asks(&self, start: &str, end: &str) -> bool {
        self.status.is_none() && self.line.starts_with(start) && self.line.ends_with(end)
    }
}

type Lie = Box<dyn FnMut(&mut Exchange) + Send>;

/// It.
pub(crate) struct Liar {
    server: SocketAddr,
    lie: Mutex<Lie>,
    /// Its address, as the SDK wants it.
    pub(crate) api: String,
}

impl Liar {
    /// Stands in front of `api`, and is honest for now.
    pub(crate) async fn before(api: &str) -> Arc<Self> {
        let server = api.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let liar = Arc::new(Self { server, lie: Mutex::new(Box::new(|_| {})), api });
        let app = axum::Router::new().fallback(pass).with_state(Arc::clone(&liar));
        tokio::spawn(async move { axum::serve(listener, app).await });
        liar
    }

    /// What it does from now on with each request, and then with its answer.
    pub(crate) fn lies(&self, lie: impl FnMut(&mut Exchange) + Send + 'static) {
        *self.lie.lock().unwrap() = Box::new(lie);
    }

    fn answer(&self, line: String, headers: &HeaderMap, body: Value) -> (u16, Value) {
        let mut exchange = Exchange { line, body, status: None };
        self.lie.lock().unwrap()(&mut exchange);
        let mut kept = String::new();
        for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::HeaderName::from_static("idempotency-key")] {
            if let Some(value) = headers.get(&name) {
                kept += &format!("{name}: {}\r\n", value.to_str().unwrap());
            }
        }
        let (method, path) = exchange.line.split_once(' ').unwrap();
        let body = if exchange.body.is_null() { String::new() } else { exchange.body.to_string() };
        let answer = ask(self.server, method, path, &kept, &body);
        exchange.body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        exchange.status = Some(answer.status);
        self.lie.lock().unwrap()(&mut exchange);
        (exchange.status.unwrap(), exchange.body)
    }
}

async fn pass(State(liar): State<Arc<Liar>>, request: Request) -> impl IntoResponse {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let line = format!("{} {}", head.method, head.uri.path());
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let answer = tokio::task::spawn_blocking(move || liar.answer(line, &head.headers, body)).await;
    let (status, body) = answer.unwrap();
    let status = StatusCode::from_u16(status).unwrap();
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let text = if body.is_null() { String::new() } else { body.to_string() };
    (status, [(header::CONTENT_TYPE, kind)], text)
}
