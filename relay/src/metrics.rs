//! The totals of a relay, from the packet thread to whoever scrapes them.
//!
//! Decides which number stands at which place. Leaves names, units and meanings to `tandem-telemetry`, whose table stands
//! in the same order.

use tandem_core::switch::Counter;
use tandem_net::batch::Batch;

use crate::engine::Engine;
use crate::thread::Counters;
use crate::tunnel::Tunnel;

/// How many numbers the packet thread publishes.
pub(crate) const COUNT: usize = Counter::COUNT + OTHERS;
const OTHERS: usize = 38;

/// What the packet thread publishes; `cpu_us`: how long it has run on a core.
pub(crate) fn totals(
    engine: &Engine,
    batch: &Batch,
    thread: Counters,
    tunnel: Option<&Tunnel>,
    cpu_us: u64,
) -> [u64; COUNT] {
    let (direct, tunnel) = tunnel.map(|tunnel| (tunnel.direct.counters, tunnel.counters)).unwrap_or_default();
    let (gate, residency, io) = (engine.gate().counters, engine.residency().counters(), batch.counters);
    let others: [u64; OTHERS] = [
        gate.bindings.get(),
        gate.unauthorized.get(),
        gate.stale_nonces.get(),
        gate.sha256.get(),
        gate.proven.get(),
        gate.not_served.get(),
        gate.limited.get(),
        residency.loads.get(),
        residency.writes.get(),
        residency.conflicts.get(),
        residency.undurable.get(),
        residency.abandoned.get(),
        residency.over_cap.get(),
        residency.held_in_vain.get(),
        io.received.get(),
        io.received_bytes.get(),
        io.sent.get(),
        io.sent_bytes.get(),
        io.oversized.get(),
        io.send_full.get(),
        io.send_refused.get(),
        io.copies_over_cap.get(),
        io.receive_errors.get(),
        thread.requests_over_cap.get(),
        thread.panics.get(),
        thread.fences.get(),
        tunnel.probes.get(),
        tunnel.passed_on.get(),
        tunnel.foreign.get(),
        tunnel.no_way_out.get(),
        cpu_us,
        direct.sent.get(),
        tunnel.returned.get(),
        direct.drained.get(),
        engine.switch().allocations() as u64,
        engine.residency().calls() as u64,
        u64::from(engine.restoring()),
        u64::from(engine.fenced()),
    ];
    let mut totals = [0; COUNT];
    totals.iter_mut().zip(engine.switch().counters.totals().iter().chain(&others)).for_each(|(to, from)| *to = *from);
    totals
}
