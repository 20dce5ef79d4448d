//! Direct return: what a relay sends past its load balancer, and from where. Load balancer and clients are played by sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tandem_core::switch::Egress;
use tandem_core::topology::{Call, CallCommand, CallKind, Member, Standing, Table};
use tandem_net::batch::Batch;
use tandem_net::clock;
use tandem_net::socket::{Socket, Waker};
use tandem_relay::{Config, DirectError, Entrance, Relay, StartError};
use tandem_state_client::memory::MemoryStore;
use tandem_state_client::{Change, Command, Key, Op, Revision, Store};
use tandem_telemetry::registry::Metrics;
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::stun::{Class, Message, Method, Writer, attr};
use tandem_wire::ticket::{LongTermKey, TicketKey, long_term_key};
use tandem_wire::tunnel::{Cookie, Head, Probe};
use tandem_wire::units::{Mono, Span};

const POP: PopId = PopId(1);
const CALL: CallId = CallId::new(POP, BucketId(0xabcd), 9);
const REALM: &str = "tndm";
const CHANNEL: u16 = 0x4001;
const DIRECT: &str = "tandem_relay_returned_packets_total{path=\"direct\"}";
const DRAINED: &str = "tandem_relay_dropped_packets_total{cause=\"drained\"}";

/// Longer than anything here takes on a busy machine.
fn is_late(since: Mono) -> bool {
    clock::now().mono.since(since).as_secs() > 20
}

fn config(id: u16, direct: &[SocketAddr]) -> Config {
    Config {
        entrance: Entrance::Tunnel { listen: "127.0.0.1:0".parse().unwrap(), direct: direct.to_vec() },
        pop: POP,
        relay: RelayId(id),
        realm: REALM.to_owned(),
        pop_secret: Secret::new(vec![1; 32]),
        ticket_keys: vec![(0, Secret::new(vec![2; 32]))],
    }
}

/// A load balancer with two public addresses and a line to one relay at a time, and the store behind both.
struct World {
    store: Arc<MemoryStore>,
    publics: [Socket; 2],
    line: UdpSocket,
    cookie: Cookie,
    epoch: u32,
    hops: u8,
    /// The public addresses that relays are told of.
    told: Vec<SocketAddr>,
}

impl World {
    async fn new() -> Self {
        let publics = ["127.0.0.1:0"; 2].map(|at| Socket::bind_shared(at.parse().unwrap()).unwrap());
        let line = UdpSocket::bind("127.0.0.1:0").unwrap();
        line.set_nonblocking(true).unwrap();
        let store = Arc::new(MemoryStore::new(POP));
        let told = publics.iter().map(Socket::local_addr).collect();
        let world = Self { store, publics, line, cookie: Cookie::from_bits(0), epoch: 0, hops: 0, told };
        let create = CallCommand::Create { id: CALL, kind: CallKind::OneToOne, legs: 2 };
        let record = Call::apply(None, create, clock::now()).unwrap();
        world.put(Key::Call(CALL), record.to_json().unwrap()).await;
        world
    }

