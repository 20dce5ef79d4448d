//! What two devices say to each other in a call, once an offer has been opened.
//!
//! Decides keys, numbers and what a number may be (docs/sealing.md, "Session"). A number is used once: the keyring keeps
//! what comes next before a blob leaves.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes128Gcm, KeyInit as _};
use serde::{Deserialize, Serialize};
use tandem_wire::id::CallId;
use tandem_wire::statement::frame;
use zeroize::Zeroizing;

use crate::blob::{SESSION, TAG, VERSION};
use crate::{SEALED_BYTES, SealError, clear};

/// A key of 16 bytes and a base nonce of 12.
const SECRET: usize = 28;
/// Version, kind and number.
const HEAD: usize = 6;

/// Which side of the call a device is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Caller,
    Callee,
}

/// What both directions are sealed with, as one side sees it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secrets {
    #[serde(with = "crate::store::base64")]
    send: Zeroizing<Vec<u8>>,
    #[serde(with = "crate::store::base64")]
    receive: Zeroizing<Vec<u8>>,
}

impl Secrets {
    /// `export(label, out)`: from the context that the offer was sealed in.
    pub(crate) fn export(role: Role, export: impl Fn(&[u8], &mut [u8]) -> bool) -> Result<Self, SealError> {
        let secret = |label: &[u8]| {
            let mut secret = Zeroizing::new(vec![0; SECRET]);
            if export(label, &mut secret) { Ok(secret) } else { Err(SealError::Forged) }
        };
        let outward = secret(b"tandem/v1 caller to callee")?;
        let inward = secret(b"tandem/v1 callee to caller")?;
        Ok(match role {
            Role::Caller => Self { send: outward, receive: inward },
            Role::Callee => Self { send: inward, receive: outward },
        })
    }
}

/// One session.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    secrets: Secrets,
    /// The number that was sealed last, and the one that was opened last; zero: none.
    sent: u32,
    opened: u32,
    /// Numbers up to this one may have been used by an earlier process.
    reserved: u32,
}

/// Numbers that are kept as used at once, so that not every blob waits for the disk.
const RESERVE: u32 = 64;

impl Session {
    pub(crate) const fn new(secrets: Secrets) -> Self {
        Self { secrets, sent: 0, opened: 0, reserved: 0 }
    }

    /// After it was read from where it is kept: none of the numbers that may have been used is used again.
    pub(crate) const fn again(&mut self) {
        self.sent = self.reserved;
    }

    /// Whether more numbers have to be kept as used before the next blob is sealed.
    pub(crate) const fn reserve(&mut self) -> bool {
        let short = self.sent >= self.reserved;
        if short {
            self.reserved = self.sent.saturating_add(RESERVE);
        }
        short
    }

    /// They could not be kept: the next blob tries again.
    pub(crate) const fn unreserve(&mut self) {
        self.reserved = self.sent;
    }

    pub(crate) fn seal(&mut self, call: CallId, said: &[u8]) -> Result<Vec<u8>, SealError> {
        let number = self.sent.checked_add(1).ok_or(SealError::Replayed)?;
        let (cipher, nonce) = cipher(&self.secrets.send, number)?;
        let payload = Payload { msg: &clear::pack(said), aad: &aad(call, number) };
        let sealed = cipher.encrypt(&nonce.into(), payload).map_err(|_| SealError::Malformed)?;
        let mut blob = vec![VERSION, SESSION];
        blob.extend(number.to_be_bytes());
        blob.extend(sealed);
        if blob.len() > SEALED_BYTES {
            return Err(SealError::Malformed);
        }
        self.sent = number;
        Ok(blob)
    }

    pub(crate) fn open(&mut self, call: CallId, blob: &[u8]) -> Result<Vec<u8>, SealError> {
        if blob.len() > SEALED_BYTES {
            return Err(SealError::Malformed);
        }
        let (head, sealed) = blob.split_first_chunk::<HEAD>().ok_or(SealError::Malformed)?;
        let [VERSION, SESSION, number @ ..] = head else { return Err(SealError::Malformed) };
        if sealed.len() < TAG {
            return Err(SealError::Malformed);
        }
        let number = u32::from_be_bytes(*number);
        let (cipher, nonce) = cipher(&self.secrets.receive, number)?;
        let payload = Payload { msg: sealed, aad: &aad(call, number) };
        // First whether it is from there at all: a number that somebody made up says nothing.
        let packed = cipher.decrypt(&nonce.into(), payload).map_err(|_| SealError::Forged)?;
        if number <= self.opened {
            return Err(SealError::Replayed);
        }
        let said = clear::unpack(&packed)?;
        self.opened = number;
        Ok(said)
    }
}

fn aad(call: CallId, number: u32) -> Vec<u8> {
    frame(&[b"tandem/v1 session", call.to_string().as_bytes(), &number.to_be_bytes()])
}

fn cipher(secret: &[u8], number: u32) -> Result<(Aes128Gcm, [u8; 12]), SealError> {
    let (key, base) = secret.split_first_chunk::<16>().ok_or(SealError::NoSession)?;
    let mut nonce: [u8; 12] = base.try_into().map_err(|_| SealError::NoSession)?;
    for (byte, with) in nonce.iter_mut().skip(8).zip(number.to_be_bytes()) {
        *byte ^= with;
    }
    Ok((Aes128Gcm::new(key.into()), nonce))
}
