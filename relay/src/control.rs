//! The control task: carries between the packet thread and the state server.
//!
//! Decides only when to ask again for the list of calls. Reads records out of the store's bytes, follows every change,
//! and runs loads and writes side by side. Leaves what any of it means to the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_core::residency::{self, Snapshot};
use tandem_core::topology::{Attachment, Call, CallKind, RecordError};
use tandem_net::socket::Waker;
use tandem_state_client::{BucketSet, Change, Command, Entry, Event, Key, Kinds, Op, Store, StoreError};
use tandem_telemetry::metric::{Series, relay as metric};
use tandem_telemetry::registry::Source;
use tandem_wire::id::{CallId, LegId, Revision};
use tandem_wire::units::Span;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::engine::StoreEvent;
use crate::limits;

/// What the packet thread asks the store for.
#[derive(Debug)]
pub(crate) enum Request {
    Load { call: CallId },
    Write { call: CallId, leg: LegId, attachment: Attachment, based_on: Revision },
}

/// The buckets whose calls a relay is to hold, by the table of this epoch.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) buckets: BucketSet,
    pub(crate) epoch: u32,
}

impl Wanted {
    /// Calls and attachments are all that a relay reads of a bucket.
    pub(crate) fn new(buckets: BucketSet, epoch: u32) -> Self {
        Self { buckets: buckets.only(Kinds::CALLS.and(Kinds::ATTACHMENTS)), epoch }
    }
}

/// What the control task counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Lists of all calls that were read from the store.
    pub(crate) restores: AtomicU64,
    /// Answers that the store owed us: loads, writes, lists and follow-ups that found it away.
    pub(crate) away: AtomicU64,
    /// Records that could not be read: malformed, or of a newer version.
    pub(crate) unreadable: AtomicU64,
}

impl Source for Counters {
    fn collect(&self, emit: &mut dyn FnMut(Series, u64)) {
        let totals = [&self.restores, &self.away, &self.unreadable];
        for (series, total) in metric::CONTROL.iter().zip(totals) {
            emit(*series, total.load(Ordering::Relaxed));
        }
    }
}

/// The way to the packet thread.
#[derive(Clone)]
struct Events {
    queue: mpsc::Sender<StoreEvent>,
    waker: Waker,
}

/// The packet thread has ended: there is nobody left to tell.
struct Gone;

impl Events {
    async fn tell(&self, event: StoreEvent) -> Result<(), Gone> {
        // Woken before it waits for room: a full queue must not sleep.
        if self.queue.capacity() == 0 {
            self.waker.wake();
        }
        self.queue.send(event).await.map_err(|_| Gone)?;
        self.waker.wake();
        Ok(())
    }
}

/// Everything that the control task owns.
pub(crate) struct Control {
    pub(crate) store: Arc<dyn Store>,
    /// What is to be held, as it changes.
    pub(crate) wanted: watch::Receiver<Wanted>,
    /// The epoch by which everything is held that is to be.
    pub(crate) held: watch::Sender<u32>,
    pub(crate) events: mpsc::Sender<StoreEvent>,
    pub(crate) waker: Waker,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) counters: Arc<Counters>,
}

impl Control {
    /// Runs until the packet thread is gone.
    pub(crate) async fn run(self) {
        let events = Events { queue: self.events, waker: self.waker };
        let store = Arc::clone(&self.store);
        let follow = follow(store, self.wanted, self.held, events.clone(), Arc::clone(&self.counters));
        let serve = serve(self.store, self.requests, events, self.counters);
        tokio::join!(follow, serve);
    }
}

/// Runs loads and writes as they come, side by side.
async fn serve(store: Arc<dyn Store>, mut requests: mpsc::Receiver<Request>, events: Events, counters: Arc<Counters>) {
    let places = Arc::new(Semaphore::new(limits::REQUESTS_UNDER_WAY));
    while let Some(request) = requests.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (store, events, counters) = (Arc::clone(&store), events.clone(), Arc::clone(&counters));
        tokio::spawn(async move {
            let event = match request {
                Request::Load { call } => load(&*store, call, &counters).await,
                Request::Write { call, leg, attachment, based_on } => {
                    write(&*store, call, leg, &attachment, based_on, &counters).await
                }
            };
            let _ = events.tell(event).await;
            drop(place);
        });
    }
}

async fn load(store: &dyn Store, call: CallId, counters: &Counters) -> StoreEvent {
    let failed = residency::Input::LoadFailed { call };
    match store.load(call).await {
        Ok(loaded) => {
            let mut calls = Snapshots::new(loaded.revision);
            for entry in loaded.entries {
                calls.take(entry, counters);
            }
            match calls.calls.remove(&call) {
                Some(Some(snapshot)) => residency::Input::Loaded { call, snapshot },
                // A record that we cannot read is no reason to refuse anyone: silence, until somebody can.
                Some(None) => failed,
                None => {
                    let snapshot = Snapshot { at: loaded.revision, call: None, legs: Vec::new() };
                    residency::Input::Loaded { call, snapshot }
                }
            }
        }
        Err(error) => {
            report(&error, "load", counters);
            failed
        }
    }
}

