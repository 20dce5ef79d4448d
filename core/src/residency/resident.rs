//! One call in memory: loading, current or ended.

use tandem_wire::id::{CallId, LegId, Revision};
use tandem_wire::units::Mono;

use super::held::HeldQueue;
use super::leg::{Fate, Leg};
use super::{Output, Shared, Snapshot};
use crate::limits;
use crate::topology::{Attachment, AttachmentCommand, Call, Refusal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not known, or not to be trusted: silence.
    Loading,
    /// As the store has it, or newer.
    Current,
    /// Ended, or never was. Kept for a while, so that latecomers are refused without asking the store.
    Ended {
        until: Mono,
        /// As of this revision of the store.
        at: Revision,
    },
}

/// Where the question to the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Idle,
    Asked,
    Again { at: Mono },
}

/// Why a packet is held.
#[derive(Debug)]
enum Held<H> {
    Request(H),
    Doubted(H),
}

#[derive(Debug)]
pub(super) struct Resident<H, A> {
    id: CallId,
    phase: Phase,
    load: Load,
    record: Option<(Call, Revision)>,
    legs: Vec<Leg<A>>,
    held: HeldQueue<Held<H>>,
    /// When the record was last read again because of a doubt.
    reread: Option<Mono>,
    /// The restore that named it last.
    pub(super) generation: u32,
    /// Its entry in the table of timers.
    pub(super) timer: Option<Mono>,
}

impl<H, A: Clone> Resident<H, A> {
    pub(super) const fn new(id: CallId) -> Self {
        Self {
            id,
            phase: Phase::Loading,
            load: Load::Idle,
            record: None,
            legs: Vec::new(),
            held: HeldQueue::new(limits::HELD_PER_CALL),
            reread: None,
            generation: 0,
            timer: None,
        }
    }

    /// The call's record, if it is current.
    pub(super) fn record(&self) -> Option<&Call> {
        self.record.as_ref().filter(|_| self.phase == Phase::Current).map(|(call, _)| call)
    }

    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Whether nobody waits for anything of it, and all of it is stored.
    pub(super) fn is_settled(&self) -> bool {
        self.load == Load::Idle && self.held.is_empty() && self.legs.iter().all(|leg| !leg.is_dirty())
    }

    pub(super) fn leg(&self, leg: LegId) -> Option<&Leg<A>> {
        self.legs.iter().find(|l| l.leg == leg)
    }

    pub(super) fn ask(&mut self, now: Mono, held: H, restoring: bool, shared: &mut Shared<H, A>) {
        match self.phase {
            Phase::Current => shared.outputs.push_back(Output::Serve { call: self.id, held }),
            Phase::Ended { .. } => shared.outputs.push_back(Output::Refuse { held }),
            Phase::Loading => {
                self.hold(now, Held::Request(held), shared);
                // A restore that is under way will name it; only what it does not name is asked for.
                if !restoring {
                    self.load(shared);
                }
            }
        }
    }

    /// Whether a packet that the record does not explain is held: while the store is being asked, and once a second.
    pub(super) fn doubts(&self, now: Mono) -> bool {
        match self.phase {
            Phase::Ended { .. } => false,
            Phase::Loading => true,
            Phase::Current => {
                self.load != Load::Idle || self.reread.is_none_or(|at| now.since(at) >= limits::REREAD_AFTER)
            }
        }
    }

    pub(super) fn doubt(&mut self, now: Mono, held: H, shared: &mut Shared<H, A>) {
        if !self.doubts(now) {
            return;
        }
        self.hold(now, Held::Doubted(held), shared);
        if self.phase == Phase::Current && self.load == Load::Idle {
            self.reread = Some(now);
            self.load(shared);
        }
    }

    /// A request of a leg that the record does not have: the store is asked first, once a second.
    pub(super) fn unheard(&mut self, now: Mono, held: H, shared: &mut Shared<H, A>) {
        // What was asked before the request came may be answered as of before it: then its client asks again.
        let asked = self.load != Load::Idle || self.reread.is_some_and(|at| now.since(at) < limits::REREAD_AFTER);
        if self.phase == Phase::Current && !asked {
            self.hold(now, Held::Request(held), shared);
            self.reread = Some(now);
            self.load(shared);
        }
    }

    fn hold(&mut self, now: Mono, held: Held<H>, shared: &mut Shared<H, A>) {
        shared.counters.over_cap += u64::from(!self.held.push(now, held));
    }

    /// Asks the store, unless it is being asked.
    pub(super) fn load(&mut self, shared: &mut Shared<H, A>) {
        if self.load == Load::Idle {
            self.load = Load::Asked;
            shared.counters.loads += 1;
            shared.outputs.push_back(Output::Load { call: self.id });
        }
    }

