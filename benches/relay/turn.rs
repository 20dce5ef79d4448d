//! A TURN client in bulk: thousands of allocations and channels, many at once.
//!
//! Decides when to ask again and what counts as set up. Speaks to any TURN server with long-term credentials, so that
//! coturn and Tandem are set up by the same code.

use std::net::{SocketAddr, SocketAddrV4};

use tandem_wire::stun::{Class, HEADER_LEN, MAGIC_COOKIE, Message, Method, TransactionId, Writer, attr};
use tandem_wire::ticket::{LongTermKey, long_term_key};

use crate::client::{self, Client};
use crate::{Failure, sys};

/// How long an answer may take before the request is sent again.
const RETRANSMIT_NS: u64 = 500_000_000;
/// How often a request is sent before the set-up has failed.
const ATTEMPTS: u32 = 20;
/// What is asked for: the longest life that Tandem grants, longer than any benchmark.
const LIFETIME_S: u32 = 3_600;
/// 17, UDP, and three bytes that are zero (RFC 8656 section 18.6).
const UDP: [u8; 4] = [17, 0, 0, 0];

/// One client's side of one allocation.
#[derive(Debug)]
pub(crate) struct Allocation {
    username: String,
    password: String,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: LongTermKey,
    /// Its address, as the server gave it.
    pub(crate) relayed: Option<SocketAddrV4>,
    /// The channel to bind and its peer.
    channel: Option<(u16, SocketAddrV4)>,
    bound: bool,
    transaction: TransactionId,
    asked_at: u64,
    attempts: u32,
}

impl Allocation {
    pub(crate) fn new(username: String, password: String) -> Self {
        Self {
            username,
            password,
            realm: Vec::new(),
            nonce: Vec::new(),
            key: [0; 16],
            relayed: None,
            channel: None,
            bound: false,
            transaction: [0; 12],
            asked_at: 0,
            attempts: 0,
        }
    }

    fn done(&self) -> bool {
        self.relayed.is_some() && self.bound == self.channel.is_some()
    }

    /// Writes the next request.
    fn ask(&mut self, number: usize, now: u64, out: &mut [u8; 256]) -> Result<usize, Failure> {
        self.attempts += 1;
        if self.attempts > ATTEMPTS {
            return Err(format!("client {number} got no answer to {ATTEMPTS} requests").into());
        }
        self.asked_at = now;
        self.transaction[..4].copy_from_slice(&(number as u32).to_be_bytes());
        self.transaction[4..].copy_from_slice(&now.to_be_bytes());
        let method = if self.relayed.is_none() { Method::Allocate } else { Method::ChannelBind };
        let mut writer = Writer::new(out, Class::Request, method, self.transaction);
        match self.channel.filter(|_| self.relayed.is_some()) {
            Some((channel, peer)) => {
                let [c0, c1] = channel.to_be_bytes();
                writer = writer
                    .attribute(attr::CHANNEL_NUMBER, &[c0, c1, 0, 0])
                    .address(attr::XOR_PEER_ADDRESS, SocketAddr::V4(peer));
            }
            None => {
                writer = writer
                    .attribute(attr::REQUESTED_TRANSPORT, &UDP)
                    .attribute(attr::LIFETIME, &LIFETIME_S.to_be_bytes());
            }
        }
        if !self.nonce.is_empty() {
            writer = writer
                .attribute(attr::USERNAME, self.username.as_bytes())
                .attribute(attr::REALM, &self.realm)
                .attribute(attr::NONCE, &self.nonce)
                .integrity(&self.key);
        }
        Ok(writer.finish()?)
    }

    /// Takes an answer in.
    fn hear(&mut self, number: usize, bytes: &[u8]) -> Result<Heard, Failure> {
        // Tandem's reader is a server's: it knows the attributes of requests. Answers are read by `find`.
        let Ok(message) = Message::parse(bytes) else { return Ok(Heard::Stray) };
        if message.transaction != self.transaction {
            return Ok(Heard::Stray);
        }
        match (message.class, message.method) {
            (Class::Success, Method::Allocate) => {
                self.relayed = find(bytes, attr::XOR_RELAYED_ADDRESS).and_then(read_address);
                if self.relayed.is_none() {
                    return Err("an Allocate success without a relayed address".into());
                }
            }
            (Class::Success, Method::ChannelBind) => self.bound = true,
            (Class::Error, _) => {
                let code = find(bytes, attr::ERROR_CODE).and_then(|value| value.get(2..4));
                match (code, find(bytes, attr::REALM), find(bytes, attr::NONCE)) {
                    (Some([4, 1 | 38]), Some(realm), Some(nonce)) if self.attempts < ATTEMPTS => {
                        self.realm = realm.to_vec();
                        self.nonce = nonce.to_vec();
                        self.key = long_term_key(self.username.as_bytes(), realm, self.password.as_bytes());
                        return Ok(Heard::Challenge);
                    }
                    _ => return Err(format!("client {number} is refused: {code:?}").into()),
                }
            }
            _ => return Ok(Heard::Stray),
        }
        self.attempts = 0;
        Ok(Heard::Success)
    }
}

