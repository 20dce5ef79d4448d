//! A load balancer with its sockets, against relays that are sockets of this test: they echo probes, say what reached them, and
//! die as they are told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tandem_core::steering::Rows;
use tandem_core::topology::{Allocation, Attachment, Incarnation, Member, Row, Standing, Table, Transport};
use tandem_lb::{Config, Lb};
use tandem_net::clock;
use tandem_state_client::memory::MemoryStore;
use tandem_state_client::{Change, Command, Key, Op, Revision, Store as _};
use tandem_telemetry::registry::Metrics;
use tandem_wire::id::{AllocationId, BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::stun::{Class, Method, Writer, attr};
use tandem_wire::ticket::TicketKey;
use tandem_wire::tunnel::{Cookie, Head, Probe};
use tandem_wire::units::{Mono, Wall};

const POP: PopId = PopId(1);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const MEDIA: &[u8] = &[0x40, 0, 0, 4, 1, 2, 3, 4];

/// A relay: a socket whose thread echoes probes and hands everything else out.
struct Relay {
    row: Row,
    mute: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    socket: Option<UdpSocket>,
    got: mpsc::Receiver<(Head, Vec<u8>, SocketAddr)>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn start(id: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let incarnation = Incarnation(u64::from(id) + 10);
        let member = Member::starting(incarnation, Cookie::from_bits(u64::from(id) << 8), socket.local_addr().unwrap());
        let row = member.row(RelayId(id), Standing::Serving);
        let (mute, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (sender, got) = mpsc::channel();
        let (ours, muted, stopped, cookie) =
            (socket.try_clone().unwrap(), Arc::clone(&mute), Arc::clone(&stop), row.cookie);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while !stopped.load(Ordering::SeqCst) {
                let Ok((len, from)) = ours.recv_from(&mut buffer) else { continue };
                let (head, rest) = Head::read(&buffer[..len]).unwrap();
                assert_eq!((head.cookie, head.back), (cookie, false));
                if muted.load(Ordering::SeqCst) {
                    continue;
                }
                if head.probe {
                    let probe = Probe { incarnation: incarnation.0, load: 100, ..Probe::read(rest).unwrap() };
                    let head = Head { back: true, ..head };
                    let _ = ours.send_to(&[&head.to_bytes()[..], &probe.to_bytes()].concat(), from);
                } else {
                    let _ = sender.send((head, rest.to_vec(), from));
                }
            }
        });
        Self { row, mute, stop, socket: Some(socket), got, thread: Some(thread) }
    }

    /// Its process is gone: the port is closed.
    fn kill(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.socket = None;
    }

    fn next(&self) -> (Head, Vec<u8>, SocketAddr) {
        self.got.recv_timeout(PATIENCE).expect("a packet")
    }

    /// Sends to the client of a head, by the line that it came on.
    fn answer(&self, head: &Head, line: SocketAddr, bytes: &[u8]) {
        let head = Head { back: true, acting: false, ..*head };
        self.socket.as_ref().unwrap().send_to(&[&head.to_bytes()[..], bytes].concat(), line).unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A PoP: store, relays, load balancer.
struct Pop {
    store: Arc<MemoryStore>,
    table_at: Revision,
    table: Table,
    relays: Vec<Relay>,
    lb: Option<Lb>,
    listen: SocketAddr,
    metrics: Arc<Metrics>,
}

impl Pop {
    async fn start(relays: u16) -> Self {
        let relays: Vec<Relay> = (1..=relays).map(Relay::start).collect();
        let store = Arc::new(MemoryStore::new(POP));
        let table = Table::new(1, relays.iter().map(|relay| relay.row.clone()).collect());
        let listen = "127.0.0.1:0".parse().unwrap();
        let metrics = Metrics::new();
        let mut pop = Self { store, table_at: Revision::ZERO, table, relays, lb: None, listen, metrics };
        pop.write_table().await;
        pop.start_lb().await;
        pop
    }

    /// Starts another load balancer at the same address.
    async fn start_lb(&mut self) -> Option<Lb> {
        let config = Config { listen: vec![self.listen], pop: POP };
        let lb = Lb::start(&config, Arc::clone(&self.store) as Arc<_>).unwrap();
        self.listen = lb.ready().await.unwrap().unwrap()[0];
        self.metrics = Metrics::new();
        for source in lb.sources() {
            self.metrics.attach(source);
        }
        self.lb.replace(lb)
    }

    async fn write_table(&mut self) {
        let value = Change::Put(self.table.to_json().unwrap());
        let op = Op { key: Key::Table(POP), based_on: self.table_at, change: value };
        self.table_at = self.store.commit(Command { ops: vec![op] }).await.unwrap();
    }

    /// The next epoch of the same table.
    async fn next_table(&mut self) {
        self.table.epoch += 1;
        self.write_table().await;
        let epoch = self.table.epoch;
        self.until("the table has arrived", async |pop| pop.locate(0).await.epoch == epoch).await;
    }

    async fn locate(&self, bucket: u16) -> tandem_core::steering::Location {
        self.lb.as_ref().unwrap().asker().locate(BucketId(bucket)).await.unwrap()
    }

    async fn until(&self, what: &str, is: impl AsyncFn(&Self) -> bool) {
        let began = clock::now().mono;
        while !is(self).await {
            assert!(elapsed(began) < PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until all relays are up.
    async fn all_up(&self) {
        let up = async |pop: &Self| {
            let location = pop.locate(0).await;
            location.relays.iter().all(|relay| relay.state == tandem_core::steering::State::Up)
        };
        self.until("all relays are up", up).await;
    }

    /// A bucket whose primary and secondary are these relays.
    fn bucket(&self, primary: u16, secondary: u16) -> u16 {
        let rows = Rows::of(&self.table);
        let is = |place: Option<tandem_core::steering::Place>, id| {
            place.is_some_and(|place| self.table.relays[usize::from(place.0)].id == RelayId(id))
        };
        (0..=u16::MAX)
            .find(|bucket| {
                is(rows.primary(BucketId(*bucket)), primary) && is(rows.secondary(BucketId(*bucket)), secondary)
            })
            .unwrap()
    }

    fn relay(&self, id: u16) -> &Relay {
        &self.relays[usize::from(id) - 1]
    }

    fn client(&self) -> UdpSocket {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(self.listen).unwrap();
        client
    }

    /// The value of a metric; published every 100 ms.
    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    }

    async fn counts(&self, name: &str, at_least: u64) {
        self.until(name, async |pop| pop.metric(name) >= at_least).await;
    }

    /// The store says that a leg of a call in this bucket is attached at a client's address.
    async fn attach(&self, bucket: u16, client: &UdpSocket) {
        let call = CallId::new(POP, BucketId(bucket), 9);
        let mut record = Attachment::empty(RelayId(1));
        let client = ClientAddr::new(client.local_addr().unwrap());
        let a = AllocationId::new(1).unwrap();
        record.allocations.push(Allocation { a, transport: Transport::Udp, client, channels: Vec::new() });
        let change = Change::Put(record.to_json().unwrap());
        let op = Op { key: Key::Attachment(call, LegId::new(1).unwrap()), based_on: Revision::ZERO, change };
        self.store.commit(Command { ops: vec![op] }).await.unwrap();
    }
}

/// A Refresh of a leg of a call in this bucket.
fn ticket(bucket: u16) -> Vec<u8> {
    let key = TicketKey::new(0, &Secret::new(vec![7; 32])).unwrap();
    let call = CallId::new(POP, BucketId(bucket), 9);
    let name = key.mint(call, LegId::new(1).unwrap(), Wall::from_secs(9));
    let mut buffer = [0; 200];
    let writer = Writer::new(&mut buffer, Class::Request, Method::Refresh, [7; 12]);
    let len = writer.attribute(attr::USERNAME, name.as_bytes()).finish().unwrap();
    buffer[..len].to_vec()
}

fn elapsed(began: Mono) -> Duration {
    clock::now().mono.since(began).to_std()
}

/// Sends until a relay gets it; gives the head, and how long it took.
fn send_until(client: &UdpSocket, packet: &[u8], relay: &Relay) -> (Head, Duration) {
    let began = clock::now().mono;
    loop {
        client.send(packet).unwrap();
        if let Ok((head, bytes, _)) = relay.got.recv_timeout(Duration::from_millis(2))
            && bytes == packet
        {
            return (head, elapsed(began));
        }
        assert!(elapsed(began) < PATIENCE, "it never comes");
    }
}

fn received(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2_048];
    let len = client.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_goes_to_the_relay_of_its_bucket_and_what_that_answers_to_its_client() {
    let pop = Pop::start(3).await;
    pop.all_up().await;
    let (client, bucket) = (pop.client(), pop.bucket(2, 3));
    client.send(MEDIA).unwrap();
    client.send(&ticket(bucket)).unwrap();
    let (head, bytes, line) = pop.relay(2).next();
    assert_eq!(bytes, ticket(bucket), "the media before it was nobody's");
    let from = ClientAddr::new(client.local_addr().unwrap());
    assert_eq!(head, Head::to_relay(from, BucketId(bucket), 1, pop.relay(2).row.cookie));
    // Only who has proved itself is known by its address.
    pop.relay(2).answer(&head, line, b"not proven");
    assert_eq!(received(&client), b"not proven");
    client.send(MEDIA).unwrap();
    pop.counts("tandem_lb_dropped_packets_total{cause=\"unknown_source\"}", 2).await;
    pop.relay(2).answer(&Head { proven: true, ..head }, line, b"proven");
    assert_eq!(received(&client), b"proven");
    client.send(&[MEDIA, MEDIA].concat()).unwrap();
    let (head, bytes, _) = pop.relay(2).next();
    assert_eq!((bytes, head.bucket), ([MEDIA, MEDIA].concat(), BucketId(bucket)));
    pop.counts("tandem_lb_flows", 1).await;
    assert_eq!((pop.metric("tandem_lb_flows"), pop.metric("tandem_lb_packet_panics_total")), (1, 0));
    let location = pop.locate(bucket).await;
    assert_eq!((location.primary, location.now, location.acting), (Some(RelayId(2)), Some(RelayId(2)), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_relay_is_killed_its_secondary_gets_the_next_packets_and_acts() {
    let mut pop = Pop::start(3).await;
    pop.all_up().await;
    let (client, bucket) = (pop.client(), pop.bucket(2, 3));
    pop.attach(bucket, &client).await;
    send_until(&client, MEDIA, pop.relay(2));
    pop.relays[1].kill();
    let (head, took) = send_until(&client, MEDIA, pop.relay(3));
    assert!(head.acting && head.bucket == BucketId(bucket) && head.epoch == 1);
    pop.counts("tandem_lb_failovers_total{cause=\"refused\"}", 1).await;
    assert_eq!(pop.metric("tandem_lb_failovers_total{cause=\"silent\"}"), 0);
    // Silence alone would have taken 100 ms. What this machine adds is not the load balancer's.
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (head, _) = send_until(&client, &ticket(pop.bucket(1, 2)), pop.relay(1));
    assert!(!head.acting, "nobody else moves");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_relay_falls_silent_its_secondary_acts_until_the_next_table() {
    let mut pop = Pop::start(3).await;
    pop.all_up().await;
    let (client, bucket) = (pop.client(), pop.bucket(2, 3));
    pop.relay(2).mute.store(true, Ordering::SeqCst);
    assert!(send_until(&client, &ticket(bucket), pop.relay(3)).0.acting);
    pop.counts("tandem_lb_failovers_total{cause=\"silent\"}", 1).await;
    // It is there again, and stays down.
    pop.relay(2).mute.store(false, Ordering::SeqCst);
    let echoes = pop.metric("tandem_lb_echoes_total");
    pop.counts("tandem_lb_echoes_total", echoes + 100).await;
    assert_eq!(pop.metric("tandem_lb_relays{state=\"down\"}"), 1);
    assert!(send_until(&client, &ticket(bucket), pop.relay(3)).0.acting);
    pop.next_table().await;
    pop.all_up().await;
    let (head, _) = send_until(&client, &ticket(bucket), pop.relay(2));
    assert_eq!((head.acting, head.epoch), (false, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_that_is_killed_is_replaced_by_one_that_knows_as_much() {
    let mut pop = Pop::start(3).await;
    pop.all_up().await;
    let (client, bucket) = (pop.client(), pop.bucket(2, 3));
    pop.attach(bucket, &client).await;
    send_until(&client, MEDIA, pop.relay(2));
    drop(pop.lb.take());
    pop.start_lb().await;
    client.send(MEDIA).unwrap();
    let (head, _, line) = pop.relay(2).next();
    assert!(!head.acting, "from the first packet on");
    pop.relay(2).answer(&head, line, b"back");
    assert_eq!(received(&client), b"back");
    // The store is away: what was read stays good. A leg that is detached meanwhile is told of later.
    pop.store.set_away(true);
    send_until(&client, MEDIA, pop.relay(2));
    pop.counts("tandem_lb_flows", 1).await;
    pop.store.set_away(false);
    let key = Key::Attachment(CallId::new(POP, BucketId(bucket), 9), LegId::new(1).unwrap());
    let at = pop.store.load(key.call().unwrap()).await.unwrap().entries[0].revision;
    pop.store.commit(Command { ops: vec![Op { key, based_on: at, change: Change::Delete }] }).await.unwrap();
    pop.until("the flow is gone", async |pop| pop.metric("tandem_lb_flows") == 0).await;
    assert_eq!((pop.metric("tandem_lb_claims"), pop.metric("tandem_lb_flows_indexed")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_load_balancer_that_is_replaced_as_planned_no_packet_is_lost() {
    let mut pop = Pop::start(2).await;
    pop.all_up().await;
    let bucket = pop.bucket(1, 2);
    let clients: Vec<UdpSocket> = (0..8).map(|_| pop.client()).collect();
    let (stop, packet) = (Arc::new(AtomicBool::new(false)), ticket(bucket));
    let sender = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut sent = 0_u32;
            while !stop.load(Ordering::SeqCst) {
                clients[sent as usize % clients.len()].send(&packet).unwrap();
                sent += 1;
                std::thread::sleep(Duration::from_micros(500));
            }
            sent
        }
    });
    for _ in 0..3 {
        let old = pop.start_lb().await.unwrap();
        old.close().await;
    }
    stop.store(true, Ordering::SeqCst);
    let sent = sender.join().unwrap();
    for n in 0..sent {
        assert!(pop.relay(1).got.recv_timeout(PATIENCE).is_ok(), "{n} of {sent} came");
    }
    assert!(sent > 300, "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pretends_to_come_from_the_tunnel_is_dropped_on_both_sides() {
    let pop = Pop::start(2).await;
    pop.all_up().await;
    let (client, bucket) = (pop.client(), pop.bucket(1, 2));
    client.send(&ticket(bucket)).unwrap();
    let (head, _, line) = pop.relay(1).next();
    // From outside, to the public address: a client's packet of no protocol of ours.
    let forged = Head { back: true, proven: true, ..head };
    client.send(&[&forged.to_bytes()[..], MEDIA].concat()).unwrap();
    pop.counts("tandem_lb_dropped_packets_total{cause=\"not_ours\"}", 1).await;
    // From somebody who is not the relay, to its line: a connected socket does not even hear it.
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.send_to(&[&forged.to_bytes()[..], b"forged"].concat(), line).unwrap();
    // From the relay's address, with another cookie.
    pop.relay(1).answer(&Head { cookie: Cookie::from_bits(1), proven: true, ..head }, line, b"forged");
    pop.counts("tandem_lb_dropped_packets_total{cause=\"wrong_cookie\"}", 1).await;
    pop.relay(1).answer(&head, line, b"right");
    assert_eq!(received(&client), b"right");
    // A relay's own address is no client's.
    for (relay, packet) in [(1, ticket(bucket)), (2, ticket(bucket))] {
        let socket = pop.relay(relay).socket.as_ref().unwrap();
        socket.send_to(&packet, pop.listen).unwrap();
    }
    pop.counts("tandem_lb_dropped_packets_total{cause=\"our_own_source\"}", 2).await;
    assert_eq!(pop.metric("tandem_lb_flows"), 0);
    assert!(pop.relay(1).got.try_recv().is_err() && pop.relay(2).got.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_packet_that_fits_goes_both_ways_and_a_longer_one_is_counted() {
    let pop = Pop::start(1).await;
    pop.all_up().await;
    let client = pop.client();
    pop.attach(5, &client).await;
    pop.until("the flow is known", async |pop| pop.metric("tandem_lb_flows") == 1).await;
    let longest = tandem_net::batch::DATAGRAM_MAX - tandem_wire::tunnel::HEAD_LEN;
    let packet = |len: usize| [&[0x40, 0][..], &vec![7; len - 2]].concat();
    client.send(&packet(longest + 1)).unwrap();
    client.send(&packet(longest)).unwrap();
    let (head, bytes, line) = pop.relay(1).next();
    assert_eq!(bytes, packet(longest));
    pop.relay(1).answer(&head, line, &bytes);
    assert_eq!(received(&client), bytes);
    pop.counts("tandem_lb_dropped_packets_total{cause=\"too_long\"}", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_random_packets_leave_nothing_and_stop_nobody() {
    let pop = Pop::start(2).await;
    pop.all_up().await;
    let noise = pop.client();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut packet = [0_u8; 64];
    for n in 0..1_000_000_usize {
        for chunk in packet.chunks_mut(8) {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            chunk.copy_from_slice(&dice.to_le_bytes());
        }
        if n % 2 == 0 {
            packet[..8].copy_from_slice(&[0, 3, 0, (dice % 12 * 4) as u8, 0x21, 0x12, 0xa4, 0x42]);
        }
        // The kernel drops what we are too slow for, and that is well.
        let _ = noise.send(&packet[..(dice >> 32) as usize % 64]);
    }
    let (client, bucket) = (pop.client(), pop.bucket(1, 2));
    assert!(!send_until(&client, &ticket(bucket), pop.relay(1)).0.acting);
    pop.counts("tandem_lb_forwarded_packets_total", 1).await;
    assert_eq!((pop.metric("tandem_lb_flows"), pop.metric("tandem_lb_packet_panics_total")), (0, 0));
    assert!(pop.metric("tandem_lb_dropped_packets_total{cause=\"malformed\"}") > 1_000);
}

#[tokio::test]
async fn a_load_balancer_that_cannot_listen_says_so() {
    let store = Arc::new(MemoryStore::new(POP));
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = |listen| Lb::start(&Config { listen, pop: POP }, Arc::clone(&store) as Arc<_>);
    assert!(start(vec![]).is_err() && start(vec![taken; 9]).is_err());
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let lb = start(vec![held.local_addr().unwrap()]).unwrap();
    // Without a table it takes no packet of anybody.
    assert!(tokio::time::timeout(Duration::from_millis(100), lb.ready()).await.is_err());
    let table = Change::Put(Table::new(1, Vec::new()).to_json().unwrap());
    let op = Op { key: Key::Table(POP), based_on: Revision::ZERO, change: table };
    store.commit(Command { ops: vec![op] }).await.unwrap();
    assert!(lb.ready().await.is_err(), "who does not share its port keeps it");
    lb.ended().await;
    assert_eq!(start(vec![taken]).unwrap().ready().await.unwrap(), Some(vec![taken]));
}

impl Pop {
    /// Every relay has registered anew, as the ones that lived through it do; the table is written as into a store of its own.
    async fn write_table_anew(&mut self, epoch: u32, relays: &[u16]) {
        let rows = relays.iter().map(|id| self.relay(*id).row.clone()).collect();
        (self.table, self.table_at) = (Table::new(epoch, rows), Revision::ZERO);
        self.write_table().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_that_runs_follows_a_store_that_was_wiped_though_its_epochs_begin_anew() {
    let mut pop = Pop::start(3).await;
    for _ in 0..4 {
        pop.next_table().await;
    }
    pop.all_up().await;
    // Wiped twice: at first the epoch is lower than ours, then it is the same as ours.
    for relays in [&[1, 2][..], &[2, 3]] {
        pop.store.wipe();
        pop.write_table_anew(1, relays).await;
        let there = relays.to_vec();
        pop.until("the new store's table is gone by", async |pop| {
            let location = pop.locate(0).await;
            location.epoch == 1 && location.relays.iter().map(|relay| relay.id.0).eq(there.iter().copied())
        })
        .await;
        pop.all_up().await;
        let bucket = pop.bucket(relays[1], relays[0]);
        let (head, _) = send_until(&pop.client(), &ticket(bucket), pop.relay(relays[1]));
        assert_eq!((head.epoch, head.acting), (1, false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_gone_back_is_followed_once_it_is_sure_that_it_means_it() {
    let mut pop = Pop::start(2).await;
    let old = pop.table_at;
    for _ in 0..3 {
        pop.next_table().await;
    }
    pop.store.put_back(old);
    let began = clock::now().mono;
    pop.until("the older table is gone by", async |pop| pop.locate(0).await.epoch == 1).await;
    assert!(elapsed(began) >= Duration::from_millis(4_900), "a state server that is behind looks the same for a while");
    // From there it goes on as ever.
    pop.table.epoch = 1;
    pop.table_at = old;
    pop.next_table().await;
    pop.all_up().await;
}
