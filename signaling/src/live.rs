//! The calls and removals of a PoP as this node sees them in the store.
//!
//! Decides nothing that anybody is told: verbs are decided over the record in the store. This is for what need not be of
//! this very moment: caps, whose token is void, which calls a removed device is in, and what is old enough to go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tandem_core::topology::{BlobHead, BlobKind, Call, Phase, Removal};
use tandem_state_client::{Entry, Key, Listing, Revision};
use tandem_wire::id::CallId;
use tandem_wire::party::{AccountId, DeviceKey, Party};
use tandem_wire::units::Wall;

use crate::limits;
use crate::policy::Policy;
use crate::refused::Refused;

#[derive(Debug, Default)]
struct Seen {
    calls: HashMap<CallId, (Revision, Arc<Call>)>,
    /// Live calls by the account that placed them, and ringing ones by the account that they ring at.
    placed: HashMap<AccountId, usize>,
    ringing: HashMap<AccountId, usize>,
    live: usize,
    /// Calls that are being placed and are not seen yet, in all, by account and by callee.
    placing: usize,
    placing_by: HashMap<AccountId, usize>,
    placing_at: HashMap<AccountId, usize>,
    /// Calls that concern a device, ended ones too.
    by_device: HashMap<DeviceKey, BTreeSet<CallId>>,
    removals: HashMap<DeviceKey, Removal>,
    /// What goes when it is old: missed-call notes and removals.
    aging: BTreeMap<Key, (Wall, Revision)>,
}

/// What has changed of a call, for its timers.
#[derive(Debug)]
pub(crate) enum Change {
    /// It is like this now.
    Call(Arc<Call>),
    /// It is gone.
    Gone(CallId),
    /// A device was removed: what it is in is to hear of it.
    Removed(Party),
}

/// The calls of the PoP, for whoever asks on this node.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<Seen>);

impl Live {
    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over a whole list. What is not in it is gone.
    pub(crate) fn replace(&self, listing: &Listing) -> Vec<Change> {
        // Made aside and taken over at once: whoever asks meanwhile must not find half of it, and a removed device let in.
        let made = Self::default();
        let mut changes: Vec<_> = listing.entries.iter().filter_map(|entry| made.put(entry)).collect();
        let made = made.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.with(|seen| {
            let before = std::mem::replace(seen, made);
            (seen.placing, seen.placing_by, seen.placing_at) = (before.placing, before.placing_by, before.placing_at);
            // Those too that are newer than the list: a snapshot was put back, or they are told of next.
            changes.extend(before.calls.into_keys().filter(|id| !seen.calls.contains_key(id)).map(Change::Gone));
        });
        changes
    }

    /// Takes in a record as it is now.
    pub(crate) fn put(&self, entry: &Entry) -> Option<Change> {
        let unreadable = |error| tracing::warn!(%error, "a record cannot be read");
        match entry.key {
            Key::Call(id) => {
                // What this node wrote itself it knows already.
                if let Some(call) = self.known(id, entry.revision) {
                    return Some(Change::Call(call));
                }
                let call = Arc::new(Call::from_json(&entry.value).map_err(unreadable).ok()?);
                self.note(id, entry.revision, &call);
                Some(Change::Call(call))
            }
            Key::Blob(..) => {
                let blob = BlobHead::from_json(&entry.value).map_err(unreadable).ok()?;
                if blob.kind == BlobKind::Missed {
                    let due = blob.at.after(tandem_core::limits::MISSED_LIFE);
                    self.with(|seen| seen.aging.insert(entry.key, (due, entry.revision)));
                }
                None
            }
            Key::Removal(_, device) => {
                let removal = Removal::from_json(&entry.value).map_err(unreadable).ok()?;
                let party = removal.party.clone();
                self.with(|seen| {
                    seen.aging.insert(entry.key, (removal.at.after(limits::REMOVAL_LIFE), entry.revision));
                    seen.removals.insert(device, removal);
                });
                Some(Change::Removed(party))
            }
            Key::Attachment(..) | Key::Pair(..) | Key::Relay(..) | Key::Table(_) | Key::Account(..) => None,
        }
    }

    /// The call, if it is seen as it is at this revision.
    fn known(&self, id: CallId, revision: Revision) -> Option<Arc<Call>> {
        self.with(|seen| seen.calls.get(&id).filter(|(known, _)| *known == revision).map(|(_, call)| Arc::clone(call)))
    }

