//! A whole relay without its socket, against a store that can be slow, away or faster than it: the rules of
//! docs/protocol.md and the rows of the attack catalogue that need a call.
//!
//! Every test runs under one more check: what is sent goes to the source of a request, or to an address that is attached.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tandem_core::limits::{ANSWER_LEN_MAX, HEADROOM, TAILROOM};
use tandem_core::residency::{Input, Snapshot};
use tandem_core::switch::{Slot, Source};
use tandem_core::topology::{Attachment, Call, CallCommand, CallKind, EndReason, Transport};
use tandem_core::turn::Gate;
use tandem_relay::engine::{Engine, Output};
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId, Revision};
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::stun::{Class, Message, Method, Writer, attr};
use tandem_wire::ticket::{LongTermKey, TicketKey, long_term_key};
use tandem_wire::units::{Mono, Now, Span, Wall};

const POP: PopId = PopId(1);

fn secret(byte: u8) -> Secret {
    Secret::new(vec![byte; 32])
}

fn call_id(n: u128) -> CallId {
    CallId::new(POP, BucketId(3), n)
}

fn leg(n: u16) -> LegId {
    LegId::new(n).unwrap()
}

/// How the store behaves.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    /// Takes questions, answers none.
    Slow,
    Away,
}

/// A relay, its store and its clock.
struct World {
    engine: Engine,
    now_ms: u64,
    mood: Mood,
    revision: u64,
    calls: BTreeMap<CallId, (Call, Revision)>,
    legs: BTreeMap<(CallId, LegId), (Attachment, Revision)>,
    /// Everything sent, and to whom.
    sent: Vec<(ClientAddr, Vec<u8>)>,
    /// What the store was asked while it was slow.
    waiting: Vec<Output>,
}

