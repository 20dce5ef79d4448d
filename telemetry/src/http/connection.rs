//! One connection, from accept to close.
//!
//! Decides when a client is too slow. hyper's own header timeout does nothing without a timer, and `axum::serve` has no
//! way to give it one (attack S04): this is why neither is used as it comes.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::framing::{Ambiguous, Crumbled, Framing};
use super::place::Place;
use super::serve::Limits;
use crate::limits;
use crate::metric::{self, Closed};

/// The first bytes of a client that speaks HTTP/2 (RFC 9113 section 3.4). No request of HTTP/1.1 begins so.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one client until it or we have had enough. After `closing` no further request is taken. `place` stands in the
/// extensions of each request.
pub(super) async fn serve(
    mut stream: TcpStream,
    place: Arc<Place>,
    router: Router,
    limits: Arc<Limits>,
    mut closing: watch::Receiver<bool>,
) {
    // Answers are small and whole: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let mut first = Vec::new();
    let begun = tokio::time::Instant::now();
    let version = tokio::select! {
        version = tokio::time::timeout(limits.header_read, speaks_http2(&mut stream, &mut first)) => version,
        () = told_to_close(&mut closing) => return,
    };
    let Ok(version) = version else { return metric::HTTP_CLOSED.of(Closed::Slow.label()).add(1) };
    let Ok(http2) = version else { return };
    let pace = limits.read_bytes_per_second.map(Pace::new);
    let ambiguous = Ambiguous::default();
    let framing = (!http2).then(|| Framing::new(limits.head_bytes, ambiguous.clone()));
    let io =
        TokioIo::new(Stalling { pace, framing, first, taken: 0, stream, limit: limits.write_stall, stalled: None });
    let service = Client { router, place, ambiguous };
    let result = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits::HTTP2_STREAMS)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(limits::HTTP2_PENDING_RESETS)
            .max_local_error_reset_streams(limits::HTTP2_LOCAL_RESETS)
            .keep_alive_interval(limits.header_read)
            .keep_alive_timeout(limits.header_read);
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = told_to_close(&mut closing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        // What waiting for the first bytes took, the first head has less; no head has less than half.
        let rest = limits.header_read.saturating_sub(begun.elapsed()).max(limits.header_read / 2);
        builder.timer(TokioTimer::new()).header_read_timeout(rest).max_buf_size(limits.head_bytes);
        let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = told_to_close(&mut closing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if result.is_err_and(|error| error.is_timeout() || timed_out(&error)) {
        metric::HTTP_CLOSED.of(Closed::Slow.label()).add(1);
    }
}

/// What answers one client.
struct Client {
    router: Router,
    place: Arc<Place>,
    ambiguous: Ambiguous,
}

impl Service<Request<Incoming>> for Client {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        // As extensions of the request, not as layers: a layer is made for every route, and run through by every request.
        let extensions = request.extensions_mut();
        extensions.insert(Arc::clone(&self.place));
        extensions.insert(self.ambiguous.clone());
        // A router is always ready.
        tower_service::Service::call(&mut self.router.clone(), request)
    }
}

async fn told_to_close(closing: &mut watch::Receiver<bool>) {
    // Its sender ends when the server does.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Reads until it is clear whether the client speaks HTTP/2. What was read is in `first`.
async fn speaks_http2(stream: &mut TcpStream, first: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let mut buffer = [0; PREFACE.len()];
        let wanted = buffer.get_mut(first.len()..).unwrap_or_default();
        let read = stream.read(wanted).await?;
        first.extend_from_slice(wanted.get(..read).unwrap_or_default());
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(first) {
            return Ok(false);
        }
        if first.len() == PREFACE.len() {
            return Ok(true);
        }
    }
}

fn timed_out(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// How much a client sends: so many bytes a second, and a moment's worth at once.
struct Pace {
    /// Nanoseconds that a byte takes at the rate.
    byte: u64,
    /// When the next byte would be on time.
    due: tokio::time::Instant,
}

impl Pace {
    fn new(bytes_per_second: u32) -> Self {
        Self { byte: 1_000_000_000 / u64::from(bytes_per_second.max(1)), due: tokio::time::Instant::now() }
    }

    /// Counts what was read; `false` when that is too much.
    fn count(&mut self, bytes: usize) -> bool {
        let now = tokio::time::Instant::now();
        let nanos = |bytes: usize| Duration::from_nanos(self.byte.saturating_mul(bytes as u64));
        self.due = self.due.max(now) + nanos(bytes);
        self.due <= now + nanos(limits::READ_BURST)
    }
}

/// A stream that fails once its peer has taken nothing for too long, has sent too much, or sends a head in crumbs.
struct Stalling {
    pace: Option<Pace>,
    /// Of HTTP/1.1 only: there are no two lengths in HTTP/2.
    framing: Option<Framing>,
    /// What was read already, to be read first.
    first: Vec<u8>,
    /// How much of that has been.
    taken: usize,
    stream: TcpStream,
    limit: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stalling {
    /// `written` as it is, or an error when it has been pending for too long.
    fn bound<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Looks at what was read.
fn follow(framing: &mut Option<Framing>, bytes: &[u8]) -> io::Result<()> {
    framing.as_mut().map_or(Ok(()), |framing| framing.read(bytes)).map_err(|Crumbled| {
        metric::HTTP_CLOSED.of(Closed::Flood.label()).add(1);
        io::ErrorKind::ConnectionAborted.into()
    })
}

impl AsyncRead for Stalling {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let waiting = this.first.get(this.taken..).unwrap_or_default();
        if waiting.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            let read = buffer.filled().len() - before;
            if this.pace.as_mut().is_some_and(|pace| !pace.count(read)) {
                metric::HTTP_CLOSED.of(Closed::Flood.label()).add(1);
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            return Poll::Ready(follow(&mut this.framing, buffer.filled().get(before..).unwrap_or_default()));
        }
        let (some, rest) = waiting.split_at(waiting.len().min(buffer.remaining()));
        buffer.put_slice(some);
        follow(&mut this.framing, some)?;
        this.taken += some.len();
        if rest.is_empty() {
            (this.first, this.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.bound(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
