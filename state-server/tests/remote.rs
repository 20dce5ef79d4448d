//! What a client finds when the server is not there, hangs, ends, comes back, does not know it, or has more to say than
//! fits a message.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "support/proxy.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    reason = "shared with the tests of etcd, and each uses its part"
)]
mod proxy;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proxy::{Network, Proxy};
use tandem_core::topology::Transport;
use tandem_state_client::conformance::POP;
use tandem_state_client::{
    AllocationRef, BucketSet, Change, Command, Entry, Key, Listing, Op, RemoteStore, Reports, Revision, SeenLoad,
    Store, StoreError, Watch, grpc, limits,
};
use tandem_state_server::StateServer;
use tandem_wire::id::{BucketId, CallId, LegId};
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::units::Wall;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt as _;

const PATIENCE: Duration = Duration::from_secs(15);

fn secret() -> Secret {
    Secret::new(vec![7; 32])
}

fn call(n: u128) -> CallId {
    CallId::new(POP, BucketId(n as u16), n)
}

fn put(key: Key, based_on: Revision, value: Vec<u8>) -> Op {
    Op { key, based_on, change: Change::Put(value) }
}

fn store(folder: &tempfile::TempDir) -> Arc<StateServer> {
    StateServer::open(&folder.path().join("state.redb"), POP, || Wall::from_secs(1_795_000_000)).unwrap()
}

/// A server that runs until it is told to end.
struct Serving {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Serving {
    async fn on(address: SocketAddr, store: Arc<StateServer>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(async move {
            grpc::serve(listener, store, &secret(), async { _ = stopped.await }).await.unwrap();
        });
        Self { address, stop, ended }
    }

    async fn new(store: Arc<StateServer>) -> Self {
        Self::on(([127, 0, 0, 1], 0).into(), store).await
    }

    fn client(&self) -> RemoteStore {
        client(self.address, &secret())
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.ended).await.expect("the server does not end").unwrap();
    }
}

fn client(address: SocketAddr, secret: &Secret) -> RemoteStore {
    RemoteStore::new(&format!("http://{address}"), secret).unwrap()
}

/// Asks for everything that can be asked for, and gives the errors.
async fn every_question(store: &RemoteStore) -> Vec<Option<StoreError>> {
    let command = Command { ops: vec![put(Key::Call(call(1)), Revision::ZERO, vec![1])] };
    let address = ClientAddr::new("192.0.2.1:9".parse().unwrap());
    vec![
        store.commit(command).await.err(),
        store.load(call(1)).await.err(),
        store.restore(&BucketSet::all()).await.err(),
        store.watch(&BucketSet::all(), Revision(1)).await.err(),
        store.find_client(Transport::Udp, address).await.err(),
        store.loads().await.err(),
    ]
}