fn new_engine(keys: &[(u8, Secret)]) -> Engine {
    let gate = Gate::new(POP, "tndm", &secret(1), keys.iter().map(|(kid, key)| (*kid, key)), 5).unwrap();
    Engine::new(RelayId(1), gate, 5)
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            engine: new_engine(&[(0, secret(2))]),
            now_ms: 1_000,
            mood: Mood::Good,
            revision: 1,
            calls: BTreeMap::new(),
            legs: BTreeMap::new(),
            sent: Vec::new(),
            waiting: Vec::new(),
        };
        world.restore();
        world
    }

    fn now(&self) -> Now {
        let since = Span::from_millis(self.now_ms);
        Now { mono: Mono::default().after(since), wall: Wall::from_secs(1_795_000_000).after(since) }
    }

    fn create(&mut self, n: u128, legs: u16) -> CallId {
        let (id, kind) = (call_id(n), if legs > 2 { CallKind::Group } else { CallKind::OneToOne });
        let record = Call::apply(None, CallCommand::Create { id, kind, legs }, self.now()).unwrap();
        self.revision += 1;
        self.calls.insert(id, (record, Revision(self.revision)));
        id
    }

    fn end(&mut self, id: CallId) {
        let (record, _) = &self.calls[&id];
        let ended = Call::apply(Some(record), CallCommand::End { reason: EndReason::Hangup }, self.now()).unwrap();
        self.revision += 1;
        let revision = Revision(self.revision);
        self.calls.insert(id, (ended.clone(), revision));
        self.engine.store(self.now(), Input::CallChanged { call: id, record: Some(ended), revision });
        self.settle(None);
    }

    fn snapshot(&self, id: CallId) -> Snapshot {
        let legs = self.legs.iter().filter(|((call, _), _)| *call == id);
        Snapshot {
            at: Revision(self.revision),
            call: self.calls.get(&id).cloned(),
            legs: legs.map(|((_, leg), (record, revision))| (*leg, record.clone(), *revision)).collect(),
        }
    }

    /// Tells the engine everything that the store has.
    fn restore(&mut self) {
        self.engine.store(self.now(), Input::RestoreBegan);
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            let snapshot = self.snapshot(id);
            self.engine.store(self.now(), Input::Loaded { call: id, snapshot });
        }
        self.engine.store(self.now(), Input::Restored);
        self.settle(None);
    }

    /// Another process with empty memory takes the relay's place. It restores when it is told to.
    fn replace(&mut self) {
        self.engine = new_engine(&[(0, secret(2))]);
        self.waiting.clear();
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(10) {
            self.now_ms += 10;
            if self.engine.next_deadline().is_some_and(|at| at <= self.now().mono) {
                self.engine.expire(self.now());
            }
            self.settle(None);
        }
    }

    fn is_attached(&self, to: ClientAddr) -> bool {
        self.engine.switch().owner(Source { client: to, transport: Transport::Udp }).is_some()
    }

    /// Carries out what the engine wants. `asking`: whose datagram it is at work on.
    fn settle(&mut self, asking: Option<ClientAddr>) {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Answer { to, bytes, len, .. } => {
                    let message = Message::parse(&bytes[..len]).unwrap();
                    assert!(matches!(message.class, Class::Success | Class::Error));
                    assert!(len <= ANSWER_LEN_MAX);
                    self.sent.push((to.client(), bytes[..len].to_vec()));
                }
                Output::Packet { to, bytes } => {
                    assert!(self.is_attached(to.client()), "media to an address that is not attached");
                    self.sent.push((to.client(), bytes));
                }
                question => match self.mood {
                    Mood::Good => self.answer(question),
                    Mood::Slow => self.waiting.push(question),
                    Mood::Away => {
                        let event = match question {
                            Output::Load { call } => Input::LoadFailed { call },
                            Output::Write { call, leg, .. } => Input::WriteAway { call, leg },
                            other => panic!("{other:?}"),
                        };
                        self.engine.store(self.now(), event);
                    }
                },
            }
        }
        let _ = asking;
    }

    /// The store answers one question.
    fn answer(&mut self, question: Output) {
        let event = match question {
            Output::Load { call } => Input::Loaded { call, snapshot: self.snapshot(call) },
            Output::Write { call, leg, attachment, based_on } => {
                let stored = self.legs.get(&(call, leg)).map_or(Revision::ZERO, |(_, revision)| *revision);
                if stored == based_on {
                    self.revision += 1;
                    self.legs.insert((call, leg), (attachment, Revision(self.revision)));
                    Input::Written { call, leg, revision: Revision(self.revision) }
                } else {
                    Input::WriteStale { call, leg }
                }
            }
            other => panic!("{other:?}"),
        };
        self.engine.store(self.now(), event);
    }

    /// A slow store catches up.
    fn catch_up(&mut self) {
        self.mood = Mood::Good;
        for question in std::mem::take(&mut self.waiting) {
            self.answer(question);
        }
        self.settle(None);
    }

    /// One datagram comes in; what is sent because of it.
    fn datagram(&mut self, from: ClientAddr, datagram: &[u8]) -> Vec<(ClientAddr, Vec<u8>)> {
        self.sent.clear();
        let mut buffer = vec![0xaa; HEADROOM + datagram.len().max(ANSWER_LEN_MAX) + TAILROOM];
        buffer[HEADROOM..HEADROOM + datagram.len()].copy_from_slice(datagram);
        let mut slot = Slot { buffer: &mut buffer, start: HEADROOM, len: datagram.len() };
        let now = self.now();
        let to = self.engine.datagram(now, Source { client: from, transport: Transport::Udp }, &mut slot);
        if let Some(to) = to {
            let sent = slot.datagram().to_vec();
            assert!(to.client() == from || self.is_attached(to.client()), "sent to a stranger");
            self.sent.push((to.client(), sent));
        }
        self.settle(Some(from));
        assert!(self.sent.iter().all(|(to, _)| *to == from || self.is_attached(*to)), "sent to a stranger");
        self.sent.clone()
    }
}

