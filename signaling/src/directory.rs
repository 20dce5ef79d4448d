//! Which devices an account has, and their public keys.
//!
//! Decides what stands about a device and how a list of them is named. It is never in the call store: that one knows
//! devices only as parties of calls. Leaves keeping it to a backend ([`embedded`]).

pub mod embedded;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tandem_wire::party::{AccountId, DeviceId, Party};
use tandem_wire::units::Wall;

/// Who holds a device's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Custody {
    /// The device itself.
    #[default]
    Device,
    /// An operator, as with a cloud business API. Peers are told.
    Hosted,
}

/// What stands about a device. Keys and signatures are in base64, as they came.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its public key of Ed25519.
    pub sign: String,
    /// Its public key of X25519.
    pub agree: String,
    /// The number of its signed prekey.
    pub prekey_id: u32,
    /// That prekey.
    pub prekey: String,
    /// The prekey's signature.
    pub prekey_signature: String,
    /// What it can do, in words of the app.
    pub capabilities: Vec<String>,
    /// Who holds its keys.
    pub custody: Custody,
    /// How to wake it. Told to nobody.
    pub push_token: Option<String>,
    /// When it was registered last, in wall milliseconds.
    pub registered: Wall,
}

impl std::fmt::Debug for DeviceRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceRecord {{ custody: {:?} }}", self.custody)
    }
}

/// The devices of an account, in the order of their ids. An account that nobody knows has none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Devices(pub Vec<(DeviceId, DeviceRecord)>);

impl Devices {
    /// A name of this very list: what a caller sealed for is compared by it. 43 characters of base64url.
    #[must_use]
    pub fn list_hash(&self) -> String {
        use base64::Engine as _;
        let mut hash = Sha256::new();
        for (id, device) in &self.0 {
            let custody = match device.custody {
                Custody::Device => "device",
                Custody::Hosted => "hosted",
            };
            let prekey_id = device.prekey_id.to_string();
            let parts = [
                id.as_str(),
                &device.sign,
                &device.agree,
                &prekey_id,
                &device.prekey,
                &device.prekey_signature,
                custody,
            ];
            for part in parts {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash.finalize())
    }

    /// The device with this id.
    #[must_use]
    pub fn find(&self, id: &DeviceId) -> Option<&DeviceRecord> {
        self.0.iter().find(|(other, _)| other == id).map(|(_, device)| device)
    }
}

/// Why the directory did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The account has all the devices that it may have: it removes one first.
    #[error("the account has all the devices that it may have")]
    Full,
    /// The file cannot be read or written now: try again later.
    #[error("the directory is away")]
    Away,
}

/// A directory of devices. What it has answered is durable.
#[async_trait]
pub trait Directory: Send + Sync {
    /// Registers a device, or registers it anew; gives all of the account's.
    ///
    /// # Errors
    /// [`DirectoryError`].
    async fn put(&self, party: &Party, device: DeviceRecord) -> Result<Devices, DirectoryError>;

    /// Removes a device that was not registered anew after `at`; `false` if there was none.
    ///
    /// # Errors
    /// [`DirectoryError::Away`].
    async fn remove(&self, party: &Party, at: Wall) -> Result<bool, DirectoryError>;

    /// The devices of an account.
    ///
    /// # Errors
    /// [`DirectoryError::Away`].
    async fn devices(&self, account: &AccountId) -> Result<Devices, DirectoryError>;
}
