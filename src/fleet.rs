//! The relays of a PoP as an operator is told of them: by a state server in JSON, by `tandem admin` in a table.
//!
//! Decides what is shown. Leaves what it means to the records and to `core::load`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tandem_core::topology::{Member, Standing, Table, Wish};
use tandem_state_client::{BucketSet, Key, SeenLoad, Store, StoreError};
use tandem_wire::id::{PopId, RelayId};

/// The table's epoch, and everybody who has an entry or stands in it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fleet {
    /// Of the table; without a table there is none.
    pub(crate) epoch: Option<u32>,
    pub(crate) relays: Vec<Relay>,
}

/// One relay.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Relay {
    relay: RelayId,
    /// Of its entry; without one, of the table.
    incarnation: u64,
    /// In the table, if that names this run of it.
    standing: Option<Standing>,
    /// What it wants; without an entry it is gone, and the next table has it no more.
    wish: Option<Wish>,
    /// The table that it holds all of its calls by.
    warm_epoch: Option<u32>,
    /// What it said last, if that was within 5 s.
    load: Option<Load>,
}

/// What a relay said of itself, and how long ago.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Load {
    age_ms: u64,
    /// The table that it goes by.
    epoch: u32,
    calls: u32,
    allocations: u32,
    received_packets_per_s: u32,
    sent_packets_per_s: u32,
    received_bytes_per_s: u64,
    sent_bytes_per_s: u64,
    dropped_packets_per_s: u32,
    cpu_permille: u16,
}

impl From<&SeenLoad> for Load {
    fn from(seen: &SeenLoad) -> Self {
        let load = seen.report.load;
        Self {
            age_ms: u64::try_from(seen.age.as_millis()).unwrap_or(u64::MAX),
            epoch: seen.report.epoch,
            calls: load.calls,
            allocations: load.allocations,
            received_packets_per_s: load.received_packets_per_s,
            sent_packets_per_s: load.sent_packets_per_s,
            received_bytes_per_s: load.received_bytes_per_s,
            sent_bytes_per_s: load.sent_bytes_per_s,
            dropped_packets_per_s: load.dropped_packets_per_s,
            cpu_permille: load.cpu_permille,
        }
    }
}

impl Fleet {
    /// The fleet of `pop`, as `store` has it now. A record that cannot be read is left out.
    pub(crate) async fn read(store: &dyn Store, pop: PopId) -> Result<Self, StoreError> {
        let listing = store.restore(&BucketSet::fleet()).await?;
        let loads = store.loads().await?;
        let mut table = None;
        let mut members = BTreeMap::new();
        for entry in &listing.entries {
            match entry.key {
                Key::Relay(_, relay) => {
                    members.extend(Member::from_json(&entry.value).ok().map(|member| (relay, member)));
                }
                key if key == Key::Table(pop) => table = Table::from_json(&entry.value).ok(),
                _ => {}
            }
        }
        Ok(Self::of(table.as_ref(), &members, &loads))
    }

    fn of(table: Option<&Table>, members: &BTreeMap<RelayId, Member>, loads: &[SeenLoad]) -> Self {
        let rows = table.map(|table| table.relays.as_slice()).unwrap_or_default();
        let mut relays: BTreeMap<RelayId, Relay> = BTreeMap::new();
        for row in rows {
            let (relay, incarnation, standing) = (row.id, row.incarnation.0, Some(row.standing));
            relays.insert(relay, Relay { relay, incarnation, standing, wish: None, warm_epoch: None, load: None });
        }
        for (id, member) in members {
            let row = table.and_then(|table| table.row(*id));
            let standing = row.filter(|row| row.incarnation == member.incarnation).map(|row| row.standing);
            let said = loads.iter().find(|seen| seen.report.relay == *id);
            let relay = Relay {
                relay: *id,
                incarnation: member.incarnation.0,
                standing,
                wish: Some(member.wish),
                warm_epoch: Some(member.warm),
                load: said.map(Load::from),
            };
            relays.insert(*id, relay);
        }
        Self { epoch: table.map(|table| table.epoch), relays: relays.into_values().collect() }
    }
}

const HEADS: [&str; 15] = [
    "RELAY",
    "INCARNATION",
    "STANDING",
    "WISH",
    "WARM",
    "EPOCH",
    "CALLS",
    "ALLOCATIONS",
    "IN pkt/s",
    "OUT pkt/s",
    "IN B/s",
    "OUT B/s",
    "DROPPED pkt/s",
    "CPU 1/1000",
    "AGE ms",
];

