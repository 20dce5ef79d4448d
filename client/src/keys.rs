//! The keys of a device.
//!
//! Decides how they are drawn and written. For now they are random and used for nothing but to be registered: X25519 keys are
//! opaque bytes here, until sealing needs them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What a device tells of itself when it is registered.
#[derive(Clone, Serialize, Deserialize)]
pub struct PublicKeys {
    identity: Identity,
    signed_prekey: Prekey,
}

#[derive(Clone, Serialize, Deserialize)]
struct Identity {
    sign: String,
    agree: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Prekey {
    id: u32,
    key: String,
    signature: String,
}

impl PublicKeys {
    /// The Ed25519 key, 32 bytes. `None`: the server passed on something that is none.
    #[must_use]
    pub fn sign(&self) -> Option<[u8; 32]> {
        STANDARD.decode(&self.identity.sign).ok()?.try_into().ok()
    }

    /// The X25519 key, 32 bytes.
    #[must_use]
    pub fn agree(&self) -> Option<[u8; 32]> {
        STANDARD.decode(&self.identity.agree).ok()?.try_into().ok()
    }
}

impl std::fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("keys[…]")
    }
}

/// Keys for a new device, drawn now.
#[derive(Debug, Clone)]
pub struct DeviceKeys {
    pub(crate) public: PublicKeys,
}

impl DeviceKeys {
    /// Draws them.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn random() -> Result<Self, Error> {
        let sign = SigningKey::from_bytes(&random()?);
        let (agree, prekey): ([u8; 32], [u8; 32]) = (random()?, random()?);
        let signature = sign.sign(&prekey).to_bytes();
        let identity =
            Identity { sign: STANDARD.encode(sign.verifying_key().as_bytes()), agree: STANDARD.encode(agree) };
        let signed_prekey = Prekey { id: 1, key: STANDARD.encode(prekey), signature: STANDARD.encode(signature) };
        Ok(Self { public: PublicKeys { identity, signed_prekey } })
    }
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prekey_is_signed_with_the_identity() {
        let keys = DeviceKeys::random().unwrap();
        let sign = ed25519_dalek::VerifyingKey::from_bytes(&keys.public.sign().unwrap()).unwrap();
        let prekey = STANDARD.decode(&keys.public.signed_prekey.key).unwrap();
        let signature = STANDARD.decode(&keys.public.signed_prekey.signature).unwrap();
        sign.verify_strict(&prekey, &signature.as_slice().try_into().unwrap()).unwrap();
        assert_ne!(keys.public.agree(), DeviceKeys::random().unwrap().public.agree());
    }
}
