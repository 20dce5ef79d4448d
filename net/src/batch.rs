//! Batches: up to 64 datagrams received by one system call, and sent by one.
//!
//! Decides nothing about them. Each lies in a slot with room in front and behind, so that its header can change in place;
//! sending names the slot, and copies nothing.

use std::io;
use std::net::SocketAddr;

use tandem_core::limits::{HEADROOM, TAILROOM};
use tandem_core::switch::{Egress, Slot};
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::Total;

use crate::socket::Socket;
use crate::sys::{self, Datagram, RawAddr, Received};

mod fan;

pub use crate::sys::BATCH;
pub use fan::{Arrived, Hop};

/// The longest datagram that is received; longer ones are dropped and counted. Media keeps to 1,500 B paths; this leaves
/// room for tunnel heads, and makes a slot 2 KiB.
pub const DATAGRAM_MAX: usize = 2_048 - HEADROOM - TAILROOM;
const SLOT: usize = HEADROOM + DATAGRAM_MAX + TAILROOM;
/// Bytes of answers and retried packets that may wait for one flush: 64 KiB is 500 answers. What is over is dropped and
/// counted; the client asks again.
const COPIES_MAX: usize = 64 << 10;

/// Sockets that a batch may send by beside the one that it receives by: a byte of flags each, as many as a load balancer has
/// public addresses.
pub const SENDERS: usize = tandem_core::limits::LISTENERS;

/// What the sending side could not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Datagrams received.
    pub received: Total,
    /// Their bytes, as UDP carries them.
    pub received_bytes: Total,
    /// Datagrams sent.
    pub sent: Total,
    /// Their bytes.
    pub sent_bytes: Total,
    /// Dropped: longer than [`DATAGRAM_MAX`].
    pub oversized: Total,
    /// Dropped: the kernel's send buffer was full.
    pub send_full: Total,
    /// Dropped: the kernel refused this one datagram (no route, too long, a firewall).
    pub send_refused: Total,
    /// Dropped: more answers and retried packets than one flush takes (64 KiB).
    pub copies_over_cap: Total,
    /// Receiving failed for a reason other than that nothing was there.
    pub receive_errors: Total,
}

/// Where a datagram may go.
pub trait Destination {
    /// Its address.
    fn address(&self) -> SocketAddr;

    /// By which of the batch's sockets: 0 is the one that it receives by.
    fn through(&self) -> u16 {
        0
    }
}

/// An attached leg, or the source of a request.
impl Destination for Egress {
    fn address(&self) -> SocketAddr {
        self.client().socket_addr()
    }
}

#[derive(Clone, Copy)]
enum Bytes {
    /// In the receive slot with this number.
    Slot(usize),
    /// Among the copies.
    Copy,
}

struct Queued {
    /// By which of several sockets; 0 where there is only one.
    socket: u16,
    bytes: Bytes,
    start: usize,
    len: usize,
    address: (RawAddr, libc::socklen_t),
}

/// Which sockets are of IPv6, by their numbers: to these, IPv4 is written in its mapped form.
#[derive(Debug, Clone, Copy, Default)]
struct Families([bool; 1 + SENDERS]);

impl Families {
    fn of<'a>(sockets: impl Iterator<Item = &'a Socket>) -> Self {
        let mut families = Self::default();
        families.0.iter_mut().zip(sockets).for_each(|(v6, socket)| *v6 = socket.local_addr().is_ipv6());
        families
    }

    fn raw(self, to: &impl Destination) -> (RawAddr, libc::socklen_t) {
        RawAddr::new(to.address(), self.0.get(usize::from(to.through())).copied().unwrap_or_default())
    }
}