async fn write(
    store: &dyn Store,
    call: CallId,
    leg: LegId,
    attachment: &Attachment,
    based_on: Revision,
    counters: &Counters,
) -> StoreEvent {
    let away = residency::Input::WriteAway { call, leg };
    let Ok(value) = attachment.to_json() else {
        counters.unreadable.fetch_add(1, Ordering::Relaxed);
        return away;
    };
    let op = Op { key: Key::Attachment(call, leg), based_on, change: Change::Put(value) };
    match store.commit(Command { ops: vec![op] }).await {
        Ok(revision) => residency::Input::Written { call, leg, revision },
        Err(StoreError::Stale { .. }) => residency::Input::WriteStale { call, leg },
        Err(error) => {
            report(&error, "write", counters);
            away
        }
    }
}

fn report(error: &StoreError, what: &'static str, counters: &Counters) {
    counters.away.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(what, %error, "the store did not answer");
}

/// Lists all calls that are wanted, then follows every change, and starts anew when it cannot follow. When more is wanted,
/// only that is listed.
async fn follow(
    store: Arc<dyn Store>,
    mut wanted: watch::Receiver<Wanted>,
    held: watch::Sender<u32>,
    events: Events,
    counters: Arc<Counters>,
) {
    let mut wait = limits::RESTORE_RETRY;
    loop {
        let holding = wanted.borrow_and_update().clone();
        let listed = list(&*store, &holding.buckets, List::Everything, &events, &counters).await;
        let at = match listed {
            Ok(Ok(at)) => at,
            Ok(Err(error)) => {
                counters.away.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%error, retry_ms = wait.as_millis(), "the store cannot list its calls yet");
                tokio::time::sleep(wait.to_std()).await;
                wait = Span::from_nanos(wait.as_nanos().saturating_mul(2)).min(limits::RESTORE_RETRY_MAX);
                continue;
            }
            Err(Gone) => return,
        };
        wait = limits::RESTORE_RETRY;
        counters.restores.fetch_add(1, Ordering::Relaxed);
        held.send_replace(holding.epoch);
        let mut following = Following { store: &*store, holding, at, events: &events, counters: &counters };
        if following.run(&mut wanted, &held).await.is_err() {
            return;
        }
    }
}

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    /// All that is held: what it does not name is not there.
    Everything,
    /// Buckets that were not held before.
    More,
}

/// Lists calls once; gives the revision to follow from.
async fn list(
    store: &dyn Store,
    buckets: &BucketSet,
    what: List,
    events: &Events,
    counters: &Counters,
) -> Result<Result<Revision, StoreError>, Gone> {
    let restored = match store.restore(buckets).await {
        Ok(restored) => restored,
        Err(error) => return Ok(Err(error)),
    };
    let mut calls = Snapshots::new(restored.revision);
    for entry in restored.entries {
        calls.take(entry, counters);
    }
    let (begin, end) = match what {
        List::Everything => (residency::Input::RestoreBegan, residency::Input::Restored),
        List::More => (residency::Input::FillBegan, residency::Input::Filled),
    };
    events.tell(begin).await?;
    let snapshots = calls.calls.into_iter().filter_map(|(call, snapshot)| Some((call, snapshot?)));
    // Two people talk at once, a group is used to waiting for one who comes late.
    let of_two = |(_, snapshot): &(CallId, Snapshot)| {
        snapshot.call.as_ref().is_none_or(|(record, _)| record.kind == CallKind::OneToOne)
    };
    let (first, then): (Vec<_>, Vec<_>) = snapshots.partition(of_two);
    let listed = first.len() + then.len();
    for (call, snapshot) in first.into_iter().chain(then) {
        events.tell(residency::Input::Loaded { call, snapshot }).await?;
    }
    events.tell(end).await?;
    tracing::info!(calls = listed, revision = restored.revision.0, ?what, "restored");
    Ok(Ok(restored.revision))
}

/// Following from a list on.
struct Following<'a> {
    store: &'a dyn Store,
    holding: Wanted,
    /// All up to this revision was told.
    at: Revision,
    events: &'a Events,
    counters: &'a Counters,
}

