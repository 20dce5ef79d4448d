//! The audit: whether the cache has exactly what etcd has.
//!
//! The keeper sees that the watch is not late; it cannot see that it has lost a change on its way (etcd has had such faults:
//! issues 15271, 17529, 18089). So all paths and their revisions are read now and then, without their values, as they were
//! at the revision that the cache has reached. What differs is looked at once more, alone, before everything is listed anew.

use std::collections::HashMap;
use std::sync::Arc;

use etcd_client::GetOptions;
use tandem_state_client::limits::VALUE_LEN_MAX;
use tandem_state_client::{Key, Revision};

use super::engine::{Engine, Renew};
use super::link::CallError;
use super::list::key;
use super::pause::jittered;
use crate::limits;

/// Audits for as long as it runs.
pub(crate) async fn run(engine: Arc<Engine>) {
    loop {
        tokio::time::sleep(jittered(limits::ETCD_AUDIT)).await;
        match lost(&engine).await {
            Ok(true) => {
                tracing::error!("the cache is not what etcd has: a change was lost");
                engine.renew(Renew::List);
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "etcd cannot be compared with now"),
        }
    }
}

/// Whether a change was lost.
pub(crate) async fn lost(engine: &Arc<Engine>) -> Result<bool, CallError> {
    let reached = *engine.latest.borrow();
    let there = revisions(engine, reached).await?;
    let shared = Arc::clone(&engine.shared);
    // It takes as long as there are records.
    let compared = tokio::task::spawn_blocking(move || shared.read(|cache| cache.contradictions(reached, &there)));
    let suspects = compared.await.unwrap_or_default();
    for suspect in suspects {
        if !agrees(engine, suspect, reached).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every record's revision, as of `at`.
async fn revisions(engine: &Engine, at: Revision) -> Result<HashMap<Key, Revision>, CallError> {
    let (origin, node) = (engine.origin.read().await.clone(), engine.link.active());
    let at = origin.theirs(at).ok_or_else(|| CallError::Away("the store is another one".to_owned()))?;
    let mut from = engine.paths.prefix.clone().into_bytes();
    let mut revisions = HashMap::new();
    loop {
        let options = GetOptions::new()
            .with_range(engine.paths.end.as_str())
            .with_limit(limits::ETCD_AUDIT_PAGE)
            .with_revision(at)
            .with_keys_only()
            .with_serializable();
        let reply = engine.link.get(node, from, Some(options)).await?;
        let known =
            reply.kvs().iter().filter_map(|record| Some((key(engine.pop, record.key())?, record.mod_revision())));
        revisions.extend(known.map(|(key, revision)| (key, origin.ours(revision))));
        match reply.kvs().last() {
            Some(last) if reply.more() => from = [last.key(), b"\0"].concat(),
            _ => return Ok(revisions),
        }
    }
}

/// Whether the cache comes to have what etcd has of one record now.
async fn agrees(engine: &Engine, key: Key, at: Revision) -> Result<bool, CallError> {
    let origin = engine.origin.read().await.clone();
    let reply = engine.link.get(engine.link.active(), key.to_string(), None).await?;
    // One that is too large for us is none.
    let record = reply.kvs().first().filter(|record| record.value().len() <= VALUE_LEN_MAX);
    let there = record.map(|record| origin.ours(record.mod_revision()));
    let same = |_| match (engine.shared.read(|cache| cache.revision_of(key)), there) {
        (Some(here), Some(there)) => here >= there,
        (Some(here), None) => here > at,
        (None, there) => there.is_none(),
    };
    Ok(engine.becomes(limits::ETCD_ECHO, same).await)
}
