//! The same rules again, written as simply as docs/fleet.md says them and looked at every millisecond; random histories of
//! tables, echoes, silences, refusals and packets must have the same verdicts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::world::{Fate, Happened, MEDIA, World, client, row, ticket};
use crate::topology::Table;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    Probing { innocent: bool, echoes: u8 },
    Up,
    Suspect,
    Down { silent: bool, echoed: Option<u64> },
}

#[derive(Debug, Clone)]
struct Relay {
    incarnation: u64,
    life: Life,
    heard: u64,
    /// Since when, and the probe that it was asked with.
    refused: Option<(u64, usize)>,
    /// Which probes were echoed.
    probes: Vec<bool>,
    /// From which probe on it is judged, and how often it was found bad in a row.
    judged: usize,
    bad: u8,
}

impl Relay {
    fn new(incarnation: u64, at: u64, innocent: bool) -> Self {
        let life = Life::Probing { innocent, echoes: 0 };
        Self { incarnation, life, heard: at, refused: None, probes: Vec::new(), judged: 0, bad: 0 }
    }

    fn take_down(&mut self, silent: bool) {
        (self.life, self.refused) = (Life::Down { silent, echoed: None }, None);
    }

    fn is_down(&self) -> bool {
        matches!(self.life, Life::Down { .. })
    }

    fn serves(&self) -> bool {
        matches!(self.life, Life::Up | Life::Suspect | Life::Probing { innocent: true, .. })
    }
}

#[derive(Default)]
struct Model {
    table: Option<Table>,
    rows: Option<Rows>,
    relays: BTreeMap<u16, Relay>,
    frozen: Option<(u64, BTreeSet<u16>)>,
    flows: BTreeMap<u32, u16>,
}

impl Model {
    fn plan(&mut self, at: u64, table: &Table) {
        if self.table.as_ref().is_some_and(|known| known.epoch >= table.epoch) {
            return;
        }
        let before = std::mem::take(&mut self.relays);
        for row in &table.relays {
            let mut relay = match before.get(&row.id.0) {
                None => Relay::new(row.incarnation.0, at, true),
                Some(known) if known.incarnation != row.incarnation.0 => Relay::new(row.incarnation.0, at, false),
                Some(known) => known.clone(),
            };
            if let Life::Down { echoed: Some(echoed), .. } = relay.life
                && at < echoed + 100
            {
                relay.life = Life::Probing { innocent: false, echoes: 0 };
                (relay.judged, relay.bad) = (relay.probes.len(), 0);
            }
            self.relays.insert(row.id.0, relay);
        }
        if let Some((_, silent)) = &mut self.frozen {
            silent.retain(|id| self.relays.contains_key(id));
        }
        (self.rows, self.table) = (Some(Rows::of(table)), Some(table.clone()));
        self.thaw();
    }

    fn thaw(&mut self) {
        if let Some((since, silent)) = &self.frozen {
            let heard = silent.iter().filter(|id| self.relays[id].heard > *since).count();
            if heard * 2 >= silent.len() {
                self.frozen = None;
            }
        }
    }

    fn happened(&mut self, at: u64, what: Happened) {
        match what {
            Happened::Probe(id) => self.relays.get_mut(&id).unwrap().probes.push(false),
            Happened::Refused(id) => {
                let relay = self.relays.get_mut(&id).unwrap();
                if !relay.is_down() && relay.refused.is_none() {
                    relay.refused = Some((at, relay.probes.len()));
                }
            }
            Happened::Echo(id, number, incarnation) => self.echo(at, id, number as usize, incarnation),
            Happened::Judged => self.judge(at),
        }
    }

    fn echo(&mut self, at: u64, id: u16, number: usize, incarnation: u64) {
        let relay = self.relays.get_mut(&id).unwrap();
        if incarnation > relay.incarnation {
            if !relay.is_down() {
                relay.take_down(false);
            }
            return;
        }
        if incarnation < relay.incarnation || number >= relay.probes.len() || relay.probes[number] {
            return;
        }
        relay.probes[number] = true;
        relay.life = match relay.life {
            Life::Probing { innocent, echoes } => {
                let echoes = if at - relay.heard >= 30 { 1 } else { echoes + 1 };
                if echoes >= 3 { Life::Up } else { Life::Probing { innocent, echoes } }
            }
            Life::Up | Life::Suspect => Life::Up,
            Life::Down { silent, .. } => Life::Down { silent, echoed: Some(at) },
        };
        relay.heard = at;
        if relay.refused.is_some_and(|(_, asked)| number >= asked) {
            relay.refused = None;
        }
        self.thaw();
    }