impl Following<'_> {
    /// Follows changes, over lost connections and through changes of what is wanted, until the store no longer has what we
    /// have not seen.
    async fn run(&mut self, wanted: &mut watch::Receiver<Wanted>, held: &watch::Sender<u32>) -> Result<(), Gone> {
        let mut wait = limits::RESTORE_RETRY;
        // What is wanted has changed, and could not be had yet.
        let mut behind = false;
        loop {
            let next = behind.then(|| wanted.borrow_and_update().clone());
            let error = if let Some(next) = next {
                match self.hold(next).await? {
                    Ok(epoch) => {
                        held.send_replace(epoch);
                        behind = false;
                        continue;
                    }
                    Err(error) => error,
                }
            } else {
                tokio::select! {
                    error = self.changes(&mut wait) => error?,
                    changed = wanted.changed() => {
                        // An error: the packet thread has ended.
                        changed.map_err(|_| Gone)?;
                        behind = true;
                        continue;
                    }
                }
            };
            if !error.is_away() {
                tracing::warn!(%error, "cannot follow the store any further: listing all calls anew");
                return Ok(());
            }
            self.counters.away.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(wait.to_std()) => {}
                () = self.events.queue.closed() => return Err(Gone),
            }
            wait = Span::from_nanos(wait.as_nanos().saturating_mul(2)).min(limits::RESTORE_RETRY_MAX);
        }
    }

    /// Holds what is wanted now: lists what is new, and lets go of the rest.
    async fn hold(&mut self, wanted: Wanted) -> Result<Result<u32, StoreError>, Gone> {
        let more = wanted.buckets.without(&self.holding.buckets);
        if !more.is_empty() {
            // Changes since then that were told are told again: what is older than what is known is passed over.
            if let Err(error) = list(self.store, &more, List::More, self.events, self.counters).await? {
                return Ok(Err(error));
            }
            self.counters.restores.fetch_add(1, Ordering::Relaxed);
        }
        if !self.holding.buckets.without(&wanted.buckets).is_empty() {
            self.events.tell(residency::Input::Narrowed { ranges: wanted.buckets.ranges() }).await?;
        }
        self.holding = wanted;
        Ok(Ok(self.holding.epoch))
    }

    /// Tells changes until there is a reason not to. What was told in part when this is given up is told again.
    async fn changes(&mut self, wait: &mut Span) -> Result<StoreError, Gone> {
        let mut watch = match self.store.watch(&self.holding.buckets, self.at).await {
            Ok(watch) => watch,
            Err(error) => return Ok(error),
        };
        loop {
            match std::future::poll_fn(|context| watch.poll_changes(context)).await {
                Some(Ok(changes)) => {
                    *wait = limits::RESTORE_RETRY;
                    for change in changes.events {
                        if let Some(event) = event_of(change, self.counters) {
                            self.events.tell(event).await?;
                        }
                    }
                    self.at = changes.reached;
                }
                Some(Err(error)) => return Ok(error),
                None => return Ok(StoreError::Away { retry_after_ms: 0 }),
            }
        }
    }
}

fn event_of(change: Event, counters: &Counters) -> Option<StoreEvent> {
    let Event { key, revision, value } = change;
    let unreadable = |error: RecordError| {
        counters.unreadable.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "a record cannot be read");
    };
    match key {
        Key::Call(call) => match value.map(|value| Call::from_json(&value)).transpose() {
            Ok(record) => Some(residency::Input::CallChanged { call, record, revision }),
            Err(error) => {
                unreadable(error);
                None
            }
        },
        Key::Attachment(call, leg) => match value.map(|value| Attachment::from_json(&value)).transpose() {
            Ok(record) => Some(residency::Input::AttachmentChanged { call, leg, record, revision }),
            Err(error) => {
                unreadable(error);
                None
            }
        },
        // What devices say to each other, and who they are, is nothing of a relay's.
        Key::Blob(..) | Key::Removal(..) | Key::Pair(..) | Key::Relay(..) | Key::Table(_) | Key::Account(..) => None,
    }
}

/// Entries of the store, put together by call. `None`: something of this call cannot be read.
struct Snapshots {
    at: Revision,
    calls: BTreeMap<CallId, Option<Snapshot>>,
}

impl Snapshots {
    const fn new(at: Revision) -> Self {
        Self { at, calls: BTreeMap::new() }
    }

    fn take(&mut self, entry: Entry, counters: &Counters) {
        let (Key::Call(call) | Key::Attachment(call, _)) = entry.key else { return };
        let slot =
            self.calls.entry(call).or_insert_with(|| Some(Snapshot { at: self.at, call: None, legs: Vec::new() }));
        let Some(snapshot) = slot else { return };
        let result = match entry.key {
            Key::Call(_) => Call::from_json(&entry.value).map(|record| snapshot.call = Some((record, entry.revision))),
            Key::Attachment(_, leg) => {
                Attachment::from_json(&entry.value).map(|record| snapshot.legs.push((leg, record, entry.revision)))
            }
            Key::Blob(..) | Key::Removal(..) | Key::Pair(..) | Key::Relay(..) | Key::Table(_) | Key::Account(..) => {
                return;
            }
        };
        if let Err(error) = result {
            counters.unreadable.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "a record cannot be read");
            *slot = None;
        }
    }
}
