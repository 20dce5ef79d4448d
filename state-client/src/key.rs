//! Keys of the store: which record is meant, and its path.
//!
//! Decides the one spelling of each key (protocol.md, "State"). Ids are of fixed form, so that no key can be the prefix
//! of another's record, and nothing that a client says ever stands in a path (attack E05).

use std::fmt;
use std::str::FromStr;

use tandem_wire::id::{BucketId, CallId, LegId, PopId};

/// What every path starts with.
const ROOT: &str = "tandem/v1/";

/// Names one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The record of a call.
    Call(CallId),
    /// The record of where one of its legs is attached.
    Attachment(CallId, LegId),
}

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a record")]
pub struct KeyError;

impl Key {
    /// The call that the record belongs to.
    #[must_use]
    pub const fn call(self) -> CallId {
        match self {
            Self::Call(call) | Self::Attachment(call, _) => call,
        }
    }

    /// The PoP that it lives in.
    #[must_use]
    pub const fn pop(self) -> PopId {
        self.call().pop()
    }

    /// The bucket that it lives in.
    #[must_use]
    pub const fn bucket(self) -> BucketId {
        self.call().bucket()
    }
}

/// The path: `tandem/v1/<pop>/b/<bucket>/<call>` or `…/leg/<n>`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}{:04x}/b/{:04x}/{}", self.pop().0, self.bucket().0, self.call())?;
        match self {
            Self::Call(_) => Ok(()),
            Self::Attachment(_, leg) => write!(f, "/leg/{leg}"),
        }
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(path: &str) -> Result<Self, KeyError> {
        let rest = path.strip_prefix(ROOT).ok_or(KeyError)?;
        let mut parts = rest.split('/');
        let (Some(_pop), Some("b"), Some(_bucket), Some(call)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyError);
        };
        let call: CallId = call.parse().map_err(|_| KeyError)?;
        let key = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => Self::Call(call),
            (Some("leg"), Some(leg), None) => {
                let leg = leg.parse().ok().and_then(|n| LegId::new(n).ok()).ok_or(KeyError)?;
                Self::Attachment(call, leg)
            }
            _ => return Err(KeyError),
        };
        // One key, one spelling: PoP and bucket must be the call's own, and a leg has no leading zeros or signs.
        if key.to_string() == path { Ok(key) } else { Err(KeyError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> CallId {
        CallId::new(PopId(1), BucketId(0xabcd), 7)
    }

    #[test]
    fn keys_have_these_golden_paths() {
        let path = Key::Call(call()).to_string();
        assert_eq!(path, format!("tandem/v1/0001/b/abcd/{}", call()));
        let leg = LegId::new(12).unwrap();
        assert_eq!(Key::Attachment(call(), leg).to_string(), format!("{path}/leg/12"));
    }

    #[test]
    fn a_key_survives_its_path() {
        for key in [Key::Call(call()), Key::Attachment(call(), LegId::new(64_000).unwrap())] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn no_other_spelling_is_a_key() {
        let good = Key::Attachment(call(), LegId::new(12).unwrap()).to_string();
        for bad in [
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
