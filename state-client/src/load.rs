//! What relays say of their load, on its way to whoever asks: in memory only, at every state server.
//!
//! Decides what a store keeps of it and for whom, so that all stores mean the same. Leaves to `core::load` which report
//! counts, and the wire to `grpc`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tandem_core::load::{Ignored, Loads, Report};
use tandem_core::topology::{Incarnation, Member};
use tandem_wire::id::RelayId;
use tandem_wire::units::Mono;
use tokio::sync::watch;
use tokio::time::Instant;

/// What one relay says, as it changes: the latest is all that there is, so that nothing waits for a store that is away.
pub type Reports = watch::Receiver<Option<Report>>;

/// A report that counts, and how long ago the state server that was asked had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenLoad {
    /// What the relay said.
    pub report: Report,
    /// How long ago: at most [`tandem_core::limits::LOAD_COUNTS`].
    pub age: Duration,
}

/// What was done with reports.
#[derive(Debug, Default)]
pub struct LoadCounters {
    /// Taken.
    pub taken: AtomicU64,
    /// Ignored: see [`Ignored::Unknown`].
    pub unknown: AtomicU64,
    /// Ignored: see [`Ignored::Older`].
    pub older: AtomicU64,
    /// Ignored: see [`Ignored::Impossible`].
    pub impossible: AtomicU64,
    /// Ignored: see [`Ignored::OverCap`].
    pub over_cap: AtomicU64,
}

/// The loads that one store keeps.
#[derive(Debug)]
pub struct KeptLoads {
    opened: Instant,
    loads: Mutex<Loads>,
    /// What was done with reports.
    pub counters: LoadCounters,
}

impl KeptLoads {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { opened: Instant::now(), loads: Mutex::default(), counters: LoadCounters::default() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Loads, Mono) -> T) -> T {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        // Read while they are ours: ages do not go backwards.
        let now = Mono::from_nanos(u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX));
        act(&mut loads, now)
    }

    /// Takes or ignores a report, and counts it; `entry`: the bytes of its relay's record, if it has one.
    pub fn take(&self, report: Report, entry: Option<&[u8]>) {
        let taken = self.with(|loads, now| loads.take(now, report, entry.and_then(incarnation)));
        let counter = match taken {
            Ok(()) => &self.counters.taken,
            Err(Ignored::Unknown) => &self.counters.unknown,
            Err(Ignored::Older) => &self.counters.older,
            Err(Ignored::Impossible) => &self.counters.impossible,
            Err(Ignored::OverCap) => &self.counters.over_cap,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What counts now, by the ids of the relays; `registered`: the incarnation in a relay's record.
    #[must_use]
    pub fn list(&self, registered: impl Fn(RelayId) -> Option<Incarnation>) -> Vec<SeenLoad> {
        self.with(|loads, now| {
            let counting = loads.counting(now, registered);
            counting.map(|(report, age)| SeenLoad { report, age: age.to_std() }).collect()
        })
    }
}

impl Default for KeptLoads {
    fn default() -> Self {
        Self::new()
    }
}

/// The incarnation in a relay's record; a record that cannot be read has none.
#[must_use]
pub fn incarnation(entry: &[u8]) -> Option<Incarnation> {
    Member::from_json(entry).ok().map(|member| member.incarnation)
}

/// Gives `take` what stands in `reports`, and each that follows, until nobody reports any more. Whoever is slow misses some.
pub async fn each(mut reports: Reports, mut take: impl FnMut(Report)) {
    reports.mark_changed();
    while reports.changed().await.is_ok() {
        let report = *reports.borrow_and_update();
        report.into_iter().for_each(&mut take);
    }
}
