//! Percentiles, exact: of all values, by rank.
//!
//! Decides which value a percentile is: the smallest that at least so many of all values do not exceed (nearest rank).

use serde::Serialize;

/// A few figures of many values.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Spread {
    /// How many values there were.
    pub count: usize,
    /// Half of them are not above this.
    pub p50: f64,
    /// 99 of 100 are not above this.
    pub p99: f64,
    /// None is above this.
    pub max: f64,
}

impl Spread {
    /// Of these values. Without any, all is zero.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |percent| rank(values.len(), percent).and_then(|index| values.get(index).copied()).unwrap_or(0.0);
        Self { count: values.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

impl Spread {
    /// Of microseconds, in milliseconds. Sorts them.
    #[must_use]
    pub fn of_micros(values: &mut [u32]) -> Self {
        values.sort_unstable();
        let at = |percent| rank(values.len(), percent).and_then(|index| values.get(index).copied()).unwrap_or(0);
        let ms = |percent| f64::from(at(percent)) / 1_000.0;
        Self { count: values.len(), p50: ms(50), p99: ms(99), max: ms(100) }
    }
}

/// The index of a percentile among so many sorted values.
fn rank(len: usize, percent: usize) -> Option<usize> {
    (len * percent).div_ceil(100).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_there() {
        let spread = Spread::of((1..=200).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { count: 200, p50: 100.0, p99: 198.0, max: 200.0 });
        let spread = Spread::of((1..=10).map(f64::from).collect());
        assert_eq!((spread.p50, spread.p99, spread.max), (5.0, 10.0, 10.0));
        assert_eq!(Spread::of(vec![7.0]), Spread { count: 1, p50: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
        let mut micros: Vec<u32> = (1..=200).rev().collect();
        assert_eq!(Spread::of_micros(&mut micros), Spread { count: 200, p50: 0.1, p99: 0.198, max: 0.2 });
    }
}
