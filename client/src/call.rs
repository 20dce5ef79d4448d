//! A call, in the hands of the app: on the side that placed it, and on the side that it rings at.
//!
//! Decides what a verb does and what it waits for. Leaves packets to [`crate::turn`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tandem_seal::Custody;
use tandem_wire::id::CallId;
use tandem_wire::party::Party;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::{Media, Place, Rejection, TurnServer};
use crate::error::{Code, Error, Reason};
use crate::inner::Inner;
use crate::jitter::{Jitter, draw};
use crate::limits;
use crate::payload::Payload;
use crate::shared::{CallState, Peer, Shared};
use crate::turn::{Allocation, TurnTransport};

/// A call that this device has a leg in. Cheap to clone; dropping it does not hang up.
#[derive(Clone)]
pub struct Call {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    /// This process has lost what it was told before.
    again: bool,
}

/// A call that rings at this device.
pub struct IncomingCall {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    from: Party,
    media: Media,
    custody: Custody,
    said: Vec<u8>,
    rings_until: Instant,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl fmt::Debug for IncomingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingCall").field("id", &self.id()).field("media", &self.media).finish_non_exhaustive()
    }
}

/// What a call that is over by now answers to a verb that would have ended it.
fn over_is_good(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.code() == Some(Code::CallEnded) => Ok(()),
        other => other,
    }
}

async fn ended(state: &watch::Sender<CallState>) -> Reason {
    let mut state = state.subscribe();
    // The sender is in our own hands, so the wait ends by an end only.
    let ended = state.wait_for(|state| state.ended.is_some()).await;
    ended.ok().and_then(|state| state.ended).unwrap_or(Reason::Unknown)
}

impl IncomingCall {
    pub(crate) fn new(
        inner: Arc<Inner>,
        shared: Arc<Shared>,
        from: Party,
        media: Media,
        (custody, said): (Custody, Vec<u8>),
        rings_until: Instant,
    ) -> Self {
        Self { inner, shared, from, media, custody, said, rings_until }
    }

    /// The call.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.shared.id
    }

    /// Who calls.
    #[must_use]
    pub const fn from(&self) -> &Party {
        &self.from
    }

    /// What the caller wants to send.
    #[must_use]
    pub const fn media(&self) -> Media {
        self.media
    }

    /// Who holds the keys of the device that calls: its person is told before answering.
    #[must_use]
    pub const fn custody(&self) -> Custody {
        self.custody
    }

    /// What the caller's app sealed, as it stands: for an app that has a transport of its own. Empty if an earlier process of
    /// this device has taken it.
    #[must_use]
    pub fn said(&self) -> &[u8] {
        &self.said
    }

    /// How much longer it rings, by the clock of the server that said so. When it is over the server says that too.
    #[must_use]
    pub fn ring_remaining(&self) -> Duration {
        self.rings_until.saturating_duration_since(Instant::now())
    }

    /// Tells the caller that it rings here.
    ///
    /// # Errors
    /// [`Error::Refused`] with `call_ended` or `answered_elsewhere`, and what keeps any request from being done.
    pub async fn ringing(&self) -> Result<(), Error> {
        self.inner.api.ringing(self.id()).await
    }

    /// Answers it.
    ///
    /// # Errors
    /// [`Error::Ended`]: it is over, as far as this device was told. [`Error::Refused`] with `answered_elsewhere` (another
    /// device was first) or `call_ended`.
    pub async fn accept(&self) -> Result<Call, Error> {
        self.accept_saying(&Payload::Answer.write()?).await
    }

    /// Answers it, and says this: for an app that has a transport of its own. It is JSON with `"v":1,"t":"answer"`.
    ///
    /// # Errors
    /// Those of [`IncomingCall::accept`].
    pub async fn accept_saying(&self, answer: &[u8]) -> Result<Call, Error> {
        let ended = self.shared.state.borrow().ended;
        if let Some(reason) = ended {
            return Err(Error::Ended(reason));
        }
        let _turn = self.shared.sending.lock().await;
        let sealed = self.inner.seal(self.id(), &self.from, answer)?;
        let place = self.inner.api.accept(self.id(), &sealed).await?;
        Ok(Call::new(Arc::clone(&self.inner), self.inner.enter(place)))
    }

    /// Does not answer it. Of a call that is over already, nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] with `answered_elsewhere` or `already_answered`.
    pub async fn reject(&self, why: Rejection) -> Result<(), Error> {
        over_is_good(self.inner.api.reject(self.id(), why).await)
    }

    /// Waits until it is over for this device: cancelled, answered elsewhere, rejected elsewhere, rung out. Cancel-safe.
    pub async fn ended(&self) -> Reason {
        ended(&self.shared.state).await
    }
}

