//! Who is let in.

use std::time::Duration;

use tandem_auth::{AdminRole, Grant};
use tandem_telemetry::http::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::place::*;
use super::socket::*;

/// The problem that was answered instead of a connection.
fn problem(refused: Result<Socket, (u16, String)>) -> (u16, String) {
    let Err((status, answer)) = refused else { panic!("let in") };
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["status"], status, "{answer}");
    if status == 429 || status == 503 {
        assert!(answer.contains("retry-after: "), "{answer}");
    }
    (status, body["code"].as_str().unwrap().to_owned())
}

/// docs/api.md, "The device's connection": both ways to bring a token, and what is selected.
#[tokio::test]
async fn a_device_gets_in_with_its_token_in_a_header_or_as_a_sub_protocol_and_tandem_v1_is_selected() {
    let running = Running::new().await;
    let token = token("alice", "dev_a1");
    for protocols in [
        format!("sec-websocket-protocol: tandem.v1, bearer.{token}\r\n"),
        format!("sec-websocket-protocol: bearer.{token}, tandem.v1\r\n"),
        format!("sec-websocket-protocol: tandem.v1\r\nsec-websocket-protocol: bearer.{token}\r\n"),
        format!("sec-websocket-protocol: tandem.v1\r\nauthorization: Bearer {token}\r\n"),
        format!("sec-websocket-protocol: tandem.v1, tandem.v2, bearer.{token}\r\norigin: {ORIGIN}\r\n"),
    ] {
        let headers =
            upgrade() + &protocols + "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";
        let opened = knock(running.address, "/v1/connect", &headers).await;
        let mut socket = opened.unwrap_or_else(|(status, answer)| panic!("{status} {answer}"));
        let head = socket.head.to_lowercase();
        assert!(head.contains("\r\nsec-websocket-protocol: tandem.v1\r\n"), "{head}");
        // S08: compression is not negotiated. RFC 6455 section 4.2.2: the key is answered.
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
        assert!(socket.head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        assert!(!socket.head.contains(&token), "the token comes back");
        assert_eq!(socket.caught_up().await, Vec::<serde_json::Value>::new());
    }
}

/// S10, S13, S14.
#[tokio::test]
async fn whoever_may_not_connect_is_refused_before_anything_is_upgraded() {
    let running = Running::new().await;
    let good = token("alice", "dev_a1");
    let operator = mint("alice", "dev_a1", Grant { call: false, admin: Some(AdminRole::Operator) }, now_secs() + 60);
    let expired = mint("alice", "dev_a1", Grant { call: true, admin: None }, now_secs() - 1);
    let long = mint("alice", "dev_a1", Grant { call: true, admin: None }, now_secs() + 7 * 3_600);
    let path = "/v1/connect";
    let with = |token: &str| format!("sec-websocket-protocol: tandem.v1, bearer.{token}\r\n");
    let mut wrong = Vec::new();
    let cases: Vec<(&str, String, String, &[u16])> = vec![
        (
            "a page of another site",
            path.into(),
            format!("origin: https://evil.example\r\ncookie: t={good}\r\n{}", with(&good)),
            &[403],
        ),
        ("a page without a site", path.into(), format!("origin: null\r\n{}", with(&good)), &[403]),
        ("a page of http", path.into(), format!("origin: http://app.example.org\r\n{}", with(&good)), &[403]),
        ("a site that begins so", path.into(), format!("origin: {ORIGIN}.evil.example\r\n{}", with(&good)), &[403]),
        (
            "two origins",
            path.into(),
            format!("origin: {ORIGIN}\r\norigin: https://evil.example\r\n{}", with(&good)),
            &[400, 403],
        ),
        (
            "an evil origin first",
            path.into(),
            format!("origin: https://evil.example\r\norigin: {ORIGIN}\r\n{}", with(&good)),
            &[400, 403],
        ),
        ("a token in the query", format!("{path}?access_token={good}"), with(&good), &[400]),
        (
            "a token in the query alone",
            format!("{path}?token={good}"),
            "sec-websocket-protocol: tandem.v1\r\n".into(),
            &[400],
        ),
        ("no token", path.into(), "sec-websocket-protocol: tandem.v1\r\n".into(), &[401]),
        (
            "a token in a cookie",
            path.into(),
            format!("cookie: bearer={good}\r\nsec-websocket-protocol: tandem.v1\r\n"),
            &[401],
        ),
        ("a bad token", path.into(), with("nonsense"), &[401]),
        ("an empty token", path.into(), with(""), &[401]),
        ("a cut token", path.into(), with(&good[..good.len() - 4]), &[401]),
        ("an expired token", path.into(), with(&expired), &[401]),
        ("a token for seven hours", path.into(), with(&long), &[401]),
        ("an operator's token", path.into(), with(&operator), &[401, 403]),
        ("no sub-protocol", path.into(), format!("authorization: Bearer {good}\r\n"), &[400]),
        (
            "another sub-protocol",
            path.into(),
            format!("sec-websocket-protocol: tandem.v2\r\nauthorization: Bearer {good}\r\n"),
            &[400],
        ),
        ("the token only", path.into(), format!("sec-websocket-protocol: bearer.{good}\r\n"), &[400]),
    ];
    for (what, path, headers, statuses) in cases {
        let refused = knock(running.address, &path, &(upgrade() + &headers)).await;
        match refused {
            Ok(_) => wrong.push(format!("{what}: let in")),
            refused => {
                let (status, code) = problem(refused);
                if !statuses.contains(&status) {
                    wrong.push(format!("{what}: {status} {code}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// docs/api.md: what is no upgrade is no connection.
#[tokio::test]
async fn a_request_that_is_no_proper_upgrade_is_a_problem() {
    let running = Running::new().await;
    let with = format!("sec-websocket-protocol: tandem.v1, bearer.{}\r\n", token("alice", "dev_a1"));
    for spoilt in [
        String::new(),
        upgrade().replace("version: 13", "version: 8"),
        upgrade().replace("upgrade: websocket", "upgrade: h2c"),
        upgrade().replace("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
    ] {
        let (status, _) = problem(knock(running.address, "/v1/connect", &(spoilt.clone() + &with)).await);
        assert!((400..500).contains(&status), "{spoilt}: {status}");
    }
    assert_eq!(problem(knock(running.address, "/v1/nowhere", &(upgrade() + &with)).await).0, 404);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"POST /v1/connect HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("method_not_allowed"), "{answer}");
}

/// Issue 3: "bad tokens in floods (429)".
#[tokio::test]
async fn a_flood_of_bad_tokens_gets_429_and_another_source_gets_in() {
    let running = Running::new().await;
    let bad = upgrade() + "sec-websocket-protocol: tandem.v1, bearer.nonsense\r\n";
    let mut late = 0;
    for _ in 0..150 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.55:0".parse().unwrap()).unwrap();
        let stream = socket.connect(running.address).await.unwrap();
        match problem(knock_on(stream, "/v1/connect", &bad).await) {
            (401, code) => assert_eq!(code, "unauthorized"),
            (429, code) => {
                assert_eq!(code, "rate_limited");
                late += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((80..=90).contains(&late), "{late}");
    Socket::open(running.address, &token("alice", "dev_a1")).await.caught_up().await;
}

/// S07: a handshake without end, in writes of one byte.
#[tokio::test]
async fn an_upgrade_of_one_mebibyte_in_writes_of_one_byte_is_refused_long_before_its_end() {
    let running = Running::new().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let start = format!("GET /v1/connect HTTP/1.1\r\nhost: x\r\n{}x: ", upgrade());
    stream.write_all(start.as_bytes()).await.unwrap();
    let mut sent = 0;
    for _ in 0..1 << 20 {
        // The answer or the close is seen by who looks; a client that does not look is cut off.
        if stream.write_all(b"x").await.is_err() {
            break;
        }
        sent += 1;
        if sent % 64 == 0 && stream.try_read(&mut [0; 1_024]).is_ok() {
            break;
        }
    }
    assert!(sent < 32 << 10, "{sent} bytes of one header were taken");
    // Each of them in a piece of its own: then it is the number of pieces that ends it.
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(start.as_bytes()).await.unwrap();
    let mut sent = 0;
    while sent < 16 << 10 && stream.write_all(b"x").await.is_ok() {
        sent += 1;
        // The server reads meanwhile.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!((128..2_048).contains(&sent), "{sent} pieces of one header were taken");
    Socket::open(running.address, &token("alice", "dev_a1")).await.caught_up().await;
}

/// S04.
#[tokio::test]
async fn half_a_handshake_is_closed_in_time_and_the_roles_limits_are_short() {
    let limits = role_limits();
    assert!(limits.header_read <= Duration::from_secs(10) && limits.body_read <= Duration::from_secs(10));
    assert!(limits.write_stall <= Duration::from_secs(10) && limits.head_bytes <= 64 << 10);
    let short = Duration::from_millis(300);
    let store = tandem_state_client::memory::MemoryStore::new(tandem_wire::id::PopId(7));
    let running = Running::over(store, Limits { header_read: short, ..limits }).await;
    let began = Instant::now();
    let mut half = TcpStream::connect(running.address).await.unwrap();
    half.write_all(format!("GET /v1/connect HTTP/1.1\r\n{}", upgrade()).as_bytes()).await.unwrap();
    let _ = half.read_to_end(&mut Vec::new()).await;
    assert!(began.elapsed() < short * 6, "{:?}", began.elapsed());
    // A device that is connected idles as long as it likes.
    let mut socket = Socket::open(running.address, &token("alice", "dev_a1")).await;
    socket.caught_up().await;
    assert_eq!(socket.within(short * 5).await, None);
    socket.frame(PING, b"there?").await.unwrap();
    assert_eq!(socket.next().await, Seen::Pong);
}

/// S06: what is sent with the handshake is read as frames, and nothing behind it as a request.
#[tokio::test]
async fn frames_sent_along_with_the_handshake_are_not_lost_and_not_taken_for_a_request() {
    let running = Running::new().await;
    let token = token("alice", "dev_a1");
    let headers = format!("{}sec-websocket-protocol: tandem.v1\r\nauthorization: Bearer {token}\r\n", upgrade());
    let mut bytes = format!("GET /v1/connect HTTP/1.1\r\nhost: x\r\n{headers}\r\n").into_bytes();
    bytes.extend(frame(PING, b"early"));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut seen = Vec::new();
    let deadline = Instant::now() + LONG;
    while !seen.windows(7).any(|window| window == b"\x8a\x05early") {
        let mut buffer = [0; 4_096];
        let n = tokio::time::timeout_at(deadline, stream.read(&mut buffer)).await.expect("no pong").unwrap();
        assert!(n > 0, "closed");
        seen.extend_from_slice(&buffer[..n]);
    }
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head =
        format!("GET /v1/connect HTTP/1.1\r\nhost: x\r\n{headers}\r\nGET /v1/nowhere HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "a client that does not speak WebSocket is kept");
    assert_eq!(String::from_utf8_lossy(&answer).matches("HTTP/1.1 ").count(), 1);
}
