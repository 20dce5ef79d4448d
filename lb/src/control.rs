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
    tokio::spawn(table(followed, pop, events.clone(), Arc::clone(counters)));
    let followed = follow(store, BucketSet::all().only(Kinds::ATTACHMENTS));
    let index = Index { claims: Claims::new(seed), events: events.clone(), counters: Arc::clone(counters) };
    tokio::spawn(index.run(followed));
}

async fn table(mut followed: mpsc::Receiver<Followed>, pop: PopId, events: Events, counters: Arc<Counters>) {
    loop {
        let followed = tokio::select! {
            followed = followed.recv() => followed,
            () = events.queue.closed() => return,
        };
        let key = Key::Table(pop);
        // A table that is gone is no table that says otherwise.
        let value = match followed {
            None => return,
            Some(Followed::Listed(list)) => {
                list.entries.into_iter().find(|entry| entry.key == key).map(|entry| entry.value)
            }
            Some(Followed::Changed(changes)) => {
                changes.events.into_iter().rev().find(|event| event.key == key).and_then(|event| event.value)
            }
        };
        let Some(value) = value else { continue };
        let table = match Table::from_json(&value) {
            Ok(table) => table,
            Err(error) => {
                counters.unreadable(&error);
                continue;
            }
        };
        tracing::info!(epoch = table.epoch, relays = table.relays.len(), "a table");
        // Up to a tenth of a second of arithmetic.
        let Ok(plan) = tokio::task::spawn_blocking(move || Plan::of(table)).await else { continue };
        if events.tell(Event::Plan(Box::new(plan))).await.is_err() {
            return;
        }
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
