//! The keys of a device, its own and others'.
//!
//! Decides how they are drawn, when a prekey is renewed, and what is signed with them. Leaves what is sealed with them to
//! [`crate::blob`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use tandem_wire::party::Party;
use tandem_wire::statement;
use tandem_wire::units::{Span, Wall};
use zeroize::Zeroizing;

use crate::blob::public_of;
use crate::list::Custody;
use crate::{SealError, random};

/// A public key.
pub(crate) type Key = [u8; 32];

/// A prekey is renewed when it is this old, and deleted when it is twice as old.
const PREKEY_LIFE: Span = Span::from_secs(7 * 24 * 3_600);

/// A secret of 32 bytes. It is wiped when it is dropped, and says nothing of itself.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SecretKey(#[serde(with = "crate::store::base64")] Zeroizing<Vec<u8>>);

impl SecretKey {
    fn random() -> Result<Self, SealError> {
        let drawn = Zeroizing::new(random::<32>()?);
        Ok(Self(Zeroizing::new(drawn.to_vec())))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    #[cfg(test)]
    fn of(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OwnPrekey {
    pub(crate) id: u32,
    pub(crate) key: SecretKey,
    made: Wall,
}

/// All secrets of a device.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DeviceKeys {
    sign: SecretKey,
    pub(crate) agree: SecretKey,
    /// The newest last.
    pub(crate) prekeys: Vec<OwnPrekey>,
}

impl DeviceKeys {
    pub(crate) fn draw(now: Wall) -> Result<Self, SealError> {
        let prekey = OwnPrekey { id: 1, key: SecretKey::random()?, made: now };
        Ok(Self { sign: SecretKey::random()?, agree: SecretKey::random()?, prekeys: vec![prekey] })
    }

    /// Those of the golden vectors.
    #[cfg(test)]
    pub(crate) fn of(sign: [u8; 32], agree: [u8; 32], prekey: (u32, [u8; 32]), made: Wall) -> Self {
        let prekey = OwnPrekey { id: prekey.0, key: SecretKey::of(prekey.1), made };
        Self { sign: SecretKey::of(sign), agree: SecretKey::of(agree), prekeys: vec![prekey] }
    }

    /// Draws a new prekey if it is time, and forgets those that are too old; whether anything has changed.
    ///
    /// A clock that was set back makes a prekey live longer; one that was set far ahead makes it end early, and who calls
    /// meanwhile seals to the new one.
    pub(crate) fn renew(&mut self, now: Wall) -> Result<bool, SealError> {
        let newest = self.prekeys.last().map(|prekey| (prekey.id, prekey.made));
        let due = newest.is_none_or(|(_, made)| now.since(made) >= PREKEY_LIFE);
        if due {
            let id = newest.map_or(1, |(id, _)| id.saturating_add(1));
            self.prekeys.push(OwnPrekey { id, key: SecretKey::random()?, made: now });
        }
        let before = self.prekeys.len();
        let dead = Span::from_millis(PREKEY_LIFE.as_millis().saturating_mul(2));
        self.prekeys.retain(|prekey| now.since(prekey.made) < dead);
        Ok(due || self.prekeys.len() < before)
    }

    pub(crate) fn prekey(&self, id: u32) -> Option<&OwnPrekey> {
        self.prekeys.iter().find(|prekey| prekey.id == id)
    }

    fn signing(&self) -> Result<SigningKey, SealError> {
        self.sign.expose().try_into().map(SigningKey::from_bytes).map_err(|_| SealError::Malformed)
    }

    /// The public keys, with the newest prekey.
    pub(crate) fn public(&self, party: &Party) -> Result<PublicKeys, SealError> {
        let signing = self.signing()?;
        let prekey = self.prekeys.last().ok_or(SealError::UnknownPrekey)?;
        let key = public_of(&prekey.key)?;
        let signature = signing.sign(&statement::prekey(party, prekey.id, &key)).to_bytes();
        Ok(PublicKeys {
            sign: signing.verifying_key().to_bytes(),
            agree: public_of(&self.agree)?,
            prekey: Prekey { id: prekey.id, key, signature },
        })
    }

    /// "This device is one of my account's", if this device is the first of the account.
    pub(crate) fn endorse(
        &self,
        party: &Party,
        sign: &Key,
        agree: &Key,
        custody: Custody,
    ) -> Result<[u8; 64], SealError> {
        let hosted = custody == Custody::Hosted;
        Ok(self.signing()?.sign(&statement::device(party, sign, agree, hosted)).to_bytes())
    }
}

/// Whether `signature` is of whoever has the secret of `key`. Strict: one statement has one signature of one key.
pub(crate) fn verify(key: &Key, statement: &[u8], signature: &[u8; 64]) -> Result<(), SealError> {
    let key = VerifyingKey::from_bytes(key).map_err(|_| SealError::BadDeviceList)?;
    key.verify_strict(statement, &Signature::from_bytes(signature)).map_err(|_| SealError::BadDeviceList)
}

/// A prekey with its device's signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Prekey {
    /// Its number.
    pub id: u32,
    /// X25519.
    pub key: [u8; 32],
    /// Ed25519, by the device.
    pub signature: [u8; 64],
}

/// The public keys of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKeys {
    /// Ed25519.
    pub sign: [u8; 32],
    /// X25519.
    pub agree: [u8; 32],
    /// What offers are sealed to.
    pub prekey: Prekey,
}

