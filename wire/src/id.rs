//! Names of things: PoP, bucket, call, leg, allocation, and the virtual address of an allocation.
//!
//! Decides their width, their text form and which values exist. Leaves drawing them (randomness) to the caller.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text::Text;

/// Crockford base32, lower case: no `i`, `l`, `o`, `u`.
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// What each byte is worth as a digit; [`NO_DIGIT`]: nothing.
const CROCKFORD_VALUES: [u8; 256] = crockford_values();
const NO_DIGIT: u8 = u8::MAX;
/// 128 bits in groups of five: 25 whole groups and three bits more.
const CALL_ID_DIGITS: usize = 26;
const CALL_ID_PREFIX: &str = "call_";
/// Characters of a call id.
pub const CALL_ID_LEN: usize = CALL_ID_PREFIX.len() + CALL_ID_DIGITS;

/// First three octets of every virtual address: 203.0.113.0/24, TEST-NET-3 (RFC 5737), never routed.
pub const VIRTUAL_PREFIX: [u8; 3] = [203, 0, 113];
/// Port of leg *n* is this plus *n*; libwebrtc refuses relayed ports below 1024.
pub const VIRTUAL_PORT_BASE: u16 = 1024;
/// The address that names every other leg of the call.
pub const GROUP_ADDR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 254), 65_535);

#[allow(clippy::indexing_slicing, reason = "done while compiling: a wrong index would not compile")]
const fn crockford_values() -> [u8; 256] {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < CROCKFORD.len() {
        values[CROCKFORD[value] as usize] = value as u8;
        value += 1;
    }
    values
}

/// Why a text is not an id. `Copy`, no heap: it is made on the packet path too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The prefix that says which kind of id this is does not stand there.
    #[error("the id does not start with its prefix")]
    Prefix,
    /// Too short or too long.
    #[error("the id has the wrong length")]
    Length,
    /// A character outside lower-case Crockford base32 or hexadecimal.
    #[error("the id holds a character that no id holds")]
    Digit,
    /// The digits are fine, the value does not exist (for example leg 0).
    #[error("the id is out of range")]
    Range,
}

/// A point of presence: one failure domain with its own store, 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PopId(pub u16);

/// The unit of steering, ownership, prefetch and watch, 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BucketId(pub u16);

/// One relay of a PoP, as the membership record names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelayId(pub u16);

impl fmt::Display for PopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pop_{:04x}", self.0)
    }
}

impl fmt::Display for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relay_{:04x}", self.0)
    }
}

/// A call: 16 bits PoP, 16 bits bucket, 96 random bits.
///
/// Text is `call_` and 26 digits of lower-case Crockford base32, which sorts as the number does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u128);

impl CallId {
    /// Puts a call id together; `random` gives its lower 96 bits, the rest of it is ignored.
    #[must_use]
    pub const fn new(pop: PopId, bucket: BucketId, random: u128) -> Self {
        let tail = random & ((1 << 96) - 1);
        Self(((pop.0 as u128) << 112) | ((bucket.0 as u128) << 96) | tail)
    }

    /// From the 128 bits themselves.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits themselves.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The PoP that the call lives in.
    #[must_use]
    pub const fn pop(self) -> PopId {
        PopId((self.0 >> 112) as u16)
    }

    /// The bucket that the call lives in.
    #[must_use]
    pub const fn bucket(self) -> BucketId {
        BucketId((self.0 >> 96) as u16)
    }

    /// Writes it behind what stands there: [`CALL_ID_LEN`] characters.
    pub fn write<const N: usize>(self, text: &mut Text<N>) {
        text.str(CALL_ID_PREFIX);
        for group in (0..CALL_ID_DIGITS).rev() {
            let index = ((self.0 >> (group * 5)) & 31) as usize;
            text.byte(CROCKFORD.get(index).copied().unwrap_or(b'0'));
        }
    }

