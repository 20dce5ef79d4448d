//! Who may connect: a list of networks.
//!
//! Decides how a network is written and what lies inside it. A list that does not read is an error, never an empty or a
//! shorter list (attack R09).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// The part before `/` is no address.
    #[error("not a network address (as in 10.0.0.0/8)")]
    Address,
    /// The part after `/` is no number of bits of such an address.
    #[error("the prefix length is not a number from 0 to 32 (IPv4) or 128 (IPv6)")]
    Prefix,
    /// The address has bits behind the prefix: which network is meant?
    #[error("the address has bits set behind its prefix")]
    HostBits,
}

impl Network {
    /// Whether `address` lies inside. IPv4 mapped into IPv6 is the IPv4 that it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => same_v4(net, address, self.prefix),
            (IpAddr::V6(net), IpAddr::V6(address)) => same_v6(net, address, self.prefix),
            _ => false,
        }
    }
}

fn same_v4(a: Ipv4Addr, b: Ipv4Addr, prefix: u8) -> bool {
    (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(prefix)
}

fn same_v6(a: Ipv6Addr, b: Ipv6Addr, prefix: u8) -> bool {
    (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(prefix)
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork::Address)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            // `u8::from_str` takes "+8" too.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= bits).ok_or(BadNetwork::Prefix)?
            }
            Some(_) => return Err(BadNetwork::Prefix),
        };
        let clean = match address {
            IpAddr::V4(v4) => prefix == 32 || v4.to_bits() << prefix == 0,
            IpAddr::V6(v6) => prefix == 128 || v6.to_bits() << prefix == 0,
        };
        if clean { Ok(Self { address, prefix }) } else { Err(BadNetwork::HostBits) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Networks from which connections are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// These and no others. An empty list lets nobody in.
    #[must_use]
    pub const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Everybody.
    #[must_use]
    pub fn everywhere() -> Self {
        Self(vec![
            Network { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 },
            Network { address: Ipv6Addr::UNSPECIFIED.into(), prefix: 0 },
        ])
    }

    /// This machine only.
    #[must_use]
    pub fn loopback() -> Self {
        Self(vec![
            Network { address: Ipv4Addr::new(127, 0, 0, 0).into(), prefix: 8 },
            Network { address: Ipv6Addr::LOCALHOST.into(), prefix: 128 },
        ])
    }

    /// Whether `address` may connect.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The networks themselves.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_that_does_not_read_is_refused() {
        for (text, error) in [
            ("10.0.0.0/33", BadNetwork::Prefix),
            ("10.0.0.0-", BadNetwork::Address),
            ("10.0.0.0/", BadNetwork::Prefix),
            ("10.0.0.0/+8", BadNetwork::Prefix),
            ("10.0.0.0/8 ", BadNetwork::Prefix),
            ("", BadNetwork::Address),
            ("10.0.0.1/8", BadNetwork::HostBits),
            ("fd00::/129", BadNetwork::Prefix),
            ("fd00::1/64", BadNetwork::HostBits),
            ("010.0.0.0/8", BadNetwork::Address),
            ("1.0.0.0/0", BadNetwork::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_lies_inside_a_network_is_decided_by_its_first_bits() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(network("10.0.0.0/8").contains(ip("10.255.0.1")));
        assert!(network("10.0.0.0/8").contains(ip("::ffff:10.1.2.3")));
        assert!(!network("10.0.0.0/8").contains(ip("11.0.0.0")));
        assert!(network("0.0.0.0/0").contains(ip("192.0.2.1")));
        assert!(!network("0.0.0.0/0").contains(ip("2001:db8::1")));
        assert!(network("192.0.2.7").contains(ip("192.0.2.7")) && !network("192.0.2.7").contains(ip("192.0.2.6")));
        assert!(network("2001:db8::/32").contains(ip("2001:db8:1::")) && !network("::/0").contains(ip("1.2.3.4")));
        assert!(Networks::loopback().contain(ip("127.0.0.2")) && Networks::loopback().contain(ip("::1")));
        assert!(!Networks::loopback().contain(ip("192.0.2.1")) && !Networks::new(vec![]).contain(ip("127.0.0.1")));
    }
}
