//! The control tasks: what the store says, for the packet thread.
//!
//! Decides nothing about packets. Follows the table, and makes its rows; follows the attachments, and tells which addresses come
//! and go. While the store is away, the packet thread goes on with what it has.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_core::steering::{Claim, Claims, Location, Plan};
use tandem_core::topology::{Attachment, RecordError, Table};
use tandem_net::socket::Waker;
use tandem_state_client::{BucketSet, Entry, Followed, Key, Kinds, Store, follow};
use tandem_telemetry::metric::{Series, lb as metric};
use tandem_telemetry::registry::Source;
use tandem_wire::id::{BucketId, CallId, LegId, PopId, Revision};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::limits;

/// What the packet thread is told.
#[derive(Debug)]
pub(crate) enum Event {
    Plan(Box<Plan>),
    Claims(Vec<Claim>),
    /// All claims of the store have been told once.
    Listed,
    Where(BucketId, oneshot::Sender<Location>),
}

/// The way to the packet thread.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    pub(crate) queue: mpsc::Sender<Event>,
    pub(crate) waker: Waker,
}

/// The packet thread has ended: there is nobody left to tell.
#[derive(Debug)]
pub(crate) struct Gone;

impl Events {
    pub(crate) async fn tell(&self, event: Event) -> Result<(), Gone> {
        // Woken before it waits for room: a full queue must not sleep.
        if self.queue.capacity() == 0 {
            self.waker.wake();
        }
        self.queue.send(event).await.map_err(|_| Gone)?;
        self.waker.wake();
        Ok(())
    }
}

/// What the control tasks count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Records that could not be read: malformed, or of a newer version.
    unreadable: AtomicU64,
    /// Addresses that the store names.
    claims: AtomicU64,
}

impl Counters {
    fn unreadable(&self, error: &RecordError) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "a record cannot be read");
    }
}

impl Source for Counters {
    fn collect(&self, emit: &mut dyn FnMut(Series, u64)) {
        for (series, total) in metric::CONTROL.iter().zip([&self.unreadable, &self.claims]) {
            emit(*series, total.load(Ordering::Relaxed));
        }
    }
}

/// Follows the store until the packet thread is gone.
pub(crate) fn start(store: Arc<dyn Store>, pop: PopId, seed: u64, events: &Events, counters: &Arc<Counters>) {
    let followed = follow(Arc::clone(&store), BucketSet::fleet());
    let tables = Tables {
        store: Arc::clone(&store),
        key: Key::Table(pop),
        told: Revision::ZERO,
        doubted: None,
        events: events.clone(),
        counters: Arc::clone(counters),
    };
    tokio::spawn(tables.run(followed));
    let followed = follow(store, BucketSet::all().only(Kinds::ATTACHMENTS));
    let index = Index { claims: Claims::new(seed), events: events.clone(), counters: Arc::clone(counters) };
    tokio::spawn(index.run(followed));
}

/// Follows the table.
struct Tables {
    store: Arc<dyn Store>,
    key: Key,
    /// The revision of the one that the packet thread was told of last.
    told: Revision,
    /// Since then the store has shown an older one: when it is asked whether it means it.
    doubted: Option<Instant>,
    events: Events,
    counters: Arc<Counters>,
}

impl Tables {
    async fn run(mut self, mut followed: mpsc::Receiver<Followed>) {
        loop {
            let followed = tokio::select! {
                followed = followed.recv() => followed,
                () = until(self.doubted) => {
                    if self.ask().await.is_err() {
                        return;
                    }
                    continue;
                }
                () = self.events.queue.closed() => return,
            };
            // A table that is gone is no table that says otherwise.
            let shown = match followed {
                None => return,
                Some(Followed::Listed(list)) => list
                    .entries
                    .into_iter()
                    .find(|entry| entry.key == self.key)
                    .map(|entry| (entry.value, entry.revision)),
                Some(Followed::Changed(changes)) => changes
                    .events
                    .into_iter()
                    .rev()
                    .find(|event| event.key == self.key)
                    .and_then(|event| Some((event.value?, event.revision))),
            };
            let Some((value, revision)) = shown else { continue };
            if revision < self.told {
                // A state server that is behind; or a store that has gone back.
                self.doubted.get_or_insert_with(|| Instant::now() + limits::OLDER_TABLE);
            } else if self.tell(&value, revision, false).await.is_err() {
                return;
            }
        }
    }

