//! A store in memory that a script can make late, forgetful in its answers, or busy with somebody else's changes.
//!
//! Decides only what a real one may do: a write is refused when it is based on another revision; one that "went away" may
//! or may not have been done; changes are told in their order, and every one of them. It never lies about what it has.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use tandem_core::residency::Snapshot;
use tandem_core::topology::{
    Allocation, Attachment, AttachmentCommand, Call, CallCommand, CallKind, EndReason, Transport,
};
use tandem_relay::engine::StoreEvent;
use tandem_wire::id::{CallId, LegId, RelayId, Revision};
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::Now;

use crate::script::Script;

/// The relay that changes records behind ours.
const OTHER_RELAY: RelayId = RelayId(9);

/// A write that is under way.
#[derive(Debug)]
pub struct Write {
    /// The call.
    pub call: CallId,
    /// The leg.
    pub leg: LegId,
    /// The record.
    pub attachment: Attachment,
    /// What it is based on.
    pub based_on: Revision,
}

/// All of it.
#[derive(Debug)]
pub struct Store {
    revision: Revision,
    calls: BTreeMap<CallId, (Call, Revision)>,
    legs: BTreeMap<(CallId, LegId), (Attachment, Revision)>,
    /// Changes that have not been told yet.
    watch: VecDeque<StoreEvent>,
    /// Calls that were asked for, oldest first.
    pub loads: VecDeque<CallId>,
    /// Writes that were asked for, oldest first.
    pub writes: VecDeque<Write>,
}

impl Store {
    /// A store with these one-to-one calls, nobody attached.
    #[must_use]
    pub fn with_calls(ids: impl IntoIterator<Item = CallId>, now: Now) -> Self {
        let mut calls = BTreeMap::new();
        for id in ids {
            let command = CallCommand::Create { id, kind: CallKind::OneToOne, legs: 2 };
            if let Ok(call) = Call::apply(None, command, now) {
                calls.insert(id, (call, Revision(1)));
            }
        }
        Self {
            revision: Revision(1),
            calls,
            legs: BTreeMap::new(),
            watch: VecDeque::new(),
            loads: VecDeque::new(),
            writes: VecDeque::new(),
        }
    }

    /// The allocations of a leg.
    #[must_use]
    pub fn allocations(&self, call: CallId, leg: LegId) -> &[Allocation] {
        self.legs.get(&(call, leg)).map_or(&[], |(attachment, _)| &attachment.allocations)
    }

