//! What one connection is still to be told.
//!
//! Decides in which order and in which portions. What waits for a device when it comes may be much, and is kept as names until
//! its turn; what happens while a device takes nothing is bounded. Leaves what is told to `core::call` and to the view.

use std::collections::VecDeque;

use axum::extract::ws::Utf8Bytes;
use tandem_core::call::{What, pushes};
use tandem_core::mailbox::BlobName;
use tandem_core::topology::BlobKind;
use tandem_telemetry::metric::router as metric;
use tandem_wire::id::{CallId, Revision};
use tandem_wire::party::{DeviceKey, Party};
use tandem_wire::units::{Mono, Wall};
use tokio::sync::mpsc;

use crate::connection::Outgoing;
use crate::limits;
use crate::push::{self, Queued as _};
use crate::view::{Known, View};

/// Something that a connection is to be told.
pub(crate) enum Waiting {
    /// How this call stands.
    Call(CallId),
    /// This blob.
    Blob(BlobName),
    /// That it is up to date.
    Ready,
    /// A change, as it happens.
    Change(String),
}

/// What came of handing over.
pub(crate) enum Fed {
    /// It has what it takes now.
    Going,
    /// And that was the word that it is up to date.
    Ready,
    /// It takes too little.
    Slow,
}

/// An open connection, as the hub has it.
pub(crate) struct Connection {
    pub(crate) party: Party,
    pub(crate) device: DeviceKey,
    /// When its token was issued, in seconds.
    pub(crate) issued: Option<u64>,
    /// Until when it is good, by the clock that does not jump.
    pub(crate) expires: Mono,
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    waiting: VecDeque<Waiting>,
    /// The word that it is up to date has been put behind what waited.
    greeted: bool,
    /// How much waits that has happened since.
    late: usize,
    /// It was asked to say when it has sent what it has.
    asked: bool,
}

impl Connection {
    pub(crate) fn new(party: Party, issued: Option<u64>, expires: Mono, outgoing: mpsc::Sender<Outgoing>) -> Self {
        let (device, waiting) = (party.key(), VecDeque::new());
        Self { party, device, issued, expires, outgoing, waiting, greeted: false, late: 0, asked: false }
    }

    /// Puts something behind what waits.
    pub(crate) fn waiting(&mut self, what: Waiting) {
        self.late += usize::from(self.greeted && !self.waiting.is_empty());
        self.greeted |= matches!(what, Waiting::Ready);
        self.waiting.push_back(what);
    }

    /// It has sent what it was handed.
    pub(crate) const fn taken(&mut self) {
        self.asked = false;
    }

    /// Hands over as much as it takes now. `at`: up to which revision the view has seen the store.
    pub(crate) fn feed(&mut self, view: &View, at: Revision) -> Fed {
        let now = tandem_net::clock::now().wall;
        let mut fed = Fed::Going;
        while !self.asked {
            // Room for whatever one call comes to, and for the question.
            if self.outgoing.capacity() <= limits::PUSHES_PER_CALL {
                self.asked = self.outgoing.try_send(Outgoing::Tell).is_ok();
                if !self.asked {
                    return Fed::Slow;
                }
                break;
            }
            let Some(next) = self.waiting.pop_front() else {
                self.late = 0;
                break;
            };
            let texts = match next {
                Waiting::Call(id) => self.standing(view, id, now),
                Waiting::Blob(name) => {
                    let blob = view.blob(self.device, name);
                    blob.and_then(|(id, blob)| blob.push(id, now)).into_iter().collect()
                }
                Waiting::Ready => {
                    fed = Fed::Ready;
                    vec![push::ready(at)]
                }
                Waiting::Change(text) => vec![text],
            };
            metric::PUSHED.add(texts.len() as u64);
            for text in texts.into_iter().take(limits::PUSHES_PER_CALL) {
                if self.outgoing.try_send(Outgoing::Text(Utf8Bytes::from(text))).is_err() {
                    return Fed::Slow;
                }
            }
        }
        if self.late > limits::PUSHES_WAITING { Fed::Slow } else { fed }
    }

