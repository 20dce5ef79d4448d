//! A packet in its channel's frame, on the stack: what goes out fifty times a second allocates nothing.

use crate::limits;

/// A packet as it goes out by a channel (RFC 8656 section 12.4; over UDP there is no padding).
pub(super) struct Frame {
    bytes: [u8; 4 + limits::DATAGRAM_PAYLOAD_BYTES],
    len: usize,
}

impl Frame {
    /// `None`: it is too large.
    pub(super) fn new(channel: u16, payload: &[u8]) -> Option<Self> {
        let mut frame = Self { bytes: [0; 4 + limits::DATAGRAM_PAYLOAD_BYTES], len: 4 + payload.len() };
        let len = u16::try_from(payload.len()).ok()?;
        frame.bytes.get_mut(..2)?.copy_from_slice(&channel.to_be_bytes());
        frame.bytes.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
        frame.bytes.get_mut(4..frame.len)?.copy_from_slice(payload);
        Some(frame)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