    fn judge(&mut self, at: u64) {
        for relay in self.relays.values_mut() {
            if !relay.is_down() && relay.refused.is_some_and(|(since, _)| at >= since + 2) {
                relay.take_down(false);
            }
            if relay.life == Life::Up && at >= relay.heard + 30 {
                relay.life = Life::Suspect;
            }
        }
        if self.frozen.is_some() {
            return;
        }
        let lately = |relay: &Relay| {
            let own = matches!(relay.life, Life::Down { silent: false, .. }) || relay.refused.is_some();
            !own && (relay.heard + 30..=relay.heard + 230).contains(&at)
        };
        let dead: Vec<u16> = self.pick(|relay| !relay.is_down() && at >= relay.heard + 100);
        let together = self.pick(lately);
        let present = self.pick(|relay| !relay.is_down() || lately(relay)).len();
        if dead.is_empty() {
        } else if together.len() >= 3 && together.len() * 10 > present * 3 {
            for id in &together {
                let relay = self.relays.get_mut(id).unwrap();
                if relay.is_down() {
                    relay.life = Life::Suspect;
                }
            }
            self.frozen = Some((at, together.into_iter().collect()));
        } else {
            for id in dead {
                self.relays.get_mut(&id).unwrap().take_down(true);
            }
        }
    }

    /// After each round of probes.
    fn judge_loss(&mut self) {
        for relay in self.relays.values_mut() {
            if relay.probes.len() - relay.judged >= 110 {
                let judged = &relay.probes[relay.probes.len() - 110..relay.probes.len() - 10];
                relay.bad = if judged.iter().filter(|echoed| **echoed).count() < 80 { relay.bad + 1 } else { 0 };
                relay.judged = relay.probes.len() - 10;
            }
        }
        if self.frozen.is_some() {
            return;
        }
        let bad = self.pick(|relay| !relay.is_down() && relay.bad > 0).len();
        let present = self.pick(|relay| !relay.is_down()).len();
        for id in self.pick(|relay| !relay.is_down() && relay.bad >= 3) {
            if bad < 3 || bad * 10 <= present * 3 {
                self.relays.get_mut(&id).unwrap().take_down(false);
            }
        }
    }

    fn pick(&self, which: impl Fn(&Relay) -> bool) -> Vec<u16> {
        self.relays.iter().filter(|(_, relay)| which(relay)).map(|(id, _)| *id).collect()
    }

    /// Who gets a packet of a bucket, and whether as the acting one.
    fn goes(&self, bucket: u16) -> Option<(u16, bool)> {
        let (table, rows) = (self.table.as_ref()?, self.rows.as_ref()?);
        let id = |place: Place| table.relays[usize::from(place.0)].id.0;
        let mut order: Vec<u16> = Vec::new();
        while let Some(next) = rows.first(BucketId(bucket), |place| !order.contains(&id(place))) {
            order.push(id(next));
        }
        let first = *order.first()?;
        let serving = order.iter().find(|id| self.relays[id].serves());
        let any = || order.iter().find(|id| !self.relays[id].is_down());
        let chosen = *serving.or_else(any).unwrap_or(&first);
        Some((chosen, chosen != first))
    }
}

/// A history: the world and the model, told the same.
struct Both {
    world: World,
    model: Model,
    incarnations: BTreeMap<u16, u64>,
    epoch: u32,
}

const RELAYS: u64 = 7;
const CLIENTS: u64 = 12;

impl Both {
    fn new(seed: u64) -> Self {
        let world = World::new(false, seed);
        Self { world, model: Model::default(), incarnations: BTreeMap::new(), epoch: 0 }
    }

    fn catch_up(&mut self) {
        let at = self.world.ms;
        let (mut judged, mut round) = (false, false);
        for what in std::mem::take(&mut self.world.log) {
            // Probes right after a judgement are a round, which ends with the next judgement.
            match what {
                Happened::Judged if std::mem::take(&mut round) => self.model.judge_loss(),
                Happened::Probe(_) => round |= judged,
                _ => {}
            }
            judged = matches!(what, Happened::Judged | Happened::Probe(_)) && (judged || what == Happened::Judged);
            self.model.happened(at, what);
        }
    }

    fn plan(&mut self) {
        // Sometimes a table that somebody sends too late.
        if self.world.roll(4) > 0 {
            self.epoch += 1;
        }
        let mut rows = Vec::new();
        for id in 1..=RELAYS as u16 {
            let incarnation = self.incarnations.entry(id).or_insert(1);
            let standing = match self.world.roll(8) {
                0 => continue,
                1 => Standing::Filling,
                2 => Standing::Draining,
                _ => Standing::Serving,
            };
            if self.world.roll(6) == 0 {
                *incarnation += 1;
            }
            rows.push(row(id, *incarnation, standing));
        }
        let table = Table::new(self.epoch, rows);
        self.model.plan(self.world.ms, &table);
        self.world.plan(table);
        self.catch_up();
    }

