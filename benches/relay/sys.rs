//! The system calls that the measurement needs and the standard library does not have.
//!
//! Decides nothing. All of the benchmark's `unsafe` stands here and in [`machine`]: here the batches with a source address for
//! each datagram and the kernel's time stamps.
#![allow(unsafe_code, reason = "sendmmsg and recvmmsg have no safe form in std")]

#[path = "machine.rs"]
mod machine;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;

#[allow(unused_imports, reason = "each bench uses its part of this")]
pub(crate) use machine::{bind_child, catch_signals, interrupted, monotonic, pin, realtime};

/// How many datagrams one system call moves.
pub(crate) const BATCH: usize = 64;
/// Bytes of kernel buffer in each direction: room for every packet in flight, whatever the other side does.
const SOCKET_BUFFER: i32 = 16 << 20;
const HEAD: usize = 256;
const SLOT: usize = 2_048;
const CONTROL: usize = 128;

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an integer option of a socket.
fn set_option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: i32) -> io::Result<()> {
    // SAFETY: the value is a local of the size that is said, read before this call is over.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })
}

/// Large buffers, by force where we may.
pub(crate) fn large_buffers(socket: &UdpSocket) -> io::Result<()> {
    for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set_option(socket, libc::SOL_SOCKET, forced, SOCKET_BUFFER).is_err() {
            set_option(socket, libc::SOL_SOCKET, plain, SOCKET_BUFFER)?;
        }
    }
    Ok(())
}

/// Only what comes over the loopback interface, and the address that each datagram was sent to.
pub(crate) fn loopback_with_addresses(socket: &UdpSocket) -> io::Result<()> {
    // SAFETY: three bytes are given, and read before this call is over.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, c"lo".as_ptr().cast(), 3)
    })?;
    set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
}

/// Whether the kernel notes when each datagram came.
pub(crate) fn time_stamps(socket: &UdpSocket, on: bool) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, i32::from(on))
}

fn raw_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// Room for control messages, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

const EMPTY_ADDRESS: libc::sockaddr_in =
    libc::sockaddr_in { sin_family: 0, sin_port: 0, sin_addr: libc::in_addr { s_addr: 0 }, sin_zero: [0; 8] };
const EMPTY_HEADER: libc::mmsghdr = libc::mmsghdr {
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
};
const EMPTY_VECTOR: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

/// Datagrams that are to be sent, each from an address of its own.
pub(crate) struct Outgoing {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<[libc::iovec; 2]>,
    names: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    heads: Vec<[u8; HEAD]>,
    count: usize,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self {
            headers: vec![EMPTY_HEADER; BATCH],
            vectors: vec![[EMPTY_VECTOR; 2]; BATCH],
            names: vec![EMPTY_ADDRESS; BATCH],
            controls: vec![Control([0; CONTROL]); BATCH],
            heads: vec![[0; HEAD]; BATCH],
            count: 0,
        }
    }

    /// How many more fit.
    pub(crate) fn room(&self) -> usize {
        BATCH - self.count
    }

    /// Adds a datagram of `head` (at most 256 bytes, copied) and `body`, from `from` to `to`. There must be room.
    pub(crate) fn push(&mut self, from: Ipv4Addr, to: SocketAddrV4, head: &[u8], body: &'static [u8]) {
        let n = self.count;
        self.heads[n][..head.len()].copy_from_slice(head);
        self.names[n] = raw_address(to);
        self.vectors[n] = [
            libc::iovec { iov_base: self.heads[n].as_mut_ptr().cast(), iov_len: head.len() },
            // The kernel takes it as mutable and does not write through it.
            libc::iovec { iov_base: body.as_ptr().cast_mut().cast(), iov_len: body.len() },
        ];
        let header = &mut self.headers[n].msg_hdr;
        header.msg_name = (&raw mut self.names[n]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = self.vectors[n].as_mut_ptr();
        header.msg_iovlen = 2;
        header.msg_control = (&raw mut self.controls[n]).cast();
        header.msg_controllen = write_source(&mut self.controls[n], from);
        self.count += 1;
    }

    /// Sends what there is; what the kernel does not take is tried again a few times, then counted as not sent.
    /// Gives how many went.
    pub(crate) fn flush(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut done = 0;
        let mut attempts = 0;
        while done < self.count {
            let rest = &mut self.headers[done..self.count];
            // SAFETY: each of these headers points to one name, two vectors and one control buffer, all of which are
            // owned by self, are not moved between `push` and here (the vectors never grow), and outlive this call.
            // The bodies are 'static.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            match usize::try_from(sent) {
                Ok(sent) => done += sent,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    attempts += 1;
                    // A port that was closed a moment ago reports itself on the next send.
                    if error.kind() != io::ErrorKind::ConnectionRefused && attempts > 16 {
                        return Err(error);
                    }
                    if attempts > 1_000 {
                        break;
                    }
                }
            }
        }
        self.count = 0;
        Ok(done)
    }
}

