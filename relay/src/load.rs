//! What a relay says of its load, once a second.
//!
//! Decides how the packet thread's totals become rates. Asks nothing of that thread: it reads what it publishes anyway, so
//! that rates are right to the tenth of a second by which that is late. Leaves the way to the state servers to the store.

use std::sync::Arc;

use tandem_core::limits::{CPU_PERMILLE_MAX, LOAD_EVERY};
use tandem_core::load::{Load, Report};
use tandem_state_client::Store;
use tandem_telemetry::metric::Metric;
use tandem_telemetry::metric::relay::{self as metric, PACKET_THREAD};
use tandem_wire::id::RelayId;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::member::Given;
use crate::metrics::COUNT;
use crate::thread::Shared;

/// Everything that is needed to report.
pub(crate) struct Reporter {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) relay: RelayId,
    pub(crate) shared: Arc<Shared>,
    /// The table that the relay goes by, and the run of it that has registered.
    pub(crate) given: watch::Receiver<Option<Given>>,
    /// Closed when the packet thread ends.
    pub(crate) serving: watch::Receiver<bool>,
}

impl Reporter {
    /// Reports from the first table on, until the packet thread is gone.
    pub(crate) async fn run(self) {
        let Self { store, relay, shared, given, mut serving } = self;
        let (latest, reports) = watch::channel(None);
        let saying = async move {
            // Dropped at the end: then there is nobody who reports.
            let latest = latest;
            let mut every = tokio::time::interval(LOAD_EVERY.to_std());
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first comes at once, and there is nothing to say yet.
            every.tick().await;
            let mut before = (Instant::now(), shared.published.totals());
            loop {
                tokio::select! {
                    _ = every.tick() => {}
                    () = async { while serving.changed().await.is_ok() {} } => return,
                }
                let now = (Instant::now(), shared.published.totals());
                let us = u64::try_from((now.0 - before.0).as_micros()).unwrap_or(u64::MAX);
                let load = load(&before.1, &now.1, us);
                before = now;
                let Some((epoch, incarnation)) =
                    given.borrow().as_ref().map(|given| (given.share.epoch, given.share.incarnation))
                else {
                    continue;
                };
                latest.send_replace(Some(Report { relay, incarnation, epoch, load }));
            }
        };
        tokio::join!(saying, store.report_load(reports));
    }
}

/// All series of one metric together.
fn sum(totals: &[u64; COUNT], of: &'static Metric) -> u64 {
    let series = PACKET_THREAD.iter().zip(totals).filter(|(series, _)| std::ptr::eq(series.metric, of));
    series.fold(0, |sum: u64, (_, total)| sum.wrapping_add(*total))
}

/// What two readings of the totals, `us` microseconds apart, say.
fn load(before: &[u64; COUNT], now: &[u64; COUNT], us: u64) -> Load {
    // Totals wrap. What went on for no time at all has no rate.
    let more = |of| sum(now, of).wrapping_sub(sum(before, of));
    let rate = |of| u128::from(more(of)) * 1_000_000 / u128::from(us.max(1));
    let long = |of| u64::try_from(rate(of)).unwrap_or(u64::MAX);
    let short = |of| u32::try_from(rate(of)).unwrap_or(u32::MAX);
    let gauge = |of| u32::try_from(sum(now, of)).unwrap_or(u32::MAX);
    let cpu_permille = long(&metric::PACKET_THREAD_CPU) / 1_000;
    Load {
        calls: gauge(&metric::CALLS),
        allocations: gauge(&metric::ALLOCATIONS),
        received_packets_per_s: short(&metric::RECEIVED),
        sent_packets_per_s: short(&metric::SENT),
        received_bytes_per_s: long(&metric::RECEIVED_BYTES),
        sent_bytes_per_s: long(&metric::SENT_BYTES),
        dropped_packets_per_s: short(&metric::DROPPED),
        // It may be a little more than there is, for the moments of two readings are not exact.
        cpu_permille: u16::try_from(cpu_permille).unwrap_or(u16::MAX).min(CPU_PERMILLE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_telemetry::metric::Series;

    /// Totals in which these series, each found by its metric and its place among those of it, have these values.
    fn totals(values: &[(&'static Metric, usize, u64)]) -> [u64; COUNT] {
        let mut totals = [0; COUNT];
        for (of, nth, value) in values {
            let is = |series: &Series| std::ptr::eq(series.metric, *of);
            let at = PACKET_THREAD.iter().enumerate().filter(|(_, series)| is(series)).nth(*nth).unwrap().0;
            totals[at] = *value;
        }
        totals
    }

    #[test]
    fn two_readings_give_rates_by_the_second_and_what_is_held_as_it_is() {
        let before = totals(&[
            (&metric::RECEIVED, 0, u64::MAX - 99),
            (&metric::SENT, 0, 1_000),
            (&metric::DROPPED, 0, 7),
            (&metric::CALLS, 0, 90),
        ]);
        let now = totals(&[
            (&metric::RECEIVED, 0, 900),
            (&metric::SENT, 0, 1_400),
            (&metric::RECEIVED_BYTES, 0, 64_000),
            (&metric::SENT_BYTES, 0, 32_000),
            (&metric::DROPPED, 0, 8),
            (&metric::DROPPED, 5, 9),
            (&metric::PACKET_THREAD_CPU, 0, 250_000),
            (&metric::CALLS, 0, 12),
            (&metric::ALLOCATIONS, 0, 24),
        ]);
        let half_a_second = load(&before, &now, 500_000);
        let expected = Load {
            calls: 12,
            allocations: 24,
            received_packets_per_s: 2_000,
            sent_packets_per_s: 800,
            received_bytes_per_s: 128_000,
            sent_bytes_per_s: 64_000,
            dropped_packets_per_s: 20,
            cpu_permille: 500,
        };
        assert_eq!(half_a_second, expected);
        assert_eq!(load(&before, &now, 100_000).cpu_permille, 1_000, "no more than one core");
        let _ = load(&now, &before, 0);
    }
}
