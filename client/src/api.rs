//! The requests of docs/api.md, typed.
//!
//! Decides what is asked and how an answer is read. Leaves trying again to [`crate::http`], and what a call is to
//! [`crate::call`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_seal::{DeviceList, Registration};
use tandem_wire::id::{CallId, LegId};
use tandem_wire::party::{AccountId, DeviceId, Party};
use tandem_wire::redact::Secret;

use crate::error::{Error, Reason};
use crate::http::{Asked, Asker, Http, read};
use crate::token::Tokens;

/// What a caller wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Media {
    /// Voice.
    Audio,
    /// Voice and pictures.
    Video,
}

/// Why a device rejects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// Its person does not want the call: no device of theirs rings on.
    Declined,
    /// It is in another call: the others ring on.
    Busy,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nobody has answered yet.
    Ringing,
    /// It runs.
    Active,
    /// It is over.
    Ended,
}

/// A TURN server and how to log in there: good for this device's leg of this call, for as long as the call may last.
#[derive(Debug, Clone)]
pub struct TurnServer {
    /// `turn:host:port?transport=udp`, best first.
    pub urls: Vec<String>,
    pub(crate) username: Secret,
    pub(crate) credential: Secret,
}

impl TurnServer {
    /// One that the app knows of.
    #[must_use]
    pub fn new(urls: Vec<String>, username: &str, credential: &str) -> Self {
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        Self { urls, username: secret(username), credential: secret(credential) }
    }
}

/// A device's place in a call.
#[derive(Debug, Clone)]
pub struct Place {
    /// The call.
    pub call: CallId,
    /// The device's leg.
    pub leg: LegId,
    /// How far the call has come.
    pub phase: Phase,
    /// Of the call's record.
    pub revision: u64,
    /// The ways into the call, best first.
    pub servers: Vec<TurnServer>,
}

#[derive(Deserialize)]
struct PlaceView {
    call_id: CallId,
    leg: LegId,
    phase: Phase,
    revision: u64,
    ice_servers: Vec<IceServer>,
}

#[derive(Deserialize)]
struct IceServer {
    urls: Vec<String>,
    username: String,
    credential: String,
}

impl From<PlaceView> for Place {
    fn from(view: PlaceView) -> Self {
        let PlaceView { call_id, leg, phase, revision, ice_servers } = view;
        let server = |IceServer { urls, username, credential }: IceServer| TurnServer {
            urls,
            username: Secret::new(username.into_bytes()),
            credential: Secret::new(credential.into_bytes()),
        };
        Self { call: call_id, leg, phase, revision, servers: ice_servers.into_iter().map(server).collect() }
    }
}

/// A party, as it stands in answers and pushes.
#[derive(Clone, Deserialize)]
pub(crate) struct PartyView {
    pub(crate) account: AccountId,
    pub(crate) device: DeviceId,
}

impl From<PartyView> for Party {
    fn from(PartyView { account, device }: PartyView) -> Self {
        Self { account, device }
    }
}

/// A call, as a participant sees it.
#[derive(Deserialize)]
pub(crate) struct CallView {
    pub(crate) phase: Phase,
    pub(crate) revision: u64,
    #[serde(default)]
    pub(crate) legs: Vec<LegView>,
    #[serde(default)]
    pub(crate) ended: Option<EndedView>,
}

#[derive(Deserialize)]
pub(crate) struct LegView {
    pub(crate) leg: LegId,
    #[serde(flatten)]
    pub(crate) party: PartyView,
}

#[derive(Deserialize)]
pub(crate) struct EndedView {
    pub(crate) reason: Reason,
}

