//! Flows: which bucket the packets of an address belong to.
//!
//! Decides which addresses are remembered, and who goes when there is no room. Leaves to its callers that nobody gets in here
//! without proof: an address comes from a relay whose client has proved itself, or from the store.

use core::hash::BuildHasher as _;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use tandem_wire::id::BucketId;
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::{Mono, Total};

use crate::limits;

/// Where a client's packets come from: its address, and whether it speaks TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    /// The address.
    pub client: ClientAddr,
    /// It came over TCP or TLS.
    pub tcp: bool,
}

impl FlowKey {
    /// The flow of a client that speaks UDP.
    #[must_use]
    pub const fn udp(client: ClientAddr) -> Self {
        Self { client, tcp: false }
    }
}

/// Which of our addresses the client speaks to; nobody knows before it has spoken.
const LISTENER_UNKNOWN: u8 = u8::MAX;

/// 28 bytes.
#[derive(Clone, Copy)]
struct Entry {
    address: [u8; 18],
    tcp: bool,
    listener: u8,
    bucket: u16,
    /// The store names it. Otherwise a relay did, and the store will.
    indexed: bool,
    /// In seconds.
    seen: u32,
}

/// The table of flows. It has its full size from the start, so that it never stops to grow; the system gives the memory of a
/// place when it is first used.
pub(super) struct Flows {
    table: HashTable<Entry>,
    hash: SeedableRandomState,
    cap: usize,
    swept: usize,
    indexed: usize,
    /// Flows that had to go because others came.
    pub(super) evicted: Total,
}

