//! Calls: every verb of those in one.
//!
//! Decides what a request must say. Leaves transitions to `core::topology` and writing them to [`crate::node`].

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tandem_core::topology::{BlobKind, Call, CallCommand, Refusal, Rejection};
use tandem_telemetry::http::extract::{Json, Path};
use tandem_wire::id::CallId;
use tandem_wire::party::{DeviceId, Party};

use super::Api;
use super::asker::Asker;
use super::dto::{
    Accept, CallState, CallView, Empty, IceServer, PlaceInCall, ProblemView, Reject, RejectReason, Signal, rfc3339,
};
use crate::limits;
use crate::node::{Sealed, Standing};
use crate::refused::Refused;

fn call_id(text: &str) -> Result<CallId, Refused> {
    text.parse().map_err(|_| Refused::NotFound)
}

/// A blob: base64 of 1 to 8 KiB.
pub(super) fn check_sealed(sealed: &str) -> Result<(), Refused> {
    let most = limits::SEALED_BYTES.div_ceil(3) * 4;
    let good = sealed.len() <= most && STANDARD.decode(sealed).is_ok_and(|bytes| bytes.len() <= limits::SEALED_BYTES);
    if good && !sealed.is_empty() { Ok(()) } else { Err(Refused::BadValue("sealed is base64 of 1 to 8,192 bytes")) }
}

/// The device's place in a call, with a ticket that is good for as long as the call may last.
pub(super) fn place_in(api: &Api, standing: &Standing, party: &Party) -> Result<PlaceInCall, Refused> {
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

pub(super) fn device_id(text: &str) -> Result<DeviceId, Refused> {
    text.parse().map_err(|_| Refused::BadValue("sealed: not a device id"))
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
    let own = api.node.directory.devices(&asker.party.account).await;
    let to_caller = |call: &Call| {
        // Asked here, where the call is known to concern the device and to be free: a device that rings may have become
        // pending meanwhile, and of a call of others it learns nothing.
        if own.as_ref().map_err(|error| *error)?.find(&asker.party.device).is_none() {
            return Err(Refused::NotRegistered);
        }
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

/// A call of two ends when one of them leaves.
async fn hang_up(api: &Api, asker: &Asker, call: &str) -> Result<Answer<CallState>, Refused> {
    command(api, asker, call, CallCommand::Hangup).await.map(|standing| Answer(state(&standing)))
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
    hang_up(&api, &asker, &call).await
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
    hang_up(&api, &asker, &call).await
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
