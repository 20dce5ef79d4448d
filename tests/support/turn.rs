//! A TURN client of a leg: a socket and a ticket, and nothing that it decides by itself.
#![allow(dead_code, reason = "each test file uses its part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "of tests, and only there"
)]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use tandem_net::clock;
use tandem_wire::id::{CallId, LegId};
use tandem_wire::redact::Secret;
use tandem_wire::stun::{Class, Message, Method, Writer, attr};
use tandem_wire::ticket::{LongTermKey, TicketKey, long_term_key};
use tandem_wire::units::Span;

pub(crate) const REALM: &str = "tndm";

/// A TURN client with one socket.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    pub(crate) username: String,
    pub(crate) password: String,
    key: LongTermKey,
    pub(crate) nonce: Vec<u8>,
    pub(crate) requests: u8,
}

/// What an answer says.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    Yes(Vec<u8>),
    No(u16),
}

impl Client {
    /// Of a leg of `call`, with a ticket that is signed with `secret`; the socket is connected to where it asks.
    pub(crate) fn new(socket: UdpSocket, call: CallId, leg: u16, secret: &Secret) -> Self {
        let key = TicketKey::new(0, secret).unwrap();
        let expiry = clock::now().wall.after(Span::from_secs(600));
        let username = key.mint(call, LegId::new(leg).unwrap(), expiry);
        let password = key.credential(&username).to_string();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let key = long_term_key(username.as_bytes(), REALM.as_bytes(), password.as_bytes());
        Self { socket, username, password, key, nonce: Vec::new(), requests: 0 }
    }

    /// Sends one request and gives its answer; asks again with a nonce if it has none, and sends again what may have been lost.
    pub(crate) fn ask(&mut self, method: Method, build: impl Fn(Writer<'_>) -> Writer<'_>) -> Said {
        self.try_ask(method, build, Duration::from_secs(5)).expect("an answer")
    }

    /// The same with so much patience; `None`: silence.
    pub(crate) fn try_ask(
        &mut self,
        method: Method,
        build: impl Fn(Writer<'_>) -> Writer<'_>,
        patience: Duration,
    ) -> Option<Said> {
        for attempt in 0_u8.. {
            self.requests = self.requests.wrapping_add(1);
            let transaction = [self.requests; 12];
            let mut request = [0; 512];
            let mut writer = build(Writer::new(&mut request, Class::Request, method, transaction));
            if !self.nonce.is_empty() {
                writer = writer
                    .attribute(attr::USERNAME, self.username.as_bytes())
                    .attribute(attr::REALM, REALM.as_bytes())
                    .attribute(attr::NONCE, &self.nonce)
                    .integrity(&self.key);
            }
            let len = writer.finish().unwrap();
            let answer = self.exchange(&request[..len], patience)?;
            let message = Message::parse(&answer).unwrap();
            assert_eq!((message.method, message.transaction), (method, transaction));
            if message.class == Class::Success {
                assert!(message.verify(&self.key), "answers are signed");
                return Some(Said::Yes(answer));
            }
            let code = error_code(&answer);
            if matches!(code, 401 | 438) && attempt < 2 {
                self.nonce = message.attributes.nonce.unwrap().to_vec();
                continue;
            }
            return Some(Said::No(code));
        }
        unreachable!("it returns or fails")
    }

    /// Sends a request, every now and then again, until there is an answer to it. Media that comes meanwhile is not looked at.
    fn exchange(&self, request: &[u8], patience: Duration) -> Option<Vec<u8>> {
        let began = clock::now().mono;
        self.socket.set_read_timeout(Some(Duration::from_millis(500).min(patience))).unwrap();
        let mut answer = None;
        while answer.is_none() && clock::now().mono.since(began).to_std() < patience {
            self.socket.send(request).unwrap();
            let mut buffer = [0; 2_048];
            while let Ok(len) = self.socket.recv(&mut buffer) {
                if len >= 20 && buffer[0] < 4 && buffer[8..20] == request[8..20] {
                    answer = Some(buffer[..len].to_vec());
                    break;
                }
            }
        }
        self.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        answer
    }

    /// The datagram that comes next.
    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let len = self.socket.recv(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    /// Asks for an allocation; `None`: silence.
    pub(crate) fn try_allocate(&mut self, patience: Duration) -> Option<Said> {
        self.try_ask(Method::Allocate, |w| w.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]), patience)
    }

    pub(crate) fn allocate(&mut self) -> SocketAddr {
        let said = self.ask(Method::Allocate, |w| w.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
        let Said::Yes(answer) = said else { panic!("{said:?}") };
        // XOR-RELAYED-ADDRESS is the first attribute; undo the XOR of an IPv4 one.
        assert_eq!(answer[20..24], [0x00, 0x16, 0x00, 0x08]);
        let port = u16::from_be_bytes([answer[26] ^ 0x21, answer[27] ^ 0x12]);
        let ip = [answer[28] ^ 0x21, answer[29] ^ 0x12, answer[30] ^ 0xa4, answer[31] ^ 0x42];
        SocketAddr::from((ip, port))
    }

    pub(crate) fn bind(&mut self, channel: u16, peer: SocketAddr) -> Said {
        self.try_bind(channel, peer, Duration::from_secs(5)).expect("an answer")
    }

    /// Asks for a channel; `None`: silence.
    pub(crate) fn try_bind(&mut self, channel: u16, peer: SocketAddr, patience: Duration) -> Option<Said> {
        self.try_ask(
            Method::ChannelBind,
            |w| {
                w.attribute(attr::CHANNEL_NUMBER, &[channel.to_be_bytes(), [0, 0]].concat())
                    .address(attr::XOR_PEER_ADDRESS, peer)
            },
            patience,
        )
    }

    /// Asks to keep the allocation for so many seconds; `None`: silence.
    pub(crate) fn try_refresh(&mut self, secs: u32, patience: Duration) -> Option<Said> {
        self.try_ask(Method::Refresh, |w| w.attribute(attr::LIFETIME, &secs.to_be_bytes()), patience)
    }

    pub(crate) fn send(&self, channel: u16, payload: &[u8]) {
        let mut packet = channel.to_be_bytes().to_vec();
        packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        packet.extend_from_slice(payload);
        self.socket.send(&packet).unwrap();
    }
}

fn error_code(answer: &[u8]) -> u16 {
    assert_eq!(answer[20..22], [0x00, 0x09], "ERROR-CODE comes first");
    u16::from(answer[26]) * 100 + u16::from(answer[27])
}
