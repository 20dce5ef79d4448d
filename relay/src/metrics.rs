//! The totals of a relay, from the packet thread to whoever scrapes them.
//!
//! Decides which number stands at which place. Leaves names, units and meanings to `tandem-telemetry`.

use std::sync::atomic::{AtomicU64, Ordering};

use tandem_core::switch::Counter;
use tandem_net::batch::Batch;

use crate::engine::Engine;
use crate::thread::Counters;

/// A snapshot of what a relay counts and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals(pub [u64; COUNT]);

const SWITCH: usize = Counter::COUNT;
const OTHERS: usize = 26;
/// How many numbers there are.
pub const COUNT: usize = SWITCH + OTHERS;

/// The totals as the packet thread published them last.
#[derive(Debug)]
pub(crate) struct Published([AtomicU64; COUNT]);

impl Default for Published {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; COUNT])
    }
}

impl Published {
    pub(crate) fn publish(&self, engine: &Engine, batch: &Batch, thread: Counters) {
        let switch = engine.switch().counters.totals();
        let others = others(engine, batch, thread);
        for (place, total) in self.0.iter().zip(switch.iter().chain(&others)) {
            place.store(*total, Ordering::Relaxed);
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = [0; COUNT];
        totals.iter_mut().zip(&self.0).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
        Totals(totals)
    }
}

fn others(engine: &Engine, batch: &Batch, thread: Counters) -> [u64; OTHERS] {
    let (gate, residency, io) = (engine.gate().counters, engine.residency().counters(), batch.counters);
    [
        gate.bindings,
        gate.unauthorized,
        gate.stale_nonces,
        gate.sha256,
        gate.proven,
        gate.not_served,
        gate.limited,
        residency.loads,
        residency.writes,
        residency.conflicts,
        residency.undurable,
        residency.abandoned,
        residency.over_cap,
        residency.held_in_vain,
        io.received,
        io.sent,
        io.oversized,
        io.send_full,
        io.send_refused,
        io.copies_over_cap,
        io.receive_errors,
        thread.requests_over_cap,
        thread.panics,
        engine.switch().allocations() as u64,
        engine.residency().calls() as u64,
        u64::from(engine.restoring()),
    ]
}
