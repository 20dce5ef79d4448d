//! When the calls that a node follows need somebody.
//!
//! Decides by the monotonic clock, from the moment at which the node saw what a timer is about; wall time only bounds it
//! after a restart. So a wall clock that jumps by an hour changes nothing for a call that was seen as it happened. Leaves
//! what running out means to `topology` (`CallCommand::Expire`): every node may fire, one compare-and-set wins.
//!
//! `handle` in, `poll` until `None`, `next_deadline` between. A timer that fired fires again after [`limits::TIMER_RETRY`]
//! until the record has changed or somebody says that it is done: the store may have been away.

use std::collections::{BTreeMap, BTreeSet};

use tandem_wire::id::CallId;
use tandem_wire::units::{Mono, Now, Span};

use crate::limits;
use crate::topology::{Call, Timer};

/// What a node sees.
#[derive(Debug)]
pub enum Input<'a> {
    /// A record, as it is now. `fresh`: it was seen as it changed, not found when the node began to follow.
    Seen {
        /// The record.
        call: &'a Call,
        /// Whether the change is of this moment.
        fresh: bool,
    },
    /// The record is gone.
    Gone(CallId),
    /// What a timer asked for is done, and leaves no trace in the record.
    Done(CallId, Timer),
    /// Time has passed.
    Tick,
}

/// The timers of all calls that a node follows.
#[derive(Debug, Default)]
pub struct Timers {
    /// `None`: done, and not to be armed again.
    calls: BTreeMap<CallId, Vec<(Timer, Option<Mono>)>>,
    queue: BTreeSet<(Mono, CallId, Timer)>,
    now: Mono,
}

impl Timers {
    /// Takes in what was seen. What has run out by `now` can be polled.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.now = self.now.max(now.mono);
        match input {
            Input::Seen { call, fresh } => self.seen(now, call, fresh),
            Input::Gone(call) => {
                let timers = self.calls.remove(&call).unwrap_or_default();
                self.disarm(call, &timers);
            }
            Input::Done(call, timer) => {
                let known = self.calls.get_mut(&call).and_then(|timers| timers.iter_mut().find(|(t, _)| *t == timer));
                if let Some((_, at)) = known
                    && let Some(at) = at.take()
                {
                    self.queue.remove(&(at, call, timer));
                }
            }
            Input::Tick => {}
        }
    }

    /// The timer that ran out first, and its call. One that is not polled waits for it.
    pub fn poll(&mut self) -> Option<(CallId, Timer)> {
        let (at, call, timer) = self.queue.first().copied().filter(|(at, ..)| *at <= self.now)?;
        self.queue.remove(&(at, call, timer));
        let again = self.now.after(limits::TIMER_RETRY);
        if let Some((_, at)) = self.calls.get_mut(&call).and_then(|ts| ts.iter_mut().find(|(t, _)| *t == timer)) {
            *at = Some(again);
            self.queue.insert((again, call, timer));
        }
        Some((call, timer))
    }

    /// When the next one runs out, or ran out.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.queue.first().map(|(at, ..)| *at)
    }

    fn seen(&mut self, now: Now, call: &Call, fresh: bool) {
        let before = self.calls.remove(&call.id).unwrap_or_default();
        self.disarm(call.id, &before);
        let timers: Vec<_> = call
            .timers()
            .map(|(timer, since)| {
                let known = before.iter().find(|(known, _)| *known == timer).map(|(_, at)| *at);
                let span = timer.span();
                let passed = if fresh { Span::ZERO } else { now.wall.since(since) };
                let remaining = Span::from_nanos(span.as_nanos().saturating_sub(passed.as_nanos()));
                (timer, known.unwrap_or_else(|| Some(now.mono.after(remaining))))
            })
            .collect();
        self.queue.extend(timers.iter().filter_map(|(timer, at)| Some(((*at)?, call.id, *timer))));
        self.calls.insert(call.id, timers);
    }

    fn disarm(&mut self, call: CallId, timers: &[(Timer, Option<Mono>)]) {
        for (timer, at) in timers {
            if let Some(at) = at {
                self.queue.remove(&(*at, call, *timer));
            }
        }
    }
}
