//! The device API over HTTP (docs/api.md): routes, and what every handler works on.
//!
//! Decides the routes, who may read answers from a browser (CORS), and how often anybody may ask. Leaves words and statuses
//! of errors to [`crate::refused`], and the doing to [`crate::node`].

mod asker;
mod calls;
mod dev;
mod devices;
mod docs;
mod dto;
mod dto_device;
mod place;
mod relays;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::routing::{get, post, put};
use tandem_auth::rate::Limiter;
use tandem_auth::{TokenKey, TokenKeys};
use tandem_wire::ticket::TicketKey;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::node::Node;
use crate::policy::Policy;

pub use docs::openapi;

/// How often anybody may ask, one counter a kind.
pub(crate) struct Gates {
    pub(crate) policy: Policy,
    calls_per_account: Limiter,
    calls_per_source: Limiter,
    rings_per_account: Limiter,
    lookups_per_account: Limiter,
    lookups_per_source: Limiter,
    signals_per_device: Limiter,
    registrations_per_account: Limiter,
    removals_per_device: Limiter,
    bad_tokens_per_source: Limiter,
}

impl Gates {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            calls_per_account: Limiter::new(policy.calls_per_account),
            calls_per_source: Limiter::new(policy.calls_per_source),
            rings_per_account: Limiter::new(policy.rings_per_account),
            lookups_per_account: Limiter::new(policy.lookups_per_account),
            lookups_per_source: Limiter::new(policy.lookups_per_source),
            signals_per_device: Limiter::new(policy.signals_per_device),
            registrations_per_account: Limiter::new(policy.registrations_per_account),
            removals_per_device: Limiter::new(policy.removals_per_device),
            bad_tokens_per_source: Limiter::new(policy.bad_tokens_per_source),
        }
    }
}

/// A PoP's relays, as clients reach them.
#[derive(Debug, Clone)]
pub struct RelayPoint {
    /// TURN, as in `turn:203.0.113.7:3478?transport=udp`.
    pub turn: String,
    /// STUN Binding for latency probes, as in `stun:203.0.113.7:3478`.
    pub stun: String,
}

/// Mints tokens for whoever asks: development only.
#[derive(Debug, Clone)]
pub struct DevTokens {
    /// The issuer's id.
    pub issuer: String,
    /// Its key.
    pub key: TokenKey,
}

/// What every handler works on.
pub(crate) struct Api {
    pub(crate) node: Arc<Node>,
    pub(crate) gates: Gates,
    pub(crate) tokens: TokenKeys,
    pub(crate) tickets: TicketKey,
    pub(crate) relays: Vec<RelayPoint>,
    pub(crate) dev: Option<DevTokens>,
    /// Draws the ids of calls that may be asked for twice.
    pub(crate) ids: crate::ids::CallIds,
}

/// The routes.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new()
        .route("/v1/devices/{device}", put(devices::register).delete(devices::remove))
        .route("/v1/devices/{device}/endorsement", post(devices::endorse))
        .route("/v1/accounts/{account}/devices", get(devices::list))
        .route("/v1/relays", get(relays::list))
        .route("/v1/calls", post(place::place))
        .route("/v1/calls/{call}", get(calls::look))
        .route("/v1/calls/{call}/ringing", post(calls::ringing))
        .route("/v1/calls/{call}/accept", post(calls::accept))
        .route("/v1/calls/{call}/reject", post(calls::reject))
        .route("/v1/calls/{call}/signal", post(calls::signal))
        .route("/v1/calls/{call}/leave", post(calls::leave))
        .route("/v1/calls/{call}/end", post(calls::end))
        .route("/v1/calls/{call}/rejoin", post(calls::rejoin))
        .route("/v1/calls/{call}/ticket", post(calls::ticket))
        .route("/openapi.json", get(docs::json))
        .route("/docs", get(docs::page))
        .route("/docs/style.css", get(docs::style));
    if api.dev.is_some() {
        router = router.route("/v1/dev/tokens", post(dev::mint));
    }
    router.with_state(api)
}

/// Lets pages of `origins` read what is answered, errors too.
pub(crate) fn cors(origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("idempotency-key")])
        .expose_headers([header::RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .max_age(std::time::Duration::from_secs(600))
}
