//! Everything that is stored, in memory: what reads are answered from, and the changes that followers have yet to see.
//!
//! Decides nothing about durability: what is put in here is durable already.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tandem_core::topology::{Call, Transport};
use tandem_state_client::{
    AllocationRef, BucketSet, Change, Changes, Command, Entry, Event, Key, Listing, Revision, StoreError,
};
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::party::DeviceKey;
use tandem_wire::redact::ClientAddr;

use crate::index::{AddressIndex, Addresses, addresses};
use crate::limits;

#[derive(Debug, Clone)]
struct Stored {
    revision: Revision,
    value: Arc<[u8]>,
}

impl Stored {
    fn entry(&self, key: Key) -> Entry {
        Entry { key, revision: self.revision, value: Arc::clone(&self.value) }
    }
}

/// A command that was made durable, ready to be taken in. Made before the cache is locked, since its records are read
/// for this.
pub(crate) struct Durable {
    revision: Revision,
    changes: Vec<(Event, Addresses)>,
}

impl Durable {
    pub(crate) fn new(command: Command, revision: Revision) -> Self {
        let changes = command.ops.into_iter().map(|op| match op.change {
            Change::Put(value) => (op.key, Some(value.into())),
            Change::Delete => (op.key, None),
        });
        Self::of(revision, changes)
    }

    /// All changes of one revision; there may be none.
    pub(crate) fn of(revision: Revision, changes: impl IntoIterator<Item = (Key, Option<Arc<[u8]>>)>) -> Self {
        let changes = changes.into_iter().map(|(key, value)| {
            let claims = addresses(key, value.as_deref());
            (Event { key, revision, value }, claims)
        });
        Self { revision, changes: changes.collect() }
    }

    pub(crate) const fn revision(&self) -> Revision {
        self.revision
    }
}

/// All records, their index and the latest changes.
#[derive(Debug)]
pub(crate) struct Cache {
    pop: PopId,
    records: BTreeMap<Key, Stored>,
    index: AddressIndex,
    revision: Revision,
    changes: VecDeque<Event>,
    change_bytes: usize,
    /// Changes up to this one are no longer kept.
    compacted: Revision,
    /// How often everything was replaced: who followed before has missed what happened then.
    life: u64,
}

impl Cache {
    /// Whose records these are.
    pub(crate) const fn pop(&self) -> PopId {
        self.pop
    }

    pub(crate) fn new(pop: PopId, listing: Listing) -> Self {
        let mut cache = Self {
            pop,
            records: BTreeMap::new(),
            index: AddressIndex::default(),
            revision: listing.revision,
            changes: VecDeque::new(),
            change_bytes: 0,
            compacted: listing.revision,
            life: 0,
        };
        for Entry { key, revision, value } in listing.entries {
            cache.index.change(key, revision, addresses(key, Some(&value)));
            cache.records.insert(key, Stored { revision, value });
        }
        cache
    }