    fn chance(&mut self) {
        let (relay, n) = ((self.world.roll(RELAYS) + 1) as u16, self.world.roll(CLIENTS) as u32);
        let bucket = self.world.roll(65_536) as u16;
        match self.world.roll(400) {
            0..=3 => self.plan(),
            4..=20 => {
                let fate = match self.world.roll(8) {
                    0..=3 => Fate::Lives(self.world.roll(12) + 1),
                    4..=5 => Fate::Silent,
                    6 => Fate::Gone,
                    _ if self.world.roll(4) == 0 => Fate::Replaced,
                    _ => Fate::Loses(self.world.roll(60)),
                };
                self.world.fates.insert(relay, fate);
            }
            // A link of ours: all of them at once.
            21 => self.world.fates.values_mut().for_each(|fate| *fate = Fate::Silent),
            22 => self.world.fates.values_mut().for_each(|fate| *fate = Fate::Lives(1)),
            30..=60 if self.model.relays.contains_key(&relay) => {
                let proven = self.world.back(relay, client(n), 0, Some(bucket));
                assert_eq!(proven, Back::To { flow: client(n), listener: 0 });
                self.model.flows.insert(n, bucket);
            }
            61..=70 => {
                self.world.claim(n, bucket);
                self.model.flows.insert(n, bucket);
            }
            71..=80 => {
                if let Some(claimed) = self.world.index.get(&n).copied() {
                    self.world.release(n);
                    if self.model.flows.get(&n) == Some(&claimed) {
                        self.model.flows.remove(&n);
                    }
                }
            }
            _ => {}
        }
    }

    fn compare(&mut self) {
        let bucket = self.world.roll(65_536) as u16;
        let at = self.world.ms;
        let by_ticket = self.world.send(client(0xff_0000), &ticket(bucket)).ok();
        assert_eq!(by_ticket.map(|went| (went.relay, went.acting)), self.model.goes(bucket), "at {at}");
        let n = self.world.roll(CLIENTS) as u32;
        let by_flow = self.world.send(client(n), &MEDIA).ok();
        let expected = self.model.flows.get(&n).and_then(|bucket| self.model.goes(*bucket));
        assert_eq!(by_flow.map(|went| (went.relay, went.acting)), expected, "at {at}");
        let location = self.world.steering.locate(BucketId(bucket));
        assert_eq!(location.frozen, self.model.frozen.is_some(), "at {at}");
        for seen in location.relays {
            let life = self.model.relays[&seen.id.0].life;
            let same = matches!(
                (seen.state, life),
                (State::Probing, Life::Probing { .. })
                    | (State::Up, Life::Up)
                    | (State::Suspect, Life::Suspect)
                    | (State::Down(Cause::Silent), Life::Down { silent: true, .. })
                    | (State::Down(_), Life::Down { silent: false, .. })
            );
            assert!(same, "at {at}: relay {} is {:?}, and {life:?} by the model", seen.id.0, seen.state);
        }
    }

    /// Every packet, and where it goes.
    fn verdicts(&mut self) -> Vec<Option<(u16, bool)>> {
        let by_flow: Vec<_> = (0..CLIENTS as u32).map(|n| self.world.send(client(n), &MEDIA).ok()).collect();
        let by_ticket = (0..256).map(|n| self.world.send(client(0xff_0000), &ticket(n * 256)).ok());
        let by_ticket: Vec<_> = by_ticket.collect();
        by_flow.into_iter().chain(by_ticket).map(|went| went.map(|went| (went.relay, went.acting))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_packet_goes_where_the_model_sends_it(seed: u64) {
        let mut both = Both::new(seed);
        both.world.fates = (1..=RELAYS as u16).map(|relay| (relay, Fate::Lives(1))).collect();
        both.plan();
        for _ in 0..4_000 {
            both.chance();
            both.world.step();
            both.catch_up();
            both.compare();
        }
    }

    #[test]
    fn whatever_happened_a_new_load_balancer_with_an_empty_table_comes_to_the_same_verdicts(seed: u64) {
        let mut both = Both::new(seed);
        both.world.fates = (1..=RELAYS as u16).map(|relay| (relay, Fate::Lives(1))).collect();
        both.plan();
        for _ in 0..1_000 {
            both.chance();
            both.world.step();
            both.catch_up();
        }
        // What relays do stays as it is; the store catches up with what they said; one more table lets those come back that
        // are there again.
        for fate in both.world.fates.values_mut() {
            *fate = if matches!(fate, Fate::Loses(_)) { Fate::Lives(1) } else { *fate };
        }
        for (n, bucket) in both.model.flows.clone() {
            both.world.claim(n, bucket);
        }
        both.world.run(300);
        both.catch_up();
        both.epoch += 1;
        let rows = both.world.table.clone().map(|table| table.relays).unwrap_or_default();
        both.world.plan(Table::new(both.epoch, rows));
        both.world.run(300);
        let frozen = both.world.steering.locate(BucketId(0)).frozen;
        let before = both.verdicts();
        both.world.really_replace();
        both.world.run(300);
        // What was silent before and during a fault of ours cannot be told apart by who was not there.
        prop_assume!(!frozen && !both.world.steering.locate(BucketId(0)).frozen);
        prop_assert_eq!(before, both.verdicts());
    }
}
