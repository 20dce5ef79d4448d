//! Claims: which bucket each address belongs to, by the attachments in the store.
//!
//! Decides what a changed record means for the addresses in it: the record that was written last has an address, and when it
//! lets it go, the one before has it again, as it would for somebody who reads the store only then. Leaves following the
//! store to the load balancer; it is kept beside the packet thread, which is told of differences only.

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashMap;
use tandem_wire::id::{BucketId, CallId, LegId, Revision};
use tandem_wire::redact::ClientAddr;

use super::FlowKey;
use crate::topology::{Attachment, Transport};

/// What has changed in the index of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The address belongs to this bucket now.
    Taken {
        /// The address.
        flow: FlowKey,
        /// The bucket.
        bucket: BucketId,
    },
    /// It belongs to it no longer, and to no other.
    Released {
        /// The address.
        flow: FlowKey,
        /// The bucket that it belonged to.
        bucket: BucketId,
    },
}

/// Names one attachment.
type Record = (CallId, LegId);
type Address = (Transport, ClientAddr);

/// All addresses of all attachments, some 150 B each.
pub struct Claims {
    /// When each record was written, and the addresses in it.
    records: HashMap<Record, (Revision, Vec<Address>), SeedableRandomState>,
    /// Who names an address: one record, but for moments.
    addresses: HashMap<Address, Vec<(Revision, Record)>, SeedableRandomState>,
}

impl core::fmt::Debug for Claims {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Claims").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

impl Claims {
    /// No claims.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { records: HashMap::with_hasher(state.clone()), addresses: HashMap::with_hasher(state) }
    }

    /// Takes a record in as it is now (`None`: it is gone), written at `revision`; tells `changed` what differs. A record
    /// that is older than what is known changes nothing.
    pub fn record(
        &mut self,
        call: CallId,
        leg: LegId,
        record: Option<&Attachment>,
        revision: Revision,
        mut changed: impl FnMut(Claim),
    ) {
        let name = (call, leg);
        if self.records.get(&name).is_some_and(|(known, _)| *known > revision) {
            return;
        }
        let now: Vec<Address> = record
            .map(|record| {
                record.allocations.iter().map(|allocation| (allocation.transport, allocation.client)).collect()
            })
            .unwrap_or_default();
        let (_, before) = self.records.remove(&name).unwrap_or_default();
        for address in before.iter().filter(|address| !now.contains(address)) {
            self.with(*address, &mut changed, |claims| claims.retain(|(_, claimant)| *claimant != name));
        }
        for address in &now {
            self.with(*address, &mut changed, |claims| {
                claims.retain(|(_, claimant)| *claimant != name);
                claims.push((revision, name));
            });
        }
        if !now.is_empty() {
            self.records.insert(name, (revision, now));
        }
    }

    /// A list of all records is about to be taken in: whoever is not `listed` is gone.
    pub fn keep(&mut self, listed: impl Fn(CallId, LegId) -> bool, mut changed: impl FnMut(Claim)) {
        let gone: Vec<Record> = self.records.keys().filter(|(call, leg)| !listed(*call, *leg)).copied().collect();
        for (call, leg) in gone {
            let at = self.records.get(&(call, leg)).map_or(Revision::ZERO, |(revision, _)| *revision);
            self.record(call, leg, None, at, &mut changed);
        }
    }

    /// How many addresses are claimed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Changes who names an address, and tells if that changes whose it is.
    fn with(
        &mut self,
        address: Address,
        changed: &mut impl FnMut(Claim),
        act: impl FnOnce(&mut Vec<(Revision, Record)>),
    ) {
        let claims = self.addresses.entry(address).or_default();
        let before = bucket_of(claims);
        act(claims);
        let after = bucket_of(claims);
        if claims.is_empty() {
            self.addresses.remove(&address);
        }
        let (Transport::Udp, client) = address;
        let flow = FlowKey::udp(client);
        match (before, after) {
            (before, Some(bucket)) if before != Some(bucket) => changed(Claim::Taken { flow, bucket }),
            (Some(bucket), None) => changed(Claim::Released { flow, bucket }),
            _ => {}
        }
    }
}

