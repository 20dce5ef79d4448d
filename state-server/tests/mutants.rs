//! Stores that are wrong in one way each: the conformance suite must find every one of them.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tandem_core::topology::Transport;
use tandem_state_client::{
    AllocationRef, BucketSet, Change, Changes, Command, Entry, Key, Listing, Op, Reports, Revision, SeenLoad, Store,
    StoreError, Watch, conformance, load,
};
use tandem_state_server::StateServer;
use tandem_wire::id::{BucketId, CallId, RelayId};
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::Wall;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Nothing: the control of the control.
    Not,
    AcceptsWhatIsStale,
    NamesTheWrongRecord,
    TearsCommandsApart,
    SaysAwayForStale,
    RepeatsRevisions,
    LoadsTheWholeBucket,
    RestoresTooLittle,
    RestoresTooMuch,
    RestoresATooNewRevision,
    WatchSkips,
    WatchDoubles,
    WatchSwaps,
    WatchIgnoresBuckets,
    WatchStartsNow,
    WatchNeverCompacts,
    WatchTearsCommandsApart,
    FindsNobody,
    FindsForever,
    HearsNoLoad,
    HearsTheFirstLoad,
    StoresLoads,
    LoadsHaveNoAge,
    LoadsForever,
}

const ALL: [Wrong; 23] = [
    Wrong::AcceptsWhatIsStale,
    Wrong::NamesTheWrongRecord,
    Wrong::TearsCommandsApart,
    Wrong::SaysAwayForStale,
    Wrong::RepeatsRevisions,
    Wrong::LoadsTheWholeBucket,
    Wrong::RestoresTooLittle,
    Wrong::RestoresTooMuch,
    Wrong::RestoresATooNewRevision,
    Wrong::WatchSkips,
    Wrong::WatchDoubles,
    Wrong::WatchSwaps,
    Wrong::WatchIgnoresBuckets,
    Wrong::WatchStartsNow,
    Wrong::WatchNeverCompacts,
    Wrong::WatchTearsCommandsApart,
    Wrong::FindsNobody,
    Wrong::FindsForever,
    Wrong::HearsNoLoad,
    Wrong::HearsTheFirstLoad,
    Wrong::StoresLoads,
    Wrong::LoadsHaveNoAge,
    Wrong::LoadsForever,
];

struct Mutant {
    store: Arc<StateServer>,
    wrong: Wrong,
    found: Mutex<HashMap<ClientAddr, AllocationRef>>,
    loads: Mutex<BTreeMap<RelayId, SeenLoad>>,
}

impl Mutant {
    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }
}