    /// Every address that a record names now.
    pub fn named(&self) -> impl Iterator<Item = (CallId, SocketAddr)> + '_ {
        let clients = |(call, _): &(CallId, LegId), attachment: &Attachment| -> Vec<(CallId, SocketAddr)> {
            attachment.allocations.iter().map(|a| (*call, a.client.socket_addr())).collect()
        };
        self.legs.iter().flat_map(move |(key, (attachment, _))| clients(key, attachment))
    }

    /// Answers the oldest question, or fails to.
    pub fn answer_load(&mut self, script: &mut Script<'_>) -> Option<StoreEvent> {
        let call = self.loads.pop_front()?;
        Some(if script.byte().is_multiple_of(4) { StoreEvent::LoadFailed { call } } else { self.loaded(call) })
    }

    /// Answers the oldest write, or goes away before it or after it.
    pub fn answer_write(&mut self, script: &mut Script<'_>) -> Option<StoreEvent> {
        let write = self.writes.pop_front()?;
        let (call, leg) = (write.call, write.leg);
        Some(match script.byte() % 6 {
            0 => StoreEvent::WriteAway { call, leg },
            1 => {
                self.write(write);
                StoreEvent::WriteAway { call, leg }
            }
            _ => self.write(write),
        })
    }

    /// Answers something that is owed, truly; `None` when nothing is.
    pub fn answer_truly(&mut self) -> Option<StoreEvent> {
        if let Some(event) = self.watch.pop_front() {
            return Some(event);
        }
        if let Some(call) = self.loads.pop_front() {
            return Some(self.loaded(call));
        }
        self.writes.pop_front().map(|write| self.write(write))
    }

    /// Somebody else changes something, or the oldest change is told.
    pub fn change(
        &mut self,
        call: CallId,
        leg: LegId,
        client: SocketAddr,
        now: Now,
        script: &mut Script<'_>,
    ) -> Option<StoreEvent> {
        let (transport, client) = (Transport::Udp, ClientAddr::new(client));
        match script.byte() % 8 {
            0 => self.end(call, now),
            1 => self.attach(call, leg, AttachmentCommand::Attach { transport, client }),
            2 => self.attach(call, leg, AttachmentCommand::Detach { transport, client }),
            3 => {
                if self.legs.remove(&(call, leg)).is_some() {
                    let revision = self.next_revision();
                    self.watch.push_back(StoreEvent::AttachmentChanged { call, leg, record: None, revision });
                }
            }
            _ => return self.watch.pop_front(),
        }
        None
    }

    /// Lists everything, perhaps cut off before its end. What was to be told before is in the list.
    pub fn list(&mut self, script: &mut Script<'_>) -> Vec<StoreEvent> {
        self.watch.clear();
        let mut events = vec![StoreEvent::RestoreBegan];
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        events.extend(calls.into_iter().map(|call| self.loaded(call)));
        if script.byte().is_multiple_of(4) {
            events.push(StoreEvent::Restored);
        }
        events
    }

    fn next_revision(&mut self) -> Revision {
        self.revision = Revision(self.revision.0 + 1);
        self.revision
    }

    fn loaded(&self, call: CallId) -> StoreEvent {
        let legs = self.legs.iter().filter(|((of, _), _)| *of == call);
        let legs = legs.map(|((_, leg), (attachment, revision))| (*leg, attachment.clone(), *revision)).collect();
        StoreEvent::Loaded {
            call,
            snapshot: Snapshot { at: self.revision, call: self.calls.get(&call).cloned(), legs },
        }
    }

    fn write(&mut self, write: Write) -> StoreEvent {
        let Write { call, leg, attachment, based_on } = write;
        let stored = self.legs.get(&(call, leg)).map_or(Revision::ZERO, |(_, revision)| *revision);
        if stored != based_on {
            return StoreEvent::WriteStale { call, leg };
        }
        let revision = self.put(call, leg, attachment);
        StoreEvent::Written { call, leg, revision }
    }

    fn put(&mut self, call: CallId, leg: LegId, attachment: Attachment) -> Revision {
        let revision = self.next_revision();
        self.legs.insert((call, leg), (attachment.clone(), revision));
        self.watch.push_back(StoreEvent::AttachmentChanged { call, leg, record: Some(attachment), revision });
        revision
    }

    fn end(&mut self, call: CallId, now: Now) {
        let ended = self
            .calls
            .get(&call)
            .map(|(record, _)| Call::apply(Some(record), CallCommand::End { reason: EndReason::Hangup }, now));
        if let Some(Ok(record)) = ended {
            let revision = self.next_revision();
            self.calls.insert(call, (record.clone(), revision));
            self.watch.push_back(StoreEvent::CallChanged { call, record: Some(record), revision });
        }
    }

    fn attach(&mut self, call: CallId, leg: LegId, command: AttachmentCommand) {
        let Some((record, _)) = self.calls.get(&call) else {
            return;
        };
        let empty = Attachment::empty(OTHER_RELAY);
        let stored = self.legs.get(&(call, leg)).map_or(&empty, |(attachment, _)| attachment);
        if let Ok(Some(next)) = stored.apply(record, leg, OTHER_RELAY, command) {
            self.put(call, leg, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_on_another_revision_is_refused_and_every_change_is_told_in_its_order() {
        let call = CallId::from_bits(1);
        let leg = LegId::new(1).unwrap();
        let mut store = Store::with_calls([call], Now::default());
        let write = |based_on| Write { call, leg, attachment: Attachment::empty(OTHER_RELAY), based_on };
        store.writes.extend([write(Revision::ZERO), write(Revision::ZERO)]);
        assert!(matches!(store.answer_truly(), Some(StoreEvent::Written { revision: Revision(2), .. })));
        assert!(matches!(store.answer_truly(), Some(StoreEvent::AttachmentChanged { revision: Revision(2), .. })));
        assert!(matches!(store.answer_truly(), Some(StoreEvent::WriteStale { .. })));
        store.end(call, Now::default());
        assert!(matches!(store.answer_truly(), Some(StoreEvent::CallChanged { revision: Revision(3), .. })));
        assert!(store.answer_truly().is_none());
    }
}
