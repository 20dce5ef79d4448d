//! A relay in a fleet: its entry in the store, its end of the tunnel, and its end. The load balancer is played by a socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tandem_core::topology::{Member, Standing, Table, Transport, Wish};
use tandem_relay::{Config, Entrance, Relay};
use tandem_state_client::memory::MemoryStore;
use tandem_state_client::{
    AllocationRef, BucketSet, Change, Command, Entry, Key, Listing, Op, Reports, Revision, SeenLoad, Store, StoreError,
    Watch, follow,
};
use tandem_wire::id::{BucketId, CallId, PopId, RelayId};
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::tunnel::{Cookie, HEAD_LEN, Head, Probe};

const POP: PopId = PopId(1);
const LONG: Duration = Duration::from_secs(10);

fn config(id: u16) -> Config {
    Config {
        entrance: Entrance::Tunnel { listen: "127.0.0.1:0".parse().unwrap(), direct: Vec::new() },
        pop: POP,
        relay: RelayId(id),
        realm: "tndm".to_owned(),
        pop_secret: Secret::new(vec![1; 32]),
        ticket_keys: vec![(0, Secret::new(vec![2; 32]))],
    }
}

struct World {
    store: Arc<MemoryStore>,
}

impl World {
    fn new() -> Self {
        Self { store: Arc::new(MemoryStore::new(POP)) }
    }

    fn start(&self, id: u16) -> Relay {
        Relay::start(&config(id), Arc::clone(&self.store) as Arc<dyn Store>).unwrap()
    }