impl Flows {
    /// An empty table of up to `cap` flows.
    pub(super) fn new(seed: u64, cap: usize) -> Self {
        Self {
            table: HashTable::with_capacity(cap),
            hash: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
            cap: cap.max(1),
            swept: 0,
            indexed: 0,
            evicted: Total::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many of them the store names.
    pub(super) const fn indexed(&self) -> usize {
        self.indexed
    }

    /// A keyed hash of an address: nobody outside can aim at one.
    pub(super) fn hash(&self, key: FlowKey) -> u64 {
        hash(&self.hash, &key.client.key(), key.tcp)
    }

    /// The bucket of a flow that has just spoken to `listener`.
    #[inline]
    pub(super) fn touch(&mut self, now: Mono, key: FlowKey, listener: u8) -> Option<BucketId> {
        let address = key.client.key();
        let entry = self.table.find_mut(hash(&self.hash, &address, key.tcp), |e| e.is(&address, key.tcp))?;
        entry.seen = seconds(now);
        entry.listener = listener;
        Some(BucketId(entry.bucket))
    }

    /// Which listener a flow spoke to last.
    pub(super) fn listener(&self, key: FlowKey) -> Option<u8> {
        let address = key.client.key();
        let entry = self.table.find(hash(&self.hash, &address, key.tcp), |e| e.is(&address, key.tcp))?;
        (entry.listener != LISTENER_UNKNOWN).then_some(entry.listener)
    }

    /// A relay says that this client has proved itself.
    pub(super) fn learn(&mut self, now: Mono, key: FlowKey, listener: u8, bucket: BucketId) {
        self.put(now, key, Some(listener), bucket, false);
    }

    /// The store says that this is where a leg is attached. The newest to say so has the address.
    pub(super) fn claim(&mut self, now: Mono, key: FlowKey, bucket: BucketId) {
        self.put(now, key, None, bucket, true);
    }

    fn put(&mut self, now: Mono, key: FlowKey, listener: Option<u8>, bucket: BucketId, indexed: bool) {
        let (address, tcp) = (key.client.key(), key.tcp);
        let at = hash(&self.hash, &address, tcp);
        if let Some(entry) = self.table.find_mut(at, |e| e.is(&address, tcp)) {
            // What the store has said of the same bucket still holds; of another one it does not.
            let now_indexed = indexed || (entry.indexed && entry.bucket == bucket.0);
            self.indexed = self.indexed + usize::from(now_indexed) - usize::from(entry.indexed);
            (entry.bucket, entry.indexed) = (bucket.0, now_indexed);
            entry.listener = listener.unwrap_or(entry.listener);
            return;
        }
        if self.table.len() >= self.cap {
            self.make_room(at);
        }
        self.indexed += usize::from(indexed);
        let listener = listener.unwrap_or(LISTENER_UNKNOWN);
        let entry = Entry { address, tcp, listener, bucket: bucket.0, indexed, seen: seconds(now) };
        let state = &self.hash;
        self.table.insert_unique(at, entry, |e| hash(state, &e.address, e.tcp));
    }

    /// The store no longer says that the address belongs to this bucket.
    pub(super) fn release(&mut self, key: FlowKey, bucket: BucketId) {
        self.remove(key, |entry| entry.bucket == bucket.0);
    }

    /// The address is no client's.
    pub(super) fn forget(&mut self, client: ClientAddr) {
        for tcp in [false, true] {
            self.remove(FlowKey { client, tcp }, |_| true);
        }
    }

    fn remove(&mut self, key: FlowKey, really: impl Fn(&Entry) -> bool) {
        let address = key.client.key();
        let at = hash(&self.hash, &address, key.tcp);
        if let Ok(found) = self.table.find_entry(at, |e| e.is(&address, key.tcp))
            && really(found.get())
        {
            let (entry, _) = found.remove();
            self.indexed -= usize::from(entry.indexed);
        }
    }

    /// Of the first eight flows from a place that nobody can choose, the one that was idle longest goes.
    fn make_room(&mut self, from: u64) {
        let places = self.table.num_buckets();
        // The upper half: the lower bits name the place of the new flow itself.
        let start = usize::try_from(from >> 32).unwrap_or_default();
        let looked_at = (0..places).filter_map(|step| {
            let place = start.wrapping_add(step) % places;
            Some((self.table.get_bucket(place)?.seen, place))
        });
        let idlest = looked_at.take(limits::FLOWS_LOOKED_AT).min();
        if let Some((_, place)) = idlest {
            self.evicted += 1;
            self.remove_at(place);
        }
    }

    /// Looks at the next few places for flows that are over though nobody said so: a relay named them, the store never did.
    pub(super) fn sweep(&mut self, now: Mono) {
        let places = self.table.num_buckets();
        for _ in 0..limits::FLOWS_SWEPT.min(places) {
            self.swept = (self.swept + 1) % places;
            let idle = self.table.get_bucket(self.swept).is_some_and(|entry| {
                !entry.indexed && u64::from(seconds(now).saturating_sub(entry.seen)) > limits::FLOW_IDLE.as_secs()
            });
            if idle {
                self.remove_at(self.swept);
            }
        }
    }

    fn remove_at(&mut self, place: usize) {
        if let Ok(found) = self.table.get_bucket_entry(place) {
            let (entry, _) = found.remove();
            self.indexed -= usize::from(entry.indexed);
        }
    }
}

impl Entry {
    #[inline]
    fn is(&self, address: &[u8; 18], tcp: bool) -> bool {
        self.address == *address && self.tcp == tcp
    }
}

#[inline]
fn hash(state: &SeedableRandomState, address: &[u8; 18], tcp: bool) -> u64 {
    let [ip @ .., p0, p1] = *address;
    let port = u32::from(u16::from_be_bytes([p0, p1])) | (u32::from(tcp) << 16);
    state.hash_one((u128::from_ne_bytes(ip), port))
}

fn seconds(now: Mono) -> u32 {
    u32::try_from(now.since(Mono::default()).as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tandem_wire::units::Span;

    use super::*;

    fn key(n: u32) -> FlowKey {
        let [a, b, c, d] = n.to_be_bytes();
        FlowKey::udp(ClientAddr::new(format!("10.{a}.{b}.{c}:{}", 1_000 + u16::from(d)).parse().unwrap()))
    }

    fn at(secs: u64) -> Mono {
        Mono::default().after(Span::from_secs(secs))
    }

    #[test]
    fn an_entry_takes_no_more_room_than_the_cap_counts_with() {
        assert_eq!(size_of::<Entry>(), 28);
        let table = Flows::new(1, limits::FLOWS);
        assert_eq!(table.table.num_buckets(), 1 << 20, "the cap fills the table to seven eighths, and no more");
        assert!(table.table.allocation_size() <= limits::FLOWS * 48);
    }

    #[test]
    fn over_the_cap_the_one_that_was_idle_longest_of_eight_goes_and_the_new_one_is_there() {
        let mut flows = Flows::new(7, 1_000);
        for n in 0..1_000 {
            flows.learn(at(u64::from(n)), key(n), 0, BucketId(1));
        }
        for n in 1_000..1_500 {
            flows.learn(at(2_000), key(n), 0, BucketId(2));
            assert_eq!((flows.len(), flows.touch(at(2_000), key(n), 0)), (1_000, Some(BucketId(2))));
        }
        let stayed = |range: core::ops::Range<u32>| range.filter(|n| flows.listener(key(*n)).is_some()).count();
        let (old, young, new) = (stayed(0..500), stayed(500..1_000), stayed(1_000..1_500));
        assert_eq!((flows.evicted.get(), old + young + new), (500, 1_000));
        // Eight at random are all new now and then.
        assert!(
            old < 100 && young > 400 && new > 495,
            "of the idler half {old} stayed, of the other {young}, {new} new"
        );
    }

    #[test]
    fn a_newer_claim_has_the_address_and_the_older_one_s_end_takes_nothing_away() {
        let mut flows = Flows::new(7, 10);
        flows.claim(at(1), key(1), BucketId(1));
        flows.learn(at(2), key(1), 3, BucketId(2));
        flows.release(key(1), BucketId(1));
        assert_eq!((flows.touch(at(3), key(1), 4), flows.indexed()), (Some(BucketId(2)), 0));
        flows.claim(at(3), key(1), BucketId(2));
        assert_eq!((flows.listener(key(1)), flows.len(), flows.indexed()), (Some(4), 1, 1));
        // A relay's word does not make less of the store's.
        flows.learn(at(3), key(1), 4, BucketId(2));
        assert_eq!(flows.indexed(), 1);
        flows.release(key(1), BucketId(2));
        assert_eq!((flows.touch(at(3), key(1), 4), flows.len(), flows.indexed()), (None, 0, 0));
    }

    #[test]
    fn an_address_over_tcp_is_another_flow() {
        let mut flows = Flows::new(7, 10);
        let tcp = FlowKey { tcp: true, ..key(1) };
        flows.learn(at(1), key(1), 0, BucketId(1));
        assert_eq!(flows.touch(at(1), tcp, 0), None);
        flows.claim(at(1), tcp, BucketId(2));
        assert_eq!((flows.touch(at(1), key(1), 0), flows.listener(tcp)), (Some(BucketId(1)), None));
        flows.forget(key(1).client);
        assert_eq!(flows.len(), 0);
    }

    #[test]
    fn what_the_store_never_named_goes_after_an_hour_of_silence_and_nothing_else_does() {
        let mut flows = Flows::new(7, 100);
        flows.learn(at(0), key(1), 0, BucketId(1));
        flows.learn(at(0), key(2), 0, BucketId(1));
        flows.claim(at(0), key(3), BucketId(1));
        flows.touch(at(1), key(2), 0);
        for _ in 0..10 {
            flows.sweep(at(3_601));
        }
        assert_eq!((flows.listener(key(1)), flows.listener(key(2)), flows.len()), (None, Some(0), 2));
    }
}