async fn next(watch: &mut Watch) -> Option<Result<tandem_state_client::Event, StoreError>> {
    timeout(PATIENCE, watch.next()).await.expect("nothing came")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_have_the_secret_gets_nothing_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let serving = Serving::new(Arc::clone(&store)).await;
    for wrong in [vec![], vec![8; 32], vec![7; 31], vec![7; 33]] {
        let stranger = client(serving.address, &Secret::new(wrong));
        assert_eq!(every_question(&stranger).await, vec![Some(StoreError::Unauthorized); 6]);
    }
    assert!(store.restore(&BucketSet::all()).await.unwrap().entries.is_empty());
    // The right one is heard: all but the watch, whose revision is not kept.
    let heard = every_question(&serving.client()).await;
    assert_eq!(heard, [None, None, None, Some(StoreError::Compacted), None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_away_at_once() {
    // A port that is ours, and on which we do not listen.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    let remote = client(address, &secret());
    let errors = timeout(limits::CONNECT_TIMEOUT, every_question(&remote)).await.expect("it waited");
    assert!(errors.iter().all(|error| error.as_ref().is_some_and(StoreError::is_away)), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_away_when_the_time_for_an_answer_is_over() {
    // The system accepts for it; it says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = client(listener.local_addr().unwrap(), &secret());
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let remote = remote.clone();
            tokio::spawn(async move { remote.load(call(1)).await })
        })
        .collect();
    let late = limits::ANSWER_TIMEOUT + Duration::from_secs(1);
    timeout(late, async {
        for asked in asking {
            assert!(asked.await.unwrap().is_err_and(|error| error.is_away()));
        }
    })
    .await
    .expect("it waited for longer than an answer may take");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_told_that_the_server_ends_and_goes_on_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let serving = Serving::new(Arc::clone(&store)).await;
    let remote = serving.client();
    let address = serving.address;
    let at = remote.restore(&BucketSet::all()).await.unwrap().revision;
    let mut watch = remote.watch(&BucketSet::all(), at).await.unwrap();
    let first = remote.commit(Command { ops: vec![put(Key::Call(call(1)), Revision::ZERO, vec![1])] }).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().unwrap().revision, first);
    serving.stop().await;
    assert!(next(&mut watch).await.unwrap().is_err_and(|error| error.is_away()));
    assert_eq!(next(&mut watch).await, None);
    let resume = watch.reached();
    assert_eq!(resume, first);
    let errors = every_question(&remote).await;
    assert!(errors.iter().all(|error| error.as_ref().is_some_and(StoreError::is_away)), "{errors:?}");
    // Meanwhile others write; then it is there again, and the same client finds it.
    let second = store.commit(Command { ops: vec![put(Key::Call(call(2)), Revision::ZERO, vec![2])] }).await.unwrap();
    let serving = Serving::on(address, store).await;
    let mut watch = timeout(PATIENCE, async {
        loop {
            match remote.watch(&BucketSet::all(), resume).await {
                Err(error) if error.is_away() => tokio::task::yield_now().await,
                watch => break watch.unwrap(),
            }
        }
    })
    .await
    .expect("the client does not come back");
    assert_eq!(next(&mut watch).await.unwrap().unwrap().revision, second);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_larger_than_a_message_cross_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let serving = Serving::new(Arc::clone(&store)).await;
    // One call of 5 MiB, and 11 MiB beside it.
    let one = call(7);
    for n in 0..20_u16 {
        let keys = (1..=16).map(|leg| Key::Attachment(one, LegId::new(16 * n + leg).unwrap()));
        let value = |key: &Key| vec![key.bucket().unwrap().0 as u8; 16 << 10];
        store.commit(Command { ops: keys.map(|key| put(key, Revision::ZERO, value(&key))).collect() }).await.unwrap();
    }
    for n in 0..700 {
        let op = put(Key::Call(call(1_000 + n)), Revision::ZERO, vec![n as u8; 16 << 10]);
        store.commit(Command { ops: vec![op] }).await.unwrap();
    }
    let remote = serving.client();
    let all = BucketSet::all();
    assert_eq!(remote.load(one).await.unwrap(), store.load(one).await.unwrap());
    assert_eq!(remote.load(one).await.unwrap().entries.len(), 320);
    assert_eq!(remote.restore(&all).await.unwrap(), store.restore(&all).await.unwrap());
    assert_eq!(remote.restore(&all).await.unwrap().entries.len(), 1_020);
    // And the largest command there is.
    let keys = (1..=16).map(|n| Key::Attachment(call(9), LegId::new(n).unwrap()));
    let command = Command { ops: keys.map(|key| put(key, Revision::ZERO, vec![0xff; 16 << 10])).collect() };
    let mut watch = remote.watch(&all, store.revision()).await.unwrap();
    remote.commit(command).await.unwrap();
    for _ in 0..16 {
        assert_eq!(next(&mut watch).await.unwrap().unwrap().value.unwrap().len(), 16 << 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_too_slowly_is_cut_off_and_counted_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let serving = Serving::new(Arc::clone(&store)).await;
    let remote = serving.client();
    let at = store.revision();
    let mut slow = remote.watch(&BucketSet::all(), at).await.unwrap();
    let mut quick = remote.watch(&BucketSet::all(), at).await.unwrap();
    let (seen_by_quick, mut quick_saw) = tokio::sync::watch::channel(0_usize);
    let reading = tokio::spawn(async move {
        while *seen_by_quick.borrow() < 4_800 {
            next(&mut quick).await.unwrap().expect("who keeps up is not cut off");
            seen_by_quick.send_modify(|count| *count += 1);
        }
    });
    // 75 MiB, of which 32 are kept; the quick one is never more than 16 behind.
    let mut based_on = [Revision::ZERO; 16];
    for round in 1..=300_usize {
        let ops = (1..=16)
            .zip(based_on)
            .map(|(n, at)| put(Key::Attachment(call(3), LegId::new(n).unwrap()), at, vec![0; 16 << 10]));
        based_on = [store.commit(Command { ops: ops.collect() }).await.unwrap(); 16];
        let behind = quick_saw.wait_for(|count| count + 16 * 64 >= 16 * round);
        timeout(PATIENCE, behind).await.expect("the quick one hangs").unwrap();
    }
    reading.await.unwrap();
    let mut seen = 0;
    let end = loop {
        match next(&mut slow).await {
            Some(Ok(_)) => seen += 1,
            end => break end,
        }
    };
    assert_eq!(end, Some(Err(StoreError::Compacted)));
    // What it saw before is what lay on the way to it.
    assert!(seen < 2_000, "{seen}");
    assert_eq!(store.counters().compacted.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// Reads until the other side closes.
async fn closed(stream: &mut TcpStream) {
    let mut buffer = [0; 1_024];
    timeout(PATIENCE, async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} })
        .await
        .expect("the connection stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_every_place_without_a_word_keeps_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::new(store(&folder)).await;
    let mut idle = Vec::new();
    for n in 0..limits::CONNECTIONS {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        if n % 2 == 0 {
            // Half of what would say that it is HTTP/2.
            stream.write_all(b"PRI * HTTP/2").await.unwrap();
        }
        idle.push(stream);
    }
    let mut over = TcpStream::connect(serving.address).await.unwrap();
    closed(&mut over).await;
    for stream in &mut idle {
        closed(stream).await;
    }
    timeout(PATIENCE, async {
        while serving.client().restore(&BucketSet::all()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the places did not come back");
}

fn several(addresses: &[SocketAddr]) -> RemoteStore {
    let endpoints: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    RemoteStore::of_several(&endpoints, &secret()).unwrap()
}

fn command(n: u128) -> Command {
    Command { ops: vec![put(Key::Call(call(n)), Revision::ZERO, vec![1])] }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_of_two_servers_is_not_there_the_other_is_asked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::new(store(&folder)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let gone = socket.local_addr().unwrap();
    // A command that was never sent too: whichever is asked first.
    for (n, addresses) in [[gone, serving.address], [serving.address, gone]].iter().enumerate() {
        let remote = several(addresses);
        timeout(limits::CONNECT_TIMEOUT, remote.commit(command(n as u128 + 1))).await.expect("it waited").unwrap();
        let errors = timeout(limits::CONNECT_TIMEOUT, every_question(&several(addresses))).await.expect("it waited");
        let key = Key::Call(call(1));
        assert_eq!(errors, [Some(StoreError::Stale { key }), None, None, Some(StoreError::Compacted), None, None]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_holds_up_a_question_once_and_a_command_is_never_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let serving = Serving::new(Arc::clone(&store)).await;
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [hung.local_addr().unwrap(), serving.address];
    let remote = several(&addresses);
    let late = limits::ANSWER_TIMEOUT + Duration::from_millis(500);
    assert!(timeout(late, remote.load(call(1))).await.expect("it hangs").is_ok());
    // From now on it is not asked.
    timeout(Duration::from_millis(500), remote.load(call(1))).await.expect("it hangs").unwrap();
    let remote = several(&addresses);
    let put_off = timeout(late, remote.commit(command(1))).await.expect("it hangs");
    assert!(put_off.is_err_and(|error| error.is_away()), "what the first did with it is not known");
    assert!(store.restore(&BucketSet::all()).await.unwrap().entries.is_empty());
    timeout(Duration::from_millis(500), remote.commit(command(1))).await.expect("it hangs").unwrap();
}

/// Slow, and not dead: what is answered within [`limits::ANSWER_TIMEOUT`] is waited for, and what is not is asked elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow_is_waited_for_and_one_that_is_too_slow_is_left_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let serving = [Serving::new(Arc::clone(&store)).await, Serving::new(Arc::clone(&store)).await];
    let proxy = Proxy::to(serving[0].address).await;
    let remote = several(&[proxy.address, serving[1].address]);
    remote.commit(command(1)).await.unwrap();
    proxy.set(Network::Late(400));
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(remote.load(call(1)).await.unwrap().entries.len(), 1);
        assert!(began.elapsed() >= Duration::from_millis(400), "it is the slow one that was asked");
    }
    let began = Instant::now();
    remote.commit(command(2)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(400), "it is the slow one that was told");
    proxy.set(Network::Late(3_000));
    let late = limits::ANSWER_TIMEOUT + Duration::from_millis(500);
    let asked = timeout(late, remote.load(call(2))).await.expect("it is asked elsewhere");
    assert_eq!(asked.unwrap().entries.len(), 1);
    for n in 3..20 {
        timeout(Duration::from_millis(500), remote.commit(command(n))).await.expect("the next is quick").unwrap();
    }
    assert_eq!(store.restore(&BucketSet::all()).await.unwrap().entries.len(), 19);
}

/// A store whose answers are seven seconds old.
struct Old(Arc<StateServer>);

#[async_trait::async_trait]
impl Store for Old {
    async fn report_load(&self, reports: Reports) {
        self.0.report_load(reports).await;
    }

    async fn loads(&self) -> Result<Vec<SeenLoad>, StoreError> {
        self.0.loads().await
    }

    async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
        self.0.commit(command).await
    }

    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        self.0.load(call).await
    }

    async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        self.0.read(key).await
    }

    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        self.0.restore(buckets).await
    }

    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        self.0.watch(buckets, after).await
    }

    async fn find_client(&self, way: Transport, client: ClientAddr) -> Result<Option<AllocationRef>, StoreError> {
        self.0.find_client(way, client).await
    }

    fn age(&self) -> Duration {
        Duration::from_secs(7)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_how_old_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let current = Serving::new(Arc::clone(&store)).await;
    let fresh = current.client();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let old = client(listener.local_addr().unwrap(), &secret());
    let serving =
        tokio::spawn(
            async move { grpc::serve(listener, Arc::new(Old(store)), &secret(), std::future::pending()).await },
        );
    for (remote, age) in [(&fresh, 0), (&old, 7)] {
        let address = ClientAddr::new("192.0.2.1:9".parse().unwrap());
        remote.load(call(1)).await.unwrap();
        assert_eq!(remote.age().as_secs(), age);
        remote.restore(&BucketSet::all()).await.unwrap();
        remote.read(Key::Call(call(1))).await.unwrap();
        remote.find_client(Transport::Udp, address).await.unwrap();
        assert_eq!(remote.age().as_secs(), age);
    }
    serving.abort();
}
