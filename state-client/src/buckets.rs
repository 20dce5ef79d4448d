//! What a follower wants: sets of buckets (65,536 bits, and ranges for the wire), and kinds of records.

use std::fmt;

use tandem_wire::id::BucketId;

use crate::Key;
use crate::key::{MISSED, NOTE};

/// Kinds of records, each a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Calls.
    pub const CALLS: Self = Self(1);
    /// Where legs are attached.
    pub const ATTACHMENTS: Self = Self(2);
    /// What is sealed for devices, but for notes.
    pub const BLOBS: Self = Self(4);
    /// Blobs with the number [`MISSED`]: they tell devices of calls that they have missed.
    pub const NOTES: Self = Self(8);
    /// Removed devices.
    pub const REMOVALS: Self = Self(16);
    /// All of these: everything that is in a bucket.
    pub const ALL: Self = Self(31);
    /// The relays of the PoP and the table of buckets. They are in no bucket, and wanted only by who says so.
    pub const FLEET: Self = Self(32);
    /// What this version knows.
    const KNOWN: u8 = Self::ALL.0 | Self::FLEET.0;

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The kind of a record; pairs, accounts and what callers leave for those who may miss their calls have none that could
    /// be wanted.
    const fn of(key: Key) -> Self {
        match key {
            Key::Call(_) => Self::CALLS,
            Key::Attachment(..) => Self::ATTACHMENTS,
            Key::Blob(_, _, MISSED) => Self::NOTES,
            Key::Blob(_, _, NOTE) => Self(0),
            Key::Blob(..) => Self::BLOBS,
            Key::Removal(..) => Self::REMOVALS,
            Key::Pair(..) | Key::Account(..) => Self(0),
            Key::Relay(..) | Key::Table(_) => Self::FLEET,
        }
    }

    /// For the wire: what is left out, so that nothing said is everything wanted.
    pub(crate) const fn left_out(self) -> u32 {
        (Self::KNOWN & !self.0) as u32
    }

    /// From the wire; `None`: leaves out what this version does not know.
    pub(crate) fn without(left_out: u32) -> Option<Self> {
        let bits = u8::try_from(left_out).ok().filter(|bits| bits & !Self::KNOWN == 0)?;
        Some(Self(Self::KNOWN & !bits))
    }
}

const WORDS: usize = 65_536 / 64;

/// Which buckets are meant, and which records of them: all, unless it says otherwise. 8 KiB, whatever stands in it.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketSet {
    words: Box<[u64; WORDS]>,
    kinds: Kinds,
}

impl fmt::Debug for BucketSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

impl BucketSet {
    /// No bucket.
    #[must_use]
    pub fn none() -> Self {
        Self { words: Box::new([0; WORDS]), kinds: Kinds::ALL }
    }

    /// Every bucket: what the only relay of a PoP has.
    #[must_use]
    pub fn all() -> Self {
        Self { words: Box::new([u64::MAX; WORDS]), kinds: Kinds::ALL }
    }

    /// These buckets.
    #[must_use]
    pub fn of(buckets: impl IntoIterator<Item = BucketId>) -> Self {
        let mut set = Self::none();
        buckets.into_iter().for_each(|bucket| set.insert(bucket));
        set
    }

    /// No bucket, but the relays of the PoP and the table of buckets.
    #[must_use]
    pub fn fleet() -> Self {
        Self::none().only(Kinds::FLEET)
    }

    /// These ranges, ends included; a range that ends before it starts is empty.
    #[must_use]
    pub fn of_ranges(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        Self::of(ranges.into_iter().flat_map(|(first, last)| (first..=last).map(BucketId)))
    }

    /// Only these kinds of records of them.
    #[must_use]
    pub fn only(self, kinds: Kinds) -> Self {
        Self { kinds, ..self }
    }

    /// The kinds of records that are meant.
    #[must_use]
    pub const fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// Whether a record is meant.
    #[must_use]
    pub fn has(&self, key: Key) -> bool {
        let wanted = self.kinds.0 & Kinds::of(key).0 != 0;
        wanted && key.bucket().is_none_or(|bucket| self.contains(bucket))
    }

    /// Puts a bucket in.
    pub fn insert(&mut self, bucket: BucketId) {
        if let Some(word) = self.words.get_mut(usize::from(bucket.0 / 64)) {
            *word |= 1 << (bucket.0 % 64);
        }
    }

    /// The buckets that are in, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = BucketId> {
        (0..=u16::MAX).map(BucketId).filter(|bucket| self.contains(*bucket))
    }

    /// Those of these buckets that are not in the others; of the same kinds.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        let mut rest = self.clone();
        rest.words.iter_mut().zip(others.words.iter()).for_each(|(word, other)| *word &= !other);
        rest
    }

    /// Whether no bucket is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether a bucket is in.
    #[must_use]
    pub fn contains(&self, bucket: BucketId) -> bool {
        self.words.get(usize::from(bucket.0 / 64)).is_some_and(|word| word & (1 << (bucket.0 % 64)) != 0)
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
        assert_eq!(set.iter().count(), 7);
        let rest = set.without(&BucketSet::of_ranges([(2, 65_534)]));
        assert_eq!(rest.ranges(), [(0, 1), (65_535, 65_535)]);
        assert!(!rest.is_empty() && rest.without(&rest).is_empty());
    }

    #[test]
    fn only_the_wanted_kinds_of_records_are_meant() {
        use tandem_wire::id::{CallId, LegId, PopId, RelayId};
        use tandem_wire::party::DeviceKey;
        let (call, device) = (CallId::new(PopId(1), BucketId(0), 7), DeviceKey::from_bits(7));
        let keys = [
            (Key::Call(call), Kinds::CALLS),
            (Key::Attachment(call, LegId::new(1).unwrap()), Kinds::ATTACHMENTS),
            (Key::Blob(call, device, MISSED), Kinds::NOTES),
            (Key::Blob(call, device, 1), Kinds::BLOBS),
            (Key::Removal(PopId(1), device), Kinds::REMOVALS),
            (Key::Relay(PopId(1), RelayId(1)), Kinds::FLEET),
            (Key::Table(PopId(1)), Kinds::FLEET),
        ];
        for (key, kind) in keys {
            let fleet = kind == Kinds::FLEET;
            assert!(BucketSet::all().has(key) != fleet && BucketSet::fleet().has(key) == fleet, "{key}");
            assert!(BucketSet::all().only(kind).has(key) && !BucketSet::none().has(key), "{key}");
            let others = Kinds::without(u32::from(kind.0)).unwrap();
            assert!(!BucketSet::all().only(others).has(key), "{key}");
            assert_eq!(Kinds::without(others.left_out()), Some(others));
        }
        let nobodys = BucketSet::all().only(Kinds::ALL.and(Kinds::FLEET));
        assert!(!nobodys.has(Key::Blob(call, device, NOTE)), "what a caller leaves");
        assert_eq!((Kinds::ALL.left_out(), Kinds::without(64), Kinds::without(256)), (32, None, None));
    }
}
