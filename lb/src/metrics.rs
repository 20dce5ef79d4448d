//! The totals of a load balancer, from the packet thread to whoever scrapes them.
//!
//! Decides which number stands at which place. Leaves names, units and meanings to `tandem-telemetry`, whose table stands in
//! the same order.

use tandem_core::steering::Steering;
use tandem_net::batch::Batch;

use crate::thread::Counters;

/// How many numbers the packet thread publishes.
pub(crate) const COUNT: usize = 41;

/// What the packet thread publishes.
pub(crate) fn totals(steering: &Steering, batch: &Batch, thread: Counters) -> [u64; COUNT] {
    let (counters, io) = (steering.counters(), batch.counters);
    let all = [counters.forwarded, counters.acting, counters.returned, counters.probes, counters.echoes]
        .into_iter()
        .chain(counters.downs)
        .chain([counters.freezes, counters.pauses])
        .chain(counters.dropped)
        .chain([thread.no_way, thread.panics, thread.tables])
        .chain([io.received, io.sent, io.oversized, io.send_full, io.send_refused, io.receive_errors])
        .map(|total| total.get())
        .chain(steering.flows())
        .chain(steering.relays())
        .chain([u64::from(steering.epoch())]);
    let mut totals = [0; COUNT];
    totals.iter_mut().zip(all).for_each(|(to, from)| *to = from);
    totals
}
