//! A TURN client on one socket: long-term credentials, 401 and 438 followed, answers read and checked.
//!
//! Decides what a client may rely on: an answer to a proven request is signed with its key and carries its transaction.

use std::net::SocketAddr;

use tandem_wire::id::{CallId, LegId};
use tandem_wire::stun::{Class, Method, Writer};
use tandem_wire::ticket::{LongTermKey, TicketKey, long_term_key};
use tandem_wire::units::Span;

use super::model::{self, Part, attr, kind};
use super::{REALM, Relay, Sent, secret};

/// What stands in an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Reply {
    /// 0: success.
    pub(crate) code: u16,
    pub(crate) relayed: Option<SocketAddr>,
    pub(crate) mapped: Option<SocketAddr>,
    pub(crate) lifetime: Option<u32>,
    pub(crate) nonce: Vec<u8>,
    pub(crate) unknown: Vec<u8>,
    pub(crate) signed: bool,
    pub(crate) fingerprint: bool,
    pub(crate) bytes: Vec<u8>,
}

/// What a client asks with: who it says it is and how it writes.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) at: SocketAddr,
    pub(crate) call: CallId,
    pub(crate) leg: LegId,
    pub(crate) username: String,
    pub(crate) key: LongTermKey,
    pub(crate) nonce: Vec<u8>,
    pub(crate) fingerprint: bool,
    /// Whether the credentials stand in front of what is asked. Clients differ in that.
    pub(crate) credentials_first: bool,
    pub(crate) transactions: u64,
}

/// Writes a message with the relay's own writer, as the product's clients do.
pub(crate) fn written(kind: u16, transaction: [u8; 12], parts: &[Part]) -> Vec<u8> {
    let class = match kind & 0x0110 {
        0x0000 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::Success,
        _ => Class::Error,
    };
    let size = |part: &Part| if let Part::Raw(_, value) = part { value.len() + 8 } else { 32 };
    let mut buffer = vec![0xaa; 20 + parts.iter().map(size).sum::<usize>()];
    let method = Method::from_bits((kind & 0xf) | ((kind >> 1) & 0x70) | ((kind >> 2) & 0xf80));
    let mut writer = Writer::new(&mut buffer, class, method, transaction);
    for part in parts {
        writer = match part {
            Part::Raw(attribute, value) => writer.attribute(*attribute, value),
            Part::Addr(attribute, address) => writer.address(*attribute, *address),
            Part::Integrity(key) => writer.integrity(key),
            Part::Fingerprint => writer.fingerprint(),
        };
    }
    let len = writer.finish().unwrap();
    buffer.truncate(len);
    buffer
}

impl Client {
    /// Leg `leg` of `call` at this address, with a ticket for an hour under the relay's first key.
    pub(crate) fn new(relay: &Relay, call: CallId, leg: u16, at: &str) -> Self {
        Self::with_ticket(relay, call, leg, at, (0, 2), 3_600)
    }

    /// The same with a ticket under `key` (its id, and the byte that its secret is made of), for so many seconds from now.
    pub(crate) fn with_ticket(relay: &Relay, call: CallId, leg: u16, at: &str, key: (u8, u8), secs: u64) -> Self {
        let ticket_key = TicketKey::new(key.0, &secret(key.1)).unwrap();
        let leg = LegId::new(leg).unwrap();
        let username = ticket_key.mint(call, leg, relay.now().wall.after(Span::from_secs(secs)));
        let password = ticket_key.credential(&username);
        Self {
            at: at.parse().unwrap(),
            call,
            leg,
            key: long_term_key(username.as_bytes(), REALM, password.as_bytes()),
            username,
            nonce: Vec::new(),
            fingerprint: false,
            credentials_first: false,
            transactions: 0,
        }
    }

    /// The same ticket on another socket.
    pub(crate) fn on_socket(&self, at: &str) -> Self {
        Self { at: at.parse().unwrap(), nonce: Vec::new(), transactions: 0, ..self.clone() }
    }

    pub(crate) fn transaction(&self) -> [u8; 12] {
        let mut id = *b"cl\0\0\0\0\0\0\0\0\0\0";
        id[4..].copy_from_slice(&self.transactions.to_be_bytes());
        id
    }

    pub(crate) fn credentials(&self) -> Vec<Part> {
        vec![
            Part::Raw(attr::USERNAME, self.username.clone().into_bytes()),
            Part::Raw(attr::REALM, REALM.to_vec()),
            Part::Raw(attr::NONCE, self.nonce.clone()),
        ]
    }

    /// What stands in a signed request, integrity included.
    pub(crate) fn signed_parts(&self, asked: &[Part]) -> Vec<Part> {
        let (asked, credentials) = (asked.to_vec(), self.credentials());
        let mut parts =
            if self.credentials_first { [credentials, asked].concat() } else { [asked, credentials].concat() };
        parts.push(Part::Integrity(self.key));
        parts.extend(self.fingerprint.then_some(Part::Fingerprint));
        parts
    }

    /// A signed request with a new transaction.
    pub(crate) fn signed(&mut self, kind: u16, asked: &[Part]) -> Vec<u8> {
        self.transactions += 1;
        written(kind, self.transaction(), &self.signed_parts(asked))
    }