/// A batch of received datagrams and the queue of what is to be sent because of them.
pub struct Batch {
    slots: Box<[[u8; SLOT]]>,
    addresses: Box<[RawAddr; BATCH]>,
    received: Box<[Received; BATCH]>,
    count: usize,
    queue: Vec<Queued>,
    copies: Vec<u8>,
    families: Families,
    /// What was counted so far.
    pub counters: Counters,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("count", &self.count).field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Batch {
    /// An empty batch for `socket`.
    #[must_use]
    pub fn new(socket: &Socket) -> Self {
        Self::with(Families::of(std::iter::once(socket)))
    }

    /// An empty batch that receives by `socket`, and sends by that one or by one of `senders`, up to [`SENDERS`] of them,
    /// which are numbered from 1. [`Batch::flush_each`] sends it.
    #[must_use]
    pub fn with_senders(socket: &Socket, senders: &[Socket]) -> Self {
        Self::with(Families::of(std::iter::once(socket).chain(senders)))
    }

    fn with(families: Families) -> Self {
        Self {
            slots: vec![[0; SLOT]; BATCH].into_boxed_slice(),
            addresses: Box::new([RawAddr::EMPTY; BATCH]),
            received: Box::new([Received::default(); BATCH]),
            count: 0,
            queue: Vec::with_capacity(2 * BATCH),
            copies: Vec::new(),
            families,
            counters: Counters::default(),
        }
    }

    /// Receives what waits, up to 64 datagrams, without blocking, and gives how many came. What was queued and not
    /// flushed is gone.
    pub fn receive(&mut self, socket: &Socket) -> usize {
        if let Err(error) = self.try_receive(socket) {
            self.count_receive_error(&error);
        }
        self.count
    }

    fn count_receive_error(&mut self, error: &io::Error) {
        if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
            self.counters.receive_errors += 1;
        }
    }

    fn try_receive(&mut self, socket: &Socket) -> io::Result<()> {
        self.queue.clear();
        self.copies.clear();
        self.count = 0;
        let places = self.slots.iter_mut().zip(self.addresses.iter_mut()).filter_map(|(slot, address)| {
            let bytes = slot.get_mut(HEADROOM..HEADROOM + DATAGRAM_MAX)?;
            Some(Datagram { bytes, address })
        });
        self.count = sys::receive(socket.fd(), places, &mut self.received)?;
        self.counters.received += self.count as u64;
        let bytes: usize = self.received.iter().take(self.count).map(|received| received.len).sum();
        self.counters.received_bytes += bytes as u64;
        Ok(())
    }

