//! The state server itself: takes commands in, reads from memory, lets others follow. In a process of its own it stands
//! behind gRPC; in the same process it is used as it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tandem_core::topology::Transport;
use tandem_state_client::{
    AllocationRef, BucketSet, Change, Command, Entry, Key, Listing, Reports, Revision, SeenLoad, Store, StoreError,
    Watch,
};
use tandem_telemetry::metric::{Series, state as metric};
use tandem_telemetry::registry::Source;
use tandem_wire::id::{CallId, PopId};
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::Wall;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::WatchStream;

use crate::backend::{Backend, OpenError};
use crate::cache::Cache;
use crate::embedded::Embedded;
use crate::etcd::{self, EtcdConfig};
use crate::follower::Follower;
use crate::limits;
use crate::loads;
use crate::shared::{AWAY, Cause, Counters, Shared};
use crate::writer::{Job, Writer};

/// The store of one PoP, open. Its writer ends when the last handle is dropped, and with it whoever follows.
pub struct StateServer {
    pop: PopId,
    jobs: mpsc::Sender<Job>,
    job_bytes: Arc<Semaphore>,
    latest: watch::Receiver<Revision>,
    writable: watch::Receiver<bool>,
    followers: Arc<Semaphore>,
    shared: Arc<Shared>,
    /// Where others write too; `None`: nobody does.
    engine: Option<Arc<etcd::Engine>>,
    /// Places for those who ask the engine for the latest.
    settling: Semaphore,
    /// What runs on etcd; ends with us. The embedded store's thread ends by itself.
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for StateServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateServer").field("pop", &self.pop).finish_non_exhaustive()
    }
}

impl StateServer {
    /// Opens the embedded store at `path`, or makes it. `now` dates a new one.
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
        let (latest_sender, latest) = watch::channel(listing.revision);
        let (writable_sender, writable) = watch::channel(true);
        let shared = Arc::new(Shared::new(Cache::new(pop, listing)));
        let (jobs, waiting) = mpsc::channel(limits::COMMANDS_WAITING);
        let writer = Writer {
            backend,
            jobs: waiting,
            shared: Arc::clone(&shared),
            latest: latest_sender,
            writable: writable_sender,
        };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(OpenError::System)?;
        Ok(Self::new(pop, jobs, etcd::Running { shared, latest, writable, engine: None, tasks: JoinSet::new() }))
    }

    /// Opens the store of `pop` in an etcd cluster, or makes it, which `now` dates; waits for etcd for as long as it takes.
    /// Several of these may be open on one store, here and elsewhere.
    ///
    /// # Errors
    /// [`OpenError`], if waiting would not help.
    pub async fn connect(config: &EtcdConfig, pop: PopId, now: fn() -> Wall) -> Result<Arc<Self>, OpenError> {
        let (jobs, waiting) = mpsc::channel(limits::COMMANDS_WAITING);
        // Twenty kilobytes of it, which nobody is to carry about.
        let running = Box::pin(etcd::start(config, pop, now, waiting)).await?;
        Ok(Self::new(pop, jobs, running))
    }

    fn new(pop: PopId, jobs: mpsc::Sender<Job>, running: etcd::Running) -> Arc<Self> {
        let etcd::Running { shared, latest, writable, engine, tasks } = running;
        let job_bytes = Arc::new(Semaphore::new(limits::COMMAND_BYTES_WAITING as usize));
        let followers = Arc::new(Semaphore::new(limits::FOLLOWERS));
        let settling = Semaphore::new(limits::SETTLING);
        Arc::new(Self { pop, jobs, job_bytes, latest, writable, followers, shared, engine, settling, _tasks: tasks })
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

    /// Whether commands are taken: `false` from a failed write until the backend has been opened again. Reads go on.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        *self.writable.borrow()
    }

    /// Why they are not.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.shared.cause()
    }

    /// Waits until commands are taken.
    pub async fn writable(&self) {
        // It fails only if the writer is gone, and then nothing will ever be writable.
        let _ = self.writable.clone().wait_for(|writable| *writable).await;
    }

    /// What it counts, for whoever scrapes.
    #[must_use]
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.shared) as Arc<dyn Source>
    }

    /// Those who are told to come back are told different times, so that they do not all come at once.
    fn away(&self) -> StoreError {
        let before = self.shared.counters.away.fetch_add(1, Ordering::Relaxed);
        let spread = before.wrapping_mul(37) % limits::RETRY_SPREAD_MS;
        StoreError::Away { retry_after_ms: limits::RETRY_AFTER_MS + spread }
    }
}

