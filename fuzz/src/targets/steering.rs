//! Steering: a script of clients' packets, what relays send back, tables, the store's index and time, next to a little model.
//!
//! What must hold: nothing panics; a packet goes only on a line to a relay of the table, under that relay's cookie and the
//! table's epoch; media goes nowhere unless its source was proved or named by the store; nothing goes to a client that did
//! not come with the cookie of the line's relay, and nothing to one of our own addresses; the table of flows keeps its cap,
//! and what nobody proved leaves nothing in it; a timer that was due is not due any more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::LazyLock;

use tandem_core::steering::{Back, Claim, FlowKey, Input, Line, Output, Plan, Steering, Verdict};
use tandem_core::topology::{Incarnation, Member, Row, Standing, Table};
use tandem_wire::id::{BucketId, RelayId, Revision};
use tandem_wire::redact::ClientAddr;
use tandem_wire::stun::{Class, Method, Writer, attr};
use tandem_wire::tunnel::{Cookie, HEAD_LEN, Head, Probe};
use tandem_wire::units::{Now, Span, Wall};

use crate::script::Script;

/// Fewer than there are clients and transports, so that scripts come to the cap.
const FLOWS: usize = 12;
const CLIENTS: u8 = 24;
const RELAYS: u16 = 6;
const PLANS: u32 = 40;
const STEPS_MAX: usize = 200;
/// Where clients speak to.
const OWN: [SocketAddr; 2] = [
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 200)), 3_478),
    SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 200)), 3_478),
];

/// Tables with their rows, which take too long to be computed in each run, by their revisions. Their epochs ascend, two to each.
static TABLES: LazyLock<Vec<(Table, Plan)>> = LazyLock::new(|| {
    let tables = (0..PLANS).map(|n| {
        let rows = (1..=RELAYS).filter_map(|relay| row(n, relay)).collect();
        Table::new(1 + n / 2, rows)
    });
    tables.zip(1..).map(|(table, revision)| (table.clone(), Plan::of(table, Revision(revision)))).collect()
});

/// What relay number `relay` is in table `n`: numbers that look drawn.
fn row(n: u32, relay: u16) -> Option<Row> {
    let dice = n.wrapping_mul(0x9e37_79b9) ^ u32::from(relay).wrapping_mul(0x85eb_ca6b);
    let dice = dice ^ (dice >> 15);
    let standing = match dice % 8 {
        0 => return None,
        1 => Standing::Filling,
        2 => Standing::Draining,
        _ => Standing::Serving,
    };
    let incarnation = 1 + u64::from(n / 8) + u64::from(dice >> 8 & 1);
    // Now and then a relay comes up where a client was.
    let tunnel = if relay == 3 && dice >> 4 & 3 == 0 {
        client_addr(5)
    } else {
        SocketAddr::from(([10, 0, 0, relay as u8], 7_100))
    };
    let cookie = Cookie::from_bits(u64::from(relay) << 32 | incarnation);
    Some(Member::starting(Incarnation(incarnation), cookie, tunnel).row(RelayId(relay), standing))
}

fn client_addr(n: u8) -> SocketAddr {
    match n % CLIENTS {
        v6 @ 0..4 => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(v6)], 4_000)),
        v4 => SocketAddr::from(([192, 0, 2, v4], 4_000)),
    }
}

/// Runs the target.
pub fn run(data: &[u8]) {
    World::new().play(data);
}

struct World {
    steering: Steering,
    now: Now,
    table: Option<Table>,
    /// Its place among [`TABLES`].
    known: Option<usize>,
    lines: BTreeMap<Line, SocketAddr>,
    /// Probes that went out and were not echoed yet.
    probes: Vec<(Line, Head, Probe)>,
    /// Every flow that a relay has proved or the store has named, as its key and transport.
    named: BTreeSet<([u8; 18], bool)>,
    /// Packets that went on, and came back.
    carried: [u32; 2],
}

impl World {
    fn new() -> Self {
        let mut steering = Steering::with_cap(7, FLOWS);
        steering.listens_at(&OWN);
        let now = Now { wall: Wall::from_secs(1_764_000_000), ..Now::default() };
        let (lines, probes, named) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { steering, now, table: None, known: None, lines, probes, named, carried: [0; 2] }
    }

