//! The call record: its kind, who rings, its legs, and whether it has ended.
//!
//! Decides what is written down, and what can be read off a record: its phase, who may send, who missed it. Leaves what
//! changes it to [`super::command`], and who is told of a change to `call`.

use serde::{Deserialize, Serialize};
use tandem_wire::id::{CallId, LegId};
use tandem_wire::party::Party;
use tandem_wire::units::Wall;

use super::{RECORD_VERSION, RecordError, Refusal, Unknown, read};
use crate::limits;

/// How many people a call is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// Two devices.
    OneToOne,
    /// Up to [`limits::GROUP_LEGS`] devices.
    Group,
}

impl CallKind {
    pub(super) const fn legs_max(self) -> usize {
        match self {
            Self::OneToOne => limits::ONE_TO_ONE_LEGS,
            Self::Group => limits::GROUP_LEGS,
        }
    }
}

/// What the caller wants to send, as the callee's screen shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Media {
    /// Voice only.
    Audio,
    /// Voice and pictures.
    Video,
}

/// Why a call ended, as clients and operators are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody hung up.
    Hangup,
    /// Nobody answered in time, or the longest time that a call may last is over.
    Timeout,
    /// Every device of the callee that could be reached is in another call.
    Busy,
    /// The callee does not want it.
    Declined,
    /// Another device of the callee answered. A device is told this; no call ends so.
    AnsweredElsewhere,
    /// Another device of the callee declined. A device is told this; no call ends so.
    RejectedElsewhere,
    /// The caller gave up before anybody answered.
    Cancelled,
    /// A leg lost its connection and did not come back.
    ConnectionLost,
    /// A leg's device was removed, or an operator removed the leg.
    Kicked,
    /// Overload.
    Shed,
    /// No relay could carry it on.
    RelayLost,
    /// An operator ended it.
    EndedByOperator,
}

/// When and why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, in wall milliseconds.
    pub at: Wall,
    /// Why.
    pub reason: EndReason,
}

/// One device's place in the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// Its number, given in order of arrival, never reused.
    pub n: LegId,
    /// Whose it is. A call that never rang (a demonstration's) has legs of nobody.
    #[serde(rename = "by", default, skip_serializing_if = "Option::is_none")]
    pub party: Option<Party>,
    /// Since when its device has no connection to us. Its media may go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<Wall>,
    /// When it left for good; a leg that has left gets nothing and sends nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Wall>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a device that is rung has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RungState {
    /// Nothing yet: it may be offline.
    Pending,
    /// It rings.
    Ringing,
    /// It is in another call.
    Busy,
    /// Its person does not want the call.
    Declined,
    /// It answered, and has a leg.
    Answered,
    /// It was removed from its account.
    Removed,
}

/// One device of the callee.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Which device.
    #[serde(rename = "d")]
    pub party: Party,
    /// What it has said.
    #[serde(rename = "s")]
    pub state: RungState,
}

/// The ringing of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    /// What the caller wants to send.
    pub media: Media,
    /// The devices that it rings at.
    #[serde(rename = "at")]
    pub devices: Vec<Rung>,
    /// When somebody answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Wall>,
    /// Since when every device that has said anything is busy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Wall>,
    /// Names the request that made the call, if it may be repeated.
    #[serde(rename = "key", default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Ring {
    /// The place of a device in it.
    #[must_use]
    pub fn find(&self, party: &Party) -> Option<&Rung> {
        self.devices.iter().find(|rung| rung.party == *party)
    }
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nobody has answered yet.
    Ringing,
    /// It runs.
    Active,
    /// It is over.
    Ended,
}

