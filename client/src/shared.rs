//! One call, as far as this device knows it: what pushes and answers have said of it.
//!
//! Decides how what is told changes what is known: a call only ever goes on, from ringing to active to ended, so what is told
//! twice or late changes nothing. Leaves which call a push is about to [`crate::book`], and asking to [`crate::call`].

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tandem_wire::id::{CallId, LegId, VirtualAddr};
use tandem_wire::party::{DeviceId, Party};
use tokio::sync::{Notify, mpsc, watch};

use crate::api::{Phase, Place};
use crate::error::Reason;
use crate::limits;
use crate::push::Push;

/// How a call stands, as far as this device knows.
#[derive(Debug, Clone)]
pub struct CallState {
    /// How far it has come.
    pub phase: Phase,
    /// Of the last record that was told.
    pub revision: u64,
    /// The callee's devices that ring. Told to the caller.
    pub ringing: Vec<DeviceId>,
    /// The callee's devices that are busy. Told to the caller, while others ring on.
    pub busy: Vec<DeviceId>,
    /// The other device: for the caller, once one has accepted.
    pub peer: Option<Peer>,
    /// Why it is over for this device.
    pub ended: Option<Reason>,
}

/// The other device of a call of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its leg, if it is known to have one.
    pub leg: Option<LegId>,
    /// Which it is.
    pub party: Party,
}

impl CallState {
    const fn new() -> Self {
        Self { phase: Phase::Ringing, revision: 0, ringing: Vec::new(), busy: Vec::new(), peer: None, ended: None }
    }
}

/// Which blob to acknowledge once the app has what was in it. Dropped without, it comes again.
#[derive(Debug)]
pub(crate) struct Ack {
    id: String,
    acks: mpsc::Sender<String>,
}

impl Ack {
    pub(crate) const fn new(id: String, acks: mpsc::Sender<String>) -> Self {
        Self { id, acks }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Says that the app has it. One that does not fit is said when the blob comes again.
    pub(crate) fn done(self) {
        let _ = self.acks.try_send(self.id);
    }
}

/// What the other device said to the app.
pub(crate) struct Message {
    pub(crate) data: Vec<u8>,
    pub(crate) ack: Ack,
}

/// What waits for the app, and what it took.
#[derive(Default)]
struct Inbox {
    waiting: VecDeque<Message>,
    /// What is for the app's own transport.
    others: VecDeque<Message>,
    /// Of blobs that the app took, to know them when they come again.
    taken: VecDeque<String>,
    /// Of an answer that the app was not told of yet.
    answer: Option<Ack>,
    /// What the answer says.
    answer_said: Option<Vec<u8>>,
}

/// Where a blob of a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was not seen before.
    No,
    /// It waits for the app.
    Waiting,
    /// The app took it.
    Taken,
}

