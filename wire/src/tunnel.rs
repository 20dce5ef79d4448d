//! The tunnel between load balancer and relay: a head before each packet of a client, and the probes that go the same way.
//!
//! Decides the bytes (protocol.md, "LB and relay"). Leaves to `tandem-core` where a packet is steered and what a probe
//! means, and to the relay whether it believes a head: one with a wrong cookie is nobody's.
//!
//! ```text
//!  0        1       2          3      4           8        10          28         36
//!  | magic  | flags | listener | hops | epoch u32 | bucket | client 18 | cookie u64 | the packet as it came
//! ```
//!
//! All numbers are big-endian. `client` is 16 bytes of address (IPv4 mapped) and 2 of port.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::BucketId;
use crate::redact::ClientAddr;

/// Bytes of a head.
pub const HEAD_LEN: usize = 36;
/// Bytes of what a probe carries behind its head.
pub const PROBE_LEN: usize = 24;
/// The first byte of every head. No STUN message (0 to 3) nor ChannelData (64 to 127) starts so (RFC 7983, with all of RFC
/// 5766's channels): what a client sends to the TURN port is never taken for a head.
pub const MAGIC: u8 = 0xf5;

/// From the relay, back to the client.
const RETURN: u8 = 1;
/// The load balancer takes the relay for the owner of the bucket.
const ACTING: u8 = 2;
/// The client came over TCP or TLS.
const TCP: u8 = 4;
/// Not a packet: a probe, or its echo.
const PROBE: u8 = 8;
/// The relay is about to go, or is being drained: it wants no more.
const LEAVING: u8 = 16;
/// The client has proved to be a leg of this bucket.
const PROVEN: u8 = 32;
/// In a probe: the relay is taken for down, though it answers well.
const DOWN: u8 = 64;
const KNOWN: u8 = RETURN | ACTING | TCP | PROBE | LEAVING | PROVEN | DOWN;

/// What a relay is known by to the load balancers of its PoP: random, drawn when it starts. It prints as `cookie[…]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cookie(u64);

impl Cookie {
    /// From random bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cookie[…]")
    }
}

impl Serialize for Cookie {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Cookie {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Digits alone: the standard library would take a sign.
        let digits = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let bits = digits.then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        bits.map(Self).ok_or_else(|| de::Error::custom("a cookie is 16 hexadecimal digits"))
    }
}

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// From the relay to the client; otherwise to the relay.
    pub back: bool,
    /// Whether the load balancer takes the relay for the bucket's owner though the table names another one first.
    pub acting: bool,
    /// The client came over TCP or TLS.
    pub tcp: bool,
    /// A probe, or its echo, and no packet.
    pub probe: bool,
    /// The relay wants no more: it is being drained, or it is about to end.
    pub leaving: bool,
    /// On the way back: this client has proved to be a leg of a call in this bucket.
    pub proven: bool,
    /// In a probe: the load balancer takes the relay for down, and has had good echoes of it for a while: only a new table
    /// brings it back.
    pub down: bool,
    /// Which of the load balancer's addresses the client spoke to, by its number there.
    pub listener: u8,
    /// How often the packet was passed on between relays.
    pub hops: u8,
    /// Of the table that the sender went by.
    pub epoch: u32,
    /// The bucket that it was steered by, or proved for.
    pub bucket: BucketId,
    /// The client's address as the load balancer sees it.
    pub client: ClientAddr,
    /// The relay's.
    pub cookie: Cookie,
}

/// Bytes that are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// Too short, or another first byte.
    #[error("not a head of the tunnel")]
    NoHead,
    /// It has a flag that this version does not know: it could mean anything.
    #[error("a head with unknown flags")]
    UnknownFlag,
}

impl Head {
    /// The head of a packet from `client` for the relay with this cookie; all else is zero.
    #[must_use]
    pub const fn to_relay(client: ClientAddr, bucket: BucketId, epoch: u32, cookie: Cookie) -> Self {
        Self {
            back: false,
            acting: false,
            tcp: false,
            probe: false,
            leaving: false,
            proven: false,
            down: false,
            listener: 0,
            hops: 0,
            epoch,
            bucket,
            client,
            cookie,
        }
    }

    /// The head as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEAD_LEN] {
        let flags = [
            (self.back, RETURN),
            (self.acting, ACTING),
            (self.tcp, TCP),
            (self.probe, PROBE),
            (self.leaving, LEAVING),
            (self.proven, PROVEN),
            (self.down, DOWN),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
        let [b0, b1] = self.bucket.0.to_be_bytes();
        let [e0, e1, e2, e3] = self.epoch.to_be_bytes();
        let mut bytes = [0; HEAD_LEN];
        let fixed = [MAGIC, flags, self.listener, self.hops, e0, e1, e2, e3, b0, b1];
        let all = fixed.into_iter().chain(self.client.key()).chain(self.cookie.0.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = from;
        }
        bytes
    }

