//! Reading a message: one walk over its attributes, no copy, no heap.
//!
//! Decides which occurrence of an attribute counts (the first, RFC 8489 section 14) and where reading stops (at
//! MESSAGE-INTEGRITY, after which only FINGERPRINT counts). Leaves verifying to the caller, who has the key.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::{Class, FINGERPRINT_XOR, HEADER_LEN, MAGIC_COOKIE, Method, StunError, TransactionId, attr, split_type};
use crate::ticket::LongTermKey;

/// How many attributes that we do not understand are named in a 420.
pub(super) const UNKNOWN_MAX: usize = 8;

/// A message whose form has been checked: lengths, attributes, fingerprint.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// What kind of message it is.
    pub class: Class,
    /// What it is about.
    pub method: Method,
    /// The client's number for it.
    pub transaction: TransactionId,
    /// What it says.
    pub attributes: Attributes<'a>,
    /// Where MESSAGE-INTEGRITY starts, if there is one.
    integrity_at: Option<usize>,
}

/// The attributes that count: the first of each type, up to MESSAGE-INTEGRITY.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// USERNAME.
    pub username: Option<&'a [u8]>,
    /// REALM.
    pub realm: Option<&'a [u8]>,
    /// NONCE.
    pub nonce: Option<&'a [u8]>,
    /// MESSAGE-INTEGRITY, of whatever length it was sent with.
    pub integrity: Option<&'a [u8]>,
    /// MESSAGE-INTEGRITY-SHA256 stands somewhere in the message.
    pub integrity_sha256: bool,
    /// FINGERPRINT was there, and right.
    pub fingerprint: bool,
    /// LIFETIME, in seconds.
    pub lifetime: Option<u32>,
    /// CHANNEL-NUMBER.
    pub channel: Option<u16>,
    /// REQUESTED-TRANSPORT: the protocol number (17 is UDP).
    pub transport: Option<u8>,
    /// REQUESTED-ADDRESS-FAMILY: 1 is IPv4, 2 is IPv6.
    pub family: Option<u8>,
    /// EVEN-PORT: whether the next port is to be reserved too (the R bit).
    pub even_port: Option<bool>,
    /// RESERVATION-TOKEN was there.
    pub reservation_token: bool,
    /// The first XOR-PEER-ADDRESS. [`Message::peers`] gives them all.
    pub peer: Option<SocketAddr>,
    /// DATA: where it starts in the message, and its length.
    pub data: Option<(usize, usize)>,
    unknown: [u16; UNKNOWN_MAX],
    unknown_count: usize,
}

impl Attributes<'_> {
    /// Comprehension-required attributes that we do not understand, in order; at most eight of them.
    #[must_use]
    pub fn unknown(&self) -> &[u16] {
        self.unknown.get(..self.unknown_count).unwrap_or(&[])
    }

    fn push_unknown(&mut self, kind: u16) {
        if let Some(slot) = self.unknown.get_mut(self.unknown_count) {
            *slot = kind;
            self.unknown_count += 1;
        }
    }
}

/// One attribute as it stands: its type, where its value starts, its value.
#[derive(Clone, Copy)]
struct Raw<'a> {
    kind: u16,
    at: usize,
    value: &'a [u8],
}

/// Walks the attributes of a body whose length is a multiple of four.
#[derive(Clone, Copy)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn next(&mut self) -> Result<Option<Raw<'a>>, StunError> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        if rest.is_empty() {
            return Ok(None);
        }
        let ([t0, t1, l0, l1], rest) = rest.split_first_chunk::<4>().ok_or(StunError::Attribute)?;
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = rest.get(..len).ok_or(StunError::Attribute)?;
        let padded = len.next_multiple_of(4);
        if padded > rest.len() {
            return Err(StunError::Attribute);
        }
        let raw = Raw { kind: u16::from_be_bytes([*t0, *t1]), at: self.at + 4, value };
        self.at += 4 + padded;
        Ok(Some(raw))
    }
}

