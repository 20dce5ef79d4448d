//! What one device sealed for another, as it is stored until that one has it.
//!
//! Decides what stands beside the sealed bytes: from whom, what for, since when. Leaves the bytes alone: they are base64
//! here, and nothing of ours looks into them.

use serde::{Deserialize, Serialize};
use tandem_wire::party::Party;
use tandem_wire::units::Wall;

use super::{Media, RECORD_VERSION, RecordError, Unknown, check_version};

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
        check_version(bytes)?;
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Writes the record down.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], if an unknown field cannot be written back.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
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
        check_version(bytes)?;
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Writes the record down.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], if an unknown field cannot be written back.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }
}
