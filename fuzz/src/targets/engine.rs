//! The relay without its socket: a script of requests, media, time and a store that answers late, wrongly or not at all.
//!
//! What must hold: nothing panics; an answer goes to where its request came from, and one without proof has at most 64
//! bytes; media goes only to an address that a record of the sender's call has named; a timer that was due is not due
//! any more; and once the store answers, everything comes to rest with the relay holding what the store holds.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tandem_core::limits::{HEADROOM, TAILROOM};
use tandem_core::switch::{Owner, Slot, Source};
use tandem_core::topology::Transport;
use tandem_core::turn::Gate;
use tandem_relay::engine::{Engine, Output, StoreEvent};
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::nonce::NonceKey;
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::stun::{Class, Message, Method, Writer, attr};
use tandem_wire::ticket::{TicketKey, long_term_key};
use tandem_wire::units::{Now, Span, Wall};

use crate::script::Script;
use crate::store::{Store, Write};

const POP: PopId = PopId(1);
const REALM: &str = "tndm";
/// Two calls that the store has and one that it has not.
const CALLS: u8 = 3;
/// One leg more than the calls have.
const LEGS: u8 = 3;
const CLIENTS: u8 = 6;
/// Steps of one script: longer ones say nothing new.
const STEPS_MAX: usize = 120;
/// Rounds in which a store that answers has everything at rest: a write that finds another record first needs a read,
/// then a write, for each leg.
const ROUNDS_MAX: usize = 40;
/// The longest answer to somebody who has proved nothing (protocol.md, "Transport 1").
const UNPROVEN_LEN_MAX: usize = 64;

/// Runs the target.
pub fn run(data: &[u8]) {
    if let Some(mut world) = World::new() {
        world.play(data);
        world.come_to_rest();
    }
}

struct World {
    engine: Engine,
    key: TicketKey,
    nonces: NonceKey,
    now: Now,
    store: Store,
    /// Every address that a record of a call has ever named, in the store or in the relay's memory, which leads.
    named: BTreeSet<(CallId, SocketAddr)>,
    /// Every address that a signed request came from.
    proven: BTreeSet<SocketAddr>,
}

impl World {
    fn new() -> Option<Self> {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        let gate = Gate::new(POP, REALM, &secret, [(0, &secret)], 7).ok();
        let key = TicketKey::new(0, &secret).ok();
        assert!(gate.is_some() && key.is_some(), "the keys of this target");
        let now = Now { wall: Wall::from_secs(1_764_000_000), ..Now::default() };
        Some(Self {
            engine: Engine::new(RelayId(1), gate?, 7),
            key: key?,
            nonces: NonceKey::new(&secret)?,
            now,
            store: Store::with_calls([call_of(0), call_of(1)], now),
            named: BTreeSet::new(),
            proven: BTreeSet::new(),
        })
    }

