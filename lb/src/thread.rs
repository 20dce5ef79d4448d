//! The packet thread: public sockets, lines, steering, no lock.
//!
//! Decides only in which order things are done: what relays sent, what the store said, what is due, what clients sent. So no
//! relay is judged silent whose echo has come. Leaves the store to the control task.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tandem_core::steering::{Back, FlowKey, Input, Line, Output, State, Steering, Verdict};
use tandem_core::switch::Slot;
use tandem_net::batch::{BATCH, Batch, DATAGRAM_MAX, Hop};
use tandem_net::clock;
use tandem_net::socket::{Socket, Waker};
use tandem_telemetry::metric::Series;
use tandem_telemetry::registry::{CounterSet, Source};
use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::HEAD_LEN;
use tandem_wire::units::{Mono, Now, Span, Total};
use tokio::sync::{mpsc, watch};

use crate::control::Event;
use crate::limits;
use crate::lines::Lines;
use crate::metrics::{COUNT, totals};

/// How the thread is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stop {
    No,
    /// Once what is under way has come to its end.
    Close,
    Now,
}

/// Whether the thread takes packets of clients.
#[derive(Debug)]
pub(crate) enum Serving {
    /// It does not know yet where they go.
    NotYet,
    /// At these addresses.
    At(Vec<SocketAddr>),
    /// One of its addresses cannot be had.
    Nowhere(io::Error),
}

/// What the thread shares with the rest of the process.
#[derive(Debug)]
pub(crate) struct Shared {
    /// A [`Stop`], with a wake after it.
    pub(crate) stop: AtomicU8,
    /// The totals, for whoever scrapes them.
    pub(crate) published: CounterSet<COUNT>,
}

impl Source for Shared {
    fn collect(&self, emit: &mut dyn FnMut(Series, u64)) {
        self.published.collect(emit);
    }
}

/// Everything that the packet thread owns.
pub(crate) struct PacketThread {
    /// Where to listen, once it is known what to do with packets.
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) publics: Vec<Socket>,
    pub(crate) lines: Lines,
    pub(crate) waker: Waker,
    pub(crate) steering: Steering,
    pub(crate) events: mpsc::Receiver<Event>,
    /// It ends with the thread.
    pub(crate) serving: watch::Sender<Serving>,
    pub(crate) shared: Arc<Shared>,
}

/// Counted by the thread itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Packets for clients that none of our sockets reaches.
    pub(crate) no_way: Total,
    /// Panics of steering. Each cost the one datagram or event that it happened on.
    pub(crate) panics: Total,
    /// Tables that were handed to steering.
    pub(crate) tables: Total,
}

/// What a turn leaves to the next one.
#[derive(Default)]
struct Turn {
    counters: Counters,
    published: Mono,
    /// The store's index was read once.
    listed: bool,
    /// When the thread ends, once it closes.
    until: Option<Mono>,
    /// Numbers of the sockets that can be read.
    ready: Vec<u64>,
    /// Lines whose relay is not there, as the network says.
    refused: Vec<Line>,
}

impl PacketThread {
    /// Runs until it is stopped.
    pub(crate) fn run(mut self) {
        let mut batch = Batch::between_sockets();
        let mut turn = Turn::default();
        while self.goes_on(&mut turn) {
            turn.ready.clear();
            // Without the kernel's word, nothing can be read; the next turn asks again.
            let _ = self.lines.poll.ready(|number| turn.ready.push(number));
            let now = clock::now();
            let mut more = self.take_returns(now, &mut batch, &mut turn);
            more |= self.take_events(now, &mut turn);
            if self.steering.next_deadline().is_some_and(|at| at <= now.mono) {
                let steering = &mut self.steering;
                guard(&mut turn.counters, || steering.expire(now));
            }
            self.carry_out(now, &mut turn);
            more |= self.take_packets(now, &mut batch, &mut turn);
            self.carry_out(now, &mut turn);
            if now.mono.since(turn.published) >= limits::PUBLISH_EVERY {
                turn.published = now.mono;
                self.shared.published.publish(&totals(&self.steering, &batch, turn.counters));
            }
            // Batches that are not full have emptied their sockets.
            if !more {
                self.wait(now, &turn);
            }
        }
        self.shared.published.publish(&totals(&self.steering, &batch, turn.counters));
    }

