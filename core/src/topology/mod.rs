//! The records of a call, and the only place where a change of them is allowed or refused; and the records of the fleet.
//!
//! Decides which commands a call record and an attachment record accept, and how both are written down. Leaves storing
//! them, with the revision each change was based on, to the state client; leaves timers to `call`, which reads
//! [`Call::timers`].
//!
//! One record per call, written by signaling; one per leg, written by the relay that serves it: two writers never share
//! a record.

mod attachment;
mod blob;
mod call;
mod command;
mod fleet;

pub use attachment::{Allocation, Attachment, AttachmentCommand, ChannelBinding, ChannelNumber, Transport};
pub use blob::{Blob, BlobHead, BlobKind, Removal};
pub use call::{Call, CallKind, EndReason, Ended, Leg, Media, Phase, Ring, Rung, RungState};
pub use command::{CallCommand, Placed, Rejection, Timer};
pub use fleet::{Incarnation, Member, Row, Standing, Table, Wish};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The version that this code writes. It reads this one and older ones, and refuses newer ones.
pub const RECORD_VERSION: u32 = 1;

/// Why a command was refused. Whose fault it is and whether to try again is on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The call has ended: the caller's mistake or bad luck, never worth trying again.
    #[error("the call has ended")]
    CallEnded,
    /// The call was created before: an id was drawn twice, or a command was repeated.
    #[error("the call exists already")]
    CallExists,
    /// A call has at least one leg and at most its kind's number.
    #[error("the call has too few or too many legs")]
    GroupSize,
    /// There is no such leg in the call, or it has left, or the device was never rung.
    #[error("no such leg in the call")]
    UnknownLeg,
    /// Another device of the callee has answered: too late, never worth trying again.
    #[error("another device has answered")]
    AnsweredElsewhere,
    /// The device has answered: it hangs up instead of rejecting.
    #[error("the device has answered the call")]
    Answered,
    /// The leg has no allocation on this address: it may allocate anew.
    #[error("no such allocation")]
    UnknownAllocation,
    /// The leg has as many allocations as one leg may have. It may give one up and try again.
    #[error("the leg has all the allocations that it may have")]
    AllocationQuota,
    /// The allocation has as many channels as one may have.
    #[error("the allocation has all the channels that it may have")]
    ChannelQuota,
    /// The channel is bound to another peer, or the peer to another channel (RFC 8656 section 12.2).
    #[error("the channel or the peer is bound otherwise")]
    ChannelConflict,
    /// The channel number lies outside 0x4000..=0x7FFF.
    #[error("the channel number is out of range")]
    ChannelRange,
}

/// Why stored bytes are not a record that we can use.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer version of Tandem: upgrade this process before it touches the record.
    #[error("the record has version {found}, this process reads up to {RECORD_VERSION}: upgrade it first")]
    Newer {
        /// The version that stands in the record.
        found: u32,
    },
    /// Not a record at all.
    #[error("the record cannot be read")]
    Malformed(#[from] serde_json::Error),
}

/// Reads a record whose version is what `version` gives. A newer one is refused by name, and not by its first new field:
/// one that cannot be read is looked at once more, for its version alone.
fn read<T: DeserializeOwned>(bytes: &[u8], version: impl FnOnce(&T) -> u32) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let record = serde_json::from_slice::<T>(bytes);
    let v = match &record {
        Ok(record) => version(record),
        Err(_) => serde_json::from_slice::<Version>(bytes)?.v,
    };
    if v > RECORD_VERSION { Err(RecordError::Newer { found: v }) } else { Ok(record?) }
}

/// Fields of a record that this version does not know. They are kept as they are and written back.
pub type Unknown = std::collections::BTreeMap<String, serde_json::Value>;