    pub(crate) const fn revision(&self) -> Revision {
        self.revision
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes in what was made durable.
    pub(crate) fn apply(&mut self, durable: Durable) {
        for (event, claims) in durable.changes {
            self.index.change(event.key, event.revision, claims);
            match &event.value {
                Some(value) => {
                    let stored = Stored { revision: event.revision, value: Arc::clone(value) };
                    self.records.insert(event.key, stored);
                }
                None => _ = self.records.remove(&event.key),
            }
            self.change_bytes += bytes_of(&event);
            self.changes.push_back(event);
        }
        self.revision = durable.revision;
        self.trim();
    }

    fn trim(&mut self) {
        while self.changes.len() > limits::CHANGES_KEPT || self.change_bytes > limits::CHANGES_KEPT_BYTES {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.change_bytes -= bytes_of(&oldest);
            self.compacted = oldest.revision;
        }
    }

    /// Takes over what the backend has after it failed: a batch whose fate was unknown may be in it. Followers list
    /// everything anew if it is.
    pub(crate) fn replace(&mut self, listing: Listing) {
        if listing.revision != self.revision {
            self.start_anew(Self::new(self.pop, listing));
        }
    }

    /// Takes another one's place, whatever its revision. Followers list everything anew.
    pub(crate) fn start_anew(&mut self, other: Self) {
        let life = self.life + 1;
        *self = Self { life, ..other };
    }

    pub(crate) const fn life(&self) -> u64 {
        self.life
    }

    pub(crate) fn load(&self, call: CallId) -> Listing {
        let mut entries = Vec::new();
        self.collect(&mut entries, call, call);
        Listing { revision: self.revision, entries }
    }

    pub(crate) fn read(&self, key: Key) -> Option<Entry> {
        self.records.get(&key).map(|stored| stored.entry(key))
    }

    pub(crate) fn revision_of(&self, key: Key) -> Option<Revision> {
        self.records.get(&key).map(|stored| stored.revision)
    }

    pub(crate) fn restore(&self, buckets: &BucketSet) -> Listing {
        let mut entries = Vec::new();
        for (first, last) in buckets.ranges() {
            let first = CallId::new(self.pop, BucketId(first), 0);
            let last = CallId::new(self.pop, BucketId(last), u128::MAX);
            self.collect(&mut entries, first, last);
            let [first, last] = [(first, 0), (last, u128::MAX >> 16)]
                .map(|(call, rest)| DeviceKey::from_bits((u128::from(call.bucket().0) << 112) | rest));
            let removals = self.records.range(Key::Removal(self.pop, first)..=Key::Removal(self.pop, last));
            entries.extend(removals.map(|(key, stored)| stored.entry(*key)));
        }
        let [first, last] = [0, u16::MAX].map(|relay| Key::Relay(self.pop, RelayId(relay)));
        let fleet = self.records.range(first..=last).chain(self.records.get_key_value(&Key::Table(self.pop)));
        entries.extend(fleet.map(|(key, stored)| stored.entry(*key)));
        entries.retain(|entry| buckets.has(entry.key));
        Listing { revision: self.revision, entries }
    }

    /// The calls from `first` to `last`, then their legs, then their blobs.
    fn collect(&self, entries: &mut Vec<Entry>, first: CallId, last: CallId) {
        let (Ok(lowest), Ok(highest)) = (LegId::new(1), LegId::new(LegId::MAX)) else { return };
        let calls = self.records.range(Key::Call(first)..=Key::Call(last));
        let legs = self.records.range(Key::Attachment(first, lowest)..=Key::Attachment(last, highest));
        let [least, most] = [0, u128::MAX].map(DeviceKey::from_bits);
        let blobs = self.records.range(Key::Blob(first, least, 0)..=Key::Blob(last, most, u16::MAX));
        entries.extend(calls.chain(legs).chain(blobs).map(|(key, stored)| stored.entry(*key)));
    }

    /// Some of the changes of these buckets after `after`, in whole revisions; and how many others were passed over.
    pub(crate) fn changes_in(
        &self,
        life: u64,
        buckets: &BucketSet,
        after: Revision,
    ) -> Result<(Changes, usize), StoreError> {
        if life != self.life || after < self.compacted || after > self.revision {
            return Err(StoreError::Compacted);
        }
        let start = self.changes.partition_point(|event| event.revision <= after);
        let mut told = Changes { events: Vec::new(), reached: self.revision };
        let (mut bytes, mut passed) = (0, 0);
        for event in self.changes.iter().skip(start) {
            if !buckets.has(event.key) {
                passed += 1;
                continue;
            }
            let last = told.events.last().map(|last| last.revision);
            let full = told.events.len() >= limits::CHANGES_PER_TURN || bytes >= limits::CHANGES_PER_TURN_BYTES;
            if full && last != Some(event.revision) {
                told.reached = last.unwrap_or(after);
                break;
            }
            bytes += bytes_of(event);
            told.events.push(event.clone());
        }
        Ok((told, passed))
    }

    /// Some of the records of which this cannot be what was stored at `at`, where `there` is all of it. What has changed
    /// since is left out; nothing can be said where those changes are no longer kept.
    pub(crate) fn contradictions(&self, at: Revision, there: &HashMap<Key, Revision>) -> Vec<Key> {
        if at < self.compacted || at > self.revision {
            return Vec::new();
        }
        let since = self.changes.iter().rev().take_while(|event| event.revision > at);
        let changed: HashSet<Key> = since.map(|event| event.key).collect();
        let differ = there.iter().filter(|(key, revision)| self.revision_of(**key) != Some(**revision));
        let gone = self.records.keys().filter(|key| !there.contains_key(key));
        let all = differ.map(|(key, _)| key).chain(gone).filter(|key| !changed.contains(key));
        all.take(limits::CONTRADICTIONS).copied().collect()
    }

    pub(crate) fn find_client(&self, transport: Transport, client: ClientAddr) -> Option<AllocationRef> {
        self.index.find(transport, client).take(limits::CLAIMS_LOOKED_AT).find(|owner| {
            let call = self.records.get(&Key::Call(owner.call)).map(|stored| Call::from_json(&stored.value));
            matches!(call, Some(Ok(call)) if call.admits(owner.leg).is_ok())
        })
    }
}

fn bytes_of(event: &Event) -> usize {
    size_of::<Event>() + event.value.as_ref().map_or(0, |value| value.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_state_client::Op;

    const POP: PopId = PopId(1);

    fn key(bucket: u16, n: u128) -> Key {
        Key::Call(CallId::new(POP, BucketId(bucket), n))
    }

    fn command(keys: &[Key], bytes: usize) -> Command {
        let op = |key: &Key| Op { key: *key, based_on: Revision::ZERO, change: Change::Put(vec![0; bytes]) };
        Command { ops: keys.iter().map(op).collect() }
    }

    impl Cache {
        fn changes(&self, buckets: &BucketSet, after: Revision) -> Result<Changes, StoreError> {
            self.changes_in(self.life, buckets, after).map(|(changes, _)| changes)
        }
    }

    fn cache() -> Cache {
        Cache::new(POP, Listing { revision: Revision(10), entries: Vec::new() })
    }

    #[test]
    fn a_turn_ends_between_two_revisions_even_if_that_is_over_its_size() {
        let mut cache = cache();
        for revision in 11..=300 {
            let keys: Vec<Key> = (0..7).map(|n| key(1, n)).collect();
            cache.apply(Durable::new(command(&keys, 10), Revision(revision)));
        }
        let (mut at, mut seen) = (Revision(10), 0);
        while at < Revision(300) {
            let changes = cache.changes(&BucketSet::all(), at).unwrap();
            assert_eq!(changes.events.len() % 7, 0);
            assert_eq!(changes.events.last().unwrap().revision, changes.reached);
            assert!(changes.events.len() < limits::CHANGES_PER_TURN + 7);
            seen += changes.events.len();
            at = changes.reached;
        }
        assert_eq!(seen, 290 * 7);
    }

    #[test]
    fn a_turn_has_bounded_bytes() {
        let mut cache = cache();
        for revision in 11..=60 {
            cache.apply(Durable::new(command(&[key(1, 0)], 16 << 10), Revision(revision)));
        }
        let changes = cache.changes(&BucketSet::all(), Revision(10)).unwrap();
        let bytes: usize = changes.events.iter().map(bytes_of).sum();
        assert!(bytes < limits::CHANGES_PER_TURN_BYTES + (17 << 10) && changes.reached < Revision(60), "{bytes}");
    }

    #[test]
    fn a_record_that_is_not_what_is_stored_is_found_and_one_that_has_changed_since_is_not() {
        let mut cache = cache();
        cache.apply(Durable::new(command(&[key(1, 0), key(1, 1), key(1, 2)], 1), Revision(11)));
        let there = |changes: &[(u128, u64)]| {
            let mut there: HashMap<_, _> = (0..3).map(|n| (key(1, n), Revision(11))).collect();
            there.extend(changes.iter().map(|(n, revision)| (key(1, *n), Revision(*revision))));
            there.retain(|_, revision| *revision > Revision::ZERO);
            there
        };
        let found = |cache: &Cache, changes: &[(u128, u64)]| cache.contradictions(Revision(11), &there(changes));
        assert_eq!(found(&cache, &[]), []);
        assert_eq!(found(&cache, &[(1, 10)]), [key(1, 1)], "another revision");
        assert_eq!(found(&cache, &[(1, 0)]), [key(1, 1)], "not there");
        assert_eq!(found(&cache, &[(7, 9)]), [key(1, 7)], "not here");
        let removed = Op { key: key(1, 2), based_on: Revision(11), change: Change::Delete };
        cache.apply(Durable::new(Command { ops: vec![removed] }, Revision(12)));
        cache.apply(Durable::new(command(&[key(1, 1), key(1, 8)], 1), Revision(13)));
        assert_eq!(found(&cache, &[(1, 9)]), []);
        assert_eq!(cache.contradictions(Revision(14), &HashMap::new()), [], "of a time that has not come");
    }

    #[test]
    fn who_followed_before_everything_was_replaced_is_told_so_whatever_the_revision() {
        let mut cache = cache();
        let life = cache.life();
        assert!(cache.changes_in(life, &BucketSet::all(), Revision(10)).is_ok());
        cache.start_anew(Cache::new(POP, Listing { revision: Revision(10), entries: Vec::new() }));
        assert_eq!(cache.changes_in(life, &BucketSet::all(), Revision(10)), Err(StoreError::Compacted));
        assert!(cache.changes_in(cache.life(), &BucketSet::all(), Revision(10)).is_ok());
    }

    #[test]
    fn what_happens_in_other_buckets_counts_as_told() {
        let mut cache = cache();
        cache.apply(Durable::new(command(&[key(2, 0)], 10), Revision(11)));
        let changes = cache.changes(&BucketSet::of([BucketId(1)]), Revision(10)).unwrap();
        assert_eq!(changes, Changes { events: Vec::new(), reached: Revision(11) });
    }

    #[test]
    fn changes_are_kept_up_to_a_number_and_up_to_a_size() {
        for bytes in [0, 16 << 10] {
            let mut cache = cache();
            let last = 11 + 2 * limits::CHANGES_KEPT as u64;
            for revision in 11..=last {
                cache.apply(Durable::new(command(&[key(1, 0)], bytes), Revision(revision)));
            }
            assert!(cache.changes.len() <= limits::CHANGES_KEPT && cache.change_bytes <= limits::CHANGES_KEPT_BYTES);
            assert!(cache.changes.len() >= limits::CHANGES_KEPT.min(limits::CHANGES_KEPT_BYTES / (17 << 10)));
            let kept = cache.compacted;
            assert!(cache.changes(&BucketSet::all(), kept).is_ok());
            assert_eq!(cache.changes(&BucketSet::all(), Revision(kept.0 - 1)), Err(StoreError::Compacted));
            assert_eq!(cache.changes(&BucketSet::all(), Revision(last + 1)), Err(StoreError::Compacted));
        }
    }
}
