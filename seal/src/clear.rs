//! The clear text of a blob: shorter than what is said, and of a length that tells little.
//!
//! Decides packing and padding (docs/sealing.md, "Clear text"). What was sealed by a known device is still not trusted to be
//! small: inflating stops at 64 KiB.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::SealError;

const AS_IT_IS: u8 = 0;
const DEFLATED: u8 = 1;
const PAD: u8 = 0x80;
/// Lengths are multiples of this.
const STEP: usize = 128;
/// What it may be when it is inflated.
const INFLATED_MAX: usize = 64 << 10;
/// Deflate's default.
const LEVEL: u8 = 6;

pub(crate) fn pack(said: &[u8]) -> Vec<u8> {
    let deflated = compress_to_vec(said, LEVEL);
    let (how, what) = if deflated.len() < said.len() { (DEFLATED, &*deflated) } else { (AS_IT_IS, said) };
    let mut clear = Vec::with_capacity((what.len() + 2).next_multiple_of(STEP));
    clear.push(how);
    clear.extend(what);
    clear.push(PAD);
    clear.resize(clear.len().next_multiple_of(STEP), 0);
    clear
}

pub(crate) fn unpack(clear: &[u8]) -> Result<Vec<u8>, SealError> {
    let end = clear.iter().rposition(|byte| *byte != 0).ok_or(SealError::Malformed)?;
    match clear.get(..=end) {
        Some([AS_IT_IS, what @ .., PAD]) => Ok(what.to_vec()),
        Some([DEFLATED, what @ .., PAD]) => {
            decompress_to_vec_with_limit(what, INFLATED_MAX).map_err(|_| SealError::Malformed)
        }
        _ => Err(SealError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(said in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let clear = pack(&said);
            prop_assert_eq!(clear.len() % STEP, 0);
            prop_assert_eq!(unpack(&clear).unwrap(), said);
        }

        #[test]
        fn nothing_that_comes_panics(clear in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(&clear);
        }
    }

    #[test]
    fn a_small_text_that_inflates_to_much_is_refused() {
        let bomb = pack(&vec![7; INFLATED_MAX + 1]);
        assert!(bomb.len() < 1_000);
        assert_eq!(unpack(&bomb), Err(SealError::Malformed));
        let most = vec![7; INFLATED_MAX];
        assert_eq!(unpack(&pack(&most)).unwrap(), most);
    }

    #[test]
    fn what_ends_otherwise_is_refused() {
        for clear in [&[][..], &[0, 0, 0], &[2, 1, 0x80], &[0x80], &[0, 1, 2], &[1, 0xff, 0x80]] {
            assert_eq!(unpack(clear), Err(SealError::Malformed), "{clear:?}");
        }
    }
}
