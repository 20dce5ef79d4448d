//! A relay's end of the tunnel with its engine behind it: a script of datagrams of the fleet and of strangers, tables, fences,
//! and a store that is late or fails.
//!
//! What must hold: nothing panics; what comes without the relay's cookie, or pretends to come from a relay, leaves everything
//! as it is and draws nothing; what goes out has a head, and goes to where the latest believed head came from, to the prober,
//! or once, with hops 1 and under its cookie, to the relay that the table names; media leaves only for a client that a record
//! of the sender's call has named; a fenced relay answers nobody who has proved something.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use tandem_core::limits::{HEADROOM, TAILROOM};
use tandem_core::switch::Slot;
use tandem_core::topology::{Incarnation, Member, Standing, Table};
use tandem_core::turn::Gate;
use tandem_relay::duty::{Peer, Share};
use tandem_relay::engine::{Engine, Output, StoreEvent};
use tandem_relay::tunnel::Tunnel;
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::nonce::NonceKey;
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::stun::{Class, Message, Method, Writer, attr};
use tandem_wire::ticket::{TicketKey, long_term_key};
use tandem_wire::tunnel::{Cookie, Head, Probe};
use tandem_wire::units::{Now, Span, Wall};

use crate::script::Script;
use crate::store::{Store, Write};

const POP: PopId = PopId(1);
const REALM: &str = "tndm";
const CALLS: u8 = 3;
const LEGS: u8 = 2;
const CLIENTS: u8 = 5;
const STEPS_MAX: usize = 120;
const ME: RelayId = RelayId(1);
const COOKIE: Cookie = Cookie::from_bits(0x5eed_0001);

/// Tables of three relays, among which this one is missing, fills, drains, or is another run now and then.
static TABLES: LazyLock<Vec<(Table, Arc<Share>)>> = LazyLock::new(|| {
    let tables = (0..12_u32).map(|n| {
        let rows = [(1, Cookie::from_bits(0x5eed_0001)), (2, Cookie::from_bits(2)), (3, Cookie::from_bits(3))];
        let rows = rows.into_iter().filter(|(id, _)| *id != 1 || n % 6 != 5).map(|(id, cookie)| {
            // Another process runs under this relay's id: to us it is another relay.
            let (run, place, cookie) = match (id, n % 6) {
                (1, 4) => (9, 4, Cookie::from_bits(9)),
                _ => (1, id, cookie),
            };
            let standing = match (id, n % 6) {
                (1, 2) => Standing::Filling,
                (1, 3) => Standing::Draining,
                _ => Standing::Serving,
            };
            Member::starting(Incarnation(run), cookie, peer_addr(place)).row(RelayId(id), standing)
        });
        Table::new(1 + n, rows.collect())
    });
    tables.map(|table| (table.clone(), Arc::new(Share::of(&table, ME, Incarnation(1))))).collect()
});

fn peer_addr(id: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, id as u8], 7_100))
}

/// Runs the target.
pub fn run(data: &[u8]) {
    if let Some(mut world) = World::new() {
        world.play(data);
    }
}

struct World {
    tunnel: Tunnel,
    engine: Engine,
    key: TicketKey,
    nonces: NonceKey,
    now: Now,
    store: Store,
    table: Option<Table>,
    /// Where the latest head with our cookie, and no hops, came from.
    balancer: Option<SocketAddr>,
    /// Every address that a record of a call has ever named, in the store or in the relay's memory, which leads.
    named: BTreeSet<(CallId, SocketAddr)>,
    /// What went out: to clients, to probers, to other relays.
    went: [u32; 3],
}

impl World {
    fn new() -> Option<Self> {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        let gate = Gate::new(POP, REALM, &secret, [(0, &secret)], 7).ok();
        let key = TicketKey::new(0, &secret).ok();
        assert!(gate.is_some() && key.is_some(), "the keys of this target");
        let now = Now { wall: Wall::from_secs(1_764_000_000), ..Now::default() };
        Some(Self {
            tunnel: Tunnel::new(COOKIE),
            engine: Engine::of_fleet(ME, gate?, 7),
            key: key?,
            nonces: NonceKey::new(&secret)?,
            now,
            store: Store::with_calls((0..CALLS).map(call_of), now),
            table: None,
            balancer: None,
            named: BTreeSet::new(),
            went: [0; 3],
        })
    }

