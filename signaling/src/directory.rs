//! Which devices an account has, and their public keys.
//!
//! Decides what stands about a device and how a list of them is named. It is never in the call store: that one knows
//! devices only as parties of calls. Leaves to [`account`] which devices are listed, and keeping it to a backend
//! ([`embedded`], one process; [`stored`], any number).

pub mod account;
pub mod embedded;
mod endorsement;
pub mod stored;

use std::sync::Arc;

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
    /// The root's signature that it is one of the account's. In a registration: what is offered as such. In the
    /// directory: one that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement: Option<String>,
}

impl std::fmt::Debug for DeviceRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceRecord {{ custody: {:?} }}", self.custody)
    }
}

/// The devices of an account, in the order of their ids. An account that nobody knows has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Devices {
    /// The public key of Ed25519 that vouches for the account's devices, if one does.
    pub root: Option<String>,
    /// Those that call and ring.
    pub listed: Vec<(DeviceId, DeviceRecord)>,
    /// Those that the root has not vouched for yet. They are told to their own account only.
    pub pending: Vec<(DeviceId, DeviceRecord)>,
}

impl Devices {
    /// A name of this very list: what a caller sealed for is compared by it. 43 characters of base64url.
    #[must_use]
    pub fn list_hash(&self) -> String {
        use base64::Engine as _;
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(self.root.as_deref().unwrap_or_default());
        for (id, device) in &self.listed {
            let custody = match device.custody {
                Custody::Device => "device",
                Custody::Hosted => "hosted",
            };
            let parts = [
                id.as_str(),
                &device.sign,
                &device.agree,
                &device.prekey_id.to_string(),
                &device.prekey,
                &device.prekey_signature,
                custody,
                device.endorsement.as_deref().unwrap_or_default(),
            ];
            parts.into_iter().for_each(&mut add);
        }
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash.finalize())
    }

    /// The listed device with this id.
    #[must_use]
    pub fn find(&self, id: &DeviceId) -> Option<&DeviceRecord> {
        self.listed.iter().find(|(other, _)| other == id).map(|(_, device)| device)
    }

    /// Whether a device with this id is registered, listed or pending.
    #[must_use]
    pub fn is_registered(&self, id: &DeviceId) -> bool {
        self.listed.iter().chain(&self.pending).any(|(other, _)| other == id)
    }
}

/// Why the directory did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The account has all the devices that it may have: it removes one first.
    #[error("the account has all the devices that it may have")]
    Full,
    /// The account has no such device.
    #[error("the account has no such device")]
    Unknown,
    /// The account's root did not sign that, or the account has none.
    #[error("the account's root did not sign that")]
    NotEndorsed,
    /// The file cannot be read or written now: try again later.
    #[error("the directory is away")]
    Away,
}

/// A directory of devices. What it has answered is durable.
#[async_trait]
pub trait Directory: Send + Sync {
    /// Registers a device, or registers it anew, with the endorsement that it offers; gives all of the account's.
    ///
    /// # Errors
    /// [`DirectoryError::Full`], [`DirectoryError::Away`].
    async fn put(&self, party: &Party, device: DeviceRecord) -> Result<Devices, DirectoryError>;

    /// Sets the root's endorsement (base64 of 64 bytes) of a device that is registered.
    ///
    /// # Errors
    /// [`DirectoryError::Unknown`], [`DirectoryError::NotEndorsed`], [`DirectoryError::Away`].
    async fn endorse(&self, party: &Party, endorsement: String) -> Result<(), DirectoryError>;

    /// Removes a device that was not registered anew after `at`; `false` if there was none.
    ///
    /// # Errors
    /// [`DirectoryError::Away`].
    async fn remove(&self, party: &Party, at: Wall) -> Result<bool, DirectoryError>;

    /// The devices of an account.
    ///
    /// # Errors
    /// [`DirectoryError::Away`].
    async fn devices(&self, account: &AccountId) -> Result<Arc<Devices>, DirectoryError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(n: u8, prekey_id: u32, custody: Custody, endorsement: Option<&str>) -> (DeviceId, DeviceRecord) {
        let record = DeviceRecord {
            sign: format!("s{n}"),
            agree: format!("a{n}"),
            prekey_id,
            prekey: format!("p{n}"),
            prekey_signature: format!("x{n}"),
            capabilities: vec!["not in the hash".to_owned()],
            custody,
            push_token: None,
            registered: Wall::from_millis(1),
            endorsement: endorsement.map(str::to_owned),
        };
        (format!("dev_{n}").parse().unwrap(), record)
    }

    /// The digests were made with Python's hashlib from the words of docs/sealing.md.
    #[test]
    fn lists_have_these_golden_hashes() {
        assert_eq!(Devices::default().list_hash(), "r1Vw9aGBC3r3jK9LxwpmDw31HkK6-R1N5bIyjeDoPfw");
        let mut devices =
            Devices { root: None, listed: vec![device(1, 5, Custody::Device, None)], pending: Vec::new() };
        assert_eq!(devices.list_hash(), "-VLlxr9ViMo9agZI1f9SvgoW5AwFqret8-QaxMg0XL8");
        devices.root = Some("root".to_owned());
        devices.listed =
            vec![device(1, 5, Custody::Device, Some("e1")), device(2, 4_294_967_295, Custody::Hosted, Some("e2"))];
        let golden = "ldRxS8_dBtfAe5n5pOVG4upzXe3SU59pSF8qjY9ES6U";
        assert_eq!(devices.list_hash(), golden);
        devices.pending.push(device(3, 1, Custody::Device, None));
        assert_eq!(devices.list_hash(), golden, "what is pending is in no list");
    }
}