#[async_trait]
impl Store for Mutant {
    async fn commit(&self, mut command: Command) -> Result<Revision, StoreError> {
        if self.is(Wrong::AcceptsWhatIsStale) {
            for op in &mut command.ops {
                op.based_on = self.store.read(op.key).await?.map_or(Revision::ZERO, |entry| entry.revision);
            }
        }
        if self.is(Wrong::TearsCommandsApart) && command.check(conformance::POP).is_ok() {
            let mut last = Revision::ZERO;
            for op in command.ops {
                last = self.store.commit(Command { ops: vec![op] }).await?;
            }
            return Ok(last);
        }
        let first = command.ops.first().map(|op| op.key);
        match self.store.commit(command).await {
            Err(StoreError::Stale { .. }) if self.is(Wrong::SaysAwayForStale) => {
                Err(StoreError::Away { retry_after_ms: 1 })
            }
            Err(StoreError::Stale { .. }) if self.is(Wrong::NamesTheWrongRecord) => {
                Err(StoreError::Stale { key: first.unwrap() })
            }
            Ok(revision) if self.is(Wrong::RepeatsRevisions) => Ok(Revision(revision.0 / 2 * 2)),
            result => result,
        }
    }

    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        if self.is(Wrong::LoadsTheWholeBucket) {
            return self.store.restore(&BucketSet::of([call.bucket()])).await;
        }
        self.store.load(call).await
    }

    async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        self.store.read(key).await
    }

    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        let everything = BucketSet::all();
        let mut listing =
            self.store.restore(if self.is(Wrong::RestoresTooMuch) { &everything } else { buckets }).await?;
        if self.is(Wrong::RestoresTooLittle) {
            listing.entries.pop();
        }
        if self.is(Wrong::RestoresATooNewRevision) {
            // As if its revision was read after its records: what was written in between is in neither.
            let later = async {
                while self.store.revision() == listing.revision {
                    tokio::task::yield_now().await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(100), later).await;
            listing.revision = self.store.revision();
        }
        Ok(listing)
    }

    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        let now = self.store.revision();
        let wrong = self.wrong;
        let everything = BucketSet::all();
        let buckets = if self.is(Wrong::WatchIgnoresBuckets) { &everything } else { buckets };
        let after = match self.wrong {
            Wrong::WatchStartsNow => now,
            Wrong::WatchNeverCompacts if after > now || after == Revision(1) => now,
            _ => after,
        };
        let mut watch = self.store.watch(buckets, after).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut count = 0;
            while let Some(changes) = std::future::poll_fn(|context| watch.poll_changes(context)).await {
                let mut parts = Vec::new();
                match changes {
                    Ok(mut changes) => {
                        count += changes.events.len();
                        if count > 10 {
                            match wrong {
                                Wrong::WatchSkips => _ = changes.events.pop(),
                                Wrong::WatchDoubles => changes.events.extend(changes.events.last().cloned()),
                                Wrong::WatchSwaps => changes.events.reverse(),
                                _ => {}
                            }
                        }
                        if wrong == Wrong::WatchTearsCommandsApart {
                            parts.extend(changes.events.into_iter().map(|event| {
                                let reached = event.revision;
                                Ok(Changes { events: vec![event], reached })
                            }));
                        } else {
                            parts.push(Ok(changes));
                        }
                    }
                    Err(error) => parts.push(Err(error)),
                }
                for part in parts {
                    if sender.send(part).await.is_err() {
                        return;
                    }
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Watch::new(Box::pin(stream), after))
    }

    async fn find_client(&self, transport: Transport, client: ClientAddr) -> Result<Option<AllocationRef>, StoreError> {
        let found = self.store.find_client(transport, client).await?;
        Ok(match self.wrong {
            Wrong::FindsNobody => None,
            Wrong::FindsForever => {
                let mut known = self.found.lock().unwrap();
                if let Some(found) = found {
                    known.insert(client, found);
                }
                known.get(&client).copied()
            }
            _ => found,
        })
    }

    async fn report_load(&self, reports: Reports) {
        let (latest, heard) = tokio::sync::watch::channel(None);
        let saying = async move {
            let latest = latest;
            let mut first = None;
            let mut each = Vec::new();
            load::each(reports, |report| {
                let first = first.get_or_insert(report);
                let report = if self.is(Wrong::HearsTheFirstLoad) { *first } else { report };
                if !self.is(Wrong::HearsNoLoad) {
                    latest.send_replace(Some(report));
                }
                if self.is(Wrong::StoresLoads) && each.is_empty() {
                    let key = Key::Call(CallId::new(conformance::POP, BucketId(report.relay.0), 1));
                    let op = Op { key, based_on: Revision::ZERO, change: Change::Put(b"load".to_vec()) };
                    let store = Arc::clone(&self.store);
                    each.push(tokio::spawn(async move { store.commit(Command { ops: vec![op] }).await }));
                }
            })
            .await;
        };
        tokio::join!(saying, self.store.report_load(heard));
    }

    async fn loads(&self) -> Result<Vec<SeenLoad>, StoreError> {
        let mut loads = self.store.loads().await?;
        if self.is(Wrong::LoadsHaveNoAge) {
            loads.iter_mut().for_each(|seen| seen.age = Duration::ZERO);
        }
        if self.is(Wrong::LoadsForever) {
            let mut known = self.loads.lock().unwrap();
            known.extend(loads.into_iter().map(|seen| (seen.report.relay, seen)));
            loads = known.values().copied().collect();
        }
        Ok(loads)
    }
}

async fn failing(wrong: Wrong) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let now = || Wall::from_secs(1_795_000_000);
    let store = StateServer::open(&folder.path().join("state.redb"), conformance::POP, now).unwrap();
    conformance::failing(Arc::new(Mutant { store, wrong, found: Mutex::default(), loads: Mutex::default() })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_finds_every_store_that_is_wrong() {
    // Ten seconds for what is to come, a second for what never will.
    assert_eq!(failing(Wrong::Not).await, [""; 0]);
    conformance::set_patience(Duration::from_secs(1));
    let runs: Vec<_> = ALL.into_iter().map(|wrong| (wrong, tokio::spawn(failing(wrong)))).collect();
    let mut unnoticed = Vec::new();
    for (wrong, run) in runs {
        let failing = run.await.unwrap();
        eprintln!("{wrong:?}: {failing:?}");
        if failing.is_empty() {
            unnoticed.push(wrong);
        }
    }
    assert!(unnoticed.is_empty(), "the suite does not notice {unnoticed:?}");
}
