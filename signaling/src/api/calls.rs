//! Calls: placing one, and every verb of those in it.
//!
//! Decides what a request must say. Leaves transitions to `core::topology` and writing them to [`crate::node`]. What runs
//! goes on: only new calls are counted and capped.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tandem_core::topology::{BlobKind, Call, CallCommand, CallKind, Placed, Refusal, Rejection};
use tandem_telemetry::http::extract::{Json, Path};
use tandem_wire::id::CallId;
use tandem_wire::party::{AccountId, DeviceId, Party};

use super::Api;
use super::asker::Asker;
use super::dto::{
    Accept, CallState, CallView, Empty, IceServer, KindWord, PlaceCall, PlaceInCall, ProblemView, Reject, RejectReason,
    SealedMap, Signal, rfc3339,
};
use crate::directory::Devices;
use crate::limits;
use crate::node::{Sealed, Standing};
use crate::refused::Refused;

fn call_id(text: &str) -> Result<CallId, Refused> {
    text.parse().map_err(|_| Refused::NotFound)
}

/// A blob: base64 of 1 to 8 KiB.
fn check_sealed(sealed: &str) -> Result<(), Refused> {
    let most = limits::SEALED_BYTES.div_ceil(3) * 4;
    let good = sealed.len() <= most && STANDARD.decode(sealed).is_ok_and(|bytes| bytes.len() <= limits::SEALED_BYTES);
    if good && !sealed.is_empty() { Ok(()) } else { Err(Refused::BadValue("sealed is base64 of 1 to 8,192 bytes")) }
}

/// The device's place in a call, with a ticket that is good for as long as the call may last.
fn place_in(api: &Api, standing: &Standing, party: &Party) -> Result<PlaceInCall, Refused> {
    let Standing { call, revision } = standing;
    // A call that is over by now still has a leg for its device, but no ticket opens anything there.
    let leg = call.leg_of(party).ok_or(Refused::Topology(Refusal::UnknownLeg, None))?.n;
    let username = api.tickets.mint(call.id, leg, call.created.after(tandem_core::limits::CALL_LIFE));
    let credential = api.tickets.credential(&username).to_string();
    let urls = api.relays.iter().map(|point| point.turn.clone()).collect();
    Ok(PlaceInCall {
        call_id: call.id.to_string(),
        leg: leg.get(),
        phase: call.phase().into(),
        revision: revision.0,
        ring_expires_at: rfc3339(call.ring_expires()),
        ice_servers: vec![IceServer { urls, username, credential }],
    })
}

fn state(standing: &Standing) -> CallState {
    CallState {
        call_id: standing.call.id.to_string(),
        phase: standing.call.phase().into(),
        revision: standing.revision.0,
    }
}

