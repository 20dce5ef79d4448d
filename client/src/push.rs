//! What the router tells a device (docs/api.md, "The device's connection").
//!
//! Decides how a push is read. A type that is not known, or a push that lacks what its type has, is skipped: a later version
//! may say more.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tandem_wire::id::{CallId, LegId};
use tandem_wire::party::{AccountId, DeviceId, Party};
use tandem_wire::redact::Secret;

use crate::api::{Media, PartyView};
use crate::error::Reason;

/// One thing that a device is told about a call.
#[derive(Debug, Clone)]
pub struct Push {
    /// The call.
    pub call: CallId,
    /// Of the call's record: pushes of one call come in this order.
    pub revision: u64,
    /// How long ago it happened, in milliseconds.
    pub age_ms: u64,
    /// What it is.
    pub what: What,
}

/// A blob that was sealed for the device, and its name.
#[derive(Clone)]
pub struct Blob {
    /// What it is acknowledged by.
    pub id: String,
    /// The sealed bytes. A note of a missed call may have none.
    pub sealed: Option<Secret>,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blob[…]")
    }
}

/// What a device is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum What {
    /// It rings.
    Offer {
        /// The caller.
        from: Party,
        /// What the caller wants to send.
        media: Media,
        /// How much longer it rings, in milliseconds.
        ring_remaining_ms: u64,
        /// Gone once it is acknowledged.
        blob: Option<Blob>,
    },
    /// It rings at this device of the callee.
    Ringing(DeviceId),
    /// This device of the callee has answered.
    Accepted {
        /// Its leg.
        leg: LegId,
        /// Which it is.
        party: Party,
        /// Gone once it is acknowledged.
        blob: Option<Blob>,
    },
    /// Another device of the same person has answered.
    AnsweredElsewhere,
    /// This device of the callee is busy; others ring on.
    Rejected(DeviceId),
    /// The caller gave up.
    Cancelled,
    /// The other device says something.
    Signal {
        /// Which it is.
        from: Party,
        /// What it says.
        blob: Blob,
    },
    /// A device is in the call.
    LegJoined {
        /// Its leg.
        leg: LegId,
        /// Which it is.
        party: Party,
        /// Whether it was away.
        rejoined: bool,
    },
    /// A device has left the call, which goes on.
    LegLeft {
        /// Its leg.
        leg: LegId,
        /// Which it is.
        party: Party,
    },
    /// It is over.
    Ended(Reason),
    /// Somebody has called, and nobody answered.
    Missed {
        /// Who.
        from: Party,
        /// What they wanted to send.
        media: Option<Media>,
        /// The caller's note.
        blob: Blob,
    },
}

/// What came.
#[derive(Debug)]
pub(crate) enum Came {
    Push(Push),
    Ready(u64),
}

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    call_id: Option<CallId>,
    #[serde(default)]
    revision: u64,
    #[serde(default)]
    age_ms: u64,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    sealed: Option<String>,
    #[serde(default)]
    from: Option<PartyView>,
    #[serde(default)]
    media: Option<Media>,
    #[serde(default)]
    ring_remaining_ms: Option<u64>,
    #[serde(default)]
    leg: Option<LegId>,
    #[serde(default)]
    account: Option<AccountId>,
    #[serde(default)]
    device: Option<DeviceId>,
    #[serde(default)]
    rejoined: bool,
    #[serde(default)]
    reason: Option<Reason>,
}

impl Fields {
    fn blob(&mut self) -> Option<Blob> {
        let sealed = match self.sealed.take() {
            Some(text) => Some(Secret::new(STANDARD.decode(text).ok()?)),
            None => None,
        };
        Some(Blob { id: self.id.take()?, sealed })
    }

    fn party(&mut self) -> Option<Party> {
        Some(Party { account: self.account.take()?, device: self.device.take()? })
    }

    fn from(&mut self) -> Option<Party> {
        self.from.take().map(Party::from)
    }

