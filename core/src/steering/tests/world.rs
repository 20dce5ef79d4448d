//! A load balancer with its relays, its store's index and its clock.

use std::collections::BTreeMap;

use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId, Revision};
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::stun::{Class, Method, Writer, attr};
use tandem_wire::ticket::TicketKey;
use tandem_wire::tunnel::{Cookie, HEAD_LEN, Head, Probe};
use tandem_wire::units::{Mono, Now, Span, Wall};

use super::super::*;
use crate::topology::{Incarnation, Member, Row, Table};

/// How a relay answers probes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fate {
    /// After so many milliseconds.
    Lives(u64),
    Silent,
    /// Nobody is there, and the network says so.
    Gone,
    /// So many of a hundred are lost.
    Loses(u64),
    /// Another run is there.
    Replaced,
}

pub(super) fn cookie(relay: u16, incarnation: u64) -> Cookie {
    Cookie::from_bits((u64::from(relay) << 32) | incarnation)
}

pub(super) fn row(relay: u16, incarnation: u64, standing: Standing) -> Row {
    let tunnel = SocketAddr::from(([10, 0, (relay >> 8) as u8, relay as u8], 7_000));
    Member::starting(Incarnation(incarnation), cookie(relay, incarnation), tunnel).row(RelayId(relay), standing)
}

pub(super) fn serving(epoch: u32, relays: impl IntoIterator<Item = u16>) -> Table {
    Table::new(epoch, relays.into_iter().map(|relay| row(relay, 1, Standing::Serving)).collect())
}

pub(super) fn client(n: u32) -> FlowKey {
    let [_, a, b, c] = n.to_be_bytes();
    FlowKey::udp(ClientAddr::new(SocketAddr::from(([198, a, b, c], 4_242))))
}

/// A Refresh of a leg of a call in this bucket.
pub(super) fn ticket(bucket: u16) -> Vec<u8> {
    let key = TicketKey::new(0, &Secret::new(vec![7; 32])).unwrap();
    let call = CallId::new(PopId(1), BucketId(bucket), 9);
    let name = key.mint(call, LegId::new(1).unwrap(), Wall::from_secs(9));
    stun(Class::Request, Method::Refresh, Some(&name))
}

pub(super) fn stun(class: Class, method: Method, username: Option<&str>) -> Vec<u8> {
    let mut buffer = [0; 200];
    let mut writer = Writer::new(&mut buffer, class, method, [7; 12]);
    if let Some(name) = username {
        writer = writer.attribute(attr::USERNAME, name.as_bytes());
    }
    let len = writer.finish().unwrap();
    buffer[..len].to_vec()
}

pub(super) const MEDIA: [u8; 8] = [0x40, 0, 0, 4, 1, 2, 3, 4];

/// What happened, in order: for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// A probe was sent.
    Probe(u16),
    /// An echo came, of the probe with this number, from this run.
    Echo(u16, u32, u64),
    Refused(u16),
    /// All that was due has been done.
    Judged,
}

/// Where a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Went {
    pub(super) relay: u16,
    pub(super) bucket: u16,
    pub(super) acting: bool,
    pub(super) epoch: u32,
}

pub(super) struct World {
    pub(super) steering: Steering,
    pub(super) ms: u64,
    /// By how many seconds the wall clock is off.
    pub(super) wall: i64,
    pub(super) table: Option<Table>,
    pub(super) fates: BTreeMap<u16, Fate>,
    /// The store's index.
    pub(super) index: BTreeMap<u32, u16>,
    pub(super) lines: BTreeMap<Line, SocketAddr>,
    /// Probes sent, when, and to whom; `true`: in a round.
    pub(super) probes: Vec<(u64, u16)>,
    pub(super) turns: Vec<(u64, u16, State)>,
    pub(super) frosts: Vec<(u64, bool)>,
    pub(super) log: Vec<Happened>,
    /// Datagrams of relays that are under way: when they come, and what.
    under_way: Vec<(u64, Line, Vec<u8>)>,
    /// Refusals that are under way.
    refusals: Vec<(u64, Line)>,
    dice: u64,
    seed: u64,
    replaces: bool,
}

impl World {
    pub(super) fn new(replaces: bool, seed: u64) -> Self {
        Self {
            steering: Steering::with_cap(seed, 10_000),
            ms: 1_000,
            wall: 0,
            table: None,
            fates: BTreeMap::new(),
            index: BTreeMap::new(),
            lines: BTreeMap::new(),
            probes: Vec::new(),
            turns: Vec::new(),
            frosts: Vec::new(),
            log: Vec::new(),
            under_way: Vec::new(),
            refusals: Vec::new(),
            dice: seed | 1,
            seed,
            replaces,
        }
    }

