//! Who asks.
//!
//! Decides that a request has a good token of a device that was not removed, and that a source which tries bad ones is
//! told to wait. Leaves what the device may do to the handlers.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use tandem_telemetry::http::{Place, Problem, Source};
use tandem_telemetry::metric::signaling::BAD_TOKENS;
use tandem_wire::party::Party;
use tandem_wire::units::Now;

use super::Api;
use crate::refused::Refused;

/// The device that asks.
pub(super) struct Asker {
    pub(super) party: Party,
    pub(super) source: Option<Source>,
    pub(super) now: Now,
}

impl FromRequestParts<Arc<Api>> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let now = tandem_net::clock::now();
        let source = parts.extensions.get::<Arc<Place>>().map(|place| place.source());
        // A good token passes whoever else is behind the same address: what runs there goes on.
        let bad = || {
            BAD_TOKENS.add(1);
            let admitted = source.map(|source| api.gates.bad_tokens_per_source.admit(&source, now.mono));
            match admitted {
                Some(Err(too_often)) => Refused::from(too_often),
                _ => Refused::Unauthorized,
            }
        };
        // Of two, what stands before us may have looked at the other one.
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
        let token = value.and_then(bearer).ok_or_else(bad)?;
        let claims = api.tokens.verify(token, now.wall).map_err(|_| bad())?;
        if api.node.live.is_void(&claims.party, claims.issued) {
            return Err(bad().into());
        }
        if !claims.grant.call {
            return Err(Refused::Forbidden.into());
        }
        Ok(Self { party: claims.party, source, now })
    }
}

/// The token of `Bearer …` (RFC 6750): the scheme in any case, one space.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
