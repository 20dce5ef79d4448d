//! What cannot be made to happen from outside: a watch whose connection lives and that says nothing, and a change that the
//! watch has lost.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use support::{Cluster, call, now, put};
use tandem_state_client::conformance::POP;
use tandem_state_client::{Command, Key, Revision, Store as _, StoreError};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::*;
use crate::cache::Durable;
use crate::shared::AWAY;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_says_nothing_is_noticed_though_its_connection_lives() {
    let Some(cluster) = Cluster::start(1) else { return };
    // Nobody watches: that is what a watch looks like that says nothing.
    let (engine, mut renew) = list_first(&cluster.config(), POP, now).await.unwrap();
    let mut keeper = JoinSet::new();
    keeper.spawn(Keeper { engine: Arc::clone(&engine) }.run());
    let other = cluster.server().await;
    other.commit(Command { ops: vec![put(Key::Call(call(1)), Revision::ZERO, b"1")] }).await.unwrap();
    assert_eq!(timeout(PATIENCE, renew.recv()).await.unwrap(), Some(Renew::Watch));
    // Its age grows, though etcd answers.
    timeout(PATIENCE, async {
        while engine.shared.age() == Duration::ZERO {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert!(*engine.writable.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_of_a_call_is_what_another_state_server_has_written_though_the_watch_has_not_brought_it() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (engine, renew) = list_first(&cluster.config(), POP, now).await.unwrap();
    let other = cluster.server().await;
    let (one, two) = (call(1), call(2));
    other.commit(Command { ops: vec![put(Key::Call(one), Revision::ZERO, b"1")] }).await.unwrap();
    let cached = || engine.shared.read(|cache| cache.load(one).entries.len());
    // Nobody watches yet: it waits, though for no longer than a watch that is late is waited for.
    engine.settle(one).await;
    assert_eq!(cached(), 0);
    let watching = {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            tokio::time::sleep(crate::limits::ETCD_BEHIND / 3).await;
            Watcher { engine, renew }.run().await;
        })
    };
    engine.settle(one).await;
    assert_eq!(cached(), 1);
    // Of what is not there, and while nothing can be written, there is nothing to wait for.
    watching.abort();
    let began = Instant::now();
    engine.settle(two).await;
    let absent = began.elapsed();
    other.commit(Command { ops: vec![put(Key::Call(two), Revision::ZERO, b"1")] }).await.unwrap();
    engine.writable.send_replace(false);
    let began = Instant::now();
    engine.settle(two).await;
    let unwritable = began.elapsed();
    assert!(absent.max(unwritable) < crate::limits::ETCD_BEHIND, "{absent:?}, {unwritable:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_writes_in_the_cluster_are_told_from_a_watch_that_is_late() {
    let Some(cluster) = Cluster::start(1) else { return };
    let store = cluster.server().await;
    let mut etcd = cluster.stranger().await;
    let before = store.revision();
    etcd.put("somebody/else", "x", None).await.unwrap();
    // The record that is written for this comes back.
    timeout(PATIENCE, async {
        while store.revision() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(store.counters().renewed.load(Ordering::Relaxed), 0);
    assert!(store.is_writable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_watch_has_lost_is_found_by_who_needs_it_and_everything_is_listed_anew() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (engine, renew) = list_first(&cluster.config(), POP, now).await.unwrap();
    let key = Key::Call(call(1));
    let command = || Command { ops: vec![put(key, Revision::ZERO, b"1")] };
    let revision = cluster.server().await.commit(command()).await.unwrap();
    // The watch goes past the change without it.
    engine.shared.write(|cache| cache.apply(Durable::of(revision, [])));
    engine.latest.send_replace(revision);
    let (jobs, waiting) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(Commits { engine: Arc::clone(&engine), jobs: waiting, aside: VecDeque::new() }.run());
    let commit = async || {
        let (answer, result) = oneshot::channel();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        assert!(jobs.send(Job { command: command(), answer, _bytes: place }).await.is_ok());
        timeout(PATIENCE, result).await.unwrap().unwrap()
    };
    assert_eq!(commit().await, Err(AWAY));
    tasks.spawn(Watcher { engine: Arc::clone(&engine), renew }.run());
    // Then it is stale for a reason that can be read here.
    timeout(PATIENCE, async { while commit().await != Err(StoreError::Stale { key }) {} }).await.unwrap();
    assert_eq!(engine.shared.counters.relisted.load(Ordering::Relaxed), 1);
    assert_eq!(engine.shared.read(|cache| cache.revision_of(key)), Some(revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_what_nobody_asked_for_and_nothing_where_all_is_well() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (engine, renew) = list_first(&cluster.config(), POP, now).await.unwrap();
    let other = cluster.server().await;
    let put_one = async |n, at| other.commit(Command { ops: vec![put(Key::Call(call(n)), at, b"1")] }).await.unwrap();
    // The watch goes past a change without it; and past a removal.
    let lost = put_one(1, Revision::ZERO).await;
    engine.shared.write(|cache| cache.apply(Durable::of(lost, [])));
    engine.latest.send_replace(lost);
    assert!(audit::lost(&engine).await.unwrap());
    let value: Arc<[u8]> = b"1".as_slice().into();
    engine.shared.write(|cache| cache.apply(Durable::of(lost, [(Key::Call(call(1)), Some(value))])));
    assert!(!audit::lost(&engine).await.unwrap());
    let removal = tandem_state_client::Op {
        key: Key::Call(call(1)),
        based_on: lost,
        change: tandem_state_client::Change::Delete,
    };
    let removed = other.commit(Command { ops: vec![removal] }).await.unwrap();
    engine.shared.write(|cache| cache.apply(Durable::of(removed, [])));
    engine.latest.send_replace(removed);
    assert!(audit::lost(&engine).await.unwrap());
    engine.shared.write(|cache| cache.apply(Durable::of(removed, [(Key::Call(call(1)), None)])));
    // While others write and a watch works, and beside something that only looks like a record of ours.
    cluster.stranger().await.put(Key::Call(call(9)).to_string(), vec![b'x'; 1 << 20], None).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(Watcher { engine: Arc::clone(&engine), renew }.run());
    let writing = async {
        let mut at = Revision::ZERO;
        for n in 0..200 {
            at = put_one(2, at).await;
            put_one(100 + n, Revision::ZERO).await;
        }
    };
    let auditing = async {
        for _ in 0..20 {
            assert!(!audit::lost(&engine).await.unwrap());
        }
    };
    tokio::join!(writing, auditing);
    // And when all of it has come.
    let last = put_one(3, Revision::ZERO).await;
    assert!(engine.reaches(last, PATIENCE).await);
    assert!(!audit::lost(&engine).await.unwrap());
    assert_eq!(engine.shared.counters.relisted.load(Ordering::Relaxed), 0);
}