impl Relay {
    /// As [`HEADS`] says; `-` is what nobody knows.
    fn cells(&self) -> [String; HEADS.len()] {
        let load = self.load.as_ref();
        let known = |what: fn(&Load) -> u64| load.map_or_else(|| "-".to_owned(), |load| what(load).to_string());
        let standing = self.standing.map_or("-", |standing| match standing {
            Standing::Filling => "filling",
            Standing::Serving => "serving",
            Standing::Draining => "draining",
        });
        let wish = self.wish.map_or("-", |wish| match wish {
            Wish::Serve => "serve",
            Wish::Drain => "drain",
        });
        [
            self.relay.0.to_string(),
            self.incarnation.to_string(),
            standing.to_owned(),
            wish.to_owned(),
            self.warm_epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
            known(|load| load.epoch.into()),
            known(|load| load.calls.into()),
            known(|load| load.allocations.into()),
            known(|load| load.received_packets_per_s.into()),
            known(|load| load.sent_packets_per_s.into()),
            known(|load| load.received_bytes_per_s),
            known(|load| load.sent_bytes_per_s),
            known(|load| load.dropped_packets_per_s.into()),
            known(|load| load.cpu_permille.into()),
            known(|load| load.age_ms),
        ]
    }
}

/// A table for people: a line that names the epoch, one of heads, one for each relay.
impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => writeln!(f, "table {epoch}, {} relays", self.relays.len())?,
            None => writeln!(f, "no table, {} relays", self.relays.len())?,
        }
        let rows: Vec<_> = self.relays.iter().map(Relay::cells).collect();
        let heads = HEADS.map(str::to_owned);
        let lines = || std::iter::once(&heads).chain(&rows);
        let mut widths = [0; HEADS.len()];
        for line in lines() {
            widths.iter_mut().zip(line).for_each(|(width, cell)| *width = cell.len().max(*width));
        }
        for line in lines() {
            let padded = line.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}"));
            writeln!(f, "{}", padded.collect::<Vec<_>>().join("  "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use tandem_core::load::{self, Report};
    use tandem_core::topology::Incarnation;
    use tandem_wire::tunnel::Cookie;

    fn fleet() -> Fleet {
        let member = |n| {
            let tunnel = "127.0.0.1:7000".parse().unwrap();
            Member::starting(Incarnation(n), Cookie::from_bits(1), tunnel)
        };
        let serving = |id, n| member(n).row(RelayId(id), Standing::Serving);
        // 1 serves, 2 was started again, 3 is gone, 4 is new.
        let table = Table::new(9, vec![serving(1, 10), serving(2, 20), serving(3, 30)]);
        let members = [(1, 10), (2, 21), (4, 40)].map(|(id, n)| (RelayId(id), Member { warm: 9, ..member(n) })).into();
        let load = load::Load { calls: 12, allocations: 24, cpu_permille: 70, ..load::Load::default() };
        let report = Report { relay: RelayId(1), incarnation: Incarnation(10), epoch: 9, load };
        let loads = [SeenLoad { report, age: Duration::from_millis(430) }];
        Fleet::of(Some(&table), &members, &loads)
    }

    #[test]
    fn each_relay_of_the_table_and_of_the_entries_stands_there_once() {
        let fleet = fleet();
        let rows: Vec<_> = fleet
            .relays
            .iter()
            .map(|r| (r.relay.0, r.incarnation, r.standing.is_some(), r.wish.is_some(), r.load.is_some()))
            .collect();
        let expected = [
            (1, 10, true, true, true),
            (2, 21, false, true, false),
            (3, 30, true, false, false),
            (4, 40, false, true, false),
        ];
        assert_eq!((fleet.epoch, rows), (Some(9), expected.to_vec()));
        let json = serde_json::to_string(&fleet).unwrap();
        assert_eq!(serde_json::from_str::<Fleet>(&json).unwrap(), fleet, "what is told can be printed");
    }

    #[test]
    fn a_table_for_people_stands_in_columns_and_what_is_not_known_is_a_dash() {
        let text = fleet().to_string();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").filter(|c| !c.is_empty()).collect()).collect();
        assert_eq!(lines[0], ["table 9, 4 relays"]);
        assert_eq!(lines[1].len(), HEADS.len());
        let first: Vec<&str> = lines[2].iter().map(|cell| cell.trim()).collect();
        assert_eq!(first, ["1", "10", "serving", "serve", "9", "9", "12", "24", "0", "0", "0", "0", "0", "70", "430"]);
        assert!(lines[4].iter().skip(3).all(|cell| cell.trim() == "-"), "{text}");
        let widths: std::collections::BTreeSet<usize> = text.lines().skip(1).map(str::len).collect();
        assert_eq!(widths.len(), 1, "{text}");
    }
}
