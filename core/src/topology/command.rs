//! What can be asked of a call record, and the only place where it is allowed or refused.
//!
//! Decides every transition of a call's life: who may make it, when, and what it leaves behind. Leaves the race between two
//! of them to the store: both are decided over a record, and the store takes the one whose record is still there.
//!
//! ```text
//! Place ──► ringing ── Accept ──────────────► active ── Hangup, Expire(Grace), Expire(Life), Remove ──► ended
//!              └── Hangup (caller: cancelled), Reject, Expire(Ring), Expire(Busy), Remove ─────────────► ended
//! ```
//!
//! The verbs are idempotent by state: asked again, the same command gives the record as it is. A record that comes back
//! unchanged need not be written.

use tandem_wire::id::{CallId, LegId};
use tandem_wire::party::Party;
use tandem_wire::units::{Now, Span, Wall};

use super::call::{Call, CallKind, EndReason, Ended, Leg, Media, Ring, Rung, RungState};
use super::{Refusal, Unknown};
use crate::limits;

/// A call that is to ring.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// The id that the caller of this drew.
    pub id: CallId,
    /// Two devices or a group.
    pub kind: CallKind,
    /// What the caller wants to send.
    pub media: Media,
    /// The device that calls. It has leg 1.
    pub caller: Party,
    /// The devices that it is to ring at.
    pub callees: Vec<Party>,
    /// Names the request, if it may be repeated.
    pub request: Option<String>,
}

/// How a device refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Its person does not want the call: no device of theirs rings on.
    Declined,
    /// It is in another call; others ring on.
    Busy,
}

/// What a record waits for, beside its people. It names what it is about, so that one that comes late does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Nobody has answered for [`limits::RING`].
    Ring,
    /// Whoever could be reached is busy, and nobody else has rung for [`limits::BUSY_SETTLE`].
    Busy {
        /// Since when, as in the record.
        since: Wall,
    },
    /// A leg's device has had no connection for [`limits::REJOIN`].
    Grace {
        /// The leg.
        leg: LegId,
        /// Since when, as in the record.
        since: Wall,
    },
    /// The call has lasted as long as a call may: [`limits::CALL_LIFE`].
    Life,
    /// What was sealed for an ended call need not be kept any longer: [`limits::ENDED_BLOB_LIFE`].
    Purge,
    /// Nor the record itself: [`limits::ENDED_CALL_LIFE`].
    Forget,
}

impl Timer {
    /// How long it runs.
    #[must_use]
    pub const fn span(self) -> Span {
        match self {
            Self::Ring => limits::RING,
            Self::Busy { .. } => limits::BUSY_SETTLE,
            Self::Grace { .. } => limits::REJOIN,
            Self::Life => limits::CALL_LIFE,
            Self::Purge => limits::ENDED_BLOB_LIFE,
            Self::Forget => limits::ENDED_CALL_LIFE,
        }
    }
}

/// What can be asked of a call record.
#[derive(Debug, Clone, PartialEq)]
pub enum CallCommand {
    /// Makes a call that never rings, with legs 1..=`legs` of nobody: a demonstration's.
    Create {
        /// The id that the caller of this drew.
        id: CallId,
        /// Two devices or a group.
        kind: CallKind,
        /// How many legs it starts with.
        legs: u16,
    },
    /// Makes a call that rings.
    Place(Placed),
    /// A device of the callee says that it rings.
    Ringing(Party),
    /// A device of the callee answers. The first one has it.
    Accept(Party),
    /// A device of the callee refuses.
    Reject(Party, Rejection),
    /// A device that has a leg hangs up; a caller whose call still rings cancels it.
    Hangup(Party),
    /// A device lost its connection to us. Of one that has no leg this is nothing.
    Disconnect(Party),
    /// A device that has a leg shows that it is alive.
    Rejoin(Party),
    /// A device was removed from its account.
    Remove(Party),
    /// A timer of the record has run out.
    Expire(Timer),
    /// Ends it. Ending an ended call is refused, so that it has exactly one reason.
    End {
        /// Why.
        reason: EndReason,
    },
}

impl Call {
    /// Applies `command` to `record` (`None`: nothing is stored under this id) and gives the record to store. It is equal
    /// to `record` when the command changes nothing.
    ///
    /// # Errors
    /// The [`Refusal`] that names why the record stays as it is.
    pub fn apply(record: Option<&Self>, command: CallCommand, now: Now) -> Result<Self, Refusal> {
        match (record, command) {
            (Some(_), CallCommand::Create { .. } | CallCommand::Place(_)) => Err(Refusal::CallExists),
            (None, CallCommand::Create { id, kind, legs }) => Self::create(id, kind, legs, now),
            (None, CallCommand::Place(placed)) => Self::place(placed, now),
            (None, _) => Err(Refusal::CallEnded),
            (Some(call), command) => {
                let mut next = call.clone();
                next.change(command, now)?;
                Ok(next)
            }
        }
    }