/// A client with one socket.
struct Client {
    at: ClientAddr,
    username: String,
    key: LongTermKey,
    nonce: Vec<u8>,
}

fn addr(text: &str) -> ClientAddr {
    ClientAddr::new(text.parse().unwrap())
}

impl Client {
    fn new(world: &World, call: CallId, n: u16, at: &str) -> Self {
        Self::with_key(world, call, n, at, 0, 2)
    }

    fn with_key(world: &World, call: CallId, n: u16, at: &str, kid: u8, key_secret: u8) -> Self {
        let key = TicketKey::new(kid, &secret(key_secret)).unwrap();
        let username = key.mint(call, leg(n), world.now().wall.after(Span::from_secs(3_600)));
        let password = key.credential(&username);
        let key = long_term_key(username.as_bytes(), b"tndm", password.as_bytes());
        Self { at: addr(at), username, key, nonce: Vec::new() }
    }

    fn request(&self, method: Method, build: impl Fn(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
        let mut buffer = [0; 512];
        let mut writer = build(Writer::new(&mut buffer, Class::Request, method, [method.bits() as u8; 12]));
        if !self.nonce.is_empty() {
            writer = writer
                .attribute(attr::USERNAME, self.username.as_bytes())
                .attribute(attr::REALM, b"tndm")
                .attribute(attr::NONCE, &self.nonce)
                .integrity(&self.key);
        }
        let len = writer.finish().unwrap();
        buffer[..len].to_vec()
    }

    /// Sends a request, with the nonce that it is told; `None`: silence, else the error code or 0.
    fn ask(&mut self, world: &mut World, method: Method, build: impl Fn(Writer<'_>) -> Writer<'_>) -> Option<u16> {
        for _ in 0..2 {
            let sent = world.datagram(self.at, &self.request(method, &build));
            let (to, answer) = sent.first()?;
            assert_eq!((sent.len(), *to), (1, self.at));
            let code = code_of(answer);
            let message = Message::parse(answer).unwrap();
            if matches!(code, 401 | 438) && self.nonce.is_empty() {
                self.nonce = message.attributes.nonce.unwrap().to_vec();
                continue;
            }
            assert!(matches!(code, 401 | 438) || message.verify(&self.key), "signed");
            return Some(code);
        }
        Some(401)
    }

    fn allocate(&mut self, world: &mut World) -> Option<u16> {
        self.ask(world, Method::Allocate, |w| w.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]))
    }

    fn bind(&mut self, world: &mut World, channel: u16, peer: &str) -> Option<u16> {
        self.ask(world, Method::ChannelBind, |w| {
            w.attribute(attr::CHANNEL_NUMBER, &[channel.to_be_bytes(), [0, 0]].concat())
                .address(attr::XOR_PEER_ADDRESS, peer.parse().unwrap())
        })
    }

    fn refresh(&mut self, world: &mut World, secs: u32) -> Option<u16> {
        self.ask(world, Method::Refresh, |w| w.attribute(attr::LIFETIME, &secs.to_be_bytes()))
    }

    fn permit(&mut self, world: &mut World, peer: &str) -> Option<u16> {
        self.ask(world, Method::CreatePermission, |w| w.address(attr::XOR_PEER_ADDRESS, peer.parse().unwrap()))
    }

    fn send(&self, world: &mut World, channel: u16, payload: &[u8]) -> Vec<(ClientAddr, Vec<u8>)> {
        let packet = [&channel.to_be_bytes()[..], &(payload.len() as u16).to_be_bytes(), payload].concat();
        world.datagram(self.at, &packet)
    }

    fn indicate(&self, world: &mut World, peer: &str, payload: &[u8]) -> Vec<(ClientAddr, Vec<u8>)> {
        let mut buffer = vec![0; payload.len() + 64];
        let len = Writer::new(&mut buffer, Class::Indication, Method::Send, [9; 12])
            .address(attr::XOR_PEER_ADDRESS, peer.parse().unwrap())
            .attribute(attr::DATA, payload)
            .finish()
            .unwrap();
        world.datagram(self.at, &buffer[..len])
    }
}

