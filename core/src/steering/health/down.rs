//! Down: a relay that is not there. Others act for it until the next table says who does: two that both think a call theirs
//! would be worse than a gap, so an echo alone changes nothing.

use tandem_wire::units::Mono;

use crate::limits;

/// Why a relay is taken for down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It has been silent.
    Silent,
    /// The network says that nobody is there.
    Refused,
    /// It has said that it ends.
    Leaving,
    /// Another run answers in its place.
    Replaced,
    /// It answers, but loses too much.
    Lossy,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Down {
    pub(super) cause: Cause,
    /// When it echoed last since.
    echoed: Option<Mono>,
    /// Since when it does so without a gap.
    well: Option<Mono>,
}

impl Down {
    pub(super) const fn new(cause: Cause) -> Self {
        Self { cause, echoed: None, well: None }
    }

    pub(super) fn echoed(self, now: Mono) -> Self {
        let gap = self.echoed.is_none_or(|at| now.since(at) >= limits::SUSPECT_AFTER);
        let well = if gap { Some(now) } else { self.well };
        Self { echoed: Some(now), well, ..self }
    }

    /// Whether it has answered so well for so long that it is to have a table written that brings it back. One that lost
    /// too much has to do so for longer: calls are not to go to and fro. One that ends, or was replaced, never.
    pub(super) fn is_well(self, now: Mono) -> bool {
        let long = match self.cause {
            Cause::Silent | Cause::Refused => limits::WELL_AFTER,
            Cause::Lossy => limits::WELL_AFTER_LOSS,
            Cause::Leaving | Cause::Replaced => return false,
        };
        let hears = self.echoed.is_some_and(|at| now.since(at) < limits::SUSPECT_AFTER);
        hears && self.well.is_some_and(|since| now.since(since) >= long)
    }

    /// Whether a new table that names the same run brings it back: it is there again.
    pub(super) fn may_return(self, now: Mono) -> bool {
        self.echoed.is_some_and(|at| due(at) > now)
    }
}

/// When a relay that was heard last at `heard` is down.
pub(super) const fn due(heard: Mono) -> Mono {
    heard.after(limits::DOWN_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(0).after(tandem_wire::units::Span::from_millis(millis))
    }

    /// A relay that echoes every 10 ms from `from` to `to`.
    fn echoes(down: Down, from: u64, to: u64) -> Down {
        (from..=to).step_by(10).fold(down, |down, millis| down.echoed(at(millis)))
    }

    #[test]
    fn who_echoes_without_a_gap_for_a_second_is_well_and_after_loss_for_ten() {
        for (cause, long) in [(Cause::Silent, 1_000), (Cause::Refused, 1_000), (Cause::Lossy, 10_000)] {
            let down = echoes(Down::new(cause), 0, long);
            assert!(
                down.is_well(at(long)) && !echoes(Down::new(cause), 0, long - 10).is_well(at(long - 10)),
                "{cause:?}"
            );
            assert!(!down.is_well(at(long + 30)), "{cause:?}: silent again");
            let gap = echoes(echoes(Down::new(cause), 0, long - 40), long, long + 500);
            assert!(!gap.is_well(at(long + 500)), "{cause:?}: it begins anew after a gap");
        }
    }

    #[test]
    fn who_ends_or_was_replaced_is_never_well() {
        for cause in [Cause::Leaving, Cause::Replaced] {
            assert!(!echoes(Down::new(cause), 0, 60_000).is_well(at(60_000)));
        }
        assert!(!Down::new(Cause::Silent).is_well(at(60_000)));
    }
}