/// The stored record of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Version of the record.
    pub v: u32,
    /// The call's own id, which also stands in its key.
    pub id: CallId,
    /// Two devices or a group.
    pub kind: CallKind,
    /// When it was created, in wall milliseconds.
    pub created: Wall,
    /// Whom it rings at. A call that never rang has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<Ring>,
    /// When and why it ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// Everyone who is or was in it, in order of arrival.
    pub legs: Vec<Leg>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Call {
    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match (&self.ended, &self.ring) {
            (Some(_), _) => Phase::Ended,
            (None, Some(Ring { answered: None, .. })) => Phase::Ringing,
            (None, _) => Phase::Active,
        }
    }

    /// When the ringing ends, as a client is told. Timers go by the monotonic clock instead.
    #[must_use]
    pub const fn ring_expires(&self) -> Wall {
        self.created.after(limits::RING)
    }

    /// The leg that this device has and has not left.
    #[must_use]
    pub fn leg_of(&self, party: &Party) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.left.is_none() && leg.party.as_ref() == Some(party))
    }

    /// Who called.
    #[must_use]
    pub fn caller(&self) -> Option<&Party> {
        self.ring.as_ref().and(self.legs.first()).and_then(|leg| leg.party.as_ref())
    }

    /// Whether this device is, was or could be in the call. To anybody else the call does not exist.
    #[must_use]
    pub fn concerns(&self, party: &Party) -> bool {
        self.parties().any(|other| other == party)
    }

    /// Every device that the call concerns; one that was rung and answered comes twice.
    pub fn parties(&self) -> impl Iterator<Item = &Party> {
        let rung = self.ring.iter().flat_map(|ring| ring.devices.iter().map(|rung| &rung.party));
        self.legs.iter().filter_map(|leg| leg.party.as_ref()).chain(rung)
    }

    /// The devices that are to find a missed-call note: those that neither answered nor rejected a call which nobody
    /// answered or declined. None while the call is not over.
    pub fn missed(&self) -> impl Iterator<Item = &Party> {
        let over = self.ended.is_some_and(|ended| ended.reason != EndReason::Declined);
        let ring = self.ring.iter().filter(move |ring| over && ring.answered.is_none());
        let silent = |rung: &&Rung| matches!(rung.state, RungState::Pending | RungState::Ringing);
        ring.flat_map(move |ring| ring.devices.iter().filter(silent).map(|rung| &rung.party))
    }

    /// Whether `leg` is in the call and may send and receive.
    ///
    /// # Errors
    /// [`Refusal::CallEnded`] or [`Refusal::UnknownLeg`].
    pub fn admits(&self, leg: LegId) -> Result<(), Refusal> {
        if self.ended.is_some() {
            return Err(Refusal::CallEnded);
        }
        match self.legs.iter().find(|l| l.n == leg) {
            Some(Leg { left: None, .. }) => Ok(()),
            _ => Err(Refusal::UnknownLeg),
        }
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`RecordError::Newer`] for a version that this process does not know, [`RecordError::Malformed`] for the rest.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes, |record: &Self| record.v)
    }

    /// Writes the record down.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], if an unknown field cannot be written back.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// A record without ring or legs.
    pub(super) fn bare(id: CallId, kind: CallKind, created: Wall) -> Self {
        Self {
            v: RECORD_VERSION,
            id,
            kind,
            created,
            ring: None,
            ended: None,
            legs: Vec::new(),
            unknown: Unknown::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{CallCommand, Placed};
    use tandem_wire::id::{BucketId, PopId};
    use tandem_wire::units::Now;

    fn id() -> CallId {
        CallId::new(PopId(1), BucketId(0xbeef), 0x1234_5678)
    }

    fn at(millis: u64) -> Now {
        Now { wall: Wall::from_millis(millis), ..Now::default() }
    }

    fn created(kind: CallKind, legs: u16) -> Call {
        Call::apply(None, CallCommand::Create { id: id(), kind, legs }, at(1_000)).unwrap()
    }

    #[test]
    fn a_created_call_admits_its_legs_and_nobody_else() {
        let call = created(CallKind::OneToOne, 2);
        assert_eq!(call.admits(LegId::new(1).unwrap()), Ok(()));
        assert_eq!(call.admits(LegId::new(2).unwrap()), Ok(()));
        assert_eq!(call.admits(LegId::new(3).unwrap()), Err(Refusal::UnknownLeg));
    }

    #[test]
    fn a_call_is_created_once_and_ended_once() {
        let call = created(CallKind::OneToOne, 2);
        let again = CallCommand::Create { id: id(), kind: CallKind::OneToOne, legs: 2 };
        assert_eq!(Call::apply(Some(&call), again, at(2)), Err(Refusal::CallExists));
        let end = || CallCommand::End { reason: EndReason::Hangup };
        let ended = Call::apply(Some(&call), end(), at(5_000)).unwrap();
        assert_eq!(ended.ended, Some(Ended { at: Wall::from_millis(5_000), reason: EndReason::Hangup }));
        assert_eq!(ended.admits(LegId::new(1).unwrap()), Err(Refusal::CallEnded));
        assert_eq!(Call::apply(Some(&ended), end(), at(6_000)), Err(Refusal::CallEnded));
        assert_eq!(Call::apply(None, end(), at(6_000)), Err(Refusal::CallEnded));
    }

    #[test]
    fn a_call_of_the_wrong_size_is_refused() {
        for (kind, legs) in
            [(CallKind::OneToOne, 0), (CallKind::OneToOne, 3), (CallKind::Group, 0), (CallKind::Group, 33)]
        {
            let command = CallCommand::Create { id: id(), kind, legs };
            assert_eq!(Call::apply(None, command, at(1)), Err(Refusal::GroupSize), "{kind:?} {legs}");
        }
    }

    #[test]
    fn the_record_of_a_call_has_this_golden_text() {
        let call = created(CallKind::OneToOne, 2);
        let json = String::from_utf8(call.to_json().unwrap()).unwrap();
        assert_eq!(
            json,
            format!(r#"{{"v":1,"id":"{}","kind":"one_to_one","created":1000,"legs":[{{"n":1}},{{"n":2}}]}}"#, id())
        );
        assert_eq!(Call::from_json(json.as_bytes()).unwrap(), call);
    }

    #[test]
    fn the_record_of_a_newer_version_is_refused_by_its_number() {
        let error = Call::from_json(br#"{"v":2,"shape":"unheard of"}"#).unwrap_err();
        assert!(matches!(error, RecordError::Newer { found: 2 }), "{error}");
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn fields_that_this_version_does_not_know_survive_a_change() {
        let text = format!(
            r#"{{"v":1,"id":"{}","kind":"group","created":1,"legs":[{{"n":1,"muted":true}}],"title":{{"a":[1,2]}}}}"#,
            id()
        );
        let call = Call::from_json(text.as_bytes()).unwrap();
        let ended = Call::apply(Some(&call), CallCommand::End { reason: EndReason::Hangup }, at(2)).unwrap();
        let written = String::from_utf8(ended.to_json().unwrap()).unwrap();
        assert!(written.contains(r#""title":{"a":[1,2]}"#) && written.contains(r#""muted":true"#), "{written}");
    }

    fn party(name: &str) -> Party {
        Party { account: name.parse().unwrap(), device: format!("dev_{name}").parse().unwrap() }
    }

    #[test]
    fn the_record_of_a_call_that_rings_has_this_golden_text() {
        let placed = Placed {
            id: id(),
            kind: CallKind::OneToOne,
            media: Media::Video,
            caller: party("alice"),
            callees: vec![party("bob")],
            request: Some("00ff".to_owned()),
        };
        let call = Call::apply(None, CallCommand::Place(placed), at(1_000)).unwrap();
        let json = String::from_utf8(call.to_json().unwrap()).unwrap();
        assert_eq!(
            json,
            format!(
                "{{\"v\":1,\"id\":\"{}\",\"kind\":\"one_to_one\",\"created\":1000,\"ring\":{{\"media\":\"video\",\
                 \"at\":[{{\"d\":\"bob/dev_bob\",\"s\":\"pending\"}}],\"key\":\"00ff\"}},\
                 \"legs\":[{{\"n\":1,\"by\":\"alice/dev_alice\"}}]}}",
                id()
            )
        );
        assert_eq!(Call::from_json(json.as_bytes()).unwrap(), call);
    }

    /// With ids as long as a UUID, which is what apps use.
    #[test]
    fn the_topology_of_a_32_leg_call_stays_under_4_kib() {
        let mut call = created(CallKind::Group, 32);
        for leg in &mut call.legs {
            leg.n = LegId::new(LegId::MAX).unwrap();
            leg.party = Some(party("0f0e0d0c-0b0a-0908-0706-050403020100"));
            leg.left = Some(Wall::from_millis(9_999_999_999_999));
        }
        call.ended = Some(Ended { at: Wall::from_millis(9_999_999_999_999), reason: EndReason::EndedByOperator });
        let size = call.to_json().unwrap().len();
        assert!(size < 4_096, "{size} bytes");
    }
}
