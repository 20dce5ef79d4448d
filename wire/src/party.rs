//! Who takes part: an account, one of its devices, and the name of fixed length that both have in the store.
//!
//! Decides which texts are ids and that they do not print themselves (attacks X02, X03). Leaves who may call whom to
//! signaling. An id is checked once, where it comes in; what has the type is good.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::id::BucketId;
use crate::text::from_hex;

/// An account id has at most this many characters.
pub const ACCOUNT_LEN_MAX: usize = 64;
/// What every device id begins with.
const DEVICE_PREFIX: &str = "dev_";
/// A device id has at most this many characters, its prefix among them.
pub const DEVICE_LEN_MAX: usize = 64;

/// A text that is no id. It is not repeated: it came from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartyError {
    /// Not an account id.
    #[error("an account id is 1 to {ACCOUNT_LEN_MAX} of A-Z a-z 0-9 _ - . @ : +, and neither . nor ..")]
    Account,
    /// Not a device id.
    #[error("a device id is dev_ and 1 to 60 of A-Z a-z 0-9 _ -")]
    Device,
    /// Not the key of a device.
    #[error("a device key is 32 hexadecimal digits")]
    Key,
}

/// Declares an id that is a checked text.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $error:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = PartyError;

            fn from_str(text: &str) -> Result<Self, PartyError> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err($error) }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($kind, "[…]"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

text_id!(
    /// A person's account, as the operator's app names it. It prints as `account[…]`.
    AccountId,
    "account",
    PartyError::Account,
    |text| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_-.@:+".contains(&b);
        (1..=ACCOUNT_LEN_MAX).contains(&text.len()) && text.bytes().all(good) && !matches!(text, "." | "..")
    }
);

text_id!(
    /// One device of an account. It prints as `device[…]`.
    DeviceId,
    "device",
    PartyError::Device,
    |text| {
        let rest = text.strip_prefix(DEVICE_PREFIX).unwrap_or_default();
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        text.len() <= DEVICE_LEN_MAX && !rest.is_empty() && rest.bytes().all(good)
    }
);

/// A device of an account: the same device id under another account is another party. In records it is written
/// `account/device`: no account has a `/` in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
}

impl Party {
    /// The name of this device in the store.
    #[must_use]
    pub fn key(&self) -> DeviceKey {
        DeviceKey(digest(&[b"device", self.account.as_str().as_bytes(), self.device.as_str().as_bytes()]))
    }
}

impl Serialize for Party {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.account.as_str(), self.device.as_str()))
    }
}

impl<'de> Deserialize<'de> for Party {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (account, device) = text.split_once('/').ok_or_else(|| de::Error::custom(PartyError::Device))?;
        let account = account.parse().map_err(de::Error::custom)?;
        Ok(Self { account, device: device.parse().map_err(de::Error::custom)? })
    }
}

/// The name of a device in the store: of fixed length, so that nothing a client says stands in a path (attack E05).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(u128);

impl DeviceKey {
    /// From its bits: all of them are keys.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The bucket in which what concerns the device and no call is kept: the first 16 bits, which are as good as random.
    #[must_use]
    pub const fn bucket(self) -> BucketId {
        let [high, low, ..] = self.0.to_be_bytes();
        BucketId(u16::from_be_bytes([high, low]))
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("device-key[…]")
    }
}

impl FromStr for DeviceKey {
    type Err = PartyError;

    fn from_str(text: &str) -> Result<Self, PartyError> {
        let bits = if text.len() == 32 { from_hex(text.as_bytes()) } else { None };
        bits.map(Self).ok_or(PartyError::Key)
    }
}

/// Names two accounts, whichever comes first: who calls whom at the same time meets here (glare).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairKey {
    /// The key of the account that sorts first.
    pub low: AccountKey,
    /// The key of the other.
    pub high: AccountKey,
}

/// The name of an account in the store, of fixed length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey(u128);

impl AccountKey {
    /// From its bits: all of them are keys.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("account-key[…]")
    }
}

impl AccountId {
    /// The name of this account in the store.
    #[must_use]
    pub fn key(&self) -> AccountKey {
        AccountKey(digest(&[b"account", self.as_str().as_bytes()]))
    }
}

impl PairKey {
    /// Of two accounts, in either order.
    #[must_use]
    pub fn new(one: &AccountId, other: &AccountId) -> Self {
        let (one, other) = (one.key(), other.key());
        Self { low: one.min(other), high: one.max(other) }
    }
}

/// The first 128 bits of SHA-256 over the parts, each with its length in front, so that no two lists of parts are alike.
fn digest(parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.iter().take(16).fold(0, |bits, byte| (bits << 8) | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(account: &str, device: &str) -> Party {
        Party { account: account.parse().unwrap(), device: device.parse().unwrap() }
    }

    #[test]
    fn texts_that_are_no_ids_are_refused() {
        let long = "a".repeat(65);
        for text in ["", ".", "..", "a/b", "a b", "a\0", "a\u{1b}[1m", "ä", "a%", "a\"", "a\n", &long] {
            assert_eq!(text.parse::<AccountId>(), Err(PartyError::Account), "{text:?}");
        }
        let long = format!("dev_{}", "a".repeat(61));
        for text in ["", "dev_", "dev", "DEV_a", "dev_a/b", "dev_..", "dev_a.b", "dev_\0", "dev_ä", &long] {
            assert_eq!(text.parse::<DeviceId>(), Err(PartyError::Device), "{text:?}");
        }
        for text in ["a", "alice@example.org", "+31:6-1_2", "...", &"a".repeat(64)] {
            assert_eq!(text.parse::<AccountId>().unwrap().as_str(), text);
        }
        assert_eq!("dev_A-z_9".parse::<DeviceId>().unwrap().as_str(), "dev_A-z_9");
    }

    #[test]
    fn the_keys_of_a_device_and_a_pair_have_these_golden_digits() {
        assert_eq!(party("alice", "dev_1").key().to_string(), "6238271ebe926b0aefc607bf0cc84351");
        let pair = PairKey::new(&"alice".parse().unwrap(), &"bob".parse().unwrap());
        assert_eq!(pair, PairKey::new(&"bob".parse().unwrap(), &"alice".parse().unwrap()));
        assert!(pair.low < pair.high);
    }

    #[test]
    fn parties_do_not_share_a_key_by_moving_a_character() {
        assert_ne!(party("ab", "dev_c").key(), party("a", "dev_bc").key());
        assert_ne!(party("a", "dev_c").key(), party("b", "dev_c").key());
    }

    #[test]
    fn neither_accounts_nor_devices_print_themselves() {
        let party = party("canary-account", "dev_canary");
        let printed = format!("{party:?} {:?} {:?}", party.key(), party.account.key());
        assert!(!printed.contains("canary") && !printed.contains(&party.key().to_string()), "{printed}");
    }

    #[test]
    fn a_party_survives_its_record() {
        let party = party("alice@example.org", "dev_1");
        let json = serde_json::to_string(&party).unwrap();
        assert_eq!(json, "\"alice@example.org/dev_1\"");
        assert_eq!(serde_json::from_str::<Party>(&json).unwrap(), party);
        for bad in ["\"alice\"", "\"a/b/dev_1\"", "\"alice/dev_\"", "\"/dev_1\"", "7"] {
            assert!(serde_json::from_str::<Party>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_key_survives_its_text_and_no_other_text_is_one() {
        let key = party("alice", "dev_1").key();
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "00", &key.to_string().to_uppercase(), &format!("+{}", &key.to_string()[1..])] {
            assert_eq!(text.parse::<DeviceKey>(), Err(PartyError::Key), "{text}");
        }
    }
}