    /// The lower 96 bits, big-endian: what a ticket hides.
    #[must_use]
    pub fn random_bytes(self) -> [u8; 12] {
        let all = self.0.to_be_bytes();
        let mut tail = [0; 12];
        for (to, from) in tail.iter_mut().zip(all.iter().skip(4)) {
            *to = *from;
        }
        tail
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text::<CALL_ID_LEN>::default();
        self.write(&mut text);
        f.write_str(text.as_str())
    }
}

/// In logs a call shows its bucket and its last 20 bits: enough to find it, too little to name it to a stranger.
impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call[{:04x}…{:05x}]", self.bucket().0, self.0 & 0xf_ffff)
    }
}

impl FromStr for CallId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix(CALL_ID_PREFIX).ok_or(IdError::Prefix)?;
        if digits.len() != CALL_ID_DIGITS {
            return Err(IdError::Length);
        }
        let mut bits: u128 = 0;
        for (position, digit) in digits.bytes().enumerate() {
            let value = CROCKFORD_VALUES.get(usize::from(digit)).copied().unwrap_or(NO_DIGIT);
            if value == NO_DIGIT {
                return Err(IdError::Digit);
            }
            // 26 digits hold 130 bits: the first one has room for three.
            if position == 0 && value > 7 {
                return Err(IdError::Range);
            }
            bits = (bits << 5) | u128::from(value);
        }
        Ok(Self(bits))
    }
}

impl Serialize for CallId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A point in the history of a PoP's store: every change has its own, and later changes have higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Before everything: what was never written has this one.
    pub const ZERO: Self = Self(0);
}

/// A device in a call: 1..=64,000, given in order of arrival, never reused in the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LegId(u16);

impl LegId {
    /// The highest leg number: its port 65,024 still leaves the group's 65,535 alone.
    pub const MAX: u16 = 64_000;

