//! How much one call may send: a rate, and a second of it at once after a pause (attacks R14, R39).
//!
//! Decides by the bytes that were sent, whoever of the call sent them. What is over is dropped: nothing is queued, so nothing is
//! late. The memory of it is a time, so that a call that is quiet costs nothing.

use tandem_wire::units::{Mono, Span};

use crate::limits;

/// What one byte takes at the rate that a call may have.
const NANOS_PER_BYTE: u64 = 1_000_000_000 / limits::CALL_BYTES_PER_SECOND;

/// What a call has sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    /// When it would have been sent if it had been sent evenly.
    paid: Mono,
}

impl Rate {
    /// Whether so many bytes may be sent now; if so, they are counted.
    pub(super) fn spends(&mut self, now: Mono, bytes: usize) -> bool {
        let paid = self.paid.max(now).after(Span::from_nanos(NANOS_PER_BYTE.saturating_mul(bytes as u64)));
        let may = paid.since(now) <= limits::CALL_BURST;
        if may {
            self.paid = paid;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_the_rate_goes_at_once_and_then_as_much_as_time_has_passed() {
        let at = |ms| Mono::default().after(Span::from_millis(ms));
        let (mut rate, second) = (Rate::default(), limits::CALL_BYTES_PER_SECOND as usize);
        assert!(rate.spends(at(5_000), second) && !rate.spends(at(5_000), 1));
        assert!(!rate.spends(at(5_100), second / 10 + 1) && rate.spends(at(5_100), second / 10));
        assert!(rate.spends(at(60_000), second) && !rate.spends(at(60_000), 1), "what was not used is not saved up");
        assert!(!rate.spends(at(70_000), usize::MAX) && rate.spends(at(70_000), 1), "it saturates");
    }
}
