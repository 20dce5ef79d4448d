//! The four routes of an admin port, as a scraper and a probe see them. Alone in its process: it installs the metrics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

use tandem_telemetry::http::Networks;
use tandem_telemetry::http::admin::{Admin, Readiness};
use tandem_telemetry::metric;
use tandem_telemetry::registry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn an_admin_port_says_whether_its_process_lives_is_ready_what_it_is_and_what_it_counts() {
    let metrics = Metrics::new();
    metrics.install().unwrap();
    assert!(metrics.install().is_err());
    let readiness = Readiness::default();
    let admin = Admin { role: "relay", version: "1.2.3", readiness: readiness.clone(), metrics };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server =
        tokio::spawn(admin.serve(listener, Networks::loopback(), axum::Router::new(), async { _ = stopped.await }));
    let get = async |path: &str| {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };

    assert!(get("/healthz").await.starts_with("HTTP/1.1 200 "));
    let answer = get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("\"code\":\"not_ready\""), "{answer}");
    readiness.set(true);
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200 "));
    readiness.set(false);
    assert!(get("/readyz").await.starts_with("HTTP/1.1 503 "));
    assert!(get("/version").await.ends_with(r#"{"name":"tandem","role":"relay","version":"1.2.3"}"#));

    metric::PANICS.add(3);
    let answer = get("/metrics").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\ntandem_panics_total 3\n") && answer.contains("\ntandem_ready 0\n"), "{answer}");
    assert!(answer.contains("\ntandem_http_requests_total{status=\"5xx\"} 2\n"), "{answer}");

    stop.send(()).unwrap();
    server.await.unwrap();
}