    fn what(mut self) -> Option<What> {
        Some(match self.kind.as_str() {
            "call.offer" => What::Offer {
                from: self.from()?,
                media: self.media?,
                ring_remaining_ms: self.ring_remaining_ms.unwrap_or(0),
                blob: self.blob(),
            },
            "call.ringing" => What::Ringing(self.device?),
            "call.accepted" => What::Accepted { leg: self.leg?, party: self.party()?, blob: self.blob() },
            "call.answered_elsewhere" => What::AnsweredElsewhere,
            "call.rejected" => What::Rejected(self.device?),
            "call.cancelled" => What::Cancelled,
            "call.signal" => What::Signal { from: self.from()?, blob: self.blob()? },
            "call.leg_joined" => What::LegJoined { leg: self.leg?, party: self.party()?, rejoined: self.rejoined },
            "call.leg_left" => What::LegLeft { leg: self.leg?, party: self.party()? },
            "call.ended" => What::Ended(self.reason?),
            "call.missed" => What::Missed { from: self.from()?, media: self.media, blob: self.blob()? },
            _ => return None,
        })
    }
}

/// Reads one text frame; `None` for what is skipped.
pub(crate) fn read(text: &str) -> Option<Came> {
    let fields: Fields = serde_json::from_str(text).ok()?;
    if fields.kind == "ready" {
        return Some(Came::Ready(fields.revision));
    }
    let (call, revision, age_ms) = (fields.call_id?, fields.revision, fields.age_ms);
    Some(Came::Push(Push { call, revision, age_ms, what: fields.what()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#""call_id":"call_0006nwt0938nkrkaydxw0128hk","revision":7,"age_ms":3"#;

    fn push(rest: &str) -> Option<What> {
        match read(&format!("{{{rest},{CALL}}}"))? {
            Came::Push(push) => Some(push.what),
            Came::Ready(_) => None,
        }
    }

    #[test]
    fn every_push_of_the_contract_is_read() {
        let who = r#""account":"bob","device":"dev_b""#;
        let from = r#""from":{"account":"alice","device":"dev_a"}"#;
        let blob = r#""id":"call_x.1.2","sealed":"aGk=""#;
        let offer = format!(
            r#""type":"call.offer",{blob},{from},"kind":"one_to_one","media":"audio","ring_remaining_ms":45000"#
        );
        assert!(matches!(push(&offer), Some(What::Offer { ring_remaining_ms: 45_000, blob: Some(_), .. })));
        let missed = format!(r#""type":"call.missed","id":"call_x.1.2",{from},"media":"audio""#);
        assert!(matches!(push(&missed), Some(What::Missed { blob: Blob { sealed: None, .. }, .. })));
        for (rest, name) in [
            (r#""type":"call.ringing","device":"dev_b""#.to_owned(), "Ringing"),
            (format!(r#""type":"call.accepted","leg":2,{who},{blob}"#), "Accepted"),
            (format!(r#""type":"call.accepted","leg":2,{who}"#), "Accepted"),
            (r#""type":"call.answered_elsewhere""#.to_owned(), "AnsweredElsewhere"),
            (r#""type":"call.rejected","device":"dev_b","reason":"busy""#.to_owned(), "Rejected"),
            (r#""type":"call.cancelled""#.to_owned(), "Cancelled"),
            (format!(r#""type":"call.signal",{from},{blob}"#), "Signal"),
            (format!(r#""type":"call.leg_joined","leg":1,"my_leg":1,{who},"rejoined":true"#), "LegJoined"),
            (format!(r#""type":"call.leg_left","leg":1,{who}"#), "LegLeft"),
            (r#""type":"call.ended","reason":"of_tomorrow""#.to_owned(), "Ended(Unknown)"),
        ] {
            let what = format!("{:?}", push(&rest).unwrap_or_else(|| panic!("{rest}")));
            assert!(what.starts_with(name), "{what}");
            assert!(!what.contains("alice") && !what.contains("dev_a") && !what.contains("call_"), "{what}");
        }
        assert!(matches!(read(r#"{"type":"ready","revision":9}"#), Some(Came::Ready(9))));
    }

    #[test]
    fn what_is_not_known_is_skipped() {
        for text in [r#""type":"call.of_tomorrow""#, r#""type":"call.ended""#, r#""type":"call.signal","id":"x""#] {
            assert!(push(text).is_none(), "{text}");
        }
        for text in ["", "{}", "[]", "null", r#"{"type":"call.ended","reason":"hangup"}"#] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
