//! What a push looks like on the wire (docs/api.md).
//!
//! Decides the words. Leaves who is pushed what to `core::call`, and when to [`crate::hub`].

use serde::Serialize;
use tandem_core::call::What;
use tandem_core::mailbox::BlobName;
use tandem_core::topology::{Blob, BlobKind, Call, CallKind, EndReason, Media};
use tandem_wire::id::{CallId, Revision};
use tandem_wire::party::Party;
use tandem_wire::units::Wall;

/// The name of a blob on the wire. The revision is in it, since numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobId {
    pub(crate) name: BlobName,
    pub(crate) revision: Revision,
}

impl BlobId {
    /// `call_….<seq>.<revision>`.
    pub(crate) fn write(self) -> String {
        format!("{}.{}.{}", self.name.call, self.name.seq, self.revision.0)
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (call, seq, revision) = (parts.next()?, parts.next()?, parts.next()?);
        let id = Self {
            name: BlobName { call: call.parse().ok()?, seq: seq.parse().ok()? },
            revision: Revision(revision.parse().ok()?),
        };
        // One name, one spelling.
        (parts.next().is_none() && id.write() == text).then_some(id)
    }
}

#[derive(Serialize)]
struct PartyView<'a> {
    account: &'a str,
    device: &'a str,
}

impl<'a> From<&'a Party> for PartyView<'a> {
    fn from(party: &'a Party) -> Self {
        Self { account: party.account.as_str(), device: party.device.as_str() }
    }
}

/// A push. What it is about decides which fields it has.
#[derive(Serialize, Default)]
struct Push<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    call_id: String,
    revision: u64,
    age_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<PartyView<'a>>,
    #[serde(rename = "kind", skip_serializing_if = "Option::is_none")]
    call_kind: Option<CallKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media: Option<Media>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ring_remaining_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leg: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    my_leg: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejoined: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<EndReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<&'a str>,
}

impl<'a> Push<'a> {
    fn about(kind: &'static str, call: CallId, revision: Revision, since: Wall, now: Wall) -> Self {
        let age_ms = now.since(since).as_millis();
        Self { kind, call_id: call.to_string(), revision: revision.0, age_ms, ..Self::default() }
    }

    fn who(self, party: &'a Party) -> Self {
        Self { account: Some(party.account.as_str()), device: Some(party.device.as_str()), ..self }
    }

    fn with(self, blob: Option<(BlobId, &'a Blob)>) -> Self {
        match blob {
            Some((id, blob)) => Self { id: Some(id.write()), sealed: blob.sealed.as_deref(), ..self },
            None => self,
        }
    }

    fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// What is told of a call's record to `to`; `blob` is what goes with it.
pub(crate) fn of_record(
    call: &Call,
    revision: Revision,
    to: &Party,
    what: What<'_>,
    blob: Option<(BlobId, &Blob)>,
    now: Wall,
) -> Option<String> {
    let since = call.ended.map(|ended| ended.at).or(call.ring.as_ref().and_then(|ring| ring.answered));
    let push = |kind| Push::about(kind, call.id, revision, since.unwrap_or(call.created), now);
    match what {
        What::Offer => {
            let remaining = call.ring_expires().since(now).as_millis();
            let ring = tandem_core::limits::RING.as_millis();
            Push {
                from: call.caller().map(PartyView::from),
                call_kind: Some(call.kind),
                media: call.ring.as_ref().map(|ring| ring.media),
                // A wall clock that jumped does not make it ring for longer.
                ring_remaining_ms: Some(remaining.min(ring)),
                ..push("call.offer")
            }
            .with(blob)
            .text()
        }
        What::Ringing(device) => Push { device: Some(device.device.as_str()), ..push("call.ringing") }.text(),
        What::Accepted(leg, party) => {
            Push { leg: Some(leg.get()), ..push("call.accepted") }.who(party).with(blob).text()
        }
        What::AnsweredElsewhere => push("call.answered_elsewhere").text(),
        What::Busy(device) => {
            let device = Some(device.device.as_str());
            Push { device, reason: Some(EndReason::Busy), ..push("call.rejected") }.text()
        }
        What::Cancelled => push("call.cancelled").text(),
        What::LegJoined { leg, party, rejoined } => Push {
            leg: Some(leg.get()),
            my_leg: call.leg_of(to).map(|leg| leg.n.get()),
            rejoined: Some(rejoined),
            ..push("call.leg_joined")
        }
        .who(party)
        .text(),
        What::LegLeft(leg, party) => Push { leg: Some(leg.get()), ..push("call.leg_left") }.who(party).text(),
        What::Ended(reason) => Push { reason: Some(reason), ..push("call.ended") }.text(),
    }
}

/// What can wait in a device's queue. What calls seal is the first; an app's messages come later, and need no more than this:
/// order, acknowledgement and replay are `core::mailbox`'s, which knows names only.
pub(crate) trait Queued {
    /// What the device is pushed, if it is anything by itself.
    fn push(&self, id: BlobId, now: Wall) -> Option<String>;
}

impl Queued for Blob {
    /// An offer, an answer and a note that is not yet one are told with their call's record.
    fn push(&self, id: BlobId, now: Wall) -> Option<String> {
        let push = |kind| Push::about(kind, id.name.call, id.revision, self.at, now);
        let from = Some(PartyView::from(&self.from));
        match self.kind {
            BlobKind::Signal => Push { from, ..push("call.signal") }.with(Some((id, self))).text(),
            BlobKind::Missed => Push { from, media: self.media, ..push("call.missed") }.with(Some((id, self))).text(),
            BlobKind::Offer | BlobKind::Accept | BlobKind::Note => None,
        }
    }
}

/// What is told when a device is up to date.
pub(crate) fn ready(revision: Revision) -> String {
    format!("{{\"type\":\"ready\",\"revision\":{}}}", revision.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_blob_survives_its_text_and_no_other_text_is_one() {
        let name = BlobName { call: CallId::from_bits(7), seq: 3 };
        let id = BlobId { name, revision: Revision(9) };
        assert_eq!(BlobId::read(&id.write()), Some(id));
        for text in ["", ".", "call_x.1.2", &id.write().replace(".3.", ".03."), &format!("{}.1", id.write())] {
            assert_eq!(BlobId::read(text), None, "{text}");
        }
    }
}