/// The error code of an answer, 0 for success.
fn code_of(answer: &[u8]) -> u16 {
    match Message::parse(answer).unwrap().class {
        Class::Success => 0,
        _ => u16::from(answer[26]) * 100 + u16::from(answer[27]),
    }
}

const A: &str = "192.0.2.1:1001";
const B: &str = "192.0.2.2:1002";
const ALICE: &str = "203.0.113.1:1025";
const BOB: &str = "203.0.113.1:1026";

/// Two legs that have allocated; no channels.
fn pair(world: &mut World) -> (CallId, Client, Client) {
    let call = world.create(1, 2);
    let (mut alice, mut bob) = (Client::new(world, call, 1, A), Client::new(world, call, 2, B));
    assert_eq!((alice.allocate(world), bob.allocate(world)), (Some(0), Some(0)));
    (call, alice, bob)
}

#[test]
fn a_retransmitted_allocate_gets_the_same_allocation_before_and_after_a_failover() {
    let mut world = World::new();
    let (call, mut alice, _) = pair(&mut world);
    for _ in 0..3 {
        assert_eq!(alice.allocate(&mut world), Some(0));
    }
    world.replace();
    world.restore();
    assert_eq!(alice.allocate(&mut world), Some(0), "never 437");
    assert_eq!(world.legs[&(call, leg(1))].0.allocations.len(), 1);
}

#[test]
fn after_a_failover_everything_goes_on_as_it_was() {
    let mut world = World::new();
    let (_, mut alice, mut bob) = pair(&mut world);
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), Some(0));
    let before = (alice.send(&mut world, 0x4001, b"x"), bob.indicate(&mut world, ALICE, b"y"));
    world.replace();
    world.restore();
    let after = (alice.send(&mut world, 0x4001, b"x"), bob.indicate(&mut world, ALICE, b"y"));
    let strip = |sent: &[(ClientAddr, Vec<u8>)]| {
        sent.iter().map(|(to, b)| (*to, b[b.len() - 4..].to_vec())).collect::<Vec<_>>()
    };
    assert_eq!((strip(&before.0), &before.1), (strip(&after.0), &after.1));
    // With the nonce that its predecessor gave out.
    assert_eq!(alice.refresh(&mut world, 600), Some(0));
    assert_eq!(bob.permit(&mut world, ALICE), Some(0));
    assert_eq!(bob.bind(&mut world, 0x4002, ALICE), Some(0));
}

#[test]
fn packets_that_come_before_the_restore_are_forwarded_after_it() {
    let mut world = World::new();
    let (_, mut alice, _) = pair(&mut world);
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), Some(0));
    world.replace();
    assert!(alice.send(&mut world, 0x4001, b"early").is_empty());
    assert_eq!(alice.refresh(&mut world, 600), None, "and no error meanwhile");
    world.pass(20);
    world.sent.clear();
    world.restore();
    let (answers, media): (Vec<_>, Vec<_>) = world.sent.iter().partition(|(to, _)| *to == addr(A));
    assert_eq!((answers.len(), media.len()), (1, 1), "the request is answered, the packet forwarded");
    assert!(media[0].1.ends_with(b"early\0\0\0"));
}

#[test]
fn while_a_call_is_loading_there_is_silence_and_no_error() {
    let mut world = World::new();
    let call = world.create(1, 2);
    let mut alice = Client::new(&world, call, 1, A);
    world.mood = Mood::Slow;
    for _ in 0..4 {
        assert_eq!(alice.allocate(&mut world), None);
        assert_eq!(alice.refresh(&mut world, 600), None);
        assert_eq!(alice.permit(&mut world, BOB), None);
        assert_eq!(alice.bind(&mut world, 0x4001, BOB), None);
    }
    world.mood = Mood::Away;
    world.pass(5_000);
    assert_eq!(alice.allocate(&mut world), None, "nor when it cannot be loaded");
    // What was held is dropped: this client will ask again.
    world.pass(100);
    world.catch_up();
    world.pass(1_000);
    assert_eq!(alice.refresh(&mut world, 600), Some(437), "only now, as it is current");
    assert_eq!(alice.allocate(&mut world), Some(0));
}