    fn play(&mut self, data: &[u8]) {
        let mut script = Script::new(data);
        for _ in 0..STEPS_MAX {
            if script.is_empty() {
                break;
            }
            self.step(&mut script);
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 12 {
            0 => self.pass_time(Span::from_millis(u64::from(script.byte()) * 40)),
            1 => {
                let (from, len) = (client(script), script.byte());
                self.datagram(from, script.bytes(usize::from(len)));
            }
            2 => self.allocate(script),
            3 => self.channel_bind(script),
            4 => self.request(script, Method::Refresh, |writer, script| {
                writer.attribute(attr::LIFETIME, &u32::from(script.word()).to_be_bytes())
            }),
            5 => self.request(script, Method::CreatePermission, |writer, script| {
                writer.address(attr::XOR_PEER_ADDRESS, peer(script))
            }),
            6 => self.channel_data(script),
            7 => self.send_indication(script),
            8 => {
                let event = self.store.answer_load(script);
                self.tell(event);
            }
            9 => {
                let event = self.store.answer_write(script);
                self.tell(event);
            }
            10 => {
                let (call, Some(leg)) = (call(script), leg(script)) else {
                    return;
                };
                let event = self.store.change(call, leg, client(script), self.now, script);
                self.tell(event);
            }
            _ => {
                for event in self.store.list(script) {
                    self.tell(Some(event));
                }
            }
        }
        self.drain();
    }

    fn pass_time(&mut self, span: Span) {
        self.now.mono = self.now.mono.after(span);
        self.now.wall = self.now.wall.after(span);
        self.engine.expire(self.now);
        let next = self.engine.next_deadline();
        assert!(next.is_none_or(|next| next > self.now.mono), "what is due stays due: its timer would never rest");
    }

    fn tell(&mut self, event: Option<StoreEvent>) {
        let Some(event) = event else { return };
        self.named.extend(self.store.named());
        self.engine.store(self.now, event);
    }

    fn allocate(&mut self, script: &mut Script<'_>) {
        self.request(script, Method::Allocate, |writer, script| {
            let odd = script.byte();
            let writer = match odd % 8 {
                0 => writer,
                1 => writer.attribute(attr::REQUESTED_TRANSPORT, &[6, 0, 0, 0]),
                _ => writer.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]),
            };
            match odd / 8 {
                0 => writer.attribute(attr::LIFETIME, &u32::from(script.word()).to_be_bytes()),
                1 => writer.attribute(attr::EVEN_PORT, &[0x80]),
                2 => writer.attribute(attr::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]),
                3 => writer.attribute(attr::DONT_FRAGMENT, &[]),
                _ => writer,
            }
        });
    }

    fn channel_bind(&mut self, script: &mut Script<'_>) {
        self.request(script, Method::ChannelBind, |writer, script| {
            let [high, low] = channel(script).to_be_bytes();
            writer.attribute(attr::CHANNEL_NUMBER, &[high, low, 0, 0]).address(attr::XOR_PEER_ADDRESS, peer(script))
        });
    }

    /// A signed request of a leg; one in sixteen is signed with another key.
    fn request(
        &mut self,
        script: &mut Script<'_>,
        method: Method,
        ask: for<'w> fn(Writer<'w>, &mut Script<'_>) -> Writer<'w>,
    ) {
        let (from, call, Some(leg)) = (client(script), call(script), leg(script)) else {
            return;
        };
        let kind = script.byte();
        let expiry = self.now.wall.after(Span::from_secs(u64::from(kind & 0x0f) * 60));
        let name = self.key.mint(call, leg, expiry);
        let password = self.key.credential(&name);
        let forged = kind >> 4 == 15;
        let long_term =
            if forged { [0; 16] } else { long_term_key(name.as_bytes(), REALM.as_bytes(), password.as_bytes()) };
        let nonce = self.nonces.mint(ClientAddr::new(from), self.now.wall);
        let mut buffer = [0; 512];
        let writer = Writer::new(&mut buffer, Class::Request, method, [kind; 12]);
        let written = ask(writer, script)
            .attribute(attr::USERNAME, name.as_bytes())
            .attribute(attr::REALM, REALM.as_bytes())
            .attribute(attr::NONCE, &nonce)
            .integrity(&long_term)
            .finish();
        if !forged {
            self.proven.insert(from);
        }
        if let Some(datagram) = written.ok().and_then(|len| buffer.get(..len)) {
            self.datagram(from, datagram);
        }
    }

    fn channel_data(&mut self, script: &mut Script<'_>) {
        let from = client(script);
        let [high, low] = channel(script).to_be_bytes();
        let len = script.byte() % 64;
        let payload = script.bytes(usize::from(len));
        self.datagram(from, &[&[high, low, 0, payload.len() as u8][..], payload].concat());
    }

    fn send_indication(&mut self, script: &mut Script<'_>) {
        let (from, peer, len) = (client(script), peer(script), script.byte() % 64);
        let mut buffer = [0; 256];
        let written = Writer::new(&mut buffer, Class::Indication, Method::Send, [1; 12])
            .address(attr::XOR_PEER_ADDRESS, peer)
            .attribute(attr::DATA, script.bytes(usize::from(len)))
            .finish();
        if let Some(datagram) = written.ok().and_then(|len| buffer.get(..len)) {
            self.datagram(from, datagram);
        }
    }

    fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) {
        // As the shell does: what is due first.
        self.engine.expire(self.now);
        self.drain();
        let mut buffer = [&[0xaa; HEADROOM][..], datagram, &[0xaa; TAILROOM]].concat();
        // An answer may be longer than its request: it is written where the request lies.
        buffer.resize(buffer.len().max(HEADROOM + 256), 0xaa);
        let mut slot = Slot { buffer: &mut buffer, start: HEADROOM, len: datagram.len() };
        let Some(to) = self.engine.datagram(self.now, source(from), &mut slot) else {
            return;
        };
        let to = to.client().socket_addr();
        let answered = Message::parse(slot.datagram()).map(|message| message.class);
        if let Ok(Class::Success | Class::Error) = answered {
            assert_eq!(to, from, "an answer goes to somebody who did not ask");
            assert!(slot.len <= UNPROVEN_LEN_MAX, "an answer to somebody who has proved nothing is too long");
        } else {
            self.check_media(from, to);
        }
    }

    fn check_media(&self, from: SocketAddr, to: SocketAddr) {
        let shared = self.named.iter().any(|(call, client)| *client == from && self.named.contains(&(*call, to)));
        assert!(shared, "media goes from or to an address that no record of one call has named");
    }

    /// Takes what the engine wants done.
    fn drain(&mut self) {
        for (call, leg) in all_legs() {
            if let Some(record) = self.engine.residency().attachment(call, leg) {
                self.named.extend(record.allocations.iter().map(|a| (call, a.client.socket_addr())));
            }
        }
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Answer { to, bytes, len, .. } => {
                    let to = to.client().socket_addr();
                    assert!(self.proven.contains(&to), "a signed answer to somebody who has proved nothing");
                    let answer = bytes.get(..len).map(Message::parse);
                    assert!(answer.is_some_and(|answer| answer.is_ok()), "an answer that does not read");
                }
                Output::Packet { to, bytes } => {
                    let to = to.client().socket_addr();
                    assert!(self.named.iter().any(|(_, client)| *client == to), "a held packet to nobody");
                    assert!(!bytes.is_empty());
                }
                Output::Load { call } => self.store.loads.push_back(call),
                Output::Write { call, leg, attachment, based_on } => {
                    self.named.extend(attachment.allocations.iter().map(|a| (call, a.client.socket_addr())));
                    self.store.writes.push_back(Write { call, leg, attachment, based_on });
                }
            }
        }
    }

    /// The store answers from now on, truly and at once.
    fn come_to_rest(&mut self) {
        for event in self.store.list(&mut Script::new(&[])) {
            self.tell(Some(event));
        }
        self.drain();
        for _ in 0..ROUNDS_MAX {
            // Longer than any wait for the store.
            self.pass_time(Span::from_secs(4));
            self.drain();
            while let Some(event) = self.store.answer_truly() {
                self.tell(Some(event));
                self.drain();
            }
        }
        assert!(self.store.loads.is_empty() && self.store.writes.is_empty(), "it never comes to rest");
        for (call, leg) in all_legs() {
            if self.engine.residency().admits(call, leg).is_ok() {
                let held = self.engine.residency().attachment(call, leg).map(|record| &record.allocations[..]);
                let stored = self.store.allocations(call, leg);
                assert_eq!(held.unwrap_or_default(), stored, "the relay holds something else than the store");
                for allocation in stored {
                    let owner = self.engine.switch().owner(source(allocation.client.socket_addr()));
                    let named = Owner { call, leg, allocation: allocation.a };
                    assert_eq!(owner, Some(named), "the switch knows an address otherwise than its record");
                }
            }
        }
    }
}

