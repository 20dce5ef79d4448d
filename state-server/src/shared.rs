//! What those who write share with those who read: the cache, how old it may be, and what is counted.

use std::sync::RwLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tandem_state_client::StoreError;
use tandem_state_client::load::KeptLoads;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::limits;

/// What a state server counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commands made durable.
    pub committed: AtomicU64,
    /// Commands refused because their record had changed.
    pub stale: AtomicU64,
    /// Durable writes, each of one or more commands.
    pub batches: AtomicU64,
    /// Commands told to come back: the backend could not write, or too many were waiting.
    pub away: AtomicU64,
    /// Times the backend failed.
    pub failures: AtomicU64,
    /// Followers that were told to list everything anew.
    pub compacted: AtomicU64,
    /// Times that a watch of etcd was begun anew: it broke off, or was late.
    pub renewed: AtomicU64,
    /// Times that everything was listed anew from etcd, because changes were lost to us.
    pub relisted: AtomicU64,
    /// What stood among our records in etcd and is none of ours.
    pub strangers: AtomicU64,
}

/// Why no commands are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// They are taken.
    None = 0,
    /// The backend cannot be reached, or fails.
    Away = 1,
    /// It has no room.
    Full = 2,
}

/// What the writer shares with readers.
pub(crate) struct Shared {
    cache: RwLock<Cache>,
    pub(crate) counters: Counters,
    /// What relays say of their load: in memory, and nowhere else.
    pub(crate) loads: KeptLoads,
    unwritable: AtomicU8,
    /// Where `current` counts from; `None`: the cache is always what is stored.
    opened: Option<Instant>,
    /// When the cache was last known to be what is stored, in microseconds since `opened`.
    current: AtomicU64,
}

impl Shared {
    /// Over a cache that is fed by nobody but us.
    pub(crate) fn new(cache: Cache) -> Self {
        Self {
            cache: RwLock::new(cache),
            counters: Counters::default(),
            loads: KeptLoads::new(),
            unwritable: AtomicU8::new(Cause::None as u8),
            opened: None,
            current: AtomicU64::new(0),
        }
    }

    /// Over a cache that others' changes reach later.
    pub(crate) fn aging(cache: Cache) -> Self {
        Self { opened: Some(Instant::now()), ..Self::new(cache) }
    }

    /// The cache, to read. A reader that panicked has changed nothing; a writer that panicked ends with its thread.
    pub(crate) fn read<T>(&self, act: impl FnOnce(&Cache) -> T) -> T {
        match self.cache.read() {
            Ok(cache) => act(&cache),
            Err(poisoned) => act(&poisoned.into_inner()),
        }
    }

    pub(crate) fn write<T>(&self, act: impl FnOnce(&mut Cache) -> T) -> T {
        match self.cache.write() {
            Ok(mut cache) => act(&mut cache),
            Err(poisoned) => act(&mut poisoned.into_inner()),
        }
    }

    /// The cache had everything that was stored at `at`.
    pub(crate) fn was_current(&self, at: Instant) {
        let since = self.opened.map_or(0, |opened| micros(at.saturating_duration_since(opened)));
        self.current.fetch_max(since, Ordering::Relaxed);
    }

    /// Everything that was stored this long ago is in the cache; what came later may not be. Up to
    /// [`limits::AGE_UNKNOWN`] it is the time since somebody last looked, and shown as nothing.
    pub(crate) fn age(&self) -> Duration {
        let Some(opened) = self.opened else { return Duration::ZERO };
        let current = Duration::from_micros(self.current.load(Ordering::Relaxed));
        let age = opened.elapsed().saturating_sub(current);
        if age <= limits::AGE_UNKNOWN { Duration::ZERO } else { age }
    }

    pub(crate) fn unwritable(&self, cause: Cause) {
        self.unwritable.store(cause as u8, Ordering::Relaxed);
    }

    /// Why no commands are taken.
    pub(crate) fn cause(&self) -> Cause {
        match self.unwritable.load(Ordering::Relaxed) {
            0 => Cause::None,
            2 => Cause::Full,
            _ => Cause::Away,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) const AWAY: StoreError = StoreError::Away { retry_after_ms: limits::RETRY_AFTER_MS };
