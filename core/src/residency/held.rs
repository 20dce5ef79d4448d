//! Packets that wait: a queue with a cap and a time.

use std::collections::VecDeque;

use tandem_wire::units::Mono;

use crate::limits;

/// Holds up to `cap` things, each for [`limits::HELD_FOR`].
#[derive(Debug)]
pub(super) struct HeldQueue<H> {
    queue: VecDeque<(Mono, H)>,
    cap: usize,
}

impl<H> HeldQueue<H> {
    pub(super) const fn new(cap: usize) -> Self {
        Self { queue: VecDeque::new(), cap }
    }

    /// `false` if it is full; then `held` is dropped.
    pub(super) fn push(&mut self, now: Mono, held: H) -> bool {
        if self.queue.len() >= self.cap {
            return false;
        }
        if self.queue.is_empty() {
            // One is the rule: its first growth would be to four.
            self.queue.reserve_exact(1);
        }
        self.queue.push_back((now.after(limits::HELD_FOR), held));
        true
    }

    /// The one that waits longest.
    pub(super) fn pop(&mut self) -> Option<H> {
        let held = self.queue.pop_front().map(|(_, held)| held);
        if self.queue.is_empty() {
            // A call holds packets once or twice in its life: give the room back.
            self.queue = VecDeque::new();
        }
        held
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.queue.front().map(|(until, _)| *until)
    }

    /// Drops what has waited too long and says how many that were.
    pub(super) fn expire(&mut self, now: Mono) -> u64 {
        let mut dropped = 0;
        while self.next_deadline().is_some_and(|until| until <= now) {
            self.pop();
            dropped += 1;
        }
        dropped
    }
}
