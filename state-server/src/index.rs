//! The address index: which allocation a client address belongs to.
//!
//! Derived from the attachment records, never stored. A record that cannot be read has no addresses here, and does not
//! hinder anything else. Two records may claim one address for a while (a client that left one call for another without a
//! word): the claim that was made last counts, and when it goes the one before it counts again.

use std::collections::{BTreeMap, HashMap};

use tandem_core::topology::{Attachment, Transport};
use tandem_state_client::{AllocationRef, Key, Revision};
use tandem_wire::id::{AllocationId, CallId, LegId};
use tandem_wire::redact::ClientAddr;

/// An address as a key: the way in, 16 bytes of address and 2 of port.
type Address = (Transport, [u8; 18]);

/// The addresses that stand in a record.
pub(crate) type Addresses = Vec<(Address, AllocationId)>;

/// Reads the addresses out of a record; none, if it is not an attachment or cannot be read.
pub(crate) fn addresses(key: Key, value: Option<&[u8]>) -> Addresses {
    let (Key::Attachment(..), Some(value)) = (key, value) else { return Vec::new() };
    let Ok(record) = Attachment::from_json(value) else { return Vec::new() };
    record
        .allocations
        .iter()
        .map(|allocation| (address(allocation.transport, allocation.client), allocation.a))
        .collect()
}

fn address(transport: Transport, client: ClientAddr) -> Address {
    (transport, client.key())
}

/// Who claims an address, in the order in which they came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    address: Address,
    since: Revision,
    call: CallId,
    leg: LegId,
}

/// Address to allocation.
#[derive(Debug, Default)]
pub(crate) struct AddressIndex {
    claims: BTreeMap<Claim, AllocationId>,
    /// What each record claims, and since when.
    records: HashMap<(CallId, LegId), Vec<(Address, Revision)>>,
}

impl AddressIndex {
    /// Takes in what a record claims from `revision` on. What it claimed before, it goes on claiming since then.
    pub(crate) fn change(&mut self, key: Key, revision: Revision, addresses: Addresses) {
        let Key::Attachment(call, leg) = key else { return };
        let before = self.records.remove(&(call, leg)).unwrap_or_default();
        for (address, since) in &before {
            self.claims.remove(&Claim { address: *address, since: *since, call, leg });
        }
        let mut now = Vec::with_capacity(addresses.len());
        for (address, allocation) in addresses {
            let known = before.iter().find(|(known, _)| *known == address);
            let since = known.map_or(revision, |(_, since)| *since);
            self.claims.insert(Claim { address, since, call, leg }, allocation);
            now.push((address, since));
        }
        if !now.is_empty() {
            self.records.insert((call, leg), now);
        }
    }

    /// Who claims the address, the latest claim first.
    pub(crate) fn find(&self, transport: Transport, client: ClientAddr) -> impl Iterator<Item = AllocationRef> {
        let address = address(transport, client);
        let bound = |since, bits, leg| {
            Some(Claim { address, since, call: CallId::from_bits(bits), leg: LegId::new(leg).ok()? })
        };
        let range = bound(Revision::ZERO, 0, 1).zip(bound(Revision(u64::MAX), u128::MAX, LegId::MAX));
        let claims = range.map(|(first, last)| self.claims.range(first..=last).rev()).into_iter().flatten();
        claims.map(|(claim, allocation)| AllocationRef { call: claim.call, leg: claim.leg, allocation: *allocation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_core::topology::{AttachmentCommand, Call, CallCommand, CallKind};
    use tandem_wire::id::RelayId;
    use tandem_wire::units::Now;

    fn client(port: u16) -> ClientAddr {
        ClientAddr::new(([192, 0, 2, 1], port).into())
    }

    fn key(call: u128) -> Key {
        Key::Attachment(CallId::from_bits(call), LegId::new(1).unwrap())
    }

    /// The addresses of an attachment on these ports.
    fn on(key: Key, ports: &[u16]) -> Addresses {
        let create = CallCommand::Create { id: key.call().unwrap(), kind: CallKind::OneToOne, legs: 2 };
        let call = Call::apply(None, create, Now::default()).unwrap();
        let mut record = Attachment::empty(RelayId(1));
        for port in ports {
            let attach = AttachmentCommand::Attach { transport: Transport::Udp, client: client(*port) };
            record = record.apply(&call, LegId::new(1).unwrap(), RelayId(1), attach).unwrap().unwrap();
        }
        addresses(key, Some(&record.to_json().unwrap()))
    }

    fn owners(index: &AddressIndex, port: u16) -> Vec<u128> {
        index.find(Transport::Udp, client(port)).map(|owner| owner.call.bits()).collect()
    }

    #[test]
    fn the_latest_claim_counts_and_the_one_before_it_comes_back() {
        let mut index = AddressIndex::default();
        index.change(key(9), Revision(5), on(key(9), &[1000]));
        index.change(key(3), Revision(6), on(key(3), &[1000, 1001]));
        assert_eq!(owners(&index, 1000), [3, 9]);
        // A change that keeps the address is not a new claim to it.
        index.change(key(9), Revision(7), on(key(9), &[1000, 1002]));
        assert_eq!(owners(&index, 1000), [3, 9]);
        index.change(key(3), Revision(8), Vec::new());
        assert_eq!(owners(&index, 1000), [9]);
        assert_eq!(owners(&index, 1001), [0_u128; 0]);
        index.change(key(9), Revision(9), Vec::new());
        assert!(index.claims.is_empty() && index.records.is_empty());
    }

    #[test]
    fn the_order_in_which_records_are_read_does_not_matter() {
        let records = [(key(9), Revision(6)), (key(3), Revision(5)), (key(5), Revision(7))];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut index = AddressIndex::default();
            for (key, revision) in order.map(|n: usize| records[n]) {
                index.change(key, revision, on(key, &[1000]));
            }
            assert_eq!(owners(&index, 1000), [5, 9, 3]);
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_claims_nothing() {
        for value in [None, Some(&b""[..]), Some(b"\xff"), Some(br#"{"v":99}"#)] {
            assert!(addresses(key(1), value).is_empty());
        }
        assert!(addresses(Key::Call(CallId::from_bits(1)), Some(b"{}")).is_empty());
    }
}
