//! STUN once more, written down from the RFCs and nothing else: what the relay's bytes are compared with.
//!
//! Decides nothing; slow and plain on purpose. It shares no line with `tandem_wire`, so that the two cannot be wrong in
//! the same way (RFC 8489 sections 5 and 14, RFC 3174 for SHA-1, RFC 2104 for HMAC).

use std::net::SocketAddr;

pub(crate) const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Types of messages, as they stand in the first two bytes.
pub(crate) mod kind {
    pub(crate) const BINDING: u16 = 0x0001;
    pub(crate) const ALLOCATE: u16 = 0x0003;
    pub(crate) const REFRESH: u16 = 0x0004;
    pub(crate) const PERMIT: u16 = 0x0008;
    pub(crate) const BIND: u16 = 0x0009;
    pub(crate) const SEND: u16 = 0x0016;
    pub(crate) const DATA: u16 = 0x0017;
    /// The four requests that need a ticket.
    pub(crate) const PROVING: [u16; 4] = [ALLOCATE, REFRESH, PERMIT, BIND];
    /// Added to a request's type.
    pub(crate) const SUCCESS: u16 = 0x0100;
    pub(crate) const ERROR: u16 = 0x0110;
}

/// Types of attributes.
pub(crate) mod attr {
    pub(crate) const CHANGE_REQUEST: u16 = 0x0003;
    pub(crate) const USERNAME: u16 = 0x0006;
    pub(crate) const INTEGRITY: u16 = 0x0008;
    pub(crate) const ERROR_CODE: u16 = 0x0009;
    pub(crate) const UNKNOWN: u16 = 0x000a;
    pub(crate) const CHANNEL: u16 = 0x000c;
    pub(crate) const LIFETIME: u16 = 0x000d;
    pub(crate) const PEER: u16 = 0x0012;
    pub(crate) const DATA: u16 = 0x0013;
    pub(crate) const REALM: u16 = 0x0014;
    pub(crate) const NONCE: u16 = 0x0015;
    pub(crate) const RELAYED: u16 = 0x0016;
    pub(crate) const FAMILY: u16 = 0x0017;
    pub(crate) const EVEN_PORT: u16 = 0x0018;
    pub(crate) const TRANSPORT: u16 = 0x0019;
    pub(crate) const DONT_FRAGMENT: u16 = 0x001a;
    pub(crate) const INTEGRITY_SHA256: u16 = 0x001c;
    pub(crate) const PASSWORD_ALGORITHM: u16 = 0x001d;
    pub(crate) const USERHASH: u16 = 0x001e;
    pub(crate) const MAPPED: u16 = 0x0020;
    pub(crate) const RESERVATION: u16 = 0x0022;
    pub(crate) const PADDING: u16 = 0x0026;
    pub(crate) const RESPONSE_PORT: u16 = 0x0027;
    pub(crate) const PASSWORD_ALGORITHMS: u16 = 0x8002;
    pub(crate) const SOFTWARE: u16 = 0x8022;
    pub(crate) const FINGERPRINT: u16 = 0x8028;
}

/// One piece of a message, in the order in which it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// An attribute with these bytes.
    Raw(u16, Vec<u8>),
    /// An address, XORed.
    Addr(u16, SocketAddr),
    /// MESSAGE-INTEGRITY over what stands before it.
    Integrity([u8; 16]),
    /// FINGERPRINT over what stands before it.
    Fingerprint,
}

impl Part {
    pub(crate) fn udp() -> Self {
        Self::Raw(attr::TRANSPORT, vec![17, 0, 0, 0])
    }

    pub(crate) fn lifetime(secs: u32) -> Self {
        Self::Raw(attr::LIFETIME, secs.to_be_bytes().to_vec())
    }

    pub(crate) fn channel(number: u16) -> Self {
        Self::Raw(attr::CHANNEL, [number.to_be_bytes(), [0, 0]].concat())
    }

    pub(crate) fn peer(address: &str) -> Self {
        Self::Addr(attr::PEER, address.parse().unwrap())
    }

    pub(crate) fn data(bytes: &[u8]) -> Self {
        Self::Raw(attr::DATA, bytes.to_vec())
    }

    pub(crate) fn error(code: u16) -> Self {
        Self::Raw(attr::ERROR_CODE, vec![0, 0, (code / 100) as u8, (code % 100) as u8])
    }
}

