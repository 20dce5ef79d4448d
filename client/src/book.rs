//! Every call that this device knows of, and what waits for the app.
//!
//! Decides which call a push is about, what of it the app is told, and when a blob is acknowledged. It never waits: what does
//! not fit is not acknowledged, and comes again with the next connection.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_wire::id::CallId;
use tandem_wire::party::Party;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::api::{CallView, Media, Phase};
use crate::error::Reason;
use crate::limits;
use crate::payload::Payload;
use crate::push::{Blob, Push, What};
use crate::sealing::Sealing;
use crate::shared::{Ack, Message, Seen, Shared};

/// A call that rings here, before the app has seen it.
pub(crate) struct Offer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) from: Party,
    pub(crate) media: Media,
    pub(crate) rings_until: Instant,
    /// `None`: it was acknowledged by an earlier process of this device.
    pub(crate) ack: Option<Ack>,
}

/// A call that nobody answered, before the app has seen it.
pub(crate) struct Note {
    pub(crate) call: CallId,
    pub(crate) from: Party,
    pub(crate) media: Option<Media>,
    pub(crate) age_ms: u64,
    pub(crate) ack: Ack,
}

#[derive(Default)]
struct Known {
    calls: HashMap<CallId, Arc<Shared>>,
    /// Calls of which the app has been shown the offer.
    offered: HashSet<CallId>,
    /// Missed calls that wait for the app, by the names of their blobs.
    noted: HashSet<String>,
    /// Calls that were told about since the connection began.
    told: HashSet<CallId>,
}

/// What this device knows.
pub(crate) struct Book {
    me: Party,
    sealing: Arc<dyn Sealing>,
    known: Mutex<Known>,
    offers: mpsc::Sender<Offer>,
    notes: mpsc::Sender<Note>,
    acks: mpsc::Sender<String>,
    /// For whoever wants to see everything.
    feed: broadcast::Sender<Push>,
}

impl Book {
    pub(crate) fn new(
        me: Party,
        sealing: Arc<dyn Sealing>,
        offers: mpsc::Sender<Offer>,
        notes: mpsc::Sender<Note>,
        acks: mpsc::Sender<String>,
    ) -> Self {
        Self {
            me,
            sealing,
            known: Mutex::default(),
            offers,
            notes,
            acks,
            feed: broadcast::Sender::new(limits::PUSHES_WATCHED),
        }
    }

    pub(crate) const fn me(&self) -> &Party {
        &self.me
    }

    pub(crate) fn sealing(&self) -> &dyn Sealing {
        &*self.sealing
    }

