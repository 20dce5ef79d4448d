//! What can go wrong, whose fault it is and whether to try again.
//!
//! Decides what an app may see of it: no address, token or sealed byte stands in an error.

use std::fmt;

use serde::Deserialize;
use tandem_seal::SealError;
use tandem_wire::id::CallId;
use tandem_wire::party::DeviceId;

use crate::token::TokenError;
use crate::turn::TurnError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused it. Nothing was done.
    #[error("refused: {0}")]
    Refused(Box<Problem>),
    /// The server cannot be reached, or did not answer in time. It may have been done.
    #[error("the server cannot be reached")]
    Away,
    /// The app gave no token.
    #[error("no token: {0}")]
    Token(#[from] TokenError),
    /// Something cannot be sealed, opened or believed (docs/sealing.md, "What is refused").
    #[error("sealing: {0}")]
    Sealing(#[from] SealError),
    /// The server answered something that this version does not understand.
    #[error("the server's answer cannot be understood")]
    Unreadable,
    /// An address that the app gave is none, or is of a kind that this version does not speak.
    #[error("not an address of the form {0}")]
    Address(&'static str),
    /// More bytes than may be sent at once.
    #[error("{bytes} bytes are more than {most}")]
    TooLarge {
        /// How many there were.
        bytes: usize,
        /// How many there may be.
        most: usize,
    },
    /// The call is over.
    #[error("the call has ended: {0}")]
    Ended(Reason),
    /// The other device is not known yet: nobody has accepted.
    #[error("nobody has accepted the call")]
    NotAccepted,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Randomness,
    /// The way through the relay failed.
    #[error("relay: {0}")]
    Turn(#[from] TurnError),
}

impl Error {
    /// Whether the same may work later. Requests were tried again already, for [`crate::limits::PATIENCE`].
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Away => true,
            Self::Refused(problem) => matches!(problem.status, 429 | 500 | 503),
            Self::Token(error) => *error == TokenError::Away,
            Self::Turn(error) => matches!(error, TurnError::Silent),
            _ => false,
        }
    }

    /// What the server said, if it refused.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        if let Self::Refused(problem) = self { Some(problem) } else { None }
    }

    /// The code of the server's refusal.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.problem().map(|problem| problem.code)
    }
}

/// A refusal (RFC 9457, docs/api.md).
#[derive(Clone, Deserialize)]
pub struct Problem {
    /// The status of HTTP.
    #[serde(default)]
    pub status: u16,
    /// What it is, from the closed set.
    #[serde(default)]
    pub code: Code,
    /// When to ask again, in milliseconds from now.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// The request's name in the server's log.
    #[serde(default)]
    pub request_id: Option<String>,
    /// `glare` and `call_exists`: the call that is there already. Of a glare it rings at this device, which accepts it.
    #[serde(default)]
    pub call_id: Option<CallId>,
    /// `call_ended`: why.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// `devices_changed`: devices that nothing was sealed for.
    #[serde(default)]
    pub missing: Vec<DeviceId>,
    /// `devices_changed`: devices that the callee does not have.
    #[serde(default)]
    pub extra: Vec<DeviceId>,
    /// `devices_changed`: devices whose keys are others.
    #[serde(default)]
    pub stale: Vec<DeviceId>,
}

impl Problem {
    /// A refusal of this status, read from the body as far as it can be.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let nothing = || Self {
            status,
            code: Code::Unknown,
            retry_after_ms: None,
            request_id: None,
            call_id: None,
            reason: None,
            missing: Vec::new(),
            extra: Vec::new(),
            stale: Vec::new(),
        };
        serde_json::from_slice(body).map_or_else(|_| nothing(), |problem| Self { status, ..problem })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.status, self.code)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, retry after {:?} ms, request {:?}", self.retry_after_ms, self.request_id)
    }
}

/// What a refusal is about (docs/api.md, "Codes"). Those that an app does something about have a name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "docs/api.md says what each means")]
pub enum Code {
    Unauthorized,
    Forbidden,
    DeviceNotRegistered,
    NotFound,
    NoDevices,
    DevicesChanged,
    Glare,
    CallExists,
    CallEnded,
    AnsweredElsewhere,
    AlreadyAnswered,
    NotInCall,
    DeviceQuota,
    NotEndorsed,
    IdempotencyKeyReused,
    SelfCall,
    KindUnsupported,
    UnknownRecipient,
    WrongValue,
    RateLimited,
    CallQuota,
    RingQuota,
    MailboxFull,
    Internal,
    Overloaded,
    StoreAway,
    DirectoryAway,
    Contended,
    /// Any other one.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Why a call is over, for this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// One of the two hung up.
    Hangup,
    /// Nobody answered.
    Timeout,
    /// Every device is in another call.
    Busy,
    /// The callee does not want it.
    Declined,
    /// Another device of the same person answered.
    AnsweredElsewhere,
    /// Another device of the same person declined.
    RejectedElsewhere,
    /// The caller gave up.
    Cancelled,
    /// A device was gone for 30 s.
    ConnectionLost,
    /// The device was removed.
    Kicked,
    /// The servers had too much to do.
    Shed,
    /// There is no relay.
    RelayLost,
    /// An operator ended it.
    EndedByOperator,
    /// What the other device is said to have answered was refused: [`crate::Trust::Refused`] says why.
    #[serde(skip_deserializing)]
    Untrusted,
    /// A reason of a later version; also of a call that is no longer known.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_as_far_as_it_can_be() {
        let body = br#"{"type":"urn:x","title":"t","status":409,"code":"devices_changed","missing":["dev_a"],
            "extra":[],"stale":[],"later":1}"#;
        let problem = Problem::read(409, body);
        assert_eq!((problem.status, problem.code, problem.missing.len()), (409, Code::DevicesChanged, 1));
        let problem = Problem::read(503, br#"{"status":503,"code":"store_away","retry_after_ms":1000}"#);
        assert_eq!((problem.code, problem.retry_after_ms), (Code::StoreAway, Some(1000)));
        for (body, status) in [(&b"<html>"[..], 502), (b"{}", 500), (br#"{"code":"of_tomorrow"}"#, 418)] {
            let problem = Problem::read(status, body);
            assert_eq!((problem.status, problem.code), (status, Code::Unknown));
        }
    }

    #[test]
    fn a_refusal_does_not_print_whom_it_is_about() {
        let body = br#"{"code":"devices_changed","missing":["dev_canary"],"detail":"canary"}"#;
        let error = Error::Refused(Box::new(Problem::read(409, body)));
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains("canary") && printed.contains("DevicesChanged"), "{printed}");
    }
}
