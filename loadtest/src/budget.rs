//! Budgets: how much of each figure may be measured for a run to pass.
//!
//! Decides which figures there are and the named budgets. Leaves measuring to [`crate::report`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that is measured, of which less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Calls that never stood, that ended though nobody hung up, or in which nothing came any more.
    CallsLost,
    /// Packets that came into another call, or back to who sent them.
    Leaked,
    /// Packets that were not as they were sent, or never sent.
    Corrupt,
    /// Packets that came once more.
    Duplicates,
    /// Packets that came after a later one.
    Reordered,
    /// Packets that did not come.
    LostPackets,
    /// The same, in percent of those sent.
    LossPercent,
    /// The longest time without a packet, of each call; half of the calls had no longer one.
    GapMsP50,
    /// … 99 of 100 calls had no longer one.
    GapMsP99,
    /// … no call had a longer one.
    GapMsMax,
    /// One-way delay of all packets.
    DelayMsP50,
    /// …
    DelayMsP99,
    /// …
    DelayMsMax,
    /// From placing a call until packets can go both ways.
    SetUpMsP99,
    /// …
    SetUpMsMax,
    /// The longest time in which the generator itself did not run though it should have.
    StallMsMax,
    /// Faults that could not be done.
    FaultsFailed,
}

impl Figure {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> String {
        // A unit variant of a derived `Serialize` is a word.
        serde_json::to_value(self).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// How much there may be of each.
pub type Budget = BTreeMap<Figure, f64>;

/// What holds in every run, unless a budget says otherwise.
const WHOLE: [(Figure, f64); 5] = [
    (Figure::CallsLost, 0.0),
    (Figure::Leaked, 0.0),
    (Figure::Corrupt, 0.0),
    (Figure::Duplicates, 0.0),
    (Figure::FaultsFailed, 0.0),
];

/// The named budgets, and what each adds to what always holds: the design's budgets of media gaps. A gap is counted from one
/// packet to the next, so one that nothing was lost in has at least 20 ms.
const NAMED: [(&str, &[(Figure, f64)]); 6] = [
    ("whole", &[]),
    ("planned", &[(Figure::LostPackets, 0.0)]),
    ("store-away", &[(Figure::LostPackets, 0.0)]),
    ("relay-killed", &[(Figure::GapMsP99, 50.0)]),
    ("relay-hung", &[(Figure::GapMsP99, 150.0)]),
    ("lb-killed", &[(Figure::GapMsP99, 1_000.0)]),
];

/// The names that [`named`] knows.
#[must_use]
pub fn names() -> String {
    NAMED.map(|(name, _)| name).join(", ")
}

/// The budget of this name.
#[must_use]
pub fn named(name: &str) -> Option<Budget> {
    let (_, more) = NAMED.iter().find(|(known, _)| *known == name)?;
    Some(WHOLE.iter().chain(more.iter()).copied().collect())
}

/// Reads a budget, TOML or JSON: a figure and how much there may be of it. What it does not name of what always holds, holds.
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub fn read(text: &str) -> Result<Budget, String> {
    let own: Budget = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        toml::from_str(text).map_err(|error| error.to_string())?
    };
    if let Some((figure, _)) = own.iter().find(|(_, most)| !most.is_finite() || **most < 0.0) {
        return Err(format!("{}: not a number from 0 up", figure.word()));
    }
    let mut budget: Budget = WHOLE.into();
    budget.extend(own);
    Ok(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_adds_to_what_always_holds_and_may_loosen_it() {
        let budget = read("gap_ms_p99 = 50\nduplicates = 3\nloss_percent = 0.1\n").unwrap();
        assert_eq!(budget[&Figure::GapMsP99], 50.0);
        assert_eq!((budget[&Figure::Duplicates], budget[&Figure::CallsLost]), (3.0, 0.0));
        assert_eq!(read(r#"{"gap_ms_p99":50,"duplicates":3,"loss_percent":0.1}"#).unwrap(), budget);
        assert_eq!(read("").unwrap(), named("whole").unwrap());
        for text in ["gap = 1", "leaked = -1", "leaked = \"none\"", "leaked = nan"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_named_budgets_are_the_designs() {
        assert_eq!(named("relay-killed").unwrap()[&Figure::GapMsP99], 50.0);
        assert_eq!(named("planned").unwrap()[&Figure::LostPackets], 0.0);
        assert!(named("nothing").is_none());
        assert_eq!(Figure::GapMsP99.word(), "gap_ms_p99");
    }
}
