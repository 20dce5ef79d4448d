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
    let mut totals = [0; COUNT];
    totals.iter_mut().zip(all(steering, batch, thread)).for_each(|(to, from)| *to = from);
    totals
}

fn all(steering: &Steering, batch: &Batch, thread: Counters) -> impl Iterator<Item = u64> {
    let (counters, io) = (steering.counters(), batch.counters);
    [counters.forwarded, counters.acting, counters.returned, counters.probes, counters.echoes]
        .into_iter()
        .chain(counters.downs)
        .chain([counters.freezes, counters.pauses])
        .chain(counters.dropped)
        .chain([thread.no_way, thread.panics, thread.tables])
        .chain([io.received, io.sent, io.oversized, io.send_full, io.send_refused, io.receive_errors])
        .map(|total| total.get())
        .chain(steering.flows())
        .chain(steering.relays())
        .chain([u64::from(steering.epoch())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_total_has_its_place() {
        let (steering, batch) = (Steering::new(1), Batch::between_sockets());
        assert_eq!(all(&steering, &batch, Counters::default()).count(), COUNT);
    }
}