    /// Shows each received datagram to `decide`, which may rewrite it and say where it goes.
    pub fn for_each<D: Destination>(&mut self, mut decide: impl FnMut(ClientAddr, &mut Slot<'_>) -> Option<D>) {
        let families = self.families;
        self.queue_each(|source, slot| decide(source, slot).map(|to| (to.through(), families.raw(&to))));
    }

    #[inline]
    fn queue_each(
        &mut self,
        mut decide: impl FnMut(ClientAddr, &mut Slot<'_>) -> Option<(u16, (RawAddr, libc::socklen_t))>,
    ) {
        let all = self.slots.iter_mut().zip(self.addresses.iter()).zip(self.received.iter()).take(self.count);
        for (index, ((buffer, address), received)) in all.enumerate() {
            if received.cut {
                self.counters.oversized += 1;
                continue;
            }
            let Some(source) = address.socket_addr() else { continue };
            let mut slot = Slot { buffer, start: HEADROOM, len: received.len };
            if let Some((socket, address)) = decide(ClientAddr::new(source), &mut slot) {
                let (start, len) = (slot.start, slot.len);
                self.queue.push(Queued { socket, bytes: Bytes::Slot(index), start, len, address });
            }
        }
    }

    /// Queues bytes that are in no slot: an answer, or a packet that was held, with `head` before it.
    pub fn push(&mut self, to: impl Destination, head: &[u8], bytes: &[u8]) {
        let len = head.len() + bytes.len();
        if self.copies.len() + len > COPIES_MAX {
            self.counters.copies_over_cap += 1;
            return;
        }
        let start = self.copies.len();
        self.copies.extend_from_slice(head);
        self.copies.extend_from_slice(bytes);
        let (socket, address) = (to.through(), self.families.raw(&to));
        self.queue.push(Queued { socket, bytes: Bytes::Copy, start, len, address });
    }

    /// Sends what is queued, without blocking. A datagram that cannot be sent is dropped and counted; the rest goes.
    pub fn flush(&mut self, socket: &Socket) {
        let run = self.queue.as_slice();
        send(&self.slots, &self.copies, &mut self.counters, socket, run, || false);
        self.queue.clear();
        self.copies.clear();
    }
}

/// Sends a run of the queue by one socket. `again`: whether a datagram that could not be sent because the one before it was
/// refused is tried once more.
#[inline]
fn send(
    slots: &[[u8; SLOT]],
    copies: &[u8],
    counters: &mut Counters,
    socket: &Socket,
    mut run: &[Queued],
    mut again: impl FnMut() -> bool,
) {
    while !run.is_empty() {
        let datagrams = run.iter().take(BATCH).map(|queued| {
            let bytes = match queued.bytes {
                Bytes::Slot(index) => slots.get(index).map_or(&[][..], |slot| &slot[..]),
                Bytes::Copy => copies,
            };
            (bytes.get(queued.start..queued.start + queued.len).unwrap_or(&[]), &queued.address)
        });
        let done = match sys::send(socket.fd(), datagrams) {
            Ok(sent) => {
                counters.sent += sent as u64;
                let bytes: usize = run.iter().take(sent).map(|queued| queued.len).sum();
                counters.sent_bytes += bytes as u64;
                sent
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => 0,
                // Waiting for room would make everyone's packets late: media that is late is lost anyway.
                io::ErrorKind::WouldBlock => {
                    counters.send_full += run.len() as u64;
                    run.len()
                }
                io::ErrorKind::ConnectionRefused if again() => 0,
                _ => {
                    counters.send_refused += 1;
                    1
                }
            },
        };
        run = run.get(done..).unwrap_or(&[]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::UdpSocket;
    use std::time::Duration;

    use tandem_core::switch::Source;
    use tandem_core::topology::Transport;

    use super::*;
    use crate::socket::Waker;

    fn bind(address: &str) -> (Socket, Batch) {
        let socket = Socket::bind(address.parse().unwrap()).unwrap();
        let batch = Batch::new(&socket);
        (socket, batch)
    }

    fn peer(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    fn back(client: ClientAddr) -> Egress {
        Source { client, transport: Transport::Udp }.reply()
    }

    /// Receives until `count` datagrams were handled, echoing each with its header changed.
    fn serve(
        socket: &Socket,
        batch: &mut Batch,
        count: u64,
        mut decide: impl FnMut(ClientAddr, &mut Slot<'_>) -> Option<Egress>,
    ) {
        let waker = Waker::new().unwrap();
        while batch.counters.received.get() < count {
            if batch.receive(socket) == 0 {
                socket.wait(&waker, Some(Duration::from_secs(5))).unwrap();
            }
            batch.for_each(&mut decide);
            batch.flush(socket);
        }
    }

    #[test]
    fn every_datagram_of_a_batch_goes_to_its_own_peer_with_its_own_bytes() {
        let (socket, mut batch) = bind("127.0.0.1:0");
        let peers: Vec<UdpSocket> = (0..64).map(|_| peer("127.0.0.1:0")).collect();
        let owners: BTreeMap<SocketAddr, usize> =
            peers.iter().enumerate().map(|(n, p)| (p.local_addr().unwrap(), n)).collect();
        for round in 0..200_u32 {
            for (n, peer) in peers.iter().enumerate() {
                let canary = format!("canary {n} {round}");
                peer.send_to(canary.as_bytes(), socket.local_addr()).unwrap();
            }
            let before = batch.counters.received.get();
            serve(&socket, &mut batch, before + 64, |from, slot| {
                // Every third one grows in front, every fourth one is not sent: the rows do not line up by chance.
                let n = owners[&from.socket_addr()];
                if n.is_multiple_of(3) {
                    slot.start -= 4;
                    slot.len += 4;
                    let start = slot.start;
                    slot.buffer[start..start + 4].copy_from_slice(b"head");
                }
                (!n.is_multiple_of(4)).then(|| back(from))
            });
            for (n, peer) in peers.iter().enumerate().filter(|(n, _)| n % 4 != 0) {
                let mut buffer = [0; 100];
                let (len, _) = peer.recv_from(&mut buffer).unwrap();
                let head = if n.is_multiple_of(3) { "head" } else { "" };
                assert_eq!(std::str::from_utf8(&buffer[..len]).unwrap(), format!("{head}canary {n} {round}"));
            }
        }
    }

    #[test]
    fn a_datagram_of_65507_bytes_is_dropped_whole_and_the_next_one_served() {
        let (socket, mut batch) = bind("127.0.0.1:0");
        let peer = peer("127.0.0.1:0");
        let long = vec![7; 65_507];
        for size in [65_507, DATAGRAM_MAX + 1, DATAGRAM_MAX, 0, 1] {
            peer.send_to(&long[..size], socket.local_addr()).unwrap();
        }
        let mut seen = Vec::new();
        serve(&socket, &mut batch, 5, |_, slot| {
            seen.push(slot.len);
            None
        });
        assert_eq!((seen, batch.counters.oversized.get()), (vec![DATAGRAM_MAX, 0, 1], 2));
    }

    #[test]
    fn one_datagram_that_cannot_be_sent_does_not_stop_the_others() {
        let (socket, mut batch) = bind("127.0.0.1:0");
        let peer = peer("127.0.0.1:0");
        let good = ClientAddr::new(peer.local_addr().unwrap());
        // No route from a loopback address, and no port 0.
        let bad = ["192.0.2.1:9", "127.0.0.1:0"].map(|text| ClientAddr::new(text.parse().unwrap()));
        for (n, to) in [bad[0], good, bad[1], good, bad[0]].into_iter().enumerate() {
            batch.push(back(to), b"", format!("{n}").as_bytes());
        }
        batch.flush(&socket);
        let mut buffer = [0; 10];
        for expected in [b"1", b"3"] {
            let (len, _) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected);
        }
        assert_eq!((batch.counters.sent.get(), batch.counters.send_refused.get()), (2, 3));
    }

    #[test]
    fn a_peer_that_is_gone_does_not_break_the_socket() {
        let (socket, mut batch) = bind("127.0.0.1:0");
        let gone = ClientAddr::new(peer("127.0.0.1:0").local_addr().unwrap());
        let live = peer("127.0.0.1:0");
        for _ in 0..10 {
            // Each draws an ICMP port-unreachable.
            batch.push(back(gone), b"", b"x");
            batch.flush(&socket);
        }
        live.send_to(b"still there?", socket.local_addr()).unwrap();
        serve(&socket, &mut batch, 1, |from, _| Some(back(from)));
        let mut buffer = [0; 20];
        assert_eq!(live.recv_from(&mut buffer).unwrap().0, 12);
        assert_eq!(batch.counters.receive_errors, 0);
    }

    #[test]
    fn a_socket_of_ipv6_serves_ipv4_too() {
        let (socket, mut batch) = bind("[::]:0");
        let port = socket.local_addr().port();
        for (bind, name) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
            let peer = peer(bind);
            peer.send_to(b"hello", format!("{name}:{port}")).unwrap();
            let before = batch.counters.received.get();
            serve(&socket, &mut batch, before + 1, |from, _| {
                assert_eq!(from.socket_addr(), peer.local_addr().unwrap(), "by its plain name");
                Some(back(from))
            });
            let mut buffer = [0; 10];
            assert_eq!(peer.recv_from(&mut buffer).unwrap().0, 5);
        }
    }

    #[test]
    fn answers_over_the_cap_are_dropped_and_counted() {
        let (socket, mut batch) = bind("127.0.0.1:0");
        let peer = peer("127.0.0.1:0");
        let to = back(ClientAddr::new(peer.local_addr().unwrap()));
        for _ in 0..(COPIES_MAX / 64 + 5) {
            batch.push(to, &[0; 4], &[0; 60]);
        }
        batch.flush(&socket);
        assert_eq!(batch.counters.copies_over_cap, 5);
        assert_eq!(batch.counters.sent.get() + batch.counters.send_full.get(), (COPIES_MAX / 64) as u64);
    }
}
