//! Packets through one forwarder, inwards or outwards: sent, recognised, counted.
//!
//! Decides what a good packet is: it comes to the right side with the number of its client where that belongs. This side is
//! all clients (one socket with many addresses) and all relays (a socket each), which echo probes while packets run.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::{HEAD_LEN, Head, Probe};

use crate::client::{self, Client};
use crate::sys::{self, Inbox, Outgoing};
use crate::{Failure, host};

/// Packets on their way at once, and how many are sent at once when there is room.
const IN_FLIGHT: u64 = 192;
const CHUNK: usize = 48;
/// With nothing coming back for so long, what is in flight is lost.
const GIVE_UP_NS: u64 = 300_000_000;
const CHANNEL_HEADER: usize = 4;
static BODY: [u8; 2_048] = [7; 2_048];

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From clients to relays.
    In,
    /// From relays to clients.
    Out,
}

/// What became of the packets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) wrong: u64,
}

/// A relay's side of its line.
struct Relay {
    socket: UdpSocket,
    outgoing: Outgoing,
    inbox: Inbox,
    /// The other end, once it has been heard.
    line: Option<SocketAddrV4>,
}

/// Both sides of one forwarder.
pub(crate) struct World {
    client: Client,
    relays: Vec<Relay>,
    /// Where clients send.
    pub(crate) public: Option<SocketAddrV4>,
    at: usize,
}

