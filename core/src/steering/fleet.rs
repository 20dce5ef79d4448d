//! The relays of the table that we go by, and which of them a bucket goes to now.
//!
//! Decides what a new table changes, and the order in which relays are asked to act for one another. Leaves how each of them
//! is to `health` and `pulse`.

use core::net::SocketAddr;
use std::collections::VecDeque;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use tandem_wire::id::{BucketId, RelayId, Revision};
use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::{Cookie, Head};
use tandem_wire::units::Mono;

use super::counters::Counters;
use super::health::{Frozen, Health, State};
use super::rows::{Place, Rows};
use super::{Line, Output};
use crate::topology::{Incarnation, Row, Standing, Table};

/// A table with its rows. Making one takes up to a tenth of a second for 300 relays: not a thing for a packet thread.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) table: Table,
    pub(super) rows: Rows,
    /// Of the record.
    revision: Revision,
    /// The store has gone back to it.
    restored: bool,
}

impl Plan {
    /// Computes the rows of a table that stands in the store since `revision`.
    #[must_use]
    pub fn of(table: Table, revision: Revision) -> Self {
        let rows = Rows::of(&table);
        Self { table, rows, revision, restored: false }
    }

    /// The same, of a store that has gone back to this table: it is the truth though we have seen a later one.
    #[must_use]
    pub fn restored(self) -> Self {
        Self { restored: true, ..self }
    }

    /// The epoch of the table.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.table.epoch
    }
}

/// A relay of the table.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) id: RelayId,
    pub(super) incarnation: Incarnation,
    pub(super) cookie: Cookie,
    tunnel: SocketAddr,
    pub(super) standing: Standing,
    pub(super) line: Line,
    pub(super) health: Health,
}

/// Where a bucket goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) place: Place,
    /// It is not the one that the table names first.
    pub(super) acting: bool,
}

/// All relays of the table.
pub(super) struct Fleet {
    pub(super) epoch: u32,
    /// Of the table's record.
    revision: Revision,
    pub(super) rows: Option<Rows>,
    /// By their places in the table.
    pub(super) relays: Vec<Relay>,
    /// The places of those whose lines these are.
    lines: Vec<Option<Place>>,
    /// Where they take packets, in order.
    tunnels: Vec<ClientAddr>,
    pub(super) frozen: Option<Frozen>,
    /// When the next round of probes goes out.
    pub(super) next_probe: Option<Mono>,
    /// When somebody has to be looked at. Echoes only make it later, so it is computed anew when it has come.
    pub(super) due: Option<Mono>,
    /// Keys the stamps of probes.
    pub(super) stamps: SeedableRandomState,
    pub(super) outputs: VecDeque<Output>,
    pub(super) counters: Counters,
}

impl Fleet {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            epoch: 0,
            revision: Revision::ZERO,
            rows: None,
            relays: Vec::new(),
            lines: Vec::new(),
            tunnels: Vec::new(),
            frozen: None,
            next_probe: None,
            due: None,
            stamps: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Goes by a later table from now on; an earlier one, or the same, changes nothing. Gives whether it did. Which is later
    /// the store decides, by its revisions: epochs begin anew with a store that was wiped.
    pub(super) fn take_over(&mut self, now: Mono, plan: Plan) -> bool {
        let another = if plan.restored { plan.revision != self.revision } else { plan.revision > self.revision };
        if self.rows.is_some() && !another {
            return false;
        }
        let mut before = core::mem::take(&mut self.relays);
        let rows = plan.table.relays;
        // Lines that end are given back first, so that their numbers can be used again.
        let named = |relay: &Relay| rows.iter().any(|row| row.id == relay.id && row.tunnel == relay.tunnel);
        for relay in before.iter().filter(|relay| !named(relay)) {
            if let Some(place) = self.lines.get_mut(usize::from(relay.line.0)) {
                *place = None;
            }
            self.outputs.push_back(Output::Disconnect { line: relay.line });
        }
        for (row, at) in rows.iter().zip(0..u16::MAX) {
            let known = before.iter().position(|relay| relay.id == row.id).map(|at| before.swap_remove(at));
            let relay = self.seat(now, row, Place(at), known);
            self.relays.push(relay);
        }
        self.tunnels = self.relays.iter().map(|relay| ClientAddr::new(relay.tunnel)).collect();
        self.tunnels.sort_unstable();
        (self.epoch, self.revision, self.rows) = (plan.table.epoch, plan.revision, Some(plan.rows));
        if let Some(frozen) = &mut self.frozen {
            let relays = &self.relays;
            frozen.keep(|id| relays.iter().any(|relay| relay.id == id));
        }
        // Those that are new are asked at once.
        (self.next_probe, self.due) = (Some(self.next_probe.map_or(now, |at| at.min(now))), Some(now));
        true
    }