    /// Whether there is another turn.
    fn goes_on(&self, turn: &mut Turn) -> bool {
        let stop = self.shared.stop.load(Ordering::Relaxed);
        if stop == Stop::Close as u8 {
            let now = clock::now().mono;
            let until = *turn.until.get_or_insert_with(|| {
                self.turn_away();
                now.after(limits::CLOSE_FOR)
            });
            return now < until;
        }
        stop < Stop::Close as u8
    }

    /// Lets new packets go to who else listens at our addresses.
    fn turn_away(&self) {
        for socket in &self.publics {
            // One that is bound to no address of its own would answer from another one afterwards.
            if !socket.local_addr().ip().is_unspecified()
                && let Err(error) = socket.turn_away()
            {
                tracing::warn!(%error, "a socket cannot turn away what comes: it takes it for a moment longer");
            }
        }
    }

    /// What relays sent. Gives whether there may be more.
    fn take_returns(&mut self, now: Now, batch: &mut Batch, turn: &mut Turn) -> bool {
        let mut more = false;
        for line in turn.ready.iter().filter_map(|number| Lines::numbered(*number)) {
            let Some(socket) = self.lines.socket(line) else { continue };
            let arrived = batch.receive_connected(socket);
            more |= arrived.datagrams == BATCH;
            if arrived.refused {
                turn.refused.push(line);
            }
            let (steering, publics, counters) = (&mut self.steering, &self.publics, &mut turn.counters);
            batch.route_each(|_, slot| {
                let back = guard(counters, || steering.returned(now, line, slot.datagram()))?;
                let Back::To { flow: FlowKey { client, tcp }, listener } = back else { return None };
                slot.start += HEAD_LEN;
                slot.len = slot.len.saturating_sub(HEAD_LEN);
                // Nobody has come over TCP to a load balancer that serves none.
                let way = if tcp { None } else { way_to(publics, listener, client) };
                if way.is_none() {
                    counters.no_way += 1;
                }
                way
            });
            batch.flush_each(|number| publics.get(usize::from(number)), |_| {});
        }
        more
    }

    /// What clients sent. Gives whether there may be more.
    fn take_packets(&mut self, now: Now, batch: &mut Batch, turn: &mut Turn) -> bool {
        let mut more = false;
        for (socket, number) in self.publics.iter().zip(0_u8..) {
            if !turn.ready.contains(&u64::from(number)) {
                continue;
            }
            more |= batch.receive(socket) == BATCH;
            let (steering, counters) = (&mut self.steering, &mut turn.counters);
            batch.route_each(|client, slot| {
                if slot.len > DATAGRAM_MAX - HEAD_LEN {
                    steering.too_long();
                    return None;
                }
                let flow = FlowKey::udp(client);
                match guard(counters, || steering.datagram(now, flow, number, slot.datagram()))? {
                    Verdict::Forward { line, head } => {
                        put_head(slot, &head)?;
                        Some(Hop::connected(line.0))
                    }
                    Verdict::Drop(_) => None,
                }
            });
            let (lines, refused) = (&self.lines, &mut turn.refused);
            batch.flush_each(|line| lines.socket(Line(line)), |line| refused.push(Line(line)));
        }
        more
    }

    /// Takes in what the store said; a little at a time, so that packets do not wait for a list. Gives whether there may be
    /// more.
    fn take_events(&mut self, now: Now, turn: &mut Turn) -> bool {
        for _ in 0..limits::EVENTS_PER_TURN {
            let Ok(event) = self.events.try_recv() else { return false };
            let steering = &mut self.steering;
            match event {
                Event::Plan(plan) => {
                    turn.counters.tables += 1;
                    guard(&mut turn.counters, || steering.handle(now, Input::Plan(plan)));
                }
                Event::Claims(claims) => {
                    let take = || claims.into_iter().for_each(|claim| steering.handle(now, Input::Claim(claim)));
                    guard(&mut turn.counters, take);
                }
                Event::Listed => turn.listed = true,
                Event::Where(bucket, answer) => {
                    // Who asked may have gone.
                    let _ = answer.send(steering.locate(bucket));
                }
            }
            if turn.listed && self.steering.has_table() && self.publics.is_empty() {
                self.serve();
            }
        }
        true
    }

    /// Table and index were read: listens.
    fn serve(&mut self) {
        let bound: io::Result<Vec<Socket>> = self.listen.iter().map(|at| Socket::bind_shared(*at)).collect();
        let added = bound.and_then(|sockets| {
            sockets.iter().zip(0..).try_for_each(|(socket, number)| self.lines.poll.add(socket, number))?;
            Ok(sockets)
        });
        match added {
            Ok(sockets) => {
                let addresses: Vec<SocketAddr> = sockets.iter().map(Socket::local_addr).collect();
                self.steering.listens_at(&addresses);
                self.publics = sockets;
                self.serving.send_replace(Serving::At(addresses));
            }
            Err(error) => {
                self.shared.stop.store(Stop::Now as u8, Ordering::Relaxed);
                self.serving.send_replace(Serving::Nowhere(error));
            }
        }
    }