impl<'a> Message<'a> {
    /// Reads a datagram that is one STUN message and nothing else.
    ///
    /// # Errors
    /// The [`StunError`] that says what is wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, StunError> {
        let header = bytes.first_chunk::<HEADER_LEN>().ok_or(StunError::Truncated)?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, transaction @ ..] = *header;
        if t0 & 0xc0 != 0 || u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE {
            return Err(StunError::NotStun);
        }
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if len % 4 != 0 || HEADER_LEN + len != bytes.len() {
            return Err(StunError::Length);
        }
        let (class, method) = split_type(u16::from_be_bytes([t0, t1]));
        let mut message =
            Self { bytes, class, method, transaction, attributes: Attributes::default(), integrity_at: None };
        message.walk()?;
        Ok(message)
    }

    fn walk(&mut self) -> Result<(), StunError> {
        let mut walk = Walk { bytes: self.bytes, at: HEADER_LEN };
        while let Some(raw) = walk.next()? {
            if raw.kind == attr::FINGERPRINT {
                if walk.at != self.bytes.len() {
                    return Err(StunError::Fingerprint);
                }
                self.check_fingerprint(raw)?;
                self.attributes.fingerprint = true;
            } else if raw.kind == attr::MESSAGE_INTEGRITY_SHA256 {
                // Said wherever it stands: who sends it wants an answer that names it.
                self.attributes.integrity_sha256 = true;
            } else if self.integrity_at.is_none() {
                self.take(raw)?;
            }
        }
        Ok(())
    }

    fn check_fingerprint(&self, raw: Raw<'_>) -> Result<(), StunError> {
        let sent: [u8; 4] = raw.value.try_into().map_err(|_| StunError::Fingerprint)?;
        let before = self.bytes.get(..raw.at - 4).ok_or(StunError::Fingerprint)?;
        let computed = crc32fast::hash(before) ^ FINGERPRINT_XOR;
        if u32::from_be_bytes(sent) == computed { Ok(()) } else { Err(StunError::Fingerprint) }
    }

    fn take(&mut self, raw: Raw<'a>) -> Result<(), StunError> {
        let transaction = self.transaction;
        let a = &mut self.attributes;
        match raw.kind {
            attr::USERNAME => _ = a.username.get_or_insert(raw.value),
            attr::REALM => _ = a.realm.get_or_insert(raw.value),
            attr::NONCE => _ = a.nonce.get_or_insert(raw.value),
            attr::MESSAGE_INTEGRITY => {
                a.integrity = Some(raw.value);
                self.integrity_at = Some(raw.at - 4);
            }
            attr::LIFETIME => _ = a.lifetime.get_or_insert(u32::from_be_bytes(sized(raw)?)),
            attr::CHANNEL_NUMBER => {
                let [high, low, _, _] = sized(raw)?;
                _ = a.channel.get_or_insert(u16::from_be_bytes([high, low]));
            }
            attr::REQUESTED_TRANSPORT => {
                let [protocol, _, _, _] = sized(raw)?;
                _ = a.transport.get_or_insert(protocol);
            }
            attr::REQUESTED_ADDRESS_FAMILY => {
                let [family, _, _, _] = sized(raw)?;
                _ = a.family.get_or_insert(family);
            }
            attr::EVEN_PORT => {
                let [bits] = sized(raw)?;
                _ = a.even_port.get_or_insert(bits & 0x80 != 0);
            }
            attr::RESERVATION_TOKEN => a.reservation_token = true,
            attr::XOR_PEER_ADDRESS => {
                let address = read_address(raw.value, &transaction)?;
                _ = a.peer.get_or_insert(address);
            }
            attr::DATA => _ = a.data.get_or_insert((raw.at, raw.value.len())),
            other if other < attr::COMPREHENSION_OPTIONAL => a.push_unknown(other),
            _ => {}
        }
        Ok(())
    }

    /// Every XOR-PEER-ADDRESS before MESSAGE-INTEGRITY, in order: CreatePermission may name several.
    #[must_use]
    pub fn peers(&self) -> PeerAddresses<'a> {
        let end = self.integrity_at.unwrap_or(self.bytes.len());
        PeerAddresses {
            walk: Walk { bytes: self.bytes.get(..end).unwrap_or(&[]), at: HEADER_LEN },
            transaction: self.transaction,
        }
    }

    /// Whether MESSAGE-INTEGRITY is there, is 20 bytes and was made with `key`. Compared in constant time.
    #[must_use]
    pub fn verify(&self, key: &LongTermKey) -> bool {
        let (Some(at), Some(sent)) = (self.integrity_at, self.attributes.integrity) else { return false };
        let Some((body, _)) = self.bytes.split_at_checked(at) else { return false };
        integrity(body, key).is_some_and(|mac| mac.verify_slice(sent).is_ok())
    }
}

/// HMAC-SHA1 over a message up to its MESSAGE-INTEGRITY, with the length that the header has once that is in
/// (RFC 8489 section 14.5).
pub(super) fn integrity(before: &[u8], key: &LongTermKey) -> Option<Hmac<Sha1>> {
    const ATTRIBUTE_LEN: usize = 4 + 20;
    let (&[t0, t1, _, _], rest) = before.split_first_chunk::<4>()?;
    let len = u16::try_from((before.len() + ATTRIBUTE_LEN).checked_sub(HEADER_LEN)?).ok()?;
    let [l0, l1] = len.to_be_bytes();
    let mut mac = Hmac::<Sha1>::new_from_slice(key).ok()?;
    mac.update(&[t0, t1, l0, l1]);
    mac.update(rest);
    Some(mac)
}

fn sized<const N: usize>(raw: Raw<'_>) -> Result<[u8; N], StunError> {
    raw.value.try_into().map_err(|_| StunError::Attribute)
}

/// Undoes the XOR of an address (RFC 8489 section 14.2).
fn read_address(value: &[u8], transaction: &TransactionId) -> Result<SocketAddr, StunError> {
    let ([_, family, p0, p1], ip) = value.split_first_chunk::<4>().ok_or(StunError::Attribute)?;
    let port = u16::from_be_bytes([*p0, *p1]) ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match family {
        1 => {
            let ip: [u8; 4] = ip.try_into().map_err(|_| StunError::Attribute)?;
            IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes(ip) ^ MAGIC_COOKIE))
        }
        2 => {
            let ip: [u8; 16] = ip.try_into().map_err(|_| StunError::Attribute)?;
            IpAddr::V6(Ipv6Addr::from_bits(u128::from_be_bytes(ip) ^ mask_v6(transaction)))
        }
        _ => return Err(StunError::Family),
    };
    Ok(SocketAddr::new(ip, port))
}

/// What an IPv6 address is XORed with: the cookie, then the transaction.
pub(super) fn mask_v6(transaction: &TransactionId) -> u128 {
    let tail = transaction.iter().fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    (u128::from(MAGIC_COOKIE) << 96) | tail
}

/// Iterates over the peers of a message that has been parsed.
#[derive(Clone, Copy)]
pub struct PeerAddresses<'a> {
    walk: Walk<'a>,
    transaction: TransactionId,
}

impl Iterator for PeerAddresses<'_> {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        while let Ok(Some(raw)) = self.walk.next() {
            if raw.kind == attr::XOR_PEER_ADDRESS {
                return read_address(raw.value, &self.transaction).ok();
            }
        }
        None
    }
}
