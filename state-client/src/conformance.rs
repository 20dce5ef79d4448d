//! The suite that every store must pass, whatever it stands on and whatever lies between.
//!
//! Each check is a sentence, and uses calls of its own, so that all of them run on one store, one after another or at
//! once. A check that fails panics with what it found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this is a test, kept where all can run it"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tandem_core::load::{Load, Report};
use tandem_core::topology::{
    Attachment, AttachmentCommand, Call, CallCommand, CallKind, EndReason, Incarnation, Member, Transport,
};
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId, Revision};
use tandem_wire::party::{AccountKey, DeviceKey, PairKey};
use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::Cookie;
use tandem_wire::units::Now;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;

use crate::key::NOTE;
use crate::limits::{OPS_PER_COMMAND, VALUE_LEN_MAX};
use crate::{BucketSet, Change, Command, Event, Key, Kinds, Listing, Op, SeenLoad, Store, StoreError, Watch};

/// The PoP that the store under test must be of.
pub const POP: PopId = PopId(1);

/// How long a check waits for something that must come, in milliseconds.
static PATIENCE_MS: AtomicU64 = AtomicU64::new(10_000);

/// Lets checks wait for less than ten seconds, where they are to fail.
pub fn set_patience(patience: Duration) {
    PATIENCE_MS.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn patience() -> Duration {
    Duration::from_millis(PATIENCE_MS.load(Ordering::Relaxed))
}

/// The store under test.
pub type Subject = Arc<dyn Store>;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A call that no other check has, in a bucket of its own.
fn new_call() -> CallId {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    CallId::new(POP, BucketId((n * 7 % 60_000) as u16), u128::from(n) << 32 | 0xc0_ffee)
}

fn leg(n: u16) -> LegId {
    LegId::new(n).unwrap()
}

fn device(bits: u128) -> DeviceKey {
    DeviceKey::from_bits(bits)
}

fn put(key: Key, based_on: Revision, value: &[u8]) -> Op {
    Op { key, based_on, change: Change::Put(value.to_vec()) }
}

fn delete(key: Key, based_on: Revision) -> Op {
    Op { key, based_on, change: Change::Delete }
}

async fn commit(store: &Subject, ops: Vec<Op>) -> Result<Revision, StoreError> {
    store.commit(Command { ops }).await
}

fn values(listing: &Listing) -> BTreeMap<Key, Vec<u8>> {
    listing.entries.iter().map(|entry| (entry.key, entry.value.to_vec())).collect()
}

async fn next(watch: &mut Watch) -> Result<Event, StoreError> {
    let next = tokio::time::timeout(patience(), watch.next()).await;
    next.unwrap_or_else(|_| panic!("a change did not come")).unwrap_or_else(|| panic!("the watch ended"))
}

type Check = fn(Subject) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! checks {
    ($($name:ident,)*) => {
        const CHECKS: &[(&str, Check)] = &[$((stringify!($name), |store| Box::pin(async move { $name(&store).await }))),*];
    };
}

checks! {
    a_record_is_created_once,
    a_stale_command_does_nothing_and_says_which_record,
    a_command_happens_all_or_not_at_all,
    what_was_removed_can_be_created_again,
    a_load_sees_what_was_committed_and_only_its_call,
    the_fleet_is_listed_and_followed_by_who_asks_for_it,
    a_restore_has_exactly_its_buckets,
    one_record_is_read_whatever_it_is_of,
    a_pair_and_a_caller_s_note_are_neither_listed_nor_followed,
    only_the_kinds_that_are_wanted_are_listed_and_followed,
    commands_that_cannot_be_right_are_refused,
    a_watch_gives_every_change_after_its_revision_once_and_in_order,
    a_watch_sees_only_its_buckets_and_whole_commands,
    a_watch_from_where_a_restore_was_misses_nothing,
    a_watch_that_is_resumed_where_it_was_misses_nothing_and_repeats_nothing,
    a_watch_of_a_revision_that_is_not_kept_or_not_there_is_compacted,
    an_address_is_found_while_its_leg_is_attached_there,
    an_address_belongs_to_whoever_attached_last,
    a_record_that_cannot_be_read_hinders_nothing,
    of_many_writers_on_one_record_each_step_has_one_winner,
    a_thousand_commands_at_once_happen_in_one_order_that_everyone_sees,
    the_latest_load_of_a_relay_is_told_with_its_age_and_stored_nowhere,
    a_load_of_a_run_that_has_not_registered_or_was_followed_by_another_is_ignored,
}

/// Runs every check on one store, and gives the names of those that fail.
pub async fn failing(store: Subject) -> Vec<&'static str> {
    let mut failing = Vec::new();
    for (name, check) in CHECKS {
        // In a task of its own: a check that fails panics, and the others are to run all the same.
        if tokio::spawn(check(Arc::clone(&store))).await.is_err() {
            failing.push(*name);
        }
    }
    failing
}

