//! Records of the store, put together by call.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use tandem_core::residency::Snapshot;
use tandem_core::topology::{Attachment, Call};
use tandem_state_client::{Entry, Key};
use tandem_wire::id::{CallId, Revision};

use super::Counters;

/// Entries of the store, put together by call. `None`: something of this call cannot be read.
pub(super) struct Snapshots {
    at: Revision,
    pub(super) calls: BTreeMap<CallId, Option<Snapshot>>,
}

impl Snapshots {
    pub(super) const fn new(at: Revision) -> Self {
        Self { at, calls: BTreeMap::new() }
    }

    pub(super) fn take(&mut self, entry: Entry, counters: &Counters) {
        let (Key::Call(call) | Key::Attachment(call, _)) = entry.key else { return };
        let slot =
            self.calls.entry(call).or_insert_with(|| Some(Snapshot { at: self.at, call: None, legs: Vec::new() }));
        let Some(snapshot) = slot else { return };
        let result = match entry.key {
            Key::Call(_) => Call::from_json(&entry.value).map(|record| snapshot.call = Some((record, entry.revision))),
            Key::Attachment(_, leg) => {
                Attachment::from_json(&entry.value).map(|record| snapshot.legs.push((leg, record, entry.revision)))
            }
            Key::Blob(..) | Key::Removal(..) | Key::Pair(..) | Key::Relay(..) | Key::Table(_) | Key::Account(..) => {
                return;
            }
        };
        if let Err(error) = result {
            counters.unreadable.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "a record cannot be read");
            *slot = None;
        }
    }
}
