//! Who asks too often.
//!
//! Decides by the generic cell rate algorithm (ITU-T I.371): one number a counter, the time at which its next request
//! would be on time. The counters are a fixed table, so that nobody can fill it; its hash is keyed, so that nobody can aim.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use tandem_wire::units::Mono;

/// Counters of one kind of request, shared by all who are counted: 65,536 x 8 B. Two on one counter share its rate.
pub const RATE_COUNTERS: usize = 65_536;

/// A rate: so many a minute, and so many at once after a quiet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// A minute.
    pub per_minute: u32,
    /// At once.
    pub burst: u32,
}

/// One who is counted by themselves, as a connection is.
#[derive(Debug)]
pub struct Bucket {
    interval: u64,
    tolerance: u64,
    due: u64,
}

impl Bucket {
    /// A counter for a rate.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let (interval, tolerance) = rate.cells();
        Self { interval, tolerance, due: 0 }
    }

    /// Counts one, if it may be.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn take(&mut self, now: Mono) -> Result<(), TooOften> {
        self.due = next(self.due, now.as_nanos(), self.interval, self.tolerance)?;
        Ok(())
    }
}

impl Rate {
    /// Nanoseconds between two at this rate, and how far ahead of time one may be.
    fn cells(self) -> (u64, u64) {
        let interval = 60_000_000_000 / u64::from(self.per_minute.max(1));
        (interval, interval.saturating_mul(u64::from(self.burst.max(1)) - 1))
    }
}

/// When the next one would be on time, if one may be now.
fn next(due: u64, now: u64, interval: u64, tolerance: u64) -> Result<u64, TooOften> {
    let early = due.saturating_sub(now);
    if early > tolerance {
        return Err(TooOften { retry_after_ms: (early - tolerance).div_ceil(1_000_000) });
    }
    Ok(due.max(now).saturating_add(interval))
}

/// One kind of request.
pub struct Limiter {
    /// Nanoseconds between two requests at the rate.
    interval: u64,
    /// How far ahead of time a request may be.
    tolerance: u64,
    counters: Box<[AtomicU64]>,
    hash: RandomState,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Limiter {{ interval: {} ns, tolerance: {} ns }}", self.interval, self.tolerance)
    }
}

/// Too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too often; come back in {retry_after_ms} ms")]
pub struct TooOften {
    /// When to come back.
    pub retry_after_ms: u64,
}

impl Limiter {
    /// Counters for a rate.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let (interval, tolerance) = rate.cells();
        Self {
            interval,
            tolerance,
            counters: (0..RATE_COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hash: RandomState::default(),
        }
    }

    /// Counts a request of `who`, if it may be.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn admit(&self, who: &impl Hash, now: Mono) -> Result<(), TooOften> {
        self.count(who, now, true)
    }

    /// Whether a request of `who` could be; nothing is counted.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn look(&self, who: &impl Hash, now: Mono) -> Result<(), TooOften> {
        self.count(who, now, false)
    }

    fn count(&self, who: &impl Hash, now: Mono, take: bool) -> Result<(), TooOften> {
        let index = usize::try_from(self.hash.hash_one(who) % RATE_COUNTERS as u64).unwrap_or_default();
        let Some(counter) = self.counters.get(index) else { return Ok(()) };
        let now = now.as_nanos();
        let mut due = counter.load(Ordering::Relaxed);
        loop {
            let next = next(due, now, self.interval, self.tolerance)?;
            if !take {
                return Ok(());
            }
            match counter.compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => due = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_wire::units::Span;

    fn at(ms: u64) -> Mono {
        Mono::from_nanos(1_000_000_000_000).after(Span::from_millis(ms))
    }

    #[test]
    fn a_burst_and_then_the_rate_and_no_more() {
        let limiter = Limiter::new(Rate { per_minute: 60, burst: 5 });
        for _ in 0..5 {
            assert_eq!(limiter.admit(&"alice", at(0)), Ok(()));
        }
        assert_eq!(limiter.look(&"alice", at(0)), Err(TooOften { retry_after_ms: 1_000 }));
        assert_eq!(limiter.admit(&"alice", at(0)), Err(TooOften { retry_after_ms: 1_000 }));
        assert_eq!(limiter.admit(&"alice", at(400)), Err(TooOften { retry_after_ms: 600 }));
        assert_eq!(limiter.admit(&"bob", at(400)), Ok(()), "another one has a counter of their own");
        let admitted = (1_000..61_000).filter(|ms| limiter.admit(&"alice", at(*ms)).is_ok()).count();
        assert_eq!(admitted, 60);
        for _ in 0..5 {
            assert_eq!(limiter.admit(&"alice", at(600_000)), Ok(()), "after a quiet time there is a burst again");
        }
        assert!(limiter.admit(&"alice", at(600_000)).is_err());
    }

    #[test]
    fn a_million_strangers_leave_nothing_behind() {
        let limiter = Limiter::new(Rate { per_minute: 60, burst: 5 });
        for n in 0..1_000_000_u64 {
            let _ = limiter.admit(&n, at(0));
        }
        assert_eq!(limiter.counters.len(), RATE_COUNTERS);
    }
}
