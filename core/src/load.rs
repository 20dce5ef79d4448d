//! How loaded the relays of a PoP are, by what each says of itself once a second.
//!
//! Decides which report counts: one of a relay's present run, the latest, and not for long. Nothing of it is stored.
//! Leaves how reports travel to `tandem-state-client`, and what is refused because of them to admission.

use std::collections::BTreeMap;

use tandem_wire::id::RelayId;
use tandem_wire::units::{Mono, Span};

use crate::limits;
use crate::topology::Incarnation;

/// How loaded a relay is. Rates are those of the second before, give or take a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Calls in memory, those that it holds as a secondary too.
    pub calls: u32,
    /// Allocations in memory, likewise. A leg has one, as a rule.
    pub allocations: u32,
    /// Datagrams received in a second.
    pub received_packets_per_s: u32,
    /// Datagrams sent in a second.
    pub sent_packets_per_s: u32,
    /// Bytes of the datagrams received in a second: what UDP carries, with the heads of the tunnel.
    pub received_bytes_per_s: u64,
    /// Bytes of the datagrams sent in a second, likewise.
    pub sent_bytes_per_s: u64,
    /// Packets dropped in a second, for whatever cause.
    pub dropped_packets_per_s: u32,
    /// How much of a core the packet thread takes, in thousandths.
    pub cpu_permille: u16,
}

/// What a relay says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Who says it.
    pub relay: RelayId,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// The table that it goes by; 0: none yet.
    pub epoch: u32,
    /// How loaded it is.
    pub load: Load,
}

impl Report {
    /// Whether a relay can be loaded so: no more than it has room for, and no more than one core.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let within = |count: u32, max: usize| usize::try_from(count).is_ok_and(|count| count <= max);
        within(self.load.calls, limits::CALLS_PER_RELAY)
            && within(self.load.allocations, limits::ALLOCATIONS_PER_RELAY)
            && self.load.cpu_permille <= limits::CPU_PERMILLE_MAX
    }
}

/// Why a report does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// No relay has registered with this id, or not yet with this incarnation.
    #[error("nobody has registered so")]
    Unknown,
    /// Another run of the relay has registered since.
    #[error("the relay has been started again since")]
    Older,
    /// No relay can be loaded so.
    #[error("no relay can be loaded so")]
    Impossible,
    /// [`limits::LOADS_KEPT`] relays have said something already.
    #[error("too many relays report")]
    OverCap,
}

/// The latest report of each relay, for as long as it counts.
#[derive(Debug, Default)]
pub struct Loads {
    kept: BTreeMap<RelayId, (Report, Mono)>,
}

impl Loads {
    /// Takes a report that came now; `registered` is the incarnation that stands in its relay's entry, if it has one. It
    /// takes the place of the one before.
    ///
    /// # Errors
    /// [`Ignored`]: then nothing has changed.
    pub fn take(&mut self, now: Mono, report: Report, registered: Option<Incarnation>) -> Result<(), Ignored> {
        match registered {
            Some(registered) if registered == report.incarnation => {}
            Some(registered) if registered > report.incarnation => return Err(Ignored::Older),
            _ => return Err(Ignored::Unknown),
        }
        if !report.is_possible() {
            return Err(Ignored::Impossible);
        }
        self.kept.retain(|_, (_, came)| now.since(*came) <= limits::LOAD_COUNTS);
        if self.kept.len() >= limits::LOADS_KEPT && !self.kept.contains_key(&report.relay) {
            return Err(Ignored::OverCap);
        }
        self.kept.insert(report.relay, (report, now));
        Ok(())
    }