/// Runs every check on one store.
///
/// # Panics
/// With the names of the checks that fail.
pub async fn every_check(store: Subject) {
    let failing = failing(store).await;
    assert!(failing.is_empty(), "{} of {} checks fail: {failing:#?}", failing.len(), CHECKS.len());
}

async fn a_record_is_created_once(store: &Subject) {
    let key = Key::Call(new_call());
    let revision = commit(store, vec![put(key, Revision::ZERO, b"1")]).await.unwrap();
    assert!(revision > Revision::ZERO);
    assert_eq!(commit(store, vec![put(key, Revision::ZERO, b"2")]).await, Err(StoreError::Stale { key }));
    let later = commit(store, vec![put(key, revision, b"2")]).await.unwrap();
    assert!(later > revision, "revisions grow");
}

async fn a_stale_command_does_nothing_and_says_which_record(store: &Subject) {
    let call = new_call();
    let (one, two) = (Key::Call(call), Key::Attachment(call, leg(1)));
    let revision = commit(store, vec![put(one, Revision::ZERO, b"a")]).await.unwrap();
    let stale = vec![put(one, revision, b"b"), put(two, revision, b"b")];
    assert_eq!(commit(store, stale).await, Err(StoreError::Stale { key: two }));
    assert_eq!(values(&store.load(call).await.unwrap()), BTreeMap::from([(one, b"a".to_vec())]));
    // Many at once, so that they share a batch: the stale ones fail alone.
    let calls: Vec<CallId> = (0..40).map(|_| new_call()).collect();
    let results = all(calls.iter().enumerate().map(|(n, call)| {
        let based_on = if n % 2 == 0 { Revision::ZERO } else { Revision(1) };
        let (store, key) = (Arc::clone(store), Key::Call(*call));
        async move { commit(&store, vec![put(key, based_on, b"x")]).await }
    }))
    .await;
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), n % 2 == 0, "{result:?}");
    }
}

