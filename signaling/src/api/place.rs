//! Placing a call.
//!
//! Decides what the request must say, whether one more call may begin, and when it is one that was made before. Leaves
//! writing it to [`crate::node`]. Only this is counted and capped: what runs goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tandem_core::topology::{CallKind, Placed};
use tandem_telemetry::http::extract::Json;
use tandem_telemetry::metric::signaling::{PLACED, SHED};
use tandem_wire::id::CallId;
use tandem_wire::party::{AccountId, DeviceId, Party};

use super::Api;
use super::asker::Asker;
use super::calls::{check_sealed, device_id, place_in};
use super::dto::{KindWord, PlaceCall, PlaceInCall, ProblemView, SealedMap};
use crate::directory::Devices;
use crate::limits;
use crate::node::{Sealed, Standing};
use crate::refused::Refused;

/// What is sealed for exactly these devices.
fn sealed_for_all(account: &AccountId, devices: &Devices, sealed: SealedMap) -> Result<Vec<Sealed>, Refused> {
    let mut sealed: BTreeMap<DeviceId, String> =
        sealed.into_iter().map(|(id, blob)| Ok((device_id(&id)?, blob))).collect::<Result<_, Refused>>()?;
    let (mut all, mut missing) = (Vec::new(), Vec::new());
    for (id, _) in &devices.listed {
        match sealed.remove(id) {
            Some(blob) => {
                let to = Party { account: account.clone(), device: id.clone() };
                all.push(Sealed { to, sealed: blob });
            }
            None => missing.push(id.clone()),
        }
    }
    let extra: Vec<DeviceId> = sealed.into_keys().collect();
    if missing.is_empty() && extra.is_empty() { Ok(all) } else { Err(Refused::DevicesChanged { missing, extra }) }
}

/// The request's own name, if it may be repeated.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all("idempotency-key").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key("idempotency-key") { Err(bad_key()) } else { Ok(None) };
    };
    let key = value.to_str().map_err(|_| bad_key())?;
    let good = (1..=limits::IDEMPOTENCY_KEY_CHARS).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(Some(key)) } else { Err(bad_key()) }
}

const fn bad_key() -> Refused {
    Refused::BadHeader("Idempotency-Key: one of 1 to 64 visible characters")
}

/// `pop_` and four hexadecimal digits.
fn is_pop(text: &str) -> bool {
    text.strip_prefix("pop_").is_some_and(|rest| rest.len() == 4 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A place for one more call, until it is dropped.
struct Reserved<'a> {
    api: &'a Api,
    account: &'a AccountId,
    callee: &'a AccountId,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.api.node.live.release(self.account, self.callee);
    }
}

/// Whether one more call may begin. What is refused here costs a look at a few counters.
fn admit<'a>(api: &'a Api, asker: &'a Asker, callee: &'a AccountId) -> Result<Reserved<'a>, Refused> {
    let (account, now) = (&asker.party.account, asker.now.mono);
    api.gates.calls_per_account.admit(account, now)?;
    if let Some(source) = &asker.source {
        api.gates.calls_per_source.admit(source, now)?;
    }
    api.gates.rings_per_account.look(callee, now)?;
    api.node.live.reserve(account, callee, &api.gates.policy)?;
    let reserved = Reserved { api, account, callee };
    api.gates.rings_per_account.admit(callee, now)?;
    Ok(reserved)
}

/// Calls an account: it rings at all of its devices that are listed.
#[utoipa::path(
    post, path = "/v1/calls", tag = "calls", security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible characters: makes it safe to repeat")),
    request_body = PlaceCall,
    responses(
        (status = 201, body = PlaceInCall),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn place(
    State(api): State<Arc<Api>>,
    asker: Asker,
    headers: HeaderMap,
    Json(body): Json<PlaceCall>,
) -> Result<(StatusCode, Answer<PlaceInCall>), Refused> {
    let PlaceCall { to, kind, media, sealed, missed, relay_rtt_ms } = body;
    if kind == KindWord::Group {
        return Err(Refused::KindUnsupported);
    }
    let [callee] = to.as_slice() else { return Err(Refused::BadValue("to: a call of two rings at one account")) };
    let callee: AccountId = callee.parse().map_err(|_| Refused::BadValue("to: not an account id"))?;
    if callee == asker.party.account {
        return Err(Refused::SelfCall);
    }
    let rtt = |(pop, rtt): (&String, &f64)| is_pop(pop) && (0.0..=60_000.0).contains(rtt);
    if relay_rtt_ms.len() > limits::RELAY_RTTS || !relay_rtt_ms.iter().all(rtt) {
        return Err(Refused::BadValue("relay_rtt_ms: at most 16 PoPs, each with 0 to 60,000"));
    }
    if missed.len() > limits::DEVICES_PER_ACCOUNT {
        return Err(Refused::BadValue("missed: at most one for each device of the callee"));
    }
    for blob in sealed.values().chain(missed.values()) {
        check_sealed(blob)?;
    }
    let key = idempotency_key(&headers)?;
    let (id, request) = match key {
        None => (api.ids.random()?, None),
        Some(key) => {
            let words = serde_json::to_string(&(kind, media)).map_err(|_| Refused::Record)?;
            (api.ids.of_request(&asker.party, key), Some(api.ids.fingerprint(&[key, callee.as_str(), &words])))
        }
    };
    if let Some(standing) = repeated(&api, &asker, id, request.as_deref()).await? {
        return Ok((StatusCode::CREATED, Answer(place_in(&api, &standing, &asker.party)?)));
    }
    let _reserved = admit(&api, &asker, &callee).inspect_err(|_| SHED.add(1))?;
    let own = api.node.directory.devices(&asker.party.account).await?;
    if own.find(&asker.party.device).is_none() {
        return Err(Refused::NotRegistered);
    }
    let devices = api.node.directory.devices(&callee).await?;
    if devices.listed.is_empty() {
        return Err(Refused::NoDevices);
    }
    let offers = sealed_for_all(&callee, &devices, sealed)?;
    // A note is for whom the caller has one; for a device that is not there it is for nobody.
    let mut notes = Vec::new();
    for (id, blob) in missed {
        let device = device_id(&id)?;
        if devices.find(&device).is_some() {
            notes.push(Sealed { to: Party { account: callee.clone(), device }, sealed: blob });
        }
    }
    let placed = Placed {
        id,
        kind: CallKind::OneToOne,
        media: media.into(),
        caller: asker.party.clone(),
        callees: offers.iter().map(|offer| offer.to.clone()).collect(),
        request,
    };
    let standing = api.node.place(placed, offers, notes).await?;
    PLACED.add(1);
    Ok((StatusCode::CREATED, Answer(place_in(&api, &standing, &asker.party)?)))
}

/// The call of a request that was made before, as far as it is known here: if it is not, writing it finds that out. It costs no
/// new call, and so is not counted as one.
async fn repeated(api: &Api, asker: &Asker, id: CallId, request: Option<&str>) -> Result<Option<Standing>, Refused> {
    if request.is_none() {
        return Ok(None);
    }
    match api.node.known(id, &asker.party).await {
        Ok(standing) if standing.call.ring.as_ref().and_then(|ring| ring.request.as_deref()) == request => {
            Ok(Some(standing))
        }
        Ok(_) => Err(Refused::KeyReused),
        Err(Refused::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
