//! One leg of a resident call: its attachment as it is in memory, as it is stored, and who waits for the difference.
//!
//! Memory leads, the store follows: a command changes the record at once, one write a leg is under way at a time, and
//! always carries the newest record. What is based on an older record is refused by the store, never merged here.

use tandem_wire::id::{CallId, LegId, RelayId, Revision};
use tandem_wire::units::Mono;

use super::{Output, Shared};
use crate::limits;
use crate::topology::{Attachment, AttachmentCommand, Call, Refusal};

/// An answer that waits until the version that it speaks of is durable.
#[derive(Debug)]
struct Waiting<A> {
    command: AttachmentCommand,
    version: u32,
    since: Mono,
    answer: A,
}

/// What the store said about this leg while a write of ours was under way: our own echo, or somebody else's change.
#[derive(Debug)]
struct Heard {
    record: Option<Attachment>,
    revision: Revision,
}

/// A version of the record, on its way to the store.
#[derive(Debug)]
struct Writing {
    version: u32,
    attachment: Attachment,
    /// It was sent before, and the answer was lost: it may be stored already.
    again: bool,
}

#[derive(Debug)]
pub(super) struct Leg<A> {
    pub(super) leg: LegId,
    pub(super) attachment: Attachment,
    /// The revision of the stored record; zero if there is none.
    pub(super) revision: Revision,
    /// Counts the changes in memory.
    version: u32,
    /// The version that is durable.
    stored: u32,
    /// What is being written.
    writing: Option<Box<Writing>>,
    /// What was being written when the store went away: it may be stored or not.
    in_doubt: Option<Box<Writing>>,
    /// A write was refused as stale, and what the store has instead is not known yet.
    contested: bool,
    /// When to try again, after the store was away.
    retry_at: Option<Mono>,
    waiting: Vec<Waiting<A>>,
    heard: Option<Box<Heard>>,
}

impl<A: Clone> Leg<A> {
    pub(super) const fn new(leg: LegId, attachment: Attachment, revision: Revision) -> Self {
        Self {
            leg,
            attachment,
            revision,
            version: 0,
            stored: 0,
            writing: None,
            in_doubt: None,
            contested: false,
            retry_at: None,
            waiting: Vec::new(),
            heard: None,
        }
    }

    pub(super) const fn empty(leg: LegId, relay: RelayId) -> Self {
        Self::new(leg, Attachment::empty(relay), Revision::ZERO)
    }

    /// Whether memory has something that the store does not have.
    pub(super) const fn is_dirty(&self) -> bool {
        self.version != self.stored
    }

    /// Whether a list of the store as of `at` that does not name this leg says that it is gone: there was nothing to write,
    /// or what there was has been refused.
    pub(super) fn is_gone(&self, at: Revision) -> bool {
        self.contested || self.revision <= at && !self.is_dirty()
    }

    /// Applies a command to the record in memory.
    pub(super) fn command<H>(
        &mut self,
        now: Mono,
        call: &Call,
        command: AttachmentCommand,
        answer: Option<A>,
        shared: &mut Shared<H, A>,
    ) -> Result<(), Refusal> {
        let version = match self.attachment.apply(call, self.leg, shared.relay, command)? {
            Some(next) => {
                self.attachment = next;
                self.version = self.version.wrapping_add(1);
                if matches!(command, AttachmentCommand::Detach { .. }) {
                    // Who waits to be told of this allocation is not told of one that comes after it.
                    let before = self.waiting.len();
                    self.waiting.retain(|waiting| waiting.command.address() != command.address());
                    shared.counters.abandoned += (before - self.waiting.len()) as u64;
                }
                shared.outputs.push_back(Output::Attach { call: call.id, leg: self.leg });
                self.version
            }
            // Nothing changes. If it is durable, or was said from memory before, say it at once; if it was asked for a
            // moment ago and is still being written, this is a retransmission and waits with the first.
            None => match self.waiting.iter().find(|waiting| waiting.command == command) {
                Some(waiting) => waiting.version,
                None => {
                    if let Some(answer) = answer {
                        shared.outputs.push_back(Output::Answer { answer, durable: true });
                    }
                    return Ok(());
                }
            },
        };
        if let Some(answer) = answer {
            if self.waiting.len() < limits::WAITING_PER_LEG {
                // One is the rule: a vector's first growth would be to four.
                self.waiting.reserve_exact(1);
                self.waiting.push(Waiting { command, version, since: now, answer });
            } else {
                shared.counters.over_cap += 1;
            }
        }
        self.write(call.id, shared);
        // A store that has been away for long keeps nobody waiting (the 3 s are over already).
        self.answer_overdue(now, shared);
        Ok(())
    }

    /// Starts a write if there is something to write and none is under way.
    fn write<H>(&mut self, call: CallId, shared: &mut Shared<H, A>) {
        if self.writing.is_none() && self.retry_at.is_none() && self.is_dirty() {
            // What is in doubt goes first, as it was: so there is never more than one record of ours that the store may
            // have without our knowing.
            let writing = match self.in_doubt.take() {
                Some(doubt) => Box::new(Writing { again: true, ..*doubt }),
                None => Box::new(Writing { version: self.version, attachment: self.attachment.clone(), again: false }),
            };
            shared.counters.writes += 1;
            shared.outputs.push_back(Output::Write {
                call,
                leg: self.leg,
                attachment: writing.attachment.clone(),
                based_on: self.revision,
            });
            self.writing = Some(writing);
        }
    }

