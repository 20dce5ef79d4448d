//! The list of an account's devices, as a server passes it on.
//!
//! Decides what must hold before a key in it is used (docs/sealing.md, "Who vouches for a device"): all of it, or none of it
//! is believed. Leaves whether the root is the one that was seen before to the keyring.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tandem_wire::party::{AccountId, DeviceId, Party};
use tandem_wire::statement;

use crate::keys::{Key, Prekey, PublicKeys, verify};
use crate::{SealError, join_code};

/// Who holds a device's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Custody {
    /// The device itself.
    #[default]
    Device,
    /// An operator.
    Hosted,
}

impl Custody {
    const fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Hosted => "hosted",
        }
    }
}

#[derive(Clone, Deserialize)]
struct IdentityView {
    sign: String,
    agree: String,
}

#[derive(Clone, Deserialize)]
struct PrekeyView {
    id: u32,
    key: String,
    signature: String,
}

#[derive(Clone, Deserialize)]
struct DeviceView {
    device: DeviceId,
    identity: IdentityView,
    signed_prekey: PrekeyView,
    #[serde(default)]
    custody: Custody,
    #[serde(default)]
    endorsement: Option<String>,
}

/// The answer of `GET /v1/accounts/{account}/devices`. Nothing of it is believed yet.
#[derive(Clone, Deserialize)]
pub struct DeviceList {
    account: AccountId,
    #[serde(default)]
    root: Option<String>,
    list_hash: String,
    devices: Vec<DeviceView>,
    #[serde(default)]
    pending: Vec<DeviceView>,
}

impl std::fmt::Debug for DeviceList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "list of {} devices", self.devices.len())
    }
}

/// A device that its account's first device vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDevice {
    /// Which.
    pub party: Party,
    /// Its keys.
    pub keys: PublicKeys,
    /// Who holds their secrets.
    pub custody: Custody,
}

impl ListedDevice {
    /// 20 digits, for a person to compare with what the device itself shows before it is let in.
    #[must_use]
    pub fn join_code(&self) -> String {
        join_code(&self.party, &self.keys.sign, &self.keys.agree)
    }
}

/// A list that was believed.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The account's devices.
    pub devices: Vec<ListedDevice>,
    /// Those that were not there when the account was seen before: the person is told of them.
    pub new: Vec<DeviceId>,
}

impl Checked {
    /// A device of the list.
    ///
    /// # Errors
    /// [`SealError::BadDeviceList`]: it is not in it.
    pub fn find(&self, device: &DeviceId) -> Result<&ListedDevice, SealError> {
        self.devices.iter().find(|listed| listed.party.device == *device).ok_or(SealError::BadDeviceList)
    }
}

/// A list that holds.
pub(crate) struct Verified {
    pub(crate) root: Key,
    pub(crate) devices: Vec<ListedDevice>,
}

fn bytes<const N: usize>(text: &str) -> Result<[u8; N], SealError> {
    STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(SealError::BadDeviceList)
}

impl DeviceList {
    /// Whose devices these are said to be.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        &self.account
    }

    /// Whether nobody is there to be called: an account that nobody knows has no devices, and no root.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    pub(crate) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        text(self.root.as_deref().unwrap_or_default());
        let mut devices: Vec<&DeviceView> = self.devices.iter().collect();
        devices.sort_by(|a, b| a.device.cmp(&b.device));
        for device in devices {
            let DeviceView { device, identity, signed_prekey, custody, endorsement } = device;
            text(device.as_str());
            text(&identity.sign);
            text(&identity.agree);
            text(&signed_prekey.id.to_string());
            text(&signed_prekey.key);
            text(&signed_prekey.signature);
            text(custody.word());
            text(endorsement.as_deref().unwrap_or_default());
        }
        URL_SAFE_NO_PAD.encode(hash.finalize())
    }

    /// The whole list, if all of it holds.
    pub(crate) fn verify(&self, account: &AccountId) -> Result<Verified, SealError> {
        let ids: BTreeSet<&DeviceId> = self.devices.iter().map(|view| &view.device).collect();
        if self.account != *account || ids.len() < self.devices.len() || self.hash() != self.list_hash {
            return Err(SealError::BadDeviceList);
        }
        let root = bytes(self.root.as_deref().ok_or(SealError::BadDeviceList)?)?;
        let endorsed = |view: &DeviceView| {
            let listed = self.listed(view)?;
            let endorsement = view.endorsement.as_deref().ok_or(SealError::BadDeviceList)?;
            let PublicKeys { sign, agree, .. } = &listed.keys;
            let said = statement::device(&listed.party, sign, agree, listed.custody == Custody::Hosted);
            verify(&root, &said, &bytes(endorsement)?)?;
            Ok(listed)
        };
        Ok(Verified { root, devices: self.devices.iter().map(endorsed).collect::<Result<_, SealError>>()? })
    }

    /// A device with a prekey that it signed itself.
    fn listed(&self, view: &DeviceView) -> Result<ListedDevice, SealError> {
        let DeviceView { device, identity, signed_prekey: PrekeyView { id, key, signature }, custody, .. } = view;
        let party = Party { account: self.account.clone(), device: device.clone() };
        let prekey = Prekey { id: *id, key: bytes(key)?, signature: bytes(signature)? };
        let keys = PublicKeys { sign: bytes(&identity.sign)?, agree: bytes(&identity.agree)?, prekey };
        verify(&keys.sign, &statement::prekey(&party, prekey.id, &prekey.key), &prekey.signature)?;
        Ok(ListedDevice { party, keys, custody: *custody })
    }

    /// The devices of one's own account that wait for its first device's endorsement. One that has not signed its own
    /// prekey is not among them: nobody could call it.
    #[must_use]
    pub fn pending(&self) -> Vec<ListedDevice> {
        self.pending.iter().filter_map(|view| self.listed(view).ok()).collect()
    }
}
