//! A device's connection, with as little as it takes: the handshake, and whole unfragmented text frames from the server.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::Failure;

pub(crate) struct Socket(TcpStream);

impl Socket {
    /// Connects from `from` (any port) and waits until the device is up to date.
    pub(crate) async fn connect(from: SocketAddr, to: SocketAddr, token: &str) -> Result<Self, Failure> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(from)?;
        let mut stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /v1/connect HTTP/1.1\r\nhost: bench\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: tandem.v1\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        // Byte by byte: what comes behind the head is a frame already.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&head).into_owned().into());
        }
        let mut socket = Self(stream);
        while !socket.next().await?.contains("\"type\":\"ready\"") {}
        Ok(socket)
    }

    /// The next text; pings are passed over.
    pub(crate) async fn next(&mut self) -> Result<String, Failure> {
        loop {
            let first = self.0.read_u8().await?;
            let length = match self.0.read_u8().await? {
                126 => usize::from(self.0.read_u16().await?),
                127 => usize::try_from(self.0.read_u64().await?)?,
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await?;
            match first & 0x0f {
                1 => return Ok(String::from_utf8(payload)?),
                8 => return Err("the router closed the connection".into()),
                _ => {}
            }
        }
    }
}
