//! Clients that do not keep to HTTP: slow, two-faced, half-spoken; and what browsers ask beforehand.

use std::time::Duration;

use serde_json::Value;
use tandem_telemetry::http::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::world::*;

const SHORT: Duration = Duration::from_millis(300);

/// The mechanism with small bounds.
fn small() -> Limits {
    Limits { header_read: SHORT, body_read: SHORT, write_stall: SHORT, ..role_limits() }
}

async fn small_world() -> (World, Device) {
    let world = World::with_limits(1, lavish(), small()).await;
    let alice = world.device("alice", "dev_a1").await;
    (world, alice)
}

async fn connected(world: &World) -> TcpStream {
    connect(world.nodes[0].address, None).await
}

/// S04: what the role is served with.
#[test]
fn the_roles_own_limits_close_slow_clients_within_ten_seconds() {
    let limits = role_limits();
    for bound in [limits.header_read, limits.body_read, limits.write_stall] {
        assert!(bound <= Duration::from_secs(10), "{bound:?}");
    }
    assert!(limits.head_bytes <= 64 << 10 && limits.body_bytes < 1 << 20, "{limits:?}");
}

/// S04.
#[tokio::test]
async fn half_a_head_and_silence_no_byte_at_all_and_a_byte_now_and_then_are_closed() {
    let (world, alice) = small_world().await;
    let began = Instant::now();
    let mut half = connected(&world).await;
    half.write_all(b"POST /v1/calls HTTP/1.1\r\nhost: x\r\nauthoriz").await.unwrap();
    let mut silent = connected(&world).await;
    let mut idle = connected(&world).await;
    let get = format!("GET /v1/relays HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", alice.token);
    idle.write_all(get.as_bytes()).await.unwrap();
    let mut trickling = connected(&world).await;
    let trickle = tokio::spawn(async move {
        while trickling.write_all(b"G").await.is_ok() && !matches!(trickling.try_read(&mut [0; 512]), Ok(0)) {
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    // Others are served meanwhile.
    assert_eq!(world.get(0, &alice, "/v1/relays").await.status, 200);
    rest(&mut half).await;
    rest(&mut silent).await;
    assert!(Answer::parse(&rest(&mut idle).await).status == 200);
    timeout(PATIENCE, trickle).await.unwrap().unwrap();
    assert!(began.elapsed() < SHORT * 10, "{:?}", began.elapsed());
}

/// S04, S05: a body that never comes whole is never looked at.
#[tokio::test]
async fn a_slow_body_gets_408_and_no_call_comes_of_it() {
    let (world, alice) = small_world().await;
    let bob = world.device("bob", "dev_b1").await;
    let before = world.store.snapshot().await;
    let body = call_to(&[&bob]).to_string();
    let headers = format!(
        "POST /v1/calls HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        alice.token,
        body.len() + 1
    );
    let mut stream = connected(&world).await;
    stream.write_all(format!("{headers}{body}").as_bytes()).await.unwrap();
    Answer::parse(&rest(&mut stream).await).must_be(408, "body_too_slow", "a byte too few");
    // One that ends before its end.
    let mut stream = connected(&world).await;
    stream.write_all(format!("{headers}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = Answer::parse(&rest(&mut stream).await);
    assert!(answer.status == 0 || answer.status == 400, "{answer:?}");
    assert_eq!(before, world.store.snapshot().await);
}

/// S06: what two readers could cut differently is refused, and nothing behind it is read as a request.
#[tokio::test]
async fn requests_that_could_be_read_in_two_ways_are_refused_and_the_connection_is_closed() {
    let (world, alice) = small_world().await;
    let bob = world.device("bob", "dev_b1").await;
    let smuggled = format!("GET /v1/relays HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", alice.token);
    let body = call_to(&[&bob]).to_string();
    let n = body.len();
    let before = world.store.snapshot().await;
    let shapes = [
        ("two lengths", format!("content-length: {n}\r\ncontent-length: {}\r\n", n + 1)),
        ("two lengths in one", format!("content-length: {n}, {}\r\n", n + 1)),
        ("a plus", format!("content-length: +{n}\r\n")),
        ("a minus", format!("content-length: -{n}\r\n")),
        ("hexadecimal", format!("content-length: 0x{n:x}\r\n")),
        ("a blank inside", format!("content-length: {n} 0\r\n")),
        ("no number", "content-length: \r\n".to_owned()),
        ("over all bounds", "content-length: 18446744073709551616\r\n".to_owned()),
        ("chunks twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n".to_owned()),
        ("chunked, chunked", "transfer-encoding: chunked, chunked\r\n".to_owned()),
        ("chunks before something", "transfer-encoding: chunked, identity\r\n".to_owned()),
        ("xchunked", "transfer-encoding: xchunked\r\n".to_owned()),
        ("identity", format!("transfer-encoding: identity\r\ncontent-length: {n}\r\n")),
        ("a blank before the colon", format!("content-length : {n}\r\n")),
        ("a folded line", format!("x: y\r\n content-length: 3\r\ncontent-length: {n}\r\n")),
        ("a bare CR", format!("x: y\rcontent-length: 3\r\ncontent-length: {n}\r\n")),
        ("a NUL", format!("x: y\0z\r\ncontent-length: {n}\r\n")),
    ];
    let mut wrong = Vec::new();
    for (what, lengths) in shapes {
        let head = format!(
            "POST /v1/calls HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n{lengths}\r\n",
            alice.token
        );
        for body in [body.clone(), format!("{n:x}\r\n{body}\r\n0\r\n\r\n")] {
            let mut stream = connected(&world).await;
            let _ = stream.write_all(format!("{head}{body}{smuggled}").as_bytes()).await;
            let began = Instant::now();
            let bytes = String::from_utf8_lossy(&rest(&mut stream).await).into_owned();
            let answers = bytes.matches("HTTP/1.1 ").count();
            let refused = bytes.is_empty() || bytes.starts_with("HTTP/1.1 400 ") || bytes.starts_with("HTTP/1.1 501 ");
            if answers > 1 || !refused || began.elapsed() > SHORT * 4 {
                wrong.push(format!("{what}: {answers} answers, {:?}: {bytes}", began.elapsed()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(before, world.store.snapshot().await, "none of them places a call");
}

/// S06: a length beside chunks, alone and behind a request that is as it should be.
#[tokio::test]
async fn a_length_beside_chunks_is_refused_and_nothing_behind_it_is_looked_at() {
    let (world, alice) = small_world().await;
    let token = &alice.token;
    let smuggled = format!("GET /v1/relays HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    for lengths in
        ["content-length: 4\r\ntransfer-encoding: chunked\r\n", "transfer-encoding: chunked\r\ncontent-length: 4\r\n"]
    {
        for body in ["0\r\n\r\n", "2\r\n{}\r\n0\r\n\r\n"] {
            let head = format!(
                "POST /v1/calls HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\n{lengths}\r\n"
            );
            for before in ["", &smuggled] {
                let mut stream = connected(&world).await;
                let _ = stream.write_all(format!("{before}{head}{body}{smuggled}").as_bytes()).await;
                let bytes = String::from_utf8_lossy(&rest(&mut stream).await).into_owned();
                let answers: Vec<&str> = bytes.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
                let expected: &[&str] = if before.is_empty() { &["400"] } else { &["200", "400"] };
                assert!(answers == expected && bytes.contains("bad_framing"), "{bytes}");
            }
        }
    }
}

/// S06: chunks whose sizes cannot be, and trailers without end.
#[tokio::test]
async fn chunks_that_cannot_be_are_refused() {
    let (world, alice) = small_world().await;
    for chunks in [
        "-1\r\nx\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}x0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
    ] {
        let request = format!(
            "POST /v1/calls HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{chunks}GET /v1/relays HTTP/1.1\r\nhost: x\r\n\r\n",
            alice.token
        );
        let mut stream = connected(&world).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let bytes = String::from_utf8_lossy(&rest(&mut stream).await).into_owned();
        let answers = bytes.matches("HTTP/1.1 ").count();
        assert!(answers <= 1 && (bytes.is_empty() || bytes.starts_with("HTTP/1.1 4")), "{chunks:?}: {bytes}");
    }
    let endless = format!(
        "POST /v1/relays HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n{}",
        "x: y\r\n".repeat(20_000)
    );
    let mut stream = connected(&world).await;
    let _ = stream.write_all(endless.as_bytes()).await;
    rest(&mut stream).await;
    assert_eq!(world.get(0, &alice, "/v1/relays").await.status, 200);
}

/// S04: a head of 1 MiB, as one header, as many, and as a path.
#[tokio::test]
async fn a_head_without_end_is_refused() {
    let (world, alice) = small_world().await;
    let heads = [
        format!("GET /v1/relays HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(1 << 20)),
        format!("GET /v1/relays HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(150_000)),
        format!("GET /v1/{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(1 << 20)),
        format!("{} / HTTP/1.1\r\nhost: x\r\n\r\n", "G".repeat(1 << 20)),
        "\r\n".repeat(1 << 19),
    ];
    for head in heads {
        let mut stream = connected(&world).await;
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = Answer::parse(&rest(&mut stream).await);
        assert!(matches!(answer.status, 0 | 400 | 414 | 431), "{answer:?}");
    }
    assert_eq!(world.get(0, &alice, "/v1/relays").await.status, 200);
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A string of HPACK without Huffman (RFC 7541 section 5.2).
fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if text.len() < 127 {
        bytes.push(u8::try_from(text.len()).unwrap());
    } else {
        let mut rest = text.len() - 127;
        bytes.push(127);
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128 + 128).unwrap());
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
    }
    bytes.extend(text.as_bytes());
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `GET /v1/relays` on stream `stream`: indexed method and scheme, the rest literal (RFC 7541 appendix A).
fn get_relays(stream: u32, token: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04];
    block.extend(string("/v1/relays"));
    block.push(0x01);
    block.extend(string("localhost"));
    block.extend([0x0f, 23 - 15]);
    block.extend(string(&format!("Bearer {token}")));
    frame(1, 0x5, stream, &block)
}

/// Reads until the text of an answer is there.
async fn until(stream: &mut TcpStream, wanted: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        while !bytes.windows(wanted.len()).any(|window| window == wanted) {
            let mut buffer = [0; 4_096];
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "closed after {bytes:?}");
            bytes.extend_from_slice(&buffer[..n]);
        }
    };
    timeout(PATIENCE, read).await.expect("no such answer");
    bytes
}

/// HTTP/2 with prior knowledge, as an ingress speaks it.
#[tokio::test]
async fn http2_works_whole_byte_by_byte_and_many_streams_at_once() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let hello = [PREFACE.to_vec(), frame(4, 0, 0, &[])].concat();
    let mut whole = connected(&world).await;
    whole.write_all(&[hello.clone(), get_relays(1, &alice.token)].concat()).await.unwrap();
    until(&mut whole, b"\"items\"").await;
    let mut fragments = connected(&world).await;
    fragments.set_nodelay(true).unwrap();
    for byte in [hello.clone(), get_relays(1, &alice.token)].concat() {
        fragments.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    until(&mut fragments, b"\"items\"").await;
    let mut many = connected(&world).await;
    many.write_all(&hello).await.unwrap();
    for stream in 0..50 {
        many.write_all(&get_relays(2 * stream + 1, &alice.token)).await.unwrap();
    }
    let mut seen = 0;
    while seen < 50 {
        seen += until(&mut many, b"\"items\"").await.windows(7).filter(|window| window == b"\"items\"").count();
    }
}

/// S04: HTTP/1.1 byte by byte, too, and what only begins like the preface.
#[tokio::test]
async fn http1_byte_by_byte_works_even_where_it_begins_like_http2() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let mut stream = connected(&world).await;
    stream.set_nodelay(true).unwrap();
    let headers = format!("authorization: Bearer {}\r\n", alice.token);
    for byte in request("GET", "/v1/relays", &headers, b"") {
        stream.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    assert_eq!(Answer::parse(&rest(&mut stream).await).status, 200);
    for method in ["P", "PRI", "PROPFIND", "PUT", "PATCH", "POST"] {
        let answer = world.raw(0, method, "/v1/relays", &headers, b"").await;
        answer.must_be(405, "method_not_allowed", method);
    }
}

/// S04.
#[tokio::test]
async fn a_preface_that_stops_half_way_and_an_http2_client_that_falls_silent_are_closed() {
    let (world, alice) = small_world().await;
    let began = Instant::now();
    for length in [1, 5, 16, PREFACE.len() - 1] {
        let mut half = connected(&world).await;
        half.write_all(&PREFACE[..length]).await.unwrap();
        assert!(rest(&mut half).await.is_empty(), "{length}");
    }
    let mut only = connected(&world).await;
    only.write_all(PREFACE).await.unwrap();
    rest(&mut only).await;
    let mut quiet = connected(&world).await;
    quiet.write_all(&[PREFACE.to_vec(), frame(4, 0, 0, &[]), get_relays(1, &alice.token)].concat()).await.unwrap();
    // It never answers a PING.
    rest(&mut quiet).await;
    assert!(began.elapsed() < SHORT * 20, "{:?}", began.elapsed());
}

/// S04: the slow reader and the slow writer of HTTP/2: a stream whose head, or body, never ends.
#[tokio::test]
async fn an_http2_request_that_never_ends_is_given_up() {
    let (world, alice) = small_world().await;
    let mut block = vec![0x83, 0x86, 0x04];
    block.extend(string("/v1/calls"));
    block.push(0x01);
    block.extend(string("localhost"));
    block.extend([0x0f, 23 - 15]);
    block.extend(string(&format!("Bearer {}", alice.token)));
    block.extend([0x0f, 31 - 15]);
    block.extend(string("application/json"));
    let mut no_body = connected(&world).await;
    let hello = [PREFACE.to_vec(), frame(4, 0, 0, &[])].concat();
    // The head ends, the stream does not.
    no_body.write_all(&[hello.clone(), frame(1, 0x4, 1, &block)].concat()).await.unwrap();
    until(&mut no_body, b"body_too_slow").await;
    // The head never ends: HEADERS without END_HEADERS, and a client that answers nothing.
    let mut no_head = connected(&world).await;
    no_head.write_all(&[hello, frame(1, 0, 1, &block)].concat()).await.unwrap();
    rest(&mut no_head).await;
    assert_eq!(world.get(0, &alice, "/v1/relays").await.status, 200);
}

/// S01: 10,000 streams, each reset at once.
#[tokio::test]
async fn an_http2_client_that_resets_every_stream_is_sent_away() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let mut stream = connected(&world).await;
    stream.write_all(&[PREFACE.to_vec(), frame(4, 0, 0, &[])].concat()).await.unwrap();
    let mut sent = 0;
    for n in 0..10_000 {
        let pair = [get_relays(2 * n + 1, "x"), frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat();
        if stream.write_all(&pair).await.is_err() {
            break;
        }
        sent += 1;
    }
    drop(stream);
    assert!(sent > 0);
    assert_eq!(world.get(0, &alice, "/v1/relays").await.status, 200);
}

/// docs/api.md, "Conventions": every error is a problem.
#[tokio::test]
async fn what_no_route_takes_is_a_problem_too() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/calls/",
        "/v1/calls/x/y/z",
        "/v2/calls",
        "//v1/calls",
        "/v1//calls",
        "/v1/admin/calls",
    ] {
        world.get(0, &alice, path).await.must_be(404, "not_found", path);
    }
    for (method, path) in [
        ("DELETE", "/v1/calls"),
        ("GET", "/v1/calls"),
        ("PATCH", "/v1/devices/dev_a1"),
        ("GET", "/v1/devices/dev_a1"),
        ("POST", "/v1/relays"),
        ("TRACE", "/v1/relays"),
        ("GET", "/v1/calls/call_x/accept"),
    ] {
        let answer = world.ask(0, &alice, method, path, &Value::Null).await;
        answer.must_be(405, "method_not_allowed", path);
        assert!(answer.header("allow").is_some(), "RFC 9110 section 15.5.6: {answer:?}");
    }
    // Only in development may anybody mint tokens.
    let body = serde_json::json!({ "account": "alice", "device": "dev_a1" });
    world.ask(0, &alice, "POST", "/v1/dev/tokens", &body).await.must_be(404, "not_found", "tokens for whoever asks");
}

/// S10: pages of other sites read nothing.
#[tokio::test]
async fn browsers_may_ask_from_pages_on_the_list_and_from_no_other() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let preflight = |origin: &str| {
        format!(
            "origin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type,idempotency-key\r\n"
        )
    };
    let answer = world.raw(0, "OPTIONS", "/v1/calls", &preflight(GOOD_ORIGIN), b"").await;
    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some(GOOD_ORIGIN));
    let allowed = answer.header("access-control-allow-headers").unwrap_or_default().to_lowercase();
    assert!(["authorization", "content-type", "idempotency-key"].iter().all(|h| allowed.contains(h)), "{answer:?}");
    assert!(answer.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    assert!(answer.header("access-control-allow-credentials").is_none(), "no cookie is ever believed");
    for evil in [
        "https://evil.example",
        "null",
        "https://app.example.org.evil.example",
        "http://app.example.org",
        "https://app.example.org:8443",
        "https://app.example.org/",
        "https://APP.example.org",
    ] {
        let answer = world.raw(0, "OPTIONS", "/v1/calls", &preflight(evil), b"").await;
        assert!(answer.header("access-control-allow-origin").is_none(), "{evil}: {answer:?}");
        let headers = format!("origin: {evil}\r\nauthorization: Bearer {}\r\n", alice.token);
        let answer = world.raw(0, "GET", "/v1/relays", &headers, b"").await;
        assert!(answer.header("access-control-allow-origin").is_none(), "{evil}: {answer:?}");
    }
    // A page on the list can read errors as well, and when to come back.
    let answer = world.raw(0, "GET", "/v1/relays", &format!("origin: {GOOD_ORIGIN}\r\n"), b"").await;
    answer.must_be(401, "unauthorized", "no token");
    assert_eq!(answer.header("access-control-allow-origin"), Some(GOOD_ORIGIN));
    assert!(answer.header("access-control-expose-headers").is_some_and(|h| h.to_lowercase().contains("retry-after")));
    assert!(answer.header("vary").is_some_and(|vary| vary.to_lowercase().contains("origin")), "{answer:?}");
    // Errors that no handler makes are read by pages too: else a page sees a failed network.
    for (method, path) in [("GET", "/v1/nowhere"), ("DELETE", "/v1/calls")] {
        let answer = world.raw(0, method, path, &format!("origin: {GOOD_ORIGIN}\r\n"), b"").await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(GOOD_ORIGIN), "{method} {path}: {answer:?}");
    }
    let headers =
        format!("origin: {GOOD_ORIGIN}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n", alice.token);
    let answer = world.raw(0, "POST", "/v1/calls", &headers, &vec![b' '; 300 << 10]).await;
    if answer.status != 0 {
        assert_eq!(answer.header("access-control-allow-origin"), Some(GOOD_ORIGIN), "413: {answer:?}");
    }
}
