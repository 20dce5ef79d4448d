//! An HTTP server of ours against clients that are slow, greedy, forbidden or broken. All bounds are small here, so that
//! the tests reach them; the clock is the real one, since the kernel's buffers are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tandem_telemetry::http::{Limits, Networks, extract, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

const SHORT: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);

fn small() -> Limits {
    Limits { header_read: SHORT, body_read: SHORT, write_stall: SHORT, drain: SHORT, ..Limits::new(4, 1_000) }
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(router: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { _ = stopped.await };
        let task = tokio::spawn(serve(listener, router, shutdown, limits));
        Self { address, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One request on a connection of its own; gives everything that came back.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    async fn is_well(&self) {
        let answer = self.exchange(&get_request("/")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

fn post_request(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n{body}")
}

/// Everything until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection was not closed");
    // A reset is a close, too.
    assert!(read.is_ok() || read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    n: u64,
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "well" }))
        .route("/double", post(|extract::Json(order): extract::Json<Order>| async move { (order.n * 2).to_string() }))
        .route("/panic", get(|| async { panic!("canary-panic") as &'static str }))
        .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(SHORT / 2).await;
                "late"
            }),
        )
        .route("/forever", get(std::future::pending::<&'static str>))
}

#[tokio::test]
async fn half_a_header_and_then_silence_is_closed_and_others_are_served_meanwhile() {
    let server = Server::start(router(), small()).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();
    let began = Instant::now();
    server.is_well().await;
    rest(&mut slow).await;
    assert!(began.elapsed() >= SHORT - Duration::from_millis(50), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_header_that_comes_byte_by_byte_is_closed_at_the_same_time() {
    let server = Server::start(router(), small()).await;
    let mut slow = server.connect().await;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(SHORT / 10);
    loop {
        ticks.tick().await;
        let closed = slow.write_all(b"x").await.is_err() || matches!(slow.try_read(&mut [0; 1024]), Ok(0));
        if closed {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(began.elapsed() < SHORT * 5, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_says_nothing_at_all_is_closed() {
    let server = Server::start(router(), small()).await;
    let mut silent = server.connect().await;
    assert_eq!(rest(&mut silent).await, "");
}

#[tokio::test]
async fn a_connection_that_idles_after_an_answer_is_closed() {
    let server = Server::start(router(), small()).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let answer = rest(&mut idle).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("well"), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_trickles_gets_408_and_is_never_seen_by_its_handler() {
    let server = Server::start(router(), small()).await;
    let request = post_request("/double", "content-type: application/json\r\ncontent-length: 7\r\n", r#"{"n""#);
    let answer = server.exchange(&request).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"code\":\"body_too_slow\""), "{answer:?}");
}

#[tokio::test]
async fn a_body_over_its_cap_gets_413_whether_it_says_its_length_or_not() {
    let server = Server::start(router(), small()).await;
    let declared = post_request("/double", "content-length: 1001\r\n", "");
    let answer = server.exchange(&declared).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer:?}");
    let chunk = format!("3e9\r\n{}\r\n", "x".repeat(1_001));
    let chunked = post_request("/double", "transfer-encoding: chunked\r\n", &chunk);
    let answer = server.exchange(&chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer:?}");
    let just = format!(r#"{{"n":21{}}}"#, " ".repeat(1_000 - 8));
    assert_eq!(just.len(), 1_000);
    let headers = "content-type: application/json\r\ncontent-length: 1000\r\n";
    let answer = server.exchange(&post_request("/double", headers, &just)).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n42"), "{answer:?}");
}

#[tokio::test]
async fn a_head_over_its_cap_is_refused() {
    let server = Server::start(router(), small()).await;
    let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024));
    let mut stream = server.connect().await;
    // The server may close before it has taken everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let answer = rest(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    server.is_well().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_closed() {
    let server = Server::start(router(), Limits { connections: 1, ..small() }).await;
    let mut deaf = server.connect().await;
    deaf.write_all(get_request("/large").as_bytes()).await.unwrap();
    // It holds the only place, until it is given up.
    timeout(PATIENCE, async {
        loop {
            let answer = server.exchange(&get_request("/")).await;
            if answer.starts_with("HTTP/1.1 200 ") {
                break;
            }
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await
    .expect("its place was never free again");
}

#[tokio::test]
async fn one_connection_over_the_cap_is_told_to_come_back_and_closed_and_a_place_that_is_free_again_is_used() {
    let all = Limits { connections: 4, connections_per_source: 8, header_read: PATIENCE, ..small() };
    let of_source = Limits { connections: 8, connections_per_source: 4, ..all.clone() };
    for (limits, status, code) in
        [(all, "503 Service Unavailable", "overloaded"), (of_source, "429 Too Many Requests", "rate_limited")]
    {
        let server = Server::start(router(), limits).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut stream = server.connect().await;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).await.unwrap();
            held.push(stream);
        }
        // Whether it asks for something or not.
        for request in [String::new(), get_request("/")] {
            let answer = server.exchange(&request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            assert!(
                answer.contains("\r\nretry-after: ") && answer.contains(&format!("\"code\":\"{code}\"")),
                "{answer}"
            );
        }
        drop(held);
        timeout(PATIENCE, async { while !server.exchange(&get_request("/")).await.starts_with("HTTP/1.1 200 ") {} })
            .await
            .expect("no place was free again");
    }
}

#[tokio::test]
async fn a_client_from_a_network_that_may_not_connect_gets_nothing() {
    let from = Networks::new(vec!["192.0.2.0/24".parse().unwrap()]);
    let server = Server::start(router(), Limits { from, ..small() }).await;
    let mut stream = server.connect().await;
    let _ = stream.write_all(get_request("/").as_bytes()).await;
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_own_connection_only() {
    let server = Server::start(router(), small()).await;
    assert_eq!(server.exchange(&get_request("/panic")).await, "");
    server.is_well().await;
}

#[tokio::test]
async fn errors_are_problems_with_the_name_of_their_request() {
    let server = Server::start(router(), small()).await;
    let answer = server.exchange(&get_request("/nowhere")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 404 ") && head.contains("content-type: application/problem+json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let id = body["request_id"].as_str().unwrap();
    assert!(head.contains(&format!("x-request-id: {id}")), "{head} {id}");
    let answer = server.exchange(&get_request("/double")).await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("method_not_allowed"), "{answer:?}");
    let answer = server.exchange(&post_request("/double", "content-length: 2\r\n", "{}")).await;
    assert!(answer.starts_with("HTTP/1.1 415 ") && answer.contains("unsupported_media_type"), "{answer:?}");
    let answer = server.exchange(&post_request("/double", "content-length: 0\r\n", "")).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("missing_field"), "{answer:?}");
}

#[tokio::test]
async fn a_request_that_runs_is_answered_before_the_end_and_one_that_never_ends_does_not_hold_it_up() {
    let server = Server::start(router(), small()).await;
    let (mut slow, mut endless, mut idle) = (server.connect().await, server.connect().await, server.connect().await);
    slow.write_all(get_request("/slow").as_bytes()).await.unwrap();
    endless.write_all(get_request("/forever").as_bytes()).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut byte = [0; 1];
    idle.read_exact(&mut byte).await.unwrap();
    server.is_well().await;
    server.stop.send(()).unwrap();
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("late"), "{answer:?}");
    timeout(PATIENCE, server.task).await.expect("the server did not end").unwrap();
    assert_eq!(rest(&mut endless).await, "");
    assert!(TcpStream::connect(server.address).await.is_err());
}
