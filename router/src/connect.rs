//! Who is let in: the request that becomes a device's connection.
//!
//! Decides by token, origin and place, before anything is upgraded. A token in the query is refused whatever it says: it
//! would stand in logs (attack S10).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tandem_auth::rate::{Limiter, TooOften};
use tandem_auth::{Claims, TokenKeys};
use tandem_core::mailbox::ConnectionId;
use tandem_telemetry::http::{Place, Problem};
use tandem_telemetry::metric::router::{NotLetIn, REFUSED};
use tandem_wire::units::{Mono, Now};
use tokio::sync::mpsc;

use crate::connection::{self, Outgoing};
use crate::hub::Event;
use crate::limits;

/// What the server selects of what a device offers.
const PROTOCOL: &str = "tandem.v1";
/// What a browser's token stands behind, which can set no header.
const BEARER: &str = "bearer.";

/// What letting in is decided by.
pub(crate) struct Door {
    pub(crate) tokens: TokenKeys,
    pub(crate) origins: Vec<HeaderValue>,
    pub(crate) bad_tokens: Limiter,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) next: AtomicU64,
}

fn refuse(why: NotLetIn, status: StatusCode, code: &'static str, title: &'static str) -> Problem {
    REFUSED.of(why.label()).add(1);
    Problem::new(status, code, title)
}

/// `GET /v1/connect`.
pub(crate) async fn connect(
    State(door): State<Arc<Door>>,
    place: Option<Extension<Arc<Place>>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if query.is_some() {
        let title = "A device's connection takes no query; a token stands in Sec-WebSocket-Protocol or Authorization";
        return Err(refuse(NotLetIn::Malformed, StatusCode::BAD_REQUEST, "query_refused", title));
    }
    if !headers.get_all(header::ORIGIN).iter().all(|origin| door.origins.contains(origin)) {
        let title = "Pages of this site may not connect";
        return Err(refuse(NotLetIn::Origin, StatusCode::FORBIDDEN, "foreign_origin", title));
    }
    let place = place.map(|Extension(place)| place);
    let (claims, expires) = admit(&door, place.as_deref(), &headers)?;
    let upgrade = upgrade.map_err(|_| {
        let title = "This address takes WebSocket connections";
        refuse(NotLetIn::Malformed, StatusCode::UPGRADE_REQUIRED, "upgrade_required", title)
    })?;
    if !offered(&headers).any(|protocol| protocol == PROTOCOL) {
        let title = "The sub-protocol tandem.v1 must be offered";
        return Err(refuse(NotLetIn::Malformed, StatusCode::BAD_REQUEST, "no_protocol", title));
    }
    let id = ConnectionId(door.next.fetch_add(1, Ordering::Relaxed));
    let events = door.events.clone();
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(limits::READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(limits::WRITE_BUFFER_MAX)
        .max_message_size(limits::MESSAGE_BYTES)
        .max_frame_size(limits::MESSAGE_BYTES);
    Ok(upgrade
        .on_upgrade(move |socket| async move {
            let (outgoing, waiting) = mpsc::channel::<Outgoing>(limits::PUSHES_WAITING);
            let Claims { party, issued, .. } = claims;
            if events.send(Event::Connected { id, party, issued, expires, outgoing }).await.is_ok() {
                connection::serve(socket, id, waiting, events, place).await;
            }
        })
        .into_response())
}

/// The claims of a good token that lets a device call, and until when it is good: by the wall clock once, so that one that jumps
/// later ends no connection.
fn admit(door: &Door, place: Option<&Place>, headers: &HeaderMap) -> Result<(Claims, Mono), Problem> {
    let Now { mono, wall } = tandem_net::clock::now();
    let source = place.map(Place::source);
    // Of two, what stands before us may have looked at the other one.
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let header = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    let header = header.and_then(|value| value.split_once(' '));
    let header = header.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
    let token = header.or_else(|| offered(headers).find_map(|protocol| protocol.strip_prefix(BEARER)));
    match token.and_then(|token| door.tokens.verify(token, wall).ok()).filter(|claims| claims.grant.call) {
        Some(claims) => {
            let expires = mono.after(claims.expires.since(wall));
            Ok((claims, expires))
        }
        // A good token passes whoever else is behind the same address.
        None => {
            if let Some(Err(TooOften { retry_after_ms })) = source.map(|source| door.bad_tokens.admit(&source, mono)) {
                let title = "Too many bad tokens";
                let problem = refuse(NotLetIn::TooOften, StatusCode::TOO_MANY_REQUESTS, "rate_limited", title);
                return Err(problem.retry_after_ms(retry_after_ms));
            }
            let title = "The token is missing or not good";
            Err(refuse(NotLetIn::Token, StatusCode::UNAUTHORIZED, "unauthorized", title))
        }
    }
}

/// The sub-protocols that a device offers.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}