/// Places a call.
#[derive(Serialize)]
pub(crate) struct PlaceCall<'a> {
    pub(crate) to: [&'a str; 1],
    pub(crate) kind: &'static str,
    pub(crate) media: Media,
    pub(crate) sealed: BTreeMap<String, String>,
    pub(crate) missed: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Endorse {
    endorsement: String,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Accept {
    sealed: String,
}

#[derive(Serialize)]
struct Reject {
    reason: Rejection,
}

#[derive(Serialize)]
struct Signal<'a> {
    sealed: BTreeMap<&'a str, String>,
}

/// Signaling, asked by one device.
pub(crate) struct Api {
    http: Http,
    tokens: Tokens,
}

impl Api {
    pub(crate) fn new(base: &str, source: Option<IpAddr>, tokens: Tokens) -> Result<Self, Error> {
        Ok(Self { http: Http::new(base, source)?, tokens })
    }

    async fn ask<T: DeserializeOwned>(&self, asked: Asked<'_>) -> Result<T, Error> {
        read(&self.http.ask(asked, Asker::Device(&self.tokens)).await?)
    }

    pub(crate) async fn register(&self, device: &DeviceId, registration: &Registration) -> Result<(), Error> {
        let path = format!("/v1/devices/{}", device.as_str());
        let asked = Asked::with(Method::PUT, &path, registration)?;
        self.http.ask(asked, Asker::Device(&self.tokens)).await.map(drop)
    }

    pub(crate) async fn endorse(&self, device: &DeviceId, endorsement: &[u8; 64]) -> Result<(), Error> {
        let path = format!("/v1/devices/{}/endorsement", device.as_str());
        let asked = Asked::with(Method::POST, &path, &Endorse { endorsement: STANDARD.encode(endorsement) })?;
        self.http.ask(asked, Asker::Device(&self.tokens)).await.map(drop)
    }

    pub(crate) async fn remove(&self, device: &DeviceId) -> Result<(), Error> {
        let path = format!("/v1/devices/{}", device.as_str());
        let asked = Asked { method: Method::DELETE, ..Asked::get(&path) };
        self.http.ask(asked, Asker::Device(&self.tokens)).await.map(drop)
    }

    pub(crate) async fn devices(&self, account: &AccountId) -> Result<DeviceList, Error> {
        self.ask(Asked::get(&format!("/v1/accounts/{}/devices", account.as_str()))).await
    }

    pub(crate) async fn place(&self, body: &PlaceCall<'_>, key: &str) -> Result<Place, Error> {
        let asked = Asked { key: Some(key), ..Asked::with(Method::POST, "/v1/calls", body)? };
        Ok(self.ask::<PlaceView>(asked).await?.into())
    }

    pub(crate) async fn look(&self, call: CallId) -> Result<CallView, Error> {
        self.ask(Asked::get(&format!("/v1/calls/{call}"))).await
    }

    pub(crate) async fn ringing(&self, call: CallId) -> Result<(), Error> {
        self.verb(call, "ringing", &Empty {}).await
    }

    pub(crate) async fn accept(&self, call: CallId, sealed: &[u8]) -> Result<Place, Error> {
        self.place_by(call, "accept", &Accept { sealed: STANDARD.encode(sealed) }).await
    }

    pub(crate) async fn reject(&self, call: CallId, reason: Rejection) -> Result<(), Error> {
        self.verb(call, "reject", &Reject { reason }).await
    }

    pub(crate) async fn signal(&self, call: CallId, to: &DeviceId, sealed: &[u8]) -> Result<(), Error> {
        let sealed = BTreeMap::from([(to.as_str(), STANDARD.encode(sealed))]);
        self.verb(call, "signal", &Signal { sealed }).await
    }

    pub(crate) async fn leave(&self, call: CallId) -> Result<(), Error> {
        self.verb(call, "leave", &Empty {}).await
    }

    pub(crate) async fn rejoin(&self, call: CallId) -> Result<Place, Error> {
        self.place_by(call, "rejoin", &Empty {}).await
    }

    pub(crate) async fn ticket(&self, call: CallId) -> Result<Place, Error> {
        self.place_by(call, "ticket", &Empty {}).await
    }

    async fn verb(&self, call: CallId, verb: &str, body: &impl Serialize) -> Result<(), Error> {
        let path = format!("/v1/calls/{call}/{verb}");
        let asked = Asked::with(Method::POST, &path, body)?;
        self.http.ask(asked, Asker::Device(&self.tokens)).await.map(drop)
    }

    async fn place_by(&self, call: CallId, verb: &str, body: &impl Serialize) -> Result<Place, Error> {
        let path = format!("/v1/calls/{call}/{verb}");
        Ok(self.ask::<PlaceView>(Asked::with(Method::POST, &path, body)?).await?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_does_not_print_its_ticket() {
        let text = r#"{"call_id":"call_0006nwt0938nkrkaydxw0128hk","leg":1,"phase":"ringing","revision":7,
            "ring_expires_at":"2026-11-18T11:06:40.123Z","ice_servers":[{"urls":["turn:127.0.0.1:3478?transport=udp"],
            "username":"canary-user","credential":"canary-password"}]}"#;
        let place = Place::from(read::<PlaceView>(text.as_bytes()).unwrap());
        assert_eq!((place.leg.get(), place.phase, place.servers.len()), (1, Phase::Ringing, 1));
        assert_eq!(place.servers[0].username.expose(), b"canary-user");
        assert!(!format!("{place:?}").contains("canary"));
    }
}