    /// Does what steering wants done.
    fn carry_out(&mut self, now: Now, turn: &mut Turn) {
        loop {
            while let Some(line) = turn.refused.pop() {
                self.steering.handle(now, Input::Refused(line));
            }
            let Some(output) = self.steering.poll() else { return };
            match output {
                Output::Connect { line, to } => self.lines.connect(line, to),
                Output::Disconnect { line } => self.lines.disconnect(line),
                Output::Probe { line, bytes } => {
                    self.lines.open(line);
                    if let Some(socket) = self.lines.socket(line)
                        && refused(socket.send(&bytes))
                    {
                        turn.refused.push(line);
                        // The word was about what was sent before; this one has not gone yet.
                        let _ = socket.send(&bytes);
                    }
                }
                Output::Turned { relay, state: State::Down(cause) } => {
                    tracing::warn!(relay = relay.0, ?cause, "a relay is taken for down");
                }
                // On a starved machine suspicions come and go many times a second.
                Output::Turned { relay, state } => tracing::debug!(relay = relay.0, ?state, "a relay has turned"),
                Output::Frozen { frozen: true } => {
                    tracing::warn!("relays fell silent together: taken for a fault of this machine");
                }
                Output::Frozen { frozen: false } => tracing::info!("relays are heard again"),
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, now: Now, turn: &Turn) {
        let due = self.steering.next_deadline().map_or(Span::from_secs(60), |at| at.since(now.mono));
        let publish = turn.published.after(limits::PUBLISH_EVERY).since(now.mono);
        let until = turn.until.map_or(Span::from_secs(60), |at| at.since(now.mono));
        // An error here would be one of our own making; the loop would then spin, which is slow but right.
        let _ = self.lines.poll.wait(&self.waker, Some(due.min(publish).min(until).to_std()));
        self.waker.reset();
    }
}

/// By which socket a client is reached: the one that it spoke to, as far as that is known; otherwise any of its family.
fn way_to(publics: &[Socket], listener: u8, client: ClientAddr) -> Option<Hop> {
    let address = client.socket_addr();
    let fits = |socket: &Socket| socket.local_addr().is_ipv6() || address.is_ipv4();
    let named = publics.get(usize::from(listener)).filter(|socket| fits(socket)).map(|socket| (listener, socket));
    let same = |(_, socket): &(u8, &Socket)| socket.local_addr().is_ipv4() == address.is_ipv4();
    let (number, socket) = named.or_else(|| (0..).zip(publics).find(same))?;
    Some(Hop::to(u16::from(number), socket, client))
}

/// Writes a head before a datagram.
fn put_head(slot: &mut Slot<'_>, head: &[u8; HEAD_LEN]) -> Option<()> {
    let start = slot.start.checked_sub(HEAD_LEN)?;
    slot.buffer.get_mut(start..slot.start)?.copy_from_slice(head);
    slot.start = start;
    slot.len += HEAD_LEN;
    Some(())
}

fn refused(result: io::Result<()>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Runs `act`; if it panics, what it was about is lost, and the load balancer goes on (attack X04). The count of panics raises
/// an alarm.
fn guard<T>(counters: &mut Counters, act: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(act));
    if result.is_err() {
        counters.panics += 1;
    }
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_what_it_happened_on_and_nothing_else() {
        let mut counters = Counters::default();
        assert_eq!(guard(&mut counters, || panic!("on purpose")), None::<()>);
        assert_eq!(guard(&mut counters, || 7), Some(7));
        assert_eq!(counters.panics, 1);
    }

    #[test]
    fn the_longest_packet_that_is_taken_leaves_room_for_its_head_and_there_is_room_before_each() {
        let mut buffer = [7; 100];
        let mut slot = Slot { buffer: &mut buffer, start: tandem_core::limits::HEADROOM, len: 10 };
        put_head(&mut slot, &[1; HEAD_LEN]).unwrap();
        assert_eq!((slot.len, slot.datagram()[..HEAD_LEN].to_vec()), (46, vec![1; HEAD_LEN]));
        slot.start = HEAD_LEN - 1;
        assert_eq!(put_head(&mut slot, &[1; HEAD_LEN]), None);
    }
}