#[test]
fn a_new_allocation_and_a_new_channel_are_answered_when_they_are_durable() {
    let mut world = World::new();
    let call = world.create(1, 2);
    let mut alice = Client::new(&world, call, 1, A);
    alice.permit(&mut world, BOB);
    world.mood = Mood::Slow;
    assert_eq!(alice.allocate(&mut world), None);
    world.sent.clear();
    world.catch_up();
    assert_eq!(world.sent.len(), 1);
    world.mood = Mood::Slow;
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), None);
    assert_eq!((alice.refresh(&mut world, 600), alice.permit(&mut world, BOB)), (Some(0), Some(0)), "from memory");
    world.sent.clear();
    world.catch_up();
    assert_eq!(world.sent.len(), 1);
    world.mood = Mood::Slow;
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), Some(0), "a renewal is answered from memory");
    assert!(world.waiting.is_empty());
}

#[test]
fn three_seconds_without_the_store_and_the_answer_comes_from_memory_and_is_written_later() {
    let mut world = World::new();
    let (call, mut alice, _) = pair(&mut world);
    world.mood = Mood::Away;
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), None);
    world.sent.clear();
    world.pass(2_900);
    assert!(world.sent.is_empty());
    world.pass(200);
    assert_eq!(world.sent.len(), 1);
    assert_eq!(world.engine.residency().counters().undurable, 1);
    assert!(world.legs[&(call, leg(1))].0.allocations[0].channels.is_empty());
    world.mood = Mood::Good;
    world.pass(1_000);
    assert_eq!(world.legs[&(call, leg(1))].0.allocations[0].channels.len(), 1);
}

#[test]
fn lifetimes_end_allocations_and_a_restored_one_lives_an_hour() {
    let mut world = World::new();
    let (call, mut alice, mut bob) = pair(&mut world);
    world.pass(599_000);
    assert_eq!(bob.refresh(&mut world, 3_600), Some(0));
    world.pass(2_000);
    assert!(!world.is_attached(addr(A)) && world.is_attached(addr(B)));
    assert!(world.legs[&(call, leg(1))].0.allocations.is_empty(), "and that is written");
    assert_eq!(alice.refresh(&mut world, 600), Some(437));
    assert_eq!(bob.refresh(&mut world, 0), Some(0));
    assert!(!world.is_attached(addr(B)) && world.legs[&(call, leg(2))].0.allocations.is_empty());
    assert_eq!(alice.allocate(&mut world), Some(0));
    world.replace();
    world.restore();
    world.pass(3_590_000);
    assert!(world.is_attached(addr(A)));
    world.pass(20_000);
    assert!(!world.is_attached(addr(A)));
}

/// R14.
#[test]
fn a_call_that_ends_stops_at_once_and_lets_nobody_in() {
    let mut world = World::new();
    let (call, mut alice, mut bob) = pair(&mut world);
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), Some(0));
    assert_eq!(alice.send(&mut world, 0x4001, b"x").len(), 1);
    world.end(call);
    assert!(alice.send(&mut world, 0x4001, b"x").is_empty());
    assert_eq!((alice.allocate(&mut world), bob.refresh(&mut world, 600)), (Some(403), Some(437)));
    assert_eq!(world.engine.switch().allocations(), 0);
}