    pub(super) fn command(
        &mut self,
        now: Mono,
        leg: LegId,
        command: AttachmentCommand,
        answer: Option<A>,
        shared: &mut Shared<H, A>,
    ) -> Result<(), Refusal> {
        let (Phase::Current, Some((call, _))) = (self.phase, &self.record) else { return Err(Refusal::CallEnded) };
        if self.legs.iter().all(|l| l.leg != leg) {
            call.admits(leg)?;
            self.legs.reserve_exact(1);
            self.legs.push(Leg::empty(leg, shared.relay));
        }
        let leg = self.legs.iter_mut().find(|l| l.leg == leg).ok_or(Refusal::UnknownLeg)?;
        leg.command(now, call, command, answer, shared)
    }

    pub(super) fn loaded(&mut self, now: Mono, snapshot: Snapshot, shared: &mut Shared<H, A>) {
        self.load = Load::Idle;
        let known = self.record.as_ref().map_or(Revision::ZERO, |(_, revision)| *revision);
        match snapshot.call {
            // What we know is newer than this answer: a change overtook it.
            None if known > snapshot.at => {}
            None => return self.end(now, snapshot.at, shared),
            Some((record, revision)) if revision >= known => {
                if record.ended.is_some() {
                    return self.end(now, revision, shared);
                }
                self.revive(revision);
                self.record = Some((record, revision));
            }
            Some(_) => {}
        }
        if self.has_ended() {
            return;
        }
        let said = shared.outputs.len();
        // Legs of a call that was not to be trusted: what the switch said of them meanwhile could not be acted on.
        let unsettled: Vec<LegId> = match core::mem::replace(&mut self.phase, Phase::Current) {
            Phase::Loading => self.legs.iter().map(|leg| leg.leg).collect(),
            _ => Vec::new(),
        };
        // A leg that the store does not have, and that had nothing to write, is gone.
        let listed: Vec<LegId> = snapshot.legs.iter().map(|(leg, ..)| *leg).collect();
        let gone = |leg: &Leg<A>| !listed.contains(&leg.leg) && leg.is_gone(snapshot.at);
        self.remove_legs(gone, shared);
        for (leg, record, revision) in snapshot.legs {
            self.take_attachment(leg, Some(record), revision, shared);
        }
        self.remove_those_who_left(shared);
        let id = self.id;
        for leg in unsettled.into_iter().filter(|leg| self.legs.iter().any(|l| l.leg == *leg)) {
            let again = |output: &Output<H, A>| matches!(output, Output::Attach { leg: other, .. } if *other == leg);
            if !shared.outputs.iter().skip(said).any(again) {
                shared.outputs.push_back(Output::Attach { call: id, leg });
            }
        }
        self.release(shared);
    }

    fn release(&mut self, shared: &mut Shared<H, A>) {
        while let Some(held) = self.held.pop() {
            shared.outputs.push_back(match held {
                Held::Request(held) => Output::Serve { call: self.id, held },
                Held::Doubted(held) => Output::Retry { held },
            });
        }
    }

    fn take_attachment(
        &mut self,
        leg: LegId,
        record: Option<Attachment>,
        revision: Revision,
        shared: &mut Shared<H, A>,
    ) {
        let fate = match (self.legs.iter_mut().find(|l| l.leg == leg), record) {
            (Some(leg), record) => leg.changed(self.id, record, revision, shared),
            (None, Some(record)) => {
                self.legs.reserve_exact(1);
                self.legs.push(Leg::new(leg, record, revision));
                shared.outputs.push_back(Output::Attach { call: self.id, leg });
                Fate::Good
            }
            (None, None) => Fate::Good,
        };
        if fate == Fate::Gone {
            self.remove_legs(|l| l.leg == leg, shared);
        }
    }

    fn remove_those_who_left(&mut self, shared: &mut Shared<H, A>) {
        if let Some((call, _)) = &self.record {
            let left: Vec<LegId> = self.legs.iter().map(|l| l.leg).filter(|l| call.admits(*l).is_err()).collect();
            self.remove_legs(|leg| left.contains(&leg.leg), shared);
        }
    }

    fn remove_legs(&mut self, gone: impl Fn(&Leg<A>) -> bool, shared: &mut Shared<H, A>) {
        let id = self.id;
        self.legs.retain_mut(|leg| {
            if !gone(leg) {
                return true;
            }
            leg.give_up(shared);
            shared.outputs.push_back(Output::Detach { call: id, leg: leg.leg });
            false
        });
    }

