//! What is said on a connection, and how it ends.

use std::time::Duration;

use super::place::*;
use super::socket::*;

async fn connected(running: &Running) -> Socket {
    let mut socket = Socket::open(running.address, &token("alice", "dev_a1")).await;
    socket.caught_up().await;
    socket
}

/// S08: frames and messages over 4 KiB.
#[tokio::test]
async fn a_message_of_four_kibibytes_is_read_and_one_byte_more_closes_with_1009_however_it_is_cut() {
    let running = Running::new().await;
    let just = |n: usize| {
        let start = r#"{"type":"ack","ids":[]"#;
        format!("{start}{}}}", " ".repeat(n - start.len() - 1))
    };
    let mut socket = connected(&running).await;
    socket.text(&just(4_096)).await.unwrap();
    socket.frame(PING, b"").await.unwrap();
    assert_eq!(socket.next().await, Seen::Pong, "just the size that may be");
    socket.text(&just(4_097)).await.unwrap();
    assert_eq!(socket.end().await, Some(1009));
    // Only its head, which says how long it will be.
    for length in [4_097_u64, 1 << 20, u64::MAX >> 1] {
        let mut socket = connected(&running).await;
        let mut head = vec![TEXT, 0xff];
        head.extend(length.to_be_bytes());
        head.extend([0; 4]);
        tokio::io::AsyncWriteExt::write_all(&mut socket.stream, &head).await.unwrap();
        assert_eq!(socket.end().await, Some(1009), "{length}");
    }
    // In fragments, each of them small.
    let mut socket = connected(&running).await;
    socket.frame(TEXT_BEGINS, &[b' '; 1_000]).await.unwrap();
    for _ in 0..4 {
        let _ = socket.frame(CONTINUES, &[b' '; 1_000]).await;
    }
    assert_eq!(socket.end().await, Some(1009));
}

/// S08: fragments without a byte in them, of which no message ever comes.
#[tokio::test]
async fn empty_fragments_without_end_are_ended_by_their_number() {
    let running = Running::new().await;
    let mut socket = connected(&running).await;
    socket.frame(TEXT_BEGINS, b"").await.unwrap();
    let some: Vec<u8> = (0..1_000).flat_map(|_| frame(CONTINUES, b"")).collect();
    let mut sent = 0;
    // It is closed long before this; without a bound all of it would be taken.
    while sent < 64 << 20 && tokio::io::AsyncWriteExt::write_all(&mut socket.stream, &some).await.is_ok() {
        sent += some.len();
    }
    assert!(sent < 16 << 20, "{sent} bytes were taken");
    connected(&running).await;
}

/// S08: fragments that never end.
#[tokio::test]
async fn fragments_without_end_are_bounded() {
    let running = Running::new().await;
    let mut socket = connected(&running).await;
    socket.frame(TEXT_BEGINS, b" ").await.unwrap();
    let mut sent = 0;
    while sent < 20_000 && socket.frame(CONTINUES, b" ").await.is_ok() {
        sent += 1;
    }
    let end = socket.end().await;
    assert!(matches!(end, Some(1008 | 1009) | None) && sent <= 20_000, "{end:?} after {sent}");
}

/// docs/api.md, "Close codes": 4400.
#[tokio::test]
async fn what_cannot_be_understood_closes_with_4400() {
    let running = Running::new().await;
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let ids: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    let too_many = serde_json::json!({ "type": "ack", "ids": ids }).to_string();
    for text in [
        "nonsense",
        "",
        "{}",
        "[]",
        "null",
        "{\"type\":\"ack\"}",
        "{\"type\":\"ack\",\"ids\":\"x\"}",
        "{\"type\":\"ack\",\"ids\":[1]}",
        "{\"type\":\"ack\",\"ids\":{}}",
        "{\"type\":\"ack\",\"ids\":[],\"more\":1}",
        "{\"type\":\"call.offer\",\"ids\":[]}",
        "{\"type\":\"ACK\",\"ids\":[]}",
        "{\"type\":\"ack\",\"type\":\"ack\",\"ids\":[]}",
        "{\"type\":\"ack\",\"ids\":[]} x",
        "{\"type\":\"ack\\u0000\",\"ids\":[]}",
        &deep,
        &too_many,
    ] {
        let mut socket = connected(&running).await;
        socket.text(text).await.unwrap();
        let end = socket.end().await;
        assert_eq!(end, Some(4400), "{}", &text[..text.len().min(60)]);
    }
    let mut socket = connected(&running).await;
    socket.frame(BINARY, b"{\"type\":\"ack\",\"ids\":[]}").await.unwrap();
    assert_eq!(socket.end().await, Some(4400), "a binary frame");
}