    /// A world of so many relays that live.
    pub(super) fn of(replaces: bool, relays: u16) -> Self {
        let mut world = Self::new(replaces, 5);
        world.fates = (1..=relays).map(|relay| (relay, Fate::Lives(1))).collect();
        world.plan(serving(1, 1..=relays));
        world.run(100);
        world
    }

    pub(super) fn now(&self) -> Now {
        let wall = Wall::from_secs(1_700_000_000_u64.saturating_add_signed(self.wall));
        Now { mono: Mono::default().after(Span::from_millis(self.ms)), wall }
    }

    pub(super) fn plan(&mut self, table: Table) {
        // As a rule the one with the higher epoch was written later.
        let revision = Revision(100 + u64::from(table.epoch));
        self.steering.handle(self.now(), Input::Plan(Box::new(Plan::of(table.clone(), revision))));
        if self.table.as_ref().is_none_or(|known| known.epoch < table.epoch) {
            self.table = Some(table);
        }
        self.carry_out();
    }

    /// A table of a store whose epochs are not those of the one before.
    pub(super) fn plan_of_store(&mut self, table: Table, revision: u64, restored: bool) {
        let plan = Plan::of(table.clone(), Revision(revision));
        let plan = if restored { plan.restored() } else { plan };
        self.steering.handle(self.now(), Input::Plan(Box::new(plan)));
        if self.steering.epoch() == table.epoch {
            self.table = Some(table);
        }
        self.carry_out();
    }

    /// Another load balancer takes over, if this is the second time that the scenario runs. It hears all there is to hear.
    pub(super) fn replace(&mut self) {
        if self.replaces {
            self.really_replace();
            self.run(150);
        }
    }

    pub(super) fn really_replace(&mut self) {
        self.steering = Steering::with_cap(self.seed ^ 0xabcd, 10_000);
        self.lines.clear();
        self.under_way.clear();
        self.refusals.clear();
        let table = self.table.clone();
        let claims: Vec<(u32, u16)> = self.index.iter().map(|(client, bucket)| (*client, *bucket)).collect();
        claims.into_iter().for_each(|(client, bucket)| self.claim(client, bucket));
        if let Some(table) = table {
            self.plan(table);
        }
    }

    /// The store says that this is where a leg of this bucket is attached.
    pub(super) fn claim(&mut self, n: u32, bucket: u16) {
        self.index.insert(n, bucket);
        let claim = Claim::Taken { flow: client(n), bucket: BucketId(bucket) };
        self.steering.handle(self.now(), Input::Claim(claim));
    }

    pub(super) fn release(&mut self, n: u32) {
        if let Some(bucket) = self.index.remove(&n) {
            let claim = Claim::Released { flow: client(n), bucket: BucketId(bucket) };
            self.steering.handle(self.now(), Input::Claim(claim));
        }
    }

    pub(super) fn line_of(&self, relay: u16) -> Option<Line> {
        let to = self.row_of(relay)?.tunnel;
        self.lines.iter().find(|(_, at)| **at == to).map(|(line, _)| *line)
    }

    fn row_of(&self, relay: u16) -> Option<&Row> {
        self.table.as_ref()?.row(RelayId(relay))
    }

    fn relay_at(&self, line: Line) -> Option<Row> {
        let to = self.lines.get(&line)?;
        self.table.as_ref()?.relays.iter().find(|row| row.tunnel == *to).cloned()
    }

    /// Goes on, a millisecond at a time.
    pub(super) fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    /// Goes on by one millisecond: what relays sent comes first, then what is due is done.
    pub(super) fn step(&mut self) {
        self.ms += 1;
        self.deliver();
        while self.steering.next_deadline().is_some_and(|at| at <= self.now().mono) {
            self.log.push(Happened::Judged);
            self.steering.expire(self.now());
            self.carry_out();
        }
        self.log.push(Happened::Judged);
    }

    /// Goes on until nothing is under way: a pause of ours that begins now finds nothing that waited for us.
    pub(super) fn quiet(&mut self) {
        while !self.under_way.is_empty() {
            self.step();
        }
    }

