//! Attack S11, alone in its process: it takes the process's files away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tandem_telemetry::http::{Limits, serve};
use tandem_telemetry::registry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[test]
fn a_server_that_ran_out_of_files_serves_again_when_there_are_some() {
    // The clients live in another runtime thread but in the same process, so they make their files first.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let metrics = Metrics::new();
    metrics.install().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let old = getrlimit(Resource::Nofile);
        // 100 connections sit in the listener's queue; the server starts when there is room for few of them.
        let mut clients = Vec::new();
        for _ in 0..100 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let highest = clients.iter().map(std::os::fd::AsRawFd::as_raw_fd).max().unwrap();
        let limit = u64::try_from(highest).unwrap() + 4;
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: old.maximum }).unwrap();
        let router = Router::new().route("/", get(|| async { "well" }));
        let server = tokio::spawn(serve(listener, router, std::future::pending(), Limits::new(500, 0)));
        tokio::time::timeout(Duration::from_secs(10), async {
            while metrics.render().contains("tandem_http_accept_errors_total 0\n") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("it never ran out of files");
        drop(clients);
        let answer = tokio::time::timeout(Duration::from_secs(10), async {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        })
        .await
        .expect("it does not serve again");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        server.abort();
    });
}
