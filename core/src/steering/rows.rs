//! Which relays a bucket belongs to, by a table: its primary and its secondary.
//!
//! Decides by rendezvous hashing (Thaler and Ravishankar, 1998): each relay has a score for each bucket, and the two highest
//! have it. So everybody computes the same rows from the same list, and a relay that comes or goes moves no bucket between
//! two others. Leaves who is in the table to the table, and who is down to `health`.

use tandem_wire::id::{BucketId, RelayId};

use crate::topology::{Standing, Table};

/// Buckets of a PoP.
pub const BUCKETS: usize = 65_536;

/// A relay, by its place in the table that the rows were made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u16);

/// Nobody's place: a table has fewer relays than that.
const NOBODY: u16 = u16::MAX;

/// The rows of one table: 256 KiB, whatever stands in it.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Primary and secondary of each bucket.
    rows: Vec<(u16, u16)>,
    /// Who takes part, with their places, in the order of the table.
    members: Vec<(u16, RelayId)>,
}

impl Rows {
    /// The rows as they are while all relays live. Relays that fill have none of them yet, and those that drain none any
    /// more; unless there are no others.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        Self::with(table, |standing| standing == Standing::Serving)
    }

    /// The rows as they will be once those that fill are warm: what those hold, and those that serve will go on holding.
    #[must_use]
    pub fn next(table: &Table) -> Self {
        Self::with(table, |standing| standing != Standing::Draining)
    }

    fn with(table: &Table, takes_part: impl Fn(Standing) -> bool) -> Self {
        let all = || table.relays.iter().enumerate().filter_map(|(at, row)| Some((u16::try_from(at).ok()?, row)));
        let mut members: Vec<(u16, RelayId)> =
            all().filter(|(_, row)| takes_part(row.standing)).map(|(at, row)| (at, row.id)).collect();
        if members.is_empty() {
            members = all().map(|(at, row)| (at, row.id)).collect();
        }
        members.truncate(usize::from(NOBODY));
        let rows = (0..=u16::MAX).map(|bucket| two_highest(&members, BucketId(bucket))).collect();
        Self { rows, members }
    }

    /// Who has a bucket.
    #[must_use]
    pub fn primary(&self, bucket: BucketId) -> Option<Place> {
        self.row(bucket).0
    }

    /// Who has it when the primary is down.
    #[must_use]
    pub fn secondary(&self, bucket: BucketId) -> Option<Place> {
        self.row(bucket).1
    }

    fn row(&self, bucket: BucketId) -> (Option<Place>, Option<Place>) {
        let (primary, secondary) = self.rows.get(usize::from(bucket.0)).copied().unwrap_or((NOBODY, NOBODY));
        let place = |at| (at != NOBODY).then_some(Place(at));
        (place(primary), place(secondary))
    }

    /// The first in the order of scores who `may`: who has the bucket when both of its row are down.
    #[must_use]
    pub fn first(&self, bucket: BucketId, may: impl Fn(Place) -> bool) -> Option<Place> {
        let candidates = self.members.iter().filter(|(at, _)| may(Place(*at)));
        candidates.max_by_key(|(_, relay)| (score(bucket, *relay), *relay)).map(|(at, _)| Place(*at))
    }

    /// The buckets that a relay has, first or second.
    pub fn buckets_of(&self, place: Place) -> impl Iterator<Item = BucketId> {
        let rows = self.rows.iter().zip(0..=u16::MAX);
        rows.filter(move |((primary, secondary), _)| *primary == place.0 || *secondary == place.0)
            .map(|(_, bucket)| BucketId(bucket))
    }
}

fn two_highest(members: &[(u16, RelayId)], bucket: BucketId) -> (u16, u16) {
    let (mut first, mut second) = ((0, NOBODY), (0, NOBODY));
    for (at, relay) in members {
        let scored = (score(bucket, *relay), *at);
        // Of equal scores the later relay's counts, as in `first`.
        if first.1 == NOBODY || scored.0 >= first.0 {
            second = first;
            first = scored;
        } else if second.1 == NOBODY || scored.0 >= second.0 {
            second = scored;
        }
    }
    (first.1, second.1)
}

/// The score of a relay for a bucket: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014) over both, twice, since two
/// inputs that differ in one bit must share nothing. It is part of the protocol: all of a PoP's processes agree on it.
const fn score(bucket: BucketId, relay: RelayId) -> u64 {
    mix(mix(relay.0 as u64 + 1) ^ (bucket.0 as u64))
}

