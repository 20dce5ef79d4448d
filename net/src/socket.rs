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
        Self::prepared(UdpSocket::from(sys::bind_shared(address, false)?))
    }

    /// A socket that sends from `address` and hears nobody, beside a load balancer that may have it too. Gives with it how
    /// many datagrams it was handed all the same, before it was deaf: they are lost.
    ///
    /// Bound to the wildcard and then connected to the discard port of `address`, which gives it that address: the kernel
    /// hands it nothing that somebody else is bound for by name, not even in the moment between. Where the system would speak
    /// to `address` from another one (a whole network on `lo`), it is bound by name, and may be handed packets for that moment.
    ///
    /// # Errors
    /// What the system says: [`io::ErrorKind::AddrNotAvailable`] if no interface has the address,
    /// [`io::ErrorKind::AddrInUse`] if somebody has the port who does not share it, or who runs as another user.
    pub fn bind_to_send(address: SocketAddr) -> io::Result<(Self, u64)> {
        match Self::deaf(address, unspecified(address))? {
            (socket, drained) if socket.local == address => Ok((socket, drained)),
            (_, before) => Self::deaf(address, address.ip()).map(|(socket, drained)| (socket, before + drained)),
        }
    }

    /// Bound to this address with the port of `address`, then connected away, then emptied.
    fn deaf(address: SocketAddr, bound: IpAddr) -> io::Result<(Self, u64)> {
        let socket = UdpSocket::from(sys::bind_shared((bound, address.port()).into(), true)?);
        socket.connect((address.ip(), DISCARD))?;
        socket.set_nonblocking(true)?;
        let mut drained = 0;
        while socket.recv(&mut [0]).is_ok() {
            drained += 1;
        }
        let deaf = Self::prepared(socket)?;
        // Nobody reads it: the least that the system gives.
        sys::set_option(deaf.fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 0)?;
        Ok((deaf, drained))
    }

    /// A socket on a port of its own that speaks to `peer` and hears nobody else. What the network says of the peer (that
    /// nobody is there) comes as [`io::ErrorKind::ConnectionRefused`] from whatever is done next.
    ///
    /// # Errors
    /// What the system says.
    pub fn connected(peer: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((unspecified(peer), 0))?;
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

/// The wildcard of an address's family.
const fn unspecified(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
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
    use std::sync::atomic::{AtomicBool, Ordering};

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

    /// A load balancer's socket, and 64 clients of it, whom the kernel would share out among those that have its address.
    fn balancer(at: &str) -> (Socket, Vec<UdpSocket>) {
        let balancer = Socket::bind_shared(at.parse().unwrap()).unwrap();
        let clients = (0..64).map(|_| {
            let client = UdpSocket::bind(at).unwrap();
            client.connect(balancer.local_addr()).unwrap();
            client
        });
        let clients = clients.collect();
        (balancer, clients)
    }

    /// What waits at a socket.
    fn waiting(socket: &Socket) -> usize {
        socket.socket.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| socket.socket.recv(&mut [0; 8]).ok()).count()
    }

    #[test]
    fn one_that_only_sends_takes_nothing_from_a_balancer_at_its_address_not_even_while_it_is_made() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let (mut balancer, clients) = balancer(at);
            let address = balancer.local_addr();
            for _ in 0..20 {
                // The moment in which it is bound and not yet connected, held open.
                let between =
                    UdpSocket::from(sys::bind_shared((unspecified(address), address.port()).into(), true).unwrap());
                clients.iter().for_each(|client| assert!(client.send(b"x").is_ok()));
                assert_eq!(waiting(&balancer), 64, "{at}");
                drop(between);
                let (sender, drained) = Socket::bind_to_send(address).unwrap();
                assert_eq!((sender.local_addr(), drained), (address, 0));
                clients.iter().for_each(|client| assert!(client.send(b"x").is_ok()));
                assert_eq!((waiting(&balancer), waiting(&sender)), (64, 0), "{at}");
                // It speaks to anyone, and as the balancer.
                for client in &clients {
                    sender.socket.send_to(b"answer", client.local_addr().unwrap()).unwrap();
                    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 6);
                }
                // A balancer that comes after it has them all too, beside the one before.
                let next = Socket::bind_shared(address).unwrap();
                clients.iter().for_each(|client| assert!(client.send(b"x").is_ok()));
                assert_eq!((waiting(&balancer) + waiting(&next), waiting(&sender)), (64, 0), "{at}");
                balancer = next;
                clients.iter().for_each(|client| assert!(client.send(b"x").is_ok()));
                assert_eq!((waiting(&balancer), waiting(&sender)), (64, 0), "{at}");
            }
        }
    }

    /// Makes such sockets beside a balancer while clients send, until one took a packet or 2,000 were made: how many were
    /// taken. None is lost otherwise.
    fn taken_under_fire(at: &str) -> usize {
        let (balancer, clients) = balancer(at);
        let (stop, began) = (AtomicBool::new(false), crate::clock::now().mono);
        std::thread::scope(|scope| {
            let sends = scope.spawn(|| {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    clients.iter().for_each(|client| assert!(client.send(b"x").is_ok()));
                    sent += clients.len();
                    // There is room for the rest of a turn.
                    std::thread::sleep(Duration::from_micros(100));
                }
                sent
            });
            let (mut heard, mut taken, mut made) = (0, 0, 0);
            while taken == 0 && made < 2_000 && crate::clock::now().mono.since(began).as_secs() < 20 {
                let (sender, drained) = Socket::bind_to_send(balancer.local_addr()).unwrap();
                assert_eq!(sender.local_addr(), balancer.local_addr());
                heard += waiting(&balancer);
                made += 1;
                taken += drained as usize + waiting(&sender);
            }
            stop.store(true, Ordering::Relaxed);
            let sent = sends.join().unwrap();
            heard += waiting(&balancer);
            assert_eq!(heard + taken, sent);
            taken
        })
    }

    #[test]
    fn while_clients_send_none_takes_a_packet_and_one_that_must_be_bound_by_name_counts_every_one_that_it_takes() {
        assert_eq!(taken_under_fire("127.0.0.1:0"), 0);
        assert_eq!(taken_under_fire("[::1]:0"), 0);
        // 127.0.0.2 is reached from 127.0.0.1: the system would not send from it by itself.
        assert!(taken_under_fire("127.0.0.2:0") > 0);
    }

    #[test]
    fn nobody_sends_from_an_address_that_this_machine_does_not_have_or_a_port_that_is_not_shared() {
        let error = |at: &str| Socket::bind_to_send(at.parse().unwrap()).unwrap_err().kind();
        for at in ["192.0.2.1:3478", "[2001:db8::1]:3478"] {
            assert!(matches!(error(at), io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkUnreachable), "{at}");
        }
        let taken = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(error(&taken.local_addr().to_string()), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_is_bound_once() {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(Socket::bind(socket.local_addr()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
