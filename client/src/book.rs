//! Every call that this device knows of, and what waits for the app.
//!
//! Decides which call a push is about, what of it the app is told, and when a blob is acknowledged. It never waits: what does
//! not fit is not acknowledged, and comes again with the next connection.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tandem_seal::SealError;
use tandem_wire::id::CallId;
use tandem_wire::party::Party;
use tandem_wire::redact::Secret;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::api::{CallView, Media, Phase};
use crate::error::Reason;
use crate::ghosts::Ghosts;
use crate::limits;
use crate::payload::Payload;
use crate::push::{Blob, Push, What};
use crate::sealing::Sealer;
use crate::shared::{Ack, Message, Seen, Shared};

/// A call that rings here, before the app has seen it.
pub(crate) struct Offer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) from: Party,
    pub(crate) media: Media,
    pub(crate) rings_until: Instant,
    /// `None`: it was opened and acknowledged by an earlier process of this device.
    pub(crate) sealed: Option<Secret>,
    /// `None`: it was acknowledged by an earlier process of this device.
    pub(crate) ack: Option<Ack>,
}

/// A call that nobody answered, before the app has seen it.
pub(crate) struct Note {
    pub(crate) call: CallId,
    pub(crate) from: Party,
    pub(crate) sealed: Option<Secret>,
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
    ghosts: Ghosts,
}

/// A request for a call, under way. Dropped, it is given up: the call may come all the same.
pub(crate) struct Placing {
    book: Arc<Book>,
    began: Instant,
    given_up: bool,
}

impl Placing {
    pub(crate) fn new(book: &Arc<Book>) -> Self {
        book.known().ghosts.asked();
        Self { book: Arc::clone(book), began: Instant::now(), given_up: true }
    }

    /// It is known what became of it: the call that there is has been entered, or there is none.
    pub(crate) fn settled(mut self) {
        self.given_up = false;
    }
}

impl Drop for Placing {
    fn drop(&mut self) {
        let ghosts = self.book.known().ghosts.over(Instant::now(), self.began, self.given_up);
        ghosts.into_iter().for_each(|call| self.book.ghost(call));
    }
}

/// What this device knows.
pub(crate) struct Book {
    me: Party,
    sealer: Arc<Sealer>,
    known: Mutex<Known>,
    offers: mpsc::Sender<Offer>,
    notes: mpsc::Sender<Note>,
    acks: mpsc::Sender<String>,
    /// Calls that the server is to be told the end of.
    ends: mpsc::Sender<CallId>,
    /// For whoever wants to see everything.
    feed: broadcast::Sender<Push>,
}

impl Book {
    pub(crate) fn new(
        me: Party,
        sealer: Arc<Sealer>,
        offers: mpsc::Sender<Offer>,
        notes: mpsc::Sender<Note>,
        acks: mpsc::Sender<String>,
        ends: mpsc::Sender<CallId>,
    ) -> Self {
        Self {
            me,
            sealer,
            known: Mutex::default(),
            offers,
            notes,
            acks,
            ends,
            feed: broadcast::Sender::new(limits::PUSHES_WATCHED),
        }
    }

    pub(crate) const fn me(&self) -> &Party {
        &self.me
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
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
        match phase {
            Phase::Ringing => {}
            Phase::Active => {
                if let Some((leg, party)) = peer
                    && self.is_proven(shared, &party)
                {
                    shared.peer_is(revision, Some(leg), party);
                    shared.active(revision);
                }
            }
            Phase::Ended => shared.over(revision, ended.map_or(Reason::Unknown, |ended| ended.reason)),
        }
    }