/// R20, R24, R38: other legs' credentials, legs that are not in the call, and one leg too many allocations.
#[test]
fn nobody_uses_anothers_allocation_and_a_leg_has_24_at_the_most() {
    let mut world = World::new();
    let (call, _, _) = pair(&mut world);
    let mut mallory = Client::new(&world, call, 2, A);
    assert_eq!(mallory.refresh(&mut world, 0), Some(441));
    assert_eq!(mallory.permit(&mut world, BOB), Some(441));
    assert_eq!(mallory.bind(&mut world, 0x4000, BOB), Some(441));
    assert!(world.is_attached(addr(A)));
    let mut third = Client::new(&world, call, 3, "192.0.2.3:1");
    assert_eq!(third.allocate(&mut world), Some(403));
    for port in 1..=23 {
        assert_eq!(Client::new(&world, call, 1, &format!("192.0.2.9:{port}")).allocate(&mut world), Some(0), "{port}");
        world.pass(20);
    }
    assert_eq!(Client::new(&world, call, 1, "192.0.2.9:99").allocate(&mut world), Some(486));
    let other = world.create(2, 2);
    assert_eq!(Client::new(&world, other, 1, "192.0.2.9:98").allocate(&mut world), Some(0), "others still get theirs");
}

/// R41.
#[test]
fn a_channel_and_its_peer_stay_together() {
    let mut world = World::new();
    let (_, mut alice, _) = pair(&mut world);
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), Some(0));
    assert_eq!(alice.bind(&mut world, 0x4001, ALICE), Some(400));
    assert_eq!(alice.bind(&mut world, 0x4002, BOB), Some(400));
    assert_eq!(
        alice.bind(&mut world, 0x4002, "203.0.113.77:7"),
        Some(0),
        "nobody is there, and it is a note all the same"
    );
    assert!(alice.send(&mut world, 0x4002, b"x").is_empty());
}

/// R13: two allocations that name each other, and one that names itself: what comes in goes out at most once.
#[test]
fn one_packet_in_is_at_most_one_packet_out() {
    let mut world = World::new();
    let (_, mut alice, mut bob) = pair(&mut world);
    assert_eq!((alice.bind(&mut world, 0x4001, BOB), bob.bind(&mut world, 0x4001, ALICE)), (Some(0), Some(0)));
    assert_eq!(alice.bind(&mut world, 0x4002, ALICE), Some(0));
    assert_eq!(alice.send(&mut world, 0x4001, b"x").len(), 1);
    assert_eq!(alice.send(&mut world, 0x4002, b"x"), [(addr(A), b"\x40\x02\0\x01x".to_vec())]);
    world.pass(1_000);
    assert!(world.sent.len() <= 1);
}

/// U01, U02, U03, R02: strangers during a call, before it, and from the right address with the wrong port.
#[test]
fn strangers_receive_nothing_inject_nothing_and_latch_onto_nothing() {
    let mut world = World::new();
    let call = world.create(1, 2);
    let stranger = Client::new(&world, call, 1, "192.0.2.66:66");
    for _ in 0..5 {
        assert!(stranger.send(&mut world, 0x4001, b"first").is_empty());
        assert!(stranger.indicate(&mut world, BOB, b"first").is_empty());
    }
    let (mut alice, mut bob) = (Client::new(&world, call, 1, A), Client::new(&world, call, 2, B));
    assert_eq!((alice.allocate(&mut world), bob.allocate(&mut world)), (Some(0), Some(0)));
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), Some(0));
    for at in ["192.0.2.66:66", "192.0.2.1:1002", "192.0.2.2:1001"] {
        let stranger = Client::new(&world, call, 1, at);
        assert!(stranger.send(&mut world, 0x4001, b"inject").is_empty());
        assert!(stranger.indicate(&mut world, BOB, b"inject").is_empty());
    }
    let sent = alice.send(&mut world, 0x4001, b"real");
    assert_eq!((sent.len(), sent[0].0), (1, addr(B)));
}

