//! What the two legs of a demo call say to each other before they hear each other: a mailbox a leg.
//!
//! Decides how much is kept: the oldest message goes when there are too many. Opaque to us.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::demo::LEGS;
use crate::limits;

/// One message.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Item {
    seq: u64,
    message: Box<RawValue>,
}

#[derive(Debug, Default)]
struct Mailbox {
    items: VecDeque<Item>,
    bytes: usize,
    last: u64,
}

/// The mailboxes of a call's legs.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    boxes: [Mutex<Mailbox>; LEGS as usize],
    /// Wakes those who wait.
    news: watch::Sender<u64>,
}

impl Default for Mailboxes {
    fn default() -> Self {
        Self { boxes: Default::default(), news: watch::Sender::new(0) }
    }
}

impl Mailboxes {
    fn of<T>(&self, leg: u16, act: impl FnOnce(&mut Mailbox) -> T) -> Option<T> {
        let mailbox = self.boxes.get(usize::from(leg.checked_sub(1)?))?;
        Some(act(&mut mailbox.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Leaves a message of `leg` for the other leg; gives its number, or `None` if there is no such leg.
    pub(crate) fn leave(&self, leg: u16, message: Box<RawValue>) -> Option<u64> {
        let other = (LEGS + 1).checked_sub(leg).filter(|_| leg > 0)?;
        let seq = self.of(other, |mailbox| {
            mailbox.last += 1;
            mailbox.bytes += message.get().len();
            mailbox.items.push_back(Item { seq: mailbox.last, message });
            while mailbox.items.len() > limits::SIGNALS_PER_LEG || mailbox.bytes > limits::SIGNAL_BYTES_PER_LEG {
                let Some(oldest) = mailbox.items.pop_front() else { break };
                mailbox.bytes -= oldest.message.get().len();
            }
            mailbox.last
        })?;
        self.news.send_modify(|count| *count = count.wrapping_add(1));
        Some(seq)
    }

    /// The messages for `leg` after `after`; waits up to `wait` for the first. `None` if there is no such leg.
    pub(crate) async fn take(&self, leg: u16, after: u64, wait: Duration) -> Option<Vec<Item>> {
        let mut news = self.news.subscribe();
        let found = async {
            loop {
                news.mark_unchanged();
                let items: Vec<Item> =
                    self.of(leg, |mailbox| mailbox.items.iter().filter(|item| item.seq > after).cloned().collect())?;
                if !items.is_empty() {
                    return Some(items);
                }
                news.changed().await.ok()?;
            }
        };
        self.of(leg, |_| ())?;
        Some(tokio::time::timeout(wait, found).await.ok().flatten().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Box<RawValue> {
        RawValue::from_string(format!("{{\"text\":\"{text}\"}}")).unwrap()
    }

    async fn texts(boxes: &Mailboxes, leg: u16, after: u64) -> Vec<u64> {
        boxes.take(leg, after, Duration::ZERO).await.unwrap().iter().map(|item| item.seq).collect()
    }

    #[tokio::test]
    async fn a_message_is_for_the_other_leg_and_stays_until_it_is_old() {
        let boxes = Mailboxes::default();
        assert_eq!((boxes.leave(1, message("a")), boxes.leave(1, message("b"))), (Some(1), Some(2)));
        assert_eq!(texts(&boxes, 2, 0).await, [1, 2]);
        assert_eq!(texts(&boxes, 2, 1).await, [2]);
        assert!(texts(&boxes, 1, 0).await.is_empty());
        for leg in [0, 3, u16::MAX] {
            assert!(boxes.leave(leg, message("x")).is_none() && boxes.take(leg, 0, Duration::ZERO).await.is_none());
        }
    }

    #[tokio::test]
    async fn one_who_waits_hears_at_once() {
        let boxes = Mailboxes::default();
        let (heard, left) = tokio::join!(boxes.take(2, 0, Duration::from_secs(60)), async {
            tokio::task::yield_now().await;
            boxes.leave(1, message("a"))
        });
        assert_eq!((heard.unwrap().len(), left), (1, Some(1)));
    }

    #[tokio::test]
    async fn the_oldest_goes_when_there_are_too_many_or_too_much() {
        let boxes = Mailboxes::default();
        for _ in 0..limits::SIGNALS_PER_LEG + 3 {
            boxes.leave(1, message("a"));
        }
        assert_eq!(texts(&boxes, 2, 0).await.first(), Some(&4));
        let long = "x".repeat(limits::SIGNAL_BYTES_PER_LEG / 2);
        for _ in 0..3 {
            boxes.leave(2, message(&long));
        }
        assert_eq!(texts(&boxes, 1, 0).await, [3]);
    }
}
