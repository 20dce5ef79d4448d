//! What stands in requests and answers about devices and relays, word for word as docs/api.md says.

use serde::{Deserialize, Serialize};
use tandem_wire::party::DeviceId;
use utoipa::ToSchema;

use crate::directory::{Custody, DeviceRecord};

/// The public keys that name a device. Base64 of 32 bytes each.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// Ed25519.
    #[schema(example = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")]
    pub(super) sign: String,
    /// X25519.
    #[schema(example = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=")]
    pub(super) agree: String,
}

/// A key to seal to, signed by the device.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignedPrekey {
    /// Its number.
    pub(super) id: u32,
    /// Base64 of 32 bytes.
    #[schema(example = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=")]
    pub(super) key: String,
    /// Base64 of 64 bytes.
    #[schema(example = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==")]
    pub(super) signature: String,
}

/// Who holds a device's keys.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CustodyWord {
    /// The device itself.
    #[default]
    Device,
    /// An operator.
    Hosted,
}

impl From<CustodyWord> for Custody {
    fn from(word: CustodyWord) -> Self {
        match word {
            CustodyWord::Device => Self::Device,
            CustodyWord::Hosted => Self::Hosted,
        }
    }
}

impl From<Custody> for CustodyWord {
    fn from(custody: Custody) -> Self {
        match custody {
            Custody::Device => Self::Device,
            Custody::Hosted => Self::Hosted,
        }
    }
}

/// Registers a device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    pub(super) identity: Identity,
    pub(super) signed_prekey: SignedPrekey,
    /// How to wake it.
    #[serde(default)]
    pub(super) push_token: Option<String>,
    /// What it can do, up to 16 words.
    #[serde(default)]
    pub(super) capabilities: Vec<String>,
    #[serde(default)]
    pub(super) custody: CustodyWord,
    /// The root's signature that the device is one of the account's: base64 of 64 bytes. The first device endorses itself.
    #[serde(default)]
    #[schema(example = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==")]
    pub(super) endorsement: Option<String>,
}

/// Vouches for a device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Endorse {
    /// The root's signature that the device is one of the account's: base64 of 64 bytes.
    #[schema(example = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==")]
    pub(super) endorsement: String,
}

/// A device that was registered.
#[derive(Serialize, ToSchema)]
pub(super) struct Registered {
    pub(super) device: String,
    pub(super) account: String,
    /// Names the account's list of devices as it is now.
    pub(super) list_hash: String,
    /// Whether the account's root vouches for it. If not, and there is a root, it is pending: it calls nobody and does not
    /// ring.
    pub(super) endorsed: bool,
}

/// A device, as those see it who want to call it.
#[derive(Serialize, ToSchema)]
pub(super) struct Device {
    pub(super) device: String,
    pub(super) identity: Identity,
    pub(super) signed_prekey: SignedPrekey,
    pub(super) capabilities: Vec<String>,
    pub(super) custody: CustodyWord,
    /// The root's signature that it is one of the account's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endorsement: Option<String>,
}

impl Device {
    pub(super) fn new((id, record): (DeviceId, DeviceRecord)) -> Self {
        let DeviceRecord { sign, agree, prekey_id, prekey, prekey_signature, .. } = record;
        let DeviceRecord { capabilities, custody, endorsement, .. } = record;
        Self {
            device: id.as_str().to_owned(),
            identity: Identity { sign, agree },
            signed_prekey: SignedPrekey { id: prekey_id, key: prekey, signature: prekey_signature },
            capabilities,
            custody: custody.into(),
            endorsement,
        }
    }
}

/// The devices of an account.
#[derive(Serialize, ToSchema)]
pub(super) struct DeviceList {
    pub(super) account: String,
    /// The key that vouches for the devices: base64 of 32 bytes. Without one nobody vouches for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<String>,
    /// Names the root and `devices`.
    pub(super) list_hash: String,
    /// Those that call and ring.
    pub(super) devices: Vec<Device>,
    /// Those that the root has not vouched for yet: told to their own account only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<Vec<Device>>,
}

/// A PoP whose relays can be probed.
#[derive(Serialize, ToSchema)]
pub(super) struct Relay {
    #[schema(example = "pop_0001")]
    pub(super) pop: String,
    /// Where to send a STUN Binding request.
    #[schema(example = "stun:203.0.113.7:3478")]
    pub(super) stun: String,
    /// Whether it is only for when the others are gone.
    pub(super) reserve: bool,
}

/// A list in pages.
#[derive(Serialize, ToSchema)]
pub(super) struct RelayList {
    pub(super) items: Vec<Relay>,
    pub(super) next_cursor: Option<String>,
}