    /// Whether the store still shows an older table, and is not behind: then it is the truth.
    async fn ask(&mut self) -> Result<(), Gone> {
        self.doubted = Some(Instant::now() + limits::OLDER_TABLE);
        match self.store.read(self.key).await {
            Ok(Some(entry)) if entry.revision >= self.told => self.doubted = None,
            Ok(Some(entry)) if self.store.age().is_zero() => {
                tracing::warn!("the store has gone back to an older table: it is the truth");
                return self.tell(&entry.value, entry.revision, true).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn tell(&mut self, value: &[u8], revision: Revision, restored: bool) -> Result<(), Gone> {
        (self.told, self.doubted) = (revision, None);
        let table = match Table::from_json(value) {
            Ok(table) => table,
            Err(error) => {
                self.counters.unreadable(&error);
                return Ok(());
            }
        };
        tracing::info!(epoch = table.epoch, relays = table.relays.len(), "a table");
        // Up to a tenth of a second of arithmetic.
        let plan = tokio::task::spawn_blocking(move || Plan::of(table, revision)).await;
        let Ok(plan) = plan else { return Ok(()) };
        self.events.tell(Event::Plan(Box::new(if restored { plan.restored() } else { plan }))).await
    }
}

/// Ready when it is due; never, if nothing is.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The index of addresses, as the store has it.
struct Index {
    claims: Claims,
    events: Events,
    counters: Arc<Counters>,
}

impl Index {
    async fn run(mut self, mut followed: mpsc::Receiver<Followed>) {
        loop {
            let followed = tokio::select! {
                followed = followed.recv() => followed,
                () = self.events.queue.closed() => return,
            };
            let (changes, listed) = match followed {
                None => return,
                Some(Followed::Listed(list)) => (self.listed(&list.entries), true),
                Some(Followed::Changed(changes)) => {
                    let mut changed = Vec::new();
                    for event in changes.events {
                        self.take(event.key, event.value.as_deref(), event.revision, &mut changed);
                    }
                    (changed, false)
                }
            };
            self.counters.claims.store(self.claims.len() as u64, Ordering::Relaxed);
            for claims in changes.chunks(limits::CLAIMS_PER_EVENT) {
                if self.events.tell(Event::Claims(claims.to_vec())).await.is_err() {
                    return;
                }
            }
            if listed && self.events.tell(Event::Listed).await.is_err() {
                return;
            }
        }
    }

    /// Everything, as it is.
    fn listed(&mut self, entries: &[Entry]) -> Vec<Claim> {
        let mut changed = Vec::new();
        let names: HashSet<(CallId, LegId)> = entries
            .iter()
            .filter_map(|entry| match entry.key {
                Key::Attachment(call, leg) => Some((call, leg)),
                _ => None,
            })
            .collect();
        self.claims.keep(|call, leg| names.contains(&(call, leg)), |claim| changed.push(claim));
        for entry in entries {
            self.take(entry.key, Some(&entry.value), entry.revision, &mut changed);
        }
        changed
    }

    /// One record. One that cannot be read names no address: what it named before is no longer certain.
    fn take(&mut self, key: Key, value: Option<&[u8]>, revision: Revision, changed: &mut Vec<Claim>) {
        let Key::Attachment(call, leg) = key else { return };
        let record = value.map(Attachment::from_json).transpose().unwrap_or_else(|error| {
            self.counters.unreadable(&error);
            None
        });
        self.claims.record(call, leg, record.as_ref(), revision, |claim| changed.push(claim));
    }
}
