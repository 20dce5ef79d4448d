//! Sets of buckets: 65,536 bits, and ranges for the wire.

use std::fmt;

use tandem_wire::id::BucketId;

const WORDS: usize = 65_536 / 64;

/// Which buckets are meant. 8 KiB, whatever stands in it.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketSet(Box<[u64; WORDS]>);

impl fmt::Debug for BucketSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

impl BucketSet {
    /// No bucket.
    #[must_use]
    pub fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// Every bucket: what the only relay of a PoP has.
    #[must_use]
    pub fn all() -> Self {
        Self(Box::new([u64::MAX; WORDS]))
    }

    /// These buckets.
    #[must_use]
    pub fn of(buckets: impl IntoIterator<Item = BucketId>) -> Self {
        let mut set = Self::none();
        buckets.into_iter().for_each(|bucket| set.insert(bucket));
        set
    }

    /// These ranges, ends included; a range that ends before it starts is empty.
    #[must_use]
    pub fn of_ranges(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        Self::of(ranges.into_iter().flat_map(|(first, last)| (first..=last).map(BucketId)))
    }

    /// Puts a bucket in.
    pub fn insert(&mut self, bucket: BucketId) {
        if let Some(word) = self.0.get_mut(usize::from(bucket.0 / 64)) {
            *word |= 1 << (bucket.0 % 64);
        }
    }

    /// Whether a bucket is in.
    #[must_use]
    pub fn contains(&self, bucket: BucketId) -> bool {
        self.0.get(usize::from(bucket.0 / 64)).is_some_and(|word| word & (1 << (bucket.0 % 64)) != 0)
    }

    /// The set as the fewest ranges, ends included, in ascending order.
    #[must_use]
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for bucket in (0..=u16::MAX).filter(|bucket| self.contains(BucketId(*bucket))) {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(bucket) => *last = bucket,
                _ => ranges.push((bucket, bucket)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_its_ranges() {
        let set = BucketSet::of([0, 1, 2, 63, 64, 65_534, 65_535].map(BucketId));
        assert_eq!(set.ranges(), [(0, 2), (63, 64), (65_534, 65_535)]);
        assert_eq!(BucketSet::of_ranges(set.ranges()), set);
        assert_eq!(BucketSet::all().ranges(), [(0, 65_535)]);
        assert_eq!(BucketSet::of_ranges([(5, 4)]), BucketSet::none());
    }
}