    async fn put(&self, key: Key, value: Vec<u8>) {
        let based_on = self.store.read(key).await.unwrap().map_or(Revision::ZERO, |entry| entry.revision);
        self.store.commit(Command { ops: vec![Op { key, based_on, change: Change::Put(value) }] }).await.unwrap();
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.publics[0].local_addr(), self.publics[1].local_addr()]
    }

    /// Starts a relay that is the only one by the next table, and speaks to that one from now on.
    async fn start(&mut self, id: u16) -> Relay {
        let relay = Relay::start(&config(id, &self.told), Arc::clone(&self.store) as Arc<dyn Store>).unwrap();
        let began = clock::now().mono;
        let entry = loop {
            if let Some(entry) = self.store.read(Key::Relay(POP, RelayId(id))).await.unwrap() {
                break Member::from_json(&entry.value).unwrap();
            }
            assert!(!is_late(began), "an entry");
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        self.line.connect(relay.local_addr()).unwrap();
        (self.cookie, self.epoch) = (entry.cookie, self.epoch + 1);
        self.table(id, &entry).await;
        relay
    }

    /// The relay has this table, and says so.
    async fn table(&self, id: u16, entry: &Member) {
        let table = Table::new(self.epoch, vec![entry.row(RelayId(id), Standing::Serving)]);
        self.put(Key::Table(POP), table.to_json().unwrap()).await;
        let began = clock::now().mono;
        let mut buffer = [0; 200];
        loop {
            let client = ClientAddr::new(self.line.local_addr().unwrap());
            let head = Head { probe: true, ..Head::to_relay(client, BucketId(0), 0, self.cookie) };
            self.line.send(&[&head.to_bytes()[..], &Probe::default().to_bytes()].concat()).unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
            while let Ok(len) = self.line.recv(&mut buffer) {
                if Head::read(&buffer[..len]).unwrap().0.epoch == self.epoch {
                    return;
                }
            }
            assert!(!is_late(began), "the table");
        }
    }

    /// A packet of a leg's, as the load balancer tunnels it.
    fn carry(&self, leg: &Leg, packet: &[u8]) {
        let head = Head::to_relay(leg.client(), CALL.bucket(), self.epoch, self.cookie);
        let head = Head { listener: leg.listener, hops: self.hops, ..head };
        self.line.send(&[&head.to_bytes()[..], packet].concat()).unwrap();
    }

    /// What comes for a leg next, and how.
    fn comes(&self, leg: &Leg) -> (Came, Vec<u8>) {
        let (mut buffer, began) = ([0; 2_048], clock::now().mono);
        loop {
            if let Ok(len) = self.line.recv(&mut buffer) {
                let (head, rest) = Head::read(&buffer[..len]).unwrap();
                if !head.probe {
                    assert_eq!((head.client, head.back), (leg.client(), true));
                    let came = Came::Through { listener: head.listener, proven: head.proven.then_some(head.bucket) };
                    return (came, rest.to_vec());
                }
            }
            if let Ok((len, from)) = leg.socket.recv_from(&mut buffer) {
                return (Came::From(from), buffer[..len].to_vec());
            }
            assert!(!is_late(began), "nothing comes");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// One leg says something to another: how it comes.
    fn say(&self, from: &Leg, to: &Leg) -> Came {
        let packet = [&CHANNEL.to_be_bytes()[..], &[0, 2], b"hi"].concat();
        self.carry(from, &packet);
        let (came, said) = self.comes(to);
        assert_eq!(said, packet, "each has this channel to the other");
        came
    }
}

/// How something came to its client.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Came {
    /// Through the load balancer, which is told from where, and may learn something.
    Through { listener: u8, proven: Option<BucketId> },
    /// From this address.
    From(SocketAddr),
}

/// For a client that the relay has not heard. The load balancer knows better.
const THROUGH: Came = Came::Through { listener: 0, proven: None };

const fn proven(listener: u8) -> Came {
    Came::Through { listener, proven: Some(CALL.bucket()) }
}

/// A device on one socket.
struct Leg {
    socket: UdpSocket,
    /// Which of the public addresses it speaks to.
    listener: u8,
    username: String,
    key: LongTermKey,
    nonce: Vec<u8>,
}

impl Leg {
    fn new(n: u16, listener: u8) -> Self {
        let key = TicketKey::new(0, &Secret::new(vec![2; 32])).unwrap();
        let username = key.mint(CALL, LegId::new(n).unwrap(), clock::now().wall.after(Span::from_secs(600)));
        let password = key.credential(&username);
        let key = long_term_key(username.as_bytes(), REALM.as_bytes(), password.as_bytes());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, listener, username: username.to_string(), key, nonce: Vec::new() }
    }

    fn client(&self) -> ClientAddr {
        ClientAddr::new(self.socket.local_addr().unwrap())
    }

    /// Asks: how the answer came, and whether it says yes.
    fn ask(&mut self, world: &World, method: Method, build: impl FnOnce(Writer<'_>) -> Writer<'_>) -> (Came, bool) {
        let mut buffer = [0; 500];
        let mut writer = build(Writer::new(&mut buffer, Class::Request, method, [7; 12]));
        if !self.nonce.is_empty() {
            writer = writer
                .attribute(attr::USERNAME, self.username.as_bytes())
                .attribute(attr::REALM, REALM.as_bytes())
                .attribute(attr::NONCE, &self.nonce)
                .integrity(&self.key);
        }
        let len = writer.finish().unwrap();
        world.carry(self, &buffer[..len]);
        let (came, answer) = world.comes(self);
        let message = Message::parse(&answer).unwrap();
        if let Some(nonce) = message.attributes.nonce {
            self.nonce = nonce.to_vec();
        }
        (came, message.class == Class::Success)
    }

    fn allocate(&mut self, world: &World) -> (Came, bool) {
        self.ask(world, Method::Allocate, |w| w.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]))
    }

    fn bind(&mut self, world: &World, channel: u16, peer: &str) -> (Came, bool) {
        let peer = peer.parse().unwrap();
        self.ask(world, Method::ChannelBind, |w| {
            let number = [channel.to_be_bytes(), [0, 0]].concat();
            w.attribute(attr::CHANNEL_NUMBER, &number).address(attr::XOR_PEER_ADDRESS, peer)
        })
    }
}

