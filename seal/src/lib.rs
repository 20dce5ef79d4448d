//! What two devices keep from the servers between them (docs/sealing.md).
//!
//! Decides which bytes a sealed blob has, who vouches for a device, and what is refused. Leaves to the app how blobs travel and
//! what it says to its person. No server links this crate: it is the only one that can open what devices seal.
//!
//! [`Keyring`] is what an app uses: it holds a device's keys and what it remembers of others, and keeps both in a [`Store`].

mod blob;
mod clear;
mod keyring;
mod keys;
mod list;
mod safety;
mod session;
mod store;

pub use keyring::{Keyring, KeyringError, Opening};
pub use keys::{Prekey, PublicKeys, Registration};
pub use list::{Checked, Custody, DeviceList, ListedDevice};
pub use safety::{join_code, safety_number};
pub use store::{FileStore, MemoryStore, Store};

/// Bytes of one sealed blob (docs/api.md).
pub const SEALED_BYTES: usize = 8 << 10;

/// Why something was not sealed, opened or believed. The names are those of docs/sealing.md, "What is refused".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SealError {
    /// No blob, cut short, of another version, or with a bad clear text; or it would be over 8 KiB.
    #[error("malformed")]
    Malformed,
    /// Sealed to a prekey that this device does not have.
    #[error("unknown_prekey")]
    UnknownPrekey,
    /// It does not open: not from that device, not for this one, of another call, or changed on the way.
    #[error("forged")]
    Forged,
    /// A sequence number again or out of order; an offer that came with another call before.
    #[error("replayed")]
    Replayed,
    /// There is no session with that device in this call.
    #[error("no_session")]
    NoSession,
    /// The hash of the list, an endorsement or the signature of a prekey does not hold; or the device is not in it.
    #[error("bad_device_list")]
    BadDeviceList,
    /// The root of the account is not the one that this device knows, and nobody has confirmed it.
    #[error("identity_changed")]
    IdentityChanged,
    /// What must be kept could not be kept, so it was not done.
    #[error("not_kept")]
    NotKept,
    /// The system gives no random numbers.
    #[error("no_randomness")]
    Randomness,
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SealError::Randomness)?;
    Ok(bytes)
}
