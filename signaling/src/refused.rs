//! Why a request was not done, and the one place where that becomes an answer.
//!
//! Decides the closed set of codes of the device API (docs/api.md lists them). Leaves what is wrong with a body, a path or
//! a header's form to `tandem-telemetry`'s extractors.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tandem_auth::rate::TooOften;
use tandem_core::topology::{EndReason, Refusal};
use tandem_state_client::StoreError;
use tandem_telemetry::http::Problem;
use tandem_wire::id::CallId;
use tandem_wire::party::DeviceId;

use crate::directory::DirectoryError;
use crate::limits;

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Refused {
    /// No token, or one that is not good.
    Unauthorized,
    /// The token does not allow this.
    Forbidden,
    /// It is not there, or somebody else's.
    NotFound,
    /// The asking device is not in the directory, or nobody has vouched for it yet.
    NotRegistered,
    /// The callee has no device.
    NoDevices,
    /// The callee's devices are others than those sealed for.
    DevicesChanged {
        /// Devices that nothing was sealed for.
        missing: Vec<DeviceId>,
        /// Devices that the callee does not have.
        extra: Vec<DeviceId>,
    },
    /// The other one has called at the same time: that call rings at this device.
    Glare(CallId),
    /// The two are in a call with each other already.
    CallExists(CallId),
    /// The record refuses it.
    Topology(Refusal, Option<EndReason>),
    /// The same Idempotency-Key, but another request.
    KeyReused,
    /// An account calls itself.
    SelfCall,
    /// Only calls of two for now.
    KindUnsupported,
    /// Something is sealed for a device that is not in the call.
    UnknownRecipient,
    /// A value of the body cannot be.
    BadValue(&'static str),
    /// A header cannot be.
    BadHeader(&'static str),
    /// Too often.
    RateLimited(TooOften),
    /// The account has as many live calls as it may have.
    CallQuota,
    /// As many calls as may ring at the callee.
    RingQuota,
    /// As many blobs as may wait for the device.
    MailboxFull,
    /// The account has as many devices as it may have.
    DeviceQuota,
    /// The account's root did not sign that endorsement.
    NotEndorsed,
    /// This node has as many calls as it bears.
    Overloaded,
    /// The store did not do it.
    Store(StoreError),
    /// The directory did not do it.
    DirectoryAway,
    /// A record that this version cannot read or write.
    Record,
    /// Others changed the record each time.
    Contended,
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TooOften> for Refused {
    fn from(error: TooOften) -> Self {
        Self::RateLimited(error)
    }
}

impl From<DirectoryError> for Refused {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Full => Self::DeviceQuota,
            DirectoryError::Unknown => Self::NotFound,
            DirectoryError::NotEndorsed => Self::NotEndorsed,
            DirectoryError::Away => Self::DirectoryAway,
        }
    }
}

/// The codes of this API, each with its status and its title.
pub(crate) mod code {
    use axum::http::StatusCode;

    /// Declares the closed set once.
    macro_rules! codes {
        ($($name:ident = $status:ident $code:literal $title:literal;)*) => {
            $(pub(crate) const $name: (StatusCode, &str, &str) = (StatusCode::$status, $code, $title);)*
            /// All of them.
            pub(crate) const ALL: &[(StatusCode, &str, &str)] = &[$($name,)*];
        };
    }

    codes! {
        UNAUTHORIZED = UNAUTHORIZED "unauthorized" "The token is missing or not good";
        FORBIDDEN = FORBIDDEN "forbidden" "The token does not allow this";
        DEVICE_NOT_REGISTERED = FORBIDDEN "device_not_registered" "The device must be registered, and endorsed, before it calls";
        NO_DEVICES = NOT_FOUND "no_devices" "The callee has no device";
        DEVICES_CHANGED = CONFLICT "devices_changed" "The callee's devices have changed: seal again";
        GLARE = CONFLICT "glare" "The callee is calling at the same time: accept that call";
        CALL_EXISTS = CONFLICT "call_exists" "The two are in a call with each other already";
        CALL_ENDED = CONFLICT "call_ended" "The call has ended";
        ANSWERED_ELSEWHERE = CONFLICT "answered_elsewhere" "Another device has answered";
        ALREADY_ANSWERED = CONFLICT "already_answered" "The device has answered: it hangs up instead";
        NOT_IN_CALL = CONFLICT "not_in_call" "The device has no leg in the call";
        DEVICE_QUOTA = CONFLICT "device_quota" "The account has all the devices that it may have";
        NOT_ENDORSED = CONFLICT "not_endorsed" "The account's root did not sign that";
        KEY_REUSED = UNPROCESSABLE_ENTITY "idempotency_key_reused" "The Idempotency-Key was used for another request";
        SELF_CALL = UNPROCESSABLE_ENTITY "self_call" "An account cannot call itself";
        KIND_UNSUPPORTED = UNPROCESSABLE_ENTITY "kind_unsupported" "Only calls of two are possible now";
        UNKNOWN_RECIPIENT = UNPROCESSABLE_ENTITY "unknown_recipient" "Something is sealed for a device that is not in the call";
        WRONG_VALUE = BAD_REQUEST "wrong_value" "A field of the body has a value that cannot be";
        BAD_HEADER = BAD_REQUEST "bad_header" "A header cannot be read";
        RATE_LIMITED = TOO_MANY_REQUESTS "rate_limited" "Too many requests";
        CALL_QUOTA = TOO_MANY_REQUESTS "call_quota" "The account has all the calls that it may have at once";
        RING_QUOTA = TOO_MANY_REQUESTS "ring_quota" "Too many calls ring at the callee";
        MAILBOX_FULL = TOO_MANY_REQUESTS "mailbox_full" "Too much waits for the other device";
        OVERLOADED = SERVICE_UNAVAILABLE "overloaded" "No new calls now; calls in progress go on";
        STORE_AWAY = SERVICE_UNAVAILABLE "store_away" "The store cannot be reached; calls in progress go on";
        DIRECTORY_AWAY = SERVICE_UNAVAILABLE "directory_away" "The directory of devices cannot be used now";
        CONTENDED = SERVICE_UNAVAILABLE "contended" "Too many change this at once";
        INTERNAL = INTERNAL_SERVER_ERROR "internal" "Something here is wrong";
    }
}

fn problem((status, code, title): (StatusCode, &'static str, &'static str)) -> Problem {
    Problem::new(status, code, title)
}

fn ids(devices: &[DeviceId]) -> Vec<&str> {
    devices.iter().map(DeviceId::as_str).collect()
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unauthorized => problem(code::UNAUTHORIZED),
            Refused::Forbidden => problem(code::FORBIDDEN),
            Refused::NotFound => Self::not_found(),
            Refused::NotRegistered => problem(code::DEVICE_NOT_REGISTERED),
            Refused::NoDevices => problem(code::NO_DEVICES),
            Refused::DevicesChanged { missing, extra } => problem(code::DEVICES_CHANGED)
                .with("missing", ids(&missing))
                .with("extra", ids(&extra))
                .with("stale", Vec::<&str>::new()),
            Refused::Glare(call) => problem(code::GLARE).with("call_id", call.to_string()),
            Refused::CallExists(call) => problem(code::CALL_EXISTS).with("call_id", call.to_string()),
            Refused::Topology(refusal, reason) => match refusal {
                Refusal::CallEnded => {
                    let reason = reason.and_then(|reason| serde_json::to_value(reason).ok());
                    problem(code::CALL_ENDED).with("reason", reason.unwrap_or_default())
                }
                Refusal::AnsweredElsewhere => problem(code::ANSWERED_ELSEWHERE),
                Refusal::Answered => problem(code::ALREADY_ANSWERED),
                Refusal::UnknownLeg => problem(code::NOT_IN_CALL),
                _ => problem(code::INTERNAL),
            },
            Refused::KeyReused => problem(code::KEY_REUSED),
            Refused::SelfCall => problem(code::SELF_CALL),
            Refused::KindUnsupported => problem(code::KIND_UNSUPPORTED),
            Refused::UnknownRecipient => problem(code::UNKNOWN_RECIPIENT),
            Refused::BadValue(what) => problem(code::WRONG_VALUE).detail(what),
            Refused::BadHeader(what) => problem(code::BAD_HEADER).detail(what),
            Refused::RateLimited(TooOften { retry_after_ms }) => {
                problem(code::RATE_LIMITED).retry_after_ms(retry_after_ms)
            }
            Refused::CallQuota => problem(code::CALL_QUOTA).retry_after_ms(limits::QUOTA_RETRY_MS),
            Refused::RingQuota => problem(code::RING_QUOTA).retry_after_ms(limits::QUOTA_RETRY_MS),
            Refused::MailboxFull => problem(code::MAILBOX_FULL),
            Refused::DeviceQuota => problem(code::DEVICE_QUOTA),
            Refused::NotEndorsed => problem(code::NOT_ENDORSED),
            Refused::Overloaded => problem(code::OVERLOADED).retry_after_ms(limits::QUOTA_RETRY_MS),
            Refused::Store(StoreError::Away { retry_after_ms }) => {
                problem(code::STORE_AWAY).retry_after_ms(retry_after_ms.max(limits::STORE_RETRY_MS))
            }
            Refused::Store(error) => {
                tracing::error!(%error, "the store refuses what can be right");
                problem(code::INTERNAL)
            }
            Refused::DirectoryAway => problem(code::DIRECTORY_AWAY),
            Refused::Record => problem(code::INTERNAL),
            Refused::Contended => problem(code::CONTENDED),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
