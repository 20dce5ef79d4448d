//! The call record: its kind, its legs, and whether it has ended.
//!
//! Decides what `create` and `end` do to it and when it must end by itself. Leaves ringing and answering to the next
//! version of this record, which adds phases; this one knows a call that runs and a call that has ended.

use serde::{Deserialize, Serialize};
use tandem_wire::id::{CallId, LegId};
use tandem_wire::units::{Now, Wall};

use super::{RECORD_VERSION, RecordError, Refusal, Unknown, check_version};
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
    const fn legs_max(self) -> usize {
        match self {
            Self::OneToOne => limits::ONE_TO_ONE_LEGS,
            Self::Group => limits::GROUP_LEGS,
        }
    }
}

/// Why a call ended, as clients and operators are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody hung up.
    Hangup,
    /// The longest time that a call may last is over.
    Timeout,
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
    /// When it left for good; a leg that has left gets nothing and sends nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Wall>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
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
    /// When and why it ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// Everyone who is or was in it, in order of arrival.
    pub legs: Vec<Leg>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What can be asked of a call record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallCommand {
    /// Makes the call, with legs 1..=`legs`.
    Create {
        /// The id that the caller of this drew.
        id: CallId,
        /// Two devices or a group.
        kind: CallKind,
        /// How many legs it starts with.
        legs: u16,
    },
    /// Ends it. Ending an ended call is refused, so that it has exactly one reason.
    End {
        /// Why.
        reason: EndReason,
    },
}

impl Call {
    /// Applies `command` to `record` (`None`: nothing is stored under this id) and gives the record to store.
    ///
    /// # Errors
    /// The [`Refusal`] that names why the record stays as it is.
    pub fn apply(record: Option<&Self>, command: CallCommand, now: Now) -> Result<Self, Refusal> {
        match (record, command) {
            (Some(_), CallCommand::Create { .. }) => Err(Refusal::CallExists),
            (None, CallCommand::Create { id, kind, legs }) => {
                if legs == 0 || usize::from(legs) > kind.legs_max() {
                    return Err(Refusal::GroupSize);
                }
                let legs = (1..=legs)
                    .filter_map(|n| LegId::new(n).ok())
                    .map(|n| Leg { n, left: None, unknown: Unknown::new() })
                    .collect();
                Ok(Self { v: RECORD_VERSION, id, kind, created: now.wall, ended: None, legs, unknown: Unknown::new() })
            }
            (None, CallCommand::End { .. }) => Err(Refusal::CallEnded),
            (Some(call), CallCommand::End { reason }) => {
                if call.ended.is_some() {
                    return Err(Refusal::CallEnded);
                }
                Ok(Self { ended: Some(Ended { at: now.wall, reason }), ..call.clone() })
            }
        }
    }

    /// When this record next needs somebody: a running call must be ended, an ended one may be forgotten.
    #[must_use]
    pub fn next_deadline(&self) -> Wall {
        match self.ended {
            None => self.created.after(limits::CALL_LIFE),
            Some(ended) => ended.at.after(limits::ENDED_CALL_LIFE),
        }
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
        check_version(bytes)?;
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Writes the record down.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], if an unknown field cannot be written back.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_wire::id::{BucketId, PopId};

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
        let end = CallCommand::End { reason: EndReason::Hangup };
        let ended = Call::apply(Some(&call), end, at(5_000)).unwrap();
        assert_eq!(ended.ended, Some(Ended { at: Wall::from_millis(5_000), reason: EndReason::Hangup }));
        assert_eq!(ended.admits(LegId::new(1).unwrap()), Err(Refusal::CallEnded));
        assert_eq!(Call::apply(Some(&ended), end, at(6_000)), Err(Refusal::CallEnded));
        assert_eq!(Call::apply(None, end, at(6_000)), Err(Refusal::CallEnded));
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
    fn a_running_call_is_due_after_a_day_and_an_ended_one_a_minute_later() {
        let call = created(CallKind::OneToOne, 2);
        assert_eq!(call.next_deadline(), Wall::from_millis(1_000 + 24 * 3_600_000));
        let ended = Call::apply(Some(&call), CallCommand::End { reason: EndReason::Timeout }, at(9_000)).unwrap();
        assert_eq!(ended.next_deadline(), Wall::from_millis(9_000 + 60_000));
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

    #[test]
    fn the_topology_of_a_32_leg_call_stays_under_4_kib() {
        let mut call = created(CallKind::Group, 32);
        for leg in &mut call.legs {
            leg.n = LegId::new(LegId::MAX).unwrap();
            leg.left = Some(Wall::from_millis(9_999_999_999_999));
        }
        call.ended = Some(Ended { at: Wall::from_millis(9_999_999_999_999), reason: EndReason::EndedByOperator });
        let size = call.to_json().unwrap().len();
        assert!(size < 4_096, "{size} bytes");
    }
}
