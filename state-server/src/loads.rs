//! How loaded the relays are, at one state server.
//!
//! Decides nothing: asks the cache which run of a relay has registered, and sums up for a scrape. Nothing of it reaches the
//! backend.

use std::sync::atomic::Ordering;

use tandem_core::load::Load;
use tandem_core::topology::Incarnation;
use tandem_state_client::{Key, Reports, SeenLoad, load};
use tandem_telemetry::metric::{Series, state as metric};
use tandem_wire::id::{PopId, RelayId};

use crate::cache::Cache;
use crate::shared::Shared;

fn registered(cache: &Cache, pop: PopId, relay: RelayId) -> Option<Incarnation> {
    load::incarnation(&cache.read(Key::Relay(pop, relay))?.value)
}

impl Shared {
    pub(crate) async fn report_load(&self, pop: PopId, reports: Reports) {
        load::each(reports, |report| {
            let entry = self.read(|cache| cache.read(Key::Relay(pop, report.relay)));
            self.loads.take(report, entry.as_ref().map(|entry| &*entry.value));
        })
        .await;
    }

    pub(crate) fn loads(&self) -> Vec<SeenLoad> {
        self.read(|cache| self.loads.list(|relay| registered(cache, cache.pop(), relay)))
    }
}

/// What was done with reports, and the load of all relays together: no series names a relay.
pub(crate) fn collect(shared: &Shared, emit: &mut dyn FnMut(Series, u64)) {
    let c = &shared.loads.counters;
    let reports = [&c.taken, &c.unknown, &c.older, &c.impossible, &c.over_cap];
    for (series, total) in metric::LOAD_REPORTS.iter().zip(reports) {
        emit(*series, total.load(Ordering::Relaxed));
    }
    let loads = shared.loads();
    let sum = |what: fn(&Load) -> u32| loads.iter().map(|seen| u64::from(what(&seen.report.load))).sum();
    let max = |what: fn(&Load) -> u32| loads.iter().map(|seen| u64::from(what(&seen.report.load))).max().unwrap_or(0);
    let totals: [u64; 8] = [
        loads.len() as u64,
        sum(|load| load.calls),
        sum(|load| load.allocations),
        max(|load| load.allocations),
        sum(|load| load.received_packets_per_s),
        sum(|load| load.sent_packets_per_s),
        sum(|load| load.dropped_packets_per_s),
        max(|load| load.cpu_permille.into()),
    ];
    for (series, total) in metric::LOADS.iter().zip(totals) {
        emit(*series, total);
    }
}