    fn create(id: CallId, kind: CallKind, legs: u16, now: Now) -> Result<Self, Refusal> {
        if legs == 0 || usize::from(legs) > kind.legs_max() {
            return Err(Refusal::GroupSize);
        }
        let mut call = Self::bare(id, kind, now.wall);
        call.legs = (1..=legs).filter_map(|n| LegId::new(n).ok()).map(|n| leg(n, None)).collect();
        Ok(call)
    }

    fn place(placed: Placed, now: Now) -> Result<Self, Refusal> {
        let Placed { id, kind, media, caller, callees, request } = placed;
        let twice = |(at, party): (usize, &Party)| callees.iter().skip(at + 1).any(|other| other == party);
        let good = !callees.contains(&caller) && !callees.iter().enumerate().any(twice);
        if callees.is_empty() || callees.len() > limits::RUNG_DEVICES || !good {
            return Err(Refusal::GroupSize);
        }
        let mut call = Self::bare(id, kind, now.wall);
        let devices = callees.into_iter().map(|party| Rung { party, state: RungState::Pending }).collect();
        call.ring = Some(Ring { media, devices, answered: None, busy: None, request, unknown: Unknown::new() });
        call.join(caller)?;
        Ok(call)
    }

    fn change(&mut self, command: CallCommand, now: Now) -> Result<(), Refusal> {
        match command {
            CallCommand::Create { .. } | CallCommand::Place(_) => Err(Refusal::CallExists),
            CallCommand::Ringing(party) => self.ringing(&party),
            CallCommand::Accept(party) => self.accept(party, now),
            CallCommand::Reject(party, rejection) => self.reject(&party, rejection, now),
            CallCommand::Hangup(party) => self.hangup(&party, now),
            CallCommand::Disconnect(party) => {
                if self.ended.is_none()
                    && let Some(leg) = self.leg_mut(&party)
                {
                    leg.away = leg.away.or(Some(now.wall));
                }
                Ok(())
            }
            CallCommand::Rejoin(party) => {
                self.running()?;
                self.leg_mut(&party).ok_or(Refusal::UnknownLeg)?.away = None;
                Ok(())
            }
            CallCommand::Remove(party) => {
                self.remove(&party, now);
                Ok(())
            }
            CallCommand::Expire(timer) => {
                self.expire(timer, now);
                Ok(())
            }
            CallCommand::End { reason } => {
                self.running()?;
                self.end(reason, now);
                Ok(())
            }
        }
    }

    fn ringing(&mut self, party: &Party) -> Result<(), Refusal> {
        let rung = self.rings_at(party)?;
        if rung.state == RungState::Pending {
            rung.state = RungState::Ringing;
            self.settle_busy(None);
        }
        Ok(())
    }

    fn accept(&mut self, party: Party, now: Now) -> Result<(), Refusal> {
        let rung = self.rings_at(&party)?;
        if rung.state == RungState::Answered {
            return Ok(());
        }
        rung.state = RungState::Answered;
        if let Some(ring) = &mut self.ring {
            ring.answered = Some(now.wall);
            ring.busy = None;
        }
        self.join(party)
    }

    fn reject(&mut self, party: &Party, rejection: Rejection, now: Now) -> Result<(), Refusal> {
        let said = match rejection {
            Rejection::Declined => RungState::Declined,
            Rejection::Busy => RungState::Busy,
        };
        let before = self.ring.as_ref().and_then(|ring| ring.find(party)).map(|rung| rung.state);
        if self.ended.is_some() && before == Some(said) {
            return Ok(());
        }
        let rung = self.rings_at(party)?;
        if rung.state == RungState::Answered {
            return Err(Refusal::Answered);
        }
        rung.state = said;
        match rejection {
            Rejection::Declined => self.end(EndReason::Declined, now),
            Rejection::Busy => self.settle_busy(Some(now)),
        }
        Ok(())
    }

    fn hangup(&mut self, party: &Party, now: Now) -> Result<(), Refusal> {
        if self.leg_of(party).is_none() {
            // A device that only rang rejects; it has nothing to hang up.
            return Err(if self.ended.is_some() { Refusal::CallEnded } else { Refusal::UnknownLeg });
        }
        if self.ended.is_none() {
            self.end(if self.unanswered() { EndReason::Cancelled } else { EndReason::Hangup }, now);
        }
        Ok(())
    }

