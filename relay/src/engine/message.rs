//! What goes through the engine: what is held, what waits for the store, what is to be done.

use tandem_core::limits::ANSWER_LEN_MAX;
use tandem_core::residency;
use tandem_core::switch::{Egress, Listener, Source};
use tandem_core::topology::Attachment;
use tandem_core::turn::Proven;
use tandem_wire::id::{BucketId, CallId, LegId, Revision};
use tandem_wire::units::Span;

use crate::duty::Peer;

/// From where a packet came, and to where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    pub(super) source: Source,
    pub(super) listener: Option<Listener>,
}

impl Came {
    /// Whoever sent it, as a destination for its answer.
    pub(super) const fn reply(self) -> Egress {
        self.source.reply().by(self.listener)
    }
}

/// What is held while a call is loading.
#[derive(Debug, Clone)]
pub struct Held(pub(super) HeldKind);

#[derive(Debug, Clone)]
pub(super) enum HeldKind {
    Request {
        proven: Proven,
        came: Came,
        /// Whether it may be refused: by who owns its bucket.
        speaks: bool,
        /// The store was asked for this very request: what its record does not say is not so.
        asked: bool,
    },
    Packet {
        came: Came,
        bytes: Box<[u8]>,
    },
}

/// An answer that waits until what it says is durable.
#[derive(Debug, Clone)]
pub struct Pending {
    pub(super) proven: Proven,
    pub(super) came: Came,
    pub(super) promise: Promise,
}

/// What is to be done with a datagram, as it lies in its slot now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sent {
    /// Nothing.
    Nothing,
    /// It goes to this client.
    To(Egress),
    /// It goes to this relay, as it came.
    PassOn(Peer),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Promise {
    Allocation { lifetime: Span },
    Channel,
}

/// What the store says. Only the variants that speak of the store are meant; the engine makes the others itself.
pub type StoreEvent = residency::Input<Held, Pending>;

/// What the engine wants done.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send this answer.
    Answer {
        /// To whom.
        to: Egress,
        /// Its bytes are the first `len` of these.
        bytes: [u8; ANSWER_LEN_MAX],
        /// How long it is.
        len: usize,
        /// The bucket that its client has proved to have an allocation in, if the answer says so.
        proves: Option<BucketId>,
    },
    /// Send this packet, which was held.
    Packet {
        /// To whom.
        to: Egress,
        /// Its bytes.
        bytes: Vec<u8>,
    },
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
}