/// Runs futures side by side and gives their results in order.
async fn all<F: Future<Output = T> + Send + 'static, T: Send + 'static>(futures: impl Iterator<Item = F>) -> Vec<T> {
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

async fn a_command_happens_all_or_not_at_all(store: &Subject) {
    let call = new_call();
    let keys: Vec<Key> = (1..OPS_PER_COMMAND as u16).map(|n| Key::Attachment(call, leg(n))).collect();
    let mut ops: Vec<Op> = keys.iter().map(|key| put(*key, Revision::ZERO, b"v")).collect();
    ops.push(put(Key::Call(call), Revision::ZERO, b"c"));
    let revision = commit(store, ops).await.unwrap();
    let listing = store.load(call).await.unwrap();
    assert_eq!(listing.entries.len(), OPS_PER_COMMAND);
    assert!(listing.entries.iter().all(|entry| entry.revision == revision));
    assert!(listing.revision >= revision);
    let mut ops: Vec<Op> = keys.iter().map(|key| delete(*key, revision)).collect();
    ops.push(put(Key::Call(call), Revision(revision.0 - 1), b"d"));
    assert!(commit(store, ops).await.is_err());
    assert_eq!(store.load(call).await.unwrap().entries.len(), OPS_PER_COMMAND);
}

async fn what_was_removed_can_be_created_again(store: &Subject) {
    let call = new_call();
    let key = Key::Call(call);
    let revision = commit(store, vec![put(key, Revision::ZERO, b"1")]).await.unwrap();
    let removed = commit(store, vec![delete(key, revision)]).await.unwrap();
    assert!(store.load(call).await.unwrap().entries.is_empty());
    assert_eq!(commit(store, vec![put(key, revision, b"2")]).await, Err(StoreError::Stale { key }));
    assert_eq!(commit(store, vec![put(key, removed, b"2")]).await, Err(StoreError::Stale { key }));
    assert!(commit(store, vec![put(key, Revision::ZERO, b"2")]).await.unwrap() > removed);
}

async fn a_load_sees_what_was_committed_and_only_its_call(store: &Subject) {
    let call = new_call();
    // Neighbours in the same bucket, right before and right after.
    let neighbours = [CallId::from_bits(call.bits() - 1), CallId::from_bits(call.bits() + 1)];
    for neighbour in neighbours {
        let keys = [Key::Call(neighbour), Key::Attachment(neighbour, leg(1)), Key::Blob(neighbour, device(1), 1)];
        let ops = keys.map(|key| put(key, Revision::ZERO, b"n"));
        commit(store, ops.to_vec()).await.unwrap();
    }
    assert!(store.load(call).await.unwrap().entries.is_empty());
    let keys = [
        Key::Call(call),
        Key::Attachment(call, leg(1)),
        Key::Attachment(call, leg(64_000)),
        Key::Blob(call, device(0), 0),
        Key::Blob(call, device(u128::MAX), u16::MAX),
    ];
    let revision = commit(store, keys.map(|key| put(key, Revision::ZERO, b"v")).to_vec()).await.unwrap();
    let listing = store.load(call).await.unwrap();
    assert_eq!(values(&listing), keys.map(|key| (key, b"v".to_vec())).into());
    assert!(listing.revision >= revision);
}

fn pair(call: CallId) -> Key {
    Key::Pair(POP, PairKey { low: AccountKey::from_bits(call.bits()), high: AccountKey::from_bits(u128::MAX) })
}

async fn one_record_is_read_whatever_it_is_of(store: &Subject) {
    let call = new_call();
    let keys = [
        Key::Call(call),
        Key::Attachment(call, leg(1)),
        Key::Blob(call, device(7), 2),
        Key::Removal(POP, device(call.bits())),
        pair(call),
    ];
    for key in keys {
        assert_eq!(store.read(key).await.unwrap(), None);
    }
    let revision = commit(store, keys.map(|key| put(key, Revision::ZERO, b"v")).to_vec()).await.unwrap();
    for key in keys {
        let entry = store.read(key).await.unwrap().unwrap();
        assert_eq!((entry.key, entry.revision, &*entry.value), (key, revision, &b"v"[..]));
        commit(store, vec![delete(key, revision)]).await.unwrap();
        assert_eq!(store.read(key).await.unwrap(), None);
    }
}

async fn only_the_kinds_that_are_wanted_are_listed_and_followed(store: &Subject) {
    let call = new_call();
    let all =
        [Key::Call(call), Key::Attachment(call, leg(1)), Key::Blob(call, device(1), 0), Key::Blob(call, device(1), 1)];
    let kinds = [Kinds::CALLS, Kinds::ATTACHMENTS, Kinds::NOTES, Kinds::BLOBS];
    let after = store.restore(&BucketSet::none()).await.unwrap().revision;
    let mut watches = Vec::new();
    for kind in kinds {
        watches.push(store.watch(&BucketSet::of([call.bucket()]).only(kind), after).await.unwrap());
    }
    commit(store, all.map(|key| put(key, Revision::ZERO, b"v")).to_vec()).await.unwrap();
    for ((watch, kind), key) in watches.iter_mut().zip(kinds).zip(all) {
        assert_eq!(next(watch).await.unwrap().key, key);
        let listing = store.restore(&BucketSet::of([call.bucket()]).only(kind)).await.unwrap();
        assert!(listing.entries.iter().any(|entry| entry.key == key));
        assert!(listing.entries.iter().all(|entry| all.contains(&entry.key) == (entry.key == key)));
    }
}

async fn a_pair_and_a_caller_s_note_are_neither_listed_nor_followed(store: &Subject) {
    let call = new_call();
    let note = Key::Blob(call, device(1), NOTE);
    let after = store.restore(&BucketSet::none()).await.unwrap().revision;
    let mut watch = store.watch(&BucketSet::of([call.bucket()]), after).await.unwrap();
    commit(store, vec![put(pair(call), Revision::ZERO, b"v"), put(note, Revision::ZERO, b"v")]).await.unwrap();
    commit(store, vec![put(Key::Call(call), Revision::ZERO, b"v")]).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().key, Key::Call(call));
    let listed = values(&store.restore(&BucketSet::all()).await.unwrap());
    assert!(!listed.contains_key(&pair(call)) && !listed.contains_key(&note));
    // The note belongs to its call, and is found with it.
    let loaded = store.load(call).await.unwrap();
    assert!(loaded.entries.iter().any(|entry| entry.key == note));
}