    /// Takes in a call as it is at a revision: this node wrote it, or was told of it.
    pub(crate) fn note(&self, id: CallId, revision: Revision, call: &Arc<Call>) {
        self.with(|seen| seen.note(id, revision, call));
    }

    /// Takes a place for one more call of `account` to `callee`, if there is one. It is counted as a call until it is given
    /// back: many that are placed at once do not all find the same place free.
    pub(crate) fn reserve(&self, account: &AccountId, callee: &AccountId, policy: &Policy) -> Result<(), Refused> {
        self.with(|seen| {
            let of = |counts: &HashMap<AccountId, usize>, account| counts.get(account).copied().unwrap_or_default();
            if seen.live + seen.placing >= policy.live_calls {
                return Err(Refused::Overloaded);
            }
            if of(&seen.placed, account) + of(&seen.placing_by, account) >= policy.live_calls_per_account {
                return Err(Refused::CallQuota);
            }
            if of(&seen.ringing, callee) + of(&seen.placing_at, callee) >= policy.live_rings_per_account {
                return Err(Refused::RingQuota);
            }
            seen.placing += 1;
            add(&mut seen.placing_by, account, 1);
            add(&mut seen.placing_at, callee, 1);
            Ok(())
        })
    }

    /// Gives it back: the call is seen by now, or was not placed.
    pub(crate) fn release(&self, account: &AccountId, callee: &AccountId) {
        self.with(|seen| {
            seen.placing = seen.placing.saturating_sub(1);
            add(&mut seen.placing_by, account, -1);
            add(&mut seen.placing_at, callee, -1);
        });
    }

    /// Takes in that a record is gone.
    pub(crate) fn remove(&self, key: Key) -> Option<Change> {
        self.with(|seen| {
            seen.aging.remove(&key);
            match key {
                Key::Call(id) => {
                    seen.forget(id);
                    Some(Change::Gone(id))
                }
                Key::Removal(_, device) => {
                    seen.removals.remove(&device);
                    None
                }
                _ => None,
            }
        })
    }

    /// Whether a token of `party` that was issued at `issued` is void.
    pub(crate) fn is_void(&self, party: &Party, issued: Option<u64>) -> bool {
        let device = party.key();
        self.with(|seen| seen.removals.get(&device).is_some_and(|removal| removal.voids(issued)))
    }

    /// Live calls in all.
    pub(crate) fn count(&self) -> usize {
        self.with(|seen| seen.live)
    }

    /// The calls that concern a device, those too that have ended and are still there.
    pub(crate) fn calls_of(&self, party: &Party) -> Vec<CallId> {
        let device = party.key();
        self.with(|seen| seen.by_device.get(&device).into_iter().flatten().copied().collect())
    }

    /// When a device was removed.
    pub(crate) fn removed_at(&self, party: &Party) -> Option<Wall> {
        let device = party.key();
        self.with(|seen| seen.removals.get(&device).map(|removal| removal.at))
    }

    /// The devices of a live call that were removed after it was placed.
    pub(crate) fn removed_of(&self, call: &Call) -> Vec<Party> {
        if call.phase() == Phase::Ended {
            return Vec::new();
        }
        self.with(|seen| {
            if seen.removals.is_empty() {
                return Vec::new();
            }
            let removed = |party: &&Party| seen.removals.get(&party.key()).is_some_and(|r| r.at >= call.created);
            call.parties().filter(removed).cloned().collect()
        })
    }

    /// The notes that are kept for a device.
    pub(crate) fn kept_for(&self, party: &Party) -> Vec<(Key, Revision)> {
        let device = party.key();
        self.with(|seen| {
            let aging = seen.aging.iter().filter(|(key, _)| matches!(key, Key::Blob(_, to, _) if *to == device));
            aging.map(|(key, (_, revision))| (*key, *revision)).collect()
        })
    }

    /// What is old enough to go at `now`.
    pub(crate) fn aged(&self, now: Wall, most: usize) -> Vec<(Key, Revision)> {
        self.with(|seen| {
            let due = seen.aging.iter().filter(|(_, (due, _))| *due <= now);
            due.take(most).map(|(key, (_, revision))| (*key, *revision)).collect()
        })
    }
}