    /// A call that was not there when the store was asked, and has been made since.
    fn revive(&mut self, revision: Revision) {
        if let Phase::Ended { at, .. } = self.phase
            && revision > at
        {
            self.phase = Phase::Current;
        }
    }

    /// The call is over, or never was.
    fn end(&mut self, now: Mono, at: Revision, shared: &mut Shared<H, A>) {
        if self.has_ended() {
            return;
        }
        self.phase = Phase::Ended { until: now.after(limits::ENDED_IN_RELAY), at };
        self.load = Load::Idle;
        self.record = None;
        for leg in &mut self.legs {
            leg.give_up(shared);
        }
        self.legs = Vec::new();
        shared.outputs.push_back(Output::Forget { call: self.id });
        while let Some(held) = self.held.pop() {
            if let Held::Request(held) = held {
                shared.outputs.push_back(Output::Refuse { held });
            }
        }
    }

    pub(super) fn load_failed(&mut self, now: Mono) {
        if self.load == Load::Asked {
            self.load = Load::Again { at: now.after(limits::STORE_RETRY) };
        }
    }

    pub(super) fn written(&mut self, leg: LegId, revision: Revision, shared: &mut Shared<H, A>) {
        let id = self.id;
        if let Some(l) = self.legs.iter_mut().find(|l| l.leg == leg)
            && l.written(id, revision, shared) == Fate::Gone
        {
            self.remove_legs(|l| l.leg == leg, shared);
        }
    }

    pub(super) fn write_stale(&mut self, leg: LegId, shared: &mut Shared<H, A>) {
        if let Some(leg) = self.legs.iter_mut().find(|l| l.leg == leg) {
            leg.write_stale(shared);
            // Forwarding goes on as it was; requests wait until we know again what is stored.
            self.phase = Phase::Loading;
            self.load(shared);
        }
    }

    pub(super) fn write_away(&mut self, now: Mono, leg: LegId, shared: &mut Shared<H, A>) {
        let id = self.id;
        if let Some(l) = self.legs.iter_mut().find(|l| l.leg == leg)
            && l.write_away(now, id, shared) == Fate::Gone
        {
            self.remove_legs(|l| l.leg == leg, shared);
        }
    }

    pub(super) fn call_changed(
        &mut self,
        now: Mono,
        record: Option<Call>,
        revision: Revision,
        shared: &mut Shared<H, A>,
    ) {
        let known = self.record.as_ref().map_or(Revision::ZERO, |(_, revision)| *revision);
        if revision <= known {
            return;
        }
        match record {
            Some(record) if record.ended.is_none() => {
                self.revive(revision);
                if self.has_ended() {
                    return;
                }
                self.record = Some((record, revision));
                self.remove_those_who_left(shared);
            }
            _ => self.end(now, revision, shared),
        }
    }

    pub(super) fn attachment_changed(
        &mut self,
        leg: LegId,
        record: Option<Attachment>,
        revision: Revision,
        shared: &mut Shared<H, A>,
    ) {
        // While loading, the load tells; a change that it does not hold yet is told again by no one, so take it too.
        if !self.has_ended() {
            self.take_attachment(leg, record, revision, shared);
            self.remove_those_who_left(shared);
        }
    }

    pub(super) fn next_deadline(&self, away: Option<Mono>) -> Option<Mono> {
        let load = match self.load {
            Load::Again { at } => Some(at),
            Load::Idle | Load::Asked => None,
        };
        let ended = match self.phase {
            Phase::Ended { until, .. } => Some(until),
            Phase::Loading | Phase::Current => None,
        };
        let legs = self.legs.iter().filter_map(|leg| leg.next_deadline(away)).min();
        [load, ended, legs, self.held.next_deadline()].into_iter().flatten().min()
    }

    /// Does what is due; `false` when the call may be forgotten.
    pub(super) fn expire(&mut self, now: Mono, shared: &mut Shared<H, A>) -> bool {
        if let Phase::Ended { until, .. } = self.phase {
            return until > now;
        }
        shared.counters.held_in_vain += self.held.expire(now);
        if let Load::Again { at } = self.load
            && at <= now
        {
            self.load = Load::Idle;
            if self.record.is_none() && self.legs.is_empty() && self.held.is_empty() {
                // Nobody waits for it any more: who asks again has it loaded again.
                return false;
            }
            if self.phase == Phase::Loading || !self.held.is_empty() {
                self.load(shared);
            }
        }
        for leg in &mut self.legs {
            leg.expire(now, self.id, shared);
        }
        // Held in vain while a restore went on that has not named it: it is not kept for that.
        self.load != Load::Idle || self.phase == Phase::Current || !self.held.is_empty()
    }
}