async fn the_fleet_is_listed_and_followed_by_who_asks_for_it(store: &Subject) {
    let keys = [Key::Relay(POP, RelayId(0)), Key::Relay(POP, RelayId(u16::MAX)), Key::Table(POP)];
    let call = new_call();
    let after = store.restore(&BucketSet::none()).await.unwrap().revision;
    let mut fleet = store.watch(&BucketSet::fleet(), after).await.unwrap();
    let mut calls = store.watch(&BucketSet::all(), after).await.unwrap();
    commit(store, vec![put(Key::Call(call), Revision::ZERO, b"v")]).await.unwrap();
    let revision = commit(store, keys.map(|key| put(key, Revision::ZERO, b"v")).to_vec()).await.unwrap();
    for key in keys {
        assert_eq!(next(&mut fleet).await.unwrap().key, key);
    }
    assert_eq!(values(&store.restore(&BucketSet::fleet()).await.unwrap()), keys.map(|key| (key, b"v".to_vec())).into());
    assert!(store.restore(&BucketSet::all()).await.unwrap().entries.iter().all(|entry| entry.key.bucket().is_some()));
    commit(store, keys.map(|key| delete(key, revision)).to_vec()).await.unwrap();
    commit(store, vec![put(Key::Attachment(call, leg(1)), Revision::ZERO, b"v")]).await.unwrap();
    assert_eq!(next(&mut calls).await.unwrap().key, Key::Call(call));
    assert_eq!(next(&mut calls).await.unwrap().key, Key::Attachment(call, leg(1)), "and of the fleet nothing");
}

async fn a_restore_has_exactly_its_buckets(store: &Subject) {
    let (inside, outside) = (new_call(), new_call());
    let keys = |call: CallId| {
        let bucket = u128::from(call.bucket().0) << 112;
        [
            Key::Call(call),
            Key::Attachment(call, leg(2)),
            Key::Blob(call, device(3), 1),
            Key::Removal(POP, device(bucket | 1)),
            Key::Removal(POP, device(bucket | (u128::MAX >> 16))),
        ]
    };
    for call in [inside, outside] {
        commit(store, keys(call).map(|key| put(key, Revision::ZERO, b"v")).to_vec()).await.unwrap();
    }
    let listing = store.restore(&BucketSet::of([inside.bucket()])).await.unwrap();
    assert!(listing.entries.iter().all(|entry| entry.key.bucket() == Some(inside.bucket())));
    let listed = values(&listing);
    assert!(keys(inside).iter().all(|key| listed.contains_key(key)));
    assert!(store.restore(&BucketSet::none()).await.unwrap().entries.is_empty());
    let everything = values(&store.restore(&BucketSet::all()).await.unwrap());
    assert!(everything.contains_key(&Key::Call(outside)) && everything.contains_key(&Key::Call(inside)));
}

async fn commands_that_cannot_be_right_are_refused(store: &Subject) {
    let call = new_call();
    let key = Key::Call(call);
    let other_pop = Key::Call(CallId::new(PopId(POP.0 + 1), BucketId(1), 1));
    let too_many = (1..=OPS_PER_COMMAND as u16 + 1).map(|n| put(Key::Attachment(call, leg(n)), Revision::ZERO, b"v"));
    for ops in [
        Vec::new(),
        too_many.collect(),
        vec![put(key, Revision::ZERO, b"1"), put(key, Revision::ZERO, b"2")],
        vec![put(key, Revision::ZERO, &vec![0; VALUE_LEN_MAX + 1])],
        vec![put(other_pop, Revision::ZERO, b"1")],
        vec![delete(key, Revision::ZERO)],
    ] {
        let result = commit(store, ops).await;
        assert!(matches!(result, Err(StoreError::Invalid(_))), "{result:?}");
    }
    assert!(store.load(call).await.unwrap().entries.is_empty());
    commit(store, vec![put(key, Revision::ZERO, &vec![0; VALUE_LEN_MAX])]).await.unwrap();
}

async fn a_watch_gives_every_change_after_its_revision_once_and_in_order(store: &Subject) {
    let calls: Vec<CallId> = (0..8).map(|_| new_call()).collect();
    let buckets = BucketSet::of(calls.iter().map(|call| call.bucket()));
    let first = commit(store, vec![put(Key::Call(calls[0]), Revision::ZERO, b"before")]).await.unwrap();
    let mut watch = store.watch(&buckets, first).await.unwrap();
    // Each writer changes its own record a hundred times.
    let writers = calls.clone().into_iter().enumerate().map(|(n, call)| {
        let store = Arc::clone(store);
        async move {
            let key = Key::Call(call);
            let mut at = if n == 0 { first } else { Revision::ZERO };
            let mut written = Vec::new();
            for step in 0..100_u32 {
                at = commit(&store, vec![put(key, at, &step.to_be_bytes())]).await.unwrap();
                written.push((at, key, step));
            }
            written
        }
    });
    let mut expected: Vec<_> = all(writers).await.into_iter().flatten().collect();
    expected.sort_unstable();
    // Commands that share a revision happened at one moment: in which order they are told among them says nothing.
    for commands in expected.chunk_by(|one, other| one.0 == other.0) {
        let mut events = Vec::new();
        for _ in commands {
            let event = next(&mut watch).await.unwrap();
            events.push((event.revision, event.key, event.value.unwrap().to_vec()));
        }
        events.sort_unstable();
        let commands = commands.iter().map(|(revision, key, step)| (*revision, *key, step.to_be_bytes().to_vec()));
        assert_eq!(events, commands.collect::<Vec<_>>());
    }
    // And again from the middle, all of it from what is kept.
    let key = Key::Call(calls[0]);
    let at = store.load(calls[0]).await.unwrap().entries[0].revision;
    let removed = commit(store, vec![delete(key, at)]).await.unwrap();
    let mut watch = store.watch(&buckets, at).await.unwrap();
    loop {
        let event = next(&mut watch).await.unwrap();
        assert!(event.revision > at);
        if event.key == key {
            assert_eq!((event.revision, event.value), (removed, None));
            break;
        }
    }
}

