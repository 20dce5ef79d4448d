//! Whether an endorsement holds (docs/sealing.md, "Who vouches for a device").
//!
//! Decides by the signature alone. Leaves to [`super::account`] whose it has to be, and what follows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use tandem_wire::party::Party;
use tandem_wire::statement;

use super::{Custody, DeviceRecord};

/// Whether `endorsement` is the signature by `key` that this device is one of the party's account. All in base64; what
/// is no key and no signature does not hold.
pub(super) fn holds(endorsement: &str, key: &str, party: &Party, device: &DeviceRecord) -> bool {
    let verified = || {
        let (sign, agree) = (bytes(&device.sign)?, bytes(&device.agree)?);
        let statement = statement::device(party, &sign, &agree, device.custody == Custody::Hosted);
        let key = VerifyingKey::from_bytes(&bytes(key)?).ok()?;
        // Strict: under a key of small order a signature would hold for more than one statement.
        key.verify_strict(&statement, &Signature::from_bytes(&bytes(endorsement)?)).ok()
    };
    verified().is_some()
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::account::tests::{Keys, party};
    use super::*;

    #[test]
    fn an_endorsement_is_of_one_account_device_both_keys_and_custody_by_one_key() {
        let (root, keys) = (Keys::new(1), Keys::new(2));
        let (alice, record) = (party("alice", "dev_2"), keys.device());
        let endorsement = root.endorses(&alice, &record);
        assert!(holds(&endorsement, &root.sign(), &alice, &record));
        assert!(!holds(&endorsement, &keys.sign(), &alice, &record), "by another key");
        for (account, device) in [("bob", "dev_2"), ("alice", "dev_3")] {
            assert!(!holds(&endorsement, &root.sign(), &party(account, device), &record), "{account} {device}");
        }
        let others = [
            DeviceRecord { sign: Keys::new(3).sign(), ..record.clone() },
            DeviceRecord { agree: Keys::new(3).device().agree, ..record.clone() },
            DeviceRecord { custody: Custody::Hosted, ..record.clone() },
        ];
        assert!(others.iter().all(|other| !holds(&endorsement, &root.sign(), &alice, other)));
        let renewed = DeviceRecord { prekey_id: 9, prekey: "p9".to_owned(), ..record };
        assert!(holds(&endorsement, &root.sign(), &alice, &renewed), "it says nothing of prekeys");
    }

    #[test]
    fn what_is_no_key_and_no_signature_does_not_hold() {
        let (root, alice) = (Keys::new(1), party("alice", "dev_1"));
        let record = root.device();
        let good = root.endorses(&alice, &record);
        for bad in ["", "%", &good[..good.len() - 2], &STANDARD.encode([0; 64]), &STANDARD.encode([0xff; 64])] {
            assert!(!holds(bad, &root.sign(), &alice, &record), "{bad}");
        }
        // The identity and a signature that an unstrict check finds good for every statement.
        let small = |bytes: usize| STANDARD.encode([&[1][..], &vec![0; bytes - 1]].concat());
        let weak = DeviceRecord { sign: small(32), ..record.clone() };
        assert!(!holds(&small(64), &weak.sign, &alice, &weak), "a key of small order");
        assert!(!holds(&good, "s", &alice, &record), "no key");
    }
}
