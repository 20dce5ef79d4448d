//! What stands in requests and answers about calls, word for word as docs/api.md says. What is about devices stands in
//! [`super::dto_device`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_core::topology::{Call, CallKind, EndReason, Leg, Media, Phase};
use tandem_wire::id::Revision;
use tandem_wire::party::Party;
use tandem_wire::units::Wall;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

/// A point of time as RFC 3339 writes it, in UTC with milliseconds.
pub(super) fn rfc3339(at: Wall) -> String {
    let nanos = i128::from(at.as_millis()) * 1_000_000;
    // What lies after the year 9999 cannot be written.
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}

/// How many people a call is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindWord {
    /// Two devices.
    OneToOne,
    /// More.
    Group,
}

impl From<CallKind> for KindWord {
    fn from(kind: CallKind) -> Self {
        match kind {
            CallKind::OneToOne => Self::OneToOne,
            CallKind::Group => Self::Group,
        }
    }
}

/// What the caller wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MediaWord {
    /// Voice.
    Audio,
    /// Voice and pictures.
    Video,
}

impl From<MediaWord> for Media {
    fn from(word: MediaWord) -> Self {
        match word {
            MediaWord::Audio => Self::Audio,
            MediaWord::Video => Self::Video,
        }
    }
}

impl From<Media> for MediaWord {
    fn from(media: Media) -> Self {
        match media {
            Media::Audio => Self::Audio,
            Media::Video => Self::Video,
        }
    }
}

/// Sealed bytes in base64, by device.
pub(super) type SealedMap = BTreeMap<String, String>;

/// Places a call.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceCall {
    /// One account.
    #[schema(example = json!(["bob"]))]
    pub(super) to: Vec<String>,
    pub(super) kind: KindWord,
    pub(super) media: MediaWord,
    /// An offer for every device of the callee, and for no other.
    #[schema(example = json!({ "dev_bob1": "b3BhcXVl" }))]
    pub(super) sealed: SealedMap,
    /// What a device finds that missed the call.
    #[serde(default)]
    pub(super) missed: SealedMap,
    /// Round-trip times to PoPs, in milliseconds.
    #[serde(default)]
    pub(super) relay_rtt_ms: BTreeMap<String, f64>,
}

/// Accepts a call.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Accept {
    /// The answer, for the caller's device. Base64.
    #[schema(example = "b3BhcXVl")]
    pub(super) sealed: String,
}

/// Why a device rejects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RejectReason {
    /// Its person does not want the call.
    Declined,
    /// It is in another call.
    Busy,
}

/// Rejects a call.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reject {
    pub(super) reason: RejectReason,
}

/// Sends something to other legs' devices.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Signal {
    /// One blob a device.
    #[schema(example = json!({ "dev_bob1": "b3BhcXVl" }))]
    pub(super) sealed: SealedMap,
}

/// A body without fields.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PhaseWord {
    /// Nobody has answered yet.
    Ringing,
    /// It runs.
    Active,
    /// It is over.
    Ended,
}

impl From<Phase> for PhaseWord {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Ringing => Self::Ringing,
            Phase::Active => Self::Active,
            Phase::Ended => Self::Ended,
        }
    }
}

/// A TURN server and how to log in there.
#[derive(Serialize, ToSchema)]
pub(super) struct IceServer {
    pub(super) urls: Vec<String>,
    pub(super) username: String,
    pub(super) credential: String,
}

/// A device's place in a call.
#[derive(Serialize, ToSchema)]
pub(super) struct PlaceInCall {
    #[schema(example = "call_0006nwt0938nkrkaydxw0128hk")]
    pub(super) call_id: String,
    pub(super) leg: u16,
    pub(super) phase: PhaseWord,
    pub(super) revision: u64,
    pub(super) ring_expires_at: String,
    pub(super) ice_servers: Vec<IceServer>,
}

/// How a call stands.
#[derive(Serialize, ToSchema)]
pub(super) struct CallState {
    pub(super) call_id: String,
    pub(super) phase: PhaseWord,
    pub(super) revision: u64,
}

