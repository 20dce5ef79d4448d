//! What makes commands durable.
//!
//! Decides the contract of a backend. `embedded` is one; etcd will be another. Leaves reading to the cache: a backend is
//! read once, when it is opened (or opened again after it failed).

use tandem_state_client::{Command, Listing, Revision, StoreError};

/// Why a backend cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the store is in use by another process")]
    InUse,
    /// Written by a newer version of Tandem.
    #[error("the store has format {found}, this process knows up to {known}: upgrade it first")]
    Newer {
        /// The format that stands in it.
        found: u64,
        /// The format that this process knows.
        known: u64,
    },
    /// It belongs to another PoP.
    #[error("the store belongs to another PoP ({found:04x})")]
    OtherPop {
        /// The PoP that stands in it.
        found: u64,
    },
    /// It is there, and is not a store, or is damaged.
    #[error("the store cannot be read: {0}")]
    Damaged(String),
    /// The system does not let us.
    #[error("the store cannot be opened: {0}")]
    System(std::io::Error),
}

/// A backend that could not write. What it was writing may or may not be durable: it is to be opened again, and read.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot write: {0}")]
pub struct WriteError(pub String);

/// What makes commands durable.
pub trait Backend: Send + 'static {
    /// Everything that is stored; opens it again if it has failed.
    ///
    /// # Errors
    /// [`OpenError`].
    fn read_all(&mut self) -> Result<Listing, OpenError>;

    /// Does these commands in their order, each alone: a stale one is refused and does not hinder the others. All that
    /// are not refused are durable when this returns.
    ///
    /// # Errors
    /// [`WriteError`]: nothing is known of any of them.
    fn commit(&mut self, commands: &[Command]) -> Result<Vec<Result<Revision, StoreError>>, WriteError>;

    /// How many commands it likes at a time.
    fn batch_max(&self) -> usize;
}