/// One call.
pub(crate) struct Shared {
    pub(crate) id: CallId,
    pub(crate) state: watch::Sender<CallState>,
    /// Where the other device is in the call.
    pub(crate) peer_at: watch::Sender<Option<VirtualAddr>>,
    /// Rung when the other device wants to be told once more where we are.
    pub(crate) asked_again: Notify,
    pub(crate) message_came: Notify,
    pub(crate) other_came: Notify,
    /// Held from sealing a blob until it was sent: they go in the order of their numbers.
    pub(crate) sending: tokio::sync::Mutex<()>,
    inbox: Mutex<Inbox>,
    place: Mutex<Option<Place>>,
    /// What came before the server's answer said that this is the call that we placed.
    held: Mutex<Vec<Push>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(id: CallId) -> Self {
        Self {
            id,
            state: watch::Sender::new(CallState::new()),
            peer_at: watch::Sender::new(None),
            asked_again: Notify::new(),
            message_came: Notify::new(),
            other_came: Notify::new(),
            sending: tokio::sync::Mutex::default(),
            inbox: Mutex::default(),
            place: Mutex::new(None),
            held: Mutex::default(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().ended.is_some()
    }

    pub(crate) fn place(&self) -> Option<Place> {
        lock(&self.place).clone()
    }

    /// Takes in an answer that gives a place in the call.
    pub(crate) fn placed(&self, place: Place) {
        self.change(place.revision, |state| {
            if place.phase == Phase::Active && state.phase == Phase::Ringing {
                state.phase = Phase::Active;
            }
        });
        *lock(&self.place) = Some(place);
    }

    /// Keeps a push until the call is known. One that does not fit comes again.
    pub(crate) fn hold(&self, push: Push) {
        let mut held = lock(&self.held);
        if held.len() < limits::MESSAGES_WAITING {
            held.push(push);
        }
    }

    pub(crate) fn held(&self) -> Vec<Push> {
        std::mem::take(&mut *lock(&self.held))
    }

    pub(crate) fn change(&self, revision: u64, change: impl FnOnce(&mut CallState)) {
        self.state.send_modify(|state| {
            state.revision = state.revision.max(revision);
            change(state);
        });
    }

    pub(crate) fn rings_at(&self, revision: u64, device: DeviceId) {
        self.change(revision, |state| {
            if !state.ringing.contains(&device) {
                state.ringing.push(device);
            }
        });
    }

    pub(crate) fn busy_at(&self, revision: u64, device: DeviceId) {
        self.change(revision, |state| {
            state.ringing.retain(|other| *other != device);
            if !state.busy.contains(&device) {
                state.busy.push(device);
            }
        });
    }

    pub(crate) fn peer_is(&self, revision: u64, leg: Option<LegId>, party: Party) {
        self.change(revision, |state| {
            let leg = leg.or_else(|| state.peer.as_ref()?.leg);
            state.peer = Some(Peer { leg, party });
        });
    }

    pub(crate) fn active(&self, revision: u64) {
        self.change(revision, |state| state.phase = state.phase.max(Phase::Active));
    }

    /// The first reason counts.
    pub(crate) fn over(&self, revision: u64, reason: Reason) {
        self.change(revision, |state| {
            state.phase = Phase::Ended;
            state.ended.get_or_insert(reason);
        });
    }

    pub(crate) fn seen(&self, id: &str) -> Seen {
        let inbox = lock(&self.inbox);
        if inbox.taken.iter().any(|taken| taken == id) {
            Seen::Taken
        } else if inbox
            .waiting
            .iter()
            .chain(&inbox.others)
            .map(|message| &message.ack)
            .chain(&inbox.answer)
            .any(|ack| ack.id() == id)
        {
            Seen::Waiting
        } else {
            Seen::No
        }
    }

    /// Whether one more message fits. One that does not comes again, so it must not be opened before.
    pub(crate) fn has_room(&self) -> bool {
        let inbox = lock(&self.inbox);
        inbox.waiting.len().max(inbox.others.len()) < limits::MESSAGES_WAITING
    }

    /// Puts something where the app's own transport takes it.
    pub(crate) fn put_other(&self, message: Message) {
        lock(&self.inbox).others.push_back(message);
        self.other_came.notify_one();
    }

    /// The next of these.
    pub(crate) fn take_other(&self) -> Option<Vec<u8>> {
        let Message { data, ack } = lock(&self.inbox).others.pop_front()?;
        self.taken(ack);
        Some(data)
    }

    /// Puts a message where the app takes it.
    pub(crate) fn put(&self, message: Message) {
        lock(&self.inbox).waiting.push_back(message);
        self.message_came.notify_one();
    }

    /// The next message. Who gets it has it: it is acknowledged.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let Message { data, ack } = lock(&self.inbox).waiting.pop_front()?;
        self.taken(ack);
        Some(data)
    }

    pub(crate) fn answer(&self, ack: Ack, said: Option<Vec<u8>>) {
        let mut inbox = lock(&self.inbox);
        inbox.answer = Some(ack);
        inbox.answer_said = said.or(inbox.answer_said.take());
    }

    /// What the answer says, once there is one.
    pub(crate) fn answer_said(&self) -> Option<Vec<u8>> {
        lock(&self.inbox).answer_said.clone()
    }

    /// The app knows that the call was accepted.
    pub(crate) fn answer_taken(&self) {
        let ack = lock(&self.inbox).answer.take();
        if let Some(ack) = ack {
            self.taken(ack);
        }
    }

    /// What was in this blob is where it belongs.
    pub(crate) fn taken(&self, ack: Ack) {
        let mut inbox = lock(&self.inbox);
        if inbox.taken.len() == limits::TAKEN_REMEMBERED {
            inbox.taken.pop_front();
        }
        inbox.taken.push_back(ack.id().to_owned());
        drop(inbox);
        ack.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> (Shared, mpsc::Sender<String>, mpsc::Receiver<String>) {
        let (acks, sent) = mpsc::channel(100);
        (Shared::new(CallId::from_bits(7)), acks, sent)
    }

    #[test]
    fn a_call_only_goes_on_and_the_first_reason_counts() {
        let (shared, ..) = shared();
        let phase = |shared: &Shared| shared.state.borrow().phase;
        shared.active(5);
        shared.rings_at(3, "dev_a".parse().unwrap());
        assert_eq!((phase(&shared), shared.state.borrow().revision), (Phase::Active, 5));
        shared.over(6, Reason::Hangup);
        shared.over(7, Reason::Timeout);
        shared.active(8);
        assert_eq!((phase(&shared), shared.state.borrow().ended), (Phase::Ended, Some(Reason::Hangup)));
    }

    #[test]
    fn a_message_is_acknowledged_when_it_is_taken_and_known_when_it_comes_again() {
        let (shared, acks, mut sent) = shared();
        let message = |id: &str| Message { data: id.into(), ack: Ack::new(id.to_owned(), acks.clone()) };
        assert_eq!(shared.seen("a"), Seen::No);
        shared.put(message("a"));
        assert_eq!(shared.seen("a"), Seen::Waiting);
        assert!(sent.try_recv().is_err());
        assert_eq!(shared.take().unwrap(), b"a");
        assert_eq!((shared.seen("a"), sent.try_recv().unwrap()), (Seen::Taken, "a".to_owned()));
        for n in 0..limits::TAKEN_REMEMBERED {
            shared.put(message(&n.to_string()));
            shared.take().unwrap();
        }
        assert_eq!(shared.seen("a"), Seen::No, "what is remembered is bounded");
        for n in 0.. {
            if !shared.has_room() {
                break;
            }
            shared.put(message(&n.to_string()));
        }
        assert_eq!(std::iter::from_fn(|| shared.take()).count(), limits::MESSAGES_WAITING);
    }
}
