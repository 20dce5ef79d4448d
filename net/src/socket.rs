//! A UDP socket as a relay or a load balancer needs it, and what wakes the thread that waits for it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::sys;

/// Bytes of kernel buffer for datagrams that wait to be received. At 400,000 packets/s of 172 B, which take 1 KiB each
/// there, 8 MiB are 20 ms: longer than the relay's thread is ever away from its socket.
const RECEIVE_BUFFER: i32 = 8 << 20;
/// Bytes of kernel buffer for what is being sent.
const SEND_BUFFER: i32 = 4 << 20;

/// RFC 863.
const DISCARD: u16 = 9;

/// An open UDP socket.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
}

impl Socket {
    /// Binds `address`. A port that somebody else has is an error: two relays never share one.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::prepared(UdpSocket::bind(address)?)
    }

    /// Binds `address` together with others: who has bound it so before keeps its share of the packets until it goes
    /// ([`Socket::turn_away`]). Of two processes that are not told of each other, each gets a part of the clients.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind_shared(address: SocketAddr) -> io::Result<Self> {
        Self::prepared(UdpSocket::from(sys::bind_shared(address)?))
    }

    /// A socket on a port of its own that speaks to `peer` and hears nobody else. What the network says of the peer (that
    /// nobody is there) comes as [`io::ErrorKind::ConnectionRefused`] from whatever is done next.
    ///
    /// # Errors
    /// What the system says.
    pub fn connected(peer: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(peer)?;
        Self::prepared(socket)
    }

    /// Hears nobody any more, and can still send: new packets for the address go to who else has bound it; what has come
    /// before can be read.
    ///
    /// # Errors
    /// What the system says.
    pub fn turn_away(&self) -> io::Result<()> {
        // The discard port of the address itself: nobody sends from there (research: "a socket bound with SO_REUSEPORT and
        // connected to its own address, port 9").
        self.socket.connect((self.local.ip(), DISCARD))
    }

    fn prepared(socket: UdpSocket) -> io::Result<Self> {
        let fd = socket.as_fd();
        // The plain option is cut to the system's limit (net.core.rmem_max); the forced one needs CAP_NET_ADMIN.
        for (plain, forced, value) in [
            (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER),
            (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, SEND_BUFFER),
        ] {
            if sys::set_option(fd, libc::SOL_SOCKET, forced, value).is_err() {
                sys::set_option(fd, libc::SOL_SOCKET, plain, value)?;
            }
        }
        // A forged "too big" must not make packets of others smaller (attack U09): path MTU messages are not heeded,
        // and DF is not set.
        let local = socket.local_addr()?;
        if local.is_ipv4() {
            sys::set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)?;
        } else {
            sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT)?;
        }
        Ok(Self { socket, local })
    }

    /// The address that was bound, with the port that was given if it was 0.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends one datagram to whom the socket is connected to, without blocking.
    ///
    /// # Errors
    /// What the system says. [`io::ErrorKind::ConnectionRefused`] speaks of an earlier one: this one was not sent.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        sys::send(self.fd(), std::iter::once((bytes, &(sys::RawAddr::EMPTY, 0)))).map(|_| ())
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits until a datagram has come, until `waker` is woken, or for `timeout` (`None`: as long as it takes).
    ///
    /// # Errors
    /// What the system says; an interrupted wait is none.
    pub fn wait(&self, waker: &Waker, timeout: Option<Duration>) -> io::Result<()> {
        sys::wait(self.fd(), waker.fd(), timeout)
    }
}

/// Wakes a thread out of [`Socket::wait`]. Clones wake the same thread.
#[derive(Debug, Clone)]
pub struct Waker {
    event: Arc<std::fs::File>,
}

impl Waker {
    /// A waker that nobody has woken yet.
    ///
    /// # Errors
    /// What the system says, for example when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: Arc::new(std::fs::File::from(sys::eventfd()?)) })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Wakes: the next wait, or the one under way, ends.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then it is awake.
        let _ = (&*self.event).write(&1_u64.to_ne_bytes());
    }

    /// Goes back to sleep; wakes that come after this call end the next wait.
    pub fn reset(&self) {
        // Fails only when nobody has woken it, and then it sleeps.
        let _ = (&*self.event).read(&mut [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_ends_the_wait_until_it_is_reset() {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let waker = Waker::new().unwrap();
        waker.clone().wake();
        waker.wake();
        // Would hang if it were not awake.
        socket.wait(&waker, None).unwrap();
        socket.wait(&waker, None).unwrap();
        waker.reset();
        let before = crate::clock::now().mono;
        socket.wait(&waker, Some(Duration::from_millis(20))).unwrap();
        assert!(crate::clock::now().mono.since(before).as_millis() >= 19, "asleep again");
    }

    #[test]
    fn a_port_is_bound_once() {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(Socket::bind(socket.local_addr()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
