//! Batches between several sockets: received by one, sent by many.
//!
//! Decides nothing about them, but that those for one socket go together, in the order in which they came. A socket that is
//! connected surfaces what the network says of its peer.

use std::io;

use tandem_core::switch::Slot;
use tandem_wire::redact::ClientAddr;

use super::{Batch, send};
use crate::socket::Socket;
use crate::sys::RawAddr;

/// Where a datagram goes: by one of several sockets, which have numbers of the caller's own.
#[derive(Clone, Copy)]
pub struct Hop {
    socket: u16,
    address: (RawAddr, libc::socklen_t),
}

impl std::fmt::Debug for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hop").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Hop {
    /// To whom the socket is connected to.
    #[must_use]
    pub const fn connected(socket: u16) -> Self {
        Self { socket, address: (RawAddr::EMPTY, 0) }
    }

    /// To a client, by the socket `through`, which has this number.
    #[must_use]
    pub fn to(socket: u16, through: &Socket, client: ClientAddr) -> Self {
        let address = RawAddr::new(client.socket_addr(), through.local_addr().is_ipv6());
        Self { socket, address }
    }
}

/// What came by a connected socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// So many datagrams.
    pub datagrams: usize,
    /// The network said that nobody is there.
    pub refused: bool,
}

impl Batch {
    /// An empty batch for several sockets.
    #[must_use]
    pub fn between_sockets() -> Self {
        Self::with(super::Families::default())
    }

