//! How long to wait before the next attempt: decorrelated jitter ("Exponential Backoff And Jitter", AWS, 2015).
//!
//! Decides pauses only. A thousand devices that lost the same server come back at a thousand different times.

use std::time::Duration;

/// Pauses that grow, each drawn between the shortest and three times the one before.
#[derive(Debug)]
pub(crate) struct Jitter {
    shortest: Duration,
    longest: Duration,
    last: Duration,
}

impl Jitter {
    pub(crate) const fn new((shortest, longest): (Duration, Duration)) -> Self {
        Self { shortest, longest, last: shortest }
    }

    /// Starts again from the shortest.
    pub(crate) const fn reset(&mut self) {
        self.last = self.shortest;
    }

    /// The next pause. `draw` is 64 random bits.
    pub(crate) fn pause(&mut self, draw: u64) -> Duration {
        let (low, high) = (self.shortest, self.last.saturating_mul(3));
        let span = u64::try_from(high.saturating_sub(low).as_micros()).unwrap_or(u64::MAX).max(1);
        self.last = (low + Duration::from_micros(draw % span)).min(self.longest);
        self.last
    }
}

/// 64 random bits. Without randomness all come back at the same time, and they do come back.
pub(crate) fn draw() -> u64 {
    getrandom::u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_at_most_threefold_and_stay_between_their_bounds() {
        let (low, high) = (Duration::from_millis(50), Duration::from_secs(2));
        let mut jitter = Jitter::new((low, high));
        let mut last = low;
        for n in 0..1_000 {
            let pause = jitter.pause(if n < 20 { u64::MAX - 1 } else { draw() });
            assert!(pause >= low && pause <= high && pause <= last * 3, "{pause:?} after {last:?}");
            last = pause;
        }
        jitter.reset();
        assert!(jitter.pause(u64::MAX) <= low * 3);
    }
}
