//! Tokens for whoever asks: development only. The route is not there otherwise.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use tandem_auth::{Claims, Grant};
use tandem_telemetry::http::extract::Json;
use tandem_wire::party::Party;

use super::Api;
use super::dto::{MintToken, Token};
use crate::limits;
use crate::refused::Refused;

pub(super) async fn mint(State(api): State<Arc<Api>>, Json(body): Json<MintToken>) -> Result<Answer<Token>, Refused> {
    let account = body.account.parse().map_err(|_| Refused::BadValue("account: not an account id"))?;
    let device = body.device.parse().map_err(|_| Refused::BadValue("device: not a device id"))?;
    let now = tandem_net::clock::now().wall;
    let claims = Claims {
        party: Party { account, device },
        grant: Grant { call: true, admin: body.admin },
        issued: Some(now.as_secs()),
        expires: now.after(limits::DEV_TOKEN_LIFE),
    };
    let dev = api.dev.as_ref().ok_or(Refused::NotFound)?;
    let token = dev.key.mint(&dev.issuer, &claims).ok_or(Refused::Record)?;
    Ok(Answer(Token { token }))
}