    /// Receives what waits at a connected socket, up to 64 datagrams, without blocking. What was queued and not flushed is
    /// gone.
    pub fn receive_connected(&mut self, socket: &Socket) -> Arrived {
        let mut refused = false;
        let mut result = self.try_receive(socket);
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused) {
            refused = true;
            // The refusal stood before what has come.
            result = self.try_receive(socket);
        }
        match result {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => self.count_receive_error(&error),
            Ok(()) => {}
        }
        Arrived { datagrams: self.count, refused }
    }

    /// Shows each received datagram to `decide`, which may rewrite it and say where it goes.
    pub fn route_each(&mut self, mut decide: impl FnMut(ClientAddr, &mut Slot<'_>) -> Option<Hop>) {
        self.queue_each(|source, slot| decide(source, slot).map(|hop| (hop.socket, hop.address)));
    }

    /// Sends what is queued, without blocking: by one system call for each socket that has something to send, as long as it
    /// takes it. A datagram that cannot be sent is dropped and counted. `refused` is told the number of a socket whose peer
    /// is not there, as the network says; what is sent to a peer that is there is not lost by an older word.
    pub fn flush_each<'a>(&mut self, socket: impl Fn(u16) -> Option<&'a Socket>, mut refused: impl FnMut(u16)) {
        // Stable, so that no flow is reordered; and mostly there is one socket, or they stand in order.
        if !self.queue.is_sorted_by_key(|queued| queued.socket) {
            self.queue.sort_by_key(|queued| queued.socket);
        }
        for run in self.queue.chunk_by(|one, next| one.socket == next.socket) {
            let Some(number) = run.first().map(|queued| queued.socket) else { continue };
            let Some(through) = socket(number) else {
                self.counters.send_refused += run.len() as u64;
                continue;
            };
            let mut told = false;
            send(&self.slots, &self.copies, &mut self.counters, through, run, || {
                refused(number);
                !std::mem::replace(&mut told, true)
            });
        }
        self.queue.clear();
        self.copies.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::poll::Poll;
    use crate::socket::Waker;

    fn peer() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    fn receive(batch: &mut Batch, socket: &Socket) -> Arrived {
        let (poll, waker) = (Poll::new().unwrap(), Waker::new().unwrap());
        poll.add(socket, 0).unwrap();
        poll.wait(&waker, Some(Duration::from_secs(5))).unwrap();
        batch.receive_connected(socket)
    }

    fn text(socket: &UdpSocket) -> String {
        let mut buffer = [0; 100];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn what_one_socket_receives_leaves_by_many_each_with_its_own_bytes_and_in_order() {
        let public = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let relays: Vec<UdpSocket> = (0..5).map(|_| peer()).collect();
        let lines: Vec<Socket> =
            relays.iter().map(|relay| Socket::connected(relay.local_addr().unwrap()).unwrap()).collect();
        let client = peer();
        let mut batch = Batch::between_sockets();
        for n in 0..60_u16 {
            client.send_to(n.to_string().as_bytes(), public.local_addr()).unwrap();
        }
        let mut got = 0;
        while got < 60 {
            got += receive(&mut batch, &public).datagrams;
            batch.route_each(|_, slot| {
                let number: u16 = std::str::from_utf8(slot.datagram()).unwrap().parse().unwrap();
                // Every sixth goes nowhere.
                (number % 6 < 5).then(|| {
                    slot.start -= 5;
                    slot.len += 5;
                    let start = slot.start;
                    slot.buffer[start..start + 5].copy_from_slice(b"head ");
                    Hop::connected(number % 6)
                })
            });
            batch.flush_each(|number| lines.get(usize::from(number)), |_| panic!("nobody refuses"));
        }
        for (relay, n) in relays.iter().zip(0_u16..) {
            for k in 0..10 {
                assert_eq!(text(relay), format!("head {}", k * 6 + n));
            }
        }
        assert_eq!(batch.counters.sent.get(), 50);
        // And the other way: by a socket that is not connected, to a client.
        relays[2].send_to(b"back", lines[2].local_addr()).unwrap();
        // The wildcard is not where it speaks from; what is connected hears its peer alone.
        peer().send_to(b"forged", lines[2].local_addr()).unwrap();
        assert_eq!(receive(&mut batch, &lines[2]), Arrived { datagrams: 1, refused: false });
        let to = ClientAddr::new(client.local_addr().unwrap());
        batch.route_each(|_, _| Some(Hop::to(0, &public, to)));
        batch.flush_each(|_| Some(&public), |_| panic!("nobody refuses"));
        assert_eq!(text(&client), "back");
    }

    #[test]
    fn a_peer_that_is_gone_is_told_of_and_one_that_came_back_loses_nothing() {
        let relay = peer();
        let address = relay.local_addr().unwrap();
        let line = Socket::connected(address).unwrap();
        let public = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = peer();
        let mut batch = Batch::between_sockets();
        let mut send = |count: usize, told: &mut usize| {
            (0..count).for_each(|n| {
                client.send_to(&[n as u8], public.local_addr()).unwrap();
            });
            let mut got = 0;
            while got < count {
                got += receive(&mut batch, &public).datagrams;
                batch.route_each(|_, _| Some(Hop::connected(9)));
                batch.flush_each(|_| Some(&line), |number| *told += usize::from(number));
            }
        };
        drop(relay);
        let mut told = 0;
        send(1, &mut told);
        assert_eq!(told, 0, "the first one cannot know");
        // Somebody is there again before the refusal was read.
        let relay = UdpSocket::bind(address).unwrap();
        relay.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        send(3, &mut told);
        assert_eq!(told, 9, "the refusal of the one before");
        let mut buffer = [0; 8];
        for n in 0..3 {
            assert_eq!((relay.recv(&mut buffer).unwrap(), buffer[0]), (1, n));
        }
        // Read while nothing is sent, it is told too, and hides nothing that came before; a word is told once.
        relay.send_to(b"last", line.local_addr()).unwrap();
        drop(relay);
        send(1, &mut told);
        let mut batch = Batch::between_sockets();
        assert_eq!(receive(&mut batch, &line), Arrived { datagrams: 1, refused: true });
        assert_eq!(batch.receive_connected(&line), Arrived { datagrams: 0, refused: false });
        assert_eq!(batch.counters.receive_errors.get(), 0);
    }

    #[test]
    fn who_turns_away_reads_what_came_before_and_the_next_one_has_the_rest() {
        let first = Socket::bind_shared("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr();
        let client = peer();
        client.send_to(b"before", address).unwrap();
        let second = Socket::bind_shared(address).unwrap();
        first.turn_away().unwrap();
        for _ in 0..20 {
            client.send_to(b"after", address).unwrap();
        }
        let mut batch = Batch::between_sockets();
        let mut seen = Vec::new();
        assert_eq!(receive(&mut batch, &first).datagrams, 1);
        batch.route_each(|from, slot| {
            seen.push(slot.datagram().to_vec());
            Some(Hop::to(0, &first, from))
        });
        // It can still answer, from the address that it had.
        client.connect(address).unwrap();
        batch.flush_each(|_| Some(&first), |_| {});
        assert_eq!((seen, text(&client)), (vec![b"before".to_vec()], "before".to_owned()));
        let mut got = 0;
        while got < 20 {
            got += receive(&mut batch, &second).datagrams;
        }
        assert_eq!((got, batch.receive_connected(&first).datagrams), (20, 0));
    }
}
