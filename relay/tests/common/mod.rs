//! A relay without its socket, a store that misbehaves on demand, and clients: what the tests of the relay's rules share.
//!
//! Decides what holds in every test, and checks it on every datagram that is sent (see [`Relay::check`]):
//! - it answers a request that came from there and was not answered yet, or it is media for an attached address;
//! - no more datagrams have gone out than have come in;
//! - a new allocation or channel is told when the store has it, or it is counted as undurable;
//! - answers have no reason text, no SOFTWARE and no byte of anything else in their padding.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

pub(crate) mod client;
pub(crate) mod model;
pub(crate) mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tandem_core::limits::{ANSWER_LEN_MAX, HEADROOM, TAILROOM};
use tandem_core::residency::Input;
use tandem_core::switch::{Owner, Slot, Source};
use tandem_core::topology::{Call, CallCommand, CallKind, EndReason, Transport};
use tandem_core::turn::Gate;
use tandem_relay::engine::{Engine, Output, StoreEvent};
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::units::{Mono, Now, Span, Wall};

pub(crate) use client::{Client, Reply, written};
pub(crate) use model::{Part, attr, kind};
pub(crate) use store::{Echo, Mood, Store};

pub(crate) const POP: PopId = PopId(7);
pub(crate) const REALM: &[u8] = b"tndm";
pub(crate) const MINUTE: u64 = 60_000;

/// The addresses of two clients, and of somebody who belongs to no call.
pub(crate) const A: &str = "198.51.100.7:40001";
pub(crate) const B: &str = "198.51.100.8:40002";
pub(crate) const STRANGER: &str = "192.0.2.66:6666";
/// The first virtual addresses of legs 1 and 2.
pub(crate) const LEG1: &str = "203.0.113.1:1025";
pub(crate) const LEG2: &str = "203.0.113.1:1026";

pub(crate) fn secret(byte: u8) -> Secret {
    Secret::new(vec![byte; 32])
}

pub(crate) fn leg(n: u16) -> LegId {
    LegId::new(n).unwrap()
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A call id that no other number gives.
pub(crate) fn call_id(n: u32) -> CallId {
    CallId::new(POP, BucketId((n % 7) as u16), u128::from(n) << 33 | 5)
}

/// A datagram that left the relay.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn is_answer(&self) -> bool {
        model::is_stun(&self.bytes) && model::type_of(&self.bytes) & kind::SUCCESS != 0
    }
}

/// A request that wants an answer, or several that are the same.
#[derive(Debug, Default)]
struct Asked {
    times: u32,
    /// Of a ChannelBind: what it binds.
    channel: Option<(u16, SocketAddr)>,
}

/// What the relay of a test is made from. Another process of the same PoP has the same.
#[derive(Clone)]
pub(crate) struct Make {
    pub(crate) relay: u16,
    pub(crate) pop_secret: u8,
    /// Ticket keys: id, and the byte that the secret is made of.
    pub(crate) keys: Vec<(u8, u8)>,
    pub(crate) seed: u64,
}

impl Default for Make {
    fn default() -> Self {
        Self { relay: 1, pop_secret: 1, keys: vec![(0, 2)], seed: 11 }
    }
}

impl Make {
    pub(crate) fn gate(&self) -> Gate {
        let keys: Vec<(u8, Secret)> = self.keys.iter().map(|(kid, byte)| (*kid, secret(*byte))).collect();
        let keys = keys.iter().map(|(kid, key)| (*kid, key));
        Gate::new(POP, std::str::from_utf8(REALM).unwrap(), &secret(self.pop_secret), keys, self.seed).unwrap()
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(RelayId(self.relay), self.gate(), self.seed)
    }
}

/// A call, an address in it, and a channel of it.
type Told = (CallId, SocketAddr, Option<(u16, SocketAddr)>);

/// A relay, its store, and the time.
pub(crate) struct Relay {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    nanos: u64,
    /// By how many seconds its wall clock is off.
    pub(crate) wall_off: i64,
    /// What was sent since somebody last looked.
    sent: Vec<Sent>,
    /// How many datagrams came in, and how many went out.
    pub(crate) traffic: (u64, u64),
    asked: BTreeMap<(SocketAddr, u16, [u8; 12]), Asked>,
    /// Addresses that a request to allocate has come from: nothing else can have been attached.
    knocked: BTreeSet<SocketAddr>,
    /// What clients were told, so that saying it again needs no new proof.
    told: BTreeSet<Told>,
    told_from_memory: u64,
}

impl Relay {
    /// A relay that has restored from an empty store.
    pub(crate) fn new() -> Self {
        let mut relay = Self::unrestored(&Make::default());
        relay.restore();
        relay
    }