    /// Takes in a push.
    pub(crate) fn take(&self, push: Push) {
        if self.feed.receiver_count() > 0 {
            let _ = self.feed.send(push.clone());
        }
        let Push { call, revision, age_ms, what } = push;
        if let What::Missed { from, blob, .. } = what {
            return self.missed(call, from, age_ms, blob);
        }
        let Some(shared) = self.call(call) else { return };
        self.known().told.insert(call);
        if let What::Accepted { party: from, .. } | What::Signal { from, .. } = &what
            && shared.place().is_none()
            && self.sealer.keyring().session_with(call, from).is_none()
        {
            return shared.hold(Push { call, revision, age_ms, what });
        }
        match what {
            What::Offer { from, media, ring_remaining_ms, blob } => {
                let rings_until = Instant::now() + Duration::from_millis(ring_remaining_ms);
                let (ack, sealed) = blob.map_or((None, None), |blob| (Some(self.ack(blob.id)), blob.sealed));
                self.offered(Offer { shared: Arc::clone(&shared), from, media, rings_until, sealed, ack });
            }
            What::Ringing(device) => shared.rings_at(revision, device),
            What::Accepted { party, leg, blob } => match self.answered(&shared, &party, blob) {
                Ok(()) => {
                    shared.peer_is(revision, Some(leg), party);
                    shared.active(revision);
                }
                Err(why) => self.distrust(&shared, &party, why),
            },
            What::AnsweredElsewhere => self.over(&shared, revision, Reason::AnsweredElsewhere),
            What::Rejected(device) => shared.busy_at(revision, device),
            What::Cancelled => self.over(&shared, revision, Reason::Cancelled),
            What::Signal { from, blob } => self.signal(&shared, &from, blob),
            What::LegJoined { leg, party, .. } if self.is_proven(&shared, &party) => {
                shared.peer_is(revision, Some(leg), party);
            }
            What::LegJoined { party, rejoined: false, .. } if party == self.me && !self.is_ours(&shared) => {
                let now = Instant::now();
                let since = now.checked_sub(Duration::from_millis(age_ms));
                // What began before the clock did is older than any request.
                let is_ghost = since.is_some_and(|since| self.known().ghosts.joined(now, call, since));
                if is_ghost {
                    self.ghost(call);
                }
            }
            What::LegJoined { .. } | What::LegLeft { .. } => shared.change(revision, |_| {}),
            What::Ended(reason) => self.over(&shared, revision, reason),
            What::Missed { .. } => {}
        }
    }

    /// Whether somebody here knows a call: it was placed, answered or come back to, or rings.
    fn is_ours(&self, shared: &Shared) -> bool {
        shared.place().is_some() || self.known().offered.contains(&shared.id)
    }

    /// Ends a call that nobody here is in. One that does not fit is told of again with the next connection.
    fn ghost(&self, call: CallId) {
        let Some(shared) = self.call(call).filter(|shared| !self.is_ours(shared) && !shared.is_over()) else { return };
        if self.ends.try_send(call).is_ok() {
            self.over(&shared, 0, Reason::Cancelled);
        }
    }

    fn ack(&self, id: String) -> Ack {
        Ack::new(id, self.acks.clone())
    }

    /// Whether something of this device was opened in this call. What a server says of any other is not believed.
    fn is_proven(&self, shared: &Shared, party: &Party) -> bool {
        self.sealer.keyring().session_with(shared.id, party) == Some(true)
    }

    fn over(&self, shared: &Shared, revision: u64, reason: Reason) {
        shared.over(revision, reason);
        // What cannot be forgotten now is forgotten when there are too many.
        let _ = self.sealer.keyring().over(shared.id);
    }

    /// The call ends: the other device is not who it is said to be.
    fn distrust(&self, shared: &Shared, from: &Party, why: SealError) {
        self.sealer.refused(shared.id, from, why);
        self.over(shared, 0, Reason::Untrusted);
        let _ = self.ends.try_send(shared.id);
    }

    fn offered(&self, offer: Offer) {
        let shared = Arc::clone(&offer.shared);
        let seen = offer.ack.as_ref().map_or(Seen::No, |ack| shared.seen(ack.id()));
        if seen == Seen::Taken {
            if let Some(ack) = offer.ack {
                ack.done();
            }
        } else if self.known().offered.insert(shared.id) {
            self.offer(offer);
        }
    }

    /// Puts an offer where the app takes it. One that does not fit is shown when it comes again.
    pub(crate) fn offer(&self, offer: Offer) {
        if let Err(error) = self.offers.try_send(offer) {
            self.known().offered.remove(&error.into_inner().shared.id);
        }
    }

    /// Opens the answer. What is in it says nothing yet: the address comes when there is one.
    fn answered(&self, shared: &Shared, from: &Party, blob: Option<Blob>) -> Result<(), SealError> {
        let proven = self.is_proven(shared, from);
        let Some(Blob { id, sealed }) = blob else {
            return if proven { Ok(()) } else { Err(SealError::NoSession) };
        };
        match shared.seen(&id) {
            Seen::No => {}
            Seen::Waiting => return Ok(()),
            Seen::Taken => {
                self.ack(id).done();
                return Ok(());
            }
        }
        let sealed = sealed.ok_or(SealError::Malformed)?;
        let said = match self.sealer.open(shared.id, from, sealed.expose()) {
            Ok((Payload::Answer, said)) => Some(said),
            // It was opened before: by an earlier process, or what came behind it was first.
            Err(SealError::Replayed) if proven => None,
            Ok(_) => return Err(SealError::Malformed),
            Err(why) => return Err(why),
        };
        shared.answer(self.ack(id), said);
        Ok(())
    }

