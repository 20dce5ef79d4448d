//! The packet thread: one socket, one engine, no lock.
//!
//! Decides only in which order things are done: what is due, what the store said, what arrived; then everything that
//! follows from it is sent at once. Leaves the store to the control task, which it talks to over two bounded queues.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tandem_core::residency;
use tandem_core::switch::{Egress, Source};
use tandem_core::topology::Transport;
use tandem_net::batch::{BATCH, Batch};
use tandem_net::clock;
use tandem_net::socket::{Socket, Waker};
use tandem_telemetry::registry::CounterSet;
use tandem_wire::id::BucketId;
use tandem_wire::units::{Mono, Now, Span, Total};
use tokio::sync::{mpsc, watch};

use crate::control::{Request, Wanted};
use crate::engine::{Engine, Output, StoreEvent};
use crate::limits;
use crate::member::Given;
use crate::metrics::{COUNT, totals};
use crate::tunnel::Tunnel;

/// What the thread shares with the rest of the process.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Ends the thread, with a wake after it.
    pub(crate) stop: AtomicBool,
    /// The totals, for whoever scrapes them.
    pub(crate) published: CounterSet<COUNT>,
}

/// Everything that the packet thread owns.
pub(crate) struct PacketThread {
    pub(crate) socket: Socket,
    pub(crate) waker: Waker,
    pub(crate) engine: Engine,
    pub(crate) events: mpsc::Receiver<StoreEvent>,
    pub(crate) requests: mpsc::Sender<Request>,
    /// What the control task is to hold.
    pub(crate) wanted: watch::Sender<Wanted>,
    /// Its place in a fleet; without one it speaks to clients itself.
    pub(crate) fleet: Option<Fleet>,
    /// The engine has restored, and serves. It ends with the thread.
    pub(crate) serving: watch::Sender<bool>,
    pub(crate) shared: Arc<Shared>,
}

/// What the thread of a relay in a fleet has beside.
pub(crate) struct Fleet {
    pub(crate) tunnel: Tunnel,
    /// Tables, from the member task.
    pub(crate) given: watch::Receiver<Option<Given>>,
    /// Asks the member task for the table anew.
    pub(crate) fenced: mpsc::Sender<()>,
    /// Since when the engine is fenced.
    pub(crate) since: Option<Mono>,
    /// By this table a new one was asked for, because a load balancer takes us for down.
    pub(crate) asked: bool,
}

/// Counted by the thread itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Requests to the store that found the queue to the control task full: taken as "the store is away".
    pub(crate) requests_over_cap: Total,
    /// Panics of the engine. Each cost the one datagram or event that it happened on.
    pub(crate) panics: Total,
    /// Times that the thread stood still for so long that it answered nothing until it had read the table again.
    pub(crate) fences: Total,
}

