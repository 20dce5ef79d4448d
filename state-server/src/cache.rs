//! Everything that is stored, in memory: what reads are answered from, and the changes that followers have yet to see.
//!
//! Decides nothing about durability: what is put in here is durable already.

use std::collections::{BTreeMap, VecDeque};

use tandem_core::topology::{Call, Transport};
use tandem_state_client::{
    AllocationRef, BucketSet, Change, Command, Entry, Event, Key, Listing, Revision, StoreError,
};
use tandem_wire::id::{BucketId, CallId, LegId, PopId};
use tandem_wire::redact::ClientAddr;

use crate::index::AddressIndex;
use crate::limits;

#[derive(Debug, Clone)]
struct Stored {
    revision: Revision,
    value: Vec<u8>,
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
}

impl Cache {
    pub(crate) fn new(pop: PopId, listing: Listing) -> Self {
        let mut cache = Self {
            pop,
            records: BTreeMap::new(),
            index: AddressIndex::default(),
            revision: listing.revision,
            changes: VecDeque::new(),
            change_bytes: 0,
            compacted: listing.revision,
        };
        for Entry { key, revision, value } in listing.entries {
            cache.index.change(key, Some(&value));
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
    pub(crate) fn apply(&mut self, command: Command, revision: Revision) {
        for op in command.ops {
            let value = match op.change {
                Change::Put(value) => Some(value),
                Change::Delete => None,
            };
            self.set(Event { key: op.key, revision, value });
        }
        self.revision = revision;
        self.trim();
    }

    fn set(&mut self, event: Event) {
        self.index.change(event.key, event.value.as_deref());
        match &event.value {
            Some(value) => {
                self.records.insert(event.key, Stored { revision: event.revision, value: value.clone() });
            }
            None => _ = self.records.remove(&event.key),
        }
        self.change_bytes += bytes_of(&event);
        self.changes.push_back(event);
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
            *self = Self::new(self.pop, listing);
        }
    }

    pub(crate) fn load(&self, call: CallId) -> Listing {
        let mut entries = Vec::new();
        self.collect(&mut entries, call, call);
        Listing { revision: self.revision, entries }
    }

    pub(crate) fn restore(&self, buckets: &BucketSet) -> Listing {
        let mut entries = Vec::new();
        for (first, last) in buckets.ranges() {
            let first = CallId::new(self.pop, BucketId(first), 0);
            let last = CallId::new(self.pop, BucketId(last), u128::MAX);
            self.collect(&mut entries, first, last);
        }
        Listing { revision: self.revision, entries }
    }

    /// The calls from `first` to `last`, then their legs.
    fn collect(&self, entries: &mut Vec<Entry>, first: CallId, last: CallId) {
        let (Ok(lowest), Ok(highest)) = (LegId::new(1), LegId::new(LegId::MAX)) else { return };
        let calls = self.records.range(Key::Call(first)..=Key::Call(last));
        let legs = self.records.range(Key::Attachment(first, lowest)..=Key::Attachment(last, highest));
        entries.extend(calls.chain(legs).map(|(key, stored)| Entry {
            key: *key,
            revision: stored.revision,
            value: stored.value.clone(),
        }));
    }

    /// Some of the changes of these buckets after `after`, and the revision that they reach up to.
    ///
    /// Changes of one revision are never torn apart.
    pub(crate) fn changes(&self, buckets: &BucketSet, after: Revision) -> Result<(Vec<Event>, Revision), StoreError> {
        if after < self.compacted || after > self.revision {
            return Err(StoreError::Compacted);
        }
        let start = self.changes.partition_point(|event| event.revision <= after);
        let mut events: Vec<Event> = Vec::new();
        let mut reached = self.revision;
        for event in self.changes.iter().skip(start) {
            if !buckets.contains(event.key.bucket()) {
                continue;
            }
            let last = events.last().map(|last| last.revision);
            if events.len() >= limits::CHANGES_PER_TURN && last != Some(event.revision) {
                reached = last.unwrap_or(reached);
                break;
            }
            events.push(event.clone());
        }
        Ok((events, reached))
    }

    pub(crate) fn find_client(&self, transport: Transport, client: ClientAddr) -> Option<AllocationRef> {
        let owner = self.index.find(transport, client)?;
        let call = Call::from_json(&self.records.get(&Key::Call(owner.call))?.value).ok()?;
        call.admits(owner.leg).is_ok().then_some(owner)
    }
}

fn bytes_of(event: &Event) -> usize {
    size_of::<Event>() + event.value.as_ref().map_or(0, Vec::len)
}
