//! The bytes of one packet: which call it is of, from which side, its number, when it was sent, and a checksum over all.
//!
//! Decides the layout. Leaves what a packet's fate means to [`crate::meter`].
//!
//! ```text
//! 0     4                20     21     24      28        36           n-4   n
//! | TLT1 | stamp of the call | side | zeros | number | sent (ns) | filling | CRC-32 |
//! ```

use tandem_client::CallId;
use tandem_wire::units::Mono;

use crate::random::Seeded;

const MAGIC: [u8; 4] = *b"TLT1";
const HEAD: usize = 36;
const CHECKSUM: usize = 4;
/// The shortest packet.
pub const BYTES_MIN: usize = HEAD + CHECKSUM;

/// Who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who placed the call.
    Caller,
    /// Who answered it.
    Callee,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Caller => 1,
            Self::Callee => 2,
        }
    }
}

/// What stands at the beginning of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The call that it is of: 128 bits that no other call has, whoever made it.
    pub stamp: u128,
    /// Who sent it.
    pub side: Side,
    /// Counts from 0, within one direction of a call.
    pub number: u32,
    /// When it was sent, by the sender's clock.
    pub sent: Mono,
}

/// These bytes are no packet of ours, or not as they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged")]
pub struct Damaged;

/// What stands in every packet of a call.
#[must_use]
pub const fn stamp(call: CallId) -> u128 {
    call.bits()
}

/// A packet of `len` bytes (at least [`BYTES_MIN`]) whose filling comes from the seed. Its head is still to be written.
#[must_use]
pub fn filled(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Seeded::new(seed);
    let mut bytes = Vec::with_capacity(len.max(BYTES_MIN) + 8);
    while bytes.len() < len.max(BYTES_MIN) {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(len.max(BYTES_MIN));
    bytes
}

/// Writes head and checksum. Bytes that are too few for a packet are left as they are.
pub fn write(bytes: &mut [u8], head: &Head) {
    let Some(end) = bytes.len().checked_sub(CHECKSUM) else { return };
    let Some((rest, checksum)) = bytes.split_at_mut_checked(end) else { return };
    let Some(place) = rest.first_chunk_mut::<HEAD>() else { return };
    let mut at = 0;
    let mut put = |part: &[u8]| {
        if let Some(place) = place.get_mut(at..at + part.len()) {
            place.copy_from_slice(part);
        }
        at += part.len();
    };
    put(&MAGIC);
    put(&head.stamp.to_be_bytes());
    put(&[head.side.byte(), 0, 0, 0]);
    put(&head.number.to_be_bytes());
    put(&head.sent.as_nanos().to_be_bytes());
    checksum.copy_from_slice(&crc32fast::hash(rest).to_be_bytes());
}

/// Reads a packet.
///
/// # Errors
/// [`Damaged`]: not a bit of it can be relied on.
pub fn read(bytes: &[u8]) -> Result<Head, Damaged> {
    let (rest, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(Damaged)?;
    let (magic, body) = rest.split_first_chunk::<4>().ok_or(Damaged)?;
    if *magic != MAGIC || crc32fast::hash(rest).to_be_bytes() != *checksum {
        return Err(Damaged);
    }
    let (stamp, body) = body.split_first_chunk::<16>().ok_or(Damaged)?;
    let (side, body) = body.split_first_chunk::<4>().ok_or(Damaged)?;
    let (number, body) = body.split_first_chunk::<4>().ok_or(Damaged)?;
    let (sent, _) = body.split_first_chunk::<8>().ok_or(Damaged)?;
    let side = match side {
        [1, 0, 0, 0] => Side::Caller,
        [2, 0, 0, 0] => Side::Callee,
        _ => return Err(Damaged),
    };
    Ok(Head {
        stamp: u128::from_be_bytes(*stamp),
        side,
        number: u32::from_be_bytes(*number),
        sent: Mono::from_nanos(u64::from_be_bytes(*sent)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { stamp: 7 << 100, side: Side::Callee, number: 3, sent: Mono::from_nanos(5) };

    #[test]
    fn what_is_written_is_read_at_every_length() {
        for len in [BYTES_MIN, BYTES_MIN + 1, 172, 1_100] {
            let mut bytes = filled(len, 1);
            write(&mut bytes, &HEAD);
            assert_eq!((bytes.len(), read(&bytes)), (len, Ok(HEAD)));
        }
    }

    #[test]
    fn a_packet_of_which_one_bit_is_another_or_that_is_cut_is_damaged() {
        let mut bytes = filled(64, 1);
        write(&mut bytes, &HEAD);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bytes), Err(Damaged), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), Err(Damaged), "{len}");
        }
    }

    #[test]
    fn the_filling_is_the_seeds() {
        assert_eq!(filled(100, 1), filled(100, 1));
        assert_ne!(filled(100, 1), filled(100, 2));
    }
}