const fn mix(input: u64) -> u64 {
    let z = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use tandem_wire::tunnel::Cookie;

    use super::*;
    use crate::topology::{Incarnation, Member};

    fn table(relays: impl IntoIterator<Item = (u16, Standing)>) -> Table {
        let member = Member::starting(Incarnation(1), Cookie::from_bits(1), "192.0.2.1:7000".parse().unwrap());
        Table::new(1, relays.into_iter().map(|(id, standing)| member.row(RelayId(id), standing)).collect())
    }

    fn serving(relays: impl IntoIterator<Item = u16>) -> Table {
        table(relays.into_iter().map(|id| (id, Standing::Serving)))
    }

    fn all() -> impl Iterator<Item = BucketId> {
        (0..=u16::MAX).map(BucketId)
    }

    /// Who has a bucket, by id.
    fn owner(table: &Table, rows: &Rows, bucket: BucketId) -> (RelayId, Option<RelayId>) {
        let id = |place: Place| table.relays[usize::from(place.0)].id;
        (id(rows.primary(bucket).unwrap()), rows.secondary(bucket).map(id))
    }

    #[test]
    fn the_scores_are_these_golden_ones() {
        // Another version that computed others would steer calls to relays that do not expect them.
        let golden = [(0, 0), (1, 1), (0xabcd, 7), (u16::MAX, u16::MAX)];
        let scores = golden.map(|(bucket, relay)| score(BucketId(bucket), RelayId(relay)));
        assert_eq!(scores.map(|score| format!("{score:016x}")), GOLDEN);
    }

    const GOLDEN: [&str; 4] = ["5e41ab087439611e", "e06dd043328bd285", "662a4d26925e626e", "f9c7ad3ef9f78210"];

    #[test]
    fn every_bucket_has_two_different_relays_and_they_are_the_first_two_by_score() {
        let table = serving([1, 2, 3, 4, 9]);
        let rows = Rows::of(&table);
        for bucket in all() {
            let (primary, secondary) = (rows.primary(bucket).unwrap(), rows.secondary(bucket).unwrap());
            assert_ne!(primary, secondary);
            assert_eq!(rows.first(bucket, |_| true), Some(primary));
            assert_eq!(rows.first(bucket, |place| place != primary), Some(secondary));
            let third = rows.first(bucket, |place| place != primary && place != secondary).unwrap();
            assert!(third != primary && third != secondary);
            assert_eq!(rows.first(bucket, |_| false), None);
        }
    }

    #[test]
    fn a_relay_that_goes_moves_its_own_buckets_only_and_each_to_its_secondary() {
        let (before, after) = (serving(1..=30), serving((1..=30).filter(|id| *id != 7)));
        let (rows, left) = (Rows::of(&before), Rows::of(&after));
        for bucket in all() {
            let (primary, secondary) = owner(&before, &rows, bucket);
            let now = owner(&after, &left, bucket);
            match (primary, secondary) {
                (RelayId(7), secondary) => assert_eq!(Some(now.0), secondary),
                (primary, Some(RelayId(7))) => assert_eq!(now.0, primary),
                same => assert_eq!(now, same),
            }
        }
    }

    #[test]
    fn shares_are_even_and_the_buckets_of_one_are_spread_over_all_others() {
        // Of 300 each has 218 buckets: by chance 144 others get none of them.
        for (relays, most, idle) in [(4, 1.02, 0), (30, 1.06, 0), (300, 1.30, 165)] {
            let table = serving(1..=relays);
            let rows = Rows::of(&table);
            let (mut shares, mut successors) = (vec![0_u32; usize::from(relays)], vec![0_u32; usize::from(relays)]);
            for bucket in all() {
                let primary = rows.primary(bucket).unwrap();
                shares[usize::from(primary.0)] += 1;
                if primary == Place(0) {
                    successors[usize::from(rows.secondary(bucket).unwrap().0)] += 1;
                }
            }
            let mean = BUCKETS as f64 / f64::from(relays);
            let highest = f64::from(*shares.iter().max().unwrap()) / mean;
            assert!(highest < most, "{relays} relays: the fullest has {highest:.3} of the mean");
            let without = successors.iter().skip(1).filter(|share| **share == 0).count();
            assert!(without <= idle, "{without} of {relays} take over nothing");
        }
    }

    #[test]
    fn who_fills_has_nothing_yet_and_who_drains_nothing_any_more_unless_there_is_nobody_else() {
        use Standing::{Draining, Filling, Serving};
        let rows = Rows::of(&table([(1, Serving), (2, Filling), (3, Draining)]));
        assert!(all().all(|bucket| rows.primary(bucket) == Some(Place(0)) && rows.secondary(bucket).is_none()));
        assert_eq!(rows.buckets_of(Place(0)).count(), BUCKETS);
        assert_eq!(rows.buckets_of(Place(1)).count() + rows.buckets_of(Place(2)).count(), 0);
        let next = Rows::next(&table([(1, Serving), (2, Filling), (3, Draining)]));
        assert!(all().all(|bucket| next.secondary(bucket).is_some()) && next.buckets_of(Place(2)).next().is_none());
        let last = Rows::of(&table([(3, Draining)]));
        assert_eq!(last.primary(BucketId(5)), Some(Place(0)));
        let nobody = Rows::of(&table([]));
        assert_eq!((nobody.primary(BucketId(5)), nobody.first(BucketId(5), |_| true)), (None, None));
    }
}
