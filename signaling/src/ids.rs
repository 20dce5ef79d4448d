//! The ids of calls.
//!
//! Decides that an id looks random to everybody, and that the same request of the same device has the same id on every
//! node: so an Idempotency-Key needs no index, and two nodes that are asked at once meet at one record. The key of this is
//! derived from a secret that all signaling nodes of a PoP share.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tandem_wire::id::{BucketId, CallId, PopId};
use tandem_wire::party::Party;
use tandem_wire::redact::Secret;
use tandem_wire::ticket;

use crate::refused::Refused;

/// Draws ids.
pub(crate) struct CallIds {
    pop: PopId,
    mac: Hmac<Sha256>,
}

impl CallIds {
    /// For calls of `pop`; `None` if the secret cannot be used.
    pub(crate) fn new(pop: PopId, secret: &Secret) -> Option<Self> {
        let key = ticket::derive(secret, b"call ids");
        Some(Self { pop, mac: Hmac::new_from_slice(&key).ok()? })
    }

    /// An id that nobody has had.
    pub(crate) fn random(&self) -> Result<CallId, Refused> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| Refused::Record)?;
        Ok(self.id(bytes))
    }

    /// The id of the request that `party` names `key`.
    pub(crate) fn of_request(&self, party: &Party, key: &str) -> CallId {
        let bytes = self.digest(&[party.account.as_str(), party.device.as_str(), key]);
        self.id(bytes)
    }

    /// Tells requests apart that have the same key: 32 hexadecimal digits.
    pub(crate) fn fingerprint(&self, parts: &[&str]) -> String {
        format!("{:032x}", u128::from_be_bytes(self.digest(parts)))
    }

    fn id(&self, bytes: [u8; 16]) -> CallId {
        let bits = u128::from_be_bytes(bytes);
        let [high, low, ..] = bytes;
        // The 16 bits above the 96 that the id keeps are as random as they are.
        CallId::new(self.pop, BucketId(u16::from_be_bytes([high, low])), bits)
    }

    fn digest(&self, parts: &[&str]) -> [u8; 16] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(digest) {
            *to = from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_has_the_same_id_and_no_other_has() {
        let secret = Secret::new(vec![7; 32]);
        let ids = CallIds::new(PopId(1), &secret).unwrap();
        let party =
            |account: &str, device: &str| Party { account: account.parse().unwrap(), device: device.parse().unwrap() };
        let id = ids.of_request(&party("alice", "dev_1"), "k");
        assert_eq!(id, CallIds::new(PopId(1), &secret).unwrap().of_request(&party("alice", "dev_1"), "k"));
        for other in [
            ids.of_request(&party("alice", "dev_1"), "K"),
            ids.of_request(&party("alice", "dev_1k"), ""),
            ids.of_request(&party("alic", "dev_1"), "ek"),
            ids.random().unwrap(),
        ] {
            assert_ne!(id, other);
        }
        assert_eq!(id.pop(), PopId(1));
    }
}
