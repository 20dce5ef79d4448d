//! Who is in the fleet, and when the table of buckets is written anew.
//!
//! Decides over the relays' entries and the table as the store has them (docs/fleet.md): a new table when the entries have
//! been the same for a while and say something else than the table, and the removal of an entry that no longer changes. Any
//! number of state servers may do this at once: each write is based on the record that it was decided on, and one wins.
//! Leaves the rows of a table to `steering`, and whether a relay is down to the load balancers: an entry is only garbage
//! when its relay has been gone for long.
//!
//! `handle` in, `poll` until `None`, `next_deadline` between.

use std::collections::{BTreeMap, VecDeque};

use tandem_wire::id::{RelayId, Revision};
use tandem_wire::units::{Mono, Now};

use crate::limits;
use crate::topology::{Member, Row, Standing, Table, Wish};

/// What a keeper is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// Everything, as the store has it: at first, and again whenever changes may have been missed.
    Listed {
        /// The relays' entries.
        members: Vec<(RelayId, Member, Revision)>,
        /// The table, if there is one.
        table: Option<(Table, Revision)>,
    },
    /// A relay's entry is now this one (`None`: removed).
    Member {
        /// Which relay's.
        id: RelayId,
        /// The entry, and the revision of its change.
        entry: Option<(Member, Revision)>,
    },
    /// The table is now this one (`None`: somebody removed it).
    Table(Option<(Table, Revision)>),
    /// The store cannot be written, or could not be until now: relays cannot show that they live either.
    Away,
    /// Time has passed.
    Tick,
}

/// What a keeper wants written. If it is refused as stale, the change that made it so is on its way here.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// This table, if the stored one is still of this revision (zero: there is none).
    WriteTable {
        /// The table.
        table: Table,
        /// What it was decided on.
        based_on: Revision,
    },
    /// Without this entry, if it is still of this revision.
    Remove {
        /// Whose entry.
        id: RelayId,
        /// What it was decided on.
        based_on: Revision,
    },
}

#[derive(Debug)]
struct Known {
    entry: Member,
    revision: Revision,
    /// When it changed last, or began to be looked at.
    changed: Mono,
    /// From when on its silence counts: from then, or from when nobody could be heard.
    heard: Mono,
    /// Its removal was asked for at this moment.
    removing: Option<Mono>,
}

impl Known {
    fn new(entry: Member, revision: Revision, now: Mono) -> Self {
        Self { entry, revision, changed: now, heard: now, removing: None }
    }
}

/// One state server's view of the fleet.
#[derive(Debug, Default)]
pub struct Keeper {
    members: BTreeMap<RelayId, Known>,
    table: Option<(Table, Revision)>,
    /// Whether the store has said what it has.
    listed: bool,
    /// Since when the entries say something else than the table, without having changed.
    differs: Option<Mono>,
    outputs: VecDeque<Output>,
}

impl Keeper {
    /// Takes in what happened, and does what is due by `now`.
    pub fn handle(&mut self, now: Now, input: Input) {
        let now = now.mono;
        let nobody_was_heard = !self.somebody_is_heard(now);
        match input {
            Input::Listed { members, table } => {
                let mut before = std::mem::take(&mut self.members);
                for (id, entry, revision) in members {
                    let same = before.remove(&id).filter(|known| known.revision == revision);
                    self.members.insert(id, same.unwrap_or_else(|| Known::new(entry, revision, now)));
                }
                (self.table, self.listed) = (table, true);
                self.changed(now);
            }
            Input::Member { id, entry: Some((entry, revision)) } => {
                let before = self.members.insert(id, Known::new(entry, revision, now));
                // A beat alone says nothing new.
                let says = |entry: &Member| (entry.row(id, Standing::Serving), entry.wish, entry.warm);
                let now_says = self.members.get(&id).map(|known| says(&known.entry));
                if before.map(|known| says(&known.entry)) != now_says {
                    self.changed(now);
                }
            }
            Input::Member { id, entry: None } => {
                if self.members.remove(&id).is_some() {
                    self.changed(now);
                }
            }
            Input::Table(table) => {
                self.table = table;
                self.changed(now);
            }
            Input::Away => {
                self.forgive(now);
                self.changed(now);
            }
            Input::Tick => {}
        }
        if nobody_was_heard && self.somebody_is_heard(now) {
            self.forgive(now);
        }
        self.act(now);
    }

