//! Which calls a relay holds, how current they are, and which answers wait for a write.
//!
//! Decides when to load and to write, what is held meanwhile, and when an answer may be given. Leaves what a record
//! allows to `topology`, forwarding to `switch`, and the store itself to the relay's control task.
//!
//! The rules (protocol.md, "Transport 1"):
//! - While a call is loading there is silence: clients ask again, and any error would end their candidate pair.
//! - A refusal is given only when the call is known to have ended or never to have been.
//! - A new attachment or channel is answered when it is durable; without a store for 3 s, from memory, and it is
//!   written when the store is back.

mod held;
mod leg;
mod message;
mod resident;

use std::collections::{BTreeSet, VecDeque};

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashMap;
use tandem_wire::id::{CallId, LegId, RelayId, Revision};
use tandem_wire::units::{Mono, Now};

use crate::limits;
use crate::topology::{Attachment, Refusal};

use held::HeldQueue;
pub use message::{Counters, Input, Output, Snapshot};
use resident::Resident;

/// What all calls of a relay share: who it is, when the store went away, what is to be said.
#[derive(Debug)]
struct Shared<H, A> {
    relay: RelayId,
    /// Since when the store has not answered.
    away: Option<Mono>,
    outputs: VecDeque<Output<H, A>>,
    counters: Counters,
}

/// The calls of one relay.
///
/// Drive it so: when [`Residency::next_deadline`] has come, [`Residency::expire`], before anything else of that moment;
/// then [`Residency::handle`]; then [`Residency::poll`] until `None`.
#[derive(Debug)]
pub struct Residency<H, A> {
    /// Boxed: the free places of the table then cost a pointer each, not a call.
    calls: HashMap<CallId, Box<Resident<H, A>>, SeedableRandomState>,
    /// Each call's next deadline, if it has one.
    timers: BTreeSet<(Mono, CallId)>,
    strays: HeldQueue<H>,
    restoring: bool,
    /// More buckets are being listed.
    filling: bool,
    generation: u32,
    shared: Shared<H, A>,
}

impl<H, A: Clone> Residency<H, A> {
    /// A relay that holds nothing and has restored nothing yet; `seed` keys its table.
    #[must_use]
    pub fn new(relay: RelayId, seed: u64) -> Self {
        Self {
            calls: HashMap::with_hasher(SeedableRandomState::with_seed(seed, SharedSeed::global_fixed())),
            timers: BTreeSet::new(),
            strays: HeldQueue::new(limits::STRAYS),
            restoring: true,
            filling: false,
            generation: 0,
            shared: Shared { relay, away: None, outputs: VecDeque::new(), counters: Counters::default() },
        }
    }

    /// How many calls are in memory, in whatever state.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Whether the first restore, or a later one, is under way.
    #[must_use]
    pub const fn restoring(&self) -> bool {
        self.restoring
    }

    /// Whether a packet from an unknown address may be of a call that is about to be loaded: only then is it worth copying.
    #[must_use]
    pub const fn holds_strays(&self) -> bool {
        self.restoring || self.filling
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.shared.counters
    }

    /// How a leg is attached, if its call is in memory.
    #[must_use]
    pub fn attachment(&self, call: CallId, leg: LegId) -> Option<&Attachment> {
        Some(&self.calls.get(&call)?.leg(leg)?.attachment)
    }

    /// The revision of a leg's stored record; `None` while memory has something newer.
    #[must_use]
    pub fn stored_revision(&self, call: CallId, leg: LegId) -> Option<Revision> {
        let leg = self.calls.get(&call)?.leg(leg)?;
        (!leg.is_dirty()).then_some(leg.revision)
    }

    /// Whether this leg is in a current call.
    ///
    /// # Errors
    /// The [`Refusal`] that says why not.
    pub fn admits(&self, call: CallId, leg: LegId) -> Result<(), Refusal> {
        self.calls.get(&call).and_then(|resident| resident.record()).ok_or(Refusal::CallEnded)?.admits(leg)
    }