fn all_legs() -> impl Iterator<Item = (CallId, LegId)> {
    let legs = || (1..=LEGS).filter_map(|n| LegId::new(u16::from(n)).ok());
    (0..CALLS).flat_map(move |index| legs().map(move |leg| (call_of(index), leg)))
}

fn call_of(index: u8) -> CallId {
    CallId::new(POP, BucketId(u16::from(index)), u128::from(index) + 1)
}

fn call(script: &mut Script<'_>) -> CallId {
    call_of(script.byte() % CALLS)
}

fn leg(script: &mut Script<'_>) -> Option<LegId> {
    LegId::new(u16::from(1 + script.byte() % LEGS)).ok()
}

fn client(script: &mut Script<'_>) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + script.byte() % CLIENTS], 4_000))
}

fn source(client: SocketAddr) -> Source {
    Source { client: ClientAddr::new(client), transport: Transport::Udp }
}

fn peer(script: &mut Script<'_>) -> SocketAddr {
    match script.byte() % 16 {
        0 => SocketAddr::from(([127, 0, 0, 1], 22)),
        n => SocketAddr::from(([203, 0, 113, 1 + n / 4], 1_025 + u16::from(n % LEGS))),
    }
}

fn channel(script: &mut Script<'_>) -> u16 {
    0x4000 + u16::from(script.byte() % 4)
}

#[cfg(test)]
mod tests {
    use tandem_core::switch::Counter;

    use super::*;

    #[test]
    fn the_seed_of_a_call_makes_a_call() {
        let seed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/engine/a-call")).unwrap();
        let mut world = World::new().unwrap();
        world.play(&seed);
        let counters = world.engine.switch().counters;
        // Two packets before the refresh, two behind it, and of the last two the one whose sender is still attached.
        assert_eq!(counters.get(Counter::ChannelToChannel), 4);
        assert_eq!((counters.get(Counter::NobodyThere), counters.get(Counter::UnknownSource)), (1, 1));
        assert_eq!(world.engine.switch().allocations(), 1);
    }
}