#[derive(PartialEq)]
enum Heard {
    Success,
    Challenge,
    Stray,
}

/// The value of the first attribute of this type.
fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = bytes.get(HEADER_LEN..)?;
    loop {
        let ([t0, t1, l0, l1], after) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = after.get(..len)?;
        if u16::from_be_bytes([*t0, *t1]) == kind {
            return Some(value);
        }
        rest = after.get(len.next_multiple_of(4)..)?;
    }
}

fn read_address(value: &[u8]) -> Option<SocketAddrV4> {
    let [0, 1, p0, p1, ip @ ..] = value else { return None };
    let port = u16::from_be_bytes([*p0, *p1]) ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = u32::from_be_bytes(ip.try_into().ok()?) ^ MAGIC_COOKIE;
    Some(SocketAddrV4::new(ip.into(), port))
}

/// Gives every client an allocation at `server`, up to `at_once` at a time; client n is `first + n`. Gives the time that
/// it took, in nanoseconds.
pub(crate) fn allocate(
    client: &mut Client,
    server: SocketAddrV4,
    first: usize,
    allocations: &mut [Allocation],
    at_once: usize,
) -> Result<u64, Failure> {
    drive(client, server, first, allocations, at_once)
}

/// Binds a channel for each of them: `channel_of` says which, to which peer.
pub(crate) fn bind(
    client: &mut Client,
    server: SocketAddrV4,
    first: usize,
    allocations: &mut [Allocation],
    at_once: usize,
    channel_of: impl Fn(usize) -> Option<(u16, SocketAddrV4)>,
) -> Result<u64, Failure> {
    for (n, allocation) in allocations.iter_mut().enumerate() {
        allocation.channel = Some(channel_of(n).ok_or("a peer without an address")?);
    }
    drive(client, server, first, allocations, at_once)
}

fn drive(
    client: &mut Client,
    server: SocketAddrV4,
    first: usize,
    allocations: &mut [Allocation],
    at_once: usize,
) -> Result<u64, Failure> {
    client.clear()?;
    let start = sys::monotonic();
    let mut scanned_at = start;
    let mut waiting: Vec<usize> = Vec::with_capacity(at_once);
    let (mut begun, mut done) = (0, 0);
    let mut request = [0; 256];
    let mut again = Vec::new();
    while done < allocations.len() {
        if sys::interrupted() {
            return Err("interrupted".into());
        }
        let now = sys::monotonic();
        while begun < allocations.len() && begun - done < at_once {
            again.push(begun);
            waiting.push(begun);
            begun += 1;
        }
        if now - scanned_at > RETRANSMIT_NS / 10 {
            scanned_at = now;
            waiting.retain(|n| !allocations[*n].done());
            again.extend(waiting.iter().filter(|n| now - allocations[**n].asked_at > RETRANSMIT_NS));
        }
        for n in again.drain(..) {
            let len = allocations[n].ask(n, now, &mut request)?;
            client.outgoing.push(client::ip(first + n), server, &request[..len], &[]);
            if client.outgoing.room() == 0 {
                client.flush()?;
            }
        }
        client.flush()?;
        client.inbox.receive(&client.socket)?;
        for datagram in client.inbox.iter() {
            let n = client::number(datagram.to).wrapping_sub(first);
            let Some(allocation) = allocations.get_mut(n).filter(|_| datagram.from == server) else { continue };
            match allocation.hear(n, datagram.bytes)? {
                Heard::Success => done += 1,
                Heard::Challenge => again.push(n),
                Heard::Stray => {}
            }
        }
    }
    Ok(sys::monotonic() - start)
}
