//! What devices sign: bytes that say one thing and cannot be read as another.
//!
//! Decides the spelling of each statement (docs/sealing.md). Leaves signing and verifying to whoever has keys: devices sign,
//! signaling verifies endorsements, and both must mean the same bytes.

use crate::party::Party;

/// Each part as its length in two bytes (big-endian) and its bytes. A part of over 65,535 bytes has no spelling: it is cut
/// there, and so says something that nobody verifies.
#[must_use]
pub fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 2).sum());
    for part in parts {
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(part.iter().take(usize::from(length)));
    }
    bytes
}

/// "This is my prekey of this number."
#[must_use]
pub fn prekey(party: &Party, id: u32, key: &[u8; 32]) -> Vec<u8> {
    let [account, device] = ids(party);
    frame(&[b"tandem/v1 prekey", account, device, &id.to_be_bytes(), key])
}

/// "This device, with these keys, is one of the account's." `hosted`: an operator holds them.
#[must_use]
pub fn device(party: &Party, sign: &[u8; 32], agree: &[u8; 32], hosted: bool) -> Vec<u8> {
    let [account, device] = ids(party);
    let custody: &[u8] = if hosted { b"hosted" } else { b"device" };
    frame(&[b"tandem/v1 device", account, device, sign, agree, custody])
}

/// A party in a frame.
#[must_use]
pub fn ids(party: &Party) -> [&[u8]; 2] {
    [party.account.as_str().as_bytes(), party.device.as_str().as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party() -> Party {
        Party { account: "al".parse().unwrap(), device: "dev_a".parse().unwrap() }
    }

    #[test]
    fn statements_have_these_golden_bytes() {
        let expected = b"\0\x10tandem/v1 prekey\0\x02al\0\x05dev_a\0\x04\0\0\x01\x02\0\x20";
        assert_eq!(prekey(&party(), 0x102, &[7; 32]), [&expected[..], &[7; 32]].concat());
        let head = b"\0\x10tandem/v1 device\0\x02al\0\x05dev_a\0\x20";
        let body = [&head[..], &[1; 32], b"\0\x20", &[2; 32], b"\0\x06hosted"].concat();
        assert_eq!(device(&party(), &[1; 32], &[2; 32], true), body);
        assert!(device(&party(), &[1; 32], &[2; 32], false).ends_with(b"\0\x06device"));
    }

    #[test]
    fn where_one_part_ends_cannot_be_moved() {
        assert_ne!(frame(&[b"ab", b"c"]), frame(&[b"a", b"bc"]));
        assert_ne!(frame(&[b"ab"]), frame(&[b"ab", b""]));
    }
}
