//! Loss: the last probes of a relay, and which of them were echoed.
//!
//! A relay that answers most probes is never silent for long, and yet a third of what is sent to it is lost (attack L06). It
//! is judged by each hundred probes; late echoes count, so that a slow relay is not taken for a lossy one.

use crate::limits;

/// The probes of one run, by their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probes {
    /// The number of the next one.
    next: u32,
    /// How many there were.
    sent: u32,
    /// Bit n: the last but n was echoed.
    echoed: u128,
    /// How many were sent since the last judgement.
    since: u32,
    /// Judgements in a row that were bad.
    bad: u8,
}

impl Probes {
    pub(crate) const fn new() -> Self {
        Self { next: 0, sent: 0, echoed: 0, since: 0, bad: 0 }
    }

    /// The same numbers go on, and nothing of before counts.
    pub(crate) const fn judged_anew(self) -> Self {
        Self { since: 0, bad: 0, ..self }
    }

    /// The number of the next one.
    pub(crate) const fn next(&self) -> u32 {
        self.next
    }

    /// One more is sent; gives its number.
    pub(crate) const fn sent(&mut self) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.sent = self.sent.saturating_add(1);
        self.echoed <<= 1;
        self.since = self.since.saturating_add(1);
        number
    }

    /// An echo of this one; `false` if it was echoed before, or too long ago, or never sent.
    pub(crate) fn echo(&mut self, number: u32) -> bool {
        let age = self.next.wrapping_sub(number).wrapping_sub(1);
        let bit = 1_u128.checked_shl(age).unwrap_or(0);
        let new = bit != 0 && age < self.sent && self.echoed & bit == 0;
        if new {
            self.echoed |= bit;
        }
        new
    }

    /// To be asked after each probe: whether the relay has now lost too much for too long.
    pub(crate) const fn lossy(&mut self) -> bool {
        if self.since < limits::LOSS_PROBES + limits::LOSS_UNDER_WAY {
            return self.bad >= limits::LOSS_JUDGEMENTS;
        }
        self.since = limits::LOSS_UNDER_WAY;
        let judged = (self.echoed >> limits::LOSS_UNDER_WAY) & ((1 << limits::LOSS_PROBES) - 1);
        self.bad = if judged.count_ones() < limits::LOSS_ECHOED_MIN { self.bad.saturating_add(1) } else { 0 };
        self.bad >= limits::LOSS_JUDGEMENTS
    }

    /// Whether the last judgement was bad.
    pub(crate) const fn is_bad(&self) -> bool {
        self.bad > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends so many probes of which every tenth, up to `lost` of them, is not echoed; gives when it was found lossy.
    fn run(lost: u32, late: u32, count: u32) -> Option<u32> {
        let mut probes = Probes::new();
        for n in 0..count {
            assert_eq!(probes.sent(), n);
            if n >= late && (n - late) % 10 >= lost {
                assert!(probes.echo(n - late));
                assert!(!probes.echo(n - late), "an echo counts once");
            }
            if probes.lossy() {
                return Some(n + 1);
            }
        }
        None
    }

    #[test]
    fn a_relay_that_loses_three_of_ten_is_found_out_in_three_seconds_and_one_that_loses_two_never() {
        assert_eq!(run(3, 0, 10_000), Some(310));
        assert_eq!(run(2, 0, 10_000), None);
        assert_eq!(run(0, 9, 10_000), None, "late is not lost");
    }

    #[test]
    fn only_probes_that_were_sent_and_are_not_ages_old_have_echoes() {
        let mut probes = Probes::new();
        assert!(!probes.echo(0) && !probes.echo(u32::MAX));
        for _ in 0..200 {
            probes.sent();
        }
        assert!(probes.echo(199) && probes.echo(72));
        assert!(!probes.echo(71) && !probes.echo(200) && !probes.echo(0));
    }
}