    fn play(&mut self, data: &[u8]) {
        let mut script = Script::new(data);
        for _ in 0..STEPS_MAX {
            if script.is_empty() {
                break;
            }
            self.step(&mut script);
            self.drain();
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 10 {
            0 => {
                let span = Span::from_millis(u64::from(script.byte()) * 40);
                (self.now.mono, self.now.wall) = (self.now.mono.after(span), self.now.wall.after(span));
                self.engine.expire(self.now);
            }
            1 => {
                let Some((table, share)) = TABLES.get(usize::from(script.byte()) % TABLES.len()) else { return };
                self.engine.duty().take(Arc::clone(share));
                self.table = Some(table.clone());
                (self.tunnel.epoch, self.tunnel.draining) = (share.epoch, share.draining);
                let _ = self.engine.duty().take_change();
            }
            2 => self.engine.fence(script.byte().is_multiple_of(2)),
            3 => {
                let (from, len) = (sender(script), script.byte());
                let bytes = script.bytes(usize::from(len));
                self.datagram(from, bytes);
            }
            4 => {
                let (head, from) = (head(script), sender(script));
                let len = script.byte() % 64;
                self.datagram(from, &[&head.to_bytes()[..], script.bytes(usize::from(len))].concat());
            }
            5 => {
                let (head, from) = (head(script), sender(script));
                let probe = Probe { stamp: u64::from(script.word()), ..Probe::default() };
                self.datagram(from, &[&Head { probe: true, ..head }.to_bytes()[..], &probe.to_bytes()].concat());
            }
            6 | 7 => self.request(script),
            8 => {
                let (head, from) = (head(script), sender(script));
                let len = script.byte() % 32;
                let payload = script.bytes(usize::from(len));
                let media = [&[0x40, script.byte() % 4, 0, payload.len() as u8][..], payload].concat();
                self.datagram(from, &[&head.to_bytes()[..], &media].concat());
            }
            _ => {
                let event = match script.byte() % 4 {
                    0 => self.store.answer_load(script),
                    1 => self.store.answer_write(script),
                    2 => {
                        let (call, leg) = (call(script), leg(script));
                        leg.and_then(|leg| self.store.change(call, leg, client(script), self.now, script))
                    }
                    _ => {
                        for event in self.store.list(script) {
                            self.tell(event);
                        }
                        None
                    }
                };
                event.into_iter().for_each(|event| self.tell(event));
            }
        }
    }

    fn tell(&mut self, event: StoreEvent) {
        self.named.extend(self.store.named());
        self.engine.store(self.now, event);
    }

    /// A signed request of a leg for an allocation, or for a channel to the other leg, with a head before it.
    fn request(&mut self, script: &mut Script<'_>) {
        let (head, from) = (head(script), sender(script));
        let (call, Some(leg)) = (call(script), leg(script)) else { return };
        let kind = script.byte();
        let name = self.key.mint(call, leg, self.now.wall.after(Span::from_secs(600)));
        let password = self.key.credential(&name);
        let long_term = long_term_key(name.as_bytes(), REALM.as_bytes(), password.as_bytes());
        let nonce = self.nonces.mint(head.client, self.now.wall);
        let mut buffer = [0; 512];
        let method = [Method::Allocate, Method::ChannelBind, Method::Refresh, Method::Binding];
        let method = method.get(usize::from(kind % 4)).copied().unwrap_or(Method::Allocate);
        let writer = Writer::new(&mut buffer, Class::Request, method, [kind; 12]);
        let writer = match method {
            Method::Allocate => writer.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]),
            Method::ChannelBind => writer.attribute(attr::CHANNEL_NUMBER, &[0x40, kind >> 2 & 3, 0, 0]).address(
                attr::XOR_PEER_ADDRESS,
                SocketAddr::from(([203, 0, 113, 1], 1_025 + u16::from(kind >> 4 & 1))),
            ),
            _ => writer.attribute(attr::LIFETIME, &u32::from(kind >> 2).to_be_bytes()),
        };
        let written = writer
            .attribute(attr::USERNAME, name.as_bytes())
            .attribute(attr::REALM, REALM.as_bytes())
            .attribute(attr::NONCE, &nonce)
            .integrity(&long_term)
            .finish();
        if let Some(request) = written.ok().and_then(|len| buffer.get(..len)) {
            let head = Head { bucket: call.bucket(), ..head };
            self.datagram(from, &[&head.to_bytes()[..], request].concat());
        }
    }

    /// Hands a datagram in, and looks at what comes out.
    fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.engine.expire(self.now);
        self.drain();
        let believed = Head::read(datagram).ok().filter(|(head, _)| head.cookie == COOKIE && !head.back);
        if let Some((head, _)) = believed
            && head.hops == 0
        {
            self.balancer = Some(from);
        }
        let mut buffer = [&[0xaa; HEADROOM][..], datagram, &[0xaa; TAILROOM]].concat();
        buffer.resize(buffer.len().max(HEADROOM + 512), 0xaa);
        let before = buffer.clone();
        let mut slot = Slot { buffer: &mut buffer, start: HEADROOM, len: datagram.len() };
        let out = self.tunnel.datagram(&mut self.engine, self.now, ClientAddr::new(from), &mut slot);
        let Some((asked, packet)) = believed else {
            assert!(out.is_none(), "a stranger draws an answer");
            assert!(self.engine.poll().is_none(), "a stranger has the relay do something");
            assert_eq!(buffer, before, "a stranger's datagram is written over");
            return;
        };
        let Some(to) = out.map(|to| to.socket_addr()) else { return };
        let Ok((said, rest)) = Head::read(slot.datagram()) else { without_a_head() };
        if asked.probe {
            assert!(to == from && said.back && said.probe && said.cookie == COOKIE && !said.down, "an odd echo");
            assert_eq!(Probe::read(rest).map(|p| p.stamp), Probe::read(packet).map(|p| p.stamp));
            self.went[1] += 1;
        } else if said.back {
            assert_eq!(
                (Some(to), said.cookie),
                (self.balancer, COOKIE),
                "a client's packet goes round its load balancer"
            );
            assert!(!said.probe && !said.leaving && said.hops == 0 && !rest.is_empty());
            self.check_client(&asked, &said, rest);
            self.went[0] += 1;
        } else {
            assert_eq!((asked.hops, said.hops, said.acting), (0, 1, false), "passed on more than once");
            let peers =
                self.table.iter().flat_map(|table| &table.relays).filter(|row| (row.id, row.incarnation.0) != (ME, 1));
            let peers: Vec<Peer> = peers.map(|row| Peer { tunnel: row.tunnel, cookie: row.cookie }).collect();
            assert!(
                peers.contains(&Peer { tunnel: to, cookie: said.cookie }),
                "to a relay that the table does not name"
            );
            assert_eq!((said.client, said.bucket, rest), (asked.client, asked.bucket, packet), "passed on as it came");
            self.went[2] += 1;
        }
    }

    /// An answer goes to who asked, media to a client of the same call.
    fn check_client(&self, asked: &Head, said: &Head, bytes: &[u8]) {
        let answer = Message::parse(bytes).map(|message| message.class);
        if let Ok(Class::Success | Class::Error) = answer {
            assert_eq!(said.client, asked.client, "an answer goes to somebody who did not ask");
            // What was proved is answered when it is durable, through the queue.
            assert!(bytes.len() <= 64 && !said.proven, "a long answer to somebody who has proved nothing");
        } else {
            let (one, other) = (asked.client.socket_addr(), said.client.socket_addr());
            let shared = self.named.iter().any(|(call, at)| *at == one && self.named.contains(&(*call, other)));
            assert!(shared, "media goes from or to an address that no record of one call has named");
        }
    }

    fn drain(&mut self) {
        for index in 0..CALLS {
            for leg in (1..=LEGS).filter_map(|n| LegId::new(u16::from(n)).ok()) {
                if let Some(record) = self.engine.residency().attachment(call_of(index), leg) {
                    let named = record.allocations.iter().map(|a| (call_of(index), a.client.socket_addr()));
                    self.named.extend(named);
                }
            }
        }
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Answer { bytes, len, .. } => {
                    assert!(bytes.get(..len).is_some_and(|answer| Message::parse(answer).is_ok()));
                }
                Output::Packet { to, bytes } => {
                    let to = to.client().socket_addr();
                    assert!(self.named.iter().any(|(_, client)| *client == to), "a held packet to nobody");
                    assert!(!bytes.is_empty());
                }
                Output::Load { call } => self.store.loads.push_back(call),
                Output::Write { call, leg, .. } if self.engine.fenced() => {
                    // As the packet thread does.
                    self.engine.store(self.now, StoreEvent::WriteAway { call, leg });
                }
                Output::Write { call, leg, attachment, based_on } => {
                    self.named.extend(attachment.allocations.iter().map(|a| (call, a.client.socket_addr())));
                    self.store.writes.push_back(Write { call, leg, attachment, based_on });
                }
            }
        }
    }
}

#[allow(clippy::panic, reason = "this is how a target says that something does not hold")]
fn without_a_head() -> ! {
    panic!("a datagram leaves for the fleet without a head")
}

/// A head, mostly with our cookie.
fn head(script: &mut Script<'_>) -> Head {
    let flags = script.byte();
    let cookie = if flags & 7 == 7 { Cookie::from_bits(u64::from(flags)) } else { COOKIE };
    Head {
        back: flags >> 3 & 7 == 7,
        acting: flags >> 6 & 1 == 1,
        down: flags >> 7 == 1,
        hops: script.byte() % 3,
        listener: flags & 1,
        ..Head::to_relay(
            ClientAddr::new(client(script)),
            BucketId(u16::from(script.byte() % CALLS)),
            u32::from(script.byte() % 16),
            cookie,
        )
    }
}

/// Who sends in the fleet's network: two load balancers, a relay, a stranger.
fn sender(script: &mut Script<'_>) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + script.byte() % 4], 7_100))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_of_a_call_echoes_carries_and_passes_on() {
        let seed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/entrance/a-call")).unwrap();
        let mut world = World::new().unwrap();
        world.play(&seed);
        assert!(world.went.iter().all(|count| *count > 0), "{:?}", world.went);
    }
}
