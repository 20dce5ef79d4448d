//! Joins the deciders of a relay: the gate says who asks, residency when, the switch where to.
//!
//! Decides nothing of its own but which error a refusal becomes, in one place. No socket and no clock: everything that a
//! relay does is a function of what is put in here, so that tests and fuzzers drive it as the packet thread does.

use std::collections::VecDeque;

use tandem_core::limits::{self, ANSWER_LEN_MAX, HEADROOM, TAILROOM};
use tandem_core::residency::{self, Residency};
use tandem_core::switch::{self, Egress, Newness, Slot, Source, Switch, Verdict};
use tandem_core::topology::{AttachmentCommand, Refusal};
use tandem_core::turn::{Answer, Ask, Decision, Gate, Problem, Proven};
use tandem_wire::id::{BucketId, CallId, LegId, RelayId, VirtualAddr};
use tandem_wire::units::{Mono, Now, Span};

use crate::duty::{Duty, Hint, Stance};

mod message;

use message::{Came, HeldKind, Promise};
pub use message::{Held, Output, Pending, Sent, StoreEvent};

/// A relay without its socket.
///
/// Drive it so: [`Engine::expire`] when [`Engine::next_deadline`] has come, then [`Engine::datagram`] and
/// [`Engine::store`], then [`Engine::poll`] until `None`.
#[derive(Debug)]
pub struct Engine {
    gate: Gate,
    switch: Switch,
    residency: Residency<Held, Pending>,
    duty: Duty,
    /// It stood still for too long to know what others have done meanwhile: it answers nothing.
    fenced: bool,
    outputs: VecDeque<Output>,
}

impl Engine {
    /// A relay that holds nothing yet; `seed` keys its tables and should be random. Every call is its own.
    #[must_use]
    pub fn new(relay: RelayId, gate: Gate, seed: u64) -> Self {
        let (switch, residency) = (Switch::new(seed), Residency::new(relay, seed));
        Self { gate, switch, residency, duty: Duty::All, fenced: false, outputs: VecDeque::new() }
    }

    /// The same, as one of a fleet: which calls are its own, its table says.
    #[must_use]
    pub fn of_fleet(relay: RelayId, gate: Gate, seed: u64) -> Self {
        Self { duty: Duty::part(), ..Self::new(relay, gate, seed) }
    }

    /// What it has to do, to be changed by a new table.
    pub const fn duty(&mut self) -> &mut Duty {
        &mut self.duty
    }

    /// While it is fenced, media goes on between legs that it knows, and no request is answered.
    pub const fn fence(&mut self, fenced: bool) {
        self.fenced = fenced;
    }

    /// Whether it is fenced.
    #[must_use]
    pub const fn fenced(&self) -> bool {
        self.fenced
    }

    /// Whether the records of this relay's calls are still being listed.
    #[must_use]
    pub const fn restoring(&self) -> bool {
        self.residency.restoring()
    }

    /// The gate, for its counters.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The forwarding table, for its counters and gauges.
    #[must_use]
    pub const fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The calls in memory, for their counters and gauges.
    #[must_use]
    pub const fn residency(&self) -> &Residency<Held, Pending> {
        &self.residency
    }

    /// Decides about one datagram that came straight from its client. What it gives back is to be sent from the slot, as
    /// the slot is now.
    pub fn datagram(&mut self, now: Now, source: Source, slot: &mut Slot<'_>) -> Option<Egress> {
        let hint = Hint { bucket: BucketId(0), acting: true, epoch: 0, hops: 0, listener: None };
        match self.tunneled(now, source, hint, slot) {
            Sent::To(egress) => Some(egress),
            Sent::Nothing | Sent::PassOn(_) => None,
        }
    }