/// Firefox never binds a channel, Chromium does.
#[test]
fn a_client_of_channels_and_a_client_of_indications_understand_each_other() {
    let mut world = World::new();
    let (_, mut chromium, firefox) = pair(&mut world);
    assert_eq!(chromium.bind(&mut world, 0x4000, BOB), Some(0));
    let to_firefox = chromium.send(&mut world, 0x4000, b"from chromium");
    let message = Message::parse(&to_firefox[0].1).unwrap();
    assert_eq!((message.method, message.attributes.peer), (Method::Data, Some(ALICE.parse().unwrap())));
    let to_chromium = firefox.indicate(&mut world, ALICE, b"from firefox");
    assert_eq!(to_chromium[0].1, b"\x40\0\0\x0cfrom firefox");
}

/// R26: a key is added, tickets of both are good, the old one goes when no call needs it any more.
#[test]
fn rotating_a_key_loses_no_call() {
    let mut world = World::new();
    let (_, mut alice, _) = pair(&mut world);
    let call = world.create(2, 2);
    world.engine = new_engine(&[(0, secret(2)), (1, secret(3))]);
    world.restore();
    assert_eq!(alice.refresh(&mut world, 600), Some(0));
    assert_eq!(Client::with_key(&world, call, 1, "192.0.2.9:1", 1, 3).allocate(&mut world), Some(0));
    assert_eq!(Client::with_key(&world, call, 2, "192.0.2.9:2", 0, 2).allocate(&mut world), Some(0));
    assert_eq!(Client::with_key(&world, call, 2, "192.0.2.9:3", 1, 9).allocate(&mut world), Some(401), "made up");
}

/// R31: every answer that a relay gives, sent back to it.
#[test]
fn our_own_answers_and_media_are_answered_with_nothing() {
    let mut world = World::new();
    let (_, mut alice, _) = pair(&mut world);
    let mut said = Vec::new();
    for request in [
        alice.request(Method::Allocate, |w| w.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0])),
        alice.request(Method::Refresh, |w| w),
        alice.request(Method::CreatePermission, |w| w),
        alice.request(Method::Binding, |w| w),
    ] {
        said.extend(world.datagram(addr(A), &request));
    }
    alice.bind(&mut world, 0x4001, BOB);
    said.extend(alice.send(&mut world, 0x4001, b"x"));
    assert_eq!(said.len(), 5);
    for (_, bytes) in said {
        for from in [A, B, "192.0.2.66:66"] {
            assert!(world.datagram(addr(from), &bytes).is_empty());
        }
    }
}

/// R19: at the engine, so that no call, allocation or held request is left behind by a million strangers.
#[test]
fn a_million_strangers_leave_no_call_and_no_allocation_behind() {
    let mut world = World::new();
    let (_, alice, _) = pair(&mut world);
    let held = (world.engine.residency().calls(), world.engine.switch().allocations());
    let mut forged = alice.request(Method::Allocate, |w| w.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
    let at = forged.len() - 1;
    forged[at] ^= 1;
    let mut answered = BTreeSet::new();
    for n in 0..1_000_000_u32 {
        world.now_ms += u64::from(n % 20 == 0);
        let from = ClientAddr::new((n.wrapping_mul(0x9e37_79b9).to_be_bytes(), (n >> 3) as u16).into());
        if world.datagram(from, &forged).iter().any(|(to, bytes)| *to != from || bytes.len() > 64) {
            answered.insert(n);
        }
    }
    assert!(answered.is_empty(), "64 bytes at most, to whoever asked");
    assert_eq!((world.engine.residency().calls(), world.engine.switch().allocations()), held);
}

/// A record that somebody else wrote in between: nobody is told what is not so.
#[test]
fn a_relay_that_was_not_the_last_to_write_reads_before_it_answers() {
    let mut world = World::new();
    let (call, mut alice, _) = pair(&mut world);
    world.revision += 1;
    let theirs = Attachment::empty(RelayId(9));
    world.legs.insert((call, leg(1)), (theirs, Revision(world.revision)));
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), None);
    assert_eq!(alice.bind(&mut world, 0x4001, BOB), Some(437), "its allocation is gone, as the store says");
    assert_eq!(alice.allocate(&mut world), Some(0));
}

