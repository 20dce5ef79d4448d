//! Writing a message into a buffer that the caller owns, attribute by attribute, in the order in which they are named.
//!
//! Decides padding (zeros, always: no byte of an earlier datagram leaves, attacks R35) and the two checks at the end.
//! Leaves it to the caller which attributes there are.

use core::net::{Ipv4Addr, SocketAddr};

use hmac::Mac;

use super::read::{integrity, mask_v6};
use super::{Class, FINGERPRINT_XOR, HEADER_LEN, MAGIC_COOKIE, Method, StunError, TransactionId, attr, join_type};
use crate::id::VirtualAddr;
use crate::ticket::LongTermKey;

/// Builds one message. What does not fit is an error at [`Writer::finish`], never a cut message.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
    transaction: TransactionId,
    full: bool,
}

impl<'a> Writer<'a> {
    /// Starts a message at the start of `buffer`.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], class: Class, method: Method, transaction: TransactionId) -> Self {
        let mut writer = Self { buffer, len: 0, transaction, full: false };
        writer.push(&join_type(class, method).to_be_bytes());
        writer.push(&[0, 0]);
        writer.push(&MAGIC_COOKIE.to_be_bytes());
        writer.push(&transaction);
        writer
    }

    fn push(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len())) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.full = true,
        }
    }

    /// Puts the length of the body, as it will be with `more` bytes, into the header.
    fn set_length(&mut self, more: usize) {
        let body = (self.len + more).saturating_sub(HEADER_LEN);
        match (u16::try_from(body), self.buffer.get_mut(2..4)) {
            (Ok(len), Some(field)) => field.copy_from_slice(&len.to_be_bytes()),
            _ => self.full = true,
        }
    }

    /// Adds an attribute with these bytes, padded with zeros.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let Ok(len) = u16::try_from(value.len()) else {
            self.full = true;
            return self;
        };
        self.push(&kind.to_be_bytes());
        self.push(&len.to_be_bytes());
        self.push(value);
        let padding = value.len().next_multiple_of(4) - value.len();
        self.push([0_u8; 3].get(..padding).unwrap_or(&[]));
        self
    }

    /// Adds an address, XORed (XOR-MAPPED-ADDRESS, XOR-RELAYED-ADDRESS, XOR-PEER-ADDRESS).
    #[must_use]
    pub fn address(self, kind: u16, address: SocketAddr) -> Self {
        let mut value = [0_u8; 20];
        let port = (address.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes();
        let transaction = self.transaction;
        let mut fill = |family: u8, ip: &[u8]| {
            let parts = [0, family].into_iter().chain(port).chain(ip.iter().copied());
            value.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        };
        let len = match address {
            SocketAddr::V4(v4) => {
                fill(1, &(v4.ip().to_bits() ^ MAGIC_COOKIE).to_be_bytes());
                8
            }
            SocketAddr::V6(v6) => {
                fill(2, &(v6.ip().to_bits() ^ mask_v6(&transaction)).to_be_bytes());
                20
            }
        };
        self.attribute(kind, value.get(..len).unwrap_or(&[]))
    }

    /// Adds ERROR-CODE without a reason text: the number says it, and every byte is reflected at spoofed sources.
    #[must_use]
    pub fn error_code(self, code: u16) -> Self {
        let (class, number) = ((code / 100) as u8, (code % 100) as u8);
        self.attribute(attr::ERROR_CODE, &[0, 0, class, number])
    }

    /// Adds UNKNOWN-ATTRIBUTES.
    #[must_use]
    pub fn unknown_attributes(self, kinds: &[u16]) -> Self {
        let mut value = [0_u8; 2 * super::read::UNKNOWN_MAX];
        let bytes = kinds.iter().flat_map(|kind| kind.to_be_bytes());
        let len = value.iter_mut().zip(bytes).map(|(to, from)| *to = from).count();
        self.attribute(attr::UNKNOWN_ATTRIBUTES, value.get(..len).unwrap_or(&[]))
    }

    /// Adds MESSAGE-INTEGRITY over everything so far.
    #[must_use]
    pub fn integrity(mut self, key: &LongTermKey) -> Self {
        let tag = self.buffer.get(..self.len).and_then(|before| integrity(before, key));
        match tag {
            Some(mac) => self.attribute(attr::MESSAGE_INTEGRITY, &mac.finalize().into_bytes()),
            None => {
                self.full = true;
                self
            }
        }
    }

    /// Adds FINGERPRINT over everything so far; it is the last attribute.
    #[must_use]
    pub fn fingerprint(mut self) -> Self {
        self.set_length(8);
        let crc = crc32fast::hash(self.buffer.get(..self.len).unwrap_or(&[])) ^ FINGERPRINT_XOR;
        self.attribute(attr::FINGERPRINT, &crc.to_be_bytes())
    }

    /// Ends the message and gives its length in bytes.
    ///
    /// # Errors
    /// [`StunError::Space`], if something did not fit.
    pub fn finish(mut self) -> Result<usize, StunError> {
        self.set_length(0);
        if self.full { Err(StunError::Space) } else { Ok(self.len) }
    }
}

/// Length of what stands before the payload of a Data indication from a virtual address: header (20),
/// XOR-PEER-ADDRESS (4 + 8), head of DATA (4).
pub const DATA_HEADER_LEN: usize = HEADER_LEN + 12 + 4;

/// What stands before a payload of `len` bytes from `peer`: with the payload, padded to a multiple of four, it is a
/// whole Data indication (RFC 8656 section 11.6). `None` if the length does not fit 16 bits.
///
/// XOR-PEER-ADDRESS of IPv4 needs no transaction, so that nothing here depends on the number that is drawn for it.
#[must_use]
pub fn data_header(peer: VirtualAddr, transaction: TransactionId, len: usize) -> Option<[u8; DATA_HEADER_LEN]> {
    let data_len = u16::try_from(len).ok()?.to_be_bytes();
    let body = u16::try_from(12 + 4 + len.next_multiple_of(4)).ok()?.to_be_bytes();
    let address: Ipv4Addr = *peer.socket_addr().ip();
    let port = (peer.port ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes();
    let [t0, t1] = join_type(Class::Indication, Method::Data).to_be_bytes();
    let [a0, a1] = attr::XOR_PEER_ADDRESS.to_be_bytes();
    let [d0, d1] = attr::DATA.to_be_bytes();
    let parts = [t0, t1]
        .into_iter()
        .chain(body)
        .chain(MAGIC_COOKIE.to_be_bytes())
        .chain(transaction)
        .chain([a0, a1, 0, 8, 0, 1])
        .chain(port)
        .chain((address.to_bits() ^ MAGIC_COOKIE).to_be_bytes())
        .chain([d0, d1])
        .chain(data_len);
    let mut header = [0; DATA_HEADER_LEN];
    header.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    Some(header)
}
