//! Offers and notes: what is sealed to a device that one has no session with yet.
//!
//! Decides their bytes (docs/sealing.md, "Blobs") and which HPKE context (RFC 9180) each is sealed in. Leaves which keys
//! those are to the keyring, and what follows an offer to [`crate::session`].

use hpke::aead::{AeadCtxR, AesGcm128};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use tandem_wire::party::Party;
use tandem_wire::statement::{frame, ids};

use crate::keys::{Key, SecretKey};
use crate::session::{Role, Secrets};
use crate::{SEALED_BYTES, SealError, clear, random};

pub(crate) const VERSION: u8 = 1;
const OFFER: u8 = 1;
pub(crate) const SESSION: u8 = 2;
const NOTE: u8 = 3;
/// The tag of AES-128-GCM.
pub(crate) const TAG: usize = 16;

/// The caller's random name of a sealing, and of the session that follows from it.
pub(crate) type Nonce = [u8; 16];

type Dh = X25519HkdfSha256;

/// Which device seals and which opens.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a> {
    pub(crate) from: &'a Party,
    pub(crate) to: &'a Party,
}

impl Ends<'_> {
    fn info(self, label: &[u8], nonce: &Nonce) -> Vec<u8> {
        let ([account, device], [to_account, to_device]) = (ids(self.from), ids(self.to));
        frame(&[label, account, device, to_account, to_device, nonce])
    }
}

/// An offer, and the secrets of the session that it opens.
pub(crate) fn seal_offer(
    ends: Ends<'_>,
    by: &SecretKey,
    prekey: (u32, &Key),
    said: &[u8],
) -> Result<(Vec<u8>, Secrets), SealError> {
    let nonce: Nonce = random()?;
    let head = [&[VERSION, OFFER][..], &prekey.0.to_be_bytes(), &nonce].concat();
    let info = ends.info(b"tandem/v1 offer", &nonce);
    let (blob, secrets) = seal(&head, &info, by, prekey.1, said)?;
    Ok((blob, secrets))
}

pub(crate) fn seal_note(ends: Ends<'_>, by: &SecretKey, agree: &Key, said: &[u8]) -> Result<Vec<u8>, SealError> {
    let nonce: Nonce = random()?;
    let head = [&[VERSION, NOTE][..], &nonce].concat();
    let (blob, _) = seal(&head, &ends.info(b"tandem/v1 note", &nonce), by, agree, said)?;
    Ok(blob)
}

fn seal(head: &[u8], info: &[u8], by: &SecretKey, to: &Key, said: &[u8]) -> Result<(Vec<u8>, Secrets), SealError> {
    let to = public(to)?;
    let (own, own_public) = pair(by)?;
    let mode = OpModeS::Auth((own, own_public));
    let (enc, mut context) =
        hpke::setup_sender::<AesGcm128, HkdfSha256, Dh>(&mode, &to, info).map_err(|_| SealError::BadDeviceList)?;
    let mut blob = [head, &enc.to_bytes()].concat();
    let sealed = context.seal(&clear::pack(said), &blob).map_err(|_| SealError::Forged)?;
    blob.extend(sealed);
    if blob.len() > SEALED_BYTES {
        return Err(SealError::Malformed);
    }
    let secrets = Secrets::export(Role::Caller, |label, out| context.export(label, out).is_ok())?;
    Ok((blob, secrets))
}

/// What stands before the ciphertext of an offer.
pub(crate) struct OfferHead {
    pub(crate) prekey: u32,
    pub(crate) nonce: Nonce,
}

/// Reads it, so that the keyring can say whether it has the prekey.
pub(crate) fn offer_head(blob: &[u8]) -> Result<OfferHead, SealError> {
    let [VERSION, OFFER, rest @ ..] = checked(blob)? else { return Err(SealError::Malformed) };
    let (prekey, rest) = rest.split_first_chunk().ok_or(SealError::Malformed)?;
    let nonce = rest.first_chunk().ok_or(SealError::Malformed)?;
    Ok(OfferHead { prekey: u32::from_be_bytes(*prekey), nonce: *nonce })
}

pub(crate) fn open_offer(
    ends: Ends<'_>,
    prekey: &SecretKey,
    by: &Key,
    blob: &[u8],
) -> Result<(Vec<u8>, Secrets), SealError> {
    let OfferHead { nonce, .. } = offer_head(blob)?;
    let (said, context) = open(22, &ends.info(b"tandem/v1 offer", &nonce), prekey, by, blob)?;
    let secrets = Secrets::export(Role::Callee, |label, out| context.export(label, out).is_ok())?;
    Ok((said, secrets))
}

pub(crate) fn open_note(ends: Ends<'_>, agree: &SecretKey, by: &Key, blob: &[u8]) -> Result<Vec<u8>, SealError> {
    let [VERSION, NOTE, rest @ ..] = checked(blob)? else { return Err(SealError::Malformed) };
    let nonce = rest.first_chunk().ok_or(SealError::Malformed)?;
    Ok(open(18, &ends.info(b"tandem/v1 note", nonce), agree, by, blob)?.0)
}

type Context = AeadCtxR<AesGcm128, HkdfSha256, Dh>;

/// `head`: the bytes before the encapsulated key.
fn open(head: usize, info: &[u8], own: &SecretKey, by: &Key, blob: &[u8]) -> Result<(Vec<u8>, Context), SealError> {
    let (aad, sealed) = blob.split_at_checked(head + 32).ok_or(SealError::Malformed)?;
    let enc = aad.get(head..).ok_or(SealError::Malformed)?;
    if sealed.len() < TAG {
        return Err(SealError::Malformed);
    }
    let enc = <Dh as Kem>::EncappedKey::from_bytes(enc).map_err(|_| SealError::Malformed)?;
    let (own, _) = pair(own)?;
    let mut context = hpke::setup_receiver::<AesGcm128, HkdfSha256, Dh>(&OpModeR::Auth(public(by)?), &own, &enc, info)
        .map_err(|_| SealError::Forged)?;
    let packed = context.open(sealed, aad).map_err(|_| SealError::Forged)?;
    Ok((clear::unpack(&packed)?, context))
}

fn public(key: &Key) -> Result<<Dh as Kem>::PublicKey, SealError> {
    <Dh as Kem>::PublicKey::from_bytes(key).map_err(|_| SealError::BadDeviceList)
}

fn pair(key: &SecretKey) -> Result<(<Dh as Kem>::PrivateKey, <Dh as Kem>::PublicKey), SealError> {
    let secret = <Dh as Kem>::PrivateKey::from_bytes(key.expose()).map_err(|_| SealError::Malformed)?;
    let public = Dh::sk_to_pk(&secret);
    Ok((secret, public))
}

/// The public key of an X25519 secret.
pub(crate) fn public_of(key: &SecretKey) -> Result<Key, SealError> {
    Ok(pair(key)?.1.to_bytes().into())
}

fn checked(blob: &[u8]) -> Result<&[u8], SealError> {
    if blob.len() > SEALED_BYTES { Err(SealError::Malformed) } else { Ok(blob) }
}