    /// The reports that count, by the ids of their relays, and how old each is: none that is older than
    /// [`limits::LOAD_COUNTS`], and none of a run that is not the `registered` one any more.
    pub fn counting(
        &self,
        now: Mono,
        registered: impl Fn(RelayId) -> Option<Incarnation>,
    ) -> impl Iterator<Item = (Report, Span)> {
        let aged = self.kept.values().map(move |(report, came)| (*report, now.since(*came)));
        aged.filter(move |(report, age)| {
            *age <= limits::LOAD_COUNTS && registered(report.relay) == Some(report.incarnation)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(relay: u16, incarnation: u64) -> Report {
        Report { relay: RelayId(relay), incarnation: Incarnation(incarnation), epoch: 1, load: Load::default() }
    }

    fn at(ms: u64) -> Mono {
        Mono::default().after(Span::from_millis(ms))
    }

    /// What counts at `ms`, if every relay's entry has the incarnation 5: relay, calls, age in ms.
    fn counting(loads: &Loads, ms: u64) -> Vec<(u16, u32, u64)> {
        let counting = loads.counting(at(ms), |_| Some(Incarnation(5)));
        counting.map(|(report, age)| (report.relay.0, report.load.calls, age.as_millis())).collect()
    }

    #[test]
    fn the_latest_report_of_each_relay_counts_for_five_seconds() {
        let mut loads = Loads::default();
        for (ms, relay, calls) in [(0, 2, 7), (1_000, 1, 3), (1_500, 2, 8)] {
            let load = Load { calls, ..Load::default() };
            loads.take(at(ms), Report { load, ..report(relay, 5) }, Some(Incarnation(5))).unwrap();
        }
        assert_eq!(counting(&loads, 2_000), [(1, 3, 1_000), (2, 8, 500)]);
        assert_eq!(counting(&loads, 6_000), [(1, 3, 5_000), (2, 8, 4_500)]);
        assert_eq!(counting(&loads, 6_001), [(2, 8, 4_501)]);
        assert_eq!(counting(&loads, 6_501), []);
        // What no longer counts is not kept either.
        loads.take(at(20_000), report(3, 5), Some(Incarnation(5))).unwrap();
        assert_eq!(loads.kept.len(), 1);
    }

    #[test]
    fn only_the_run_that_has_registered_is_heard() {
        let mut loads = Loads::default();
        for (registered, why) in [(None, Ignored::Unknown), (Some(4), Ignored::Unknown), (Some(6), Ignored::Older)] {
            let taken = loads.take(at(0), report(1, 5), registered.map(Incarnation));
            assert_eq!(taken, Err(why), "{registered:?}");
        }
        assert_eq!(counting(&loads, 0), []);
        loads.take(at(0), report(1, 5), Some(Incarnation(5))).unwrap();
        for registered in [None, Some(Incarnation(6))] {
            assert_eq!(loads.counting(at(0), |_| registered).count(), 0, "{registered:?}");
        }
    }

    #[test]
    fn a_load_that_no_relay_can_have_is_not_taken() {
        let good = Load { calls: 200_000, allocations: 200_000, cpu_permille: 1_000, ..Load::default() };
        let mut loads = Loads::default();
        for (load, possible) in [
            (good, true),
            (Load { calls: 200_001, ..good }, false),
            (Load { allocations: 200_001, ..good }, false),
            (Load { cpu_permille: 1_001, ..good }, false),
        ] {
            let taken = loads.take(at(0), Report { load, ..report(1, 5) }, Some(Incarnation(5)));
            assert_eq!(taken, if possible { Ok(()) } else { Err(Ignored::Impossible) }, "{load:?}");
        }
    }

    #[test]
    fn over_the_cap_who_is_known_is_heard_and_who_is_new_is_not() {
        let mut loads = Loads::default();
        let cap = u16::try_from(limits::LOADS_KEPT).unwrap();
        let mut take = |ms, relay| loads.take(at(ms), report(relay, 5), Some(Incarnation(5)));
        assert!((0..cap).all(|relay| take(0, relay).is_ok()));
        assert_eq!((take(1, cap), take(1, 0)), (Err(Ignored::OverCap), Ok(())));
        assert_eq!(take(5_001, cap), Ok(()), "there is room when the others have gone");
    }
}