async fn a_watch_sees_only_its_buckets_and_whole_commands(store: &Subject) {
    let (mine, other) = (new_call(), new_call());
    let at = store.load(mine).await.unwrap().revision;
    let mut watch = store.watch(&BucketSet::of([mine.bucket()]), at).await.unwrap();
    commit(store, vec![put(Key::Call(other), Revision::ZERO, b"x")]).await.unwrap();
    let keys: Vec<Key> = (1..=OPS_PER_COMMAND as u16).map(|n| Key::Attachment(mine, leg(n))).collect();
    let ops = keys.iter().map(|key| put(*key, Revision::ZERO, b"v")).collect();
    let revision = commit(store, ops).await.unwrap();
    for key in &keys {
        let event = next(&mut watch).await.unwrap();
        assert_eq!((event.key, event.revision), (*key, revision));
    }
    // And never a part of one: what breaks off breaks off between two commands.
    let mut watch = store.watch(&BucketSet::of([mine.bucket()]), at).await.unwrap();
    let changes = tokio::time::timeout(patience(), std::future::poll_fn(|context| watch.poll_changes(context))).await;
    let changes = changes.expect("changes did not come").expect("the watch ended").unwrap();
    assert_eq!(changes.events.iter().map(|event| event.key).collect::<Vec<_>>(), keys);
    assert!(changes.reached >= revision);
}

async fn a_watch_that_is_resumed_where_it_was_misses_nothing_and_repeats_nothing(store: &Subject) {
    let call = new_call();
    let buckets = BucketSet::of([call.bucket()]);
    let mut reached = store.load(call).await.unwrap().revision;
    let writer = {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for step in 0..200_u16 {
                let keys = [Key::Attachment(call, leg(2 * step + 1)), Key::Attachment(call, leg(2 * step + 2))];
                commit(&store, keys.map(|key| put(key, Revision::ZERO, b"v")).to_vec()).await.unwrap();
            }
        })
    };
    let mut legs = Vec::new();
    while legs.len() < 400 {
        let mut watch = store.watch(&buckets, reached).await.unwrap();
        // As far as it can be resumed from, which is between two commands.
        loop {
            let Key::Attachment(_, leg) = next(&mut watch).await.unwrap().key else { panic!("not ours") };
            legs.push(leg.get());
            if watch.reached() > reached {
                reached = watch.reached();
                break;
            }
        }
    }
    assert_eq!(legs, (1..=400).collect::<Vec<u16>>());
    writer.await.unwrap();
}

async fn a_watch_from_where_a_restore_was_misses_nothing(store: &Subject) {
    let call = new_call();
    let buckets = BucketSet::of([call.bucket()]);
    let key = Key::Attachment(call, leg(1));
    let (under_way, is_under_way) = tokio::sync::oneshot::channel();
    let writer = {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let (mut at, mut under_way) = (Revision::ZERO, Some(under_way));
            for step in 0..300_u32 {
                if let Some(under_way) = under_way.take_if(|_| step == 20) {
                    under_way.send(()).unwrap();
                }
                at = commit(&store, vec![put(key, at, &step.to_be_bytes())]).await.unwrap();
            }
        })
    };
    // While it writes: what the list has and what follows from there is all of it.
    is_under_way.await.unwrap();
    let listing = store.restore(&buckets).await.unwrap();
    let mut expected = match values(&listing).get(&key) {
        Some(value) => u32::from_be_bytes(value.as_slice().try_into().unwrap()) + 1,
        None => 0,
    };
    let mut watch = store.watch(&buckets, listing.revision).await.unwrap();
    while expected < 300 {
        let event = next(&mut watch).await.unwrap();
        assert_eq!(event.value.as_deref(), Some(&expected.to_be_bytes()[..]));
        expected += 1;
    }
    writer.await.unwrap();
}

