//! The store on etcd when something is wrong: with etcd, with the network, with what stands in it; and two state servers at
//! once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use support::proxy::{Network, Proxy};
use support::{Arc, Cluster, call, now, put};
use tandem_state_client::conformance::POP;
use tandem_state_client::limits::OPS_PER_COMMAND;
use tandem_state_client::{BucketSet, Change, Command, Event, Key, Op, Revision, Store, StoreError, Watch};
use tandem_state_server::{Cause, EtcdConfig, EtcdTls, OpenError, StateServer, limits};
use tandem_wire::id::{CallId, LegId};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt as _;

const PATIENCE: Duration = Duration::from_secs(30);
/// How long a command may take to be refused.
const FAST: Duration = Duration::from_millis(2_000);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

async fn next(watch: &mut Watch) -> Result<Event, StoreError> {
    within("a change", watch.next()).await.expect("the watch ended")
}

/// Goes on until a change of this revision comes. What was put off before may have been done, and comes before it.
async fn sees(watch: &mut Watch, revision: Revision) {
    loop {
        let seen = next(watch).await.unwrap().revision;
        assert!(seen <= revision, "{revision:?} did not come");
        if seen == revision {
            return;
        }
    }
}

async fn write(store: &StateServer, key: Key, based_on: Revision, value: &[u8]) -> Result<Revision, StoreError> {
    store.commit(Command { ops: vec![put(key, based_on, value)] }).await
}