#[derive(Debug, Clone)]
enum Act {
    Allocate,
    End,
    Bind(u16, u8),
    Send(u16),
    Indicate(u8),
    Fail,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Four legs of two calls do what they like; relays come and go. What is forwarded is what a naive model of the closed
    /// world says: a channel or an address leads to the leg of the same call that is attached there, or nowhere.
    #[test]
    fn a_naive_model_of_the_closed_world_agrees(acts in prop::collection::vec((0_usize..4, prop_oneof![
        3 => Just(Act::Allocate),
        1 => Just(Act::End),
        3 => (0_u16..3, 1_u8..4).prop_map(|(c, n)| Act::Bind(c, n)),
        6 => (0_u16..3).prop_map(Act::Send),
        4 => (1_u8..4).prop_map(Act::Indicate),
        1 => Just(Act::Fail),
    ]), 1..60)) {
        let mut world = World::new();
        let calls = [world.create(1, 2), world.create(2, 2)];
        let mut clients: Vec<Client> = (0..4_u16)
            .map(|n| Client::new(&world, calls[usize::from(n / 2)], n % 2 + 1, &format!("192.0.2.{n}:7")))
            .collect();
        let mut attached: BTreeMap<usize, BTreeMap<u16, u8>> = BTreeMap::new();
        // Which allocation number each leg has now: it goes up by one each time.
        let mut numbers = [0_u8; 4];
        let reach = |who: usize, n: u8, attached: &BTreeMap<usize, BTreeMap<u16, u8>>, numbers: &[u8; 4]| {
            // Peer n is leg n of the own call, at the allocation number that it had when this was written: number 1.
            let other = who / 2 * 2 + usize::from(n) - 1;
            (n <= 2 && attached.contains_key(&other) && numbers[other] == 1).then_some(other)
        };
        for (who, act) in acts {
            world.pass(50);
            let peer = |n: u8| format!("203.0.113.1:{}", 1024 + u16::from(n));
            match act {
                Act::Allocate => {
                    prop_assert_eq!(clients[who].allocate(&mut world), Some(0));
                    attached.entry(who).or_insert_with(|| {
                        numbers[who] += 1;
                        BTreeMap::new()
                    });
                }
                Act::End => {
                    let expected = if attached.remove(&who).is_some() { 0 } else { 437 };
                    prop_assert_eq!(clients[who].refresh(&mut world, 0), Some(expected));
                }
                Act::Bind(channel, n) => {
                    let expected = match attached.get_mut(&who) {
                        None => 437,
                        Some(bound) => match bound.get(&channel) {
                            Some(old) if *old == n => 0,
                            Some(_) => 400,
                            None if bound.values().any(|other| *other == n) => 400,
                            None => {
                                bound.insert(channel, n);
                                0
                            }
                        },
                    };
                    prop_assert_eq!(clients[who].bind(&mut world, 0x4000 + channel, &peer(n)), Some(expected));
                }
                Act::Send(channel) => {
                    let n = attached.get(&who).and_then(|bound| bound.get(&channel)).copied();
                    let to = n.and_then(|n| reach(who, n, &attached, &numbers)).map(|other| clients[other].at);
                    let sent = clients[who].send(&mut world, 0x4000 + channel, b"payload");
                    prop_assert_eq!(sent.first().map(|(to, _)| *to), to);
                }
                Act::Indicate(n) => {
                    let to = attached.get(&who).and_then(|_| reach(who, n, &attached, &numbers)).map(|other| clients[other].at);
                    let sent = clients[who].indicate(&mut world, &peer(n), b"payload");
                    prop_assert_eq!(sent.first().map(|(to, _)| *to), to);
                }
                Act::Fail => {
                    world.replace();
                    world.restore();
                }
            }
        }
    }
}