    /// How a call stands for this device; nothing, if it is none of its own or long over.
    fn standing(&self, view: &View, id: CallId, now: Wall) -> Vec<String> {
        let Some(known) = view.call(id) else { return Vec::new() };
        // Who comes later than this has nothing of it on a screen any more.
        let late = |at: Wall| now.since(at) > tandem_core::limits::ENDED_BLOB_LIFE;
        // What a device was in before it was removed is nothing of the one that has registered under its name since.
        let before = view.removed_at(self.device).is_some_and(|removed| removed >= known.call.created);
        if before || known.call.ended.is_some_and(|ended| late(ended.at)) {
            return Vec::new();
        }
        let own = pushes(None, &known.call).into_iter().filter(|push| *push.to == self.party);
        own.filter_map(|push| record_text(view, known, &self.party, self.device, push.what, now)).collect()
    }
}

/// The text of a push about a call, with what was sealed for this device, while it waits.
pub(crate) fn record_text(
    view: &View,
    known: &Known,
    to: &Party,
    device: DeviceKey,
    what: What<'_>,
    now: Wall,
) -> Option<String> {
    let kind = match what {
        What::Offer => Some(BlobKind::Offer),
        What::Accepted(..) => Some(BlobKind::Accept),
        _ => None,
    };
    let blob = kind.and_then(|kind| view.blob_of_kind(device, known.call.id, kind));
    let blob = blob.as_ref().map(|(id, blob)| (*id, blob));
    push::of_record(&known.call, known.revision, to, what, blob, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> (Connection, mpsc::Receiver<Outgoing>) {
        let (outgoing, taken) = mpsc::channel(limits::PUSHES_WAITING);
        let party = Party { account: "bob".parse().unwrap(), device: "dev_b".parse().unwrap() };
        (Connection::new(party, None, Mono::default(), outgoing), taken)
    }

    fn change(n: usize) -> Waiting {
        Waiting::Change(n.to_string())
    }

    /// What the connection takes until it is asked to say so, or has nothing more.
    fn take(open: &mut Connection, taken: &mut mpsc::Receiver<Outgoing>) -> Vec<String> {
        let mut texts = Vec::new();
        while let Ok(next) = taken.try_recv() {
            match next {
                Outgoing::Text(text) => texts.push(text.as_str().to_owned()),
                Outgoing::Tell => open.taken(),
                Outgoing::Close(_) => panic!("nobody closed it"),
            }
        }
        texts
    }

    #[test]
    fn ten_thousand_things_that_waited_are_told_in_their_order_and_in_portions() {
        let (mut open, mut taken) = connection();
        let view = View::default();
        (0..10_000).for_each(|n| open.waiting(change(n)));
        open.waiting(Waiting::Ready);
        let mut told = Vec::new();
        loop {
            let fed = open.feed(&view, Revision(7));
            assert!(!matches!(fed, Fed::Slow));
            let some = take(&mut open, &mut taken);
            assert!(some.len() <= limits::PUSHES_WAITING);
            told.extend(some);
            if matches!(fed, Fed::Ready) {
                break;
            }
        }
        assert_eq!(told.len(), 10_001);
        assert!(told.iter().take(10_000).enumerate().all(|(n, text)| *text == n.to_string()));
    }

    #[test]
    fn one_that_takes_nothing_of_what_happens_is_given_up() {
        let (mut open, _taken) = connection();
        let view = View::default();
        open.waiting(Waiting::Ready);
        assert!(matches!(open.feed(&view, Revision(7)), Fed::Ready));
        let mut borne = 0;
        loop {
            open.waiting(change(borne));
            if matches!(open.feed(&view, Revision(7)), Fed::Slow) {
                break;
            }
            borne += 1;
        }
        assert!(borne < 3 * limits::PUSHES_WAITING, "{borne}");
    }
}