impl PacketThread {
    /// Runs until it is stopped.
    pub(crate) fn run(mut self) {
        let mut batch = Batch::with_senders(&self.socket, self.senders());
        let mut counters = Counters::default();
        let mut published = Mono::default();
        // Until when the thread meant to sleep, at most.
        let mut meant = clock::now().mono;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let received = batch.receive(&self.socket);
            let now = clock::now();
            self.watch_the_clock(now, meant, &mut counters);
            if self.engine.next_deadline().is_some_and(|at| at <= now.mono) {
                guard(&mut counters, || self.engine.expire(now));
            }
            let told = self.take_events(now, &mut counters);
            let engine = &mut self.engine;
            match &mut self.fleet {
                None => batch.for_each(|client, slot| {
                    let source = Source { client, transport: Transport::Udp };
                    guard(&mut counters, || engine.datagram(now, source, slot)).flatten()
                }),
                Some(fleet) => batch.for_each(|from, slot| {
                    guard(&mut counters, || fleet.tunnel.datagram(engine, now, from, slot)).flatten()
                }),
            }
            if let Some((buckets, turn)) = self.engine.duty().take_change() {
                self.wanted.send_replace(Wanted::new(buckets, turn));
            }
            self.carry_out(now, &mut batch, &mut counters);
            self.flush(&mut batch);
            if now.mono.since(published) >= limits::PUBLISH_EVERY {
                published = now.mono;
                self.publish(&batch, counters);
            }
            meant = now.mono;
            // A batch that is not full has emptied the socket: to ask it again before waiting would cost a system call a
            // packet at low load.
            if received < BATCH && told == 0 {
                meant = self.wait(now, published);
            }
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.tunnel.say_goodbye(&mut batch);
        }
        self.flush(&mut batch);
        self.publish(&batch, counters);
    }

    fn publish(&self, batch: &Batch, counters: Counters) {
        let tunnel = self.fleet.as_ref().map(|fleet| &fleet.tunnel);
        self.shared.published.publish(&totals(&self.engine, batch, counters, tunnel, clock::thread_cpu_us()));
    }

    /// The sockets that send past the load balancer.
    fn senders(&self) -> &[Socket] {
        self.fleet.as_ref().map_or(&[], |fleet| fleet.tunnel.direct.sockets())
    }

    fn flush(&self, batch: &mut Batch) {
        let senders = self.senders();
        let socket = |number: u16| match number.checked_sub(1) {
            None => Some(&self.socket),
            Some(at) => senders.get(usize::from(at)),
        };
        // A socket that is connected to nobody is refused by nobody.
        batch.flush_each(socket, |_| {});
    }

    /// Takes a new table, and fences the engine when the thread was away for long (SIGSTOP, a frozen machine): others may
    /// have taken its calls over.
    fn watch_the_clock(&mut self, now: Now, meant: Mono, counters: &mut Counters) {
        let Some(fleet) = &mut self.fleet else { return };
        if now.mono.since(meant) > limits::FENCE_AFTER {
            counters.fences += 1;
            fleet.since = Some(now.mono);
            self.engine.fence(true);
            // One that waits there is as good.
            let _ = fleet.fenced.try_send(());
        }
        if fleet.tunnel.down && !fleet.asked {
            // We are well, and were not heard for a while: by a new table we are again. Once for each.
            fleet.asked = true;
            let _ = fleet.fenced.try_send(());
        }
        if !fleet.given.has_changed().unwrap_or(false) {
            return;
        }
        let Some(Given { share, read }) = fleet.given.borrow_and_update().clone() else { return };
        (fleet.tunnel.epoch, fleet.tunnel.incarnation) = (share.epoch, share.incarnation.0);
        fleet.tunnel.draining = share.draining;
        fleet.tunnel.down = false;
        if fleet.since.is_none_or(|since| read > since) {
            fleet.since = None;
            self.engine.fence(false);
        }
        if self.engine.duty().take(share) {
            fleet.asked = false;
        }
    }

    /// Takes in what the store said; a few at a time, so that packets do not wait for a restore.
    fn take_events(&mut self, now: Now, counters: &mut Counters) -> usize {
        let mut told = 0;
        while told < limits::EVENTS_PER_BATCH {
            let Ok(event) = self.events.try_recv() else { break };
            guard(counters, || self.engine.store(now, event));
            told += 1;
        }
        if told > 0 {
            let serving = !self.engine.restoring();
            self.serving.send_if_modified(|was| {
                // A later restore does not make a relay unready: it serves what it holds meanwhile.
                let changed = serving && !*was;
                *was |= serving;
                changed
            });
        }
        told
    }

    /// Does what the engine wants done.
    fn carry_out(&mut self, now: Now, batch: &mut Batch, counters: &mut Counters) {
        while let Some(output) = self.engine.poll() {
            let request = match output {
                Output::Answer { to, bytes, len, proves } => {
                    self.push(batch, to, proves, bytes.get(..len).unwrap_or(&[]));
                    continue;
                }
                Output::Packet { to, bytes } => {
                    self.push(batch, to, None, &bytes);
                    continue;
                }
                // Others may have it by now: it is written when we know that they have not.
                Output::Write { call, leg, .. } if self.engine.fenced() => {
                    self.engine.store(now, residency::Input::WriteAway { call, leg });
                    continue;
                }
                Output::Load { call } => Request::Load { call },
                Output::Write { call, leg, attachment, based_on } => Request::Write { call, leg, attachment, based_on },
            };
            if let Err(refused) = self.requests.try_send(request) {
                counters.requests_over_cap += 1;
                let event = match refused.into_inner() {
                    Request::Load { call } => residency::Input::LoadFailed { call },
                    Request::Write { call, leg, .. } => residency::Input::WriteAway { call, leg },
                };
                self.engine.store(now, event);
            }
        }
    }

    fn push(&mut self, batch: &mut Batch, to: Egress, proves: Option<BucketId>, bytes: &[u8]) {
        match &mut self.fleet {
            None => batch.push(to, &[], bytes),
            Some(fleet) => fleet.tunnel.push(batch, to, proves, bytes),
        }
    }

    /// Sleeps until there is something to do; gives until when at most.
    fn wait(&self, now: Now, published: Mono) -> Mono {
        let due = self.engine.next_deadline().map_or(Span::from_secs(60), |at| at.since(now.mono));
        let publish = published.after(limits::PUBLISH_EVERY).since(now.mono);
        // In a fleet it looks at the clock often: how long it stood still is seen but for one sleep.
        let publish = if self.fleet.is_some() { publish.min(limits::LOOK_EVERY) } else { publish };
        // An error here would be one of our own making; the loop would then spin, which is slow but right.
        let _ = self.socket.wait(&self.waker, Some(due.min(publish).to_std()));
        self.waker.reset();
        now.mono.after(due.min(publish))
    }
}

/// Runs `act`; if it panics, what it was about is lost, and the relay goes on (attack X04). The state that it leaves is
/// that of a call or two: what is wrong in it is put right by the next load, and the count of panics raises an alarm.
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
}
