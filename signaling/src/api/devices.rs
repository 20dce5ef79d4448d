//! Devices: registering, endorsing, removing, and the list that a caller seals for.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tandem_telemetry::http::extract::{Json, Path};
use tandem_wire::party::{AccountId, DeviceId, Party};

use super::Api;
use super::asker::Asker;
use super::dto::ProblemView;
use super::dto_device::{Device, DeviceList, Endorse, Register, Registered};
use crate::directory::DeviceRecord;
use crate::limits;
use crate::refused::Refused;

/// Whether `text` is base64 of so many bytes.
fn is_bytes(text: &str, bytes: usize) -> bool {
    text.len() <= bytes * 2 && STANDARD.decode(text).is_ok_and(|decoded| decoded.len() == bytes)
}

/// A signature: base64 of 64 bytes.
fn check_signature(text: &str) -> Result<(), Refused> {
    if is_bytes(text, 64) { Ok(()) } else { Err(Refused::BadValue("a signature is base64 of 64 bytes")) }
}

/// Registers the asking device, or registers it anew: a signed prekey is renewed weekly.
#[utoipa::path(
    put, path = "/v1/devices/{device}", tag = "devices", security(("token" = [])),
    params(("device" = String, Path, description = "The token's own device", example = "dev_alice1")),
    request_body = Register,
    responses(
        (status = 200, body = Registered),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn register(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(device): Path<String>,
    Json(body): Json<Register>,
) -> Result<Answer<Registered>, Refused> {
    if device != asker.party.device.as_str() {
        return Err(Refused::NotFound);
    }
    api.gates.registrations_per_account.admit(&asker.party.account, asker.now.mono)?;
    let Register { identity, signed_prekey, push_token, capabilities, custody, endorsement } = body;
    if !is_bytes(&identity.sign, 32) || !is_bytes(&identity.agree, 32) || !is_bytes(&signed_prekey.key, 32) {
        return Err(Refused::BadValue("a key is base64 of 32 bytes"));
    }
    check_signature(&signed_prekey.signature)?;
    endorsement.as_deref().map_or(Ok(()), check_signature)?;
    let visible = |token: &String| {
        (1..=limits::PUSH_TOKEN_BYTES).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic())
    };
    if !push_token.iter().all(visible) {
        return Err(Refused::BadValue("a push token has 1 to 1,024 visible characters"));
    }
    let word = |word: &String| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_-.:/+".contains(&b);
        (1..=limits::CAPABILITY_CHARS).contains(&word.len()) && word.bytes().all(good)
    };
    if capabilities.len() > limits::CAPABILITIES || !capabilities.iter().all(word) {
        return Err(Refused::BadValue("capabilities are at most 16 words of 1 to 32 of A-Z a-z 0-9 _ - . : / +"));
    }
    let record = DeviceRecord {
        sign: identity.sign,
        agree: identity.agree,
        prekey_id: signed_prekey.id,
        prekey: signed_prekey.key,
        prekey_signature: signed_prekey.signature,
        capabilities,
        custody: custody.into(),
        push_token,
        registered: asker.now.wall,
        endorsement,
    };
    let devices = api.node.directory.put(&asker.party, record).await?;
    let endorsed = devices.find(&asker.party.device).is_some_and(|device| device.endorsement.is_some());
    let account = asker.party.account.as_str().to_owned();
    Ok(Answer(Registered { device, account, list_hash: devices.list_hash(), endorsed }))
}

/// Vouches for a device of the asking account, with what the account's root has signed: the device is listed from here on.
#[utoipa::path(
    post, path = "/v1/devices/{device}/endorsement", tag = "devices", security(("token" = [])),
    params(("device" = String, Path, description = "A device of the token's account", example = "dev_alice1")),
    request_body = Endorse,
    responses(
        (status = 204, description = "It is endorsed"),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn endorse(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(device): Path<String>,
    Json(Endorse { endorsement }): Json<Endorse>,
) -> Result<StatusCode, Refused> {
    let device: DeviceId = device.parse().map_err(|_| Refused::NotFound)?;
    // A durable write, as a registration is.
    api.gates.registrations_per_account.admit(&asker.party.account, asker.now.mono)?;
    check_signature(&endorsement)?;
    let party = Party { account: asker.party.account, device };
    api.node.directory.endorse(&party, endorsement).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a device of the asking account: its tokens, sockets, mailbox and legs end.
#[utoipa::path(
    delete, path = "/v1/devices/{device}", tag = "devices", security(("token" = [])),
    params(("device" = String, Path, description = "A device of the token's account", example = "dev_alice1")),
    responses(
        (status = 204, description = "It is removed, or was removed before"),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(device): Path<String>,
) -> Result<StatusCode, Refused> {
    let device: DeviceId = device.parse().map_err(|_| Refused::NotFound)?;
    api.gates.removals_per_device.admit(&asker.party, asker.now.mono)?;
    let party = Party { account: asker.party.account, device };
    if !api.node.directory.devices(&party.account).await?.is_registered(&party.device) {
        let before = api.node.live.is_void(&party, None);
        return if before { Ok(StatusCode::NO_CONTENT) } else { Err(Refused::NotFound) };
    }
    // Its tokens are void from here on. What is interrupted behind this, every node makes good that sees the record.
    let at = api.node.write_removal(&party).await?;
    api.node.directory.remove(&party, at).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The devices of an account, to seal for. An account that nobody knows has none.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/devices", tag = "devices", security(("token" = [])),
    params(("account" = String, Path, description = "The account", example = "bob")),
    responses(
        (status = 200, body = DeviceList),
        (status = "4XX", body = ProblemView, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemView, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    asker: Asker,
    Path(account): Path<String>,
) -> Result<Answer<DeviceList>, Refused> {
    let account: AccountId = account.parse().map_err(|_| Refused::NotFound)?;
    api.gates.lookups_per_account.admit(&asker.party.account, asker.now.mono)?;
    if let Some(source) = &asker.source {
        api.gates.lookups_per_source.admit(source, asker.now.mono)?;
    }
    let devices = api.node.directory.devices(&account).await?;
    let list_hash = devices.list_hash();
    let shown = |devices: &[(DeviceId, DeviceRecord)]| devices.iter().cloned().map(Device::new).collect();
    let pending = (account == asker.party.account).then(|| shown(&devices.pending));
    let (account, root) = (account.as_str().to_owned(), devices.root.clone());
    Ok(Answer(DeviceList { account, root, list_hash, devices: shown(&devices.listed), pending }))
}
