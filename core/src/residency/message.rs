//! What goes into the residency and what comes out of it.

use tandem_wire::id::{CallId, LegId, Revision};
use tandem_wire::units::Total;

use crate::topology::{Attachment, AttachmentCommand, Call};

/// The records of one call as the store had them at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The store's revision at that moment.
    pub at: Revision,
    /// The call's record; `None` if there is none.
    pub call: Option<(Call, Revision)>,
    /// Its legs' attachments.
    pub legs: Vec<(LegId, Attachment, Revision)>,
}

/// What can be told to the residency. `H` is what is held (a request or a packet), `A` an answer that waits.
#[derive(Debug, Clone)]
pub enum Input<H, A> {
    /// A proven request for this call: serve it when the call is current.
    Ask {
        /// The call.
        call: CallId,
        /// The request.
        held: H,
    },
    /// A packet that the call's record does not explain: perhaps the store has a newer one.
    Doubt {
        /// The call.
        call: CallId,
        /// The packet.
        held: H,
    },
    /// A proven request of a leg that the record does not have yet: its ticket was given with a newer one. It is served when
    /// the store has been asked, or dropped if that was done within the last second: the change is on its way to us.
    Unheard {
        /// The call.
        call: CallId,
        /// The request.
        held: H,
    },
    /// A packet from an unknown address: perhaps its call is only not loaded yet.
    Stray {
        /// The packet.
        held: H,
    },
    /// Change a leg's attachment. The answer, if somebody waits for one, is given when the change is durable.
    Command {
        /// The call; it must be current, as it is when its request is served.
        call: CallId,
        /// The leg.
        leg: LegId,
        /// The change.
        command: AttachmentCommand,
        /// Who waits for it.
        answer: Option<A>,
    },
    /// The store was asked, or lists what it has: these are the call's records.
    Loaded {
        /// The call.
        call: CallId,
        /// What the store has of it.
        snapshot: Snapshot,
    },
    /// The store could not be asked.
    LoadFailed {
        /// The call.
        call: CallId,
    },
    /// The leg's record is durable.
    Written {
        /// The call.
        call: CallId,
        /// The leg.
        leg: LegId,
        /// The revision that it got.
        revision: Revision,
    },
    /// The leg's record was changed by somebody else in between: ours was refused.
    WriteStale {
        /// The call.
        call: CallId,
        /// The leg.
        leg: LegId,
    },
    /// The store could not be reached, or did not say in time.
    WriteAway {
        /// The call.
        call: CallId,
        /// The leg.
        leg: LegId,
    },
    /// The store says that the call's record is now this one (`None`: deleted).
    CallChanged {
        /// The call.
        call: CallId,
        /// Its record.
        record: Option<Call>,
        /// The revision of the change.
        revision: Revision,
    },
    /// The store says that a leg's record is now this one (`None`: deleted).
    AttachmentChanged {
        /// The call.
        call: CallId,
        /// The leg.
        leg: LegId,
        /// Its record.
        record: Option<Attachment>,
        /// The revision of the change.
        revision: Revision,
    },
    /// From here on `Loaded` lists everything that the store has for this relay.
    RestoreBegan,
    /// The list is complete.
    Restored,
    /// From here on `Loaded` lists what the store has in more buckets than before.
    FillBegan,
    /// That list is complete.
    Filled,
    /// From now on only changes of calls in these ranges of buckets (ends included) are told. What is not in them and waits
    /// for nothing is forgotten.
    Narrowed {
        /// The ranges, in ascending order.
        ranges: Vec<(u16, u16)>,
    },
}

/// What the residency wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output<H, A> {
    /// Ask the store for this call.
    Load {
        /// The call.
        call: CallId,
    },
    /// Write this record, if the stored one still has that revision.
    Write {
        /// The call.
        call: CallId,
        /// The leg.
        leg: LegId,
        /// The record.
        attachment: Attachment,
        /// What it is based on.
        based_on: Revision,
    },
    /// The call is current: answer this request now.
    Serve {
        /// The call.
        call: CallId,
        /// The request.
        held: H,
    },
    /// The call has ended or never was: refuse this request.
    Refuse {
        /// The request.
        held: H,
    },
    /// Look at this packet once more; if it is still not explained, drop it.
    Retry {
        /// The packet.
        held: H,
    },
    /// The leg's attachment is another now: tell the switch ([`super::Residency::attachment`] has it).
    Attach {
        /// The call.
        call: CallId,
        /// The leg.
        leg: LegId,
    },
    /// The leg is attached nowhere: tell the switch.
    Detach {
        /// The call.
        call: CallId,
        /// The leg.
        leg: LegId,
    },
    /// The call is gone: tell the switch.
    Forget {
        /// The call.
        call: CallId,
    },
    /// Give this answer.
    Answer {
        /// The answer.
        answer: A,
        /// Whether what it says is durable.
        durable: bool,
    },
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Loads asked for.
    pub loads: Total,
    /// Writes asked for.
    pub writes: Total,
    /// Writes that somebody else was faster than.
    pub conflicts: Total,
    /// Answers given from memory because the store was away.
    pub undurable: Total,
    /// Answers that were never given: their call ended, or their record was somebody else's. The client asks again.
    pub abandoned: Total,
    /// Dropped: over [`crate::limits::HELD_PER_CALL`], [`crate::limits::STRAYS`], [`crate::limits::WAITING_PER_LEG`] or
    /// [`crate::limits::CALLS_PER_RELAY`].
    pub over_cap: Total,
    /// Dropped: held for [`crate::limits::HELD_FOR`] in vain.
    pub held_in_vain: Total,
}
