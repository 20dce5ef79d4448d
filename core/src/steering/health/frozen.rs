//! Frozen: so many relays fell silent together, without anybody refusing us, that the fault is ours: a link of this machine, a
//! pause of it. Nobody is taken for down for silence until half of those are heard again. A refusal, or a relay's own word,
//! still counts: what brings us those is not broken.

use tandem_wire::id::RelayId;
use tandem_wire::units::Mono;

use crate::limits;

/// Since when, and who had fallen silent then.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) since: Mono,
    silent: Vec<RelayId>,
}

impl Frozen {
    pub(crate) const fn new(since: Mono, silent: Vec<RelayId>) -> Self {
        Self { since, silent }
    }

    pub(crate) fn has(&self, relay: RelayId) -> bool {
        self.silent.contains(&relay)
    }

    /// Forgets those that the table no longer has.
    pub(crate) fn keep(&mut self, has: impl Fn(RelayId) -> bool) {
        self.silent.retain(|relay| has(*relay));
    }

    /// Whether it is over, when so many of them have been heard since.
    pub(crate) const fn is_over(&self, heard: usize) -> bool {
        heard * 2 >= self.silent.len()
    }
}

/// Whether so many in trouble of so many relays are our own fault.
pub(crate) const fn is_ours(troubled: usize, of: usize) -> bool {
    troubled >= limits::FREEZE_RELAYS && troubled * 10 > of * limits::FREEZE_TENTHS
}

/// Whether a relay that fell silent at `at` did so together with those that do now.
pub(super) fn is_lately(at: Mono, now: Mono) -> bool {
    at <= now && now.since(at) <= limits::FREEZE_WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_and_more_than_three_tenths_are_our_fault() {
        for (troubled, of, ours) in [
            (2, 2, false),
            (3, 3, true),
            (3, 9, true),
            (3, 10, false),
            (4, 10, true),
            (90, 300, false),
            (91, 300, true),
        ] {
            assert_eq!(is_ours(troubled, of), ours, "{troubled} of {of}");
        }
    }
}
