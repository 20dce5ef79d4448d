//! What hides from the servers what two devices say to each other.
//!
//! Decides the seam: one blob for one device. Leaves the cryptography to whoever implements [`Sealing`]; the one that is
//! here hides nothing and is for development.

use tandem_wire::party::Party;

use crate::keys::PublicKeys;

/// Why something was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no key for the other device.
    #[error("there is no key for the device")]
    NoKey,
    /// It was not sealed for this device, or not by that one.
    #[error("it cannot be opened")]
    Forged,
}

/// Whom something is sealed for.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// The device.
    pub party: &'a Party,
    /// Its keys, where they have just been read: when a call is placed.
    pub keys: Option<&'a PublicKeys>,
}

/// Seals for one device, and opens what another one sealed. Called from async tasks: it may compute, but not wait.
pub trait Sealing: Send + Sync + 'static {
    /// Seals `clear`. The result has at most [`crate::limits::SEALED_BYTES`].
    ///
    /// # Errors
    /// [`SealError::NoKey`].
    fn seal(&self, to: Recipient<'_>, clear: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what `from` sealed for us.
    ///
    /// # Errors
    /// [`SealError`]: it is dropped then.
    fn open(&self, from: &Party, sealed: &[u8]) -> Result<Vec<u8>, SealError>;
}

/// Hides nothing: for development, until there are sessions between devices.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClearSealing;

impl Sealing for ClearSealing {
    fn seal(&self, _: Recipient<'_>, clear: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(clear.to_vec())
    }

    fn open(&self, _: &Party, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(sealed.to_vec())
    }
}