/// Writes IP_PKTINFO with this source address and gives the length of it.
fn write_source(control: &mut Control, from: Ipv4Addr) -> usize {
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(from).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let length = size_of::<libc::in_pktinfo>() as u32;
    // SAFETY: CMSG_LEN and CMSG_SPACE only compute. The buffer is aligned for a cmsghdr and CONTROL bytes long, which is
    // more than the 32 bytes of one header and one in_pktinfo that are written into it.
    unsafe {
        let header = (&raw mut control.0).cast::<libc::cmsghdr>();
        (*header).cmsg_len = libc::CMSG_LEN(length) as usize;
        (*header).cmsg_level = libc::IPPROTO_IP;
        (*header).cmsg_type = libc::IP_PKTINFO;
        libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().write_unaligned(info);
        libc::CMSG_SPACE(length) as usize
    }
}

/// A datagram that came.
pub(crate) struct Incoming<'a> {
    /// The address that it was sent to.
    pub(crate) to: Ipv4Addr,
    /// Where it came from.
    pub(crate) from: SocketAddrV4,
    pub(crate) bytes: &'a [u8],
    /// When the kernel got it (CLOCK_REALTIME, ns); 0 without [`time_stamps`].
    pub(crate) at: u64,
}

/// Datagrams that came in one system call.
pub(crate) struct Inbox {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    slots: Vec<[u8; SLOT]>,
    count: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            headers: vec![EMPTY_HEADER; BATCH],
            vectors: vec![EMPTY_VECTOR; BATCH],
            names: vec![EMPTY_ADDRESS; BATCH],
            controls: vec![Control([0; CONTROL]); BATCH],
            slots: vec![[0; SLOT]; BATCH],
            count: 0,
        }
    }

    /// Takes what waits, without blocking, and gives how many came.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        for n in 0..BATCH {
            self.vectors[n] = libc::iovec { iov_base: self.slots[n].as_mut_ptr().cast(), iov_len: SLOT };
            let header = &mut self.headers[n].msg_hdr;
            header.msg_name = (&raw mut self.names[n]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[n];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[n]).cast();
            header.msg_controllen = CONTROL;
        }
        // SAFETY: BATCH headers are given and BATCH are there; each points to a name, a vector, a slot and a control
        // buffer of its own in self, which is borrowed mutably until this call is over.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.count = match usize::try_from(got) {
            Ok(got) => got,
            Err(_) => {
                let error = io::Error::last_os_error();
                let nothing = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted, io::ErrorKind::ConnectionRefused];
                if !nothing.contains(&error.kind()) {
                    return Err(error);
                }
                0
            }
        };
        Ok(self.count)
    }

    /// What came, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Incoming<'_>> {
        (0..self.count).map(|n| {
            let (to, at) = read_control(&self.headers[n].msg_hdr);
            let name = self.names[n];
            let from = SocketAddrV4::new(u32::from_be(name.sin_addr.s_addr).into(), u16::from_be(name.sin_port));
            let len = (self.headers[n].msg_len as usize).min(SLOT);
            Incoming { to, from, bytes: &self.slots[n][..len], at }
        })
    }
}

/// Reads the address that a datagram was sent to and when it came.
fn read_control(header: &libc::msghdr) -> (Ipv4Addr, u64) {
    let (mut to, mut at) = (Ipv4Addr::UNSPECIFIED, 0);
    // SAFETY: the kernel has filled the control buffer that this header points to (owned by the same Inbox, borrowed
    // here) and set its length; the CMSG macros walk inside that length, and the two kinds that are read are as long as
    // their types.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time = data.cast::<libc::timespec>().read_unaligned();
                    at = nanos(time);
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    (to, at)
}

fn nanos(time: libc::timespec) -> u64 {
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// The bare forwarder: receives up to 64 datagrams in one call, and sends each, as it came, to the neighbour of its
/// sender (the address with the last bit flipped). No look-up, no check, nothing but the two system calls: the floor.
/// Never returns but on an error.
pub(crate) fn forward_bare(socket: &UdpSocket) -> io::Error {
    let mut slots = vec![[0_u8; SLOT]; BATCH];
    let mut names = vec![EMPTY_ADDRESS; BATCH];
    let mut vectors = vec![EMPTY_VECTOR; BATCH];
    let mut headers = vec![EMPTY_HEADER; BATCH];
    for n in 0..BATCH {
        vectors[n] = libc::iovec { iov_base: slots[n].as_mut_ptr().cast(), iov_len: SLOT };
        headers[n].msg_hdr.msg_name = (&raw mut names[n]).cast();
        headers[n].msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        headers[n].msg_hdr.msg_iov = &raw mut vectors[n];
        headers[n].msg_hdr.msg_iovlen = 1;
    }
    loop {
        // SAFETY: BATCH headers are given and BATCH are there, each with a name, a vector and a slot of its own, all of
        // which live until this function ends and are not moved.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused) {
                continue;
            }
            return error;
        };
        for n in 0..got {
            names[n].sin_addr.s_addr ^= 1_u32.to_be();
            vectors[n].iov_len = headers[n].msg_len as usize;
        }
        let mut done = 0;
        while done < got {
            // SAFETY: as above; the first `got` of them.
            let sent =
                unsafe { libc::sendmmsg(socket.as_raw_fd(), headers[done..got].as_mut_ptr(), (got - done) as u32, 0) };
            // One that cannot be sent is skipped, as a relay would.
            done += usize::try_from(sent).unwrap_or(1);
        }
        for vector in &mut vectors[..got] {
            vector.iov_len = SLOT;
        }
    }
}