/// What is sealed for exactly these devices.
fn sealed_for_all(account: &AccountId, devices: &Devices, sealed: SealedMap) -> Result<Vec<Sealed>, Refused> {
    let mut sealed: BTreeMap<DeviceId, String> =
        sealed.into_iter().map(|(id, blob)| Ok((device_id(&id)?, blob))).collect::<Result<_, Refused>>()?;
    let (mut all, mut missing) = (Vec::new(), Vec::new());
    for (id, _) in &devices.0 {
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

fn device_id(text: &str) -> Result<DeviceId, Refused> {
    text.parse().map_err(|_| Refused::BadValue("sealed: not a device id"))
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

/// Whether one more call may begin. What is refused here costs a look at a few counters.
fn admit(api: &Api, asker: &Asker, callee: &AccountId) -> Result<(), Refused> {
    let (account, now) = (&asker.party.account, asker.now.mono);
    api.gates.calls_per_account.admit(account, now)?;
    if let Some(source) = &asker.source {
        api.gates.calls_per_source.admit(source, now)?;
    }
    let policy = &api.gates.policy;
    let (live, placed) = api.node.live.placed_by(account);
    if live >= policy.live_calls {
        return Err(Refused::Overloaded);
    }
    if placed >= policy.live_calls_per_account {
        return Err(Refused::CallQuota);
    }
    if api.node.live.ringing_at(callee) >= policy.live_rings_per_account {
        return Err(Refused::RingQuota);
    }
    api.gates.rings_per_account.admit(callee, now)?;
    Ok(())
}

/// Calls an account: it rings at all of its devices.
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
    let rtts = relay_rtt_ms.values().all(|rtt| (0.0..=60_000.0).contains(rtt));
    if relay_rtt_ms.len() > limits::RELAY_RTTS || !rtts {
        return Err(Refused::BadValue("relay_rtt_ms: at most 16 of 0 to 60,000"));
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
    admit(&api, &asker, &callee)?;
    let own = api.node.directory.devices(&asker.party.account).await?;
    if own.find(&asker.party.device).is_none() {
        return Err(Refused::NotRegistered);
    }
    let devices = api.node.directory.devices(&callee).await?;
    if devices.0.is_empty() {
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
    Ok((StatusCode::CREATED, Answer(place_in(&api, &standing, &asker.party)?)))
}

/// The call of a request that was made before. It costs no new call, and so is not counted as one.
async fn repeated(api: &Api, asker: &Asker, id: CallId, request: Option<&str>) -> Result<Option<Standing>, Refused> {
    if request.is_none() {
        return Ok(None);
    }
    match api.node.look(id, &asker.party).await {
        Ok(standing) if standing.call.ring.as_ref().and_then(|ring| ring.request.as_deref()) == request => {
            Ok(Some(standing))
        }
        Ok(_) => Err(Refused::KeyReused),
        Err(Refused::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How a call stands, for those whom it concerns.
#[utoipa::path(
    get, path = "/v1/calls/{call}", tag = "calls", security(("token" = [])),
    params(("call" = String, Path, description = "The call", example = "call_0006nwt0938nkrkaydxw0128hk")),
    responses(
        (status = 200, body = CallView),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn look(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(call): Path<String>,
) -> Result<Answer<CallView>, Refused> {
    let Standing { call, revision } = api.node.look(call_id(&call)?, &asker.party).await?;
    Ok(Answer(CallView::new(&call, revision, &asker.party)))
}

/// A command that seals nothing.
async fn command(
    api: &Api,
    asker: &Asker,
    call: &str,
    command: impl FnOnce(Party) -> CallCommand,
) -> Result<Standing, Refused> {
    let (id, nothing) = (call_id(call)?, |_: &Call| Ok(Vec::new()));
    api.node.command(id, &asker.party, command(asker.party.clone()), BlobKind::Accept, nothing).await
}

/// Says that the device rings.
#[utoipa::path(
    post, path = "/v1/calls/{call}/ringing", tag = "calls", security(("token" = [])),
    params(("call" = String, Path, description = "The call", example = "call_0006nwt0938nkrkaydxw0128hk")),
    responses(
        (status = 200, body = CallState),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ringing(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(call): Path<String>,
    Json(Empty {}): Json<Empty>,
) -> Result<Answer<CallState>, Refused> {
    command(&api, &asker, &call, CallCommand::Ringing).await.map(|standing| Answer(state(&standing)))
}

/// Answers the call. The first of the callee's devices has it.
#[utoipa::path(
    post, path = "/v1/calls/{call}/accept", tag = "calls", security(("token" = [])),
    params(("call" = String, Path, description = "The call", example = "call_0006nwt0938nkrkaydxw0128hk")),
    request_body = Accept,
    responses(
        (status = 200, body = PlaceInCall),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn accept(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(call): Path<String>,
    Json(Accept { sealed }): Json<Accept>,
) -> Result<Answer<PlaceInCall>, Refused> {
    check_sealed(&sealed)?;
    let to_caller = |call: &Call| {
        let caller = call.caller().cloned().ok_or(Refused::Record)?;
        Ok(vec![Sealed { to: caller, sealed: sealed.clone() }])
    };
    let accept = CallCommand::Accept(asker.party.clone());
    let standing = api.node.command(call_id(&call)?, &asker.party, accept, BlobKind::Accept, to_caller).await?;
    Ok(Answer(place_in(&api, &standing, &asker.party)?))
}

/// Refuses the call: `declined` stops every device of the callee, `busy` only this one.
#[utoipa::path(
    post, path = "/v1/calls/{call}/reject", tag = "calls", security(("token" = [])),
    params(("call" = String, Path, description = "The call", example = "call_0006nwt0938nkrkaydxw0128hk")),
    request_body = Reject,
    responses(
        (status = 200, body = CallState),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn reject(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(call): Path<String>,
    Json(Reject { reason }): Json<Reject>,
) -> Result<Answer<CallState>, Refused> {
    let rejection = match reason {
        RejectReason::Declined => Rejection::Declined,
        RejectReason::Busy => Rejection::Busy,
    };
    let standing = command(&api, &asker, &call, |party| CallCommand::Reject(party, rejection)).await?;
    Ok(Answer(state(&standing)))
}

/// Sends sealed blobs to other legs' devices: candidates, renegotiation, keys.
#[utoipa::path(
    post, path = "/v1/calls/{call}/signal", tag = "calls", security(("token" = [])),
    params(("call" = String, Path, description = "The call", example = "call_0006nwt0938nkrkaydxw0128hk")),
    request_body = Signal,
    responses(
        (status = 200, body = CallState),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn signal(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(call): Path<String>,
    Json(Signal { sealed }): Json<Signal>,
) -> Result<Answer<CallState>, Refused> {
    let id = call_id(&call)?;
    api.gates.signals_per_device.admit(&asker.party, asker.now.mono)?;
    for blob in sealed.values() {
        check_sealed(blob)?;
    }
    let sealed: Vec<(DeviceId, String)> =
        sealed.into_iter().map(|(id, blob)| Ok((device_id(&id)?, blob))).collect::<Result<_, Refused>>()?;
    if sealed.is_empty() || sealed.len() > tandem_core::limits::GROUP_LEGS {
        return Err(Refused::BadValue("sealed: one blob for at least one other device"));
    }
    let by = asker.party.clone();
    let to_legs = |call: &Call| {
        sealed
            .iter()
            .map(|(device, blob)| {
                let mut others = call.legs.iter().filter(|leg| leg.left.is_none()).filter_map(|leg| leg.party.as_ref());
                let to = others.find(|party| party.device == *device && **party != by);
                let to = to.cloned().ok_or(Refused::UnknownRecipient)?;
                Ok(Sealed { to, sealed: blob.clone() })
            })
            .collect()
    };
    // Who sends something is alive.
    let alive = CallCommand::Rejoin(by.clone());
    let standing = api.node.command(id, &by, alive, BlobKind::Signal, to_legs).await?;
    Ok(Answer(state(&standing)))
}

/// Leaves the call. A call of two ends with it; a call that still rings is cancelled by its caller.
#[utoipa::path(
    post, path = "/v1/calls/{call}/leave", tag = "calls", security(("token" = [])),
    params(("call" = String, Path, description = "The call", example = "call_0006nwt0938nkrkaydxw0128hk")),
    responses(
        (status = 200, body = CallState),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn leave(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(call): Path<String>,
    Json(Empty {}): Json<Empty>,
) -> Result<Answer<CallState>, Refused> {
    command(&api, &asker, &call, CallCommand::Hangup).await.map(|standing| Answer(state(&standing)))
}

/// Ends the call for everybody; a call that still rings is cancelled by its caller.
#[utoipa::path(
    post, path = "/v1/calls/{call}/end", tag = "calls", security(("token" = [])),
    params(("call" = String, Path, description = "The call", example = "call_0006nwt0938nkrkaydxw0128hk")),
    responses(
        (status = 200, body = CallState),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn end(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(call): Path<String>,
    Json(Empty {}): Json<Empty>,
) -> Result<Answer<CallState>, Refused> {
    command(&api, &asker, &call, CallCommand::Hangup).await.map(|standing| Answer(state(&standing)))
}

/// Comes back to the call with the same leg: after a reload, a crash, a lost socket.
#[utoipa::path(
    post, path = "/v1/calls/{call}/rejoin", tag = "calls", security(("token" = [])),
    params(("call" = String, Path, description = "The call", example = "call_0006nwt0938nkrkaydxw0128hk")),
    responses(
        (status = 200, body = PlaceInCall),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rejoin(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(call): Path<String>,
    Json(Empty {}): Json<Empty>,
) -> Result<Answer<PlaceInCall>, Refused> {
    let standing = command(&api, &asker, &call, CallCommand::Rejoin).await?;
    Ok(Answer(place_in(&api, &standing, &asker.party)?))
}

/// A fresh ticket for the device's leg.
#[utoipa::path(
    post, path = "/v1/calls/{call}/ticket", tag = "calls", security(("token" = [])),
    params(("call" = String, Path, description = "The call", example = "call_0006nwt0938nkrkaydxw0128hk")),
    responses(
        (status = 200, body = PlaceInCall),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ticket(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(call): Path<String>,
    Json(Empty {}): Json<Empty>,
) -> Result<Answer<PlaceInCall>, Refused> {
    // Who asks for one is alive, and must be in a call that goes on (attack S23).
    let standing = command(&api, &asker, &call, CallCommand::Rejoin).await?;
    Ok(Answer(place_in(&api, &standing, &asker.party)?))
}