/// Writes a whole message.
pub(crate) fn encode(kind: u16, transaction: [u8; 12], parts: &[Part]) -> Vec<u8> {
    let mut bytes = [&kind.to_be_bytes()[..], &[0, 0], &COOKIE, &transaction].concat();
    for part in parts {
        let (attribute, value) = match part {
            Part::Raw(attribute, value) => (*attribute, value.clone()),
            Part::Addr(attribute, address) => (*attribute, xor_address(*address, transaction)),
            Part::Integrity(key) => {
                set_length(&mut bytes, 24);
                (attr::INTEGRITY, hmac_sha1(key, &bytes).to_vec())
            }
            Part::Fingerprint => {
                set_length(&mut bytes, 8);
                (attr::FINGERPRINT, (crc32(&bytes) ^ 0x5354_554e).to_be_bytes().to_vec())
            }
        };
        bytes.extend(attribute.to_be_bytes());
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(&value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    set_length(&mut bytes, 0);
    bytes
}

fn set_length(bytes: &mut [u8], more: usize) {
    let length = (bytes.len() - 20 + more) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

/// ChannelData, without padding.
pub(crate) fn channel_data(channel: u16, payload: &[u8]) -> Vec<u8> {
    [&channel.to_be_bytes()[..], &(payload.len() as u16).to_be_bytes(), payload].concat()
}

/// The value of an XOR-…-ADDRESS; XOR is its own inverse.
pub(crate) fn xor_address(address: SocketAddr, transaction: [u8; 12]) -> Vec<u8> {
    let mask = [&COOKIE[..], &transaction].concat();
    let (family, ip) = match address {
        SocketAddr::V4(v4) => (1, v4.ip().octets().to_vec()),
        SocketAddr::V6(v6) => (2, v6.ip().octets().to_vec()),
    };
    let port = address.port().to_be_bytes();
    let head = [0, family, port[0] ^ mask[0], port[1] ^ mask[1]];
    head.into_iter().chain(ip.iter().zip(&mask).map(|(a, b)| a ^ b)).collect()
}

pub(crate) fn read_xor_address(value: &[u8], transaction: [u8; 12]) -> SocketAddr {
    let mask = [&COOKIE[..], &transaction].concat();
    let port = u16::from_be_bytes([value[2] ^ mask[0], value[3] ^ mask[1]]);
    let ip: Vec<u8> = value[4..].iter().zip(&mask).map(|(a, b)| a ^ b).collect();
    match value[1] {
        1 => (<[u8; 4]>::try_from(ip).unwrap(), port).into(),
        2 => (<[u8; 16]>::try_from(ip).unwrap(), port).into(),
        other => panic!("address family {other}"),
    }
}

/// An attribute as it was read: its type, its value, the bytes behind it up to the next multiple of four, and where it
/// starts.
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
    pub(crate) padding: &'a [u8],
    pub(crate) at: usize,
}

/// Takes a whole message apart, and fails if it is not exactly one.
pub(crate) fn attributes(message: &[u8]) -> Vec<Attribute<'_>> {
    try_attributes(message).expect("a whole message")
}

pub(crate) fn try_attributes(message: &[u8]) -> Option<Vec<Attribute<'_>>> {
    let length = usize::from(u16::from_be_bytes([message[2], message[3]])) + 20;
    if message[4..8] != COOKIE || length != message.len() {
        return None;
    }
    let (mut at, mut found) = (20, Vec::new());
    while at < message.len() {
        let head = message.get(at..at + 4)?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (start, end, next) = (at + 4, at + 4 + len, at + 4 + len.next_multiple_of(4));
        let kind = u16::from_be_bytes([head[0], head[1]]);
        found.push(Attribute { kind, value: message.get(start..end)?, padding: message.get(end..next)?, at });
        at = next;
    }
    Some(found)
}

pub(crate) fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= 20 && bytes[0] < 4
}

pub(crate) fn type_of(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

pub(crate) fn transaction_of(message: &[u8]) -> [u8; 12] {
    message[8..20].try_into().unwrap()
}

pub(crate) fn hmac_sha1(key: &[u8], data: &[u8]) -> [u8; 20] {
    assert!(key.len() <= 64, "long keys are hashed first; none here is long");
    let pad = |with: u8| (0..64).map(|i| key.get(i).copied().unwrap_or(0) ^ with).collect::<Vec<u8>>();
    sha1(&[&pad(0x5c)[..], &sha1(&[&pad(0x36), data].concat())].concat())
}

fn sha1(data: &[u8]) -> [u8; 20] {
    let mut h: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = data.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend((data.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
        for t in 16..80 {
            w.push((w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16]).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = h;
        for (t, word) in w.iter().enumerate() {
            let (f, k) = match t / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in h.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    h.map(u32::to_be_bytes).concat().try_into().unwrap()
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