async fn a_watch_of_a_revision_that_is_not_kept_or_not_there_is_compacted(store: &Subject) {
    for after in [Revision(1), Revision(u64::MAX)] {
        let mut result = store.watch(&BucketSet::all(), after).await;
        // Over a wire the error may come as the first thing of the stream.
        if let Ok(watch) = &mut result {
            let first = next(watch).await;
            assert_eq!(first, Err(StoreError::Compacted), "{after:?}");
        } else {
            assert_eq!(result.err(), Some(StoreError::Compacted), "{after:?}");
        }
    }
}

fn record(call: CallId) -> Call {
    let create = CallCommand::Create { id: call, kind: CallKind::OneToOne, legs: 2 };
    Call::apply(None, create, Now::default()).unwrap()
}

fn attached(call: CallId, leg: LegId, clients: &[ClientAddr]) -> Vec<u8> {
    let mut attachment = Attachment::empty(RelayId(1));
    for client in clients {
        let command = AttachmentCommand::Attach { transport: Transport::Udp, client: *client };
        attachment = attachment.apply(&record(call), leg, RelayId(1), command).unwrap().unwrap();
    }
    attachment.to_json().unwrap()
}

fn client() -> ClientAddr {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    ClientAddr::new(SocketAddr::from(([198, 51, (n >> 16) as u8, (n >> 8) as u8], n as u16)))
}

async fn found(store: &Subject, client: ClientAddr) -> Option<(CallId, u16, u8)> {
    let owner = store.find_client(Transport::Udp, client).await.unwrap()?;
    Some((owner.call, owner.leg.get(), owner.allocation.get()))
}

async fn an_address_is_found_while_its_leg_is_attached_there(store: &Subject) {
    let call = new_call();
    let (one, two, v6) = (client(), client(), ClientAddr::new("[2001:db8::7]:99".parse().unwrap()));
    let (call_key, key) = (Key::Call(call), Key::Attachment(call, leg(1)));
    assert_eq!(found(store, one).await, None);
    let call_at = commit(store, vec![put(call_key, Revision::ZERO, &record(call).to_json().unwrap())]).await.unwrap();
    let at = commit(store, vec![put(key, Revision::ZERO, &attached(call, leg(1), &[one, two, v6]))]).await.unwrap();
    assert_eq!(found(store, one).await, Some((call, 1, 1)));
    assert_eq!(found(store, two).await, Some((call, 1, 2)));
    assert_eq!(found(store, v6).await, Some((call, 1, 3)));
    let at = commit(store, vec![put(key, at, &attached(call, leg(1), &[two]))]).await.unwrap();
    assert_eq!((found(store, one).await, found(store, two).await), (None, Some((call, 1, 1))));
    let at = commit(store, vec![delete(key, at)]).await.unwrap();
    assert_eq!(found(store, two).await, None);
    assert!(at > call_at);
    let at = commit(store, vec![put(key, Revision::ZERO, &attached(call, leg(1), &[two]))]).await.unwrap();
    assert_eq!(found(store, two).await, Some((call, 1, 1)));
    let end = CallCommand::End { reason: EndReason::Hangup };
    let ended = Call::apply(Some(&record(call)), end, Now::default()).unwrap().to_json().unwrap();
    commit(store, vec![put(call_key, call_at, &ended)]).await.unwrap();
    assert_eq!(found(store, two).await, None, "an ended call has no addresses");
    commit(store, vec![delete(key, at)]).await.unwrap();
}

async fn an_address_belongs_to_whoever_attached_last(store: &Subject) {
    let (older, newer) = (new_call(), new_call());
    let shared = client();
    let mut at = Vec::new();
    for call in [older, newer] {
        let key = Key::Attachment(call, leg(2));
        let ops = vec![
            put(Key::Call(call), Revision::ZERO, &record(call).to_json().unwrap()),
            put(key, Revision::ZERO, &attached(call, leg(2), &[shared])),
        ];
        at.push(commit(store, ops).await.unwrap());
        assert_eq!(found(store, shared).await, Some((call, 2, 1)));
    }
    commit(store, vec![delete(Key::Attachment(older, leg(2)), at[0])]).await.unwrap();
    assert_eq!(found(store, shared).await, Some((newer, 2, 1)), "the older one's end is not the newer one's");
    let (third, key) = (new_call(), Key::Attachment(newer, leg(2)));
    let other = Key::Attachment(third, leg(1));
    let ops = vec![
        put(Key::Call(third), Revision::ZERO, &record(third).to_json().unwrap()),
        put(other, Revision::ZERO, &attached(third, leg(1), &[client(), shared])),
    ];
    let third_at = commit(store, ops).await.unwrap();
    // A change of the older record that keeps the address does not claim it anew.
    commit(store, vec![put(key, at[1], &attached(newer, leg(2), &[shared, client()]))]).await.unwrap();
    assert_eq!(found(store, shared).await, Some((third, 1, 2)));
    commit(store, vec![delete(other, third_at)]).await.unwrap();
    assert_eq!(found(store, shared).await, Some((newer, 2, 1)), "who was there before is there still");
}

