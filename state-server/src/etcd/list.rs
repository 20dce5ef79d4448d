//! Listing everything that etcd has of a PoP.
//!
//! Decides the pages: a limited number of records each, all of one revision. What stands under the PoP's prefix and is no
//! record of ours is left out and counted: a path that is no key names nothing here, whoever wrote it (attack E05).

use etcd_client::{GetOptions, KeyValue};
use tandem_state_client::limits::VALUE_LEN_MAX;
use tandem_state_client::{Entry, Key, Listing};
use tandem_wire::id::PopId;

use super::link::{CallError, Link};
use super::origin::{Origin, Paths};
use crate::limits;

/// Everything, and what else stood there.
pub(crate) struct Listed {
    pub(crate) listing: Listing,
    pub(crate) strangers: u64,
}

/// Lists it from `node`; `local`: as that node has it, with or without a leader.
pub(crate) async fn list(
    link: &Link,
    node: usize,
    (paths, origin, pop): (&Paths, &Origin, PopId),
    local: bool,
) -> Result<Listed, CallError> {
    let mut listed = Listed { listing: Listing::default(), strangers: 0 };
    let (mut from, mut at, mut page) = (paths.prefix.clone().into_bytes(), 0, limits::ETCD_PAGE);
    loop {
        let options = GetOptions::new().with_range(paths.end.as_str()).with_limit(page).with_revision(at);
        let options = if local { options.with_serializable() } else { options };
        let mut reply = match link.get(node, from.clone(), Some(options)).await {
            // Somebody put something large there: fewer at a time.
            Err(CallError::TooLarge) if page > 1 => {
                page /= 2;
                continue;
            }
            reply => reply?,
        };
        // The first page says which revision the others are to be of.
        if at == 0 {
            at = reply.header().map_or(0, etcd_client::ResponseHeader::revision);
            listed.listing.revision = origin.ours(at);
        }
        let more = reply.more();
        let records = reply.take_kvs();
        if let Some(last) = records.last() {
            from = [last.key(), b"\0"].concat();
        }
        for record in records.into_iter().filter(|record| !paths.is_own(record.key())) {
            match entry(origin, pop, record) {
                Some(entry) => listed.listing.entries.push(entry),
                None => listed.strangers += 1,
            }
        }
        if !more {
            return Ok(listed);
        }
    }
}

fn entry(origin: &Origin, pop: PopId, record: KeyValue) -> Option<Entry> {
    let key = key(pop, record.key())?;
    let revision = origin.ours(record.mod_revision());
    (record.value().len() <= VALUE_LEN_MAX).then(|| Entry { key, revision, value: record.into_key_value().1.into() })
}

/// The key that a path is, if it is one of this PoP.
pub(crate) fn key(pop: PopId, path: &[u8]) -> Option<Key> {
    let key: Key = std::str::from_utf8(path).ok()?.parse().ok()?;
    (key.pop() == pop).then_some(key)
}
