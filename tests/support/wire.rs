//! What an observer of the network between our processes and devices sees: everything that goes over the loopback interface,
//! put together to what each end was told.
//!
//! Decides which packets belong to which of our ports. Leaves to the caller what is looked for in them. Two things are not in
//! clear there, and are found in the memory of both ends instead: headers of gRPC (HPACK), and what a device says on its
//! connection (masked, RFC 6455 section 5.3; it only acknowledges).
#![allow(dead_code, reason = "each program uses its part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "of tests, and only there"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};

/// Two browsers in a call send some 10 Mbit/s, each packet seen twice, before and after the relay: ten seconds of it.
const BUFFER: usize = 64 << 20;
/// How soon it is noticed that it is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const ETHERNET_HEADER: usize = 14;

/// A transport and a port of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    Tcp(u16),
    Udp(u16),
}

/// Listens until it is stopped.
pub(crate) struct Wire {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Heard>,
}

impl Wire {
    /// From now on, to whatever goes to or comes from these ports. `None`: only root may.
    pub(crate) fn listen(ports: BTreeMap<Port, String>) -> Option<Self> {
        const ALL: u32 = 3_u16.to_be() as u32;
        let protocol = std::num::NonZeroU32::new(ALL).map(Protocol::from_raw);
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, protocol).ok()?;
        set_socket_recv_buffer_size_force(&socket, BUFFER).ok()?;
        set_socket_timeout(&socket, Timeout::Recv, Some(LOOK_EVERY)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut heard = Heard { ports, ..Heard::default() };
            let mut buffer = vec![0; 1 << 17];
            // What was sent before the stop is read before the end: the buffer is emptied first. Somebody always talks, so it
            // is not waited for silence.
            loop {
                let last = stopped.load(Ordering::Relaxed);
                let flags = if last { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
                match recv(&socket, &mut buffer[..], flags) {
                    Ok((read, _)) => heard.frame(&buffer[..read]),
                    Err(_) if last => return heard,
                    Err(_) => {}
                }
            }
        });
        Some(Self { stop, thread })
    }

    pub(crate) fn stop(self) -> Heard {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// One direction of one connection, or of one pair of UDP ports.
#[derive(Debug, Default)]
struct Stream {
    text: Vec<u8>,
    /// The sequence number that comes next.
    next: Option<u32>,
}

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    ports: BTreeMap<Port, String>,
    streams: BTreeMap<(String, SocketAddr, SocketAddr), Stream>,
    /// Who talks with each of our ports.
    pub(crate) clients: BTreeMap<String, BTreeSet<SocketAddr>>,
    /// How often something of a TCP connection was missed.
    pub(crate) gaps: u32,
}

impl Heard {
    /// What was said on each of our ports, one text for each direction of each connection.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.streams.iter().map(|((name, _, _), stream)| (name.as_str(), &stream.text[..]))
    }

    fn frame(&mut self, frame: &[u8]) {
        // Only IPv4 is spoken to our ports. A frame that ends too early is none.
        if frame.get(12..ETHERNET_HEADER) == Some(&[8, 0]) {
            let _ = self.packet(&frame[ETHERNET_HEADER..]);
        }
    }

    fn packet(&mut self, packet: &[u8]) -> Option<()> {
        let header = usize::from(packet.first()? & 15) * 4;
        let number = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        // A packet of more than 64 KiB says 0.
        let length = Some(usize::from(number(packet, 2)?)).filter(|length| *length > 0).unwrap_or(packet.len());
        let body = packet.get(header..length.min(packet.len()))?;
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        let (from, to) = (number(body, 0)?, number(body, 2)?);
        let port = match packet.get(9)? {
            6 => Port::Tcp,
            17 => Port::Udp,
            _ => return None,
        };
        let (name, to_us) = match (self.ports.get(&port(to)), self.ports.get(&port(from))) {
            (Some(name), _) => (name.clone(), true),
            (None, Some(name)) => (name.clone(), false),
            (None, None) => return None,
        };
        let (from, to) = (SocketAddr::from((address(12)?, from)), SocketAddr::from((address(16)?, to)));
        self.clients.entry(name.clone()).or_default().insert(if to_us { from } else { to });
        let stream = self.streams.entry((name, from, to)).or_default();
        match port(0) {
            Port::Udp(_) => stream.text.extend_from_slice(body.get(8..)?),
            Port::Tcp(_) => {
                let sequence = u32::from_be_bytes(body.get(4..8)?.try_into().ok()?);
                let syn = body.get(13)? & 2 != 0;
                self.gaps += u32::from(stream.take(sequence, syn, body.get(usize::from(body.get(12)? >> 4) * 4..)?));
            }
        }
        Some(())
    }
}

impl Stream {
    /// Each segment is seen twice, as it is sent and as it arrives, and may be repeated. Gives whether something before it was
    /// missed.
    fn take(&mut self, sequence: u32, syn: bool, segment: &[u8]) -> bool {
        if syn {
            self.next = Some(sequence.wrapping_add(1));
            return false;
        }
        // A connection that was there before us begins with what is seen of it.
        let next = self.next.unwrap_or(sequence);
        let ahead = sequence.wrapping_sub(next).cast_signed();
        let known = usize::try_from(ahead.wrapping_neg().max(0)).unwrap_or(0);
        // A probe of a connection that idles is one old byte.
        let Some(new) = segment.get(known..).filter(|new| !new.is_empty()) else { return false };
        self.text.extend_from_slice(new);
        self.next = Some(sequence.wrapping_add(u32::try_from(segment.len()).unwrap_or(0)));
        ahead > 0
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn segments_are_put_together_once_and_what_is_missing_is_counted() {
        let mut stream = Stream::default();
        assert!(!stream.take(u32::MAX - 1, true, b""));
        for (sequence, segment) in [(u32::MAX, &b"ab"[..]), (u32::MAX, b"ab"), (0, b"bcd"), (1, b"cd"), (2, b"de")] {
            assert!(!stream.take(sequence, false, segment));
        }
        assert!(stream.take(9, false, b"xyz"), "five bytes are missing");
        assert_eq!(stream.text, b"abcdexyz");
    }

    #[test]
    fn what_goes_over_one_of_our_ports_is_heard_once_and_nothing_else_is() {
        let servers = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [ours, other] = [0, 1].map(|n: usize| servers[n].local_addr().unwrap());
        let Some(wire) = Wire::listen(BTreeMap::from([(Port::Tcp(ours.port()), "ours".to_owned())])) else {
            assert!(!rustix::process::geteuid().is_root(), "root may listen");
            return;
        };
        let mut clients = Vec::new();
        for (server, at) in servers.iter().zip([ours, other]) {
            let mut client = TcpStream::connect(at).unwrap();
            let mut accepted = server.accept().unwrap().0;
            client.write_all(b"one, ").unwrap();
            client.write_all(b"two").unwrap();
            accepted.read_exact(&mut [0; 8]).unwrap();
            accepted.write_all(b"three").unwrap();
            client.read_exact(&mut [0; 5]).unwrap();
            clients.push(client.local_addr().unwrap());
        }
        let heard = wire.stop();
        let mut texts: Vec<_> = heard.texts().filter(|(_, text)| !text.is_empty()).collect();
        texts.sort_unstable();
        assert_eq!(texts, [("ours", &b"one, two"[..]), ("ours", b"three")]);
        assert_eq!(
            (heard.gaps, &heard.clients),
            (0, &BTreeMap::from([("ours".to_owned(), BTreeSet::from([clients[0]]))]))
        );
    }
}
