//! Tokens: what they say, which are good, and how one is minted.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lru::LruCache;
use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::{Digest as _, Sha256};
use tandem_wire::party::{AccountId, DeviceId, Party};
use tandem_wire::redact::Secret;
use tandem_wire::ticket::SECRET_LEN_MIN;
use tandem_wire::units::{Span, Wall};

use crate::crypto;

/// Whom tokens are for.
pub const AUDIENCE: &str = "tandem";
/// A token that claims to live longer than this was not made for us (api.md).
pub const LIFE_MAX: Span = Span::from_secs(6 * 3_600);
/// How far ahead of ours the clock of who issued a token may be. Who was removed is remembered for longer than both together
/// (`REMOVAL_LIFE` in signaling).
///
/// Short, since a token that says it was issued after a removal outlives it, though it may have been issued before.
const CLOCKS_APART: Span = Span::from_secs(60);
/// A token has some 300 characters; a longer one is not looked into.
const TOKEN_LEN_MAX: usize = 2_048;
/// Good tokens that are remembered, those that were used last: a node's devices of a few minutes. 8,192 x 400 B are 3 MiB.
const GOOD_TOKENS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(8_191);

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminRole {
    /// Look.
    Viewer,
    /// Look and change.
    Operator,
}

/// What the token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grant {
    /// A device may call and be called.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub call: bool,
    /// An operator may look or change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminRole>,
}

/// The claims of a good token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who asks.
    pub party: Party,
    /// What is allowed.
    pub grant: Grant,
    /// When it was issued, in seconds since 1970, if it says so.
    pub issued: Option<u64>,
    /// Until when it is good.
    pub expires: Wall,
}

/// As they are written. Every field is of its type or the token is none (attack S14).
#[derive(Serialize, Deserialize)]
struct Written {
    iss: String,
    sub: AccountId,
    dev: DeviceId,
    exp: u64,
    aud: String,
    #[serde(deserialize_with = "object")]
    tandem: Grant,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
}

/// A grant is an object: serde would read one from an array too.
fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Grant, D::Error> {
    let object = serde_json::Map::deserialize(deserializer)?;
    serde_json::from_value(object.into()).map_err(|_| de::Error::custom("not a grant"))
}

/// Just enough to find the key. Nothing of it is believed.
#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// Why a token is not good. The client is told only that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all, or its claims are not what they must be.
    #[error("not a token of ours")]
    Malformed,
    /// Nobody here knows its issuer.
    #[error("the token's issuer is unknown")]
    Issuer,
    /// Signed with something else, or by somebody else.
    #[error("the token's signature is wrong")]
    Signature,
    /// Over, or not begun.
    #[error("the token has expired or has not begun")]
    Expired,
    /// It claims too long a life.
    #[error("the token claims to live too long")]
    TooLong,
}

/// One issuer's key. It has one algorithm, so that none can be taken for another.
#[derive(Clone)]
pub struct TokenKey {
    algorithm: Algorithm,
    verify: DecodingKey,
    sign: Option<EncodingKey>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey {{ {:?} }}", self.algorithm)
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeyError {
    /// A secret for HS256 has at least 32 bytes (RFC 7518 section 3.2).
    #[error("a token secret has at least 32 bytes")]
    Short,
    /// Not a public key of Ed25519.
    #[error("not an Ed25519 public key")]
    PublicKey,
    /// Two keys have this id.
    #[error("two API keys have the same id")]
    Duplicate,
    /// Nobody could ask for anything.
    #[error("at least one API key is needed")]
    None,
}

impl TokenKey {
    /// A shared secret, for HS256. It can mint too.
    ///
    /// # Errors
    /// [`TokenKeyError::Short`].
    pub fn hs256(secret: &Secret) -> Result<Self, TokenKeyError> {
        let secret = secret.expose();
        if secret.len() < SECRET_LEN_MIN {
            return Err(TokenKeyError::Short);
        }
        Ok(Self {
            algorithm: Algorithm::HS256,
            verify: DecodingKey::from_secret(secret),
            sign: Some(EncodingKey::from_secret(secret)),
        })
    }

    /// A public key of Ed25519, 32 bytes, for EdDSA.
    ///
    /// # Errors
    /// [`TokenKeyError::PublicKey`].
    pub fn ed25519(public: &[u8]) -> Result<Self, TokenKeyError> {
        let bytes = public.try_into().map_err(|_| TokenKeyError::PublicKey)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| TokenKeyError::PublicKey)?;
        if key.is_weak() {
            return Err(TokenKeyError::PublicKey);
        }
        Ok(Self { algorithm: Algorithm::EdDSA, verify: DecodingKey::from_ed_der(public), sign: None })
    }

    /// A seed of Ed25519, for those who mint.
    #[must_use]
    pub fn ed25519_seed(seed: &[u8; 32]) -> Self {
        let public = ed25519_dalek::SigningKey::from_bytes(seed).verifying_key();
        Self {
            algorithm: Algorithm::EdDSA,
            verify: DecodingKey::from_ed_der(public.as_bytes()),
            sign: Some(EncodingKey::from_ed_der(seed)),
        }
    }