    /// Gives a row its place: the relay that was there goes on, with what is known of it, if it is the same run.
    fn seat(&mut self, now: Mono, row: &Row, place: Place, known: Option<Relay>) -> Relay {
        let innocent = known.is_none();
        let (line, same) = match &known {
            Some(relay) if relay.tunnel == row.tunnel => (Some(relay.line), relay.incarnation == row.incarnation),
            _ => (None, false),
        };
        let line = line.unwrap_or_else(|| self.free_line(row.tunnel));
        if let Some(slot) = self.lines.get_mut(usize::from(line.0)) {
            *slot = Some(place);
        }
        let mut health = match known {
            Some(relay) if same => relay.health,
            _ => Health::probing(now, innocent),
        };
        let before = health.state();
        health.named_again(now);
        if !same || before != health.state() {
            self.outputs.push_back(Output::Turned { relay: row.id, state: health.state() });
        }
        let Row { id, incarnation, cookie, tunnel, standing, stops: _ } = *row;
        Relay { id, incarnation, cookie, tunnel, standing, line, health }
    }

    fn free_line(&mut self, to: SocketAddr) -> Line {
        let at = self.lines.iter().position(Option::is_none).unwrap_or(self.lines.len());
        if at == self.lines.len() {
            self.lines.push(None);
        }
        // There are no more lines than places in a table.
        let line = Line(u16::try_from(at).unwrap_or(u16::MAX));
        self.outputs.push_back(Output::Connect { line, to });
        line
    }

    pub(super) fn relay(&self, place: Place) -> Option<&Relay> {
        self.relays.get(usize::from(place.0))
    }

    pub(super) fn place_of(&self, line: Line) -> Option<Place> {
        self.lines.get(usize::from(line.0)).copied().flatten()
    }

    pub(super) fn at_line(&mut self, line: Line) -> Option<&mut Relay> {
        let place = self.place_of(line)?;
        self.relays.get_mut(usize::from(place.0))
    }

    /// Whether a relay takes packets at this address.
    pub(super) fn is_relay(&self, client: ClientAddr) -> bool {
        self.tunnels.binary_search(&client).is_ok()
    }

    pub(super) fn tunnels(&self) -> &[ClientAddr] {
        &self.tunnels
    }

    fn is(&self, place: Place, what: impl Fn(&Health) -> bool) -> bool {
        self.relay(place).is_some_and(|relay| what(&relay.health))
    }

    /// Where the packets of a bucket go: its primary; if that does not serve, its secondary; then the others in the order of
    /// their scores. If nobody serves, who might; if everybody is down, the primary: it can only get better.
    #[inline]
    pub(super) fn choose(&self, bucket: BucketId) -> Option<Choice> {
        let rows = self.rows.as_ref()?;
        let primary = rows.primary(bucket)?;
        if self.is(primary, Health::serves) {
            return Some(Choice { place: primary, acting: false });
        }
        if let Some(secondary) = rows.secondary(bucket)
            && self.is(secondary, Health::serves)
        {
            return Some(Choice { place: secondary, acting: true });
        }
        let first = |what: fn(&Health) -> bool| rows.first(bucket, |place| self.is(place, what));
        let place = first(Health::serves).or_else(|| first(Health::could_serve)).unwrap_or(primary);
        Some(Choice { place, acting: place != primary })
    }

    /// Where somebody goes of whom nothing is known: to the relay of a bucket that nobody outside can choose, or the next one
    /// if that takes nothing new.
    pub(super) fn choose_for_new(&self, bucket: BucketId) -> Option<Choice> {
        let choice = self.choose(bucket)?;
        if self.is(choice.place, Health::takes_new) {
            return Some(choice);
        }
        let rows = self.rows.as_ref()?;
        let open = rows.first(bucket, |place| self.is(place, Health::takes_new));
        Some(open.map_or(choice, |place| Choice { place, acting: rows.primary(bucket) != Some(place) }))
    }

    /// The head of a packet.
    #[inline]
    pub(super) fn head(
        &self,
        choice: Choice,
        client: ClientAddr,
        bucket: BucketId,
        listener: u8,
    ) -> Option<(Line, Head)> {
        let relay = self.relay(choice.place)?;
        let head = Head::to_relay(client, bucket, self.epoch, relay.cookie);
        Some((relay.line, Head { acting: choice.acting, listener, ..head }))
    }

    /// How many relays are probing, up, suspect and down.
    pub(super) fn states(&self) -> [u64; 4] {
        let mut counts = [0; 4];
        for relay in &self.relays {
            let at = match relay.health.state() {
                State::Probing => 0,
                State::Up => 1,
                State::Suspect => 2,
                State::Down(_) => 3,
            };
            if let Some(count) = counts.get_mut(at) {
                *count += 1;
            }
        }
        counts
    }
}
