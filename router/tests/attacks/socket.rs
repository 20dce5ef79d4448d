//! A WebSocket client that does what it is told, byte by byte (RFC 6455), and nothing by itself.
//!
//! Decides nothing about what is right. The root package's tests of both services use it too.
#![allow(dead_code, reason = "each suite uses its part of this")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// The first byte of a frame: the last of its message, and what is in it.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const PING: u8 = 0x89;
/// The same without FIN, and what comes after it.
pub(crate) const TEXT_BEGINS: u8 = 0x01;
pub(crate) const CONTINUES: u8 = 0x00;

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    /// A message of text.
    Push(Value),
    Ping,
    Pong,
    /// A close frame with its code; 1005 if it has none.
    Close(u16),
    /// The connection ended without one.
    Ended,
}

/// One connection after its handshake.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// The answer to the handshake.
    pub(crate) head: String,
}

/// What a device's handshake has in any case.
pub(crate) fn upgrade() -> String {
    "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        .to_owned()
}

/// Knocks with these headers. Gives the socket, or the status and all else that was answered.
pub(crate) async fn knock(to: SocketAddr, path: &str, headers: &str) -> Result<Socket, (u16, String)> {
    let stream = TcpStream::connect(to).await.unwrap();
    knock_on(stream, path, headers).await
}

pub(crate) async fn knock_on(mut stream: TcpStream, path: &str, headers: &str) -> Result<Socket, (u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let mut buffer = [0; 4_096];
        let n = timeout(LONG, stream.read(&mut buffer)).await.expect("no answer").unwrap_or(0);
        if n == 0 {
            return Err((0, String::from_utf8_lossy(&bytes).into_owned()));
        }
        bytes.extend_from_slice(&buffer[..n]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head[9..12].parse().unwrap();
    let mut rest = bytes[end..].to_vec();
    if status != 101 {
        let length =
            head.to_lowercase().split("content-length: ").nth(1).and_then(|n| n.split("\r\n").next()?.parse().ok());
        let length: usize = length.unwrap_or(0);
        while rest.len() < length {
            let mut buffer = [0; 4_096];
            let n = stream.read(&mut buffer).await.unwrap_or(0);
            assert!(n > 0, "the answer broke off: {head}");
            rest.extend_from_slice(&buffer[..n]);
        }
        return Err((status, head + &String::from_utf8_lossy(&rest)));
    }
    Ok(Socket { stream, buffer: rest, head })
}

impl Socket {
    /// A device's connection, by the header that apps use.
    pub(crate) async fn open(to: SocketAddr, token: &str) -> Self {
        let headers = format!("{}sec-websocket-protocol: tandem.v1\r\nauthorization: Bearer {token}\r\n", upgrade());
        let opened = knock(to, "/v1/connect", &headers).await;
        opened.unwrap_or_else(|(status, answer)| panic!("{status}: {answer}"))
    }

    /// The same with a small receive buffer, so that not reading is felt.
    pub(crate) async fn open_narrow(to: SocketAddr, token: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream = socket.connect(to).await.unwrap();
        let headers = format!("{}sec-websocket-protocol: tandem.v1\r\nauthorization: Bearer {token}\r\n", upgrade());
        let opened = knock_on(stream, "/v1/connect", &headers).await;
        opened.unwrap_or_else(|(status, answer)| panic!("{status}: {answer}"))
    }

    /// Sends a masked frame; the other side may have closed.
    pub(crate) async fn frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame(first, payload)).await
    }

    pub(crate) async fn text(&mut self, text: &str) -> io::Result<()> {
        self.frame(TEXT, text.as_bytes()).await
    }

    pub(crate) async fn ack(&mut self, ids: &[&str]) {
        self.text(&json!({ "type": "ack", "ids": ids }).to_string()).await.unwrap();
    }

    async fn fill(&mut self, wanted: usize) -> bool {
        while self.buffer.len() < wanted {
            let mut buffer = [0; 16_384];
            match self.stream.read(&mut buffer).await {
                Ok(n) if n > 0 => self.buffer.extend_from_slice(&buffer[..n]),
                _ => return false,
            }
        }
        true
    }

    /// The next frame, as soon as it comes.
    async fn whole(&mut self) -> Seen {
        if !self.fill(2).await {
            return Seen::Ended;
        }
        let (first, second) = (self.buffer[0], self.buffer[1]);
        assert_eq!(second & 0x80, 0, "a server masks nothing");
        assert_eq!(first & 0x70, 0, "a reserved bit: something was negotiated that must not be");
        let (start, length) = match second {
            126 => {
                if !self.fill(4).await {
                    return Seen::Ended;
                }
                (4, usize::from(self.buffer[2]) << 8 | usize::from(self.buffer[3]))
            }
            127 => panic!("a frame of 64 KiB"),
            n => (2, usize::from(n)),
        };
        if !self.fill(start + length).await {
            return Seen::Ended;
        }
        let payload: Vec<u8> = self.buffer.drain(..start + length).skip(start).collect();
        match first & 0x0f {
            1 => Seen::Push(serde_json::from_slice(&payload).expect("pushes are JSON")),
            8 => Seen::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))),
            9 => Seen::Ping,
            10 => Seen::Pong,
            other => panic!("a frame of kind {other}"),
        }
    }

    pub(crate) async fn next(&mut self) -> Seen {
        timeout(LONG, self.whole()).await.expect("nothing came")
    }

    /// What comes within so much; `None` if nothing.
    pub(crate) async fn within(&mut self, span: Duration) -> Option<Seen> {
        timeout(span, self.whole()).await.ok()
    }

    /// The next push.
    pub(crate) async fn push(&mut self) -> Value {
        loop {
            match self.next().await {
                Seen::Push(push) => return push,
                Seen::Ping | Seen::Pong => {}
                other => panic!("{other:?} instead of a push"),
            }
        }
    }

    /// Skips until the push of this type.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        loop {
            let push = self.push().await;
            if push["type"] == kind {
                return push;
            }
        }
    }

    /// Everything up to `ready`, without it.
    pub(crate) async fn caught_up(&mut self) -> Vec<Value> {
        let mut pushes = Vec::new();
        loop {
            let push = self.push().await;
            if push["type"] == "ready" {
                return pushes;
            }
            pushes.push(push);
        }
    }

    /// What comes until nothing has for so long.
    pub(crate) async fn all(&mut self, quiet: Duration) -> Vec<Value> {
        let mut pushes = Vec::new();
        while let Some(seen) = self.within(quiet).await {
            match seen {
                Seen::Push(push) => pushes.push(push),
                Seen::Ping | Seen::Pong => {}
                other => panic!("{other:?} after {pushes:?}"),
            }
        }
        pushes
    }

    /// How it ends, whatever comes before; gives the code of the close frame, if there was one.
    pub(crate) async fn end(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Seen::Close(code) => return Some(code),
                Seen::Ended => return None,
                _ => {}
            }
        }
    }
}

/// A frame as a client sends it, with a mask of zeros.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..126 => frame.push(0x80 | u8::try_from(n).unwrap()),
        n @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(n).unwrap().to_be_bytes());
        }
        n => {
            frame.push(0x80 | 127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