/// RFC 6455: what is no frame at all ends the connection, and only that one.
#[tokio::test]
async fn what_is_no_frame_ends_its_own_connection_only() {
    let running = Running::new().await;
    let mut bystander = Socket::open(running.address, &token("bob", "dev_b1")).await;
    bystander.caught_up().await;
    let shapes: Vec<(&str, Vec<u8>)> = vec![
        ("an unmasked frame", vec![TEXT, 2, b'{', b'}']),
        ("a reserved bit", frame(TEXT | 0x40, b"{}")),
        ("all reserved bits", frame(TEXT | 0x70, b"{}")),
        ("a reserved kind", frame(0x83, b"{}")),
        ("a reserved control", frame(0x8b, b"{}")),
        ("a fragmented ping", frame(0x09, b"x")),
        ("a long ping", frame(PING, &[0; 126])),
        ("a continuation of nothing", frame(0x80, b"{}")),
        ("text in the middle of text", [frame(TEXT_BEGINS, b"{"), frame(TEXT, b"}")].concat()),
        ("not UTF-8", frame(TEXT, b"\xff\xfe")),
        ("half a character", frame(TEXT, b"\xe4\xb8")),
        ("a close of one byte", frame(0x88, &[3])),
        ("a close that says 0", frame(0x88, &[0, 0])),
        ("a close with garbage", frame(0x88, b"\x03\xe8\xff\xff")),
        ("noise", (0..=255).collect()),
    ];
    for (what, bytes) in shapes {
        let mut socket = connected(&running).await;
        tokio::io::AsyncWriteExt::write_all(&mut socket.stream, &bytes).await.unwrap();
        let end = socket.end().await;
        assert!(end.is_none_or(|code| (1000..5000).contains(&code)), "{what}: {end:?}");
    }
    bystander.frame(PING, b"").await.unwrap();
    assert_eq!(bystander.next().await, Seen::Pong);
}

/// S08: pings and acknowledgements in floods.
#[tokio::test]
async fn who_talks_too_much_is_closed_with_1008() {
    let running = Running::new().await;
    for (first, payload) in
        [(PING, b"" as &[u8]), (PING, &[7; 125]), (0x8a, b""), (TEXT, br#"{"type":"ack","ids":[]}"#)]
    {
        let mut socket = connected(&running).await;
        for _ in 0..5_000 {
            if socket.frame(first, payload).await.is_err() {
                break;
            }
        }
        // A reset may overtake the close frame of who goes on sending.
        let end = socket.end().await;
        assert!(matches!(end, Some(1008) | None), "{first:x}: {end:?}");
        // One that stops just over the bound hears it.
        let mut socket = connected(&running).await;
        for _ in 0..250 {
            let _ = socket.frame(first, payload).await;
        }
        assert_eq!(socket.end().await, Some(1008), "{first:x}");
    }
}

/// RFC 6455 section 7.
#[tokio::test]
async fn a_device_that_says_goodbye_is_let_go() {
    let running = Running::new().await;
    for code in [1000_u16, 1001, 4000] {
        let mut socket = connected(&running).await;
        socket.frame(0x88, &code.to_be_bytes()).await.unwrap();
        let _ = socket.end().await;
        let end = tokio::time::timeout(Duration::from_secs(5), socket.end()).await;
        assert_eq!(end, Ok(None), "{code}");
    }
}
