//! One direction of one call, from the receiver's side: what came of what was sent.
//!
//! Decides what counts as lost, doubled, out of order, damaged, of another call, and as a gap. Time arrives as an argument.

use tandem_wire::units::{Mono, Span};

use crate::limits;
use crate::packet::{self, Head, Side};

/// A time without a packet, from one that came to the next one that did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// When the last packet before it came.
    pub start: Mono,
    /// Until the next one came; or, at the end, until the last one was sent.
    pub length: Span,
    /// Packets between those two that have not come until then.
    pub missing: u32,
    /// How much of it there was already when the packets were sent: the sender was late by this.
    pub sent_late: Span,
}

impl Gap {
    /// When it was over.
    #[must_use]
    pub const fn end(&self) -> Mono {
        self.start.after(self.length)
    }
}

/// What was sent in this direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// How many packets; so their numbers are below this.
    pub packets: u32,
    /// When the first was sent.
    pub first: Option<Mono>,
    /// When the last was sent.
    pub last: Option<Mono>,
}

/// What became of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flow {
    /// Packets sent.
    pub sent: u32,
    /// Of those, how many came, each counted once.
    pub received: u32,
    /// Of those sent, how many did not come.
    pub lost: u32,
    /// Packets that came once more.
    pub duplicates: u64,
    /// Packets that came after one with a higher number.
    pub reordered: u64,
    /// Packets of which a bit was another, or that were none of ours.
    pub corrupt: u64,
    /// Packets of another call, or of this one's other direction.
    pub leaked: u64,
    /// Whole packets with a number that was never sent.
    pub invented: u64,
    /// One-way delays, in microseconds.
    pub delays_us: Vec<u32>,
    /// Delays that were not kept, beyond [`limits::DELAYS`].
    pub delays_dropped: u64,
    /// Gaps of more than [`limits::GAP_NOTED`].
    pub gaps: Vec<Gap>,
    /// Gaps that were not kept, beyond [`limits::GAPS`].
    pub gaps_dropped: u64,
    /// The longest of all gaps.
    pub longest: Option<Gap>,
    /// When the last packet came.
    pub last: Option<Mono>,
}

/// Takes every datagram that comes, then [`Meter::finish`].
#[derive(Debug)]
pub struct Meter {
    stamp: u128,
    from: Side,
    interval: Span,
    seen: Numbers,
    /// The packet with the highest number, as it was sent.
    highest: Option<Head>,
    flow: Flow,
}

/// Which numbers have come, a bit each.
#[derive(Debug, Default)]
struct Numbers(Vec<u64>);

impl Numbers {
    /// Whether it is new; `None` for one that is over the cap.
    fn enter(&mut self, number: u32) -> Option<bool> {
        if number >= limits::NUMBERS {
            return None;
        }
        let (word, bit) = ((number / 64) as usize, 1_u64 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let word = self.0.get_mut(word)?;
        let new = *word & bit == 0;
        *word |= bit;
        Some(new)
    }

    /// How many of those from `number` on.
    fn from(&self, number: u32) -> u32 {
        let first = (number / 64) as usize;
        let mut words = self.0.get(first..).unwrap_or_default().iter();
        let head = words.next().map_or(0, |word| (word >> (number % 64)).count_ones());
        words.fold(head, |sum, word| sum + word.count_ones())
    }
}

impl Meter {
    /// For what `from` sends in the call of this stamp, a packet each `interval`.
    #[must_use]
    pub fn new(stamp: u128, from: Side, interval: Span) -> Self {
        Self { stamp, from, interval, seen: Numbers::default(), highest: None, flow: Flow::default() }
    }

    /// Takes what came.
    pub fn take(&mut self, now: Mono, bytes: &[u8]) {
        let flow = &mut self.flow;
        let Ok(head) = packet::read(bytes) else {
            flow.corrupt += 1;
            return;
        };
        if head.stamp != self.stamp || head.side != self.from {
            flow.leaked += 1;
            return;
        }
        match self.seen.enter(head.number) {
            Some(true) => {}
            Some(false) => {
                flow.duplicates += 1;
                return;
            }
            None => {
                flow.invented += 1;
                return;
            }
        }
        flow.received += 1;
        let delay = u32::try_from(now.since(head.sent).as_nanos() / 1_000).unwrap_or(u32::MAX);
        if flow.delays_us.len() < limits::DELAYS {
            flow.delays_us.push(delay);
        } else {
            flow.delays_dropped += 1;
        }
        let before = self.highest;
        if before.is_none_or(|before| head.number > before.number) {
            self.highest = Some(head);
        } else {
            flow.reordered += 1;
        }
        if let Some(start) = flow.last {
            let (missing, sent_late) = match before {
                Some(before) if head.number > before.number => {
                    let steps = head.number - before.number;
                    let planned = self.interval.as_nanos().saturating_mul(steps.into());
                    let took = head.sent.since(before.sent).as_nanos();
                    (steps - 1, Span::from_nanos(took.saturating_sub(planned)))
                }
                _ => (0, Span::ZERO),
            };
            flow.gap(Gap { start, length: now.since(start), missing, sent_late });
        }
        flow.last = Some(now);
    }