    /// Decides about one datagram that came through a load balancer, which said `hint` of it.
    pub fn tunneled(&mut self, now: Now, source: Source, hint: Hint, slot: &mut Slot<'_>) -> Sent {
        let came = Came { source, listener: hint.listener };
        match self.switch.tunneled(now, source, hint.listener, slot) {
            Verdict::Forward(to) => Sent::To(to.into()),
            Verdict::Drop => Sent::Nothing,
            Verdict::Request => self.request(now, came, hint, slot),
            Verdict::UnknownSource => {
                if let Stance::PassOn(peer) = self.duty.stance(hint.bucket, hint) {
                    return Sent::PassOn(peer);
                }
                if self.duty.is_to_hold_more() {
                    // Its call is about to be asked for, with all that are ours now.
                    let _ = self.residency.handle(now, residency::Input::FillBegan);
                }
                if self.residency.holds_strays() {
                    let held = Held::packet(came, slot);
                    self.tell(now, residency::Input::Stray { held });
                }
                Sent::Nothing
            }
            Verdict::UnknownChannel(owner) => {
                if self.residency.doubts(now, owner.call) {
                    let held = Held::packet(came, slot);
                    self.tell(now, residency::Input::Doubt { call: owner.call, held });
                }
                Sent::Nothing
            }
        }
    }

    fn request(&mut self, now: Now, came: Came, hint: Hint, slot: &mut Slot<'_>) -> Sent {
        let mut answer = [0; ANSWER_LEN_MAX];
        match self.gate.decide(now, came.source.client, slot.datagram(), &mut answer) {
            Decision::Silence(_) => Sent::Nothing,
            Decision::Answer(len) => {
                // In the slot that the request came in: a flood of requests costs no memory.
                let room = slot.buffer.get_mut(slot.start..slot.start + len);
                let Some((room, answer)) = room.zip(answer.get(..len)) else { return Sent::Nothing };
                room.copy_from_slice(answer);
                slot.len = len;
                Sent::To(came.reply())
            }
            Decision::Proven(_) if self.fenced => Sent::Nothing,
            Decision::Proven(proven) => match self.duty.stance(proven.ticket.call.bucket(), hint) {
                Stance::PassOn(peer) => Sent::PassOn(peer),
                Stance::Serve { speaks } => {
                    let held = Held(HeldKind::Request { proven, came, speaks, asked: false });
                    self.tell(now, residency::Input::Ask { call: proven.ticket.call, held });
                    Sent::Nothing
                }
            },
        }
    }

    /// Takes in what the store says.
    pub fn store(&mut self, now: Now, event: StoreEvent) {
        self.tell(now, event);
    }

    /// When something is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        match (self.residency.next_deadline(), self.switch.next_deadline()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Does what is due at `now`.
    pub fn expire(&mut self, now: Now) {
        self.residency.expire(now);
        self.switch.expire(now);
        self.pump(now);
    }

