//! Relays: which PoPs a device may probe before it calls.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;

use super::Api;
use super::asker::Asker;
use super::dto::ProblemView;
use super::dto_device::{Relay, RelayList};
use crate::refused::Refused;

/// Candidate PoPs for latency probes (STUN Binding).
#[utoipa::path(
    get, path = "/v1/relays", tag = "calls", security(("token" = [])),
    responses(
        (status = 200, body = RelayList),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(api): State<Arc<Api>>, _asker: Asker) -> Result<Answer<RelayList>, Refused> {
    let pop = api.node.pop.to_string();
    let relay = |point: &super::RelayPoint| Relay { pop: pop.clone(), stun: point.stun.clone(), reserve: false };
    Ok(Answer(RelayList { items: api.relays.iter().map(relay).collect(), next_cursor: None }))
}
