//! The control task: carries between the packet thread and the state server.
//!
//! Decides only when to ask again for the list of calls. Reads records out of the store's bytes, follows every change,
//! and runs loads and writes side by side. Leaves what any of it means to the engine.

mod follow;
mod snapshots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_core::residency::{self, Snapshot};
use tandem_core::topology::Attachment;
use tandem_net::socket::Waker;
use tandem_state_client::{BucketSet, Change, Command, Key, Kinds, Op, Store, StoreError};
use tandem_telemetry::metric::{Series, relay as metric};
use tandem_telemetry::registry::Source;
use tandem_wire::id::{CallId, LegId, Revision};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::engine::StoreEvent;
use crate::limits;
use snapshots::Snapshots;

/// What the packet thread asks the store for.
#[derive(Debug)]
pub(crate) enum Request {
    Load { call: CallId },
    Write { call: CallId, leg: LegId, attachment: Attachment, based_on: Revision },
}

/// The buckets whose calls a relay is to hold, by the share of this turn.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) buckets: BucketSet,
    pub(crate) turn: u32,
}

impl Wanted {
    /// Calls and attachments are all that a relay reads of a bucket.
    pub(crate) fn new(buckets: BucketSet, turn: u32) -> Self {
        Self { buckets: buckets.only(Kinds::CALLS.and(Kinds::ATTACHMENTS)), turn }
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
    /// The turn by whose share everything is held that is to be.
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
        let follow = follow::follow(store, self.wanted, self.held, events.clone(), Arc::clone(&self.counters));
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
    // Who asks has a ticket, so the call was there: another state server may have told of it before ours has it.
    match store.load_latest(call).await {
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
