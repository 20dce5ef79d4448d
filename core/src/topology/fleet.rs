//! The records that a fleet is made of: each relay's entry, and the table of which relays share the buckets out.
//!
//! Decides what stands in them and how a relay's entry may change. Leaves who writes a table, and when, to `membership`,
//! and which relay a bucket belongs to by a table to `steering`.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tandem_wire::id::{RelayId, Revision};
use tandem_wire::tunnel::Cookie;

use super::{RECORD_VERSION, RecordError, Unknown, read};

/// Which run of a relay: a relay that is started again has a higher one. It is made from a revision of the store, so that
/// no clock can make it fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The next one: above what stands in the entry now, and above every one that stood there before it was removed, since
    /// each of these was written at a revision before `at`.
    #[must_use]
    pub fn next(before: Option<&Member>, at: Revision) -> Self {
        let before = before.map_or(0, |member| member.incarnation.0);
        Self(before.max(at.0).saturating_add(1))
    }
}

/// What a relay wants of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Its share of the buckets.
    Serve,
    /// None: it is to end, and goes on with what it has until the table says that others have it.
    Drain,
}

/// A relay's entry in the list of the PoP's relays. Written by the relay alone, and removed by who keeps the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Version of the record.
    pub v: u32,
    /// Which run of the relay wrote it. A relay that finds a higher one than its own stops.
    pub incarnation: Incarnation,
    /// What load balancers show it.
    pub cookie: Cookie,
    /// Where load balancers and other relays send it packets.
    pub tunnel: SocketAddr,
    /// What it wants.
    pub wish: Wish,
    /// The epoch of the newest table that it holds all of its calls by.
    pub warm: u32,
    /// How often it stood still for so long that it may have been taken for down: by a new table it is heard again.
    #[serde(default)]
    pub stops: u32,
    /// Counts on while the relay lives: an entry that no longer changes is of one that does not.
    pub beat: u64,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a relay is to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It loads the calls that it would have, and has none yet.
    Filling,
    /// It has its share.
    Serving,
    /// Its share has gone to others.
    Draining,
}

/// A relay in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Which relay.
    pub id: RelayId,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// What load balancers show it.
    pub cookie: Cookie,
    /// Where it takes packets.
    pub tunnel: SocketAddr,
    /// What it is to the table.
    pub standing: Standing,
    /// How often it stood still, when the table was written.
    #[serde(default)]
    pub stops: u32,
}

/// The table of buckets: its relays, from which everybody computes the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Version of the record.
    pub v: u32,
    /// Counts the tables of this PoP.
    pub epoch: u32,
    /// The relays, by their ids, each once.
    pub relays: Vec<Row>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Member {
    /// The entry of a relay that starts.
    #[must_use]
    pub const fn starting(incarnation: Incarnation, cookie: Cookie, tunnel: SocketAddr) -> Self {
        Self {
            v: RECORD_VERSION,
            incarnation,
            cookie,
            tunnel,
            wish: Wish::Serve,
            warm: 0,
            stops: 0,
            beat: 0,
            unknown: Unknown::new(),
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes, |record: &Self| record.v)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], if an unknown field cannot be written back.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Its row in a table.
    #[must_use]
    pub const fn row(&self, id: RelayId, standing: Standing) -> Row {
        let Self { incarnation, cookie, tunnel, stops, .. } = *self;
        Row { id, incarnation, cookie, tunnel, standing, stops }
    }
}

impl Table {
    /// A table of these relays.
    #[must_use]
    pub fn new(epoch: u32, mut relays: Vec<Row>) -> Self {
        relays.sort_by_key(|row| row.id);
        relays.dedup_by_key(|row| row.id);
        Self { v: RECORD_VERSION, epoch, relays, unknown: Unknown::new() }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`]; relays out of order or named twice are [`RecordError::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        let record = read(bytes, |record: &Self| record.v)?;
        let ordered = record.relays.iter().zip(record.relays.iter().skip(1)).all(|(one, next)| one.id < next.id);
        if !ordered {
            return Err(RecordError::Malformed(serde::de::Error::custom(
                "relays of a table stand in the order of their ids",
            )));
        }
        Ok(record)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], if an unknown field cannot be written back.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The row of a relay.
    #[must_use]
    pub fn row(&self, id: RelayId) -> Option<&Row> {
        self.relays.binary_search_by_key(&id, |row| row.id).ok().and_then(|at| self.relays.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        let tunnel = "192.0.2.7:7000".parse().unwrap();
        Member { warm: 3, stops: 2, beat: 4, ..Member::starting(Incarnation(17), Cookie::from_bits(0xab), tunnel) }
    }

    #[test]
    fn the_records_have_these_golden_texts_and_survive_them() {
        let text = r#"{"v":1,"incarnation":17,"cookie":"00000000000000ab","tunnel":"192.0.2.7:7000","wish":"serve","warm":3,"stops":2,"beat":4}"#;
        assert_eq!(String::from_utf8(member().to_json().unwrap()).unwrap(), text);
        assert_eq!(Member::from_json(text.as_bytes()).unwrap(), member());
        let table = Table::new(5, vec![member().row(RelayId(2), Standing::Filling)]);
        let text = r#"{"v":1,"epoch":5,"relays":[{"id":2,"incarnation":17,"cookie":"00000000000000ab","tunnel":"192.0.2.7:7000","standing":"filling","stops":2}]}"#;
        assert_eq!(String::from_utf8(table.to_json().unwrap()).unwrap(), text);
        assert_eq!(Table::from_json(text.as_bytes()).unwrap(), table);
        assert_eq!(table.row(RelayId(2)), table.relays.first());
        assert_eq!(table.row(RelayId(1)), None);
    }

    #[test]
    fn what_a_newer_version_wrote_is_kept_and_a_newer_record_is_refused() {
        let text = String::from_utf8(member().to_json().unwrap()).unwrap();
        let newer = text.replace("\"beat\":4", "\"beat\":4,\"zone\":\"b\"");
        let read = Member::from_json(newer.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(read.to_json().unwrap()).unwrap(), newer);
        let newer = text.replace("\"v\":1", "\"v\":2");
        assert!(matches!(Member::from_json(newer.as_bytes()), Err(RecordError::Newer { found: 2 })));
    }

    #[test]
    fn a_table_whose_relays_are_out_of_order_is_refused() {
        let rows = [3, 1, 3, 2].map(|id| member().row(RelayId(id), Standing::Serving));
        let mut table = Table::new(1, rows.to_vec());
        assert_eq!(table.relays.iter().map(|row| row.id.0).collect::<Vec<_>>(), [1, 2, 3]);
        table.relays.swap(0, 1);
        assert!(Table::from_json(&table.to_json().unwrap()).is_err());
    }

    #[test]
    fn an_incarnation_is_above_every_earlier_one_even_if_its_entry_is_gone() {
        assert_eq!(Incarnation::next(None, Revision(9)), Incarnation(10));
        assert_eq!(Incarnation::next(Some(&member()), Revision(9)), Incarnation(18));
    }
}
