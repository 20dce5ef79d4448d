//! Packets through one forwarder: sent, recognised, counted.
//!
//! Decides what a good packet is: it comes from where it should, to the leg that it was meant for, once, in order, with
//! the head that this leg should see and every byte of the payload that its sender made. Leaves CPU time to `process`.
//!
//! Payload: run u32 · sender u32 · sequence u64 · sent at u64 (ns), then a stretch of a fixed random pattern.

use std::net::SocketAddrV4;
use std::sync::OnceLock;

use crate::client::{self, Client};
use crate::{Failure, sys};

const HEADER: usize = 24;
const CHANNEL_HEADER: usize = 4;
/// Packets on their way at once. The research page's number: enough that no forwarder waits, less than any socket's
/// buffer.
const IN_FLIGHT: u64 = 192;
/// Sent at once, when there is room for that many: the generator's system calls carry full batches.
const CHUNK: u64 = 48;
/// With nothing coming back for so long, what is in flight is lost. Longer than any other job keeps a processor.
const GIVE_UP_NS: u64 = 300_000_000;

/// How one leg sends and receives through a forwarder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leg {
    /// The channel that it sends on.
    pub(crate) channel: u16,
    /// The channel that it receives on; `None`: the payload comes bare, as to a TURN peer.
    pub(crate) expects: Option<u16>,
    /// Where its packets come from.
    pub(crate) from: SocketAddrV4,
}

/// The way through a forwarder: leg 2k and leg 2k+1 are one call.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) to: SocketAddrV4,
    pub(crate) legs: Vec<Leg>,
}

/// What became of the packets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    /// Came back good.
    pub(crate) received: u64,
    /// Never came, until the end of the run.
    pub(crate) lost: u64,
    /// Came to the wrong leg, from the wrong address, with the wrong head or with a wrong byte.
    pub(crate) wrong: u64,
    /// Came twice or out of order.
    pub(crate) repeated: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.wrong += other.wrong;
        self.repeated += other.repeated;
    }
}

/// Fixed random bytes (xorshift): long enough for the longest payload at each of 1,024 offsets.
fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..4_096)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect()
    })
}

fn stretch(pattern: &'static [u8], sender: usize, sequence: u64, len: usize) -> &'static [u8] {
    let at = (sender.wrapping_mul(131) as u64).wrapping_add(sequence.wrapping_mul(17)) as usize % 1_024;
    &pattern[at..at + len]
}

/// A run of packets through one forwarder.
pub(crate) struct Run<'a> {
    client: &'a mut Client,
    route: &'a Route,
    /// The order in which legs send, over and over.
    order: &'a [usize],
    at: usize,
    number: u32,
    payload: usize,
    pattern: &'static [u8],
    /// Per leg as a sender: how many it has sent.
    sent: Vec<u64>,
    /// Per leg as a sender: the lowest sequence that has not come.
    next: Vec<u64>,
    in_flight: u64,
    heard_at: u64,
    pub(crate) counts: Counts,
    /// Delays in nanoseconds, if they are kept.
    pub(crate) delays: Vec<u32>,
    keep_delays: bool,
}

impl<'a> Run<'a> {
    /// `number` differs from run to run, so that a straggler is not taken for one of this run's.
    pub(crate) fn new(
        client: &'a mut Client,
        route: &'a Route,
        order: &'a [usize],
        number: u32,
        payload: usize,
    ) -> Result<Self, Failure> {
        client.clear()?;
        Ok(Self {
            client,
            route,
            order,
            at: 0,
            number,
            payload,
            pattern: pattern(),
            sent: vec![0; route.legs.len()],
            next: vec![0; route.legs.len()],
            in_flight: 0,
            heard_at: sys::monotonic(),
            counts: Counts::default(),
            delays: Vec::new(),
            keep_delays: false,
        })
    }

    fn push(&mut self, now: u64) {
        let sender = self.order[self.at];
        self.at = if self.at + 1 == self.order.len() { 0 } else { self.at + 1 };
        let sequence = self.sent[sender];
        self.sent[sender] += 1;
        let mut head = [0; CHANNEL_HEADER + HEADER];
        head[0..2].copy_from_slice(&self.route.legs[sender].channel.to_be_bytes());
        head[2..4].copy_from_slice(&(self.payload as u16).to_be_bytes());
        head[4..8].copy_from_slice(&self.number.to_be_bytes());
        head[8..12].copy_from_slice(&(sender as u32).to_be_bytes());
        head[12..20].copy_from_slice(&sequence.to_be_bytes());
        head[20..28].copy_from_slice(&now.to_be_bytes());
        let body = stretch(self.pattern, sender, sequence, self.payload - HEADER);
        self.client.outgoing.push(client::ip(sender), self.route.to, &head, body);
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let sent = self.client.flush()? as u64;
        self.counts.sent += sent;
        self.in_flight += sent;
        Ok(())
    }