impl Seen {
    fn note(&mut self, id: CallId, revision: Revision, call: &Arc<Call>) {
        if self.calls.get(&id).is_some_and(|(known, _)| *known >= revision) {
            return;
        }
        self.forget(id);
        self.count(call, 1);
        for party in call.parties() {
            self.by_device.entry(party.key()).or_default().insert(id);
        }
        self.calls.insert(id, (revision, Arc::clone(call)));
    }

    fn forget(&mut self, id: CallId) {
        let Some((_, call)) = self.calls.remove(&id) else { return };
        self.count(&call, -1);
        for party in call.parties() {
            let device = party.key();
            if let Some(calls) = self.by_device.get_mut(&device) {
                calls.remove(&id);
                if calls.is_empty() {
                    self.by_device.remove(&device);
                }
            }
        }
    }

    fn count(&mut self, call: &Call, by: isize) {
        if call.phase() == Phase::Ended {
            return;
        }
        self.live = self.live.saturating_add_signed(by);
        if let Some(caller) = call.caller() {
            add(&mut self.placed, &caller.account, by);
        }
        if call.phase() == Phase::Ringing {
            let accounts: BTreeSet<&AccountId> =
                call.ring.iter().flat_map(|ring| ring.devices.iter().map(|rung| &rung.party.account)).collect();
            for account in accounts {
                add(&mut self.ringing, account, by);
            }
        }
    }
}

fn add(counts: &mut HashMap<AccountId, usize>, account: &AccountId, by: isize) {
    match counts.get_mut(account) {
        Some(count) => {
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                counts.remove(account);
            }
        }
        None if by > 0 => _ = counts.insert(account.clone(), by.unsigned_abs()),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tandem_core::topology::{CallCommand, CallKind};
    use tandem_wire::id::{BucketId, PopId};

    use super::*;

    const POP: PopId = PopId(1);

    fn party(n: u32) -> Party {
        Party { account: format!("account-{n}").parse().unwrap(), device: "dev_1".parse().unwrap() }
    }

    fn entry(key: Key, value: Vec<u8>, revision: u64) -> Entry {
        Entry { key, value: value.into(), revision: Revision(revision) }
    }

    fn removal(n: u32) -> Entry {
        let removal = Removal::new(party(n), Wall::from_secs(1_000));
        entry(Key::Removal(POP, party(n).key()), removal.to_json().unwrap(), 1)
    }

    fn call(n: u128, revision: u64) -> (CallId, Arc<Call>, Entry) {
        let id = CallId::new(POP, BucketId(1), n);
        let create = CallCommand::Create { id, kind: CallKind::OneToOne, legs: 2 };
        let call = Call::apply(None, create, tandem_net::clock::now()).unwrap();
        let entry = entry(Key::Call(id), call.to_json().unwrap(), revision);
        (id, Arc::new(call), entry)
    }

    #[test]
    fn a_removed_device_stays_removed_at_every_moment_in_which_a_list_is_taken_over() {
        let live = Live::default();
        let listing = Listing { entries: (0..200).map(removal).collect(), revision: Revision(1) };
        live.replace(&listing);
        let done = AtomicBool::new(false);
        let let_in = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut let_in = 0;
                while !done.load(Ordering::Relaxed) {
                    let_in += usize::from(!live.is_void(&party(199), Some(999)));
                }
                let_in
            });
            (0..300).for_each(|_| _ = live.replace(&listing));
            done.store(true, Ordering::Relaxed);
            asking.join().unwrap()
        });
        assert_eq!(let_in, 0);
    }

    #[test]
    fn a_list_is_taken_as_it_is_and_what_it_lacks_is_gone_even_what_is_newer() {
        let live = Live::default();
        let (first, _, old) = call(1, 3);
        let (second, newer, _) = call(2, 9);
        live.put(&old);
        live.note(second, Revision(9), &newer);
        let (third, _, listed) = call(3, 5);
        let changes = live.replace(&Listing { entries: vec![listed], revision: Revision(7) });
        let gone: BTreeSet<CallId> =
            changes.iter().filter_map(|change| if let Change::Gone(id) = change { Some(*id) } else { None }).collect();
        assert_eq!((gone, live.count()), ([first, second].into(), 1));
        assert!(live.known(third, Revision(5)).is_some());
    }
}