    /// What is to be written, oldest first.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When something is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let silent = self.members.values().map(|known| match known.removing {
            Some(asked) => asked.after(limits::TIMER_RETRY),
            None => known.heard.after(limits::MEMBER_SILENT),
        });
        let table = self.differs.map(|since| since.after(limits::FLEET_STABLE));
        silent.chain(table).min().filter(|_| self.listed)
    }

    fn changed(&mut self, now: Mono) {
        self.differs = self.wanted().is_some().then_some(now);
    }

    fn act(&mut self, now: Mono) {
        if !self.listed {
            return;
        }
        let somebody_is_heard = self.somebody_is_heard(now);
        for (id, known) in &mut self.members {
            let silent = now.since(known.heard) >= limits::MEMBER_SILENT;
            let again = known.removing.is_none_or(|asked| now.since(asked) >= limits::TIMER_RETRY);
            if silent && !somebody_is_heard {
                known.heard = now;
            } else if silent && again {
                known.removing = Some(now);
                self.outputs.push_back(Output::Remove { id: *id, based_on: known.revision });
            }
        }
        if self.differs.is_some_and(|since| now.since(since) >= limits::FLEET_STABLE) {
            // Written again after as long, unless somebody's table has come by then.
            self.differs = Some(now);
            if let Some(table) = self.wanted() {
                let based_on = self.table.as_ref().map_or(Revision::ZERO, |(_, revision)| *revision);
                self.outputs.push_back(Output::WriteTable { table, based_on });
            }
        }
    }

    /// Whether silence is that of a relay. Otherwise it is the store that they cannot reach, or all are gone and there is
    /// nobody who could take their share.
    fn somebody_is_heard(&self, now: Mono) -> bool {
        self.members.values().any(|known| now.since(known.changed) < limits::MEMBER_HEARD)
    }

    /// From now on everybody has as long as ever to be heard.
    fn forgive(&mut self, now: Mono) {
        for known in self.members.values_mut() {
            (known.heard, known.removing) = (now, None);
        }
    }

    /// The table that the entries ask for, if it is another one than there is.
    fn wanted(&self) -> Option<Table> {
        let rows = |standing: &dyn Fn(RelayId, &Member) -> Standing| -> Vec<Row> {
            self.members.iter().map(|(id, known)| known.entry.row(*id, standing(*id, &known.entry))).collect()
        };
        let mut wanted = rows(&|id, entry| self.standing(id, entry));
        if wanted.iter().all(|row| row.standing != Standing::Serving) {
            // Nobody to take anything from: whoever wants to serve does so at once.
            wanted = rows(&|_, entry| match entry.wish {
                Wish::Serve => Standing::Serving,
                Wish::Drain => Standing::Draining,
            });
        }
        let (epoch, same) = match &self.table {
            Some((table, _)) => (table.epoch, table.relays == wanted),
            None => (0, wanted.is_empty()),
        };
        (!same).then(|| Table { unknown: self.kept(), ..Table::new(epoch.saturating_add(1), wanted) })
    }

    /// What a newer version wrote into the table stays in it.
    fn kept(&self) -> crate::topology::Unknown {
        self.table.as_ref().map(|(table, _)| table.unknown.clone()).unwrap_or_default()
    }

    /// What a relay should be, by its entry and by what it is.
    fn standing(&self, id: RelayId, entry: &Member) -> Standing {
        let row = self.table.as_ref().and_then(|(table, _)| Some((table.row(id)?, table.epoch)));
        let row = row.filter(|(row, _)| row.incarnation == entry.incarnation);
        match (entry.wish, row) {
            (Wish::Drain, _) => Standing::Draining,
            // It holds what it will have by a table in which it filled.
            (Wish::Serve, Some((row, epoch))) => match row.standing {
                Standing::Serving => Standing::Serving,
                Standing::Filling | Standing::Draining if entry.warm >= epoch => Standing::Serving,
                Standing::Filling | Standing::Draining => Standing::Filling,
            },
            (Wish::Serve, None) => Standing::Filling,
        }
    }
}

#[cfg(test)]
mod tests;