/// The bucket of the record that was written last.
fn bucket_of(claims: &[(Revision, Record)]) -> Option<BucketId> {
    claims.iter().max().map(|(_, (call, _))| call.bucket())
}

#[cfg(test)]
mod tests {
    use tandem_wire::id::{AllocationId, PopId, RelayId};

    use super::*;
    use crate::topology::Allocation;

    fn call(bucket: u16) -> CallId {
        CallId::new(PopId(1), BucketId(bucket), 7)
    }

    fn client(port: u16) -> ClientAddr {
        ClientAddr::new(core::net::SocketAddr::from(([192, 0, 2, 1], port)))
    }

    fn attached(ports: &[u16]) -> Attachment {
        let mut record = Attachment::empty(RelayId(1));
        let allocations = ports.iter().zip(1..).map(|(port, a)| Allocation {
            a: AllocationId::new(a).unwrap(),
            transport: Transport::Udp,
            client: client(*port),
            channels: Vec::new(),
        });
        record.allocations.extend(allocations);
        record
    }

    fn taken(port: u16, bucket: u16) -> Claim {
        Claim::Taken { flow: FlowKey::udp(client(port)), bucket: BucketId(bucket) }
    }

    fn released(port: u16, bucket: u16) -> Claim {
        Claim::Released { flow: FlowKey::udp(client(port)), bucket: BucketId(bucket) }
    }

    struct Index(Claims);

    impl Index {
        fn put(&mut self, bucket: u16, leg: u16, ports: Option<&[u16]>, revision: u64) -> Vec<Claim> {
            let mut changes = Vec::new();
            let record = ports.map(attached);
            let leg = LegId::new(leg).unwrap();
            self.0.record(call(bucket), leg, record.as_ref(), Revision(revision), |claim| changes.push(claim));
            changes
        }
    }

    #[test]
    fn addresses_come_and_go_with_the_records_that_name_them() {
        let mut index = Index(Claims::new(1));
        assert_eq!(index.put(5, 1, Some(&[1, 2]), 10), [taken(1, 5), taken(2, 5)]);
        assert_eq!(index.put(5, 1, Some(&[2, 3]), 11), [released(1, 5), taken(3, 5)]);
        assert_eq!(index.put(5, 1, Some(&[1]), 9), [], "what is older changes nothing");
        assert_eq!(index.put(5, 2, Some(&[3]), 12), [], "the same bucket");
        assert_eq!(index.put(5, 1, None, 13), [released(2, 5)]);
        assert_eq!(index.put(5, 2, None, 14), [released(3, 5)]);
        assert!(index.0.is_empty() && index.0.records.is_empty());
    }

    #[test]
    fn the_record_that_was_written_last_has_the_address_and_then_the_one_before() {
        let mut index = Index(Claims::new(1));
        index.put(5, 1, Some(&[1]), 10);
        assert_eq!(index.put(6, 1, Some(&[1]), 20), [taken(1, 6)]);
        assert_eq!(index.put(7, 1, Some(&[1]), 15), [], "it was written before");
        assert_eq!(index.put(6, 1, Some(&[]), 30), [taken(1, 7)]);
        assert_eq!(index.put(7, 1, None, 31), [taken(1, 5)]);
        assert_eq!(index.put(5, 1, None, 32), [released(1, 5)]);
    }

    #[test]
    fn after_a_list_there_is_what_the_list_has_and_nothing_else() {
        let mut index = Index(Claims::new(1));
        index.put(5, 1, Some(&[1]), 10);
        index.put(6, 1, Some(&[2]), 11);
        let mut changes = Vec::new();
        index.0.keep(|of, _| of == call(6), |claim| changes.push(claim));
        assert_eq!((changes, index.0.len()), (vec![released(1, 5)], 1));
        assert_eq!(index.put(6, 1, Some(&[2]), 11), []);
    }
}
