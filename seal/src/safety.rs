//! The number by which two people see that nobody stands between them.
//!
//! Decides its digits (docs/sealing.md; the same construction as Signal's numeric fingerprint). Both sides get the same.

use sha2::{Digest as _, Sha512};
use tandem_wire::party::{AccountId, Party};
use tandem_wire::statement::{frame, ids};

const ROUNDS: usize = 5_200;

/// 60 digits, for two accounts and the roots of their devices, in either order.
#[must_use]
pub fn safety_number(one: (&AccountId, &[u8; 32]), other: (&AccountId, &[u8; 32])) -> String {
    let (one, other) = (half(one), half(other));
    if one <= other { one + &other } else { other + &one }
}

/// 20 digits of a device's keys, for a person to compare on both devices before one of them vouches for the other.
#[must_use]
pub fn join_code(party: &Party, sign: &[u8; 32], agree: &[u8; 32]) -> String {
    let [account, device] = ids(party);
    digits(frame(&[b"tandem/v1 join code", account, device, sign, agree]), sign, 4)
}

fn half((account, root): (&AccountId, &[u8; 32])) -> String {
    digits(frame(&[b"tandem/v1 safety", account.as_str().as_bytes(), root]), root, 6)
}

/// So many groups of five digits of what `hash` is after many rounds.
fn digits(mut hash: Vec<u8>, key: &[u8; 32], groups: usize) -> String {
    for _ in 0..ROUNDS {
        hash = Sha512::new().chain_update(&hash).chain_update(key).finalize().to_vec();
    }
    let five = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)) % 100_000;
    hash.chunks_exact(5).take(groups).map(|bytes| format!("{:05}", five(bytes))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_on_both_sides_and_another_for_another_root() {
        let (al, bo): (AccountId, AccountId) = ("al".parse().unwrap(), "bo".parse().unwrap());
        let number = safety_number((&al, &[1; 32]), (&bo, &[2; 32]));
        assert_eq!(number.len(), 60);
        assert!(number.bytes().all(|digit| digit.is_ascii_digit()));
        assert_eq!(number, safety_number((&bo, &[2; 32]), (&al, &[1; 32])));
        assert_ne!(number, safety_number((&al, &[1; 32]), (&bo, &[3; 32])));
        assert_ne!(number, safety_number((&al, &[2; 32]), (&bo, &[1; 32])));
    }

    #[test]
    fn a_join_code_is_of_the_device_and_of_both_its_keys() {
        let party = |device: &str| Party { account: "al".parse().unwrap(), device: device.parse().unwrap() };
        let code = join_code(&party("dev_a"), &[1; 32], &[2; 32]);
        assert_eq!(code, "80740221315347833646");
        for other in [
            join_code(&party("dev_b"), &[1; 32], &[2; 32]),
            join_code(&party("dev_a"), &[3; 32], &[2; 32]),
            join_code(&party("dev_a"), &[1; 32], &[3; 32]),
        ] {
            assert_ne!(code, other);
        }
    }
}