    fn play(&mut self, data: &[u8]) {
        let mut script = Script::new(data);
        for _ in 0..STEPS_MAX {
            if script.is_empty() {
                break;
            }
            self.step(&mut script);
            self.carry_out();
            self.check();
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 12 {
            0 => self.pass_time(script),
            1 => self.plan(script),
            2 => {
                let (from, len) = (flow(script), script.byte());
                self.datagram(from, script.byte(), script.bytes(usize::from(len)));
            }
            3 => {
                let (from, bucket) = (flow(script), script.word());
                let name = format!("v10.69250000.{bucket:04x}.01234567890123456789012345");
                let went = self.request(from, script, Some(name.as_bytes()));
                let somewhere = self.steering.locate(BucketId(bucket)).now.is_some() && !self.is_ours(from);
                assert_eq!(went, somewhere, "a ticket steers whoever has it");
            }
            4 => _ = self.datagram(flow(script), script.byte(), &[0x40, 1, 0, 4, 1, 2, 3, 4]),
            5 => {
                let (from, len) = (flow(script), script.byte() % 8);
                let name = script.bytes(usize::from(len));
                self.request(from, script, Some(name).filter(|name| !name.is_empty()));
            }
            6 => self.claim(script),
            7 => self.returned(script),
            8 => self.echo(script),
            9 => {
                let line = self.line(script);
                self.steering.handle(self.now, Input::Refused(line));
            }
            10 => {
                let (line, len) = (self.line(script), script.byte());
                let bytes = script.bytes(usize::from(len));
                self.back(line, bytes);
            }
            _ => self.steering.too_long(),
        }
    }

    fn pass_time(&mut self, script: &mut Script<'_>) {
        let ms = script.byte();
        let span = if ms < 250 { Span::from_millis(u64::from(ms)) } else { Span::from_secs(u64::from(script.word())) };
        self.now.mono = self.now.mono.after(span);
        // A wall clock that goes anywhere: nothing here may go by it.
        self.now.wall = Wall::from_millis(u64::from(script.word()) << 30);
        self.expire();
    }

    fn expire(&mut self) {
        for _ in 0..4 {
            if self.steering.next_deadline().is_none_or(|at| at > self.now.mono) {
                return;
            }
            self.steering.expire(self.now);
            self.carry_out();
        }
        assert!(
            self.steering.next_deadline() > Some(self.now.mono),
            "what is due stays due: its timer would never rest"
        );
    }

    fn plan(&mut self, script: &mut Script<'_>) {
        // The upper half of the bytes: a store that was wiped or restored has gone back to it.
        let byte = usize::from(script.byte());
        let (at, restored) = (byte % TABLES.len(), byte >= 128);
        let Some((table, plan)) = TABLES.get(at) else { return };
        let plan = if restored { plan.clone().restored() } else { plan.clone() };
        self.steering.handle(self.now, Input::Plan(Box::new(plan)));
        if self.known.is_none_or(|known| if restored { known != at } else { known < at }) {
            self.known = Some(at);
            self.table = Some(table.clone());
            for row in &table.relays {
                self.named.retain(|(client, _)| *client != ClientAddr::new(row.tunnel).key());
            }
        }
        self.carry_out();
        let wanted: BTreeSet<SocketAddr> = self.rows().map(|row| row.tunnel).collect();
        let lead: BTreeSet<SocketAddr> = self.lines.values().copied().collect();
        assert_eq!(lead, wanted, "lines lead to the relays of the table, and nowhere else");
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.table.iter().flat_map(|table| &table.relays)
    }

    fn is_ours(&self, flow: FlowKey) -> bool {
        let at = |address: SocketAddr| ClientAddr::new(address) == flow.client;
        OWN.into_iter().any(at) || self.rows().any(|row| at(row.tunnel))
    }

    fn line(&self, script: &mut Script<'_>) -> Line {
        Line(u16::from(script.byte() % 8))
    }

    /// Who is at the end of a line.
    fn relay_at(&self, line: Line) -> Option<&Row> {
        let to = self.lines.get(&line)?;
        self.rows().find(|row| row.tunnel == *to)
    }

    fn request(&mut self, from: FlowKey, script: &mut Script<'_>, username: Option<&[u8]>) -> bool {
        let method = script.pick(Method::Binding, &[Method::Allocate, Method::Refresh, Method::ChannelBind]);
        let mut buffer = [0; 128];
        let writer = Writer::new(&mut buffer, Class::Request, method, [7; 12]);
        let written = match username {
            Some(name) => writer.attribute(attr::USERNAME, name).finish(),
            None => writer.finish(),
        };
        let listener = script.byte();
        written.ok().and_then(|len| buffer.get(..len)).is_some_and(|packet| self.datagram(from, listener, packet))
    }

    /// Whether it went on.
    fn datagram(&mut self, from: FlowKey, listener: u8, packet: &[u8]) -> bool {
        let before = self.steering.flows();
        let verdict = self.steering.datagram(self.now, from, listener, packet);
        assert_eq!(self.steering.flows(), before, "a client's packet changes the table of flows");
        let Verdict::Forward { line, head } = verdict else { return false };
        self.carried[0] += 1;
        let (read, relay) = (Head::read(&head), self.relay_at(line));
        let (Ok((head, [])), Some(relay)) = (read, relay) else { nowhere() };
        let epoch = self.table.as_ref().map_or(0, |table| table.epoch);
        assert_eq!((head.epoch, head.cookie, head.hops), (epoch, relay.cookie, 0), "of another relay or table");
        assert_eq!((head.client, head.tcp, head.listener), (from.client, from.tcp, listener), "of another client");
        assert!(!head.back && !head.probe && !head.proven && !head.leaving && !head.down, "flags of another kind");
        let media = packet.first().is_some_and(|first| (64..=127).contains(first));
        if media {
            assert!(self.named.contains(&(from.client.key(), from.tcp)), "media of somebody of whom nothing is known");
        } else {
            assert!(!self.is_ours(from), "an answer would go to one of our own");
        }
        true
    }

    fn claim(&mut self, script: &mut Script<'_>) {
        let (flow, bucket) = (flow(script), BucketId(u16::from(script.byte() % 4)));
        if script.byte().is_multiple_of(2) {
            if !self.is_ours(flow) {
                self.named.insert((flow.client.key(), flow.tcp));
            }
            self.steering.handle(self.now, Input::Claim(Claim::Taken { flow, bucket }));
        } else {
            self.steering.handle(self.now, Input::Claim(Claim::Released { flow, bucket }));
        }
    }

    /// A relay, or somebody who pretends to be one, sends something.
    fn returned(&mut self, script: &mut Script<'_>) {
        let line = self.line(script);
        let (flags, to, bucket) = (script.byte(), flow(script), BucketId(u16::from(script.byte() % 4)));
        let right = self.relay_at(line).map(|relay| relay.cookie);
        let cookie = right.filter(|_| flags & 0x0f != 0).unwrap_or(Cookie::from_bits(u64::from(flags)));
        let head = Head {
            back: flags & 3 != 3,
            proven: flags & 16 != 0,
            probe: flags & 0xe0 == 0xe0,
            leaving: flags & 0xe0 == 0xc0,
            tcp: to.tcp,
            listener: script.byte(),
            ..Head::to_relay(to.client, bucket, u32::from(script.byte()), cookie)
        };
        let len = script.byte() % 32;
        let bytes = [&head.to_bytes()[..], script.bytes(usize::from(len))].concat();
        self.back(line, &bytes);
    }

    /// A probe comes back, from this run of the relay or another, under its cookie or another; or comes back twice.
    fn echo(&mut self, script: &mut Script<'_>) {
        if self.probes.is_empty() {
            return;
        }
        let at = usize::from(script.byte()) % self.probes.len();
        let kind = script.byte();
        let Some((line, head, probe)) = self.probes.get(at).copied() else { return };
        let run = self.relay_at(line).map_or(0, |relay| relay.incarnation.0);
        let incarnation = match kind % 8 {
            0 => run + 1,
            1 => run.wrapping_sub(1),
            _ => run,
        };
        let cookie = if kind >> 3 & 3 == 3 { Cookie::from_bits(u64::from(kind)) } else { head.cookie };
        let head = Head { back: true, leaving: kind >> 5 == 7, cookie, ..head };
        let probe = Probe { incarnation, load: u16::from(kind), ..probe };
        let bytes = [&head.to_bytes()[..], &probe.to_bytes()].concat();
        self.back(line, &bytes);
        if kind % 16 != 15 {
            self.probes.swap_remove(at);
        }
    }

    /// Hands over what came on a line, and looks at what becomes of it.
    fn back(&mut self, line: Line, bytes: &[u8]) {
        let (before, known) = (self.steering.flows(), self.relay_at(line).map(|relay| relay.cookie));
        let back = self.steering.returned(self.now, line, bytes);
        match back {
            Back::To { flow, listener: _ } => {
                self.carried[1] += 1;
                let Ok((head, [_, ..])) = Head::read(bytes) else { nowhere() };
                assert!(head.back && !head.probe && Some(head.cookie) == known, "without the cookie of this line");
                assert_eq!((flow.client, flow.tcp), (head.client, head.tcp), "to another client");
                assert!(!self.is_ours(flow), "to an address of our own");
                if head.proven {
                    self.named.insert((flow.client.key(), flow.tcp));
                } else {
                    assert_eq!(self.steering.flows(), before, "learned from what proves nothing");
                }
            }
            Back::Told | Back::Drop(_) => assert_eq!(self.steering.flows(), before, "it teaches nothing"),
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.steering.poll() {
            match output {
                Output::Connect { line, to } => assert_eq!(self.lines.insert(line, to), None, "the line is taken"),
                Output::Disconnect { line } => assert!(self.lines.remove(&line).is_some(), "there is no such line"),
                Output::Probe { line, bytes } => {
                    let (head, probe) = bytes.split_at(HEAD_LEN);
                    let (Ok((head, [])), Some(probe), Some(relay)) =
                        (Head::read(head), Probe::read(probe), self.relay_at(line))
                    else {
                        nowhere()
                    };
                    assert!(head.probe && !head.back && head.cookie == relay.cookie, "a probe with another cookie");
                    self.probes.push((line, head, probe));
                    if self.probes.len() > 64 {
                        self.probes.remove(0);
                    }
                }
                Output::Turned { relay, state: _ } => {
                    assert!(self.rows().any(|row| row.id == relay), "it speaks of a relay that there is not");
                }
                Output::Frozen { .. } => {}
            }
        }
    }

    fn check(&self) {
        let [flows, indexed, _] = self.steering.flows();
        assert!(indexed <= flows && flows <= FLOWS as u64, "the table of flows is over its cap");
        assert!(flows <= self.named.len() as u64, "a flow of somebody who was never named");
        let location = self.steering.locate(BucketId(7));
        assert_eq!(location.now.is_some(), location.primary.is_some(), "a bucket that is somebody's goes somewhere");
        assert_eq!(location.relays.len(), self.rows().count());
        let counted: u64 = self.steering.relays().iter().take(4).sum();
        assert_eq!(counted, location.relays.len() as u64, "each relay is in one state");
    }
}

#[allow(clippy::panic, reason = "this is how a target says that something does not hold")]
fn nowhere() -> ! {
    panic!("something goes where nothing is")
}

/// A client, now and then over TCP, or one of our own addresses.
fn flow(script: &mut Script<'_>) -> FlowKey {
    let n = script.byte();
    let address = match n {
        250..=252 => OWN[0],
        253..=255 => SocketAddr::from(([10, 0, 0, 1 + n % 6], 7_100)),
        _ => client_addr(n),
    };
    FlowKey { client: ClientAddr::new(address), tcp: n & 0x60 == 0x60 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_of_a_fleet_carries_packets_both_ways_and_fails_over() {
        let seed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/steering/a-relay-dies")).unwrap();
        let mut world = World::new();
        world.play(&seed);
        let acting = world.steering.counters().acting.get();
        assert!(world.carried[0] > 20 && world.carried[1] == 1 && acting > 0, "{:?} {acting}", world.carried);
    }
}
