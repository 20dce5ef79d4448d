//! The system calls that the standard library does not have, each wrapped so that its callers are safe.
//!
//! Decides nothing. All of this crate's `unsafe` stands here.
#![allow(
    unsafe_code,
    reason = "recvmmsg, sendmmsg, ppoll, epoll and clock_gettime have no safe form in the standard library"
)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// An address as the kernel writes it: room for IPv4 and IPv6.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union RawAddr {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddr {
    pub(crate) const EMPTY: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// The address and how long it is, for the kernel. To a socket of IPv6, IPv4 is written in its mapped form.
    pub(crate) fn new(address: SocketAddr, v6_socket: bool) -> (Self, libc::socklen_t) {
        let v6 = |v6: SocketAddrV6| {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            (Self { v6: raw }, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        };
        match address {
            SocketAddr::V4(v4) if v6_socket => v6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)),
            SocketAddr::V4(v4) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: v4.ip().to_bits().to_be() },
                    sin_zero: [0; 8],
                };
                (Self { v4: raw }, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(address) => v6(address),
        }
    }

    pub(crate) fn socket_addr(&self) -> Option<SocketAddr> {
        // SAFETY: every byte of the union is initialised (EMPTY is its longest member), and every member is made of
        // integers, for which every bit pattern is a value; `family` stands at the same place in all of them.
        unsafe {
            match libc::c_int::from(self.family) {
                libc::AF_INET => Some(SocketAddr::V4(SocketAddrV4::new(
                    Ipv4Addr::from_bits(u32::from_be(self.v4.sin_addr.s_addr)),
                    u16::from_be(self.v4.sin_port),
                ))),
                libc::AF_INET6 => Some(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(self.v6.sin6_addr.s6_addr),
                    u16::from_be(self.v6.sin6_port),
                    0,
                    self.v6.sin6_scope_id,
                ))),
                _ => None,
            }
        }
    }
}

/// One datagram to receive into, or to send from.
pub(crate) struct Datagram<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) address: &'a mut RawAddr,
}

/// What was received into one place.
#[derive(Clone, Copy, Default)]
pub(crate) struct Received {
    pub(crate) len: usize,
    /// It was longer than its place.
    pub(crate) cut: bool,
}

/// How many datagrams one system call moves at the most.
pub const BATCH: usize = 64;

const fn zeroed_header() -> libc::mmsghdr {
    libc::mmsghdr {
        msg_hdr: libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: std::ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        },
        msg_len: 0,
    }
}

const NO_BYTES: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

/// Receives what waits, up to [`BATCH`] datagrams, without blocking. `WouldBlock` when nothing does.
pub(crate) fn receive<'a>(
    socket: BorrowedFd<'_>,
    places: impl Iterator<Item = Datagram<'a>>,
    received: &mut [Received; BATCH],
) -> io::Result<usize> {
    let mut vectors = [NO_BYTES; BATCH];
    let mut headers = [const { zeroed_header() }; BATCH];
    let mut count = 0;
    for ((place, vector), header) in places.zip(&mut vectors).zip(&mut headers) {
        *vector = libc::iovec { iov_base: place.bytes.as_mut_ptr().cast(), iov_len: place.bytes.len() };
        header.msg_hdr.msg_name = std::ptr::from_mut(place.address).cast();
        header.msg_hdr.msg_namelen = size_of::<RawAddr>() as libc::socklen_t;
        header.msg_hdr.msg_iov = std::ptr::from_mut(vector);
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` headers each point to one vector and one address; these, and the bytes that the vectors
    // point to, are borrowed mutably for 'a, one place each, and live until this call is over. The kernel writes only
    // into them. The rest of the headers is not shown to it.
    let got = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, std::ptr::null_mut())
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    for (to, header) in received.iter_mut().zip(&headers).take(got) {
        *to = Received { len: header.msg_len as usize, cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 };
    }
    Ok(got)
}

/// Sends up to [`BATCH`] datagrams without blocking; gives how many went before one could not. An error speaks of the
/// first. An address of no length is that of whom the socket is connected to.
pub(crate) fn send<'a>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = (&'a [u8], &'a (RawAddr, libc::socklen_t))>,
) -> io::Result<usize> {
    let mut vectors = [NO_BYTES; BATCH];
    let mut headers = [const { zeroed_header() }; BATCH];
    let mut count = 0;
    for (((bytes, (address, length)), vector), header) in datagrams.zip(&mut vectors).zip(&mut headers) {
        // The kernel takes these as mutable pointers and does not write through them.
        *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        if *length > 0 {
            header.msg_hdr.msg_name = std::ptr::from_ref(address).cast_mut().cast();
            header.msg_hdr.msg_namelen = *length;
        }
        header.msg_hdr.msg_iov = std::ptr::from_mut(vector);
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` headers each point to one vector and one address, which, with the bytes that the vectors
    // point to, are borrowed until this call is over. sendmmsg reads them, and writes only `msg_len` of the headers.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Waits until one of the two can be read, or for `timeout`; `None` waits for as long as it takes. A signal ends it too.
pub(crate) fn wait(one: BorrowedFd<'_>, other: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    let entry = |fd: BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries = [entry(one), entry(other)];
    let timeout = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(t.subsec_nanos() as i32),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: two entries are given and two are there; the time is null or a local that lives until this call is over.
    let result = unsafe { libc::ppoll(entries.as_mut_ptr(), 2, timeout, std::ptr::null()) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}

/// A set of descriptors in the kernel that can be waited for together.
pub(crate) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: takes a number, gives a descriptor of our own or -1.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, open, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a descriptor into the set, which then tells `token` while it can be read. It leaves the set when it is closed.
pub(crate) fn epoll_add(set: BorrowedFd<'_>, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
    // SAFETY: the event is a local that the kernel reads before this call is over; both descriptors are open.
    let result = unsafe {
        libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), std::ptr::from_mut(&mut event))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many descriptors that can be read are told of at once.
pub(crate) const READY_MAX: usize = 256;

/// Tells which descriptors of the set can be read now, without waiting.
pub(crate) fn epoll_ready(set: BorrowedFd<'_>, mut tell: impl FnMut(u64)) -> io::Result<()> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; READY_MAX];
    // SAFETY: as many events are given as are there; the kernel writes only into them, before this call is over.
    let got = unsafe { libc::epoll_wait(set.as_raw_fd(), events.as_mut_ptr(), READY_MAX as libc::c_int, 0) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    events.iter().take(got).for_each(|event| tell(event.u64));
    Ok(())
}

/// A counter in the kernel that can be waited for.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers, gives a descriptor of our own or -1.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, open, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A UDP socket that is bound together with others (SO_REUSEPORT): the option must stand before it is bound, which the
/// standard library does not let us. `one_family`: a wildcard of IPv6 takes no IPv4.
pub(crate) fn bind_shared(address: SocketAddr, one_family: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes numbers, gives a descriptor of our own or -1.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, open, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    if one_family && address.is_ipv6() {
        set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    let (raw, length) = RawAddr::new(address, address.is_ipv6());
    // SAFETY: the address is a local of at least the length that is said, read before this call is over.
    let result = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&raw).cast(), length) };
    if result == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Sets an integer option of a socket.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: i32) -> io::Result<()> {
    // SAFETY: the value is a local of the size that is said, read before this call is over.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads a clock, in nanoseconds.
pub(crate) fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is a local that the kernel writes one time into.
    let result = unsafe { libc::clock_gettime(id, std::ptr::from_mut(&mut time)) };
    if result != 0 {
        return 0;
    }
    let (secs, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}
