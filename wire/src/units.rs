//! Time, in types that cannot be mixed up and whose arithmetic cannot panic.
//!
//! Decides the unit and that every operation saturates. Leaves reading a clock to `tandem-net`: time arrives as an
//! argument everywhere else.

use serde::{Deserialize, Serialize};

/// A length of time, in nanoseconds; 584 years at most, which is also what overflow becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// In nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// In whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// In whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// As the standard library's type, for shells that sleep.
    #[must_use]
    pub const fn to_std(self) -> core::time::Duration {
        core::time::Duration::from_nanos(self.0)
    }
}

/// A point of monotonic time, in nanoseconds since an epoch of the process's own. What timers are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(u64);

impl Mono {
    /// From nanoseconds since the clock's own epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's own epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This point and `span` more.
    #[must_use]
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long since `earlier`; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// A point of wall time, in milliseconds since 1970 (UTC). What records and tickets are stamped with; it may jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(u64);

impl Wall {
    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From seconds since 1970.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000
    }

    /// This point and `span` more.
    #[must_use]
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.as_millis()))
    }

    /// How long since `earlier`; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Something that is counted. It wraps at its end, as counters do; nothing may depend on its not doing so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total(u64);

impl Total {
    /// A total that stands at `value`: tests start just below the wrap (attack X05).
    #[must_use]
    pub const fn at(value: u64) -> Self {
        Self(value)
    }

    /// What it stands at.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl core::ops::AddAssign<u64> for Total {
    #[inline]
    fn add_assign(&mut self, n: u64) {
        self.0 = self.0.wrapping_add(n);
    }
}

impl PartialEq<u64> for Total {
    fn eq(&self, other: &u64) -> bool {
        self.0 == *other
    }
}

/// Both clocks, read once for a whole batch of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For timers.
    pub mono: Mono,
    /// For records and tickets.
    pub wall: Wall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_wraps_at_its_end() {
        let mut total = Total::at(u64::MAX - 1);
        total += 3;
        assert_eq!(total, 1);
    }

    #[test]
    fn time_saturates_where_it_would_overflow() {
        let end = Mono::from_nanos(u64::MAX - 8);
        assert_eq!(end.after(Span::from_secs(1)).as_nanos(), u64::MAX);
        assert_eq!(Mono::default().since(end), Span::ZERO);
        assert_eq!(Wall::from_secs(u64::MAX).as_millis(), u64::MAX);
        assert_eq!(Span::from_millis(u64::MAX).as_nanos(), u64::MAX);
        assert_eq!(Wall::from_millis(u64::MAX - 1).after(Span::from_secs(9)).as_millis(), u64::MAX);
    }
}