/// Both legs of the call, each at a public address of its own, with channels to each other.
fn pair(world: &World) -> [Leg; 2] {
    let mut legs = [Leg::new(1, 0), Leg::new(2, 1)];
    for (leg, peer) in legs.iter_mut().zip(["203.0.113.1:1026", "203.0.113.1:1025"]) {
        let listener = leg.listener;
        let public = world.told.get(usize::from(listener)).copied();
        let public = public.map_or(Came::Through { listener, proven: None }, Came::From);
        assert_eq!(leg.allocate(world), (public, false), "what asks for a proof proves nothing");
        assert_eq!(leg.allocate(world), (proven(leg.listener), true));
        assert_eq!(leg.bind(world, CHANNEL, peer), (proven(leg.listener), true));
    }
    legs
}

fn metric(relay: &Relay, name: &str) -> u64 {
    let metrics = Metrics::new();
    relay.sources().into_iter().for_each(|source| metrics.attach(source));
    let text = metrics.render();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(name).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_proves_a_client_goes_through_the_load_balancer_and_all_else_from_where_the_client_spoke_to() {
    let mut world = World::new().await;
    let relay = world.start(7).await;
    let [first, second] = world.addresses().map(Came::From);
    let [mut alice, mut bob] = pair(&world);
    let peer = "203.0.113.1:1026".parse().unwrap();
    let permitted = alice.ask(&world, Method::CreatePermission, |w| w.address(attr::XOR_PEER_ADDRESS, peer));
    assert_eq!(permitted, (proven(0), true));
    assert_eq!(alice.ask(&world, Method::Refresh, |w| w), (proven(0), true));
    assert_eq!(bob.bind(&world, 0x3fff, "203.0.113.1:1025"), (second, false), "a refusal proves nothing");
    for _ in 0..3 {
        assert_eq!((world.say(&alice, &bob), world.say(&bob, &alice)), (second, first));
    }
    // She speaks to the other address now, and is answered from there.
    alice.listener = 1;
    assert_eq!((world.say(&alice, &bob), world.say(&bob, &alice)), (second, second));
    // And now to one that the relay was not told of.
    alice.listener = 2;
    assert_eq!(
        (world.say(&alice, &bob), world.say(&bob, &alice)),
        (second, Came::Through { listener: 2, proven: None })
    );
    // A request tells as much as media does.
    alice.listener = 0;
    assert_eq!(alice.ask(&world, Method::Refresh, |w| w), (proven(0), true));
    assert_eq!(world.say(&bob, &alice), first);
    let ends = alice.ask(&world, Method::Refresh, |w| w.attribute(attr::LIFETIME, &[0; 4]));
    assert_eq!(ends, (first, true), "who ends an allocation has none");
    let began = clock::now().mono;
    while metric(&relay, DIRECT) < 14 {
        assert!(!is_late(began), "they are counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_takes_over_answers_through_the_load_balancer_until_it_has_heard_the_client() {
    let mut world = World::new().await;
    let _before = world.start(7).await;
    let [alice, bob] = pair(&world);
    let [first, second] = world.addresses().map(Came::From);
    // Beside the first one, which has both addresses too.
    let _relay = world.start(8).await;
    assert_eq!((world.say(&alice, &bob), world.say(&alice, &bob)), (THROUGH, THROUGH));
    assert_eq!((world.say(&bob, &alice), world.say(&alice, &bob)), (first, second));
    // Others may have heard them in the meantime: by the next table, all is as it was.
    world.epoch += 1;
    let late = Came::Through { listener: 1, proven: None };
    assert_eq!((world.say(&alice, &bob), world.say(&bob, &alice)), (late, first));
    assert_eq!(world.say(&alice, &bob), second);
    // A packet that another relay passes on bears the number that the load balancer gave it.
    let _third = world.start(9).await;
    world.hops = 1;
    // It must know its load balancer, as it does by being probed.
    assert_eq!((world.say(&alice, &bob), world.say(&bob, &alice)), (THROUGH, first));
    assert_eq!(world.say(&alice, &bob), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_public_addresses_all_goes_through_the_load_balancer_which_is_told_from_where_to_answer() {
    let mut world = World::new().await;
    world.told.clear();
    let _relay = world.start(7).await;
    let [mut alice, mut bob] = pair(&world);
    let through = |listener| Came::Through { listener, proven: None };
    assert_eq!(bob.bind(&world, 0x3fff, "203.0.113.1:1025"), (through(1), false));
    assert_eq!(alice.ask(&world, Method::Refresh, |w| w), (proven(0), true));
    assert_eq!((world.say(&alice, &bob), world.say(&bob, &alice)), (through(1), through(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_come_and_go_beside_a_load_balancer_and_take_no_packet_from_it() {
    let world = World::new().await;
    let [address, _] = world.addresses();
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, so_far) = (Arc::clone(&stop), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&so_far);
    // Many, whom the kernel would share out among those that have the address.
    let clients = std::thread::spawn(move || {
        let clients: Vec<UdpSocket> = (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        clients.iter().for_each(|client| client.connect(address).unwrap());
        let mut sent = 0_u64;
        while !stopped.load(Ordering::SeqCst) {
            clients.iter().for_each(|client| assert!(client.send(b"packet").is_ok()));
            sent += clients.len() as u64;
            count.store(sent, Ordering::SeqCst);
            std::thread::sleep(Duration::from_micros(500));
        }
        sent
    });
    let heard_stop = Arc::new(AtomicBool::new(false));
    let (listener, until) = (world.publics, Arc::clone(&heard_stop));
    let balancer = std::thread::spawn(move || {
        let [public, other] = listener;
        let (mut batch, waker) = (Batch::new(&public), Waker::new().unwrap());
        while !until.load(Ordering::SeqCst) || batch.receive(&public) > 0 {
            batch.for_each(|_, _| None::<Egress>);
            if batch.receive(&public) == 0 {
                public.wait(&waker, Some(Duration::from_millis(5))).unwrap();
            }
        }
        drop(other);
        batch.counters.received.get()
    });
    let addresses = [address];
    // At least 25, and as many as come while a thousand packets do.
    for id in (1..).take_while(|id| *id <= 25 || so_far.load(Ordering::SeqCst) <= 1_000) {
        let relay = Relay::start(&config(id, &addresses), Arc::clone(&world.store) as Arc<dyn Store>).unwrap();
        assert!(relay.ready().await);
        assert_eq!(metric(&relay, DRAINED), 0);
    }
    stop.store(true, Ordering::SeqCst);
    let sent = clients.join().unwrap();
    heard_stop.store(true, Ordering::SeqCst);
    assert_eq!((balancer.join().unwrap(), sent > 1_000), (sent, true));
}

#[tokio::test]
async fn a_relay_that_cannot_have_its_public_addresses_does_not_start() {
    let start = |direct: &[SocketAddr]| {
        Relay::start(&config(7, direct), Arc::new(MemoryStore::new(POP)) as Arc<dyn Store>).map(|_| ())
    };
    let foreign = "192.0.2.1:3478".parse().unwrap();
    assert!(matches!(start(&[foreign]), Err(StartError::BindDirect(_))));
    let wildcard = "0.0.0.0:3478".parse().unwrap();
    assert!(matches!(start(&[wildcard]), Err(StartError::Direct(DirectError::NotPublic(0)))));
    // Somebody has it who does not share it.
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(matches!(start(&[taken.local_addr().unwrap()]), Err(StartError::BindDirect(_))));
}