    /// Takes in what has come.
    fn receive(&mut self) -> Result<usize, Failure> {
        let got = self.client.inbox.receive(&self.client.socket)?;
        for datagram in self.client.inbox.iter() {
            let seen = check(self.route, self.number, self.payload, self.pattern, &datagram);
            match seen {
                Seen::Good { sender, sequence, sent_at } => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    if sequence < self.next[sender] {
                        self.counts.repeated += 1;
                        continue;
                    }
                    self.next[sender] = sequence + 1;
                    self.counts.received += 1;
                    if self.keep_delays {
                        self.delays.push(datagram.at.saturating_sub(sent_at).min(u64::from(u32::MAX)) as u32);
                    }
                }
                Seen::Older => {}
                Seen::Wrong => self.counts.wrong += 1,
            }
        }
        Ok(got)
    }

    /// Keeps [`IN_FLIGHT`] packets on their way for this long.
    pub(crate) fn closed(&mut self, nanos: u64) -> Result<(), Failure> {
        let start = sys::monotonic();
        self.heard_at = start;
        loop {
            let now = sys::monotonic();
            if now.saturating_sub(start) >= nanos || sys::interrupted() {
                return Ok(());
            }
            if IN_FLIGHT - self.in_flight.min(IN_FLIGHT) >= CHUNK {
                for _ in 0..CHUNK {
                    self.push(now);
                }
                self.flush()?;
            }
            if self.receive()? > 0 {
                self.heard_at = now;
            } else if now.saturating_sub(self.heard_at) > GIVE_UP_NS {
                // Counted as lost at the end, as everything that has not come by then.
                self.in_flight = 0;
                self.heard_at = now;
            }
        }
    }

    /// Sends `pps` packets a second, whatever comes back, for this long. Delays are kept if `keep`.
    pub(crate) fn paced(&mut self, pps: u64, nanos: u64, keep: bool) -> Result<(), Failure> {
        self.keep_delays = keep;
        let start = sys::monotonic();
        let mut sent = 0;
        loop {
            let past = sys::monotonic().saturating_sub(start);
            if past >= nanos || sys::interrupted() {
                return Ok(());
            }
            let due = (past as u128 * u128::from(pps) / 1_000_000_000) as u64;
            let count = (due - sent).min(sys::BATCH as u64);
            if count > 0 {
                let now = sys::realtime();
                for _ in 0..count {
                    self.push(now);
                }
                self.flush()?;
                sent += count;
            }
            self.receive()?;
        }
    }

    /// Waits for what is still on its way, and counts as lost what does not come.
    pub(crate) fn drain(&mut self) -> Result<Counts, Failure> {
        let mut heard_at = sys::monotonic();
        while self.counts.received + self.counts.repeated < self.counts.sent {
            let now = sys::monotonic();
            if self.receive()? > 0 {
                heard_at = now;
            } else if now.saturating_sub(heard_at) > GIVE_UP_NS || sys::interrupted() {
                break;
            }
        }
        self.counts.lost = self.counts.sent.saturating_sub(self.counts.received);
        Ok(self.counts)
    }
}

enum Seen {
    Good {
        sender: usize,
        sequence: u64,
        sent_at: u64,
    },
    /// Of an earlier run.
    Older,
    Wrong,
}

fn check(route: &Route, run: u32, payload: usize, pattern: &'static [u8], datagram: &sys::Incoming<'_>) -> Seen {
    let receiver = client::number(datagram.to);
    let Some(leg) = route.legs.get(receiver) else { return Seen::Wrong };
    let mut bytes = datagram.bytes;
    if let Some(channel) = leg.expects {
        let Some(([c0, c1, l0, l1], rest)) = bytes.split_first_chunk() else { return Seen::Wrong };
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        if u16::from_be_bytes([*c0, *c1]) != channel || len != rest.len() {
            return Seen::Wrong;
        }
        bytes = rest;
    }
    let Some((head, body)) = bytes.split_first_chunk::<HEADER>() else { return Seen::Wrong };
    let [r0, r1, r2, r3, f0, f1, f2, f3, rest @ ..] = *head;
    let (mut sequence, mut sent_at) = ([0; 8], [0; 8]);
    sequence.copy_from_slice(&rest[..8]);
    sent_at.copy_from_slice(&rest[8..]);
    let (sequence, sent_at) = (u64::from_be_bytes(sequence), u64::from_be_bytes(sent_at));
    if u32::from_be_bytes([r0, r1, r2, r3]) != run {
        return Seen::Older;
    }
    let sender = u32::from_be_bytes([f0, f1, f2, f3]) as usize;
    let good = sender == receiver ^ 1
        && datagram.from == leg.from
        && body.len() == payload - HEADER
        && body == stretch(pattern, sender, sequence, payload - HEADER);
    if good { Seen::Good { sender, sequence, sent_at } } else { Seen::Wrong }
}

/// A fixed order of the first `count` legs that no table has in its memory order.
pub(crate) fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for n in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(n, (state % (n as u64 + 1)) as usize);
    }
    order
}