    /// Gives out what is to be done, oldest first.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn tell(&mut self, now: Now, input: StoreEvent) {
        // Only commands are refused, and those are told in `command`.
        let _ = self.residency.handle(now, input);
        self.pump(now);
    }

    /// Carries what one decider says to the next until none has anything to say.
    fn pump(&mut self, now: Now) {
        loop {
            if let Some(output) = self.residency.poll() {
                self.carry(now, output);
            } else if let Some(output) = self.switch.poll() {
                // Evicted or expired: its record is to say so too. Nobody waits for it.
                let (switch::Output::Evicted { owner, source } | switch::Output::Expired { owner, source }) = output;
                if !self.duty.tends(owner.call.bucket()) {
                    // Its refreshes go to another relay: only that one knows how long it lives.
                    let _ = self.switch.handle(now, switch::Input::Refresh { source, lifetime: limits::LIFETIME_MAX });
                    continue;
                }
                let command = AttachmentCommand::Detach { transport: source.transport, client: source.client };
                let detached = self.command(now, owner.call, owner.leg, command, None);
                if detached.is_err() && matches!(output, switch::Output::Expired { .. }) {
                    // Its call is being read anew: say it again in a while.
                    let _ = self.switch.handle(now, switch::Input::Refresh { source, lifetime: limits::REREAD_AFTER });
                }
            } else {
                return;
            }
        }
    }

    fn carry(&mut self, now: Now, output: residency::Output<Held, Pending>) {
        use residency::Output as From;
        match output {
            From::Load { call } => self.outputs.push_back(Output::Load { call }),
            From::Write { call, leg, attachment, based_on } => {
                self.outputs.push_back(Output::Write { call, leg, attachment, based_on });
            }
            From::Serve { call, held: Held(HeldKind::Request { proven, came, speaks, asked }) } => {
                if !asked && self.residency.knows_nothing_of(call, proven.ticket.leg) {
                    // Its ticket was given with a record that is newer than ours.
                    let held = Held(HeldKind::Request { proven, came, speaks, asked: true });
                    let _ = self.residency.handle(now, residency::Input::Unheard { call, held });
                } else {
                    self.serve(now, call, proven, came, speaks);
                }
            }
            From::Refuse { held: Held(HeldKind::Request { proven, came, speaks, .. }) } => {
                let code = if matches!(proven.ask, Ok(Ask::Allocate { .. })) { 403 } else { 437 };
                self.refuse(now, &proven, came, speaks, Problem::new(code));
            }
            From::Retry { held: Held(HeldKind::Packet { came, bytes }) } => self.retry(now, came, &bytes),
            // A packet is neither served nor refused, and a request is not looked at twice.
            From::Serve { .. } | From::Refuse { .. } | From::Retry { .. } => {}
            From::Attach { call, leg } => {
                if let Some(attachment) = self.residency.attachment(call, leg) {
                    let stored = self.residency.stored_revision(call, leg);
                    let newness = stored.map_or(Newness::Now, Newness::Stored);
                    // A full table is counted there; the leg's other allocations are in.
                    let _ = self.switch.handle(now, switch::Input::Attach { call, leg, attachment, newness });
                }
            }
            From::Detach { call, leg } => _ = self.switch.handle(now, switch::Input::Detach { call, leg }),
            From::Forget { call } => _ = self.switch.handle(now, switch::Input::Forget { call }),
            From::Answer { answer, durable: _ } => self.keep_promise(now, &answer),
        }
    }

    /// Answers a request whose call is current.
    fn serve(&mut self, now: Now, call: CallId, proven: Proven, came: Came, speaks: bool) {
        let (leg, source) = (proven.ticket.leg, came.source);
        if self.residency.admits(call, leg).is_err() {
            return self.refuse(now, &proven, came, speaks, Problem::new(403));
        }
        let answer = match proven.ask {
            Err(problem) => Err(problem),
            Ok(Ask::Allocate { lifetime }) => self.allocate(now, call, proven, came, lifetime),
            Ok(Ask::Refresh { lifetime }) => self.owns(call, leg, source).map(|()| {
                if lifetime == Span::ZERO {
                    let command = AttachmentCommand::Detach { transport: source.transport, client: source.client };
                    let _ = self.command(now, call, leg, command, None);
                } else {
                    let _ = self.switch.handle(now, switch::Input::Refresh { source, lifetime });
                }
                Some(Answer::Refreshed { lifetime })
            }),
            Ok(Ask::CreatePermission) => self.owns(call, leg, source).map(|()| Some(Answer::Done)),
            Ok(Ask::ChannelBind(binding)) => self.owns(call, leg, source).and_then(|()| {
                let command =
                    AttachmentCommand::BindChannel { transport: source.transport, client: source.client, binding };
                let pending = Pending { proven, came, promise: Promise::Channel };
                self.command(now, call, leg, command, Some(pending)).map(|()| None).map_err(problem_of)
            }),
        };
        match answer {
            Ok(Some(answer)) => self.answer(now, &proven, came, answer),
            Ok(None) => {}
            Err(problem) => self.refuse(now, &proven, came, speaks, problem),
        }
    }

    /// An error ends what a client has: only who owns its bucket gives one.
    fn refuse(&mut self, now: Now, proven: &Proven, came: Came, speaks: bool, problem: Problem) {
        if speaks {
            self.answer(now, proven, came, Answer::Refused(problem));
        }
    }

    fn allocate(
        &mut self,
        now: Now,
        call: CallId,
        proven: Proven,
        came: Came,
        lifetime: Span,
    ) -> Result<Option<Answer>, Problem> {
        let source = came.source;
        if self.switch.owner(source).is_none() && self.switch.allocations() >= limits::ALLOCATIONS_PER_RELAY {
            return Err(Problem::new(508));
        }
        let command = AttachmentCommand::Attach { transport: source.transport, client: source.client };
        let pending = Pending { proven, came, promise: Promise::Allocation { lifetime } };
        self.command(now, call, proven.ticket.leg, command, Some(pending)).map_err(problem_of)?;
        Ok(None)
    }

    /// Whether the allocation on this address is this leg's (RFC 8656 sections 5 and 7.3).
    fn owns(&self, call: CallId, leg: LegId, source: Source) -> Result<(), Problem> {
        match self.switch.owner(source) {
            None => Err(Problem::new(437)),
            Some(owner) if owner.call == call && owner.leg == leg => Ok(()),
            Some(_) => Err(Problem::new(441)),
        }
    }

    fn command(
        &mut self,
        now: Now,
        call: CallId,
        leg: LegId,
        command: AttachmentCommand,
        answer: Option<Pending>,
    ) -> Result<(), Refusal> {
        self.residency.handle(now, residency::Input::Command { call, leg, command, answer })
    }

    fn keep_promise(&mut self, now: Now, pending: &Pending) {
        let Pending { proven, came, promise } = pending;
        let source = came.source;
        let ticket = proven.ticket;
        let attachment = self.residency.attachment(ticket.call, ticket.leg);
        let Some(allocation) = attachment.and_then(|a| a.find(source.transport, source.client)) else {
            // Ended by its client, or evicted, while it was being written: there is nothing left to speak of.
            return;
        };
        let relayed = VirtualAddr::of(ticket.leg, allocation.a);
        let answer = match *promise {
            Promise::Channel => Answer::Done,
            Promise::Allocation { lifetime } => {
                let _ = self.switch.handle(now, switch::Input::Refresh { source, lifetime });
                Answer::Allocated { relayed, lifetime }
            }
        };
        self.answer(now, proven, *came, answer);
    }

    fn answer(&mut self, now: Now, proven: &Proven, came: Came, answer: Answer) {
        // Who is refused may have no allocation, and then there is nothing to remember.
        let _ = self.switch.handle(now, switch::Input::SpokeTo { source: came.source, listener: came.listener });
        let mut bytes = [0; ANSWER_LEN_MAX];
        let lives = !matches!(answer, Answer::Refused(_) | Answer::Refreshed { lifetime: Span::ZERO });
        let proves = lives.then(|| proven.ticket.call.bucket());
        // The buffer is as long as the longest answer, by its limit.
        if let Ok(len) = proven.answer(came.source.client, answer, &mut bytes) {
            self.outputs.push_back(Output::Answer { to: came.reply(), bytes, len, proves });
        }
    }

    fn retry(&mut self, now: Now, came: Came, bytes: &[u8]) {
        let mut buffer = vec![0; HEADROOM + bytes.len() + TAILROOM];
        if let Some(room) = buffer.get_mut(HEADROOM..HEADROOM + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        let mut slot = Slot { buffer: &mut buffer, start: HEADROOM, len: bytes.len() };
        if let Verdict::Forward(to) = self.switch.tunneled(now, came.source, came.listener, &mut slot) {
            let bytes = slot.datagram().to_vec();
            self.outputs.push_back(Output::Packet { to: to.into(), bytes });
        }
    }
}

impl Held {
    fn packet(came: Came, slot: &Slot<'_>) -> Self {
        Self(HeldKind::Packet { came, bytes: slot.datagram().into() })
    }
}

/// The error that a refusal becomes on the wire (RFC 8656 section 19).
const fn problem_of(refusal: Refusal) -> Problem {
    Problem::new(match refusal {
        Refusal::CallEnded
        | Refusal::UnknownLeg
        | Refusal::CallExists
        | Refusal::GroupSize
        | Refusal::AnsweredElsewhere
        | Refusal::Answered => 403,
        Refusal::UnknownAllocation => 437,
        Refusal::AllocationQuota => 486,
        Refusal::ChannelQuota => 508,
        Refusal::ChannelConflict | Refusal::ChannelRange => 400,
    })
}