    fn remove(&mut self, party: &Party, now: Now) {
        if self.ended.is_some() {
            return;
        }
        if self.leg_of(party).is_some() {
            return self.end(if self.unanswered() { EndReason::Cancelled } else { EndReason::Kicked }, now);
        }
        if let Some(ring) = self.ring.as_mut().filter(|ring| ring.answered.is_none())
            && let Some(rung) = ring.devices.iter_mut().find(|rung| rung.party == *party)
        {
            rung.state = RungState::Removed;
            self.settle_busy(Some(now));
        }
    }

    fn expire(&mut self, timer: Timer, now: Now) {
        if self.ended.is_some() {
            return;
        }
        match timer {
            Timer::Ring if self.unanswered() => self.end(EndReason::Timeout, now),
            Timer::Busy { since } if self.ring.as_ref().is_some_and(|ring| ring.busy == Some(since)) => {
                self.end(EndReason::Busy, now);
            }
            Timer::Grace { leg, since } if self.legs.iter().any(|l| l.n == leg && l.away == Some(since)) => {
                self.end(EndReason::ConnectionLost, now);
            }
            Timer::Life => self.end(EndReason::Timeout, now),
            // Late: what it was about has changed. The last two are about an ended call only.
            Timer::Ring | Timer::Busy { .. } | Timer::Grace { .. } | Timer::Purge | Timer::Forget => {}
        }
    }

    /// Ends the ringing when nobody is left who could answer, or notes since when those who said anything are busy.
    /// Without `now` nothing can have ended.
    fn settle_busy(&mut self, now: Option<Now>) {
        let Some(ring) = &mut self.ring else { return };
        let any = |state: RungState| ring.devices.iter().any(|rung| rung.state == state);
        let (busy, ringing, pending) = (any(RungState::Busy), any(RungState::Ringing), any(RungState::Pending));
        match now {
            Some(now) if !ringing && !pending => {
                self.end(if busy { EndReason::Busy } else { EndReason::Kicked }, now);
            }
            // One that is pending is offline, or about to say something.
            Some(now) if busy && !ringing => ring.busy = ring.busy.or(Some(now.wall)),
            _ => ring.busy = None,
        }
    }

    /// The place of a device whose call rings, or has rung and was answered by this very device.
    fn rings_at(&mut self, party: &Party) -> Result<&mut Rung, Refusal> {
        let (ended, unanswered) = (self.ended.is_some(), self.unanswered());
        let ring = self.ring.as_mut().ok_or(Refusal::UnknownLeg)?;
        let rung = ring.devices.iter_mut().find(|rung| rung.party == *party).ok_or(Refusal::UnknownLeg)?;
        if ended {
            Err(Refusal::CallEnded)
        } else if rung.state == RungState::Removed {
            Err(Refusal::UnknownLeg)
        } else if unanswered || rung.state == RungState::Answered {
            Ok(rung)
        } else {
            Err(Refusal::AnsweredElsewhere)
        }
    }

    /// Gives a device the next number. Numbers are in order of arrival, and legs stay in the record when they have left.
    fn join(&mut self, party: Party) -> Result<(), Refusal> {
        let next = self.legs.last().map_or(1, |leg| leg.n.get().saturating_add(1));
        if self.legs.len() >= self.kind.legs_max() {
            return Err(Refusal::GroupSize);
        }
        let n = LegId::new(next).map_err(|_| Refusal::GroupSize)?;
        self.legs.push(leg(n, Some(party)));
        Ok(())
    }

    fn leg_mut(&mut self, party: &Party) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.left.is_none() && leg.party.as_ref() == Some(party))
    }

    fn unanswered(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.answered.is_none())
    }

    const fn running(&self) -> Result<(), Refusal> {
        if self.ended.is_some() { Err(Refusal::CallEnded) } else { Ok(()) }
    }

    fn end(&mut self, reason: EndReason, now: Now) {
        self.ended = Some(Ended { at: now.wall, reason });
        if let Some(ring) = &mut self.ring {
            ring.busy = None;
        }
    }

    /// What this record waits for, each with the wall time since when.
    pub fn timers(&self) -> impl Iterator<Item = (Timer, Wall)> {
        let ended = self.ended.map(|ended| [(Timer::Purge, ended.at), (Timer::Forget, ended.at)]);
        let running = self.ended.is_none();
        let life = running.then_some((Timer::Life, self.created));
        let ring = (running && self.unanswered()).then_some((Timer::Ring, self.created));
        let busy = self.ring.as_ref().and_then(|ring| ring.busy).map(|since| (Timer::Busy { since }, since));
        let grace = self.legs.iter().filter(move |leg| running && leg.left.is_none());
        let grace = grace.filter_map(|leg| leg.away.map(|since| (Timer::Grace { leg: leg.n, since }, since)));
        ended.into_iter().flatten().chain(life).chain(ring).chain(busy).chain(grace)
    }
}

const fn leg(n: LegId, party: Option<Party>) -> Leg {
    Leg { n, party, away: None, left: None, unknown: Unknown::new() }
}