impl std::fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("keys[…]")
    }
}

impl std::fmt::Debug for Prekey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "prekey {}", self.id)
    }
}

/// The body of `PUT /v1/devices/{device}`, in base64 as it stands there.
#[derive(Clone, Serialize)]
pub struct Registration {
    identity: IdentityView,
    signed_prekey: PrekeyView,
    custody: Custody,
    endorsement: String,
}

#[derive(Clone, Serialize)]
struct IdentityView {
    sign: String,
    agree: String,
}

#[derive(Clone, Serialize)]
struct PrekeyView {
    id: u32,
    key: String,
    signature: String,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("registration[…]")
    }
}

impl Registration {
    pub(crate) fn new(keys: &PublicKeys, custody: Custody, endorsement: &[u8; 64]) -> Self {
        let Prekey { id, key, signature } = &keys.prekey;
        Self {
            identity: IdentityView { sign: STANDARD.encode(keys.sign), agree: STANDARD.encode(keys.agree) },
            signed_prekey: PrekeyView { id: *id, key: STANDARD.encode(key), signature: STANDARD.encode(signature) },
            custody,
            endorsement: STANDARD.encode(endorsement),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600;

    fn at(days: u64) -> Wall {
        Wall::from_secs(1_795_000_000 + days * DAY)
    }

    fn ids(keys: &DeviceKeys) -> Vec<u32> {
        keys.prekeys.iter().map(|prekey| prekey.id).collect()
    }

    #[test]
    fn a_prekey_is_renewed_weekly_and_the_old_one_kept_a_week_more() {
        let mut keys = DeviceKeys::draw(at(0)).unwrap();
        assert!(!keys.renew(at(6)).unwrap());
        assert!(keys.renew(at(7)).unwrap());
        assert_eq!(ids(&keys), [1, 2]);
        assert!(!keys.renew(at(13)).unwrap());
        assert!(keys.renew(at(14)).unwrap());
        assert_eq!(ids(&keys), [2, 3]);
        // A device that slept for long has one new prekey, and no number twice.
        assert!(keys.renew(at(100)).unwrap());
        assert_eq!(ids(&keys), [4]);
        // A clock that was set back changes nothing.
        assert!(!keys.renew(at(0)).unwrap());
    }

    #[test]
    fn what_it_signs_is_good_for_this_device_alone() {
        let keys = DeviceKeys::draw(at(0)).unwrap();
        let party = |device: &str| Party { account: "al".parse().unwrap(), device: device.parse().unwrap() };
        let public = keys.public(&party("dev_a")).unwrap();
        let Prekey { id, key, signature } = public.prekey;
        assert!(verify(&public.sign, &statement::prekey(&party("dev_a"), id, &key), &signature).is_ok());
        for other in [
            statement::prekey(&party("dev_b"), id, &key),
            statement::prekey(&party("dev_a"), id + 1, &key),
            statement::device(&party("dev_a"), &public.sign, &public.agree, false),
        ] {
            assert_eq!(verify(&public.sign, &other, &signature), Err(SealError::BadDeviceList));
        }
    }
}
