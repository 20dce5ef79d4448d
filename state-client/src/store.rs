//! The store as everyone sees it: the trait, and what goes in and out.
//!
//! Decides the meaning that every backend and every transport must have (the conformance suite holds them to it). Leaves
//! durability to the backend and the wire to `grpc`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tandem_core::topology::Transport;
use tandem_wire::id::{AllocationId, CallId, LegId, PopId, Revision};
use tandem_wire::redact::ClientAddr;

use crate::buckets::BucketSet;
use crate::key::Key;
use crate::limits::{OPS_PER_COMMAND, VALUE_LEN_MAX};
use crate::load::{Reports, SeenLoad};
use crate::watch::Watch;

/// What one operation does to its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes it.
    Put(Vec<u8>),
    /// Removes it.
    Delete,
}

/// One operation: refused unless the record still has the revision that it is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Which record.
    pub key: Key,
    /// The revision of the record that this was decided on; [`Revision::ZERO`]: there must be none.
    pub based_on: Revision,
    /// What to do.
    pub change: Change,
}

/// Up to [`crate::limits::OPS_PER_COMMAND`] operations on different records that happen all or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// The operations.
    pub ops: Vec<Op>,
}

impl Command {
    /// Whether a store of `pop` could ever do this.
    ///
    /// # Errors
    /// The [`Fault`] of it.
    pub fn check(&self, pop: PopId) -> Result<(), Fault> {
        if self.ops.is_empty() || self.ops.len() > OPS_PER_COMMAND {
            return Err(Fault::OpCount);
        }
        let mut seen = HashSet::with_capacity(self.ops.len());
        for op in &self.ops {
            if op.key.pop() != pop {
                return Err(Fault::OtherPop);
            }
            if !seen.insert(op.key) {
                return Err(Fault::KeyTwice);
            }
            match &op.change {
                Change::Put(value) if value.len() > VALUE_LEN_MAX => return Err(Fault::TooLarge),
                Change::Delete if op.based_on == Revision::ZERO => return Err(Fault::DeleteOfNothing),
                Change::Put(_) | Change::Delete => {}
            }
        }
        Ok(())
    }
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which record.
    pub key: Key,
    /// The revision of its last change.
    pub revision: Revision,
    /// Its bytes, shared with whoever else reads them: a list of everything copies none.
    pub value: Arc<[u8]>,
}

/// Records, and the revision of the store that they are of. A revision is a moment: commands that share one changed
/// different records, and none of them was asked for after another was answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Every change up to this one is in the records; follow from here.
    pub revision: Revision,
    /// The records.
    pub entries: Vec<Entry>,
}

/// One change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which record.
    pub key: Key,
    /// The revision of the change.
    pub revision: Revision,
    /// What it is now; `None`: removed.
    pub value: Option<Arc<[u8]>>,
}

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AllocationRef {
    /// The call.
    pub call: CallId,
    /// The leg.
    pub leg: LegId,
    /// The allocation.
    pub allocation: AllocationId,
}

/// Why a command or a question can never be right. A fault of the program that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Too few or too many operations.
    #[error("a command has 1 to {OPS_PER_COMMAND} operations")]
    OpCount,
    /// A record named twice.
    #[error("a command names a record once")]
    KeyTwice,
    /// Another PoP's record.
    #[error("the record is another PoP's")]
    OtherPop,
    /// A record that is too large.
    #[error("a record has at most {VALUE_LEN_MAX} bytes")]
    TooLarge,
    /// A removal that is based on nothing.
    #[error("what is not there cannot be removed")]
    DeleteOfNothing,
    /// A path, call, bucket, transport or address that is none. Only over a wire.
    #[error("the request cannot be read")]
    Unreadable,
}

/// Why the store did not do it: whose fault it is, and whether to try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed this record first: read it again, decide again. Nothing was done.
    #[error("the record has changed since it was read")]
    Stale {
        /// Which of the command's records.
        key: Key,
    },
    /// The store cannot be reached, or cannot write now. It may or may not have been done: try again later.
    #[error("the store is away")]
    Away {
        /// When trying again makes sense, in milliseconds.
        retry_after_ms: u64,
    },
    /// The changes that were asked for are no longer kept: list everything, then follow from there.
    #[error("the changes asked for are no longer kept")]
    Compacted,
    /// The command or the question cannot be right, whoever asks: a fault of the caller. Do not try again.
    #[error("refused: {0}")]
    Invalid(#[from] Fault),
    /// The secret is not this store's. Do not try again.
    #[error("the store does not accept our secret")]
    Unauthorized,
    /// The store said something that cannot be understood: a version mismatch or worse.
    #[error("the store's answer cannot be understood")]
    Garbled,
}

impl StoreError {
    /// Whether the same may work later.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// The store of one PoP.
#[async_trait]
pub trait Store: Send + Sync {
    /// Does a command. It is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; of a stale command nothing is done.
    async fn commit(&self, command: Command) -> Result<Revision, StoreError>;

    /// The records of one call: itself, its attachments, its blobs.
    ///
    /// # Errors
    /// [`StoreError::Away`] and the faults.
    async fn load(&self, call: CallId) -> Result<Listing, StoreError>;

    /// The same, with all that was stored when this was asked, through whichever state server: for who is about to say that
    /// something is not there, on the word of somebody who has seen it. Where that cannot be found out, it is [`Store::load`].
    ///
    /// # Errors
    /// As [`Store::load`].
    async fn load_latest(&self, call: CallId) -> Result<Listing, StoreError> {
        self.load(call).await
    }

    /// One record.
    ///
    /// # Errors
    /// [`StoreError::Away`] and the faults.
    async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError>;

    /// All records of these buckets.
    ///
    /// # Errors
    /// [`StoreError::Away`] and the faults.
    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError>;

    /// Every change of these buckets after `after`, in the order of their revisions, for as long as the caller takes them.
    /// Who takes them too slowly is cut off with [`StoreError::Compacted`].
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if they are no longer kept, [`StoreError::Away`] and the faults.
    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError>;

    /// Whose this client address is, by the attachments that are stored.
    ///
    /// # Errors
    /// [`StoreError::Away`] and the faults.
    async fn find_client(&self, transport: Transport, client: ClientAddr) -> Result<Option<AllocationRef>, StoreError>;

    /// Says how loaded a relay is, for as long as there is somebody who says it: what stands in `reports`, and each that
    /// follows. Every state server that there is to talk to is told; one that is away misses what is said meanwhile.
    /// Nothing of it is stored, and what is ignored ([`tandem_core::load`]) is counted and not answered.
    async fn report_load(&self, reports: Reports);

    /// How loaded the relays are, by their ids: those that have said so lately, to the state server that is asked.
    ///
    /// # Errors
    /// [`StoreError::Away`].
    async fn loads(&self) -> Result<Vec<SeenLoad>, StoreError>;

    /// How old the last answer may be: what was stored this long before it is in it. Zero while all is well; it grows when
    /// a store that others write to as well cannot be reached, and answers go on from memory.
    fn age(&self) -> Duration {
        Duration::ZERO
    }
}