    /// Leg *n*, if there can be one.
    ///
    /// # Errors
    /// [`IdError::Range`] for 0 and for anything over [`LegId::MAX`].
    pub const fn new(number: u16) -> Result<Self, IdError> {
        if number == 0 || number > Self::MAX { Err(IdError::Range) } else { Ok(Self(number)) }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for LegId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u16::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// One allocation of a leg: the last octet of its virtual address, 1..=250.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AllocationId(u8);

impl AllocationId {
    /// The highest octet an allocation gets; 251..=253 are spare and 254 is the group.
    pub const MAX: u8 = 250;

    /// Allocation *a*, if there can be one.
    ///
    /// # Errors
    /// [`IdError::Range`] for 0 and for anything over [`AllocationId::MAX`].
    pub const fn new(octet: u8) -> Result<Self, IdError> {
        if octet == 0 || octet > Self::MAX { Err(IdError::Range) } else { Ok(Self(octet)) }
    }

    /// The octet itself.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl<'de> Deserialize<'de> for AllocationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u8::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// An address inside the virtual prefix, as a client may name it: a note, not a promise that anyone is there.
///
/// Any octet and any port stand for themselves, so that a channel bound to an address that no leg has yet, or never
/// will have, is kept as it was asked for (protocol.md: "they are notes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddr {
    /// Last octet: the allocation, where one exists.
    pub octet: u8,
    /// Port: 1024 plus the leg, where one exists.
    pub port: u16,
}

impl VirtualAddr {
    /// The address of allocation *a* of leg *n*.
    #[must_use]
    pub const fn of(leg: LegId, allocation: AllocationId) -> Self {
        // 1024 + 64,000 fits: `LegId` cannot be larger.
        Self { octet: allocation.get(), port: VIRTUAL_PORT_BASE + leg.get() }
    }

    /// Reads a peer address; `None` when it lies outside the virtual prefix or is not IPv4.
    ///
    /// IPv4 hidden in IPv6 is outside: there is no form in which it would be needed.
    #[must_use]
    pub const fn from_peer(peer: SocketAddr) -> Option<Self> {
        match peer {
            SocketAddr::V4(v4) => {
                let [a, b, c, octet] = v4.ip().octets();
                if a == VIRTUAL_PREFIX[0] && b == VIRTUAL_PREFIX[1] && c == VIRTUAL_PREFIX[2] {
                    Some(Self { octet, port: v4.port() })
                } else {
                    None
                }
            }
            SocketAddr::V6(_) => None,
        }
    }

    /// As a socket address, for XOR-RELAYED-ADDRESS and XOR-PEER-ADDRESS.
    #[must_use]
    pub const fn socket_addr(self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(VIRTUAL_PREFIX[0], VIRTUAL_PREFIX[1], VIRTUAL_PREFIX[2], self.octet), self.port)
    }

    /// The leg and the allocation that this address can stand for, if it can stand for any.
    #[must_use]
    pub const fn allocation(self) -> Option<(LegId, AllocationId)> {
        match (LegId::new(self.port.wrapping_sub(VIRTUAL_PORT_BASE)), AllocationId::new(self.octet)) {
            (Ok(leg), Ok(allocation)) if self.port > VIRTUAL_PORT_BASE => Some((leg, allocation)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_id_has_these_golden_characters() {
        let id = CallId::new(PopId(0x0001), BucketId(0xabcd), 0x0123_4567_89ab_cdef_0011_2233);
        assert_eq!(id.to_string(), "call_0006nwt0938nkrkaydxw0128hk");
        assert_eq!(id.pop(), PopId(1));
        assert_eq!(id.bucket(), BucketId(0xabcd));
    }

    #[test]
    fn the_debug_form_of_a_call_does_not_name_it() {
        let id = CallId::from_bits(u128::MAX);
        assert_eq!(format!("{id:?}"), "call[ffff…fffff]");
    }

    #[test]
    fn text_that_is_no_call_id_says_why() {
        let good = CallId::from_bits(7).to_string();
        assert_eq!("dev_1".parse::<CallId>(), Err(IdError::Prefix));
        assert_eq!(good[..30].parse::<CallId>(), Err(IdError::Length));
        assert_eq!(good.replace('7', "u").parse::<CallId>(), Err(IdError::Digit));
        assert_eq!(good.to_uppercase().parse::<CallId>(), Err(IdError::Prefix));
        assert_eq!(good.replacen("call_0", "call_8", 1).parse::<CallId>(), Err(IdError::Range));
    }

    #[test]
    fn the_group_address_and_its_neighbours_stand_for_no_allocation() {
        for (octet, port) in [(254, 65_535), (0, 1025), (251, 1025), (1, 1024), (1, 80), (1, 65_025)] {
            assert_eq!(VirtualAddr { octet, port }.allocation(), None, "{octet}:{port}");
        }
    }

    #[test]
    fn an_address_outside_the_prefix_is_no_peer() {
        for text in
            ["203.0.112.255:1025", "203.0.114.0:1025", "127.0.0.1:1025", "[::ffff:203.0.113.1]:1025", "[::1]:1025"]
        {
            assert_eq!(VirtualAddr::from_peer(text.parse().unwrap()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_call_id_survives_its_text(bits: u128) {
            let id = CallId::from_bits(bits);
            prop_assert_eq!(id.to_string().parse::<CallId>(), Ok(id));
            prop_assert_eq!(CallId::new(id.pop(), id.bucket(), bits), id);
        }

        #[test]
        fn every_allocation_has_its_own_address(leg in 1..=LegId::MAX, octet in 1..=AllocationId::MAX) {
            let (leg, allocation) = (LegId::new(leg).unwrap(), AllocationId::new(octet).unwrap());
            let address = VirtualAddr::of(leg, allocation);
            prop_assert_eq!(address.allocation(), Some((leg, allocation)));
            prop_assert_eq!(VirtualAddr::from_peer(address.socket_addr().into()), Some(address));
        }

        #[test]
        fn no_text_panics_the_parser(text in "\\PC{0,40}") {
            let _ = text.parse::<CallId>();
        }
    }
}
