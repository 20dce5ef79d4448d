//! A store in memory, for tests: it means what every store means, and forgets everything with its process.
//!
//! Decides nothing: it passes the conformance suite like any other. It can be taken away and given back.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_core::Stream;
use tandem_core::topology::{Attachment, Call, Transport};
use tandem_wire::id::{CallId, PopId, Revision};
use tandem_wire::redact::ClientAddr;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use crate::load::{self, KeptLoads, Reports, SeenLoad};
use crate::{
    AllocationRef, BucketSet, Change, Changes, Command, Entry, Event, Key, Listing, Store, StoreError, Watch, limits,
};

/// Where a new store's revisions start.
const FIRST: Revision = Revision(1_000);

#[derive(Debug, Default)]
struct Content {
    records: BTreeMap<Key, Entry>,
    changes: Vec<Event>,
    revision: Revision,
    /// Changes up to this one are no longer kept.
    first: Revision,
    /// How often everything was replaced.
    life: u64,
}

/// A store in memory.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    pop: PopId,
    content: Arc<Mutex<Content>>,
    latest: Arc<watch::Sender<Revision>>,
    away: Arc<AtomicBool>,
    loads: Arc<KeptLoads>,
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new(pop: PopId) -> Self {
        let content = Content { revision: FIRST, first: FIRST, ..Content::default() };
        Self {
            pop,
            content: Arc::new(Mutex::new(content)),
            latest: Arc::new(watch::Sender::new(FIRST)),
            away: Arc::default(),
            loads: Arc::default(),
        }
    }

    /// Takes the store away, or gives it back. Who follows is cut off.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
        self.latest.send_modify(|_| {});
    }

    /// Deletes everything, as when a store is made anew in the old one's place: its revisions are later than all that there
    /// were. Who follows must list everything anew.
    pub fn wipe(&self) {
        self.replace(|content| {
            content.records.clear();
            Revision(content.revision.0 + 1_000_000)
        });
    }

    /// Makes everything as it was at `revision`, as when a snapshot is put back. Who follows must list everything anew.
    pub fn put_back(&self, revision: Revision) {
        self.replace(|content| {
            let mut records = BTreeMap::new();
            for Event { key, revision, value } in content.changes.iter().filter(|event| event.revision <= revision) {
                match value {
                    Some(value) => {
                        let (key, revision, value) = (*key, *revision, Arc::clone(value));
                        records.insert(key, Entry { key, revision, value });
                    }
                    None => _ = records.remove(key),
                }
            }
            content.records = records;
            revision
        });
    }

    fn replace(&self, act: impl FnOnce(&mut Content) -> Revision) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = act(&mut content);
        (content.revision, content.first) = (revision, revision);
        content.changes.clear();
        content.life += 1;
        drop(content);
        self.latest.send_replace(revision);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Content) -> T) -> Result<T, StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::Away { retry_after_ms: limits::RETRY_AFTER_MS });
        }
        Ok(act(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn list(&self, wanted: impl Fn(&Key) -> bool) -> Result<Listing, StoreError> {
        self.with(|content| Listing {
            revision: content.revision,
            entries: content.records.values().filter(|entry| wanted(&entry.key)).cloned().collect(),
        })
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
        command.check(self.pop)?;
        let revision = self.with(|content| {
            for op in &command.ops {
                let current = content.records.get(&op.key).map_or(Revision::ZERO, |entry| entry.revision);
                if current != op.based_on {
                    return Err(StoreError::Stale { key: op.key });
                }
            }
            let revision = Revision(content.revision.0 + 1);
            for op in command.ops {
                let value: Option<Arc<[u8]>> = match op.change {
                    Change::Put(value) => Some(value.into()),
                    Change::Delete => None,
                };
                match &value {
                    Some(value) => {
                        let entry = Entry { key: op.key, revision, value: Arc::clone(value) };
                        content.records.insert(op.key, entry);
                    }
                    None => _ = content.records.remove(&op.key),
                }
                content.changes.push(Event { key: op.key, revision, value });
            }
            content.revision = revision;
            Ok(revision)
        })??;
        // Later ones may have been told already.
        self.latest.send_modify(|latest| *latest = revision.max(*latest));
        Ok(revision)
    }

    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        self.list(|key| key.call() == Some(call))
    }

    async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        self.with(|content| content.records.get(&key).cloned())
    }

    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        self.list(|key| buckets.has(*key))
    }

    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        let life = self.with(|content| {
            let kept = after >= content.first && after <= content.revision;
            if kept { Ok(content.life) } else { Err(StoreError::Compacted) }
        })??;
        let latest = WatchStream::new(self.latest.subscribe());
        let followed =
            Followed { store: self.clone(), latest, buckets: buckets.clone(), at: after, life, ended: false };
        Ok(Watch::new(Box::pin(followed), after))
    }

    async fn find_client(&self, transport: Transport, client: ClientAddr) -> Result<Option<AllocationRef>, StoreError> {
        self.with(|content| {
            // Who attached there last: the later revision of its first mention, as its history tells.
            let mut found: Option<(Revision, AllocationRef)> = None;
            for entry in content.records.values() {
                let Key::Attachment(call, leg) = entry.key else { continue };
                let Ok(record) = Attachment::from_json(&entry.value) else { continue };
                let Some(allocation) = record.find(transport, client) else { continue };
                let runs = content.records.get(&Key::Call(call)).map(|entry| Call::from_json(&entry.value));
                if !matches!(runs, Some(Ok(call)) if call.admits(leg).is_ok()) {
                    continue;
                }
                let mut since = entry.revision;
                for event in content.changes.iter().rev().filter(|event| event.key == entry.key) {
                    let there = event.value.as_ref().and_then(|value| Attachment::from_json(value).ok());
                    if there.is_none_or(|record| record.find(transport, client).is_none()) {
                        break;
                    }
                    since = event.revision;
                }
                if found.is_none_or(|(other, _)| since > other) {
                    found = Some((since, AllocationRef { call, leg, allocation: allocation.a }));
                }
            }
            found.map(|(_, owner)| owner)
        })
    }

    async fn report_load(&self, reports: Reports) {
        load::each(reports, |report| {
            let entry = self.with(|content| content.records.get(&Key::Relay(self.pop, report.relay)).cloned());
            // While it is away it hears nothing.
            let Ok(entry) = entry else { return };
            self.loads.take(report, entry.as_ref().map(|entry| &*entry.value));
        })
        .await;
    }

    async fn loads(&self) -> Result<Vec<SeenLoad>, StoreError> {
        self.with(|content| {
            self.loads.list(|relay| load::incarnation(&content.records.get(&Key::Relay(self.pop, relay))?.value))
        })
    }
}

/// What has changed since, each time that something has.
struct Followed {
    store: MemoryStore,
    latest: WatchStream<Revision>,
    buckets: BucketSet,
    at: Revision,
    life: u64,
    ended: bool,
}

impl Stream for Followed {
    type Item = Result<Changes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match Pin::new(&mut self.latest).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(_)) => {}
            }
            let (after, life, buckets) = (self.at, self.life, self.buckets.clone());
            let changes = self.store.with(|content| {
                if content.life != life {
                    return Err(StoreError::Compacted);
                }
                let start = content.changes.partition_point(|event| event.revision <= after);
                let later = content.changes.get(start..).unwrap_or_default();
                let wanted = |event: &&Event| buckets.has(event.key);
                Ok(Changes { events: later.iter().filter(wanted).cloned().collect(), reached: content.revision })
            });
            match changes.and_then(|changes| changes) {
                Ok(changes) if changes.reached == after => {}
                Ok(changes) => {
                    self.at = changes.reached;
                    return Poll::Ready(Some(Ok(changes)));
                }
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn the_store_in_memory_passes_the_suite() {
        conformance::every_check(Arc::new(MemoryStore::new(conformance::POP))).await;
    }
}
