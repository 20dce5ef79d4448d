//! Errors to statuses and back, and the age of answers. The one place where this is decided.
//!
//! Each of our errors has a word in the status's metadata beside its code. A status without a word was not made by a
//! store: it comes from the transport, or from somebody who speaks another version.

use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::{Fault, StoreError};

/// The header that has the word.
const ERROR: &str = "tandem-error";
/// The header that says when to come back.
const RETRY_AFTER_MS: &str = "tandem-retry-after-ms";
/// The header that says which record was stale.
const KEY: &str = "tandem-key";
/// The header that says how old an answer may be; without it, it is current.
const AGE_MS: &str = "tandem-age-ms";
/// When nobody says when to come back.
const RETRY_AFTER_DEFAULT_MS: u64 = 100;

const FAULTS: [(Fault, &str); 6] = [
    (Fault::OpCount, "op-count"),
    (Fault::KeyTwice, "key-twice"),
    (Fault::OtherPop, "other-pop"),
    (Fault::TooLarge, "too-large"),
    (Fault::DeleteOfNothing, "delete-of-nothing"),
    (Fault::Unreadable, "unreadable"),
];

pub(super) fn to_status(error: &StoreError) -> Status {
    let (code, word) = match error {
        StoreError::Stale { .. } => (Code::Aborted, "stale"),
        StoreError::Away { .. } => (Code::Unavailable, "away"),
        StoreError::Compacted => (Code::OutOfRange, "compacted"),
        StoreError::Invalid(fault) => {
            let word = FAULTS.iter().find(|(known, _)| known == fault).map_or("unreadable", |(_, word)| word);
            (Code::InvalidArgument, word)
        }
        StoreError::Unauthorized => (Code::Unauthenticated, "unauthorized"),
        StoreError::Garbled => (Code::Internal, "garbled"),
    };
    let mut status = Status::new(code, error.to_string());
    let metadata = status.metadata_mut();
    set(metadata, ERROR, word);
    match error {
        StoreError::Away { retry_after_ms } => set(metadata, RETRY_AFTER_MS, &retry_after_ms.to_string()),
        StoreError::Stale { key } => set(metadata, KEY, &key.to_string()),
        _ => {}
    }
    status
}

fn set(metadata: &mut MetadataMap, name: &'static str, value: &str) {
    // Words, numbers and paths are ASCII: this does not fail.
    if let Ok(value) = value.parse() {
        metadata.insert(name, value);
    }
}

/// Says in an answer how old it may be.
pub(super) fn set_age(metadata: &mut MetadataMap, age: Duration) {
    if age > Duration::ZERO {
        set(metadata, AGE_MS, &age.as_millis().to_string());
    }
}

/// How old an answer may be, in milliseconds.
pub(super) fn age_ms(metadata: &MetadataMap) -> u64 {
    metadata.get(AGE_MS).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or(0)
}

fn get<T: std::str::FromStr>(status: &Status, name: &str) -> Option<T> {
    status.metadata().get(name)?.to_str().ok()?.parse().ok()
}

pub(super) fn from_status(status: &Status) -> StoreError {
    let away = StoreError::Away { retry_after_ms: get(status, RETRY_AFTER_MS).unwrap_or(RETRY_AFTER_DEFAULT_MS) };
    let word: Option<String> = get(status, ERROR);
    match word.as_deref() {
        Some("stale") => get(status, KEY).map_or(StoreError::Garbled, |key| StoreError::Stale { key }),
        Some("away") => away,
        Some("compacted") => StoreError::Compacted,
        Some("unauthorized") => StoreError::Unauthorized,
        Some(word) => {
            let fault = FAULTS.iter().find(|(_, known)| *known == word);
            fault.map_or(StoreError::Garbled, |(fault, _)| StoreError::Invalid(*fault))
        }
        None => match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => StoreError::Unauthorized,
            // Somebody who does not know our methods or our messages, or whose messages are larger than agreed.
            Code::Unimplemented
            | Code::InvalidArgument
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::DataLoss => StoreError::Garbled,
            // What a lost or overloaded server, or a broken connection, looks like.
            _ => away,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use tandem_wire::id::CallId;

    #[test]
    fn every_error_survives_its_status() {
        let faults = FAULTS.map(|(fault, _)| StoreError::Invalid(fault));
        let others = [
            StoreError::Stale { key: Key::Call(CallId::from_bits(7)) },
            StoreError::Away { retry_after_ms: 1_234 },
            StoreError::Compacted,
            StoreError::Unauthorized,
            StoreError::Garbled,
        ];
        for error in faults.into_iter().chain(others) {
            assert_eq!(from_status(&to_status(&error)), error);
        }
    }

    #[test]
    fn what_the_transport_says_is_away_and_what_a_stranger_says_is_garbled() {
        for code in [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled, Code::DeadlineExceeded] {
            assert!(from_status(&Status::new(code, "")).is_away(), "{code:?}");
        }
        for code in [Code::Unimplemented, Code::OutOfRange, Code::ResourceExhausted, Code::InvalidArgument] {
            assert_eq!(from_status(&Status::new(code, "")), StoreError::Garbled, "{code:?}");
        }
    }
}