    /// A relay that has not asked its store yet.
    pub(crate) fn unrestored(make: &Make) -> Self {
        Self {
            engine: make.engine(),
            store: Store::new(),
            nanos: 5_000_000_000,
            wall_off: 0,
            sent: Vec::new(),
            traffic: (0, 0),
            asked: BTreeMap::new(),
            knocked: BTreeSet::new(),
            told: BTreeSet::new(),
            told_from_memory: 0,
        }
    }

    pub(crate) fn now(&self) -> Now {
        let since = Span::from_nanos(self.nanos);
        let wall = Wall::from_secs(1_795_521_600_u64.saturating_add_signed(self.wall_off)).after(since);
        Now { mono: Mono::default().after(since), wall }
    }

    /// Signaling makes a call of so many legs.
    pub(crate) fn create(&mut self, n: u32, legs: u16) -> CallId {
        let (id, kind) = (call_id(n), if legs > 2 { CallKind::Group } else { CallKind::OneToOne });
        let record = Call::apply(None, CallCommand::Create { id, kind, legs }, self.now()).unwrap();
        self.put_call(id, &record);
        id
    }

    fn put_call(&mut self, call: CallId, record: &Call) {
        let change = self.store.put_call(call, record);
        self.follow(change);
    }

    pub(crate) fn end(&mut self, call: CallId) {
        let (record, _) = self.store.call(call).unwrap();
        let ended = Call::apply(Some(&record), CallCommand::End { reason: EndReason::Hangup }, self.now()).unwrap();
        self.put_call(call, &ended);
    }

    /// Somebody leaves the call, or is made to.
    pub(crate) fn leave(&mut self, call: CallId, leg: u16) {
        let (mut record, _) = self.store.call(call).unwrap();
        let now = self.now().wall;
        record.legs.iter_mut().filter(|l| l.n.get() == leg).for_each(|l| l.left = Some(now));
        self.put_call(call, &record);
    }

    /// Tells the relay what its store says. A store that is away says nothing.
    pub(crate) fn follow(&mut self, change: StoreEvent) {
        if self.store.mood != Mood::Away {
            self.tell(change);
        }
    }

    /// Tells the relay this, whatever the store's mood is.
    pub(crate) fn tell(&mut self, event: StoreEvent) {
        self.engine.store(self.now(), event);
        self.settle(None);
    }

    /// The same; what is sent because of it.
    pub(crate) fn told(&mut self, event: StoreEvent) -> Vec<Sent> {
        self.sent.clear();
        self.tell(event);
        std::mem::take(&mut self.sent)
    }

    /// Lists everything that the store has, as a relay hears it when it starts or has lost its place.
    pub(crate) fn restore(&mut self) {
        self.tell(Input::RestoreBegan);
        for call in self.store.call_ids() {
            let snapshot = self.store.snapshot(call);
            self.tell(Input::Loaded { call, snapshot });
        }
        self.tell(Input::Restored);
    }

    /// The process is killed; another one takes its place, with an empty memory. It restores when it is told to.
    pub(crate) fn replace(&mut self, make: &Make) {
        self.engine = make.engine();
        self.store.orphan();
        self.asked.clear();
        self.told.clear();
        self.told_from_memory = 0;
        self.sent.clear();
    }

    /// Killed, replaced, restored.
    pub(crate) fn fail_over(&mut self) {
        self.replace(&Make { relay: 2, seed: 99, ..Make::default() });
        self.restore();
    }

    /// A slow store answers what it was asked. What is sent because of it.
    pub(crate) fn catch_up(&mut self) -> Vec<Sent> {
        self.sent.clear();
        self.store.mood = Mood::Prompt;
        while self.store.owes() > 0 {
            for event in self.store.catch_up() {
                self.tell(event);
            }
        }
        std::mem::take(&mut self.sent)
    }

    /// Lets time pass, from deadline to deadline. What is sent meanwhile.
    pub(crate) fn pass(&mut self, millis: u64) -> Vec<Sent> {
        self.sent.clear();
        let until = self.nanos + millis * 1_000_000;
        let mut turns = 0;
        while let Some(at) = self.engine.next_deadline().map(Mono::as_nanos).filter(|at| *at <= until) {
            turns = if at > self.nanos { 0 } else { turns + 1 };
            assert!(turns < 100_000, "a deadline that never goes away: a relay would spin");
            self.nanos = self.nanos.max(at);
            self.engine.expire(self.now());
            self.settle(None);
        }
        self.nanos = until;
        std::mem::take(&mut self.sent)
    }