    /// Mints a token of issuer `id`; `None` if this key can only verify.
    #[must_use]
    pub fn mint(&self, id: &str, claims: &Claims) -> Option<String> {
        crypto::install();
        let written = Written {
            iss: id.to_owned(),
            sub: claims.party.account.clone(),
            dev: claims.party.device.clone(),
            exp: claims.expires.as_secs(),
            aud: AUDIENCE.to_owned(),
            tandem: claims.grant,
            iat: claims.issued,
            nbf: None,
        };
        jsonwebtoken::encode(&Header::new(self.algorithm), &written, self.sign.as_ref()?).ok()
    }
}

/// The keys of all issuers.
#[derive(Clone)]
pub struct TokenKeys {
    issuers: BTreeMap<String, Issued>,
    /// Tokens whose signature and form were found good, by their SHA-256: a device has one for hours, and asks often. What
    /// depends on the moment is looked at each time.
    good: Arc<Mutex<LruCache<[u8; 32], Good, RandomState>>>,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenKeys").field(&self.issuers).finish()
    }
}

/// What a good token says.
#[derive(Debug, Clone)]
struct Good {
    party: Party,
    grant: Grant,
    exp: u64,
    iat: Option<u64>,
    nbf: Option<u64>,
}

impl Good {
    /// What it says, if it is good at `now`.
    fn at(self, now: Wall) -> Result<Claims, TokenError> {
        let Self { party, grant, exp, iat, nbf } = self;
        let seconds = now.as_secs();
        let latest = seconds + CLOCKS_APART.as_secs();
        if exp <= seconds || nbf.is_some_and(|nbf| nbf > seconds) || iat.is_some_and(|iat| iat > latest) {
            return Err(TokenError::Expired);
        }
        // By its own word where it says when it was issued, so that nobody's clock matters; and by ours within bounds.
        let issued = iat.filter(|iat| *iat > seconds);
        let life = exp.saturating_sub(issued.unwrap_or(seconds));
        if life > LIFE_MAX.as_secs() || exp - seconds > LIFE_MAX.as_secs() + CLOCKS_APART.as_secs() {
            return Err(TokenError::TooLong);
        }
        Ok(Claims { party, grant, issued: iat, expires: Wall::from_secs(exp) })
    }
}

/// What is looked at in a token of one issuer.
#[derive(Clone)]
struct Issued {
    key: TokenKey,
    /// What its header and claims must say. Made once: it has six sets.
    validation: Validation,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl Issued {
    fn new(issuer: &str, key: TokenKey) -> Self {
        let mut validation = Validation::new(key.algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[issuer]);
        // By the clock that we are given, where the token is verified.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self { key, validation }
    }
}

impl TokenKeys {
    /// These keys, each under its issuer's id.
    ///
    /// # Errors
    /// [`TokenKeyError::Duplicate`] and [`TokenKeyError::None`].
    pub fn new(keys: impl IntoIterator<Item = (String, TokenKey)>) -> Result<Self, TokenKeyError> {
        let mut by_id = BTreeMap::new();
        for (id, key) in keys {
            let issued = Issued::new(&id, key);
            if by_id.insert(id, issued).is_some() {
                return Err(TokenKeyError::Duplicate);
            }
        }
        if by_id.is_empty() {
            return Err(TokenKeyError::None);
        }
        let good = LruCache::with_hasher(GOOD_TOKENS, RandomState::default());
        Ok(Self { issuers: by_id, good: Arc::new(Mutex::new(good)) })
    }

    /// What a token says, if it is good at `now`.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, now: Wall) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(TokenError::Malformed);
        }
        let name: [u8; 32] = Sha256::digest(token).into();
        let known = self.good.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(good) = known {
            return good.at(now);
        }
        let good = self.read(token)?;
        let claims = good.clone().at(now)?;
        // Only what is good has a place: who has no key, or an old token, pushes nobody out.
        self.good.lock().unwrap_or_else(PoisonError::into_inner).put(name, good);
        Ok(claims)
    }

    /// What a token says, if its issuer signed it and it is of the form that it must have.
    fn read(&self, token: &str) -> Result<Good, TokenError> {
        crypto::install();
        let Issuer { iss } =
            jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| TokenError::Malformed)?;
        let Issued { key, validation } = self.issuers.get(&iss).ok_or(TokenError::Issuer)?;
        let token = jsonwebtoken::decode::<Written>(token, &key.verify, validation);
        let written = token.map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature | jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => {
                TokenError::Signature
            }
            _ => TokenError::Malformed,
        })?;
        let Written { sub, dev, exp, tandem, iat, nbf, .. } = written.claims;
        Ok(Good { party: Party { account: sub, device: dev }, grant: tandem, exp, iat, nbf })
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