    /// The relay's entry, as soon as it is as it should be.
    async fn entry(&self, id: u16, good: impl Fn(&Member) -> bool) -> Member {
        let mut followed = follow(Arc::clone(&self.store) as Arc<dyn Store>, BucketSet::fleet());
        let wait = async {
            loop {
                followed.recv().await.unwrap();
                let entry = self.store.read(Key::Relay(POP, RelayId(id))).await.unwrap();
                if let Some(entry) = entry.map(|entry| Member::from_json(&entry.value).unwrap())
                    && good(&entry)
                {
                    return entry;
                }
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("the entry")
    }

    async fn table(&self, epoch: u32, relays: &[(u16, &Member, Standing)]) {
        let rows = relays.iter().map(|(id, member, standing)| member.row(RelayId(*id), *standing)).collect();
        self.put(Key::Table(POP), Table::new(epoch, rows).to_json().unwrap()).await;
    }

    async fn put(&self, key: Key, value: Vec<u8>) {
        let based_on = self.store.read(key).await.unwrap().map_or(Revision::ZERO, |entry| entry.revision);
        self.store.commit(Command { ops: vec![Op { key, based_on, change: Change::Put(value) }] }).await.unwrap();
    }
}

/// A load balancer's socket to one relay.
struct Balancer(UdpSocket);

impl Balancer {
    fn to(relay: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(relay).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self(socket)
    }

    fn probe(&self, cookie: Cookie, stamp: u64) {
        let client = ClientAddr::new(self.0.local_addr().unwrap());
        let head = Head { probe: true, ..Head::to_relay(client, BucketId(0), 0, cookie) };
        let probe = Probe { stamp, ..Probe::default() };
        self.0.send(&[&head.to_bytes()[..], &probe.to_bytes()].concat()).unwrap();
    }

    fn receive(&self) -> (Head, Vec<u8>) {
        let mut buffer = [0; 2_048];
        let len = self.0.recv(&mut buffer).unwrap();
        let (head, rest) = Head::read(&buffer[..len]).unwrap();
        (head, rest.to_vec())
    }

    /// Probes until the echo is of this epoch.
    fn probe_until(&self, cookie: Cookie, epoch: u32) -> (Head, Probe) {
        for stamp in 0..2_000 {
            self.probe(cookie, stamp);
            let (head, rest) = self.receive();
            if head.epoch == epoch {
                return (head, Probe::read(&rest).unwrap());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("no echo of epoch {epoch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_enters_itself_and_echoes_probes_with_its_cookie_and_no_others() {
    let world = World::new();
    let relay = world.start(7);
    let entry = world.entry(7, |_| true).await;
    assert_eq!((entry.tunnel, entry.wish), (relay.local_addr(), Wish::Serve));
    world.table(3, &[(7, &entry, Standing::Serving)]).await;
    let balancer = Balancer::to(relay.local_addr());
    // One with another cookie draws nothing: the answer that comes first is to the second.
    balancer.probe(Cookie::from_bits(1), 1);
    balancer.probe(entry.cookie, 2);
    let (head, rest) = balancer.receive();
    let probe = Probe::read(&rest).unwrap();
    assert!(head.back && head.probe && !head.leaving && head.cookie == entry.cookie);
    assert_eq!(probe.stamp, 2);
    let (_, probe) = balancer.probe_until(entry.cookie, 3);
    assert_eq!(probe.incarnation, entry.incarnation.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_without_a_head_or_with_a_forged_one_draws_no_answer() {
    let world = World::new();
    let relay = world.start(7);
    let entry = world.entry(7, |_| true).await;
    let balancer = Balancer::to(relay.local_addr());
    // A Binding request (RFC 8489), which a relay answers to whoever asks.
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], b"transaction!"].concat();
    let client: ClientAddr = ClientAddr::new("192.0.2.9:4000".parse().unwrap());
    let head = Head::to_relay(client, BucketId(0), 0, entry.cookie);
    let forged = Head { cookie: Cookie::from_bits(2), ..head };
    let back = Head { back: true, ..head };
    balancer.0.send(&binding).unwrap();
    for head in [forged, back] {
        balancer.0.send(&[&head.to_bytes()[..], &binding].concat()).unwrap();
    }
    balancer.0.send(&[]).unwrap();
    balancer.0.send(&head.to_bytes()[..HEAD_LEN - 1]).unwrap();
    balancer.0.send(&[&head.to_bytes()[..], &binding].concat()).unwrap();
    let (head, rest) = balancer.receive();
    // The one with our cookie, and for the client that stands in its head.
    assert!(head.back && !head.proven && head.client == client);
    assert_eq!((rest.len(), &rest[..2]), (32, &[1, 1][..]));
    balancer.0.set_nonblocking(true).unwrap();
    assert!(balancer.0.recv(&mut [0; 100]).is_err(), "one answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_with_one_id_the_older_one_steps_back() {
    let world = World::new();
    let older = world.start(7);
    let first = world.entry(7, |_| true).await;
    let newer = world.start(7);
    let second = world.entry(7, |entry| entry.incarnation > first.incarnation).await;
    assert_eq!(second.tunnel, newer.local_addr());
    tokio::time::timeout(LONG, older.superseded()).await.expect("the older one");
    let superseded = tokio::time::timeout(Duration::from_millis(200), newer.superseded()).await;
    assert!(superseded.is_err(), "and not the newer one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_entry_was_removed_comes_back_as_another_run_of_itself() {
    let world = World::new();
    let relay = world.start(7);
    let first = world.entry(7, |_| true).await;
    world.table(1, &[(7, &first, Standing::Serving)]).await;
    let balancer = Balancer::to(relay.local_addr());
    let (_, probe) = balancer.probe_until(first.cookie, 1);
    assert_eq!(probe.incarnation, first.incarnation.0);
    let stored = world.store.read(Key::Relay(POP, RelayId(7))).await.unwrap().unwrap();
    let op = Op { key: stored.key, based_on: stored.revision, change: Change::Delete };
    world.store.commit(Command { ops: vec![op] }).await.unwrap();
    let second = world.entry(7, |entry| entry.incarnation > first.incarnation).await;
    assert_eq!(second.cookie, first.cookie);
    for stamp in 0.. {
        balancer.probe(second.cookie, stamp);
        if Probe::read(&balancer.receive().1).unwrap().incarnation == second.incarnation.0 {
            break;
        }
        assert!(stamp < 2_000, "echoes tell the new run");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_fills_says_when_it_is_warm() {
    let world = World::new();
    let _relay = world.start(7);
    let entry = world.entry(7, |_| true).await;
    world.table(4, &[(7, &entry, Standing::Filling)]).await;
    assert_eq!(world.entry(7, |entry| entry.warm > 0).await.warm, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_leaves_when_others_have_its_share_and_says_goodbye() {
    let world = World::new();
    let relay = world.start(7);
    let entry = world.entry(7, |_| true).await;
    world.table(1, &[(7, &entry, Standing::Serving)]).await;
    let balancer = Balancer::to(relay.local_addr());
    balancer.probe_until(entry.cookie, 1);
    let leaving = async {
        relay.leave().await;
        world.store.read(Key::Relay(POP, RelayId(7))).await.unwrap()
    };
    let others = async {
        let entry = world.entry(7, |entry| entry.wish == Wish::Drain).await;
        world.table(2, &[(7, &entry, Standing::Draining)]).await;
        // It echoes on, and says that it wants no more.
        balancer.probe_until(entry.cookie, 2).0
    };
    let (left, head) = tokio::join!(leaving, others);
    assert!(left.is_none() && head.leaving);
    drop(relay);
    let (head, rest) = balancer.receive();
    assert!(head.leaving && head.back && !head.probe);
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_leaves_though_nobody_takes_its_share() {
    let world = World::new();
    let relay = world.start(7);
    let entry = world.entry(7, |_| true).await;
    world.table(1, &[(7, &entry, Standing::Serving)]).await;
    tokio::time::timeout(LONG, relay.leave()).await.expect("it does not wait for ever");
}

/// What is told of a relay's load, as soon as it is as it should be.
async fn load_of(store: &MemoryStore, id: u16, good: impl Fn(&SeenLoad) -> bool) -> SeenLoad {
    let wait = async {
        loop {
            let loads = store.loads().await.unwrap();
            if let Some(seen) = loads.into_iter().find(|seen| seen.report.relay == RelayId(id))
                && good(&seen)
            {
                return seen;
            }
            // Nobody says when a report has come.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("the load")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_says_once_a_second_how_loaded_it_is_and_writes_nothing_of_it() {
    let world = World::new();
    let relay = world.start(7);
    let entry = world.entry(7, |_| true).await;
    world.table(3, &[(7, &entry, Standing::Serving)]).await;
    let seen = load_of(&world.store, 7, |_| true).await;
    assert_eq!((seen.report.incarnation, seen.report.epoch), (entry.incarnation, 3));
    // Every fifty milliseconds a Binding request of 20 bytes with a head before it, and one datagram of nobody's.
    let balancer = Balancer::to(relay.local_addr());
    let client = ClientAddr::new("192.0.2.9:4000".parse().unwrap());
    let head = Head::to_relay(client, BucketId(0), 3, entry.cookie).to_bytes();
    let binding = [&head[..], &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], b"transaction!"].concat();
    let talking = tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            balancer.0.send(&binding).unwrap();
            balancer.0.send(b"nobody's").unwrap();
        }
    });
    // 20 a second of each: at least half of that is seen in each second that is whole, and never thrice.
    let fair = |rate: u64, expected: u64| (expected / 2..expected * 3).contains(&rate);
    let seen = load_of(&world.store, 7, |seen| fair(seen.report.load.received_packets_per_s.into(), 40)).await;
    let load = seen.report.load;
    let bytes = 20 * (HEAD_LEN as u64 + 20 + 8);
    assert!(fair(load.received_bytes_per_s, bytes), "{load:?}");
    let answer = HEAD_LEN as u64 + 32;
    assert!(fair(load.sent_packets_per_s.into(), 20) && fair(load.sent_bytes_per_s, 20 * answer), "{load:?}");
    assert!(fair(load.dropped_packets_per_s.into(), 20), "{load:?}");
    assert!(load.cpu_permille < 1_000 && (load.calls, load.allocations) == (0, 0), "{load:?}");
    talking.abort();
    // It says it again and again; what it says is not in the store.
    let ages = async {
        for _ in 0..2 {
            load_of(&world.store, 7, |seen| seen.age > Duration::from_millis(300)).await;
            load_of(&world.store, 7, |seen| seen.age < Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), ages).await.expect("once a second");
    let fleet = world.store.restore(&BucketSet::fleet()).await.unwrap().entries;
    let keys: Vec<Key> = fleet.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, [Key::Relay(POP, RelayId(7)), Key::Table(POP)]);
    assert!(world.store.restore(&BucketSet::all()).await.unwrap().entries.is_empty());
    assert!(fleet.iter().all(|entry| !String::from_utf8_lossy(&entry.value).contains("per_s")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_started_again_is_heard_as_the_later_run_alone() {
    let world = World::new();
    let older = world.start(7);
    let first = world.entry(7, |_| true).await;
    world.table(1, &[(7, &first, Standing::Serving)]).await;
    load_of(&world.store, 7, |seen| seen.report.incarnation == first.incarnation).await;
    let _newer = world.start(7);
    let second = world.entry(7, |entry| entry.incarnation > first.incarnation).await;
    world.table(2, &[(7, &second, Standing::Serving)]).await;
    load_of(&world.store, 7, |seen| seen.report.incarnation == second.incarnation).await;
    // The older one still runs, and says what it says.
    for _ in 0..300 {
        let loads = world.store.loads().await.unwrap();
        assert!(loads.iter().all(|seen| seen.report.incarnation == second.incarnation), "{loads:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(older);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_follows_a_store_that_was_wiped_though_its_epochs_begin_anew() {
    let world = World::new();
    let relay = world.start(7);
    let first = world.entry(7, |_| true).await;
    world.table(1, &[(7, &first, Standing::Serving)]).await;
    let balancer = Balancer::to(relay.local_addr());
    balancer.probe_until(first.cookie, 1);
    world.store.wipe();
    let second = world.entry(7, |entry| entry.incarnation > first.incarnation).await;
    assert_eq!(second.warm, 0);
    // The same epoch again, of another table: it fills by it, and is warm for it.
    world.table(1, &[(7, &second, Standing::Filling), (8, &first, Standing::Serving)]).await;
    assert_eq!(world.entry(7, |entry| entry.warm > 0).await.warm, 1);
    let seen = load_of(&world.store, 7, |seen| seen.report.incarnation == second.incarnation).await;
    assert_eq!(seen.report.epoch, 1);
    let (_, probe) = balancer.probe_until(second.cookie, 1);
    assert_eq!(probe.incarnation, second.incarnation.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_writes_its_entry_into_a_store_that_has_gone_back() {
    let world = World::new();
    let _relay = world.start(7);
    let entry = world.entry(7, |_| true).await;
    let old = world.store.read(Key::Relay(POP, RelayId(7))).await.unwrap().unwrap().revision;
    let beaten = world.entry(7, |now| now.beat > entry.beat).await;
    world.store.put_back(old);
    let again = world.entry(7, |now| now.beat > beaten.beat).await;
    assert_eq!(again.incarnation, entry.incarnation, "it goes on as the run that it is");
}

/// Writes everything, and says of nothing that it was written; nor does it tell of changes.
struct Late(Arc<MemoryStore>);

#[async_trait]
impl Store for Late {
    async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
        let registers = command.ops.iter().all(|op| op.based_on == Revision::ZERO);
        let revision = self.0.commit(command).await?;
        if registers { Ok(revision) } else { Err(StoreError::Away { retry_after_ms: 1 }) }
    }
    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        self.0.load(call).await
    }
    async fn load_latest(&self, call: CallId) -> Result<Listing, StoreError> {
        self.0.load_latest(call).await
    }
    async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        self.0.read(key).await
    }
    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        self.0.restore(buckets).await
    }
    async fn watch(&self, _: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        self.0.watch(&BucketSet::none(), after).await
    }
    async fn find_client(&self, transport: Transport, client: ClientAddr) -> Result<Option<AllocationRef>, StoreError> {
        self.0.find_client(transport, client).await
    }
    async fn report_load(&self, reports: Reports) {
        self.0.report_load(reports).await;
    }
    async fn loads(&self) -> Result<Vec<SeenLoad>, StoreError> {
        self.0.loads().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_beats_on_though_no_answer_of_the_store_comes_in_time() {
    let world = World::new();
    let store: Arc<dyn Store> = Arc::new(Late(Arc::clone(&world.store)));
    let _relay = Relay::start(&config(7), store).unwrap();
    let entry = world.entry(7, |_| true).await;
    // Each is known to be written only from what the store says when the next one is refused. At the pace of beats alone
    // every second one would be refused: one in ten seconds, and a fleet takes who is silent for fifteen for gone.
    let beaten = world.entry(7, |now| now.beat > entry.beat + 4).await;
    assert_eq!(beaten.incarnation, entry.incarnation);
}