impl Call {
    pub(crate) const fn new(inner: Arc<Inner>, shared: Arc<Shared>) -> Self {
        Self { inner, shared, again: false }
    }

    pub(crate) const fn rejoined(inner: Arc<Inner>, shared: Arc<Shared>) -> Self {
        Self { inner, shared, again: true }
    }

    /// The call.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.shared.id
    }

    /// How it stands, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<CallState> {
        self.shared.state.subscribe()
    }

    /// Waits until the other device is in the call, and says which it is. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Ended`]: nobody is any more, or nobody was.
    pub async fn accepted(&self) -> Result<Peer, Error> {
        let mut state = self.state();
        let settled = |state: &CallState| state.ended.is_some() || active_with(state).is_some();
        let peer = match state.wait_for(settled).await {
            Ok(state) => match (state.ended, &state.peer) {
                (None, Some(peer)) => Ok(peer.clone()),
                (reason, _) => Err(Error::Ended(reason.unwrap_or(Reason::Unknown))),
            },
            Err(_) => Err(Error::Ended(Reason::Unknown)),
        };
        self.shared.answer_taken();
        peer
    }

    /// Waits until it is over, and says why. Cancel-safe. A device whose connection is stopped is not told.
    pub async fn ended(&self) -> Reason {
        ended(&self.shared.state).await
    }

    /// Hangs up; a call that still rings is cancelled. Of a call that is over already, nothing.
    ///
    /// # Errors
    /// What keeps any request from being done.
    pub async fn hang_up(&self) -> Result<(), Error> {
        over_is_good(self.inner.api.leave(self.id()).await)
    }

    /// Says that this device is still there, after it was gone for a while; the same leg with a fresh ticket.
    ///
    /// # Errors
    /// [`Error::Refused`] with `call_ended` or `not_in_call`.
    pub async fn rejoin(&self) -> Result<Place, Error> {
        self.placed(self.inner.api.rejoin(self.id()).await?)
    }

    /// A fresh ticket: after the network has changed.
    ///
    /// # Errors
    /// [`Error::Refused`] with `call_ended` or `not_in_call`.
    pub async fn ticket(&self) -> Result<Place, Error> {
        self.placed(self.inner.api.ticket(self.id()).await?)
    }

    /// The best way into the call, as the last place in it named it: for an app that has a transport of its own.
    #[must_use]
    pub fn server(&self) -> Option<TurnServer> {
        self.shared.place()?.servers.into_iter().next()
    }

    fn placed(&self, place: Place) -> Result<Place, Error> {
        self.shared.placed(place.clone());
        Ok(place)
    }

    /// Says something to the other device's app, sealed: at most [`limits::MESSAGE_BYTES`], once or (if the answer was lost)
    /// twice.
    ///
    /// # Errors
    /// [`Error::NotAccepted`], [`Error::TooLarge`]; [`Error::Refused`] with `call_ended`, `mailbox_full` or `rate_limited`.
    pub async fn signal(&self, message: &[u8]) -> Result<(), Error> {
        let (bytes, most) = (message.len(), limits::MESSAGE_BYTES);
        if bytes > most {
            return Err(Error::TooLarge { bytes, most });
        }
        signal(&self.inner, &self.shared, &Payload::App(message.to_vec())).await
    }

    /// The next thing that the other device's app says. It is acknowledged by being taken. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Ended`], once nothing waits any more.
    pub async fn message(&self) -> Result<Vec<u8>, Error> {
        loop {
            let came = self.shared.message_came.notified();
            if let Some(message) = self.shared.take() {
                return Ok(message);
            }
            tokio::select! {
                () = came => {}
                reason = self.ended() => return self.shared.take().ok_or(Error::Ended(reason)),
            }
        }
    }

    /// What the answer says, as the other app sealed it; once the call is accepted.
    #[must_use]
    pub fn answer(&self) -> Option<Vec<u8>> {
        self.shared.answer_said()
    }

    /// Says something to the other app's transport, sealed: JSON with `"v":1` and a `"t"` that the SDK itself does not use.
    ///
    /// # Errors
    /// Those of [`Call::signal`].
    pub async fn say(&self, said: &[u8]) -> Result<(), Error> {
        signal(&self.inner, &self.shared, &Payload::Other(said.to_vec())).await
    }

    /// The next thing that the other app's transport says. It is acknowledged by being taken. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Ended`], once nothing waits any more.
    pub async fn heard(&self) -> Result<Vec<u8>, Error> {
        loop {
            let came = self.shared.other_came.notified();
            if let Some(said) = self.shared.take_other() {
                return Ok(said);
            }
            tokio::select! {
                () = came => {}
                reason = self.ended() => return self.shared.take_other().ok_or(Error::Ended(reason)),
            }
        }
    }

    /// A way for packets to the other device, through the relay. Waits until there is one: the other device must have accepted,
    /// and have opened its own. It follows the other device when that comes back at another address.
    ///
    /// # Errors
    /// [`Error::Turn`]; [`Error::Ended`] if the call ends meanwhile; [`Error::NotAccepted`] without a place in the call.
    pub async fn transport(&self) -> Result<TurnTransport, Error> {
        tokio::select! {
            // A call that is over is over, whatever else could be said of it.
            biased;
            reason = self.ended() => Err(Error::Ended(reason)),
            opened = self.open() => opened,
        }
    }

    /// A socket in the call, with an address of this device's leg: for an app that brings a transport of its own, as WebRTC
    /// is, and tells the other side's app by [`Call::say`] where it is. A caller has it while it rings already.
    ///
    /// # Errors
    /// [`Error::Turn`]; [`Error::Ended`] if the call ends meanwhile; [`Error::NotAccepted`] without a place in the call.
    pub async fn allocation(&self) -> Result<Allocation, Error> {
        let server = self.server().ok_or(Error::NotAccepted)?;
        tokio::select! {
            biased;
            reason = self.ended() => Err(Error::Ended(reason)),
            opened = Allocation::open_from(self.inner.source, &server) => Ok(opened?),
        }
    }

    async fn open(&self) -> Result<TurnTransport, Error> {
        let server = self.server().ok_or(Error::NotAccepted)?;
        let mut transport =
            TurnTransport::open_from(self.inner.source, &server, self.shared.peer_at.subscribe()).await?;
        let (inner, shared, at) = (Arc::clone(&self.inner), Arc::clone(&self.shared), transport.moves());
        transport.run(announce(inner, shared, at, self.again));
        self.accepted().await?;
        transport.connected().await?;
        Ok(transport)
    }
}