    /// Forgets gaps that are over and delays: from now on they count. What was lost, doubled, damaged or leaked stays.
    pub fn watch(&mut self) {
        let flow = &mut self.flow;
        flow.gaps.clear();
        flow.delays_us.clear();
        (flow.longest, flow.gaps_dropped, flow.delays_dropped) = (None, 0, 0);
    }

    /// What became of what was sent. Nothing that comes later counts.
    #[must_use]
    pub fn finish(self, sent: Sent) -> Flow {
        let mut flow = self.flow;
        flow.sent = sent.packets;
        let invented = self.seen.from(sent.packets);
        flow.received -= invented.min(flow.received);
        flow.invented += u64::from(invented);
        flow.lost = sent.packets - flow.received.min(sent.packets);
        // What was sent after the last one that came is a gap that nothing has ended.
        if let (Some(start), Some(end)) = (flow.last.or(sent.first), sent.last) {
            let missing = sent.packets.saturating_sub(self.highest.map_or(0, |head| head.number + 1));
            if missing > 0 && end > start {
                flow.gap(Gap { start, length: end.since(start), missing, sent_late: Span::ZERO });
            }
        }
        flow
    }
}

impl Flow {
    fn gap(&mut self, gap: Gap) {
        if self.longest.is_none_or(|longest| gap.length > longest.length) {
            self.longest = Some(gap);
        }
        if gap.length > limits::GAP_NOTED {
            if self.gaps.len() < limits::GAPS {
                self.gaps.push(gap);
            } else {
                self.gaps_dropped += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: u128 = 42;
    const STEP: Span = Span::from_millis(20);

    fn at(ms: u64) -> Mono {
        Mono::default().after(Span::from_millis(1_000 + ms))
    }

    fn packet(stamp: u128, side: Side, number: u32, sent: Mono) -> Vec<u8> {
        let mut bytes = packet::filled(60, 1);
        packet::write(&mut bytes, &Head { stamp, side, number, sent });
        bytes
    }

    fn nth(number: u32) -> Vec<u8> {
        packet(STAMP, Side::Caller, number, at(u64::from(number) * 20))
    }

    fn meter() -> Meter {
        Meter::new(STAMP, Side::Caller, STEP)
    }

    fn sent(packets: u32) -> Sent {
        let last = packets.checked_sub(1).map(|last| at(u64::from(last) * 20));
        Sent { packets, first: last.map(|_| at(0)), last }
    }

    /// These numbers, each a millisecond after it was sent.
    fn stream(numbers: impl IntoIterator<Item = u32>, of: u32) -> Flow {
        let mut meter = meter();
        for number in numbers {
            meter.take(at(u64::from(number) * 20 + 1), &nth(number));
        }
        meter.finish(sent(of))
    }

    #[test]
    fn a_whole_stream_has_nothing_to_report() {
        let flow = stream(0..200, 200);
        assert_eq!((flow.sent, flow.received, flow.lost), (200, 200, 0));
        assert_eq!((flow.duplicates, flow.reordered, flow.corrupt, flow.leaked, flow.invented), (0, 0, 0, 0, 0));
        assert_eq!((flow.delays_us.len(), flow.delays_us[0]), (200, 1_000));
        assert!(flow.gaps.is_empty());
        assert_eq!(flow.longest.unwrap().length, STEP);
    }

    #[test]
    fn what_did_not_come_is_lost_at_the_beginning_in_the_middle_and_at_the_end() {
        let flow = stream((2..100).filter(|number| !(50..53).contains(number)), 104);
        assert_eq!((flow.received, flow.lost), (95, 9));
    }

    #[test]
    fn a_packet_that_comes_twice_counts_once_and_hides_no_loss() {
        let flow = stream([0, 1, 1, 1, 3, 0], 4);
        assert_eq!((flow.received, flow.lost, flow.duplicates, flow.reordered), (3, 1, 3, 0));
    }

    #[test]
    fn a_packet_that_was_overtaken_is_out_of_order_and_not_lost() {
        let flow = stream([0, 2, 1, 3, 5, 4], 6);
        assert_eq!((flow.received, flow.lost, flow.reordered, flow.duplicates), (6, 0, 2, 0));
    }

    #[test]
    fn a_damaged_packet_is_neither_received_nor_of_another_call() {
        let mut meter = meter();
        let mut bytes = nth(0);
        bytes[7] ^= 1;
        meter.take(at(1), &bytes);
        meter.take(at(2), b"");
        meter.take(at(3), b"somebody else's");
        let flow = meter.finish(sent(1));
        assert_eq!((flow.corrupt, flow.leaked, flow.received, flow.lost), (3, 0, 0, 1));
    }

    #[test]
    fn a_packet_of_another_call_or_of_our_own_is_leaked() {
        let mut meter = meter();
        meter.take(at(1), &packet(STAMP + 1, Side::Caller, 0, at(0)));
        meter.take(at(1), &packet(STAMP, Side::Callee, 0, at(0)));
        let flow = meter.finish(sent(1));
        assert_eq!((flow.leaked, flow.corrupt, flow.received, flow.lost), (2, 0, 0, 1));
    }

    #[test]
    fn a_number_that_was_never_sent_is_invented_and_hides_no_loss() {
        let flow = stream([0, 1, 64, 200], 3);
        assert_eq!((flow.received, flow.lost, flow.invented), (2, 1, 2));
        let mut meter = meter();
        meter.take(at(1), &nth(limits::NUMBERS));
        assert_eq!(meter.finish(sent(0)).invented, 1);
    }

    #[test]
    fn a_gap_has_its_start_its_length_and_what_is_missing_in_it() {
        let flow = stream((0..100).filter(|number| !(50..53).contains(number)), 100);
        let gap = Gap { start: at(49 * 20 + 1), length: Span::from_millis(80), missing: 3, sent_late: Span::ZERO };
        assert_eq!((flow.gaps.as_slice(), flow.longest), (&[gap][..], Some(gap)));
        assert_eq!(gap.end(), at(53 * 20 + 1));
    }

    #[test]
    fn a_gap_in_which_nothing_was_lost_is_one_all_the_same() {
        let mut meter = meter();
        meter.take(at(1), &nth(0));
        for number in 1..10 {
            meter.take(at(150 + u64::from(number)), &nth(number));
        }
        let flow = meter.finish(sent(10));
        assert_eq!((flow.gaps.len(), flow.gaps[0].length, flow.gaps[0].missing), (1, Span::from_millis(150), 0));
    }

    #[test]
    fn a_gap_that_the_sender_made_says_so() {
        let mut meter = meter();
        meter.take(at(1), &nth(0));
        meter.take(at(121), &packet(STAMP, Side::Caller, 1, at(120)));
        let flow = meter.finish(sent(2));
        assert_eq!((flow.gaps[0].length, flow.gaps[0].sent_late), (Span::from_millis(120), Span::from_millis(100)));
    }

    #[test]
    fn what_never_ended_and_what_never_began_are_gaps_too() {
        let flow = stream(0..10, 100);
        assert_eq!((flow.gaps.len(), flow.gaps[0].length), (1, Span::from_millis(99 * 20 - 181)));
        let flow = stream([], 100);
        assert_eq!(
            (flow.gaps[0].start, flow.gaps[0].length, flow.gaps[0].missing),
            (at(0), Span::from_millis(1_980), 100)
        );
        assert_eq!(flow.last, None);
    }

    #[test]
    fn forty_milliseconds_are_no_gap_that_is_noted_and_more_are() {
        let mut meter = meter();
        meter.take(at(0), &nth(0));
        meter.take(at(40), &nth(1));
        meter.take(Mono::from_nanos(at(80).as_nanos() + 1), &nth(2));
        let flow = meter.finish(sent(3));
        assert_eq!((flow.gaps.len(), flow.gaps[0].start), (1, at(40)));
    }

    #[test]
    fn gaps_and_delays_count_from_when_they_are_watched_and_the_rest_from_the_beginning() {
        let mut meter = meter();
        let take = |meter: &mut Meter, numbers: &[u32]| {
            numbers.iter().for_each(|number| meter.take(at(u64::from(*number) * 20 + 1), &nth(*number)));
        };
        take(&mut meter, &[0, 1, 1, 5, 6]);
        meter.watch();
        take(&mut meter, &[9, 10]);
        let flow = meter.finish(sent(11));
        assert_eq!((flow.lost, flow.duplicates, flow.delays_us.len()), (5, 1, 2));
        // The one that was under way counts whole.
        assert_eq!(
            (flow.gaps.len(), flow.gaps[0].start, flow.longest.unwrap().length),
            (1, at(121), Span::from_millis(60))
        );
    }

    #[test]
    fn what_is_over_a_cap_is_counted_and_the_longest_is_known_all_the_same() {
        let mut meter = meter();
        for number in 0..=limits::GAPS as u32 + 2 {
            meter.take(at(u64::from(number) * (41 + u64::from(number))), &nth(number));
        }
        let flow = meter.finish(sent(0));
        assert_eq!((flow.gaps.len(), flow.gaps_dropped), (limits::GAPS, 2));
        assert!(flow.longest.unwrap().length > flow.gaps.last().unwrap().length);
    }
}
