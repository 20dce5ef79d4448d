//! Calls that this device asked for and was told do not exist, and that exist after all: a store that was away still had the
//! command. Nobody here is in such a call, and it rings at the other end.
//!
//! Decides which calls these are: this device has a leg in them, nobody here knows them, and they began no earlier than a
//! request that was given up. A call of an earlier process of this device is none: the app may come back to it. Leaves ending
//! them to [`crate::book`].

use std::collections::VecDeque;

use tandem_wire::id::CallId;
use tokio::time::Instant;

use crate::limits;

/// A request that was given up: what began at `began` or later may be of its making, for as long as that can be.
struct GivenUp {
    began: Instant,
    until: Instant,
}

/// What was asked for, and what came without having been answered.
#[derive(Default)]
pub(crate) struct Ghosts {
    under_way: usize,
    given_up: VecDeque<GivenUp>,
    /// Calls that may be those of requests under way, and when they began.
    waiting: VecDeque<(CallId, Instant)>,
}

impl Ghosts {
    /// A call is asked for.
    pub(crate) const fn asked(&mut self) {
        self.under_way += 1;
    }

    /// A request that began at `began` is over. `given_up`: what became of it is not known. Gives the calls that nobody can be
    /// waiting for now; the one that the answer named is not to be among them.
    pub(crate) fn over(&mut self, now: Instant, began: Instant, given_up: bool) -> Vec<CallId> {
        self.under_way = self.under_way.saturating_sub(1);
        if given_up {
            if self.given_up.len() == limits::GIVEN_UP {
                self.given_up.pop_front();
            }
            self.given_up.push_back(GivenUp { began, until: now + limits::GHOST_COMES_WITHIN });
        }
        if self.under_way > 0 {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter(|(_, since)| self.is_ghost(now, *since)).map(|(call, _)| call).collect()
    }

    /// This device is in a call since then, and nobody here knows it. Gives whether it is to be ended; one that may be asked
    /// for just now is kept until that is known.
    pub(crate) fn joined(&mut self, now: Instant, call: CallId, since: Instant) -> bool {
        if self.under_way == 0 {
            return self.is_ghost(now, since);
        }
        if self.waiting.len() == limits::CALLS {
            self.waiting.pop_front();
        }
        self.waiting.push_back((call, since));
        false
    }

    fn is_ghost(&self, now: Instant, since: Instant) -> bool {
        let made = |request: &GivenUp| now < request.until && since + limits::SERVERS_APART >= request.began;
        self.given_up.iter().any(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const CALL: CallId = CallId::from_bits(7);

    fn secs(start: Instant, n: u64) -> Instant {
        start + Duration::from_secs(n)
    }

    #[test]
    fn what_began_after_a_request_that_was_given_up_is_a_ghost() {
        let (mut ghosts, start) = (Ghosts::default(), Instant::now() + Duration::from_secs(1_000));
        let at = |n| secs(start, n);
        assert!(!ghosts.joined(at(0), CALL, at(0)), "nothing was asked for");
        ghosts.asked();
        assert!(ghosts.over(at(25), at(10), true).is_empty());
        assert!(ghosts.joined(at(30), CALL, at(29)));
        assert!(ghosts.joined(at(30), CALL, at(11)), "it was there before we gave up");
        assert!(!ghosts.joined(at(30), CALL, at(5)), "it is another process's");
        let late = at(25) + limits::GHOST_COMES_WITHIN;
        assert!(!ghosts.joined(late, CALL, late), "it cannot be of that request any more");
    }

    #[test]
    fn what_may_be_asked_for_just_now_is_looked_at_when_that_is_known() {
        let (mut ghosts, start) = (Ghosts::default(), Instant::now());
        let at = |n| secs(start, n);
        for given_up in [false, true] {
            ghosts.asked();
            ghosts.asked();
            assert!(!ghosts.joined(at(2), CALL, at(2)));
            assert!(ghosts.over(at(3), at(1), given_up).is_empty(), "the other one may be it");
            let looked = ghosts.over(at(4), at(1), false);
            assert_eq!(looked, if given_up { vec![CALL] } else { vec![] });
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut ghosts, start) = (Ghosts::default(), Instant::now());
        for n in 0..10 * limits::GIVEN_UP {
            ghosts.asked();
            ghosts.over(secs(start, n as u64), secs(start, n as u64), true);
        }
        ghosts.asked();
        for n in 0..10 * limits::CALLS {
            ghosts.joined(start, CallId::from_bits(n as u128), start);
        }
        assert_eq!((ghosts.given_up.len(), ghosts.waiting.len()), (limits::GIVEN_UP, limits::CALLS));
    }
}
