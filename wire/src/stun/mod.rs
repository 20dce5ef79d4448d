//! STUN and TURN messages (RFC 8489, RFC 8656), as far as a closed-world TURN server needs them.
//!
//! Decides what is a message, which of its attributes count, and how an answer is written byte for byte. Leaves to
//! `tandem-core` what an answer says and whether there is one.
//!
//! Our own, small codec (decision 0002): reading allocates nothing, and the writer has exact control of order and size,
//! which the 64-byte answers of protocol.md need.

mod read;
mod write;

pub use read::{Attributes, Message, PeerAddresses};
pub use write::{DATA_HEADER_LEN, Writer, data_header};

/// First bytes of the body of every message (RFC 8489 section 5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;
/// Length of the header.
pub const HEADER_LEN: usize = 20;
/// Length of the ChannelData header (RFC 8656 section 12.4).
pub const CHANNEL_HEADER_LEN: usize = 4;
/// XORed into the CRC-32 of FINGERPRINT (RFC 8489 section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// Identifies a transaction: 96 bits that the client drew.
pub type TransactionId = [u8; 12];

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wants an answer. The only class that ever gets one.
    Request,
    /// Wants none.
    Indication,
    /// A good answer.
    Success,
    /// A bad one.
    Error,
}

/// What a message is about. Only those that a relay has rules for are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Where do you see me?
    Binding,
    /// Give me a relayed address.
    Allocate,
    /// Keep it, or end it.
    Refresh,
    /// Client to peer, without a channel.
    Send,
    /// Peer to client, without a channel.
    Data,
    /// Note that I shall hear from this peer.
    CreatePermission,
    /// Bind a channel to this peer.
    ChannelBind,
    /// Anything else, by number.
    Other(u16),
}

impl Method {
    /// From the 12 bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        match bits {
            0x001 => Self::Binding,
            0x003 => Self::Allocate,
            0x004 => Self::Refresh,
            0x006 => Self::Send,
            0x007 => Self::Data,
            0x008 => Self::CreatePermission,
            0x009 => Self::ChannelBind,
            other => Self::Other(other),
        }
    }

    /// The 12 bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        match self {
            Self::Binding => 0x001,
            Self::Allocate => 0x003,
            Self::Refresh => 0x004,
            Self::Send => 0x006,
            Self::Data => 0x007,
            Self::CreatePermission => 0x008,
            Self::ChannelBind => 0x009,
            Self::Other(other) => other & 0x0fff,
        }
    }
}

/// The class in bits 4 and 8 of the type, the method in the twelve around them (RFC 8489 figure 3).
const fn split_type(bits: u16) -> (Class, Method) {
    let class = match ((bits >> 7) & 2) | ((bits >> 4) & 1) {
        0 => Class::Request,
        1 => Class::Indication,
        2 => Class::Success,
        _ => Class::Error,
    };
    (class, Method::from_bits((bits & 0xf) | ((bits >> 1) & 0x70) | ((bits >> 2) & 0xf80)))
}

/// The other way round.
const fn join_type(class: Class, method: Method) -> u16 {
    let method = method.bits();
    let class: u16 = match class {
        Class::Request => 0,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    (method & 0xf) | ((method & 0x70) << 1) | ((method & 0xf80) << 2) | class
}

/// Attribute types (RFC 8489 section 18.3, RFC 8656 section 18).
pub mod attr {
    /// Whose password signs the message.
    pub const USERNAME: u16 = 0x0006;
    /// HMAC-SHA1 over everything before it.
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    /// What went wrong.
    pub const ERROR_CODE: u16 = 0x0009;
    /// Which attributes were not understood.
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    /// The channel to bind.
    pub const CHANNEL_NUMBER: u16 = 0x000C;
    /// How long an allocation lives, in seconds.
    pub const LIFETIME: u16 = 0x000D;
    /// Whom it is for, or from.
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    /// What is carried.
    pub const DATA: u16 = 0x0013;
    /// The protection domain.
    pub const REALM: u16 = 0x0014;
    /// What makes a signed request fresh.
    pub const NONCE: u16 = 0x0015;
    /// The address that peers reach the client by.
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    /// IPv4 or IPv6.
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    /// An even port, and perhaps the next one too.
    pub const EVEN_PORT: u16 = 0x0018;
    /// UDP or TCP between relay and peer.
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    /// Set the DF bit.
    pub const DONT_FRAGMENT: u16 = 0x001A;
    /// HMAC-SHA256, which we never offer.
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    /// Where the server sees the client.
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    /// The port that EVEN-PORT set aside.
    pub const RESERVATION_TOKEN: u16 = 0x0022;
    /// CRC-32 over everything before it.
    pub const FINGERPRINT: u16 = 0x8028;

    /// Types under this must be understood or refused (RFC 8489 section 14).
    pub const COMPREHENSION_OPTIONAL: u16 = 0x8000;
}

/// Why bytes are no message. They are dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Shorter than a header, or than its own length says.
    #[error("the message is cut short")]
    Truncated,
    /// The first two bits are not zero, or the magic cookie is not there.
    #[error("not a STUN message")]
    NotStun,
    /// The length is not a multiple of four, or not the length of the datagram.
    #[error("the message has the wrong length")]
    Length,
    /// An attribute reaches over the end, or has the wrong size for its type.
    #[error("an attribute has the wrong length")]
    Attribute,
    /// An address is of no known family.
    #[error("an address has no known family")]
    Family,
    /// FINGERPRINT is wrong, or not last.
    #[error("the fingerprint does not match")]
    Fingerprint,
    /// What is written does not fit the buffer.
    #[error("the buffer is too small")]
    Space,
}

/// A ChannelData message: its channel and the length of its payload, or `None` if the datagram is shorter than it says.
///
/// Over UDP the message may be padded to a multiple of four (RFC 8656 section 12.5); what else follows is ignored.
#[must_use]
pub fn channel_data(datagram: &[u8]) -> Option<(u16, usize)> {
    let ([c0, c1, l0, l1], rest) = datagram.split_first_chunk::<CHANNEL_HEADER_LEN>()?;
    let len = usize::from(u16::from_be_bytes([*l0, *l1]));
    if len > rest.len() { None } else { Some((u16::from_be_bytes([*c0, *c1]), len)) }
}

#[cfg(test)]
mod tests;
