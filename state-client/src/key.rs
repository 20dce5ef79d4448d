//! Keys of the store: which record is meant, and its path.
//!
//! Decides the one spelling of each key (protocol.md, "State"). Ids are of fixed form, so that no key can be the prefix
//! of another's record, and nothing that a client says ever stands in a path (attack E05).

use std::fmt;
use std::str::FromStr;

use tandem_wire::id::{BucketId, CALL_ID_LEN, CallId, LegId, PopId, RelayId};
use tandem_wire::party::{AccountKey, DeviceKey, PairKey};
use tandem_wire::text::Text;

/// What every path starts with.
const ROOT: &str = "tandem/v1/";
/// Characters of the longest path, a blob's: root, PoP, bucket, call, device, number.
const PATH_LEN_MAX: usize = ROOT.len() + 5 + 7 + CALL_ID_LEN + 4 + 32 + 6;

/// A key as a text.
pub type Path = Text<PATH_LEN_MAX>;

/// Names one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The record of a call.
    Call(CallId),
    /// The record of where one of its legs is attached.
    Attachment(CallId, LegId),
    /// A blob of a call for a device, by its number among those.
    Blob(CallId, DeviceKey, u16),
    /// The record of a device that was removed.
    Removal(PopId, DeviceKey),
    /// The record of the call that two accounts have with each other.
    Pair(PopId, PairKey),
    /// A relay's entry in the list of the PoP's relays.
    Relay(PopId, RelayId),
    /// The table of buckets: which relays share them out.
    Table(PopId),
    /// What the directory has about an account: in a store of its own, never in that of the calls.
    Account(PopId, AccountKey),
}

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a record")]
pub struct KeyError;

/// The number of a blob that tells a device of a call that it has missed: followed as [`crate::Kinds::NOTES`].
pub const MISSED: u16 = 0;
/// The number of what the caller has left for that case. It is nobody's until then: neither listed nor followed, only found
/// with its call. In the middle, since versions before there was this number count on from the highest.
pub const NOTE: u16 = 0x7fff;

impl Key {
    /// The call that the record belongs to, if it belongs to one.
    #[must_use]
    pub const fn call(self) -> Option<CallId> {
        match self {
            Self::Call(call) | Self::Attachment(call, _) | Self::Blob(call, ..) => Some(call),
            Self::Removal(..) | Self::Pair(..) | Self::Relay(..) | Self::Table(_) | Self::Account(..) => None,
        }
    }

    /// The PoP that it lives in.
    #[must_use]
    pub const fn pop(self) -> PopId {
        match self {
            Self::Call(call) | Self::Attachment(call, _) | Self::Blob(call, ..) => call.pop(),
            Self::Removal(pop, _)
            | Self::Pair(pop, _)
            | Self::Relay(pop, _)
            | Self::Table(pop)
            | Self::Account(pop, _) => pop,
        }
    }

    /// The path: `tandem/v1/<pop>/b/<bucket>/<call>`, `…/leg/<n>` or `…/to/<device>/<seq>`; `…/b/<bucket>/gone/<device>`;
    /// `tandem/v1/<pop>/pair/<account>/<account>`; `tandem/v1/<pop>/relay/<id>`; `tandem/v1/<pop>/table`;
    /// `tandem/v1/<pop>/account/<account>`.
    #[must_use]
    pub fn path(self) -> Path {
        let mut path = Path::default();
        path.str(ROOT);
        path.hex(self.pop().0.into(), 4);
        path.byte(b'/');
        if let Some(bucket) = self.bucket() {
            path.str("b/");
            path.hex(bucket.0.into(), 4);
            path.byte(b'/');
        }
        match self {
            Self::Call(call) => call.write(&mut path),
            Self::Attachment(call, leg) => {
                call.write(&mut path);
                path.str("/leg/");
                path.decimal(leg.get());
            }
            Self::Blob(call, device, seq) => {
                call.write(&mut path);
                path.str("/to/");
                path.hex(device.bits(), 32);
                path.byte(b'/');
                path.decimal(seq);
            }
            Self::Removal(_, device) => {
                path.str("gone/");
                path.hex(device.bits(), 32);
            }
            Self::Pair(_, pair) => {
                path.str("pair/");
                path.hex(pair.low.bits(), 32);
                path.byte(b'/');
                path.hex(pair.high.bits(), 32);
            }
            Self::Relay(_, relay) => {
                path.str("relay/");
                path.decimal(relay.0);
            }
            Self::Table(_) => path.str("table"),
            Self::Account(_, account) => {
                path.str("account/");
                path.hex(account.bits(), 32);
            }
        }
        path
    }

    /// The bucket that it lives in, and is listed and followed with. A pair is neither: it is only ever asked for. What
    /// the fleet is made of is in none.
    #[must_use]
    pub const fn bucket(self) -> Option<BucketId> {
        match self {
            Self::Call(call) | Self::Attachment(call, _) | Self::Blob(call, ..) => Some(call.bucket()),
            Self::Removal(_, device) => Some(device.bucket()),
            Self::Pair(..) | Self::Relay(..) | Self::Table(_) | Self::Account(..) => None,
        }
    }
}

/// [`Key::path`].
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path().as_str())
    }
}

