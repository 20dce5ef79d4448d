//! The calls, blobs and removals of the PoP, as this router has seen them in the store.
//!
//! Decides nothing: it remembers what was told last, so that the hub can read off what has changed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tandem_core::mailbox::BlobName;
use tandem_core::topology::{Blob, BlobKind, Call, Removal};
use tandem_state_client::{Entry, Key, Listing, Revision};
use tandem_wire::id::CallId;
use tandem_wire::party::{DeviceKey, Party};
use tandem_wire::units::Wall;

use crate::limits;
use crate::push::BlobId;

/// A call's record.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) revision: Revision,
    pub(crate) call: Call,
}

/// A record that is not as it was.
#[derive(Debug)]
pub(crate) enum Changed {
    /// A call, and how it was before.
    Call(CallId, Option<Call>),
    /// A blob is there, or there anew.
    Stored(DeviceKey, BlobName, Revision),
    /// A blob is gone.
    Gone(DeviceKey, BlobName),
    /// A device was removed.
    Removed(DeviceKey),
}

/// The revision and the bytes of a blob.
type StoredBlob = (Revision, Arc<[u8]>);

#[derive(Debug, Default)]
pub(crate) struct View {
    calls: HashMap<CallId, Known>,
    by_device: HashMap<DeviceKey, BTreeSet<CallId>>,
    /// As they are stored: most are read by nobody here, since their device is not connected, or has them already.
    blobs: HashMap<(DeviceKey, BlobName), StoredBlob>,
    removals: HashMap<DeviceKey, Removal>,
}

impl View {
    /// Takes over a whole list; what is not in it is gone.
    pub(crate) fn replace(&mut self, listing: Listing) -> Vec<Changed> {
        let there: BTreeSet<Key> = listing.entries.iter().map(|entry| entry.key).collect();
        let mut changes: Vec<Changed> = Vec::new();
        let lost: Vec<CallId> = self.calls.keys().filter(|id| !there.contains(&Key::Call(**id))).copied().collect();
        for id in lost {
            self.forget(id);
        }
        let lost: Vec<_> = self.blobs.keys().filter(|(to, blob)| !there.contains(&key(*to, *blob))).copied().collect();
        for (to, blob) in lost {
            self.blobs.remove(&(to, blob));
            changes.push(Changed::Gone(to, blob));
        }
        self.removals.clear();
        changes.extend(listing.entries.iter().filter_map(|entry| self.put(entry)));
        changes
    }

    /// Takes in a record as it is now.
    pub(crate) fn put(&mut self, entry: &Entry) -> Option<Changed> {
        let unreadable = |error| tracing::warn!(%error, "a record cannot be read");
        match entry.key {
            Key::Call(id) => {
                let call = Call::from_json(&entry.value).map_err(unreadable).ok()?;
                let old = self.forget(id);
                for party in call.parties() {
                    self.by_device.entry(party.key()).or_default().insert(id);
                }
                self.calls.insert(id, Known { revision: entry.revision, call });
                Some(Changed::Call(id, old))
            }
            Key::Blob(call, to, seq) => {
                let name = BlobName { call, seq };
                self.blobs.insert((to, name), (entry.revision, Arc::clone(&entry.value)));
                Some(Changed::Stored(to, name, entry.revision))
            }
            Key::Removal(_, device) => {
                let removal = Removal::from_json(&entry.value).map_err(unreadable).ok()?;
                self.removals.insert(device, removal);
                Some(Changed::Removed(device))
            }
            Key::Attachment(..) | Key::Pair(..) | Key::Relay(..) | Key::Table(_) | Key::Account(..) => None,
        }
    }

    /// Takes in that a record is gone.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Changed> {
        match key {
            Key::Call(id) => {
                self.forget(id);
                None
            }
            Key::Blob(call, to, seq) => {
                let name = BlobName { call, seq };
                self.blobs.remove(&(to, name)).map(|_| Changed::Gone(to, name))
            }
            Key::Removal(_, device) => {
                self.removals.remove(&device);
                None
            }
            Key::Attachment(..) | Key::Pair(..) | Key::Relay(..) | Key::Table(_) | Key::Account(..) => None,
        }
    }

    pub(crate) fn call(&self, id: CallId) -> Option<&Known> {
        self.calls.get(&id)
    }

    /// The revision of a blob that waits.
    pub(crate) fn blob_revision(&self, to: DeviceKey, name: BlobName) -> Option<Revision> {
        self.blobs.get(&(to, name)).map(|(revision, _)| *revision)
    }

    /// A blob that waits.
    pub(crate) fn blob(&self, to: DeviceKey, name: BlobName) -> Option<(BlobId, Blob)> {
        let (revision, bytes) = self.blobs.get(&(to, name))?;
        let blob = Blob::from_json(bytes).map_err(|error| tracing::warn!(%error, "a record cannot be read")).ok()?;
        Some((BlobId { name, revision: *revision }, blob))
    }

    /// The blob of this kind that waits for a device of a call.
    pub(crate) fn blob_of_kind(&self, to: DeviceKey, call: CallId, kind: BlobKind) -> Option<(BlobId, Blob)> {
        // An offer has a number of its own, an answer one of the first: there are at most 32.
        (0..=limits::BLOB_NUMBERS_LOOKED_AT).find_map(|seq| {
            let name = BlobName { call, seq };
            self.blob_revision(to, name)?;
            self.blob(to, name).filter(|(_, blob)| blob.kind == kind)
        })
    }

    /// The calls that concern a device, in the order of their last changes.
    pub(crate) fn calls_of(&self, device: DeviceKey) -> Vec<&Known> {
        let ids = self.by_device.get(&device).into_iter().flatten();
        let mut calls: Vec<&Known> = ids.filter_map(|id| self.calls.get(id)).collect();
        calls.sort_unstable_by_key(|known| known.revision);
        calls
    }

    /// Every call.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Known> {
        self.calls.values()
    }

    /// Whether a token of `party` that was issued at `issued` is void.
    pub(crate) fn is_void(&self, party: &Party, issued: Option<u64>) -> bool {
        self.removals.get(&party.key()).is_some_and(|removal| removal.voids(issued))
    }

    /// When a device was removed last.
    pub(crate) fn removed_at(&self, device: DeviceKey) -> Option<Wall> {
        self.removals.get(&device).map(|removal| removal.at)
    }

    /// How many calls and blobs there are.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.calls.len(), self.blobs.len())
    }

    fn forget(&mut self, id: CallId) -> Option<Call> {
        let Known { call, .. } = self.calls.remove(&id)?;
        for party in call.parties() {
            let device = party.key();
            if let Some(calls) = self.by_device.get_mut(&device) {
                calls.remove(&id);
                if calls.is_empty() {
                    self.by_device.remove(&device);
                }
            }
        }
        Some(call)
    }
}

pub(crate) const fn key(to: DeviceKey, name: BlobName) -> Key {
    Key::Blob(name.call, to, name.seq)
}