async fn a_record_that_cannot_be_read_hinders_nothing(store: &Subject) {
    let call = new_call();
    let key = Key::Attachment(call, leg(1));
    for value in [&b""[..], b"\0\xff", br#"{"v":99,"al":"from the future"}"#] {
        let based_on = store.load(call).await.unwrap().entries.first().map_or(Revision::ZERO, |entry| entry.revision);
        commit(store, vec![put(key, based_on, value)]).await.unwrap();
        assert_eq!(values(&store.load(call).await.unwrap())[&key], value);
    }
}

async fn of_many_writers_on_one_record_each_step_has_one_winner(store: &Subject) {
    let call = new_call();
    let key = Key::Call(call);
    let writers = (0..10_u32).map(|writer| {
        let store = Arc::clone(store);
        async move {
            let mut won = Vec::new();
            for _ in 0..100 {
                // Read, decide, write: what another has changed in between is refused.
                let listing = store.load(call).await.unwrap();
                let (based_on, count) = listing.entries.first().map_or((Revision::ZERO, 0), |entry| {
                    (entry.revision, u32::from_be_bytes(entry.value[..4].try_into().unwrap()))
                });
                let value = [(count + 1).to_be_bytes(), writer.to_be_bytes()].concat();
                match commit(&store, vec![put(key, based_on, &value)]).await {
                    Ok(revision) => won.push((revision, count + 1)),
                    Err(StoreError::Stale { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            won
        }
    });
    let mut won: Vec<(Revision, u32)> = all(writers).await.into_iter().flatten().collect();
    won.sort_unstable();
    // The counter was raised by exactly one at each revision: no update was lost, none happened twice.
    for (index, (_, count)) in won.iter().enumerate() {
        assert_eq!(*count, index as u32 + 1);
    }
    assert!(!won.is_empty());
}

/// One command of the check below: when it was asked for and answered, by a counter that everyone shares, and its revision.
struct Done {
    asked: u64,
    answered: u64,
    revision: Revision,
    key: Key,
    value: [u8; 8],
}

async fn a_thousand_commands_at_once_happen_in_one_order_that_everyone_sees(store: &Subject) {
    let keys: Vec<Key> = (0..100).map(|_| Key::Call(new_call())).collect();
    let clock = Arc::new(AtomicU64::new(0));
    let commands = (0..1_000_u64).map(|n| {
        let (store, clock, key) = (Arc::clone(store), Arc::clone(&clock), keys[n as usize % keys.len()]);
        async move {
            let value = n.to_be_bytes();
            loop {
                let based_on = store.read(key).await.unwrap().map_or(Revision::ZERO, |entry| entry.revision);
                let asked = clock.fetch_add(1, Ordering::SeqCst);
                match commit(&store, vec![put(key, based_on, &value)]).await {
                    Ok(revision) => {
                        return Done { asked, answered: clock.fetch_add(1, Ordering::SeqCst), revision, key, value };
                    }
                    Err(StoreError::Stale { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    });
    let mut done = all(commands).await;
    done.sort_unstable_by_key(|done| (done.revision, done.key));
    let moments: Vec<(Revision, Key)> = done.iter().map(|done| (done.revision, done.key)).collect();
    assert!(moments.windows(2).all(|pair| pair[0] != pair[1]), "those that share a revision share no record");
    // Who was answered before another asked has the lower revision: going backwards in revisions, nobody was asked for
    // after someone later, or of the same revision, was answered.
    let mut answered = u64::MAX;
    for done in done.iter().rev() {
        assert!(done.asked < answered, "the order is not the one that was seen");
        answered = answered.min(done.answered);
    }
    // The last one on each record is what is there.
    let last: BTreeMap<Key, (Revision, [u8; 8])> = done.iter().map(|d| (d.key, (d.revision, d.value))).collect();
    for (key, (revision, value)) in last {
        let entry = store.read(key).await.unwrap().unwrap();
        assert_eq!((entry.revision, &*entry.value), (revision, &value[..]));
    }
}

/// A relay's entry, in this run of it.
fn entry(incarnation: u64) -> Vec<u8> {
    let tunnel = SocketAddr::from(([127, 0, 0, 1], 7_000));
    Member::starting(Incarnation(incarnation), Cookie::from_bits(1), tunnel).to_json().unwrap()
}

fn report(relay: RelayId, incarnation: u64, calls: u32) -> Report {
    let load = Load { calls, allocations: 2 * calls, sent_bytes_per_s: 1 << 40, cpu_permille: 999, ..Load::default() };
    Report { relay, incarnation: Incarnation(incarnation), epoch: 7, load }
}

/// What is told of a relay, as soon as it is as it should be.
async fn load_of(store: &Subject, relay: RelayId, good: impl Fn(Option<&SeenLoad>) -> bool) -> Option<SeenLoad> {
    let look = async {
        loop {
            let loads = store.loads().await.unwrap();
            assert!(loads.is_sorted_by_key(|seen| seen.report.relay), "one of each, by their ids: {loads:?}");
            let seen = loads.into_iter().find(|seen| seen.report.relay == relay);
            if good(seen.as_ref()) {
                return seen;
            }
            // Nobody says when a report has come.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(patience(), look).await.unwrap_or_else(|_| panic!("what is told of {relay:?} is not right"))
}

async fn all_records(store: &Subject) -> BTreeMap<Key, Vec<u8>> {
    let mut records = values(&store.restore(&BucketSet::all()).await.unwrap());
    records.extend(values(&store.restore(&BucketSet::fleet()).await.unwrap()));
    records
}

async fn the_latest_load_of_a_relay_is_told_with_its_age_and_stored_nowhere(store: &Subject) {
    let relay = RelayId(7_001);
    let key = Key::Relay(POP, relay);
    let revision = commit(store, vec![put(key, Revision::ZERO, &entry(5))]).await.unwrap();
    let before = all_records(store).await;
    // What stands there when reporting begins is told too.
    let (latest, reports) = watch::channel(Some(report(relay, 5, 1)));
    let reporting = tokio::spawn({
        let store = Arc::clone(store);
        async move { store.report_load(reports).await }
    });
    for calls in 1..=3 {
        latest.send_replace(Some(report(relay, 5, calls)));
        let seen =
            load_of(store, relay, |seen| seen.is_some_and(|seen| seen.report.load.calls == calls)).await.unwrap();
        assert_eq!(seen.report, report(relay, 5, calls), "as it was said");
        assert!(seen.age < patience());
    }
    let older = load_of(store, relay, |seen| seen.is_some_and(|seen| seen.age >= Duration::from_millis(50))).await;
    assert_eq!(older.unwrap().report, report(relay, 5, 3));
    assert_eq!(all_records(store).await, before, "nothing of it is stored");
    drop(latest);
    tokio::time::timeout(patience(), reporting).await.expect("nobody reports any more").unwrap();
    commit(store, vec![delete(key, revision)]).await.unwrap();
    load_of(store, relay, |seen| seen.is_none()).await;
}

async fn a_load_of_a_run_that_has_not_registered_or_was_followed_by_another_is_ignored(store: &Subject) {
    let (relay, other) = (RelayId(7_002), RelayId(7_003));
    let key = Key::Relay(POP, relay);
    let first = commit(store, vec![put(key, Revision::ZERO, &entry(5))]).await.unwrap();
    let says = |report| {
        let (latest, reports) = watch::channel(Some(report));
        let store = Arc::clone(store);
        (latest, tokio::spawn(async move { store.report_load(reports).await }))
    };
    let calls_of = |seen: Option<&SeenLoad>| seen.map(|seen| seen.report.load.calls);
    // None of these is heard: they have been on their way for as long as the next one, which is.
    let ignored = [report(other, 5, 1), report(relay, 4, 2), report(relay, 6, 3)].map(says);
    let (good, reporting) = says(report(relay, 5, 4));
    load_of(store, relay, |seen| calls_of(seen) == Some(4)).await;
    for (latest, _) in &ignored {
        latest.send_modify(|_| {});
    }
    for calls in 5..40 {
        good.send_replace(Some(report(relay, 5, calls)));
        load_of(store, relay, |seen| calls_of(seen) == Some(calls)).await;
        assert!(load_of(store, other, |_| true).await.is_none());
    }
    // It is started again: what the run before it said is over, and what it still says is not heard.
    let second = commit(store, vec![put(key, first, &entry(6))]).await.unwrap();
    load_of(store, relay, |seen| calls_of(seen) != Some(39)).await;
    good.send_replace(Some(report(relay, 5, 50)));
    ignored[2].0.send_modify(|_| {});
    load_of(store, relay, |seen| calls_of(seen) == Some(3)).await;
    good.send_replace(Some(report(relay, 5, 51)));
    let stays =
        tokio::time::timeout(Duration::from_millis(50), load_of(store, relay, |seen| calls_of(seen) != Some(3)));
    assert!(stays.await.is_err(), "the older run is heard");
    drop((good, ignored.map(|(latest, _)| latest)));
    tokio::time::timeout(patience(), reporting).await.expect("nobody reports any more").unwrap();
    commit(store, vec![delete(key, second)]).await.unwrap();
}
