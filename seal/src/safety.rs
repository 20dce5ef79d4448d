//! The number by which two people see that nobody stands between them.
//!
//! Decides its digits (docs/sealing.md; the same construction as Signal's numeric fingerprint). Both sides get the same.

use sha2::{Digest as _, Sha512};
use tandem_wire::party::AccountId;
use tandem_wire::statement::frame;

const ROUNDS: usize = 5_200;

/// 60 digits, for two accounts and the roots of their devices, in either order.
#[must_use]
pub fn safety_number(one: (&AccountId, &[u8; 32]), other: (&AccountId, &[u8; 32])) -> String {
    let (one, other) = (half(one), half(other));
    if one <= other { one + &other } else { other + &one }
}

fn half((account, root): (&AccountId, &[u8; 32])) -> String {
    let mut hash = frame(&[b"tandem/v1 safety", account.as_str().as_bytes(), root]);
    for _ in 0..ROUNDS {
        hash = Sha512::new().chain_update(&hash).chain_update(root).finalize().to_vec();
    }
    let five = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)) % 100_000;
    hash.chunks_exact(5).take(6).map(|bytes| format!("{:05}", five(bytes))).collect()
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
}