    pub(crate) fn feed(&self) -> broadcast::Receiver<Push> {
        self.feed.subscribe()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call, which may be new here: a push may come before the answer that names it. `None`: there are too many.
    pub(crate) fn call(&self, id: CallId) -> Option<Arc<Shared>> {
        let mut known = self.known();
        if let Some(shared) = known.calls.get(&id) {
            return Some(Arc::clone(shared));
        }
        if known.calls.len() >= limits::CALLS {
            known.calls.retain(|_, shared| !shared.is_over());
            if known.calls.len() >= limits::CALLS {
                // What the app has let go of, or never knew.
                known.calls.retain(|_, shared| Arc::strong_count(shared) > 1);
            }
            let Known { calls, offered, .. } = &mut *known;
            offered.retain(|id| calls.contains_key(id));
        }
        if known.calls.len() >= limits::CALLS {
            return None;
        }
        let shared = Arc::new(Shared::new(id));
        known.calls.insert(id, Arc::clone(&shared));
        Some(shared)
    }

    /// A connection begins.
    pub(crate) fn connected(&self) {
        self.known().told.clear();
    }

    /// The device is up to date: the calls that go on as far as it knows, and that it was told nothing about. They ended so
    /// long ago that nobody tells of them any more.
    pub(crate) fn untold(&self) -> Vec<Arc<Shared>> {
        let known = self.known();
        let untold = known.calls.values().filter(|call| !known.told.contains(&call.id) && !call.is_over());
        untold.filter(|call| call.place().is_some() || known.offered.contains(&call.id)).cloned().collect()
    }

    /// Takes in how a call stands.
    pub(crate) fn looked(&self, shared: &Shared, view: CallView) {
        let CallView { phase, revision, legs, ended } = view;
        let peer = legs.into_iter().map(|leg| (leg.leg, Party::from(leg.party))).find(|(_, party)| *party != self.me);
        if let Some((leg, party)) = peer {
            shared.peer_is(revision, Some(leg), party);
        }
        match phase {
            Phase::Ringing => {}
            Phase::Active => shared.active(revision),
            Phase::Ended => shared.over(revision, ended.map_or(Reason::Unknown, |ended| ended.reason)),
        }
    }

    /// Takes in a push.
    pub(crate) fn take(&self, push: Push) {
        if self.feed.receiver_count() > 0 {
            let _ = self.feed.send(push.clone());
        }
        let Push { call, revision, age_ms, what } = push;
        if let What::Missed { from, media, blob } = what {
            return self.missed(call, from, media, age_ms, blob);
        }
        let Some(shared) = self.call(call) else { return };
        self.known().told.insert(call);
        match what {
            What::Offer { from, media, ring_remaining_ms, blob } => {
                let rings_until = Instant::now() + std::time::Duration::from_millis(ring_remaining_ms);
                self.offered(
                    &shared,
                    Offer {
                        shared: Arc::clone(&shared),
                        from,
                        media,
                        rings_until,
                        ack: blob.map(|blob| self.ack(blob.id)),
                    },
                );
            }
            What::Ringing(device) => shared.rings_at(revision, device),
            What::Accepted { party, leg, blob } => {
                shared.peer_is(revision, Some(leg), party);
                if let Some(blob) = blob {
                    // What is in it says nothing yet: the address comes when there is one.
                    self.answered(&shared, blob);
                }
                shared.active(revision);
            }
            What::AnsweredElsewhere => shared.over(revision, Reason::AnsweredElsewhere),
            What::Rejected(device) => shared.busy_at(revision, device),
            What::Cancelled => shared.over(revision, Reason::Cancelled),
            What::Signal { from, blob } => self.signal(&shared, &from, blob),
            What::LegJoined { leg, party, .. } if party != self.me => shared.peer_is(revision, Some(leg), party),
            What::LegJoined { .. } | What::LegLeft { .. } => shared.change(revision, |_| {}),
            What::Ended(reason) => shared.over(revision, reason),
            What::Missed { .. } => {}
        }
    }

    fn ack(&self, id: String) -> Ack {
        Ack::new(id, self.acks.clone())
    }

    fn offered(&self, shared: &Shared, offer: Offer) {
        shared.peer_is(0, None, offer.from.clone());
        let seen = offer.ack.as_ref().map_or(Seen::No, |ack| shared.seen(ack.id()));
        if seen == Seen::Taken {
            if let Some(ack) = offer.ack {
                ack.done();
            }
        } else if self.known().offered.insert(shared.id)
            && let Err(error) = self.offers.try_send(offer)
        {
            // It is shown when it comes again.
            self.known().offered.remove(&error.into_inner().shared.id);
        }
    }

    fn answered(&self, shared: &Shared, blob: Blob) {
        match shared.seen(&blob.id) {
            Seen::No => shared.answer(self.ack(blob.id)),
            Seen::Waiting => {}
            Seen::Taken => self.ack(blob.id).done(),
        }
    }

    fn signal(&self, shared: &Shared, from: &Party, blob: Blob) {
        let Blob { id, sealed } = blob;
        match shared.seen(&id) {
            Seen::No => {}
            Seen::Waiting => return,
            Seen::Taken => return self.ack(id).done(),
        }
        let opened = sealed.and_then(|sealed| self.sealing.open(from, sealed.expose()).ok());
        match opened.and_then(|clear| Payload::read(&clear)) {
            Some(Payload::App(data)) => return shared.put(Message { data, ack: self.ack(id) }),
            Some(Payload::Relay { at, again }) => {
                // Who has an address has accepted, whichever push comes first.
                shared.peer_at.send_replace(Some(at));
                if again {
                    shared.asked_again.notify_one();
                }
            }
            // Neither is for us, or it cannot be opened: it does not get better by coming again.
            Some(Payload::Offer(_) | Payload::Answer | Payload::Missed(_)) | None => {}
        }
        shared.taken(self.ack(id));
    }

    fn missed(&self, call: CallId, from: Party, media: Option<Media>, age_ms: u64, blob: Blob) {
        let id = blob.id;
        if self.known().noted.insert(id.clone()) {
            let note = Note { call, from, media, age_ms, ack: self.ack(id) };
            if let Err(error) = self.notes.try_send(note) {
                self.known().noted.remove(error.into_inner().ack.id());
            }
        }
    }

    /// The app has seen it.
    pub(crate) fn noted(&self, note: Note) -> (CallId, Party, Option<Media>, u64) {
        let Note { call, from, media, age_ms, ack } = note;
        self.known().noted.remove(ack.id());
        ack.done();
        (call, from, media, age_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::ClearSealing;
    use tandem_wire::redact::Secret;

    struct Desk {
        book: Book,
        offers: mpsc::Receiver<Offer>,
        notes: mpsc::Receiver<Note>,
        acks: mpsc::Receiver<String>,
    }

    fn party(name: &str) -> Party {
        Party { account: name.parse().unwrap(), device: format!("dev_{name}").parse().unwrap() }
    }

    fn desk() -> Desk {
        let (offers_in, offers) = mpsc::channel(limits::INCOMING_WAITING);
        let (notes_in, notes) = mpsc::channel(2);
        let (acks_in, acks) = mpsc::channel(100);
        let book = Book::new(party("bob"), Arc::new(ClearSealing), offers_in, notes_in, acks_in);
        Desk { book, offers, notes, acks }
    }

    fn push(call: u128, what: What) -> Push {
        Push { call: CallId::from_bits(call), revision: 1, age_ms: 0, what }
    }

    fn offer(id: Option<&str>) -> What {
        let blob = id.map(|id| Blob { id: id.to_owned(), sealed: None });
        What::Offer { from: party("alice"), media: Media::Audio, ring_remaining_ms: 45_000, blob }
    }

    fn signal(id: &str, payload: &Payload) -> What {
        let sealed = Some(Secret::new(payload.write().unwrap()));
        What::Signal { from: party("alice"), blob: Blob { id: id.to_owned(), sealed } }
    }

    #[tokio::test]
    async fn an_offer_that_comes_again_is_shown_once_and_acknowledged_when_it_was_taken() {
        let mut desk = desk();
        for _ in 0..3 {
            desk.book.take(push(1, offer(Some("o"))));
        }
        let Offer { shared, ack, .. } = desk.offers.try_recv().unwrap();
        assert!(desk.offers.try_recv().is_err() && desk.acks.try_recv().is_err());
        shared.taken(ack.unwrap());
        assert_eq!(desk.acks.try_recv().unwrap(), "o");
        desk.book.take(push(1, offer(Some("o"))));
        assert_eq!(desk.acks.try_recv().unwrap(), "o", "the acknowledgement was lost");
        desk.book.take(push(1, offer(None)));
        assert!(desk.offers.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_address_is_kept_and_acknowledged_and_what_the_app_is_told_waits_for_it() {
        let mut desk = desk();
        let at = tandem_wire::id::VirtualAddr { octet: 1, port: 1_025 };
        desk.book.take(push(1, signal("a", &Payload::Relay { at, again: false })));
        let shared = desk.book.call(CallId::from_bits(1)).unwrap();
        assert_eq!(*shared.peer_at.borrow(), Some(at));
        assert_eq!(desk.acks.try_recv().unwrap(), "a");
        for _ in 0..2 {
            desk.book.take(push(1, signal("b", &Payload::App(b"hi".to_vec()))));
        }
        assert!(desk.acks.try_recv().is_err());
        assert_eq!(shared.take().unwrap(), b"hi");
        assert!(shared.take().is_none());
        assert_eq!(desk.acks.try_recv().unwrap(), "b");
    }

    #[tokio::test]
    async fn a_note_that_does_not_fit_comes_again() {
        let mut desk = desk();
        let missed = |id: &str| {
            let blob = Blob { id: id.to_owned(), sealed: None };
            push(1, What::Missed { from: party("alice"), media: None, blob })
        };
        for id in ["a", "b", "c", "a"] {
            desk.book.take(missed(id));
        }
        let note = desk.notes.try_recv().unwrap();
        desk.book.noted(note);
        assert_eq!(desk.acks.try_recv().unwrap(), "a");
        desk.book.take(missed("c"));
        let waiting: Vec<String> =
            std::iter::from_fn(|| desk.notes.try_recv().ok()).map(|note| note.ack.id().to_owned()).collect();
        assert_eq!(waiting, ["b", "c"]);
    }

    #[tokio::test]
    async fn calls_of_which_nobody_keeps_anything_make_room() {
        let desk = desk();
        let kept: Vec<_> = (0..3).map(|n| desk.book.call(CallId::from_bits(n)).unwrap()).collect();
        kept[2].over(1, Reason::Hangup);
        for n in 3..10 * limits::CALLS {
            desk.book.take(push(n as u128, What::Ended(Reason::Hangup)));
        }
        assert!(Arc::ptr_eq(&kept[0], &desk.book.call(CallId::from_bits(0)).unwrap()));
        assert!(desk.book.known().calls.len() <= limits::CALLS);
    }

    #[tokio::test]
    async fn calls_that_nobody_tells_of_any_more_are_looked_after() {
        let desk = desk();
        desk.book.take(push(1, offer(Some("a"))));
        desk.book.take(push(2, offer(Some("b"))));
        desk.book.connected();
        desk.book.take(push(2, offer(Some("b"))));
        let untold = desk.book.untold();
        assert_eq!(untold.iter().map(|call| call.id).collect::<Vec<_>>(), [CallId::from_bits(1)]);
        let view = r#"{"phase":"ended","revision":9,"legs":[],"ended":{"at":"x","reason":"timeout"}}"#;
        desk.book.looked(&untold[0], serde_json::from_str(view).unwrap());
        assert_eq!(untold[0].state.borrow().ended, Some(Reason::Timeout));
    }
}