    fn signal(&self, shared: &Shared, from: &Party, blob: Blob) {
        let Blob { id, sealed } = blob;
        match shared.seen(&id) {
            Seen::No => {}
            Seen::Waiting => return,
            Seen::Taken => return self.ack(id).done(),
        }
        if !shared.has_room() {
            return;
        }
        let opened = sealed.ok_or(SealError::Malformed);
        let opened = opened.and_then(|sealed| self.sealer.open(shared.id, from, sealed.expose()));
        match opened {
            Ok((Payload::Other(data), _)) => return shared.put_other(Message { data, ack: self.ack(id) }),
            Ok((Payload::App(data), _)) => return shared.put(Message { data, ack: self.ack(id) }),
            Ok((Payload::Relay { at, again }, _)) => {
                // Who has an address has accepted, whichever push comes first.
                shared.peer_at.send_replace(Some(at));
                if again {
                    shared.asked_again.notify_one();
                }
            }
            // Neither is for us, or it cannot be opened: it does not get better by coming again.
            Ok((Payload::Offer(_) | Payload::Answer | Payload::Missed(_), _)) => {}
            Err(why) => self.sealer.refused(shared.id, from, why),
        }
        shared.taken(self.ack(id));
    }

    fn missed(&self, call: CallId, from: Party, age_ms: u64, blob: Blob) {
        let Blob { id, sealed } = blob;
        if self.known().noted.insert(id.clone()) {
            let note = Note { call, from, sealed, age_ms, ack: self.ack(id) };
            if let Err(error) = self.notes.try_send(note) {
                self.known().noted.remove(error.into_inner().ack.id());
            }
        }
    }