    /// Whether a packet that its call's record does not explain would be held now: only then is it worth copying.
    #[must_use]
    pub fn doubts(&self, now: Now, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|resident| resident.doubts(now.mono))
    }

    /// Whether the record of a call says nothing of a leg, neither that it is there nor that it has left.
    #[must_use]
    pub fn knows_nothing_of(&self, call: CallId, leg: LegId) -> bool {
        let record = self.calls.get(&call).and_then(|resident| resident.record());
        record.is_some_and(|record| record.legs.iter().all(|other| other.n != leg))
    }

    /// Takes an input in.
    ///
    /// # Errors
    /// For [`Input::Command`] only: the [`Refusal`] of the record. Then nothing has changed, and its answer is not given.
    pub fn handle(&mut self, now: Now, input: Input<H, A>) -> Result<(), Refusal> {
        let now = now.mono;
        match input {
            Input::Ask { call, held } => self.ask(now, call, held),
            Input::Doubt { call, held } => self.with(call, |resident, shared| resident.doubt(now, held, shared)),
            Input::Unheard { call, held } => self.with(call, |resident, shared| resident.unheard(now, held, shared)),
            Input::Stray { held } => {
                if self.holds_strays() && !self.strays.push(now, held) {
                    self.shared.counters.over_cap += 1;
                }
            }
            Input::Command { call, leg, command, answer } => {
                let resident = self.calls.get_mut(&call).ok_or(Refusal::CallEnded)?;
                let result = resident.command(now, leg, command, answer, &mut self.shared);
                self.rearm(call);
                return result;
            }
            Input::Loaded { call, snapshot } => self.loaded(now, call, snapshot),
            Input::LoadFailed { call } => {
                self.shared.away.get_or_insert(now);
                self.with(call, |resident, _| resident.load_failed(now));
            }
            Input::Written { call, leg, revision } => {
                self.shared.away = None;
                self.with(call, |resident, shared| resident.written(leg, revision, shared));
            }
            Input::WriteStale { call, leg } => {
                self.shared.away = None;
                self.with(call, |resident, shared| resident.write_stale(leg, shared));
            }
            Input::WriteAway { call, leg } => {
                self.shared.away.get_or_insert(now);
                self.with(call, |resident, shared| resident.write_away(now, leg, shared));
            }
            Input::CallChanged { call, record, revision } => {
                if !self.calls.contains_key(&call) {
                    // Followed from its first record on, so that its first packet finds it current.
                    let Some(record) = record else { return Ok(()) };
                    let snapshot = Snapshot { at: revision, call: Some((record, revision)), legs: Vec::new() };
                    self.loaded(now, call, snapshot);
                    return Ok(());
                }
                self.with(call, |resident, shared| resident.call_changed(now, record, revision, shared));
            }
            Input::AttachmentChanged { call, leg, record, revision } => {
                self.with(call, |resident, shared| resident.attachment_changed(leg, record, revision, shared));
            }
            Input::RestoreBegan => {
                self.restoring = true;
                self.generation = self.generation.wrapping_add(1);
            }
            Input::Restored => self.restored(),
            Input::FillBegan => self.filling = true,
            Input::Filled => {
                self.filling = false;
                if !self.restoring {
                    self.retry_strays();
                }
            }
            Input::Narrowed { ranges } => self.narrow(&ranges),
        }
        Ok(())
    }

    fn ask(&mut self, now: Mono, call: CallId, held: H) {
        if !self.calls.contains_key(&call) {
            if self.calls.len() >= limits::CALLS_PER_RELAY {
                self.shared.counters.over_cap += 1;
                return;
            }
            self.calls.insert(call, Box::new(Resident::new(call)));
        }
        let restoring = self.restoring;
        self.with(call, |resident, shared| resident.ask(now, held, restoring, shared));
    }

    fn loaded(&mut self, now: Mono, call: CallId, snapshot: Snapshot) {
        self.shared.away = None;
        let generation = self.generation;
        if self.calls.contains_key(&call) || self.admit_listed(call, &snapshot) {
            self.with(call, |resident, shared| {
                resident.generation = generation;
                resident.loaded(now, snapshot, shared);
            });
        }
    }

    /// Makes room for a call that the store lists and that is not in memory; `false` if it need not be.
    fn admit_listed(&mut self, call: CallId, snapshot: &Snapshot) -> bool {
        if snapshot.call.as_ref().is_none_or(|(record, _)| record.ended.is_some()) {
            return false;
        }
        if self.calls.len() >= limits::CALLS_PER_RELAY {
            self.shared.counters.over_cap += 1;
            return false;
        }
        self.calls.insert(call, Box::new(Resident::new(call)));
        true
    }

    fn restored(&mut self) {
        self.restoring = false;
        let generation = self.generation;
        // What the list did not name may have ended, or may have come since: ask for each by name.
        let missing: Vec<CallId> =
            self.calls.iter().filter(|(_, r)| r.generation != generation && !r.has_ended()).map(|(c, _)| *c).collect();
        for call in missing {
            self.with(call, |resident, shared| resident.load(shared));
        }
        self.retry_strays();
    }

    fn retry_strays(&mut self) {
        while let Some(held) = self.strays.pop() {
            self.shared.outputs.push_back(Output::Retry { held });
        }
    }

    /// Forgets calls that are told of no more: others have them. One that has something to write or to answer stays until it
    /// is read anew.
    fn narrow(&mut self, ranges: &[(u16, u16)]) {
        let kept = |call: CallId| {
            let bucket = call.bucket().0;
            let at = ranges.partition_point(|(_, last)| *last < bucket);
            ranges.get(at).is_some_and(|(first, _)| *first <= bucket)
        };
        let gone: Vec<CallId> =
            self.calls.iter().filter(|(call, r)| !kept(**call) && r.is_settled()).map(|(call, _)| *call).collect();
        for call in gone {
            if let Some(timer) = self.calls.remove(&call).and_then(|resident| resident.timer) {
                self.timers.remove(&(timer, call));
            }
            self.shared.outputs.push_back(Output::Forget { call });
        }
    }

    /// Lets a call in memory act, and sets its timer anew.
    fn with(&mut self, call: CallId, act: impl FnOnce(&mut Resident<H, A>, &mut Shared<H, A>)) {
        if let Some(resident) = self.calls.get_mut(&call) {
            act(resident, &mut self.shared);
            self.rearm(call);
        }
    }

    fn rearm(&mut self, call: CallId) {
        let Some(resident) = self.calls.get_mut(&call) else { return };
        let next = resident.next_deadline(self.shared.away);
        if next == resident.timer {
            return;
        }
        if let Some(old) = core::mem::replace(&mut resident.timer, next) {
            self.timers.remove(&(old, call));
        }
        if let Some(at) = next {
            self.timers.insert((at, call));
        }
    }

    /// Gives out what is to be done, oldest first.
    pub fn poll(&mut self) -> Option<Output<H, A>> {
        self.shared.outputs.pop_front()
    }

    /// When something is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let timer = self.timers.first().map(|(at, _)| *at);
        match (timer, self.strays.next_deadline()) {
            (Some(timer), Some(stray)) => Some(timer.min(stray)),
            (timer, stray) => timer.or(stray),
        }
    }

    /// Does what is due at `now`.
    pub fn expire(&mut self, now: Now) {
        let now = now.mono;
        self.shared.counters.held_in_vain += self.strays.expire(now);
        while let Some((at, call)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            let Some(resident) = self.calls.get_mut(&call) else { continue };
            resident.timer = None;
            if resident.expire(now, &mut self.shared) {
                self.rearm(call);
            } else {
                self.calls.remove(&call);
            }
        }
    }
}

#[cfg(test)]
mod tests;
