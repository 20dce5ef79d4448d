//! When this store was made, and what a revision of etcd is to everyone else.
//!
//! Decides that no revision is ever used twice: one of ours is etcd's own plus the microseconds since 1970 at which the
//! store was made, which stand in a record of etcd's. So a cluster that was wiped, and counts from 1 again, is later than
//! everything that was ever read from the old one (the embedded store does the same). Every write of ours holds the
//! record as its condition: none goes into another store than the one that we have read.

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp};
use serde::{Deserialize, Serialize};
use tandem_state_client::Revision;
use tandem_wire::id::PopId;
use tandem_wire::units::Wall;

use super::link::{CallError, Link};
use crate::backend::OpenError;
use crate::limits;

/// The format that this code reads and writes.
const FORMAT: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    v: u64,
    #[serde(default)]
    base: u64,
}

/// Where a PoP's records stand in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// What all of them start with.
    pub(crate) prefix: String,
    /// The first path that does not.
    pub(crate) end: String,
}

impl Paths {
    pub(crate) fn of(pop: PopId) -> Self {
        // '0' is what follows '/'.
        Self { prefix: format!("tandem/v1/{:04x}/", pop.0), end: format!("tandem/v1/{:04x}0", pop.0) }
    }

    fn made(&self) -> String {
        format!("{}made", self.prefix)
    }

    /// A record that is written only to see whether it can be, and whether it comes back.
    pub(crate) fn beat(&self) -> String {
        format!("{}beat", self.prefix)
    }

    /// Whether a path is the store's own and no record.
    pub(crate) fn is_own(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.prefix.as_bytes()).is_some_and(|rest| matches!(rest, b"made" | b"beat"))
    }
}

/// The store that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    base: u64,
    /// The record as it stands.
    bytes: Vec<u8>,
}

/// What the record says, and at which revision of etcd.
pub(crate) struct Found {
    pub(crate) origin: Option<Origin>,
    pub(crate) revision: i64,
}

impl Origin {
    /// Reads it: with the word of the majority, or (`local`) with that of the one node, which may be behind.
    pub(crate) async fn read(link: &Link, node: usize, paths: &Paths, local: bool) -> Result<Found, Trouble> {
        let options = local.then(|| GetOptions::new().with_serializable());
        let reply = link.get(node, paths.made(), options).await?;
        let revision = reply.header().map_or(0, etcd_client::ResponseHeader::revision);
        let origin = reply.kvs().first().map(|found| Self::parse(found.value())).transpose()?;
        Ok(Found { origin, revision })
    }

    /// Reads it, or makes it if it is not there.
    pub(crate) async fn read_or_make(link: &Link, node: usize, paths: &Paths, now: Wall) -> Result<Self, Trouble> {
        if let Some(origin) = Self::read(link, node, paths, false).await?.origin {
            return Ok(origin);
        }
        let record = Record { v: FORMAT, base: now.as_millis().saturating_mul(1_000) };
        let bytes = serde_json::to_vec(&record).map_err(|error| OpenError::Damaged(error.to_string()))?;
        let key = paths.made();
        let create = Txn::new().when([Compare::version(key.clone(), CompareOp::Equal, 0)]).and_then([TxnOp::put(
            key,
            bytes,
            None::<PutOptions>,
        )]);
        // Whoever made it, ours or another's is there now.
        link.txn(node, create, limits::ETCD_TIMEOUT).await?;
        let found = Self::read(link, node, paths, false).await?.origin;
        found.ok_or_else(|| CallError::Away("what was written is not there".to_owned()).into())
    }

    fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let damaged = |_| OpenError::Damaged("the record of when it was made cannot be read".to_owned());
        let record: Record = serde_json::from_slice(bytes).map_err(damaged)?;
        if record.v > FORMAT {
            return Err(OpenError::Newer { found: record.v, known: FORMAT });
        }
        Ok(Self { base: record.base, bytes: bytes.to_vec() })
    }

    /// The condition of every write.
    pub(crate) fn unchanged(&self, paths: &Paths) -> Compare {
        Compare::value(paths.made(), CompareOp::Equal, self.bytes.clone())
    }

    /// A revision of etcd, as others know it.
    pub(crate) fn ours(&self, theirs: i64) -> Revision {
        Revision(self.base.saturating_add(u64::try_from(theirs).unwrap_or(0)))
    }

    /// A revision as etcd knows it; `None`: of another store than this.
    pub(crate) fn theirs(&self, ours: Revision) -> Option<i64> {
        if ours == Revision::ZERO {
            return Some(0);
        }
        ours.0.checked_sub(self.base).filter(|theirs| *theirs > 0).and_then(|theirs| i64::try_from(theirs).ok())
    }
}

/// Why etcd cannot be read: it may pass, or it will not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Try again.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It makes no sense to.
    #[error(transparent)]
    Open(#[from] OpenError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_state_client::Key;
    use tandem_wire::id::{BucketId, CallId};

    fn origin(text: &str) -> Result<Origin, OpenError> {
        Origin::parse(text.as_bytes())
    }

    #[test]
    fn a_revision_survives_its_way_out_and_back_and_one_of_another_store_does_not() {
        let old = origin(r#"{"v":1,"base":1795000000000000}"#).unwrap();
        let new = origin(r#"{"v":1,"base":1795000060000000}"#).unwrap();
        for theirs in [1, 2, 77_000_000] {
            assert_eq!(old.theirs(old.ours(theirs)), Some(theirs));
        }
        assert_eq!(old.theirs(Revision::ZERO), Some(0));
        assert_eq!(new.theirs(old.ours(5)), None);
        assert!(new.ours(1) > old.ours(59_000_000));
    }

    #[test]
    fn a_record_of_a_newer_version_or_of_none_opens_nothing() {
        assert!(matches!(origin(r#"{"v":2,"other":1}"#), Err(OpenError::Newer { found: 2, known: 1 })));
        assert!(matches!(origin("made yesterday"), Err(OpenError::Damaged(_))));
    }

    #[test]
    fn every_record_of_a_pop_and_none_of_another_stands_between_the_two_paths() {
        let paths = Paths::of(PopId(0x1f));
        let path = |pop| Key::Call(CallId::new(PopId(pop), BucketId(0xffff), u128::MAX)).to_string();
        let within = |path: &str| paths.prefix.as_str() <= path && path < paths.end.as_str();
        assert!(within(&path(0x1f)) && !within(&path(0x1e)) && !within(&path(0x20)));
        assert!(within(&paths.made()) && within(&paths.beat()));
        assert!(paths.is_own(paths.made().as_bytes()) && !paths.is_own(path(0x1f).as_bytes()));
    }
}
