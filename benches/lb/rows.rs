//! How evenly buckets are shared out, and how many move when a relay comes or goes: arithmetic, not measured.

use std::collections::HashMap;

use tandem_core::steering::{BUCKETS, Rows};
use tandem_core::topology::{Incarnation, Member, Standing, Table};
use tandem_wire::id::{BucketId, RelayId};
use tandem_wire::tunnel::Cookie;

use crate::sys;

fn table(relays: impl Iterator<Item = u16>) -> Table {
    let member = Member::starting(Incarnation(1), Cookie::from_bits(1), ([127, 0, 0, 1], 1).into());
    Table::new(1, relays.map(|id| member.row(RelayId(id), Standing::Serving)).collect())
}

/// Who has each bucket.
fn owners(table: &Table) -> Vec<Option<RelayId>> {
    let rows = Rows::of(table);
    let id = |bucket| {
        rows.primary(BucketId(bucket)).and_then(|place| table.relays.get(usize::from(place.0))).map(|row| row.id)
    };
    (0..=u16::MAX).map(id).collect()
}

/// Prints a line for each size of a fleet.
pub(crate) fn report() {
    println!(
        "\n| relays | fullest, of the mean | buckets moved, one lost | … that were not its own | one added | rows computed in |"
    );
    println!("|---|---|---|---|---|---|");
    for relays in [4_u16, 30, 300] {
        let before = sys::monotonic();
        let all = owners(&table(1..=relays));
        let took = (sys::monotonic() - before) as f64 / 1e6;
        let mut shares: HashMap<RelayId, u32> = HashMap::new();
        all.iter().flatten().for_each(|owner| *shares.entry(*owner).or_default() += 1);
        let mean = BUCKETS as f64 / f64::from(relays);
        let fullest = shares.values().copied().max().map_or(f64::NAN, f64::from) / mean;
        let moved = |other: &[Option<RelayId>]| all.iter().zip(other).filter(|(one, other)| one != other).count();
        let lost = RelayId(relays / 2);
        let without = owners(&table((1..=relays).filter(|id| *id != lost.0)));
        let innocent = all.iter().zip(&without).filter(|(one, other)| one != other && **one != Some(lost)).count();
        let more = owners(&table(1..=relays + 1));
        let percent = |count: usize| count as f64 * 100.0 / BUCKETS as f64;
        println!(
            "| {relays} | {fullest:.3} | {:.2} % | {innocent} | {:.2} % | {took:.1} ms |",
            percent(moved(&without)),
            percent(moved(&more))
        );
    }
}
