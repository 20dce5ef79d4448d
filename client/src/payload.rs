//! What two devices say to each other under the seal: JSON with a version and a type.
//!
//! Decides what is well formed; what is not, or is of a later version, is no payload. The rule by which two devices find each
//! other's virtual address:
//!
//! 1. A device has an address only after its place in the call, so neither offer nor answer carries one.
//! 2. As soon as a device has an address and knows the other device (the caller by `call.accepted`, the callee from the offer,
//!    both from a leg that joined), it signals `relay` with it, and does so again when the address becomes another one.
//! 3. Who has lost what it was told (a new process that rejoins) says `again`: the other one tells its address once more.
//! 4. The last address that was told counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tandem_wire::id::VirtualAddr;

use crate::api::Media;
use crate::error::Error;

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Envelope {
    v: u8,
    #[serde(flatten)]
    payload: Words,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
enum Words {
    Offer {
        media: Media,
    },
    Answer {},
    Relay {
        relay: std::net::SocketAddr,
        #[serde(default)]
        again: bool,
    },
    App {
        data: String,
    },
    Missed {
        media: Media,
    },
}

/// What is said.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    /// I call you.
    Offer(Media),
    /// I answer.
    Answer,
    /// Here I am in the call.
    Relay { at: VirtualAddr, again: bool },
    /// Whatever the app says.
    App(Vec<u8>),
    /// I called you, and you were not there.
    Missed(Media),
    /// Something of this version that the SDK itself knows nothing of: an app's own transport, as WebRTC is.
    Other(Vec<u8>),
}

/// How any payload begins.
#[derive(Deserialize)]
struct Head {
    v: u8,
    t: String,
}

/// The types that are read here. What claims to be one of these and is not well formed is no payload.
const KNOWN: [&str; 5] = ["offer", "answer", "relay", "app", "missed"];

impl Payload {
    pub(crate) fn write(&self) -> Result<Vec<u8>, Error> {
        let payload = match self {
            Self::Offer(media) => Words::Offer { media: *media },
            Self::Answer => Words::Answer {},
            Self::Relay { at, again } => Words::Relay { relay: at.socket_addr().into(), again: *again },
            Self::App(data) => Words::App { data: STANDARD.encode(data) },
            Self::Missed(media) => Words::Missed { media: *media },
            Self::Other(said) => return Ok(said.clone()),
        };
        serde_json::to_vec(&Envelope { v: VERSION, payload }).map_err(|_| Error::Unreadable)
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let Head { v, t } = serde_json::from_slice(bytes).ok()?;
        if v != VERSION {
            return None;
        }
        if !KNOWN.contains(&t.as_str()) {
            return Some(Self::Other(bytes.to_vec()));
        }
        let envelope: Envelope = serde_json::from_slice(bytes).ok()?;
        Some(match envelope.payload {
            Words::Offer { media } => Self::Offer(media),
            Words::Answer {} => Self::Answer,
            // An address outside the call could not be reached anyway.
            Words::Relay { relay, again } => Self::Relay { at: VirtualAddr::from_peer(relay)?, again },
            Words::App { data } => Self::App(STANDARD.decode(data).ok()?),
            Words::Missed { media } => Self::Missed(media),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn what_is_said_survives_and_has_these_golden_words() {
        let at = VirtualAddr::from_peer("203.0.113.1:1025".parse().unwrap()).unwrap();
        for (payload, words) in [
            (Payload::Offer(Media::Video), r#"{"v":1,"t":"offer","media":"video"}"#),
            (Payload::Answer, r#"{"v":1,"t":"answer"}"#),
            (Payload::Relay { at, again: true }, r#"{"v":1,"t":"relay","relay":"203.0.113.1:1025","again":true}"#),
            (Payload::App(b"hi".to_vec()), r#"{"v":1,"t":"app","data":"aGk="}"#),
            (Payload::Missed(Media::Audio), r#"{"v":1,"t":"missed","media":"audio"}"#),
        ] {
            let bytes = payload.write().unwrap();
            assert_eq!(String::from_utf8(bytes.clone()).unwrap(), words);
            assert!(Payload::read(&bytes) == Some(payload));
        }
    }

    #[test]
    fn what_is_of_a_later_version_or_points_out_of_the_call_is_no_payload() {
        for text in [
            r#"{"v":2,"t":"answer"}"#,
            r#"{"v":1,"t":"offer"}"#,
            r#"{"v":1,"t":7}"#,
            r#"{"v":1,"t":"relay","relay":"192.0.2.1:1025"}"#,
            r#"{"v":1,"t":"relay","relay":"[::1]:1025"}"#,
            "",
            "[]",
        ] {
            assert!(Payload::read(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn what_an_app_says_for_a_transport_of_its_own_is_left_as_it_is() {
        let said = br#"{"v":1,"t":"candidates","candidates":[]}"#;
        assert!(Payload::read(said) == Some(Payload::Other(said.to_vec())));
        assert_eq!(Payload::Other(said.to_vec()).write().unwrap(), said);
        // What a phone puts beside what is known does not hinder.
        assert!(Payload::read(br#"{"v":1,"t":"answer","sdp":"x"}"#) == Some(Payload::Answer));
    }

    #[test]
    fn the_largest_message_of_an_app_fits_a_blob_even_if_nothing_of_it_can_be_packed() {
        let message = crate::random::random::<{ limits::MESSAGE_BYTES }>().unwrap().to_vec();
        let said = Payload::App(message).write().unwrap();
        // Head, tag, padding.
        assert!(said.len() + 6 + 16 + 2 + 128 <= tandem_seal::SEALED_BYTES);
    }
}