    /// Reads the head of `bytes` and gives what stands behind it.
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), TunnelError> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>().ok_or(TunnelError::NoHead)?;
        let [MAGIC, flags, listener, hops, e0, e1, e2, e3, b0, b1, tail @ ..] = *head else {
            return Err(TunnelError::NoHead);
        };
        if flags & !KNOWN != 0 {
            return Err(TunnelError::UnknownFlag);
        }
        let (client, cookie) = tail.split_first_chunk::<18>().ok_or(TunnelError::NoHead)?;
        let cookie: [u8; 8] = cookie.try_into().map_err(|_| TunnelError::NoHead)?;
        let [address @ .., p0, p1] = *client;
        let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::from_octets(address)), u16::from_be_bytes([p0, p1]));
        let has = |flag| flags & flag != 0;
        let head = Self {
            back: has(RETURN),
            acting: has(ACTING),
            tcp: has(TCP),
            probe: has(PROBE),
            leaving: has(LEAVING),
            proven: has(PROVEN),
            down: has(DOWN),
            listener,
            hops,
            epoch: u32::from_be_bytes([e0, e1, e2, e3]),
            bucket: BucketId(u16::from_be_bytes([b0, b1])),
            client: ClientAddr::new(address),
            cookie: Cookie(u64::from_be_bytes(cookie)),
        };
        Ok((head, rest))
    }
}

/// What a probe carries, and its echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probe {
    /// The load balancer's own: it comes back as it went.
    pub stamp: u64,
    /// In an echo: which run of the relay this is.
    pub incarnation: u64,
    /// In an echo: how much of itself the relay has in use, in thousandths.
    pub load: u16,
}

impl Probe {
    /// As bytes; the last six are zero.
    #[must_use]
    pub fn to_bytes(self) -> [u8; PROBE_LEN] {
        let mut bytes = [0; PROBE_LEN];
        let all =
            self.stamp.to_be_bytes().into_iter().chain(self.incarnation.to_be_bytes()).chain(self.load.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = from;
        }
        bytes
    }

    /// Reads one. What follows its known part is for later versions.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (stamp, rest) = bytes.split_first_chunk()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        let (load, _) = rest.split_first_chunk()?;
        let [stamp, incarnation] = [stamp, incarnation].map(|bytes| u64::from_be_bytes(*bytes));
        Some(Self { stamp, incarnation, load: u16::from_be_bytes(*load) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> Head {
        let client = ClientAddr::new("192.0.2.7:50000".parse().unwrap());
        Head::to_relay(client, BucketId(0xabcd), 7, Cookie::from_bits(0x0102_0304_0506_0708))
    }

    #[test]
    fn a_head_has_these_golden_bytes() {
        let golden = [
            &[0xf5, 0, 0, 0, 0, 0, 0, 7, 0xab, 0xcd][..],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7, 0xc3, 0x50],
            &[1, 2, 3, 4, 5, 6, 7, 8],
        ];
        assert_eq!(head().to_bytes()[..], golden.concat());
        let back = Head {
            back: true,
            acting: true,
            tcp: true,
            probe: true,
            leaving: true,
            proven: true,
            down: true,
            ..head()
        };
        assert_eq!(back.to_bytes()[1], 0b111_1111);
        let packet = [&head().to_bytes()[..], b"packet"].concat();
        assert_eq!(Head::read(&packet), Ok((head(), &b"packet"[..])));
    }

    #[test]
    fn a_probe_has_these_golden_bytes() {
        let probe = Probe { stamp: 1, incarnation: 2, load: 3 };
        assert_eq!(probe.to_bytes(), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Probe::read(&probe.to_bytes()), Some(probe));
        assert_eq!(Probe::read(&probe.to_bytes()[..17]), None);
    }

    #[test]
    fn what_is_short_or_strange_is_no_head() {
        let bytes = head().to_bytes();
        for len in 0..HEAD_LEN {
            assert_eq!(Head::read(&bytes[..len]), Err(TunnelError::NoHead));
        }
        let mut other = bytes;
        other[0] = 0;
        assert_eq!(Head::read(&other), Err(TunnelError::NoHead));
        let mut other = bytes;
        other[1] |= 128;
        assert_eq!(Head::read(&other), Err(TunnelError::UnknownFlag));
    }

    #[test]
    fn a_cookie_is_16_digits_and_does_not_print_itself() {
        let cookie = Cookie::from_bits(0xab);
        assert_eq!(serde_json::to_string(&cookie).unwrap(), "\"00000000000000ab\"");
        assert_eq!(serde_json::from_str::<Cookie>("\"00000000000000ab\"").unwrap(), cookie);
        for bad in ["\"ab\"", "\"+0000000000000ab\"", "\"00000000000000ag\"", "171"] {
            assert!(serde_json::from_str::<Cookie>(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", head().cookie), "cookie[…]");
    }

    proptest! {
        #[test]
        fn whatever_is_read_as_a_head_is_written_as_it_was(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let [first, second, ..] = &mut bytes[..] {
                (*first, *second) = (MAGIC, *second & KNOWN);
            }
            if let Ok((head, rest)) = Head::read(&bytes) {
                prop_assert_eq!([&head.to_bytes()[..], rest].concat(), bytes);
            }
        }
    }
}