    /// The app has seen it.
    pub(crate) fn noted(&self, ack: Ack) {
        self.known().noted.remove(ack.id());
        ack.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::now;
    use tandem_seal::{Custody, Keyring, ListedDevice, MemoryStore};
    use tandem_wire::id::LegId;

    struct Desk {
        book: Book,
        offers: mpsc::Receiver<Offer>,
        notes: mpsc::Receiver<Note>,
        acks: mpsc::Receiver<String>,
        ends: mpsc::Receiver<CallId>,
        /// The other device's, which has a call with this one.
        alice: Keyring,
    }

    fn party(name: &str) -> Party {
        Party { account: name.parse().unwrap(), device: format!("dev_{name}").parse().unwrap() }
    }

    fn desk() -> Desk {
        let (offers_in, offers) = mpsc::channel(limits::INCOMING_WAITING);
        let (notes_in, notes) = mpsc::channel(2);
        let (acks_in, acks) = mpsc::channel(100);
        let (ends_in, ends) = mpsc::channel(2);
        let (mut alice, mut bob) = (keyring("alice"), keyring("bob"));
        // Call 1 is one that bob placed; call 2 one that rings at him.
        let (offer, opening) = bob.seal_offer(&listed(&alice), b"").unwrap();
        bob.began(CallId::from_bits(1), vec![opening]).unwrap();
        alice.open_offer(CallId::from_bits(1), &listed(&bob), &offer).unwrap();
        let (offer, opening) = alice.seal_offer(&listed(&bob), b"").unwrap();
        alice.began(CallId::from_bits(2), vec![opening]).unwrap();
        bob.open_offer(CallId::from_bits(2), &listed(&alice), &offer).unwrap();
        let book = Book::new(party("bob"), Arc::new(Sealer::new(bob)), offers_in, notes_in, acks_in, ends_in);
        Desk { book, offers, notes, acks, ends, alice }
    }

    fn keyring(name: &str) -> Keyring {
        Keyring::open(party(name), Custody::Device, Box::new(MemoryStore), now()).unwrap()
    }

    fn listed(keyring: &Keyring) -> ListedDevice {
        ListedDevice { party: keyring.party().clone(), keys: keyring.public().unwrap(), custody: Custody::Device }
    }

    impl Desk {
        fn sealed(&mut self, call: u128, id: &str, payload: &Payload) -> Blob {
            let said = payload.write().unwrap();
            let sealed = self.alice.seal(CallId::from_bits(call), &party("bob"), &said).unwrap();
            Blob { id: id.to_owned(), sealed: Some(Secret::new(sealed)) }
        }

        /// Call 1 is answered, with this.
        fn accepted(&self, blob: Option<Blob>) {
            let what = What::Accepted { leg: LegId::new(2).unwrap(), party: party("alice"), blob };
            self.book.take(push(1, what));
        }

        fn state(&self, call: u128) -> crate::shared::CallState {
            self.book.call(CallId::from_bits(call)).unwrap().state.borrow().clone()
        }
    }

    fn push(call: u128, what: What) -> Push {
        Push { call: CallId::from_bits(call), revision: 1, age_ms: 0, what }
    }

    fn offer(id: Option<&str>) -> What {
        let blob = id.map(|id| Blob { id: id.to_owned(), sealed: None });
        What::Offer { from: party("alice"), media: Media::Audio, ring_remaining_ms: 45_000, blob }
    }

    fn signal(blob: &Blob) -> What {
        What::Signal { from: party("alice"), blob: blob.clone() }
    }

    #[tokio::test]
    async fn an_answer_that_the_other_device_sealed_makes_the_call() {
        let mut desk = desk();
        let answer = desk.sealed(1, "a", &Payload::Answer);
        for _ in 0..2 {
            desk.accepted(Some(answer.clone()));
            assert_eq!((desk.state(1).phase, desk.state(1).peer.unwrap().party), (Phase::Active, party("alice")));
        }
        // It was acknowledged, or opened by an earlier process.
        desk.accepted(None);
        assert_eq!(desk.state(1).ended, None);
        assert!(desk.ends.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_answer_that_is_not_what_it_is_said_to_be_ends_the_call_and_is_told_by_name() {
        for (what, why) in [
            ("nothing", SealError::NoSession),
            ("changed", SealError::Forged),
            ("of another call", SealError::Forged),
            ("not an answer", SealError::Malformed),
            ("of another device", SealError::NoSession),
        ] {
            let mut desk = desk();
            let mut trust = desk.book.sealer().events();
            let mut from = party("alice");
            let blob = match what {
                "nothing" => None,
                "changed" => {
                    let Blob { id, sealed } = desk.sealed(1, "a", &Payload::Answer);
                    let mut sealed = sealed.unwrap().expose().to_vec();
                    sealed[20] ^= 1;
                    Some(Blob { id, sealed: Some(Secret::new(sealed)) })
                }
                "of another call" => Some(desk.sealed(2, "a", &Payload::Answer)),
                "not an answer" => Some(desk.sealed(1, "a", &Payload::Offer(Media::Audio))),
                _ => {
                    from = party("mallory");
                    // The call is known to be the one that was placed.
                    desk.book.call(CallId::from_bits(1)).unwrap().placed(crate::api::Place {
                        call: CallId::from_bits(1),
                        leg: LegId::new(1).unwrap(),
                        phase: Phase::Ringing,
                        revision: 1,
                        servers: Vec::new(),
                    });
                    Some(desk.sealed(1, "a", &Payload::Answer))
                }
            };
            desk.book.take(push(1, What::Accepted { leg: LegId::new(2).unwrap(), party: from.clone(), blob }));
            let state = desk.state(1);
            assert_eq!((state.ended, state.peer), (Some(Reason::Untrusted), None), "{what}");
            assert_eq!(desk.ends.try_recv().unwrap(), CallId::from_bits(1), "{what}");
            let call = CallId::from_bits(1);
            assert_eq!(trust.try_recv().unwrap(), crate::Trust::Refused { call, from, why }, "{what}");
        }
    }

    #[tokio::test]
    async fn what_comes_before_the_call_has_its_name_waits_for_it() {
        let (mut desk, id) = (desk(), CallId::from_bits(5));
        let bob = desk.book.sealer();
        let (offer, opening) = bob.keyring().seal_offer(&listed(&desk.alice), b"").unwrap();
        let from = listed(&bob.keyring());
        desk.alice.open_offer(id, &from, &offer).unwrap();
        let blob = desk.sealed(5, "a", &Payload::Answer);
        let what = What::Accepted { leg: LegId::new(2).unwrap(), party: party("alice"), blob: Some(blob) };
        desk.book.take(push(5, what));
        assert_eq!(desk.state(5).phase, Phase::Ringing);
        desk.book.sealer().keyring().began(id, vec![opening]).unwrap();
        for push in desk.book.call(id).unwrap().held() {
            desk.book.take(push);
        }
        assert_eq!(desk.state(5).phase, Phase::Active);
    }

    #[tokio::test]
    async fn a_server_that_only_says_that_somebody_is_in_the_call_is_not_believed() {
        let desk = desk();
        desk.accepted_by_word();
        assert_eq!((desk.state(1).phase, desk.state(1).peer), (Phase::Ringing, None));
    }

    impl Desk {
        fn accepted_by_word(&self) {
            let leg = LegId::new(2).unwrap();
            self.book.take(push(1, What::LegJoined { leg, party: party("alice"), rejoined: false }));
            let view = r#"{"phase":"active","revision":9,"legs":[{"leg":2,"account":"alice","device":"dev_alice"}]}"#;
            let shared = self.book.call(CallId::from_bits(1)).unwrap();
            self.book.looked(&shared, serde_json::from_str(view).unwrap());
        }
    }

    #[tokio::test]
    async fn a_signal_that_is_replayed_is_told_and_not_used() {
        let mut desk = desk();
        let mut trust = desk.book.sealer().events();
        let said = desk.sealed(2, "a", &Payload::App(b"hi".to_vec()));
        desk.book.take(push(2, signal(&said)));
        assert_eq!(desk.book.call(CallId::from_bits(2)).unwrap().take().unwrap(), b"hi");
        desk.book.take(push(2, signal(&Blob { id: "b".to_owned(), sealed: said.sealed })));
        assert!(desk.book.call(CallId::from_bits(2)).unwrap().take().is_none());
        let (call, from) = (CallId::from_bits(2), party("alice"));
        assert_eq!(trust.try_recv().unwrap(), crate::Trust::Refused { call, from, why: SealError::Replayed });
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
        let blob = desk.sealed(2, "a", &Payload::Relay { at, again: false });
        desk.book.take(push(2, signal(&blob)));
        let shared = desk.book.call(CallId::from_bits(2)).unwrap();
        assert_eq!(*shared.peer_at.borrow(), Some(at));
        assert_eq!(desk.acks.try_recv().unwrap(), "a");
        let blob = desk.sealed(2, "b", &Payload::App(b"hi".to_vec()));
        for _ in 0..2 {
            desk.book.take(push(2, signal(&blob)));
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
        desk.book.noted(note.ack);
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

    fn own_leg(age_ms: u64, call: u128, rejoined: bool) -> Push {
        let what = What::LegJoined { leg: LegId::new(1).unwrap(), party: party("bob"), rejoined };
        Push { age_ms, ..push(call, what) }
    }

    #[tokio::test]
    async fn a_call_that_came_after_all_is_ended_and_no_other() {
        let Desk { book, mut ends, offers: _offers, .. } = desk();
        let book = Arc::new(book);
        // One of an earlier process: the app may come back to it.
        book.take(own_leg(60_000, 5, false));
        drop(Placing::new(&book));
        book.take(own_leg(60_000, 5, false));
        // One that the app is in, or that rings here, or that it came back to.
        book.take(push(6, offer(Some("o"))));
        book.take(own_leg(0, 6, false));
        let place = |call| crate::api::Place {
            call: CallId::from_bits(call),
            leg: LegId::new(1).unwrap(),
            phase: Phase::Ringing,
            revision: 1,
            servers: Vec::new(),
        };
        book.call(CallId::from_bits(7)).unwrap().placed(place(7));
        book.take(own_leg(0, 7, false));
        book.take(own_leg(0, 8, true));
        assert!(ends.try_recv().is_err());
        // The one that was asked for. It is told of once more before it is ended.
        for _ in 0..2 {
            book.take(own_leg(0, 9, false));
        }
        assert_eq!(ends.try_recv().unwrap(), CallId::from_bits(9));
        assert!(ends.try_recv().is_err());
        assert_eq!(book.call(CallId::from_bits(9)).unwrap().state.borrow().ended, Some(Reason::Cancelled));
    }

    #[tokio::test]
    async fn of_two_requests_under_way_the_one_that_is_answered_keeps_its_call() {
        let Desk { book, mut ends, .. } = desk();
        let book = Arc::new(book);
        let (first, second) = (Placing::new(&book), Placing::new(&book));
        book.take(own_leg(0, 5, false));
        book.take(own_leg(0, 6, false));
        drop(first);
        assert!(ends.try_recv().is_err(), "it may be the other one's");
        book.call(CallId::from_bits(6)).unwrap().placed(crate::api::Place {
            call: CallId::from_bits(6),
            leg: LegId::new(1).unwrap(),
            phase: Phase::Ringing,
            revision: 1,
            servers: Vec::new(),
        });
        second.settled();
        assert_eq!(ends.try_recv().unwrap(), CallId::from_bits(5));
        assert!(ends.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_ghost_for_which_there_is_no_room_is_ended_when_it_is_told_of_again() {
        let Desk { book, mut ends, .. } = desk();
        let book = Arc::new(book);
        drop(Placing::new(&book));
        for call in 5..8 {
            book.take(own_leg(0, call, false));
        }
        assert_eq!(std::iter::from_fn(|| ends.try_recv().ok()).count(), 2);
        book.take(own_leg(0, 7, false));
        assert_eq!(ends.try_recv().unwrap(), CallId::from_bits(7));
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