/// Writes it as soon as the store takes it; a key that nobody else writes.
async fn write_at_last(store: &StateServer, key: Key, value: &[u8]) -> Revision {
    within("a command", async {
        loop {
            let based_on = store.read(key).await.unwrap().map_or(Revision::ZERO, |entry| entry.revision);
            match write(store, key, based_on, value).await {
                Ok(revision) => return revision,
                Err(StoreError::Away { .. }) => store.writable().await,
                // One that was put off has been written after all.
                Err(StoreError::Stale { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

async fn becomes(what: &str, holds: impl Fn() -> bool) {
    within(what, async {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        while !holds() {
            look.tick().await;
        }
    })
    .await;
}

async fn refused_fast(store: &StateServer, n: u128) {
    let asked = Instant::now();
    let refused = write(store, Key::Call(call(n)), Revision::ZERO, b"x").await;
    assert!(matches!(refused, Err(StoreError::Away { retry_after_ms: 100.. })), "{refused:?}");
    assert!(asked.elapsed() < FAST, "it took {:?}", asked.elapsed());
}

/// What etcd has, as a list of everything that was never cached.
async fn same_as_etcd(cluster: &Cluster, store: &StateServer) {
    let fresh = cluster.server().await;
    let theirs = fresh.restore(&BucketSet::all()).await.unwrap();
    becomes("the cache", || store.revision() >= theirs.revision).await;
    assert_eq!(store.restore(&BucketSet::all()).await.unwrap().entries, theirs.entries);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_state_servers_are_one_store_and_either_may_go() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (one, two) = (cluster.server().await, cluster.server().await);
    let key = Key::Call(call(1));
    let start = one.revision();
    let mut watches = Vec::new();
    for store in [&one, &two] {
        watches.push(store.watch(&BucketSet::all(), start).await.unwrap());
    }
    // Both raise one counter; every step has one winner, whichever server it came through.
    let raise = |store: Arc<StateServer>| async move {
        let mut won = 0_u32;
        while won < 50 {
            let entry = store.read(key).await.unwrap();
            let (at, count) = entry.map_or((Revision::ZERO, 0), |entry| (entry.revision, u32::from(entry.value[0])));
            match write(&store, key, at, &[count as u8 + 1]).await {
                Ok(_) => won += 1,
                Err(StoreError::Stale { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let raising = [tokio::spawn(raise(Arc::clone(&one))), tokio::spawn(raise(Arc::clone(&two)))];
    for raised in raising {
        raised.await.unwrap();
    }
    for watch in &mut watches {
        for count in 1..=100 {
            assert_eq!(next(watch).await.unwrap().value.unwrap()[0], count);
        }
    }
    // What one has answered, the other knows when somebody comes from there with its revision.
    let revision = write(&one, Key::Call(call(2)), Revision::ZERO, b"v").await.unwrap();
    let mut late = two.watch(&BucketSet::all(), revision).await.unwrap();
    let mut other = watches.pop().unwrap();
    drop((one, watches));
    let after = write(&two, Key::Call(call(3)), Revision::ZERO, b"v").await.unwrap();
    assert_eq!(next(&mut late).await.unwrap().revision, after);
    assert_eq!(next(&mut other).await.unwrap().revision, revision);
    same_as_etcd(&cluster, &two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_of_the_largest_commands_are_one_transaction_and_etcd_takes_no_more() {
    let Some(cluster) = Cluster::start(1) else { return };
    let mut etcd = cluster.stranger().await;
    // How etcd 3.4 counts: each transaction has 128 operations less those of the one around it.
    let nested = |n: usize, ops: usize| {
        let keys: Vec<String> = (0..ops).map(|op| format!("x/{n}/{op}")).collect();
        let when: Vec<_> = keys.iter().map(|key| Compare::version(key.clone(), CompareOp::Equal, 0)).collect();
        let then: Vec<_> = keys.iter().map(|key| TxnOp::put(key.clone(), "", None::<PutOptions>)).collect();
        TxnOp::txn(Txn::new().when(when).and_then(then))
    };
    let outer = |commands, ops| Txn::new().and_then((0..commands).map(|n| nested(n, ops)).collect::<Vec<_>>());
    etcd.txn(outer(limits::ETCD_COMMANDS, OPS_PER_COMMAND)).await.unwrap();
    etcd.txn(outer(limits::ETCD_COMMANDS, 128 - limits::ETCD_COMMANDS)).await.unwrap();
    let error = etcd.txn(outer(limits::ETCD_COMMANDS, 129 - limits::ETCD_COMMANDS)).await.unwrap_err();
    assert!(error.to_string().contains("too many operations"), "{error}");
    // And through the store: twice as many of them at once as fit.
    let store = cluster.server().await;
    let commands = (0..2 * limits::ETCD_COMMANDS as u128).map(|n| {
        let store = Arc::clone(&store);
        let key = move |leg| Key::Attachment(call(n), LegId::new(leg).unwrap());
        let ops = (1..=OPS_PER_COMMAND as u16).map(|leg| put(key(leg), Revision::ZERO, vec![7; 60])).collect();
        tokio::spawn(async move { store.commit(Command { ops }).await })
    });
    for command in commands.collect::<Vec<_>>() {
        command.await.unwrap().unwrap();
    }
    assert!(store.counters().batches.load(Ordering::Relaxed) < 40, "they share transactions");
    same_as_etcd(&cluster, &store).await;
}

/// E06: 60 s without etcd.
#[tokio::test(flavor = "multi_thread")]
async fn while_etcd_is_down_for_a_minute_reads_go_on_with_their_age_and_writes_fail_fast() {
    let Some(mut cluster) = Cluster::start(3) else { return };
    let store = cluster.server().await;
    let key = Key::Call(call(1));
    let first = write(&store, key, Revision::ZERO, b"1").await.unwrap();
    let mut watch = store.watch(&BucketSet::all(), first).await.unwrap();
    assert_eq!(store.age(), Duration::ZERO);
    let down = Instant::now();
    (0..3).for_each(|n| cluster.kill(n));
    refused_fast(&store, 2).await;
    // Those who are refused at one moment are told to come back at different ones.
    let mut hints = std::collections::BTreeSet::new();
    for _ in 0..40 {
        match write(&store, Key::Call(call(3)), Revision::ZERO, b"x").await {
            Err(StoreError::Away { retry_after_ms }) => hints.insert(retry_after_ms),
            other => panic!("{other:?}"),
        };
    }
    let spread = hints.last().unwrap() - hints.first().unwrap();
    assert!(hints.len() > 10 && spread > limits::RETRY_SPREAD_MS / 2, "{hints:?}");
    while down.elapsed() < Duration::from_secs(60) {
        refused_fast(&store, 2).await;
        assert_eq!(store.load(call(1)).await.unwrap().entries.len(), 1);
        let age = store.age();
        assert!(age <= down.elapsed() + limits::AGE_UNKNOWN, "{age:?}");
        if down.elapsed() > Duration::from_secs(5) {
            assert!(age + Duration::from_secs(3) > down.elapsed(), "{age:?} of {:?}", down.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(store.cause(), Cause::Away);
    (0..3).for_each(|n| cluster.run(n));
    let back = Instant::now();
    let second = write_at_last(&store, key, b"2").await;
    assert!(back.elapsed() < Duration::from_secs(15), "{:?}", back.elapsed());
    // Who followed goes on where it was.
    sees(&mut watch, second).await;
    becomes("the age", || store.age() == Duration::ZERO).await;
    assert_eq!(store.counters().relisted.load(Ordering::Relaxed), 0);
    same_as_etcd(&cluster, &store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_lists_can_be_had_and_nothing_is_written() {
    let Some(mut cluster) = Cluster::start(3) else { return };
    let store = cluster.server().await;
    let first = write(&store, Key::Call(call(1)), Revision::ZERO, b"1").await.unwrap();
    let mut watch = store.watch(&BucketSet::all(), first).await.unwrap();
    // The list of one node is to be complete: it has seen the write when it says so.
    within("the third node", async {
        let status = async || cluster.etcdctl(2, &["get", &Key::Call(call(1)).to_string(), "--consistency", "s"]);
        while status().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    cluster.kill(0);
    cluster.kill(1);
    refused_fast(&store, 2).await;
    assert_eq!(store.load(call(1)).await.unwrap().entries.len(), 1);
    // A state server that starts now has everything all the same, and says that it may be old.
    let newcomer = within("a start", cluster.server()).await;
    assert_eq!(newcomer.load(call(1)).await.unwrap().entries.len(), 1);
    becomes("the newcomer's age", || newcomer.age() > Duration::ZERO).await;
    refused_fast(&newcomer, 3).await;
    cluster.run(0);
    let second = write_at_last(&store, Key::Call(call(4)), b"4").await;
    sees(&mut watch, second).await;
    becomes("the newcomer", || newcomer.revision() >= second && newcomer.age() == Duration::ZERO).await;
    same_as_etcd(&cluster, &store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed_and_writing_goes_on_with_the_next() {
    let Some(mut cluster) = Cluster::start(3) else { return };
    let store = cluster.server().await;
    let first = write(&store, Key::Call(call(1)), Revision::ZERO, b"1").await.unwrap();
    let mut watch = store.watch(&BucketSet::all(), first).await.unwrap();
    cluster.kill(cluster.leader());
    let killed = Instant::now();
    let second = write_at_last(&store, Key::Call(call(2)), b"2").await;
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    sees(&mut watch, second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_hangs_nobody() {
    let Some(cluster) = Cluster::start(3) else { return };
    // Not the leader: then the cluster is well, and only our node is not.
    let hung = (cluster.leader() + 1) % 3;
    let config = cluster.config_from(hung);
    let store = StateServer::connect(&config, POP, now).await.unwrap();
    let first = write(&store, Key::Call(call(1)), Revision::ZERO, b"1").await.unwrap();
    let mut watch = store.watch(&BucketSet::all(), first).await.unwrap();
    cluster.pause(hung);
    let paused = Instant::now();
    let second = write_at_last(&store, Key::Call(call(2)), b"2").await;
    assert!(paused.elapsed() < Duration::from_secs(6), "{:?}", paused.elapsed());
    sees(&mut watch, second).await;
    cluster.resume(hung);
    same_as_etcd(&cluster, &store).await;
}

/// E06: NOSPACE.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_etcd_is_said_to_be_full_and_written_again_when_there_is_room() {
    let Some(cluster) = Cluster::start_with(1, &["--quota-backend-bytes=4194304"]) else { return };
    let store = cluster.server().await;
    let key = Key::Call(call(1));
    let mut last = Revision::ZERO;
    let full = within("filling it", async {
        loop {
            match write(&store, key, last, &[0; 16 << 10]).await {
                Ok(revision) => last = revision,
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(full.is_away(), "{full}");
    becomes("the cause", || store.cause() == Cause::Full).await;
    refused_fast(&store, 2).await;
    // Reading goes on, and is current: etcd can still be asked.
    // (The command that found it full may have been done: etcd says so only afterwards.)
    assert!(store.read(key).await.unwrap().unwrap().revision >= last);
    tokio::time::sleep(limits::AGE_UNKNOWN + Duration::from_secs(2)).await;
    assert_eq!((store.age(), store.cause()), (Duration::ZERO, Cause::Full));
    let mut etcd = cluster.stranger().await;
    let revision = etcd.get("x", None).await.unwrap().header().unwrap().revision();
    cluster.etcdctl(0, &["compact", &revision.to_string()]);
    cluster.etcdctl(0, &["defrag"]);
    assert!(!store.is_writable(), "the alarm is still on");
    cluster.etcdctl(0, &["alarm", "disarm"]);
    write_at_last(&store, Key::Call(call(2)), b"2").await;
    assert_eq!(store.cause(), Cause::None);
    same_as_etcd(&cluster, &store).await;
}

/// A state server that reaches etcd through a network that can fail, and another that does not.
async fn behind_a_network(cluster: &Cluster) -> (Proxy, Arc<StateServer>, Arc<StateServer>) {
    let proxy = Proxy::to(cluster.address(0)).await;
    let config = EtcdConfig { endpoints: vec![format!("http://{}", proxy.address)], tls: None };
    let store = StateServer::connect(&config, POP, now).await.unwrap();
    (proxy, store, cluster.server().await)
}

/// E04: a partition, a compaction meanwhile, and a follower of ours that reads nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_etcd_compacted_while_we_could_not_see_it_is_listed_anew() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (proxy, store, other) = behind_a_network(&cluster).await;
    let first = write(&store, Key::Call(call(1)), Revision::ZERO, b"1").await.unwrap();
    let mut watch = store.watch(&BucketSet::all(), first).await.unwrap();
    becomes("the other", || other.revision() >= first).await;
    proxy.set(Network::Cut);
    becomes("noticing", || !store.is_writable() && store.counters().renewed.load(Ordering::Relaxed) > 0).await;
    let removed = Command { ops: vec![Op { key: Key::Call(call(1)), based_on: first, change: Change::Delete }] };
    other.commit(removed).await.unwrap();
    for n in 2..40 {
        write(&other, Key::Call(call(n)), Revision::ZERO, b"v").await.unwrap();
    }
    let mut etcd = cluster.stranger().await;
    let revision = etcd.get("x", None).await.unwrap().header().unwrap().revision();
    etcd.compact(revision, None).await.unwrap();
    proxy.set(Network::Whole);
    becomes("the list", || store.counters().relisted.load(Ordering::Relaxed) == 1).await;
    assert_eq!(next(&mut watch).await, Err(StoreError::Compacted));
    same_as_etcd(&cluster, &store).await;
    assert!(store.load(call(1)).await.unwrap().entries.is_empty());
    write_at_last(&store, Key::Call(call(50)), b"v").await;
}

/// E04: late events.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_hangs_while_all_else_works_is_noticed_and_loses_nothing() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (proxy, store, other) = behind_a_network(&cluster).await;
    let first = write(&store, Key::Call(call(1)), Revision::ZERO, b"1").await.unwrap();
    let mut watch = store.watch(&BucketSet::all(), first).await.unwrap();
    // Commands go over the first connection, the watch over the second.
    becomes("the watch", || proxy.connections() == 2).await;
    proxy.set(Network::WithoutConnection(1));
    let revision = write(&other, Key::Call(call(2)), Revision::ZERO, b"2").await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().revision, revision);
    assert!(store.counters().renewed.load(Ordering::Relaxed) >= 1);
    assert_eq!(store.counters().relisted.load(Ordering::Relaxed), 0);
    same_as_etcd(&cluster, &store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_answer_is_lost_is_put_off_and_done_once() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (proxy, store, other) = behind_a_network(&cluster).await;
    write(&store, Key::Call(call(1)), Revision::ZERO, b"1").await.unwrap();
    proxy.set(Network::NothingBack);
    refused_fast(&store, 2).await;
    // It was done: only its answer did not come.
    within("the other", async {
        while other.read(Key::Call(call(2))).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    refused_fast(&store, 3).await;
    assert_eq!(store.load(call(1)).await.unwrap().entries.len(), 1, "reads go on");
    becomes("the age", || store.age() > Duration::ZERO).await;
    proxy.set(Network::Whole);
    write_at_last(&store, Key::Call(call(4)), b"4").await;
    becomes("the age", || store.age() == Duration::ZERO).await;
    let written = store.read(Key::Call(call(2))).await.unwrap().unwrap();
    assert_eq!(written.revision, other.read(Key::Call(call(2))).await.unwrap().unwrap().revision);
    same_as_etcd(&cluster, &store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_was_wiped_is_another_store_with_later_revisions() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    // Made a minute later than the first.
    static MADE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1_795_000_000);
    let date = || tandem_wire::units::Wall::from_secs(MADE.fetch_add(60, Ordering::Relaxed));
    let store = StateServer::connect(&cluster.config(), POP, date).await.unwrap();
    let mut last = write(&store, Key::Call(call(1)), Revision::ZERO, b"1").await.unwrap();
    for n in 2..30 {
        last = write(&store, Key::Call(call(n)), Revision::ZERO, b"v").await.unwrap();
    }
    let mut watch = store.watch(&BucketSet::all(), last).await.unwrap();
    cluster.kill(0);
    std::fs::remove_dir_all(cluster.data(0)).unwrap();
    cluster.run(0);
    assert_eq!(next(&mut watch).await, Err(StoreError::Compacted));
    assert!(store.restore(&BucketSet::all()).await.unwrap().entries.is_empty());
    assert!(store.revision() > last);
    assert_eq!(store.watch(&BucketSet::all(), last).await.err(), Some(StoreError::Compacted));
    // What was decided on the old store is not done on the new one.
    within("writing", store.writable()).await;
    let key = Key::Call(call(1));
    assert_eq!(write(&store, key, last, b"2").await, Err(StoreError::Stale { key }));
    last = write_at_last(&store, key, b"2").await;
    // What is to be done after an old snapshot was restored.
    let mut watch = store.watch(&BucketSet::all(), last).await.unwrap();
    cluster.etcdctl(0, &["del", "tandem/v1/0001/made"]);
    assert_eq!(next(&mut watch).await, Err(StoreError::Compacted));
    assert!(store.revision() > last);
    within("writing", store.writable()).await;
    assert!(write_at_last(&store, Key::Call(call(2)), b"2").await > last);
    same_as_etcd(&cluster, &store).await;
}

/// E05.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_of_ours_is_counted_and_hinders_nothing() {
    let Some(cluster) = Cluster::start(1) else { return };
    let mut etcd = cluster.stranger().await;
    let store = cluster.server().await;
    let good = Key::Call(call(1)).to_string();
    let inside: [Vec<u8>; 8] = [
        b"tandem/v1/0001/".to_vec(),
        b"tandem/v1/0001/b/../../0002/x".to_vec(),
        b"tandem/v1/0001/b/0001/\0".to_vec(),
        b"tandem/v1/0001/\xff\xff".to_vec(),
        good[..good.len() - 1].into(),
        format!("{good}/").into(),
        format!("{good}/leg/01").into(),
        // A key of another PoP below ours.
        format!("tandem/v1/0001/{}", Key::Call(CallId::from_bits(7))).into(),
    ];
    for key in &inside {
        etcd.put(key.clone(), "x", None).await.unwrap();
    }
    let outside = Key::Call(CallId::new(tandem_wire::id::PopId(2), tandem_wire::id::BucketId(1), 1)).to_string();
    etcd.put(outside, "x", None).await.unwrap();
    // One that is ours by its name, and larger than any of ours.
    etcd.put(Key::Call(call(9)).to_string(), vec![b'x'; 1 << 20], None).await.unwrap();
    let strangers = |store: &StateServer| store.counters().strangers.load(Ordering::Relaxed);
    becomes("the watch", || strangers(&store) == 9).await;
    let fresh = cluster.server().await;
    assert_eq!(strangers(&fresh), 9);
    for store in [&store, &fresh] {
        assert!(store.restore(&BucketSet::all()).await.unwrap().entries.is_empty());
    }
    let revision = write(&store, Key::Call(call(1)), Revision::ZERO, b"1").await.unwrap();
    becomes("the other", || fresh.revision() >= revision).await;
    let foreign = Command { ops: vec![put(Key::Call(CallId::from_bits(7)), Revision::ZERO, b"x")] };
    assert!(matches!(store.commit(foreign).await, Err(StoreError::Invalid(_))));
    same_as_etcd(&cluster, &store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_larger_than_a_message_is_listed_in_pages() {
    let Some(cluster) = Cluster::start(1) else { return };
    let store = cluster.server().await;
    let commands: Vec<_> = (0..150_u128)
        .map(|n| {
            let store = Arc::clone(&store);
            let key = move |leg| Key::Attachment(call(n), LegId::new(leg).unwrap());
            let ops = (1..=10).map(|leg| put(key(leg), Revision::ZERO, vec![leg as u8; 16 << 10])).collect();
            tokio::spawn(async move { store.commit(Command { ops }).await })
        })
        .collect();
    for command in commands {
        command.await.unwrap().unwrap();
    }
    let everything = store.restore(&BucketSet::all()).await.unwrap();
    assert_eq!(everything.entries.len(), 1_500);
    same_as_etcd(&cluster, &store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_version_is_not_opened() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.stranger().await.put("tandem/v1/0001/made", r#"{"v":2}"#, None).await.unwrap();
    let error = within("an answer", StateServer::connect(&cluster.config(), POP, now)).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, known: 1 }), "{error}");
}

/// Etcd that lets in only who has a certificate of ours, and its address for clients who have one.
fn with_certificates() -> Option<(Cluster, std::path::PathBuf)> {
    let certs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certs");
    let flag = |name: &str, file: &str| format!("--{name}={}", certs.join(file).display());
    let flags = [
        flag("cert-file", "server.pem"),
        flag("key-file", "server.key"),
        flag("trusted-ca-file", "ca.pem"),
        "--client-cert-auth".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Some((Cluster::start_with(1, &flags)?, certs))
}

/// E01.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_is_reached_with_our_certificate_and_with_no_other_and_not_in_clear() {
    let Some((cluster, certs)) = with_certificates() else { return };
    let https = vec![format!("https://{}", cluster.address(0))];
    let with = |tls: EtcdTls| EtcdConfig { endpoints: https.clone(), tls: Some(tls) };
    let read = |name: &str| std::fs::read(certs.join(name)).unwrap();
    let ours = support::tls(&certs);
    let store = within("a start", StateServer::connect(&with(ours.clone()), POP, now)).await.unwrap();
    write(&store, Key::Call(call(1)), Revision::ZERO, b"1").await.unwrap();
    let unknown = EtcdTls { cert: read("stranger.pem"), key: read("stranger.key"), ..ours.clone() };
    let distrusting = EtcdTls { ca: read("stranger.pem"), ..ours };
    let clear = EtcdConfig { endpoints: vec![format!("http://{}", cluster.address(0))], tls: None };
    for config in [with(unknown), with(distrusting), clear] {
        let opened = timeout(Duration::from_secs(3), StateServer::connect(&config, POP, now)).await;
        assert!(opened.is_err(), "it was let in");
    }
    // With etcd's own client: no certificate at all, a stranger's, and none of TLS.
    let file = |name: &str| certs.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let mine = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let strange = ["--cacert", &ca, "--cert", &file("stranger.pem"), "--key", &file("stranger.key")];
    let everything = ["get", "", "--from-key", "--keys-only"];
    assert!(cluster.let_in("https", &mine, &everything).is_some_and(|keys| keys.contains("tandem/v1/0001/")));
    for (scheme, who) in [("https", &mine[..2]), ("https", &strange[..]), ("http", &[])] {
        for what in [&everything[..], &["put", "tandem/v1/0001/x", "y"], &["endpoint", "status"], &["member", "list"]] {
            assert_eq!(cluster.let_in(scheme, who, what), None, "{who:?} {what:?}");
        }
    }
}

/// E02. Etcd's users and roles have been got round three ways (nested transactions, watches without an end, what is no key): a
/// certificate is the boundary, whatever user somebody is. What the installed etcd lets a user do beyond its role, with a
/// certificate, is printed; etcd of the versions that docs/operations.md asks for must not.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_etcd_gets_nowhere_without_our_certificate_whatever_its_role_is() {
    let Some((cluster, certs)) = with_certificates() else { return };
    let file = |name: &str| certs.join(name).display().to_string();
    let mine = ["--cacert".to_owned(), file("ca.pem"), "--cert".to_owned(), file("client.pem")];
    let mine: Vec<String> = mine.into_iter().chain(["--key".to_owned(), file("client.key")]).collect();
    let mine: Vec<&str> = mine.iter().map(String::as_str).collect();
    let store = {
        let config =
            EtcdConfig { endpoints: vec![format!("https://{}", cluster.address(0))], tls: Some(support::tls(&certs)) };
        within("a start", StateServer::connect(&config, POP, now)).await.unwrap()
    };
    let secret = Key::Call(call(1)).to_string();
    write(&store, Key::Call(call(1)), Revision::ZERO, b"what nobody else may read").await.unwrap();
    drop(store);
    // A user that may do as it likes below somebody/, and nothing else.
    let done = |what: &[&str]| cluster.let_in("https", &mine, what).unwrap_or_else(|| panic!("{what:?}"));
    done(&["user", "add", "root:rootroot"]);
    done(&["user", "grant-role", "root", "root"]);
    done(&["role", "add", "guest"]);
    done(&["role", "grant-permission", "guest", "readwrite", "somebody/", "somebody0"]);
    done(&["user", "add", "guest:guestguest"]);
    done(&["user", "grant-role", "guest", "guest"]);
    done(&["auth", "enable"]);
    let guest = ["--user", "guest:guestguest"];
    let nested = format!("\n\nget {secret}\n\n\n");
    let tries: [(&str, Vec<&str>); 7] = [
        ("a record", vec!["get", &secret]),
        ("everything", vec!["get", "", "--from-key"]),
        ("a transaction", vec!["txn"]),
        ("a watch over everything behind its own", vec!["watch", "somebody/", "zzz", "--rev=1"]),
        ("the alarm", vec!["alarm", "disarm"]),
        ("a lease", vec!["lease", "grant", "60"]),
        ("a compaction", vec!["compact", "1"]),
    ];
    let mut beyond = Vec::new();
    for (name, what) in &tries {
        // Without our certificate: the user's name and password open nothing.
        let without = [&mine[..2], &guest].concat();
        assert_eq!(cluster.let_in_with("https", &without, what, &nested), None, "{name} without a certificate");
        let with = [&mine[..], &guest].concat();
        match cluster.let_in_with("https", &with, what, &nested) {
            Some(said) if said.contains("what nobody else may read") => panic!("{name} shows it: {said}"),
            Some(_) => beyond.push(*name),
            None => {}
        }
    }
    let version = cluster.version();
    eprintln!("etcd {version:?}, a user with a certificate and the role of somebody else: {beyond:?} are done for it");
    let floors = [(3, 5, 33), (3, 6, 14), (3, 7, 1)];
    let mended = floors.iter().any(|floor| version.0 == floor.0 && version.1 == floor.1 && version.2 >= floor.2);
    assert!(!mended || beyond.is_empty(), "what the version that we ask for must deny: {beyond:?}");
}