/// An account: 32 hexadecimal digits, as those of a device are.
fn account(digits: &str) -> Option<AccountKey> {
    digits.parse().ok().map(|key: DeviceKey| AccountKey::from_bits(key.bits()))
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(path: &str) -> Result<Self, KeyError> {
        let rest = path.strip_prefix(ROOT).ok_or(KeyError)?;
        let mut parts = [""; 7];
        let mut count = 0;
        for part in rest.split('/') {
            *parts.get_mut(count).ok_or(KeyError)? = part;
            count += 1;
        }
        let pop = |digits: &str| u16::from_str_radix(digits, 16).map(PopId).map_err(|_| KeyError);
        let call = |text: &str| text.parse::<CallId>().map_err(|_| KeyError);
        let device = |text: &str| text.parse::<DeviceKey>().map_err(|_| KeyError);
        let key = match *parts.get(..count).ok_or(KeyError)? {
            [_, "b", _, "gone", of] => Self::Removal(pop(rest.get(..4).ok_or(KeyError)?)?, device(of)?),
            [_, "b", _, id] => Self::Call(call(id)?),
            [_, "b", _, id, "leg", leg] => {
                let leg = leg.parse().ok().and_then(|n| LegId::new(n).ok()).ok_or(KeyError)?;
                Self::Attachment(call(id)?, leg)
            }
            [_, "b", _, id, "to", of, seq] => Self::Blob(call(id)?, device(of)?, seq.parse().map_err(|_| KeyError)?),
            [digits, "relay", relay] => Self::Relay(pop(digits)?, RelayId(relay.parse().map_err(|_| KeyError)?)),
            [digits, "table"] => Self::Table(pop(digits)?),
            [digits, "account", of] => Self::Account(pop(digits)?, account(of).ok_or(KeyError)?),
            [digits, "pair", low, high] => {
                let (low, high) = (account(low).ok_or(KeyError)?, account(high).ok_or(KeyError)?);
                if low > high {
                    return Err(KeyError);
                }
                Self::Pair(pop(digits)?, PairKey { low, high })
            }
            _ => return Err(KeyError),
        };
        // One key, one spelling: PoP and bucket must be the call's own, and a leg has no leading zeros or signs.
        if key.path().as_str() == path { Ok(key) } else { Err(KeyError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> CallId {
        CallId::new(PopId(1), BucketId(0xabcd), 7)
    }

    fn device() -> DeviceKey {
        DeviceKey::from_bits(0xbeef << 112 | 5)
    }

    fn pair() -> PairKey {
        PairKey { low: AccountKey::from_bits(1), high: AccountKey::from_bits(0xff) }
    }

    #[test]
    fn keys_have_these_golden_paths() {
        let path = Key::Call(call()).to_string();
        assert_eq!(path, format!("tandem/v1/0001/b/abcd/{}", call()));
        let leg = LegId::new(12).unwrap();
        assert_eq!(Key::Attachment(call(), leg).to_string(), format!("{path}/leg/12"));
        let to = "beef0000000000000000000000000005";
        assert_eq!(Key::Blob(call(), device(), 3).to_string(), format!("{path}/to/{to}/3"));
        assert_eq!(Key::Removal(PopId(1), device()).to_string(), format!("tandem/v1/0001/b/beef/gone/{to}"));
        let (low, high) = ("0".repeat(31) + "1", "0".repeat(30) + "ff");
        assert_eq!(Key::Pair(PopId(1), pair()).to_string(), format!("tandem/v1/0001/pair/{low}/{high}"));
        assert_eq!(Key::Relay(PopId(1), RelayId(12)).to_string(), "tandem/v1/0001/relay/12");
        assert_eq!(Key::Table(PopId(0xa)).to_string(), "tandem/v1/000a/table");
        let account = Key::Account(PopId(1), AccountKey::from_bits(0xff)).to_string();
        assert_eq!(account, format!("tandem/v1/0001/account/{high}"));
    }

    #[test]
    fn a_key_survives_its_path() {
        let keys = [
            Key::Call(call()),
            Key::Attachment(call(), LegId::new(64_000).unwrap()),
            Key::Blob(call(), device(), 0),
            Key::Blob(call(), device(), u16::MAX),
            Key::Removal(PopId(1), device()),
            Key::Pair(PopId(1), pair()),
            Key::Relay(PopId(1), RelayId(u16::MAX)),
            Key::Table(PopId(u16::MAX)),
            Key::Account(PopId(1), AccountKey::from_bits(u128::MAX)),
        ];
        for key in keys {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn no_other_spelling_is_a_key() {
        let good = Key::Attachment(call(), LegId::new(12).unwrap()).to_string();
        let blob = Key::Blob(call(), device(), 3).to_string();
        let removal = Key::Removal(PopId(1), device()).to_string();
        let couple = Key::Pair(PopId(1), pair()).to_string();
        for bad in [
            blob.replace("/3", "/03"),
            blob.replace("/3", "/65536"),
            blob.replace("/3", ""),
            blob.replace("beef", "BEEF"),
            removal.replace("/b/beef/", "/b/beee/"),
            removal.replace("/0001/", "/+001/"),
            couple.replace("ff", "00"),
            "tandem/v1/0001/relay/01".to_owned(),
            "tandem/v1/0001/relay/65536".to_owned(),
            "tandem/v1/0001/relay/".to_owned(),
            "tandem/v1/001/table".to_owned(),
            "tandem/v1/0001/table/".to_owned(),
            couple.replace("pair", "pairs"),
            format!("{couple}/x"),
            String::new(),
            "tandem/v1/".to_owned(),
            good.replace("/0001/", "/0002/"),
            good.replace("/abcd/", "/ABCD/"),
            good.replace("/abcd/", "/abce/"),
            good.replace("leg/12", "leg/012"),
            good.replace("leg/12", "leg/+12"),
            good.replace("leg/12", "leg/0"),
            good.replace("leg/12", "leg/64001"),
            good.replace("leg/12", "leg/12/"),
            good.replace("leg/12", "leg/../x"),
            good.replace("leg/12", "leg/1\0"),
            good.replace("v1", "v2"),
            format!("/{good}"),
            format!("{good}/leg/1"),
        ] {
            assert_eq!(bad.parse::<Key>(), Err(KeyError), "{bad}");
        }
    }
}
