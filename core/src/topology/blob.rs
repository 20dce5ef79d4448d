//! What one device sealed for another, as it is stored until that one has it.
//!
//! Decides what stands beside the sealed bytes: from whom, what for, since when. Leaves the bytes alone: they are base64
//! here, and nothing of ours looks into them.

use serde::{Deserialize, Serialize};
use tandem_wire::party::Party;
use tandem_wire::units::Wall;

use super::{Media, RECORD_VERSION, RecordError, Unknown, read};

/// About as much stands in a blob's record beside what is sealed.
const HEAD_BYTES: usize = 320;

/// What a blob is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobKind {
    /// The caller's offer.
    Offer,
    /// The answer of the device that accepted.
    Accept,
    /// Anything between two legs: candidates, renegotiation, keys.
    Signal,
    /// The caller's note for a device that will have missed the call. Told to nobody before it is [`BlobKind::Missed`].
    Note,
    /// A missed-call note.
    Missed,
}

/// The stored record of a blob.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Blob {
    /// Version of the record.
    pub v: u32,
    /// What it is for.
    pub kind: BlobKind,
    /// Who sealed it.
    pub from: Party,
    /// For whom. It stands in the key too, but as a hash.
    pub to: Party,
    /// When, in wall milliseconds; of a missed-call note, when the call ended.
    pub at: Wall,
    /// What the caller wanted to send; in notes, which outlive the call's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<Media>,
    /// The sealed bytes in base64; a note may be without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl core::fmt::Debug for Blob {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let len = self.sealed.as_ref().map_or(0, String::len);
        write!(f, "Blob {{ kind: {:?}, sealed: {len} characters }}", self.kind)
    }
}

impl Blob {
    /// A blob of this moment.
    #[must_use]
    pub const fn new(kind: BlobKind, from: Party, to: Party, at: Wall, sealed: Option<String>) -> Self {
        Self { v: RECORD_VERSION, kind, from, to, at, media: None, sealed, unknown: Unknown::new() }
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`RecordError::Newer`] for a version that this process does not know, [`RecordError::Malformed`] for the rest.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes, |record: &Self| record.v)
    }

    /// Writes the record down.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], if an unknown field cannot be written back.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        // It is nearly all sealed bytes: as long at once as it will be.
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.sealed.as_ref().map_or(0, String::len));
        serde_json::to_writer(&mut bytes, self)?;
        Ok(bytes)
    }
}

/// What there is to know of a blob without looking at what is sealed, for those who see all of a PoP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct BlobHead {
    v: u32,
    /// What it is for.
    pub kind: BlobKind,
    /// As in [`Blob`].
    pub at: Wall,
}

impl BlobHead {
    /// Reads it out of the stored record of a [`Blob`].
    ///
    /// # Errors
    /// As [`Blob::from_json`], but for what is wrong with fields that it does not have.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes, |head: &Self| head.v)
    }
}

/// The record that says that a device was removed: what it was given before that moment is void.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// Version of the record.
    pub v: u32,
    /// Whose it was.
    pub party: Party,
    /// When it was removed, in wall milliseconds.
    pub at: Wall,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Removal {
    /// A removal of this moment.
    #[must_use]
    pub const fn new(party: Party, at: Wall) -> Self {
        Self { v: RECORD_VERSION, party, at, unknown: Unknown::new() }
    }

    /// Whether a token that was issued at `issued` (seconds; unknown: `None`) is void.
    #[must_use]
    pub fn voids(&self, issued: Option<u64>) -> bool {
        issued.is_none_or(|issued| issued <= self.at.as_secs())
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`RecordError::Newer`] for a version that this process does not know, [`RecordError::Malformed`] for the rest.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes, |record: &Self| record.v)
    }

    /// Writes the record down.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], if an unknown field cannot be written back.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob() -> Blob {
        let party = |device: &str| Party { account: "bob".parse().unwrap(), device: device.parse().unwrap() };
        Blob::new(BlobKind::Missed, party("dev_1"), party("dev_2"), Wall::from_millis(7), Some("QUFB".repeat(100)))
    }

    #[test]
    fn a_head_says_what_the_whole_blob_says() {
        let bytes = blob().to_json().unwrap();
        let head = BlobHead::from_json(&bytes).unwrap();
        assert_eq!((head.kind, head.at), (BlobKind::Missed, Wall::from_millis(7)));
        assert_eq!(Blob::from_json(&bytes).unwrap(), blob());
    }

    #[test]
    fn a_newer_blob_is_refused_by_name_whether_or_not_its_fields_are_known() {
        let newer = String::from_utf8(blob().to_json().unwrap()).unwrap().replace("\"v\":1", "\"v\":2");
        let other = newer.replace("missed", "of a kind that comes later");
        for text in [&newer, &other] {
            assert!(matches!(Blob::from_json(text.as_bytes()), Err(RecordError::Newer { found: 2 })));
            assert!(matches!(BlobHead::from_json(text.as_bytes()), Err(RecordError::Newer { found: 2 })));
        }
        let malformed = other.replace("\"v\":2", "\"v\":1");
        assert!(matches!(Blob::from_json(malformed.as_bytes()), Err(RecordError::Malformed(_))));
        assert!(matches!(BlobHead::from_json(b"{}"), Err(RecordError::Malformed(_))));
    }
}
