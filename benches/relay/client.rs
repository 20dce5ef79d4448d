//! The far side of every forwarder: thousands of clients on one socket.
//!
//! Decides what a client is: an address of 127.0.0.0/8 of its own, all on one port. One socket on the wildcard address
//! gets what is sent to any of them and sends from any of them (IP_PKTINFO), 64 datagrams a system call: only so is one
//! busy thread faster than what it measures. For the forwarder nothing differs from thousands of sockets.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use crate::Failure;
use crate::sys::{self, Inbox, Outgoing};

/// The first client; an even number, so that the two legs of a call differ in the last bit only.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);

/// All clients.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    pub(crate) outgoing: Outgoing,
    pub(crate) inbox: Inbox,
    port: u16,
}

impl Client {
    pub(crate) fn new() -> Result<Self, Failure> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        sys::loopback_with_addresses(&socket)?;
        sys::large_buffers(&socket)?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket, outgoing: Outgoing::new(), inbox: Inbox::new(), port })
    }

    /// The address of client number `n`.
    pub(crate) fn address(&self, n: usize) -> SocketAddrV4 {
        SocketAddrV4::new(ip(n), self.port)
    }

    /// Sends what is queued; gives how many datagrams went.
    pub(crate) fn flush(&mut self) -> Result<usize, Failure> {
        Ok(self.outgoing.flush(&self.socket)?)
    }

    /// Throws away what waits.
    pub(crate) fn clear(&mut self) -> Result<(), Failure> {
        while self.inbox.receive(&self.socket)? > 0 {}
        Ok(())
    }
}

/// The address of client number `n`.
pub(crate) fn ip(n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST.to_bits() + n as u32)
}

/// Which client has this address. The caller checks that there is one of that number.
pub(crate) fn number(ip: Ipv4Addr) -> usize {
    ip.to_bits().wrapping_sub(FIRST.to_bits()) as usize
}