/// A device of an account.
#[derive(Serialize, ToSchema)]
pub(super) struct PartyView {
    pub(super) account: String,
    pub(super) device: String,
}

impl From<&Party> for PartyView {
    fn from(party: &Party) -> Self {
        Self { account: party.account.as_str().to_owned(), device: party.device.as_str().to_owned() }
    }
}

/// Whether a leg's device is there.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LegState {
    /// It is.
    Joined,
    /// It has lost its connection to us, and may come back.
    Away,
    /// It has left for good.
    Left,
}

/// A leg of a call.
#[derive(Serialize, ToSchema)]
pub(super) struct LegView {
    pub(super) leg: u16,
    #[serde(flatten)]
    pub(super) party: PartyView,
    pub(super) state: LegState,
}

impl LegView {
    fn new(leg: &Leg) -> Option<Self> {
        let state = match (leg.left, leg.away) {
            (Some(_), _) => LegState::Left,
            (None, Some(_)) => LegState::Away,
            (None, None) => LegState::Joined,
        };
        Some(Self { leg: leg.n.get(), party: leg.party.as_ref()?.into(), state })
    }
}

/// How a call ended.
#[derive(Serialize, ToSchema)]
pub(super) struct EndedView {
    pub(super) at: String,
    #[schema(value_type = String, example = "hangup")]
    pub(super) reason: EndReason,
}

/// A call, as one of its participants may see it.
#[derive(Serialize, ToSchema)]
pub(super) struct CallView {
    pub(super) call_id: String,
    pub(super) kind: KindWord,
    pub(super) media: Option<MediaWord>,
    pub(super) phase: PhaseWord,
    pub(super) created_at: String,
    pub(super) ring_expires_at: String,
    pub(super) revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) my_leg: Option<u16>,
    pub(super) from: Option<PartyView>,
    pub(super) to: Vec<String>,
    pub(super) legs: Vec<LegView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<EndedView>,
}

impl CallView {
    pub(super) fn new(call: &Call, revision: Revision, seen_by: &Party) -> Self {
        let rung = call.ring.iter().flat_map(|ring| &ring.devices).map(|rung| &rung.party.account);
        let mut to: Vec<String> = rung.map(|account| account.as_str().to_owned()).collect();
        to.dedup();
        Self {
            call_id: call.id.to_string(),
            kind: call.kind.into(),
            media: call.ring.as_ref().map(|ring| ring.media.into()),
            phase: call.phase().into(),
            created_at: rfc3339(call.created),
            ring_expires_at: rfc3339(call.ring_expires()),
            revision: revision.0,
            my_leg: call.leg_of(seen_by).map(|leg| leg.n.get()),
            from: call.caller().map(PartyView::from),
            to,
            legs: call.legs.iter().filter_map(LegView::new).collect(),
            ended: call.ended.map(|ended| EndedView { at: rfc3339(ended.at), reason: ended.reason }),
        }
    }
}

/// Mints a token; development only.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MintToken {
    pub(super) account: String,
    pub(super) device: String,
    #[serde(default)]
    pub(super) admin: Option<tandem_auth::AdminRole>,
}

/// A token.
#[derive(Serialize)]
pub(super) struct Token {
    pub(super) token: String,
}

/// What stands in every `application/problem+json`, beside the fields of its own code (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemView {
    #[serde(rename = "type")]
    #[schema(example = "urn:tandem:problem:not_found")]
    kind: String,
    title: String,
    status: u16,
    detail: Option<String>,
    /// From the closed set at the head of this document.
    code: String,
    retry_after_ms: Option<u64>,
    request_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339_in_utc() {
        assert_eq!(rfc3339(Wall::from_millis(1_795_000_000_123)), "2026-11-18T11:06:40.123Z");
        assert_eq!(rfc3339(Wall::from_millis(0)), "1970-01-01T00:00:00Z");
        assert!(!rfc3339(Wall::from_millis(u64::MAX)).is_empty());
    }
}