impl Source for Shared {
    fn collect(&self, emit: &mut dyn FnMut(Series, u64)) {
        let c = &self.counters;
        let counters = [&c.committed, &c.stale, &c.batches, &c.away, &c.failures, &c.compacted];
        let etcd = [&c.renewed, &c.relisted, &c.strangers];
        let counters = counters.into_iter().chain(etcd).map(|counter| counter.load(Ordering::Relaxed));
        let age = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        let cause = self.cause();
        let unwritable = [Cause::Away, Cause::Full].map(|each| u64::from(each == cause));
        let gauges = self.read(|cache| [cache.len() as u64, cache.revision().0, age]);
        let series =
            metric::WRITER.iter().chain(&metric::ETCD).chain(&metric::CACHE).chain(&metric::UNWRITABLE_BY_CAUSE);
        for (series, total) in series.zip(counters.chain(gauges).chain(unwritable)) {
            emit(*series, total);
        }
        loads::collect(self, emit);
    }
}

/// What a command costs the queue, in bytes.
fn cost(command: &Command) -> u32 {
    let values = command.ops.iter().map(|op| match &op.change {
        Change::Put(value) => u32::try_from(value.len()).unwrap_or(u32::MAX),
        Change::Delete => 0,
    });
    values.fold(0, |sum: u32, value| sum.saturating_add(value).saturating_add(limits::OP_OVERHEAD))
}

#[async_trait]
impl Store for StateServer {
    async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
        command.check(self.pop)?;
        // Said at once: who waits here could have asked another, or answered from memory.
        if !self.is_writable() {
            return Err(self.away());
        }
        let Ok(bytes) = Arc::clone(&self.job_bytes).try_acquire_many_owned(cost(&command)) else {
            return Err(self.away());
        };
        let (answer, result) = oneshot::channel();
        if self.jobs.try_send(Job { command, answer, _bytes: bytes }).is_err() {
            return Err(self.away());
        }
        result.await.unwrap_or(Err(AWAY))
    }

    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        Ok(self.shared.read(|cache| cache.load(call)))
    }

    async fn load_latest(&self, call: CallId) -> Result<Listing, StoreError> {
        if let Some(engine) = &self.engine
            && let Ok(_place) = self.settling.try_acquire()
        {
            engine.settle(call).await;
        }
        self.load(call).await
    }

    async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.shared.read(|cache| cache.read(key)))
    }

    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        Ok(self.shared.read(|cache| cache.restore(buckets)))
    }

    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        // Who comes from another state server may have seen what we have not yet.
        if after > self.revision() {
            let mut latest = self.latest.clone();
            let reached = latest.wait_for(|latest| *latest >= after);
            let _ = tokio::time::timeout(limits::FOLLOWER_AHEAD, reached).await;
        }
        // Asked once now, so that who comes too late is told at once.
        let life =
            self.shared.read(|cache| cache.changes_in(cache.life(), &BucketSet::none(), after).map(|_| cache.life()));
        let life = life.inspect_err(|_| {
            self.shared.counters.compacted.fetch_add(1, Ordering::Relaxed);
        })?;
        let Ok(place) = Arc::clone(&self.followers).try_acquire_owned() else { return Err(self.away()) };
        let latest = WatchStream::from_changes(self.latest.clone());
        let follower = Follower::new(Arc::clone(&self.shared), latest, buckets.clone(), (after, life), place);
        Ok(Watch::new(Box::pin(follower), after))
    }

    async fn find_client(&self, transport: Transport, client: ClientAddr) -> Result<Option<AllocationRef>, StoreError> {
        Ok(self.shared.read(|cache| cache.find_client(transport, client)))
    }

    async fn report_load(&self, reports: Reports) {
        self.shared.report_load(self.pop, reports).await;
    }

    async fn loads(&self) -> Result<Vec<SeenLoad>, StoreError> {
        Ok(self.shared.loads())
    }

    fn age(&self) -> Duration {
        self.shared.age()
    }
}