    fn deliver(&mut self) {
        let now = self.ms;
        for (_, line, bytes) in self.under_way.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>() {
            if let Some(row) = self.relay_at(line) {
                let probe = Probe::read(&bytes[HEAD_LEN..]).unwrap();
                self.log.push(Happened::Echo(row.id.0, probe.stamp as u32, probe.incarnation));
            }
            self.steering.returned(self.now(), line, &bytes);
        }
        for (_, line) in self.refusals.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            if let Some(row) = self.relay_at(line) {
                self.log.push(Happened::Refused(row.id.0));
            }
            self.steering.handle(self.now(), Input::Refused(line));
            self.carry_out();
        }
        self.carry_out();
    }

    pub(super) fn carry_out(&mut self) {
        while let Some(output) = self.steering.poll() {
            match output {
                Output::Connect { line, to } => assert_eq!(self.lines.insert(line, to), None, "it is taken"),
                Output::Disconnect { line } => assert!(self.lines.remove(&line).is_some(), "it is not there"),
                Output::Turned { relay, state } => self.turns.push((self.ms, relay.0, state)),
                Output::Frozen { frozen } => self.frosts.push((self.ms, frozen)),
                Output::Probe { line, bytes } => self.answer(line, &bytes),
            }
        }
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    /// What a relay makes of a probe.
    fn answer(&mut self, line: Line, bytes: &[u8]) {
        let Some(row) = self.relay_at(line) else { return };
        let (head, rest) = Head::read(bytes).unwrap();
        assert!(head.probe && !head.back && head.cookie == row.cookie);
        self.probes.push((self.ms, row.id.0));
        self.log.push(Happened::Probe(row.id.0));
        let fate = self.fates.get(&row.id.0).copied().unwrap_or(Fate::Silent);
        let probe = Probe::read(rest).unwrap();
        let echo = |cookie, incarnation| {
            let head = Head { back: true, cookie, ..head };
            [&head.to_bytes()[..], &Probe { incarnation, load: 250, ..probe }.to_bytes()].concat()
        };
        let same = echo(row.cookie, row.incarnation.0);
        match fate {
            Fate::Lives(delay) => self.under_way.push((self.ms + delay, line, same)),
            Fate::Silent => {}
            Fate::Gone => self.refusals.push((self.ms + 1, line)),
            Fate::Loses(percent) => {
                if self.roll(100) >= percent {
                    self.under_way.push((self.ms + 1, line, same));
                }
            }
            Fate::Replaced => {
                let other = cookie(row.id.0, row.incarnation.0 + 1);
                self.under_way.push((self.ms + 1, line, echo(other, row.incarnation.0 + 1)));
            }
        }
    }

    /// A relay sends something to a client. `proven`: the bucket.
    pub(super) fn back(&mut self, relay: u16, to: FlowKey, listener: u8, proven: Option<u16>) -> Back {
        let row = self.row_of(relay).unwrap().clone();
        let head = Head::to_relay(to.client, BucketId(proven.unwrap_or(0)), 1, row.cookie);
        let head = Head { back: true, proven: proven.is_some(), listener, tcp: to.tcp, ..head };
        let line = self.line_of(relay).unwrap();
        let bytes = [&head.to_bytes()[..], b"packet"].concat();
        self.steering.returned(self.now(), line, &bytes)
    }

    /// A relay proves a client, and the store has it too.
    pub(super) fn attach(&mut self, relay: u16, n: u32, bucket: u16) {
        assert_eq!(self.back(relay, client(n), 0, Some(bucket)), Back::To { flow: client(n), listener: 0 });
        self.claim(n, bucket);
    }

    pub(super) fn send(&mut self, from: FlowKey, packet: &[u8]) -> Result<Went, Dropped> {
        match self.steering.datagram(self.now(), from, 0, packet) {
            Verdict::Drop(why) => Err(why),
            Verdict::Forward { line, head } => {
                assert_eq!(head.len(), HEAD_LEN);
                let (head, rest) = Head::read(&head).unwrap();
                let row = self.relay_at(line).unwrap();
                assert!(rest.is_empty() && head.cookie == row.cookie && head.client == from.client && !head.back);
                Ok(Went { relay: row.id.0, bucket: head.bucket.0, acting: head.acting, epoch: head.epoch })
            }
        }
    }

    /// The relay that packets of a bucket go to, and whether it acts.
    pub(super) fn goes(&mut self, bucket: u16) -> (u16, bool) {
        let went = self.send(client(0xff_ffff), &ticket(bucket)).unwrap();
        let location = self.steering.locate(BucketId(bucket));
        assert_eq!(
            (location.now, location.acting),
            (Some(RelayId(went.relay)), went.acting),
            "what is told is what is done"
        );
        assert_eq!(went.bucket, bucket);
        (went.relay, went.acting)
    }

    pub(super) fn state(&self, relay: u16) -> State {
        let location = self.steering.locate(BucketId(0));
        location.relays.iter().find(|seen| seen.id == RelayId(relay)).unwrap().state
    }

    /// A bucket with this primary and this secondary.
    pub(super) fn bucket_of(&self, primary: u16, secondary: u16) -> u16 {
        let wanted = (Some(RelayId(primary)), Some(RelayId(secondary)));
        (0..=u16::MAX)
            .find(|bucket| {
                let location = self.steering.locate(BucketId(*bucket));
                (location.primary, location.secondary) == wanted
            })
            .unwrap()
    }

    /// When a relay turned to this state last.
    pub(super) fn turned(&self, relay: u16, state: State) -> Option<u64> {
        self.turns.iter().rev().find(|(_, of, to)| (*of, *to) == (relay, state)).map(|(at, ..)| *at)
    }
}
