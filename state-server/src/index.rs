//! The address index: which allocation a client address belongs to.
//!
//! Derived from the attachment records, never stored. A record that cannot be read has no addresses here, and does not
//! hinder anything else.

use std::collections::HashMap;

use tandem_core::topology::{Attachment, Transport};
use tandem_state_client::{AllocationRef, Key};
use tandem_wire::id::{CallId, LegId};
use tandem_wire::redact::ClientAddr;

type Address = (Transport, ClientAddr);

/// Address to allocation.
#[derive(Debug, Default)]
pub(crate) struct AddressIndex {
    owners: HashMap<Address, AllocationRef>,
    /// What each record has in it, so that a change takes its old addresses out.
    listed: HashMap<(CallId, LegId), Vec<Address>>,
}

impl AddressIndex {
    /// Takes a change of a record in; `None`: it was removed.
    pub(crate) fn change(&mut self, key: Key, value: Option<&[u8]>) {
        let Key::Attachment(call, leg) = key else { return };
        for address in self.listed.remove(&(call, leg)).unwrap_or_default() {
            // A later attachment on the same address has taken it over: then it is not ours to remove.
            if self.owners.get(&address).is_some_and(|owner| (owner.call, owner.leg) == (call, leg)) {
                self.owners.remove(&address);
            }
        }
        let Some(record) = value.and_then(|value| Attachment::from_json(value).ok()) else { return };
        let mut addresses = Vec::with_capacity(record.allocations.len());
        for allocation in &record.allocations {
            let address = (allocation.transport, allocation.client);
            addresses.push(address);
            self.owners.insert(address, AllocationRef { call, leg, allocation: allocation.a });
        }
        if !addresses.is_empty() {
            self.listed.insert((call, leg), addresses);
        }
    }

    pub(crate) fn find(&self, transport: Transport, client: ClientAddr) -> Option<AllocationRef> {
        self.owners.get(&(transport, client)).copied()
    }
}
