//! The accept loop.
//!
//! Decides who gets a connection and what ends the loop: being told to, and nothing else (attack S11).

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::{Router, middleware};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::allow::Networks;
use super::place::{Full, Places, Source};
use super::{Problem, connection, guard};
use crate::limits;
use crate::metric::{self, Closed};

/// How much a server bears.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From where connections are taken.
    pub from: Networks,
    /// Connections at once. One more gets 503 and is closed, whatever it asks.
    pub connections: usize,
    /// Connections at once of one IPv4 address or one IPv6 /64. One more gets 429 and is closed.
    pub connections_per_source: usize,
    /// Bytes of a request line and its headers.
    pub head_bytes: usize,
    /// From when a head could arrive to its end; also how long a connection may idle.
    pub header_read: Duration,
    /// Bytes of a body. One more gets 413.
    pub body_bytes: usize,
    /// From the end of the head to the end of the body; then 408.
    pub body_read: Duration,
    /// Bytes a second that a client may send for longer than a moment (a mebibyte is one); then it is closed.
    pub read_bytes_per_second: Option<u32>,
    /// How long a client may take no byte of an answer.
    pub write_stall: Duration,
    /// How long requests that run may go on after the shutdown.
    pub drain: Duration,
}

impl Limits {
    /// For a server on this machine's loopback that takes bodies of up to `body_bytes` on up to `connections`.
    #[must_use]
    pub fn new(connections: usize, body_bytes: usize) -> Self {
        Self {
            from: Networks::loopback(),
            connections,
            connections_per_source: connections,
            head_bytes: limits::HEAD_BYTES,
            header_read: limits::HEADER_READ,
            body_bytes,
            body_read: limits::BODY_READ,
            read_bytes_per_second: None,
            write_stall: limits::WRITE_STALL,
            drain: limits::DRAIN,
        }
    }
}

/// Serves HTTP/1.1 and, to those who begin with its preface, HTTP/2 on `listener` until `shutdown` is ready, and then until the requests that run are answered, at most
/// for [`Limits::drain`].
///
/// A handler sees a request only when its body has arrived whole. A handler that panics costs its own connection. What
/// no route takes is a [`Problem`] too.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>, limits: Limits) {
    serve_within(listener, router, |router| router, shutdown, limits).await;
}

/// The same, with `outer` around everything: it sees what no route takes, and what is refused before a route is looked for.
pub async fn serve_within(
    listener: TcpListener,
    router: Router,
    outer: impl FnOnce(Router) -> Router,
    shutdown: impl Future<Output = ()>,
    limits: Limits,
) {
    let limits = Arc::new(limits);
    let router = router
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(middleware::from_fn_with_state(Arc::clone(&limits), guard::guard));
    let router = outer(router);
    let (closing, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let places = Places::default();
    let mut shutdown = pin!(shutdown);
    loop {
        metric::HTTP_CONNECTIONS.set(gauge(places.taken()));
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if !limits.from.contain(peer.ip()) => {
                    metric::HTTP_CLOSED.of(Closed::NotAllowed.label()).add(1);
                }
                Ok((stream, peer)) => {
                    let source = Source::of(peer.ip());
                    match places.take(source, limits.connections, limits.connections_per_source) {
                        Err(full) => {
                            metric::HTTP_CLOSED.of(Closed::OverCap.label()).add(1);
                            turn_away(stream, full);
                        }
                        Ok(place) => {
                            let (router, closing) = (router.clone(), closing.subscribe());
                            connections.spawn(connection::serve(stream, place, router, Arc::clone(&limits), closing));
                        }
                    }
                }
                Err(error) => {
                    metric::HTTP_ACCEPT_ERRORS.add(1);
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    // A connection of ours that ends frees what another one needs.
                    tokio::select! {
                        () = &mut shutdown => break,
                        Some(_) = connections.join_next() => {}
                        () = tokio::time::sleep(limits::ACCEPT_RETRY) => {}
                    }
                }
            }
        }
    }
    drop(listener);
    closing.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        connections.abort_all();
    }
    metric::HTTP_CONNECTIONS.set(0.0);
}

#[allow(clippy::cast_precision_loss, reason = "connections are capped far below 2^53")]
const fn gauge(n: usize) -> f64 {
    n as f64
}

/// Says to one that has no place when to come back, as far as its socket takes it at once: nobody waits for it.
fn turn_away(stream: TcpStream, full: Full) {
    let (status, problem) = match full {
        Full::Server => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            (status, Problem::new(status, "overloaded", "Too many connections"))
        }
        Full::Source => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            (status, Problem::new(status, "rate_limited", "Too many connections from one address"))
        }
    };
    let (Ok(mut stream), Ok(body)) = (stream.into_std(), serde_json::to_string(&problem)) else { return };
    let (secs, length) = (limits::RETRY_AFTER.as_secs().max(1), body.len());
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\nretry-after: {secs}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    // A request that has come and is not read would have the kernel reset the connection, and with it the answer.
    let _ = stream.read(&mut [0; 4_096]);
    let _ = stream.write(answer.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
}
