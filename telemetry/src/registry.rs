//! Gathers numbers and renders them for a scrape.
//!
//! Decides how a thread that must not wait publishes its totals: plain stores into a fixed table, read when somebody
//! scrapes. Leaves names to [`crate::metric`]. There is no listener here; the admin server asks for the text.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Recorder, SetRecorderError};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::metric::{self, Kind, Series};

/// Something that has totals to show.
pub trait Source: Send + Sync {
    /// Gives every series and its total as it is now.
    fn collect(&self, emit: &mut dyn FnMut(Series, u64));
}

/// Totals that lie somewhere else: `emit` is called by whatever this closure knows.
impl<F: Fn(&mut dyn FnMut(Series, u64)) + Send + Sync> Source for F {
    fn collect(&self, emit: &mut dyn FnMut(Series, u64)) {
        self(emit);
    }
}

/// Counters and gauges that one thread publishes and any other may read: a fixed table, no lock, nothing allocated.
///
/// The owner keeps plain numbers and calls [`CounterSet::publish`] now and then; a scrape shows what was published last.
#[derive(Debug)]
pub struct CounterSet<const N: usize> {
    series: &'static [Series; N],
    totals: [AtomicU64; N],
}

impl<const N: usize> CounterSet<N> {
    /// A set in which `series[i]` names the total with index `i`.
    #[must_use]
    pub const fn new(series: &'static [Series; N]) -> Self {
        Self { series, totals: [const { AtomicU64::new(0) }; N] }
    }

    /// Publishes totals since the start, not differences. Relaxed stores: each number is whole, and two of them may be of
    /// different moments.
    pub fn publish(&self, totals: &[u64; N]) {
        for (to, from) in self.totals.iter().zip(totals) {
            to.store(*from, Ordering::Relaxed);
        }
    }

    /// What was published last.
    #[must_use]
    pub fn totals(&self) -> [u64; N] {
        let mut totals = [0; N];
        for (to, from) in totals.iter_mut().zip(&self.totals) {
            *to = from.load(Ordering::Relaxed);
        }
        totals
    }
}

impl<const N: usize> Source for CounterSet<N> {
    fn collect(&self, emit: &mut dyn FnMut(Series, u64)) {
        for (series, total) in self.series.iter().zip(&self.totals) {
            emit(*series, total.load(Ordering::Relaxed));
        }
    }
}

/// All numbers of a process.
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    sources: Mutex<Vec<Arc<dyn Source>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Numbers of their own, seen by nobody but who asks for them here.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let recorder = Arc::new(PrometheusBuilder::new().build_recorder());
        for metric in metric::all() {
            let (name, unit, help) = (metric.name.into(), Some(metric.unit), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
            }
        }
        // What an alarm watches is there from the start: a first panic is to be a rise, not a new series.
        for metric in [&metric::PANICS, &metric::HTTP_ACCEPT_ERRORS] {
            metric.plain().record(&recorder, 0);
        }
        let handle = recorder.handle();
        Arc::new(Self { recorder, handle, sources: Mutex::new(Vec::new()) })
    }

    /// Makes them the numbers of the process, so that [`crate::metric::Metric::add`] counts here.
    ///
    /// # Errors
    /// When the process has others already: a mistake of whoever calls this twice.
    pub fn install(&self) -> Result<(), AlreadyInstalled> {
        metrics::set_global_recorder(Arc::clone(&self.recorder)).map_err(|_: SetRecorderError<_>| AlreadyInstalled)
    }

    /// Shows what `source` publishes from now on.
    pub fn attach(&self, source: Arc<dyn Source>) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// The text of a scrape, in Prometheus' format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source.collect(&mut |series, total| series.record(&self.recorder, total));
        }
        self.handle.render()
    }

    /// Folds what piled up since the last scrape. To be called every [`crate::limits::UPKEEP_EVERY`].
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// The process has its metrics already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("metrics are installed already")]
pub struct AlreadyInstalled;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::relay;

    #[test]
    fn published_totals_are_what_a_scrape_shows() {
        let metrics = Metrics::new();
        let set = Arc::new(CounterSet::new(&relay::PACKET_THREAD));
        metrics.attach(Arc::clone(&set) as Arc<dyn Source>);
        let mut totals = [0; relay::PACKET_THREAD.len()];
        totals[0] = 47;
        totals[15] = u64::MAX - 8;
        set.publish(&totals);
        totals[0] = 42;
        set.publish(&totals);
        assert_eq!(set.totals(), totals);
        let text = metrics.render();
        assert!(text.contains("tandem_relay_forwarded_packets_total{way=\"channel_to_channel\"} 42\n"), "{text}");
        assert!(text.contains("tandem_relay_allocations_refused_total 18446744073709551607\n"), "{text}");
        assert!(text.contains("# TYPE tandem_relay_forwarded_bytes_total counter\n"), "{text}");
        assert!(text.contains("# HELP tandem_relay_dropped_packets_total Packets dropped, by cause.\n"), "{text}");
    }

    #[test]
    fn a_gauge_may_fall_again() {
        let metrics = Metrics::new();
        let set = Arc::new(CounterSet::new(&relay::PACKET_THREAD));
        metrics.attach(Arc::clone(&set) as Arc<dyn Source>);
        let mut totals = [0; relay::PACKET_THREAD.len()];
        // The last four are gauges: allocations, calls, and two more.
        let calls = totals.len() - 3;
        totals[calls] = 7;
        set.publish(&totals);
        assert!(metrics.render().contains("tandem_relay_calls 7\n"));
        totals[calls] = 3;
        set.publish(&totals);
        let text = metrics.render();
        assert!(text.contains("tandem_relay_calls 3\n") && text.contains("tandem_relay_restoring 0\n"), "{text}");
    }
}