    pub(super) fn written<H>(&mut self, call: CallId, revision: Revision, shared: &mut Shared<H, A>) -> Fate {
        let Some(writing) = self.writing.take() else { return Fate::Good };
        let version = writing.version;
        self.in_doubt = None;
        self.stored = version;
        self.revision = self.revision.max(revision);
        let mut index = 0;
        while let Some(waiting) = self.waiting.get(index) {
            // Versions wrap; what is at most half the circle behind is older.
            if version.wrapping_sub(waiting.version) < u32::MAX / 2 {
                let waiting = self.waiting.remove(index);
                shared.outputs.push_back(Output::Answer { answer: waiting.answer, durable: true });
            } else {
                index += 1;
            }
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        let fate = match self.heard.take() {
            Some(heard) if heard.revision > self.revision => self.adopt(call, heard.record, heard.revision, shared),
            _ => Fate::Good,
        };
        self.write(call, shared);
        fate
    }

    /// Somebody else wrote this record: what memory has is not to be trusted. The call is to be loaded again.
    ///
    /// Unless it was ourselves: then what is loaded is what was in doubt, and memory goes on from there.
    pub(super) fn write_stale<H>(&mut self, shared: &mut Shared<H, A>) {
        self.in_doubt = self.writing.take().filter(|writing| writing.again);
        self.heard = None;
        self.revision = Revision::ZERO;
        self.contested = true;
        if self.in_doubt.is_none() {
            self.give_up(shared);
            shared.counters.conflicts += 1;
        }
    }

    pub(super) fn write_away<H>(&mut self, now: Mono, call: CallId, shared: &mut Shared<H, A>) -> Fate {
        self.in_doubt = self.writing.take();
        self.retry_at = Some(now.after(limits::STORE_RETRY));
        // The write may have reached the store after all: then what was heard meanwhile tells.
        match self.heard.take() {
            Some(heard) if heard.revision > self.revision => self.adopt(call, heard.record, heard.revision, shared),
            _ => Fate::Good,
        }
    }

    /// The store says that the record is now this one.
    pub(super) fn changed<H>(
        &mut self,
        call: CallId,
        record: Option<Attachment>,
        revision: Revision,
        shared: &mut Shared<H, A>,
    ) -> Fate {
        if revision <= self.revision {
            return Fate::Good;
        }
        if self.writing.is_some() {
            self.heard = Some(Box::new(Heard { record, revision }));
            return Fate::Good;
        }
        self.adopt(call, record, revision, shared)
    }

    /// Takes over what the store has.
    fn adopt<H>(
        &mut self,
        call: CallId,
        record: Option<Attachment>,
        revision: Revision,
        shared: &mut Shared<H, A>,
    ) -> Fate {
        // What a write of ours that was given up for lost has left there, or an echo of what memory has.
        let ours = match (&record, &self.in_doubt) {
            (Some(record), _) if *record == self.attachment => Some(self.version),
            (Some(record), Some(doubt)) if *record == doubt.attachment => Some(doubt.version),
            _ => None,
        };
        self.revision = revision;
        self.retry_at = None;
        self.contested = false;
        if let (Some(version), Some(record)) = (ours, &record) {
            self.writing = Some(Box::new(Writing { version, attachment: record.clone(), again: true }));
            return self.written(call, revision, shared);
        }
        self.in_doubt = None;
        if self.is_dirty() {
            shared.counters.conflicts += 1;
        }
        match record {
            Some(record) => {
                self.give_up(shared);
                self.attachment = record;
                shared.outputs.push_back(Output::Attach { call, leg: self.leg });
                Fate::Good
            }
            None => {
                self.give_up(shared);
                Fate::Gone
            }
        }
    }

    /// Gives up what is not durable: those who wait for it will ask again.
    pub(super) fn give_up<H>(&mut self, shared: &mut Shared<H, A>) {
        self.stored = self.version;
        self.retry_at = None;
        shared.counters.abandoned += self.waiting.len() as u64;
        self.waiting = Vec::new();
    }

    pub(super) fn next_deadline(&self, away: Option<Mono>) -> Option<Mono> {
        let away = self.found_away(away);
        let answer = self.waiting.iter().map(|waiting| due(waiting.since, away)).min();
        match (answer, self.retry_at) {
            (Some(answer), Some(retry)) => Some(answer.min(retry)),
            (answer, retry) => answer.or(retry),
        }
    }

    pub(super) fn expire<H>(&mut self, now: Mono, call: CallId, shared: &mut Shared<H, A>) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.write(call, shared);
        }
        self.answer_overdue(now, shared);
    }

    /// Since when the store is away, if this leg's own write has found it so: that somebody else did, some time ago, says
    /// nothing about now.
    fn found_away(&self, away: Option<Mono>) -> Option<Mono> {
        away.filter(|_| self.in_doubt.is_some() || self.writing.as_ref().is_some_and(|writing| writing.again))
    }

    /// Answers from memory who has waited for as long as one waits for a store that is away.
    fn answer_overdue<H>(&mut self, now: Mono, shared: &mut Shared<H, A>) {
        let away = self.found_away(shared.away);
        self.waiting.retain(|waiting| {
            let overdue = due(waiting.since, away) <= now;
            if overdue {
                shared.counters.undurable += 1;
                shared.outputs.push_back(Output::Answer { answer: waiting.answer.clone(), durable: false });
            }
            !overdue
        });
    }
}

/// What becomes of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Good,
    /// Its record was deleted.
    Gone,
}

/// When an answer is given from memory: 3 s after the store went away, or, if it never said so, after the question.
fn due(since: Mono, away: Option<Mono>) -> Mono {
    away.unwrap_or(since).min(since).after(limits::DURABLE_WITHIN)
}
