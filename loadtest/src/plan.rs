//! What a run is to do.
//!
//! Decides what can be asked for, and how lengths of time are written.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tandem_wire::units::Span;

use crate::limits;
use crate::packet::BYTES_MIN;
use crate::timeline::{Act, Fault};

/// What a run is to do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Calls at once, each between two devices of its own.
    pub calls: usize,
    /// Calls that are placed when these stand, ring, and are accepted when the timeline says so. They have the numbers after.
    pub held: usize,
    /// How long they are watched once all of them stand.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Span,
    /// Over how long they are placed.
    #[serde(rename = "ramp_ms", serialize_with = "millis")]
    pub ramp: Span,
    /// Packets a second of each leg.
    pub pps: u32,
    /// Bytes of a packet.
    pub packet_bytes: usize,
    /// Without a packet for so long at the end, a call is lost.
    #[serde(rename = "silence_ms", serialize_with = "millis")]
    pub silence: Span,
    /// Decides accounts, the order of calls and what fills packets.
    pub seed: u64,
    /// What is done meanwhile.
    #[serde(skip)]
    pub faults: Vec<Fault>,
}

fn millis<S: Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(span.as_millis())
}

impl Plan {
    /// Whether it can be done.
    ///
    /// # Errors
    /// Which part cannot.
    pub fn check(&self) -> Result<(), String> {
        let most = tandem_client::limits::PAYLOAD_BYTES;
        let packets = self.duration.as_secs().saturating_mul(self.pps.into());
        if self.calls == 0 || self.calls.saturating_add(self.held) > limits::CALLS {
            let most = limits::CALLS;
            Err(format!("--calls and --held: 1 to {most}; more need more processes, each with a --seed of its own"))
        } else if !(BYTES_MIN..=most).contains(&self.packet_bytes) {
            Err(format!("--packet-bytes: {BYTES_MIN} to {most}"))
        } else if self.pps == 0 || self.pps > limits::PACKETS_PER_SECOND {
            Err(format!("--pps: 1 to {}", limits::PACKETS_PER_SECOND))
        } else if self.duration.as_millis() < 100 || packets >= limits::NUMBERS.into() {
            Err("--duration: at least 100ms, and not more packets than there are numbers for".to_owned())
        } else if let Some(fault) = self.faults.iter().find(|fault| fault.at >= self.duration) {
            Err(format!("the fault \"{}\" is after the end of --duration", fault.name))
        } else if (self.held > 0) != self.faults.iter().any(|fault| fault.act == Act::Accept) {
            Err("--held: calls are held for a fault that accepts them, and there is one for calls that are held"
                .to_owned())
        } else {
            Ok(())
        }
    }

    /// Between two packets of a leg.
    #[must_use]
    pub fn interval(&self) -> Span {
        Span::from_nanos(1_000_000_000 / u64::from(self.pps.max(1)))
    }

    /// When the nth call is placed, after the first one could be.
    #[must_use]
    pub fn placed_after(&self, nth: usize) -> Duration {
        let share = u128::from(self.ramp.as_nanos()) * nth as u128 / self.calls.max(1) as u128;
        Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// Reads a length of time: a whole number and `ms`, `s`, `m` or `h`.
///
/// # Errors
/// It is none.
pub fn span(text: &str) -> Result<Span, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    // A year is more than anybody waits.
    let ms = ms.filter(|ms| unit_ms > 0 && *ms <= 31_536_000_000);
    ms.map(Span::from_millis).ok_or_else(|| format!("{text:?} is no length of time as in 500ms, 10s, 2m, 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            calls: 10,
            held: 0,
            duration: Span::from_secs(60),
            ramp: Span::from_secs(5),
            pps: 50,
            packet_bytes: 172,
            silence: Span::from_secs(2),
            seed: 1,
            faults: Vec::new(),
        }
    }

    #[test]
    fn lengths_of_time_are_read_and_nothing_else_is() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(span(text), Ok(Span::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1.5s", "1d", "10 s", "99999999999999999999s", "999999h", "1é"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn calls_are_placed_evenly_over_the_ramp() {
        assert_eq!(plan().placed_after(0), Duration::ZERO);
        assert_eq!(plan().placed_after(9), Duration::from_millis(4_500));
        assert_eq!(plan().interval(), Span::from_millis(20));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let wrong = |change: fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.check().unwrap_err()
        };
        assert_eq!(plan().check(), Ok(()));
        assert!(wrong(|plan| plan.calls = 0).contains("--calls"));
        assert!(wrong(|plan| plan.calls = limits::CALLS + 1).contains("--calls"));
        assert!(wrong(|plan| plan.packet_bytes = BYTES_MIN - 1).contains("--packet-bytes"));
        assert!(wrong(|plan| plan.packet_bytes = 1_101).contains("--packet-bytes"));
        assert!(wrong(|plan| plan.pps = 0).contains("--pps"));
        assert!(wrong(|plan| plan.duration = Span::ZERO).contains("--duration"));
        let late = |plan: &mut Plan| {
            plan.faults = crate::timeline::read("[[fault]]\nat = \"60s\"\nexec = [\"true\"]").unwrap();
        };
        assert!(wrong(late).contains("\"true\""));
        assert!(wrong(|plan| plan.held = 1).contains("--held"));
        let accept = |plan: &mut Plan| {
            plan.faults = crate::timeline::read("[[fault]]\nat = \"1s\"\ndo = \"accept\"").unwrap();
        };
        assert!(wrong(accept).contains("--held"));
    }
}
