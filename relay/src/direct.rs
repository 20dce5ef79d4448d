//! Direct return: what goes to clients past the load balancer, from the public address that each of them speaks to.
//!
//! Decides which packets go so: those for a client that was heard to speak to one of these addresses, in this epoch of the
//! table. All others, and whatever proves a client, go through the load balancer, which is right about every one (docs/fleet.md).
//! Leaves to `net` the sockets, which send and hear nobody.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tandem_core::limits::LISTENERS;
use tandem_core::switch::{Egress, Listener};
use tandem_core::topology::Transport;
use tandem_net::socket::Socket;
use tandem_wire::tunnel::Head;
use tandem_wire::units::Total;

/// Addresses that nothing can be returned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectError {
    /// More than a load balancer has.
    #[error("a load balancer has at most {LISTENERS} public addresses")]
    TooMany,
    /// A wildcard, an address of a group or of one link, IPv4 written as IPv6, or no port.
    #[error("number {0} is not an address and a port that clients can speak to")]
    NotPublic(usize),
    /// It stands there twice: a load balancer gives each address one number.
    #[error("number {0} stands there twice")]
    Twice(usize),
    /// It is the tunnel's.
    #[error("number {0} is the tunnel's own address")]
    Tunnel(usize),
    /// No interface has it.
    #[error("number {0} is not an address of this machine (it belongs on lo)")]
    NotHere(usize),
}

/// Whether these can be the public addresses of a load balancer, in the order of its listeners, beside this tunnel.
///
/// # Errors
/// What is wrong with the first that cannot.
pub(crate) fn check(addresses: &[SocketAddr], tunnel: SocketAddr) -> Result<(), DirectError> {
    if addresses.len() > LISTENERS {
        return Err(DirectError::TooMany);
    }
    for (number, address) in addresses.iter().enumerate() {
        if address.port() == 0 || !is_public(address.ip()) {
            return Err(DirectError::NotPublic(number));
        }
        if addresses.iter().take(number).any(|other| other == address) {
            return Err(DirectError::Twice(number));
        }
        if *address == tunnel {
            return Err(DirectError::Tunnel(number));
        }
    }
    Ok(())
}

/// Whether this machine has them all, without binding their ports.
///
/// # Errors
/// [`DirectError::NotHere`] for the first that it has not.
pub(crate) fn are_here(addresses: &[SocketAddr]) -> Result<(), DirectError> {
    match addresses.iter().position(|address| Socket::bind((address.ip(), 0).into()).is_err()) {
        Some(number) => Err(DirectError::NotHere(number)),
        None => Ok(()),
    }
}

fn is_public(ip: IpAddr) -> bool {
    let one_link = match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    !(ip.is_unspecified() || ip.is_multicast() || one_link)
}

/// Counted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Packets for clients that went past the load balancer.
    pub(crate) sent: Total,
    /// Packets of clients that its sockets took from a load balancer on this machine while they were made.
    pub(crate) drained: Total,
}

/// The public addresses, to send from. Without any, everything goes through the load balancer.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    /// In the order of the load balancer's listeners.
    sockets: Vec<Socket>,
    /// The newest epoch that anybody has told us of since we have this table.
    epoch: u32,
    /// Of the table that we have.
    own: u32,
    pub(crate) counters: Counters,
}

impl Direct {
    /// Opens a socket for each address.
    ///
    /// # Errors
    /// What the system says of the first that cannot be had.
    pub(crate) fn open(addresses: &[SocketAddr]) -> io::Result<Self> {
        let mut direct = Self::default();
        for address in addresses {
            let (socket, drained) = Socket::bind_to_send(*address)?;
            direct.sockets.push(socket);
            direct.counters.drained += drained;
        }
        Ok(direct)
    }

    /// Its sockets, which are numbered in this order from 1: 0 is the tunnel.
    pub(crate) fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// Takes in what a head says: a load balancer's tells of a new table before we have it. Gives where its client spoke to,
    /// whether or not that is one of ours.
    ///
    /// A relay that passes a packet on leaves the number as the load balancer wrote it.
    pub(crate) fn heard(&mut self, head: &Head, own_epoch: u32) -> Option<Listener> {
        // Epochs begin anew with a store that was wiped: what was known by an earlier table is void, whatever its number.
        if own_epoch != self.own {
            (self.own, self.epoch) = (own_epoch, own_epoch);
        }
        let told = if head.hops == 0 { head.epoch } else { 0 };
        self.epoch = self.epoch.max(told);
        // What comes over TCP ends at the load balancer.
        (!head.tcp).then_some(Listener { number: head.listener, epoch: self.epoch })
    }