impl World {
    pub(crate) fn new(relays: usize) -> Result<Self, Failure> {
        let relay = || -> Result<Relay, Failure> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            sys::large_buffers(&socket)?;
            Ok(Relay { socket, outgoing: Outgoing::new(), inbox: Inbox::new(), line: None })
        };
        let relays = (0..relays).map(|_| relay()).collect::<Result<_, _>>()?;
        Ok(Self { client: Client::new()?, relays, public: None, at: 0 })
    }

    pub(crate) fn client_port(&self) -> u16 {
        self.client.address(0).port()
    }

    pub(crate) fn relay_ports(&self) -> Result<Vec<u16>, Failure> {
        self.relays.iter().map(|relay| Ok(relay.socket.local_addr()?.port())).collect()
    }

    /// Waits until every relay has been heard from, and has echoed for a while.
    pub(crate) fn meet(&mut self) -> Result<(), Failure> {
        let start = sys::monotonic();
        while self.relays.iter().any(|relay| relay.line.is_none()) || sys::monotonic() - start < 200_000_000 {
            self.at_relays(0, &mut Counts::default())?;
            if sys::interrupted() || sys::monotonic() - start > 10_000_000_000 {
                return Err("a relay is not spoken to".into());
            }
        }
        Ok(())
    }

    /// Keeps packets on their way for this long.
    pub(crate) fn run(&mut self, way: Way, flows: usize, payload: usize, nanos: u64) -> Result<Counts, Failure> {
        self.client.clear()?;
        let (mut counts, mut sent, mut forgotten) = (Counts::default(), 0_u64, 0_u64);
        let start = sys::monotonic();
        let mut heard_at = start;
        loop {
            let now = sys::monotonic();
            let over = now - start >= nanos || sys::interrupted();
            let in_flight = sent.saturating_sub(counts.received + counts.wrong + forgotten);
            if over && (in_flight == 0 || now - heard_at > GIVE_UP_NS) {
                counts.lost = sent.saturating_sub(counts.received + counts.wrong);
                return Ok(counts);
            }
            if !over && in_flight + CHUNK as u64 <= IN_FLIGHT {
                sent += match way {
                    Way::In => self.send_in(flows, payload)?,
                    Way::Out => self.send_out(flows, payload)?,
                };
            }
            let before = counts.received;
            self.at_relays(flows, &mut counts)?;
            if way == Way::Out {
                self.at_clients(flows, &mut counts)?;
            }
            if counts.received > before {
                heard_at = now;
            } else if !over && now - heard_at > GIVE_UP_NS {
                // What is on its way is lost; it is counted at the end.
                forgotten += in_flight;
                heard_at = now;
            }
        }
    }

    fn next(&mut self, flows: usize) -> usize {
        self.at = (self.at + 1) % flows;
        // Neighbours in time are no neighbours in a table.
        self.at.wrapping_mul(1_009) % flows
    }

    fn send_in(&mut self, flows: usize, payload: usize) -> Result<u64, Failure> {
        let to = self.public.ok_or("no forwarder")?;
        for _ in 0..CHUNK {
            let n = self.next(flows);
            let [l0, l1] = (payload as u16).to_be_bytes();
            let [n0, n1, n2, n3] = (n as u32).to_be_bytes();
            let head = [0x40, 0, l0, l1, n0, n1, n2, n3];
            self.client.outgoing.push(client::ip(n), to, &head, &BODY[..payload - 4]);
        }
        Ok(self.client.flush()? as u64)
    }

    fn send_out(&mut self, flows: usize, payload: usize) -> Result<u64, Failure> {
        for k in 0..CHUNK {
            let n = self.next(flows);
            // A relay sends in runs, as it receives.
            let at = k * self.relays.len() / CHUNK;
            let to = ClientAddr::new(self.client.address(n).into());
            let head = Head { back: true, ..Head::to_relay(to, host::bucket(n), 1, host::cookie(at)) };
            let mut bytes = [0; HEAD_LEN + CHANNEL_HEADER + 4];
            bytes[..HEAD_LEN].copy_from_slice(&head.to_bytes());
            bytes[HEAD_LEN..HEAD_LEN + 2].copy_from_slice(&[0x40, 0]);
            bytes[HEAD_LEN + 4..].copy_from_slice(&(n as u32).to_be_bytes());
            let relay = &mut self.relays[at];
            let line = relay.line.ok_or("no line")?;
            relay.outgoing.push(Ipv4Addr::LOCALHOST, line, &bytes, &BODY[..payload - 4]);
        }
        let mut sent = 0;
        for relay in &mut self.relays {
            sent += relay.outgoing.flush(&relay.socket)? as u64;
        }
        Ok(sent)
    }

    /// What has come to the relays: probes, which are echoed, and packets of clients.
    fn at_relays(&mut self, flows: usize, counts: &mut Counts) -> Result<(), Failure> {
        for (relay, number) in self.relays.iter_mut().zip(0..) {
            relay.inbox.receive(&relay.socket)?;
            for datagram in relay.inbox.iter() {
                relay.line = Some(datagram.from);
                let Ok((head, rest)) = Head::read(datagram.bytes) else {
                    counts.wrong += 1;
                    continue;
                };
                if let Some(probe) = Probe::read(rest).filter(|_| head.probe) {
                    let probe = Probe { incarnation: host::INCARNATION, ..probe };
                    let head = Head { back: true, cookie: host::cookie(number), ..head };
                    let echo = [&head.to_bytes()[..], &probe.to_bytes()].concat();
                    relay.socket.send_to(&echo, datagram.from)?;
                } else if let Some(([0x40, 0, _, _, n @ ..], _)) = rest.split_first_chunk::<8>() {
                    let n = u32::from_be_bytes(*n) as usize;
                    let right = n < flows && head.client == ClientAddr::new(self.client.address(n).into());
                    *(if right { &mut counts.received } else { &mut counts.wrong }) += 1;
                }
            }
        }
        Ok(())
    }

    fn at_clients(&mut self, flows: usize, counts: &mut Counts) -> Result<(), Failure> {
        self.client.inbox.receive(&self.client.socket)?;
        for datagram in self.client.inbox.iter() {
            let n = datagram.bytes.get(4..8).and_then(|n| n.try_into().ok()).map(u32::from_be_bytes);
            let right = n.is_some_and(|n| (n as usize) < flows && client::ip(n as usize) == datagram.to)
                && Some(datagram.from) == self.public;
            *(if right { &mut counts.received } else { &mut counts.wrong }) += 1;
        }
        Ok(())
    }
}
