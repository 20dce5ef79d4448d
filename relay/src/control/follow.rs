//! Listing and following what is to be held, through lost connections and through changes of what that is.
//!
//! Decides when all is listed anew and when only what is new. Leaves what the records say to the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tandem_core::residency::{self, Snapshot};
use tandem_core::topology::{Attachment, Call, CallKind, RecordError};
use tandem_state_client::{BucketSet, Event, Key, Store, StoreError};
use tandem_wire::id::{CallId, Revision};
use tandem_wire::units::Span;
use tokio::sync::watch;

use super::snapshots::Snapshots;
use super::{Counters, Events, Gone, Wanted};
use crate::engine::StoreEvent;
use crate::limits;

/// Lists all calls that are wanted, then follows every change, and starts anew when it cannot follow. When more is wanted,
/// only that is listed.
pub(super) async fn follow(
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
        held.send_replace(holding.turn);
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
                    Ok(turn) => {
                        held.send_replace(turn);
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
            // Another state server may have given the list, one that had not seen as much: it is followed from there. What is told
            // twice is passed over, since it is older than what is known.
            match list(self.store, &more, List::More, self.events, self.counters).await? {
                Ok(listed) => self.at = self.at.min(listed),
                Err(error) => return Ok(Err(error)),
            }
            self.counters.restores.fetch_add(1, Ordering::Relaxed);
        }
        if !self.holding.buckets.without(&wanted.buckets).is_empty() {
            self.events.tell(residency::Input::Narrowed { ranges: wanted.buckets.ranges() }).await?;
        }
        self.holding = wanted;
        Ok(Ok(self.holding.turn))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;
    use tandem_core::topology::{CallCommand, EndReason, Transport};
    use tandem_net::clock;
    use tandem_net::socket::Waker;
    use tandem_state_client::memory::MemoryStore;
    use tandem_state_client::{AllocationRef, Change, Command, Entry, Listing, Op, Reports, SeenLoad, Watch};
    use tandem_wire::redact::ClientAddr;
    use tokio::sync::mpsc;

    const CALL: CallId = CallId::from_bits(7);

    /// Two state servers of one store: the one that gives lists has not seen what the one that is followed has.
    struct Behind {
        followed: MemoryStore,
        list: Mutex<Listing>,
    }

    #[async_trait]
    impl Store for Behind {
        async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
            self.followed.commit(command).await
        }
        async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
            self.followed.load(call).await
        }
        async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError> {
            self.followed.read(key).await
        }
        async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
            let list = self.list.lock().unwrap();
            let entries = list.entries.iter().filter(|entry| buckets.has(entry.key)).cloned().collect();
            Ok(Listing { entries, ..*list })
        }
        async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
            self.followed.watch(buckets, after).await
        }
        async fn find_client(
            &self,
            transport: Transport,
            client: ClientAddr,
        ) -> Result<Option<AllocationRef>, StoreError> {
            self.followed.find_client(transport, client).await
        }
        async fn report_load(&self, reports: Reports) {
            self.followed.report_load(reports).await;
        }
        async fn loads(&self) -> Result<Vec<SeenLoad>, StoreError> {
            self.followed.loads().await
        }
    }

    #[tokio::test]
    async fn what_a_list_of_more_did_not_have_yet_is_told_although_others_had_been_followed_beyond_it() {
        let followed = MemoryStore::new(CALL.pop());
        let put = async |based_on, record: &Call| {
            let op = Op { key: Key::Call(CALL), based_on, change: Change::Put(record.to_json().unwrap()) };
            followed.commit(Command { ops: vec![op] }).await.unwrap()
        };
        let create = CallCommand::Create { id: CALL, kind: CallKind::OneToOne, legs: 2 };
        let begun = Call::apply(None, create, clock::now()).unwrap();
        let ended = Call::apply(Some(&begun), CallCommand::End { reason: EndReason::Hangup }, clock::now()).unwrap();
        let first = put(Revision::ZERO, &begun).await;
        let before = followed.restore(&BucketSet::all()).await.unwrap();
        let last = put(first, &ended).await;
        let now = followed.restore(&BucketSet::all()).await.unwrap();

        let store = Arc::new(Behind { followed: followed.clone(), list: Mutex::new(now) });
        let (wants, wanted) = watch::channel(Wanted::new(BucketSet::none(), 0));
        let (holds, mut held) = watch::channel(u32::MAX);
        let (queue, mut told) = mpsc::channel(64);
        let events = Events { queue, waker: Waker::new().unwrap() };
        tokio::spawn(follow(Arc::clone(&store) as Arc<dyn Store>, wanted, holds, events, Arc::default()));
        held.wait_for(|turn| *turn == 0).await.unwrap();
        *store.list.lock().unwrap() = before;
        wants.send_replace(Wanted::new(BucketSet::all(), 1));
        held.wait_for(|turn| *turn == 1).await.unwrap();

        let mut loaded = false;
        let changed = async {
            loop {
                match told.recv().await.unwrap() {
                    residency::Input::Loaded { call, snapshot } => {
                        assert_eq!((call, snapshot.call.map(|(_, revision)| revision)), (CALL, Some(first)));
                        loaded = true;
                    }
                    residency::Input::CallChanged { revision, .. } => return revision,
                    _ => {}
                }
            }
        };
        let changed = tokio::time::timeout(Duration::from_secs(5), changed).await;
        assert_eq!((changed.ok(), loaded), (Some(last), true));
    }
}