    /// By which socket something goes to its client; `None`: through the load balancer.
    pub(crate) fn way(&mut self, to: Egress) -> Option<u16> {
        let number = to.listener().filter(|listener| listener.epoch == self.epoch)?.number;
        let socket = self.sockets.get(usize::from(number))?;
        let same_family = socket.local_addr().is_ipv4() == to.client().socket_addr().is_ipv4();
        if !same_family || !matches!(to.transport(), Transport::Udp) {
            return None;
        }
        self.counters.sent += 1;
        Some(u16::from(number) + 1)
    }
}

#[cfg(test)]
mod tests {
    use tandem_core::switch::Source;
    use tandem_wire::id::BucketId;
    use tandem_wire::redact::ClientAddr;
    use tandem_wire::tunnel::Cookie;

    use super::*;

    fn at(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_addresses_that_a_load_balancer_may_have_are_taken() {
        let tunnel = "10.0.0.7:7100".parse().unwrap();
        let good: Vec<String> = (1..=8).map(|n| format!("192.0.2.{n}:3478")).collect();
        let good: Vec<&str> = good.iter().map(String::as_str).collect();
        assert_eq!(check(&at(&good), tunnel), Ok(()));
        assert_eq!(check(&at(&["192.0.2.1:3478", "192.0.2.1:3479", "[2001:db8::1]:3478"]), tunnel), Ok(()));
        assert_eq!(check(&[], tunnel), Ok(()));
        let nine = [&good[..], &["192.0.2.9:3478"]].concat();
        assert_eq!(check(&at(&nine), tunnel), Err(DirectError::TooMany));
        for bad in [
            "0.0.0.0:3478",
            "[::]:3478",
            "192.0.2.1:0",
            "224.0.0.1:3478",
            "255.255.255.255:3478",
            "[ff02::1]:3478",
            "[fe80::1]:3478",
            "[::ffff:192.0.2.1]:3478",
        ] {
            assert_eq!(check(&at(&["192.0.2.7:3478", bad]), tunnel), Err(DirectError::NotPublic(1)), "{bad}");
        }
        let twice = at(&["192.0.2.1:3478", "192.0.2.2:3478", "192.0.2.1:3478"]);
        assert_eq!(check(&twice, tunnel), Err(DirectError::Twice(2)));
        assert_eq!(check(&at(&["10.0.0.7:7100"]), tunnel), Err(DirectError::Tunnel(0)));
        assert_eq!(are_here(&at(&["127.0.0.1:3478", "[::1]:3478"])), Ok(()));
        assert_eq!(are_here(&at(&["127.0.0.1:3478", "192.0.2.1:3478"])), Err(DirectError::NotHere(1)));
        assert_eq!(are_here(&at(&["[2001:db8::1]:3478"])), Err(DirectError::NotHere(0)));
    }

    #[test]
    fn past_the_load_balancer_goes_what_is_for_a_client_that_was_heard_in_this_epoch_at_an_address_of_its_family() {
        // Free ports: a socket that only sends is bound for good.
        let port = |ip: &str| std::net::UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        let mut direct = Direct::open(&[port("127.0.0.1"), port("::1")]).unwrap();
        let client = |text: &str| ClientAddr::new(text.parse().unwrap());
        let four = client("192.0.2.7:4000");
        let head = Head::to_relay(four, BucketId(7), 5, Cookie::from_bits(1));
        let of = |client| Source { client, transport: Transport::Udp }.reply();
        let mut goes = |head: &Head, own: u32, client| {
            let heard = direct.heard(head, own);
            (direct.way(of(client).by(heard)), direct.way(of(client)))
        };
        assert_eq!(goes(&head, 5, four), (Some(1), None), "one that was never heard goes through");
        let six = client("[2001:db8::7]:4000");
        let by_second = Head { listener: 1, ..head };
        assert_eq!(goes(&by_second, 5, six), (Some(2), None));
        assert_eq!(goes(&by_second, 5, four), (None, None), "no client of IPv4 speaks to an address of IPv6");
        assert_eq!(goes(&Head { listener: 2, ..head }, 5, four), (None, None), "a listener that we were not told of");
        assert_eq!(goes(&Head { listener: u8::MAX, ..head }, 5, four), (None, None));
        assert_eq!(goes(&Head { tcp: true, ..head }, 5, four), (None, None));
        assert_eq!(goes(&Head { hops: 1, ..head }, 5, four), (Some(1), None));

        let before = direct.heard(&head, 5);
        // Another relay's word of an epoch is its own.
        direct.heard(&Head { hops: 1, epoch: 9, ..head }, 5);
        assert_eq!(direct.way(of(four).by(before)), Some(1));
        direct.heard(&Head { probe: true, epoch: 6, ..head }, 5);
        assert_eq!(direct.way(of(four).by(before)), None, "others may have heard it meanwhile");
        let again = direct.heard(&head, 5);
        assert_eq!(direct.way(of(four).by(again)), Some(1));
        direct.heard(&head, 7);
        assert_eq!(direct.way(of(four).by(again)), None, "our own table is newer");
    }
}
