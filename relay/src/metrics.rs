//! The totals of a relay, from the packet thread to whoever scrapes them.
//!
//! Decides which number stands at which place. Leaves names, units and meanings to `tandem-telemetry`, whose table stands
//! in the same order.

use tandem_core::switch::Counter;
use tandem_net::batch::Batch;

use crate::engine::Engine;
use crate::thread::Counters;

/// How many numbers the packet thread publishes.
pub(crate) const COUNT: usize = Counter::COUNT + OTHERS;
const OTHERS: usize = 26;

/// What the packet thread publishes.
pub(crate) fn totals(engine: &Engine, batch: &Batch, thread: Counters) -> [u64; COUNT] {
    let (gate, residency, io) = (engine.gate().counters, engine.residency().counters(), batch.counters);
    let others: [u64; OTHERS] = [
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
    ];
    let mut totals = [0; COUNT];
    totals.iter_mut().zip(engine.switch().counters.totals().iter().chain(&others)).for_each(|(to, from)| *to = *from);
    totals
}
