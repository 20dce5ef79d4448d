//! The state server itself: takes commands in, reads from memory, lets others follow. In a process of its own it stands
//! behind gRPC; in the same process it is used as it is.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use tandem_core::topology::Transport;
use tandem_state_client::limits::{OPS_PER_COMMAND, VALUE_LEN_MAX};
use tandem_state_client::{AllocationRef, BucketSet, Change, Command, Listing, Revision, Store, StoreError, Watch};
use tandem_telemetry::metric::{Series, state as metric};
use tandem_telemetry::registry::Source;
use tandem_wire::id::{CallId, PopId};
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::Wall;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::backend::{Backend, OpenError};
use crate::cache::Cache;
use crate::embedded::Embedded;
use crate::limits;
use crate::writer::{self, AWAY, Counters, Job, Shared};

/// The store of one PoP, open. Its writer ends when the last handle is dropped.
pub struct StateServer {
    pop: PopId,
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for StateServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateServer").field("pop", &self.pop).finish_non_exhaustive()
    }
}

impl StateServer {
    /// Opens the embedded store at `path`, or makes it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, pop: PopId, now: fn() -> Wall) -> Result<Arc<Self>, OpenError> {
        Self::open_with_backend(Embedded::file(path, pop, now), pop)
    }

    /// Opens a store on any backend.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with_backend(mut backend: impl Backend, pop: PopId) -> Result<Arc<Self>, OpenError> {
        let listing = backend.read_all()?;
        let (latest, _) = watch::channel(listing.revision);
        let cache = RwLock::new(Cache::new(pop, listing));
        let shared = Arc::new(Shared { cache, latest, counters: Counters::default() });
        let (jobs, waiting) = mpsc::channel(limits::COMMANDS_WAITING);
        let for_writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(backend, waiting, &for_writer))
            .map_err(OpenError::System)?;
        Ok(Arc::new(Self { pop, jobs, shared }))
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.read(Cache::revision)
    }

    /// What it counts, for whoever scrapes.
    #[must_use]
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.shared) as Arc<dyn Source>
    }

    fn check(&self, command: &Command) -> Result<(), StoreError> {
        if command.ops.is_empty() || command.ops.len() > OPS_PER_COMMAND {
            return Err(StoreError::Invalid("a command has 1 to 16 operations"));
        }
        let mut seen = HashSet::with_capacity(command.ops.len());
        for op in &command.ops {
            if op.key.pop() != self.pop {
                return Err(StoreError::Invalid("the record is another PoP's"));
            }
            if !seen.insert(op.key) {
                return Err(StoreError::Invalid("a command names a record once"));
            }
            match &op.change {
                Change::Put(value) if value.len() > VALUE_LEN_MAX => {
                    return Err(StoreError::Invalid("a record has at most 16 KiB"));
                }
                Change::Delete if op.based_on == Revision::ZERO => {
                    return Err(StoreError::Invalid("what is not there cannot be removed"));
                }
                Change::Put(_) | Change::Delete => {}
            }
        }
        Ok(())
    }
}

impl Source for Shared {
    fn collect(&self, emit: &mut dyn FnMut(Series, u64)) {
        let c = &self.counters;
        let counters = [&c.committed, &c.stale, &c.batches, &c.away, &c.failures, &c.compacted];
        let counters = counters.map(|counter| counter.load(Ordering::Relaxed));
        let gauges = self.read(|cache| [cache.len() as u64, cache.revision().0]);
        for (series, total) in metric::WRITER.iter().chain(&metric::CACHE).zip(counters.into_iter().chain(gauges)) {
            emit(*series, total);
        }
    }
}

#[async_trait]
impl Store for StateServer {
    async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
        self.check(&command)?;
        let (answer, result) = oneshot::channel();
        if self.jobs.try_send(Job { command, answer }).is_err() {
            self.shared.counters.away.fetch_add(1, Ordering::Relaxed);
            return Err(AWAY);
        }
        result.await.unwrap_or(Err(AWAY))
    }

    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        Ok(self.shared.read(|cache| cache.load(call)))
    }

    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        Ok(self.shared.read(|cache| cache.restore(buckets)))
    }

    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        // Asked once at once, so that who comes too late is told now.
        let first = self.shared.read(|cache| cache.changes(buckets, after));
        let (sender, receiver) = mpsc::channel(limits::CHANGES_PER_TURN);
        let follower =
            Follower { shared: Arc::clone(&self.shared), buckets: buckets.clone(), at: after, events: sender };
        if first.is_err() {
            self.shared.counters.compacted.fetch_add(1, Ordering::Relaxed);
        }
        first?;
        tokio::spawn(follower.run());
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn find_client(&self, transport: Transport, client: ClientAddr) -> Result<Option<AllocationRef>, StoreError> {
        Ok(self.shared.read(|cache| cache.find_client(transport, client)))
    }
}

/// One who follows: reads on from where it is, at its own pace. It holds no changes but the few that it was handed; who is
/// too slow falls off the end of those that are kept, and lists everything anew.
struct Follower {
    shared: Arc<Shared>,
    buckets: BucketSet,
    at: Revision,
    events: mpsc::Sender<Result<tandem_state_client::Event, StoreError>>,
}

impl Follower {
    async fn run(mut self) {
        let mut latest = self.shared.latest.subscribe();
        loop {
            // Marked as seen before it is read: what comes later wakes us again.
            latest.mark_unchanged();
            match self.shared.read(|cache| cache.changes(&self.buckets, self.at)) {
                Ok((events, reached)) => {
                    let behind = reached < *latest.borrow();
                    self.at = reached;
                    for event in events {
                        if self.events.send(Ok(event)).await.is_err() {
                            return;
                        }
                    }
                    if behind {
                        continue;
                    }
                }
                Err(error) => {
                    self.shared.counters.compacted.fetch_add(1, Ordering::Relaxed);
                    let _ = self.events.send(Err(error)).await;
                    return;
                }
            }
            tokio::select! {
                changed = latest.changed() => if changed.is_err() { return },
                () = self.events.closed() => return,
            }
        }
    }
}