    /// One datagram comes in. What is sent because of it.
    pub(crate) fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) -> Vec<Sent> {
        self.sent.clear();
        self.traffic.0 += 1;
        self.note(from, datagram);
        // What the buffer held before is not zero, so that bytes of it would be seen if they left.
        let mut buffer = vec![0xaa; HEADROOM + datagram.len().max(ANSWER_LEN_MAX) + TAILROOM];
        buffer[HEADROOM..HEADROOM + datagram.len()].copy_from_slice(datagram);
        let mut slot = Slot { buffer: &mut buffer, start: HEADROOM, len: datagram.len() };
        if let Some(to) = self.engine.datagram(self.now(), source(from), &mut slot) {
            let bytes = slot.datagram().to_vec();
            self.check(to.client().socket_addr(), bytes, Some(from));
        }
        self.settle(Some(from));
        std::mem::take(&mut self.sent)
    }

    fn note(&mut self, from: SocketAddr, datagram: &[u8]) {
        if !model::is_stun(datagram) || model::type_of(datagram) & kind::ERROR != 0 {
            return;
        }
        let (kind, transaction) = (model::type_of(datagram), model::transaction_of(datagram));
        if kind == kind::ALLOCATE {
            self.knocked.insert(from);
        }
        let asked = self.asked.entry((from, kind, transaction)).or_default();
        asked.times += 1;
        if kind == kind::BIND
            && let Some(attributes) = model::try_attributes(datagram)
        {
            let first = |wanted| attributes.iter().find(|a| a.kind == wanted).map(|a| a.value);
            if let (Some(number @ [_, _, _, _]), Some(peer)) = (first(attr::CHANNEL), first(attr::PEER)) {
                let number = u16::from_be_bytes([number[0], number[1]]);
                asked.channel = Some((number, model::read_xor_address(peer, transaction)));
            }
        }
    }

    /// Carries out what the engine wants until it wants nothing.
    fn settle(&mut self, from: Option<SocketAddr>) {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Answer { to, bytes, len, .. } => {
                    assert!(model::is_stun(&bytes[..len]));
                    self.check(to.client().socket_addr(), bytes[..len].to_vec(), from);
                }
                // It was held: whoever's datagram is being looked at did not send it.
                Output::Packet { to, bytes } => self.check(to.client().socket_addr(), bytes, None),
                question @ (Output::Load { .. } | Output::Write { .. }) => {
                    for event in self.store.ask(question) {
                        self.engine.store(self.now(), event);
                    }
                }
            }
        }
    }

    /// What holds of every datagram that leaves, in every test.
    fn check(&mut self, to: SocketAddr, bytes: Vec<u8>, from: Option<SocketAddr>) {
        let sent = Sent { to, bytes };
        if sent.is_answer() {
            self.check_answer(&sent);
        } else {
            let owner = self.owner(to).expect("media to an address that is not attached");
            assert!(self.knocked.contains(&to) || self.is_stored(owner, to), "nobody has ever allocated there");
            let (record, _) = self.store.call(owner.call).expect("a call that was never made");
            assert!(self.store.mood == Mood::Away || record.admits(owner.leg).is_ok(), "the leg or its call is gone");
            if let Some(from) = from {
                assert_eq!(self.owner(from).map(|o| o.call), Some(owner.call), "media from one call to another");
            }
            if model::is_stun(&sent.bytes) {
                assert_eq!(model::type_of(&sent.bytes), kind::DATA);
            } else {
                assert!((0x40..0x80).contains(&sent.bytes[0]));
            }
        }
        if model::is_stun(&sent.bytes) {
            for attribute in model::attributes(&sent.bytes) {
                assert!(attribute.padding.iter().all(|byte| *byte == 0), "bytes of something else in the padding");
                assert_ne!(attribute.kind, attr::SOFTWARE);
            }
        }
        self.traffic.1 += 1;
        assert!(self.traffic.1 <= self.traffic.0, "more datagrams out than in");
        self.sent.push(sent);
    }

    fn check_answer(&mut self, sent: &Sent) {
        let (kind, transaction) = (model::type_of(&sent.bytes) & !kind::ERROR, model::transaction_of(&sent.bytes));
        let asked = self.asked.get_mut(&(sent.to, kind, transaction)).expect("an answer that nobody asked for");
        assert!(asked.times > 0, "a second answer to one request");
        asked.times -= 1;
        let channel = asked.channel;
        let attributes = model::attributes(&sent.bytes);
        let value = |wanted| attributes.iter().find(|a| a.kind == wanted).map(|a| a.value);
        if let Some(error) = value(attr::ERROR_CODE) {
            assert_eq!(error.len(), 4, "no reason text");
            return;
        }
        match (kind, value(attr::RELAYED)) {
            (kind::ALLOCATE, Some(relayed)) => {
                let relayed = model::read_xor_address(relayed, transaction);
                self.check_told(sent.to, Some(relayed), None);
            }
            (kind::ALLOCATE, None) => panic!("an allocation without an address"),
            (kind::BIND, _) => self.check_told(sent.to, None, channel),
            _ => {}
        }
    }

    /// Nobody is told of an allocation or a channel that is not durable, but for what is counted as such.
    fn check_told(&mut self, to: SocketAddr, relayed: Option<SocketAddr>, channel: Option<(u16, SocketAddr)>) {
        let owner = self.owner(to).expect("told of an allocation that does not exist");
        let own = virtual_addr(owner);
        assert!(relayed.is_none_or(|relayed| relayed == own), "told of an allocation that is somebody else's");
        let stored = self.store.leg(owner.call, owner.leg);
        let allocation = stored
            .iter()
            .flat_map(|record| &record.allocations)
            .find(|allocation| (allocation.a, allocation.client.socket_addr()) == (owner.allocation, to));
        let durable = allocation.is_some_and(|allocation| {
            channel.is_none_or(|(number, peer)| {
                let bound = |c: &&tandem_core::topology::ChannelBinding| {
                    (c.channel.get(), SocketAddr::from(c.peer.socket_addr())) == (number, peer)
                };
                allocation.channels.iter().any(|c| bound(&c))
            })
        });
        let new = self.told.insert((owner.call, own, channel));
        if new && !durable {
            self.told_from_memory += 1;
            let counted = self.engine.residency().counters().undurable.get();
            assert!(self.told_from_memory <= counted, "told before it was durable, and not counted");
        }
    }

    /// Whose allocation the relay has on this address.
    pub(crate) fn owner(&self, at: SocketAddr) -> Option<Owner> {
        self.engine.switch().owner(source(at))
    }

    pub(crate) fn is_attached(&self, at: &str) -> bool {
        self.owner(addr(at)).is_some()
    }

    fn is_stored(&self, owner: Owner, at: SocketAddr) -> bool {
        let stored = self.store.leg(owner.call, owner.leg);
        stored.is_some_and(|record| record.allocations.iter().any(|a| a.client.socket_addr() == at))
    }

    /// The channels that are durable for the allocation on this address.
    pub(crate) fn stored_channels(&self, client: &Client) -> Vec<u16> {
        let record = self.store.leg(client.call, client.leg);
        let allocation = record.iter().flat_map(|r| &r.allocations).find(|a| a.client.socket_addr() == client.at);
        let mut numbers: Vec<u16> = allocation.iter().flat_map(|a| &a.channels).map(|c| c.channel.get()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many allocations of this client's leg are durable.
    pub(crate) fn stored_allocations(&self, client: &Client) -> usize {
        self.store.leg(client.call, client.leg).map_or(0, |record| record.allocations.len())
    }
}

fn source(at: SocketAddr) -> Source {
    Source { client: ClientAddr::new(at), transport: Transport::Udp }
}

fn virtual_addr(owner: Owner) -> SocketAddr {
    format!("203.0.113.{}:{}", owner.allocation.get(), 1024 + owner.leg.get()).parse().unwrap()
}

/// Two legs of one call that have allocated; no channels yet.
pub(crate) fn pair(relay: &mut Relay) -> (Client, Client) {
    let call = relay.create(1, 2);
    let (mut one, mut two) = (Client::new(relay, call, 1, A), Client::new(relay, call, 2, B));
    assert_eq!((one.attach(relay), two.attach(relay)), (LEG1.to_owned(), LEG2.to_owned()));
    (one, two)
}

/// The same with a channel 0x4001 each way.
pub(crate) fn channel_pair(relay: &mut Relay) -> (Client, Client) {
    let (mut one, mut two) = pair(relay);
    assert_eq!((one.bind(relay, 0x4001, LEG2), two.bind(relay, 0x4001, LEG1)), (Some(0), Some(0)));
    (one, two)
}

/// Media as it arrives on a channel.
pub(crate) fn on_channel(to: &str, channel: u16, payload: &[u8]) -> Vec<Sent> {
    vec![Sent { to: addr(to), bytes: model::channel_data(channel, payload) }]
}

/// Whether exactly one Data indication was sent: to `to`, from the virtual address `from`, with this payload.
#[track_caller]
pub(crate) fn assert_indication(sent: &[Sent], to: &str, from: &str, payload: &[u8]) {
    let [Sent { to: went, bytes }] = sent else { panic!("one datagram, not {}", sent.len()) };
    let transaction = model::transaction_of(bytes);
    let expected = model::encode(kind::DATA, transaction, &[Part::peer(from), Part::data(payload)]);
    assert_eq!((*went, bytes), (addr(to), &expected));
}