    /// Asks for a nonce as every client does: by asking without proof.
    pub(crate) fn learn_nonce(&mut self, relay: &mut Relay) {
        self.transactions += 1;
        let bare = written(kind::ALLOCATE, self.transaction(), &[Part::udp()]);
        let reply = self.reply(&relay.datagram(self.at, &bare)).expect("a challenge");
        assert_eq!(reply.code, 401);
        self.nonce = reply.nonce;
    }

    /// Sends a request, with a nonce that it is told first; `None` is silence.
    pub(crate) fn ask(&mut self, relay: &mut Relay, kind: u16, asked: &[Part]) -> Option<Reply> {
        if self.nonce.is_empty() {
            self.learn_nonce(relay);
        }
        let request = self.signed(kind, asked);
        let reply = self.exchange(relay, &request)?;
        if reply.code != 438 {
            return Some(reply);
        }
        self.nonce = reply.nonce;
        let request = self.signed(kind, asked);
        self.exchange(relay, &request)
    }

    /// Sends exactly these bytes, and reads what comes back for the newest transaction.
    pub(crate) fn exchange(&self, relay: &mut Relay, request: &[u8]) -> Option<Reply> {
        let sent = relay.datagram(self.at, request);
        self.reply(&sent)
    }

    /// The last answer to this client's newest transaction among what was sent.
    pub(crate) fn reply(&self, sent: &[Sent]) -> Option<Reply> {
        let mine = |sent: &&Sent| {
            sent.to == self.at && sent.is_answer() && model::transaction_of(&sent.bytes) == self.transaction()
        };
        let reply = self.read(&sent.iter().rfind(mine)?.bytes);
        let unsigned = matches!(reply.code, 401 | 438 | 420);
        assert!(reply.signed || unsigned, "{} comes signed with the client's key", reply.code);
        Some(reply)
    }

    fn read(&self, message: &[u8]) -> Reply {
        let transaction = model::transaction_of(message);
        let mut reply = Reply { bytes: message.to_vec(), ..Reply::default() };
        for attribute in model::attributes(message) {
            let value = attribute.value;
            match attribute.kind {
                attr::ERROR_CODE => reply.code = u16::from(value[2]) * 100 + u16::from(value[3]),
                attr::RELAYED => reply.relayed = Some(model::read_xor_address(value, transaction)),
                attr::MAPPED => reply.mapped = Some(model::read_xor_address(value, transaction)),
                attr::LIFETIME => reply.lifetime = Some(u32::from_be_bytes(value.try_into().unwrap())),
                attr::NONCE => reply.nonce = value.to_vec(),
                attr::UNKNOWN => reply.unknown = value.to_vec(),
                attr::INTEGRITY => reply.signed = self.verifies(message, attribute.at, value),
                attr::FINGERPRINT => reply.fingerprint = true,
                _ => {}
            }
        }
        let failed = model::type_of(message) & kind::ERROR == kind::ERROR;
        assert_eq!(failed, reply.code != 0, "an error has a code, a success has none");
        reply
    }

    fn verifies(&self, message: &[u8], at: usize, tag: &[u8]) -> bool {
        let mut before = message[..at].to_vec();
        before[2..4].copy_from_slice(&((at + 24 - 20) as u16).to_be_bytes());
        model::hmac_sha1(&self.key, &before) == tag
    }

    /// The error code, 0 for success, `None` for silence.
    pub(crate) fn code(&mut self, relay: &mut Relay, kind: u16, asked: &[Part]) -> Option<u16> {
        self.ask(relay, kind, asked).map(|reply| reply.code)
    }

    pub(crate) fn allocate(&mut self, relay: &mut Relay) -> Option<Reply> {
        self.ask(relay, kind::ALLOCATE, &[Part::udp()])
    }

    /// Allocates, which must succeed, and gives the relayed address.
    pub(crate) fn attach(&mut self, relay: &mut Relay) -> String {
        let reply = self.allocate(relay).expect("an answer");
        assert_eq!((reply.code, reply.mapped), (0, Some(self.at)));
        reply.relayed.unwrap().to_string()
    }

    pub(crate) fn refresh(&mut self, relay: &mut Relay, secs: u32) -> Option<u16> {
        self.code(relay, kind::REFRESH, &[Part::lifetime(secs)])
    }

    pub(crate) fn permit(&mut self, relay: &mut Relay, peer: &str) -> Option<u16> {
        self.code(relay, kind::PERMIT, &[Part::peer(peer)])
    }

    pub(crate) fn bind(&mut self, relay: &mut Relay, channel: u16, peer: &str) -> Option<u16> {
        self.code(relay, kind::BIND, &[Part::channel(channel), Part::peer(peer)])
    }

    /// ChannelData.
    pub(crate) fn send(&self, relay: &mut Relay, channel: u16, payload: &[u8]) -> Vec<Sent> {
        relay.datagram(self.at, &model::channel_data(channel, payload))
    }

    /// A Send indication.
    pub(crate) fn indicate(&self, relay: &mut Relay, peer: &str, payload: &[u8]) -> Vec<Sent> {
        let parts = [Part::peer(peer), Part::data(payload)];
        relay.datagram(self.at, &written(kind::SEND, *b"indication!!", &parts))
    }
}