fn active_with(state: &CallState) -> Option<&Peer> {
    state.peer.as_ref().filter(|_| state.phase == crate::api::Phase::Active)
}

async fn signal(inner: &Inner, shared: &Shared, payload: &Payload) -> Result<(), Error> {
    let peer = active_with(&shared.state.borrow()).cloned().ok_or(Error::NotAccepted)?;
    let _turn = shared.sending.lock().await;
    let sealed = inner.seal(shared.id, &peer.party, &payload.write()?)?;
    inner.api.signal(shared.id, &peer.party.device, &sealed).await
}

/// Tells the other device where we are: as soon as it is in the call, whenever we are elsewhere, and when it asks again.
async fn announce(
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    mut at: watch::Receiver<Option<tandem_wire::id::VirtualAddr>>,
    mut again: bool,
) {
    let mut state = shared.state.subscribe();
    if state.wait_for(|state| active_with(state).is_some()).await.is_err() {
        return;
    }
    let mut jitter = Jitter::new(limits::RETRY);
    loop {
        let here = *at.borrow_and_update();
        if let Some(here) = here {
            match signal(&inner, &shared, &Payload::Relay { at: here, again }).await {
                Ok(()) => {
                    jitter.reset();
                    again = false;
                }
                Err(error) if error.is_temporary() => {
                    tokio::time::sleep(jitter.pause(draw())).await;
                    continue;
                }
                // The call is over, or was never this device's.
                Err(_) => return,
            }
        }
        tokio::select! {
            changed = at.changed() => if changed.is_err() { return },
            () = shared.asked_again.notified() => {}
        }
    }
}
