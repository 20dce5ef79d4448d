//! What must not be printed: client addresses and secrets.
//!
//! Decides that their `Debug` says nothing and that they have no `Display`. Leaves it to the owner to ask for the value
//! by name, where a reviewer sees it.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use zeroize::Zeroizing;

/// The network address of a client. It prints as `addr[…]`; ask for [`ClientAddr::socket_addr`] to use it.
///
/// IPv4 mapped into IPv6 is stored as the IPv4 it is, so one client has one name whatever socket it came in on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientAddr(SocketAddr);

impl ClientAddr {
    /// Takes an address as the socket gave it.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The address itself.
    #[must_use]
    pub const fn socket_addr(self) -> SocketAddr {
        self.0
    }

    /// 16 bytes of address (IPv4 mapped) and 2 of port: a key of fixed size.
    #[must_use]
    pub fn key(self) -> [u8; 18] {
        let ip = match self.0.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mut key = [0; 18];
        for (to, from) in key.iter_mut().zip(ip.iter().chain(self.0.port().to_be_bytes().iter())) {
            *to = *from;
        }
        key
    }
}

impl fmt::Debug for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("addr[…]")
    }
}

/// Secret bytes: wiped when dropped, printed as `secret[…]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that computes with them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secret[…]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_addresses_nor_secrets_print_themselves() {
        let address = ClientAddr::new("192.0.2.77:4242".parse().unwrap());
        let secret = Secret::new(b"canary-secret".to_vec());
        let printed = format!("{address:?} {secret:?} {:?}", Some((address, &secret)));
        assert!(!printed.contains("192.0.2") && !printed.contains("4242") && !printed.contains("canary"), "{printed}");
    }

    #[test]
    fn a_mapped_address_and_its_ipv4_are_one_client() {
        let mapped = ClientAddr::new("[::ffff:192.0.2.1]:9".parse().unwrap());
        let plain = ClientAddr::new("192.0.2.1:9".parse().unwrap());
        assert_eq!(mapped, plain);
        assert_eq!(mapped.key(), plain.key());
    }
}
