//! One device of an account: registered, connected, ready to call and to be called.
//!
//! Decides what there is to set up and in which order. Leaves calls to [`crate::call`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tandem_wire::id::CallId;
use tandem_wire::party::{AccountId, Party};
use tokio::sync::{Mutex, Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::api::{Api, Media, Place, PlaceCall};
use crate::book::{Book, Note, Offer};
use crate::call::{Call, IncomingCall};
use crate::error::{Code, Error};
use crate::keys::{DeviceKeys, random};
use crate::limits;
use crate::payload::Payload;
use crate::push::Push;
use crate::sealing::{Recipient, Sealing};
use crate::shared::Shared;
use crate::socket::{Link, Router, Socket};
use crate::token::{TokenProvider, Tokens};

/// What a device is set up with.
pub struct Setup {
    /// Where signaling is: `http://host:port`.
    pub api: String,
    /// Where the router is: `ws://host:port/v1/connect`.
    pub connect: String,
    /// Which device of which account.
    pub party: Party,
    /// Who gives its tokens.
    pub tokens: Arc<dyn TokenProvider>,
    /// What hides from the servers what devices say to each other.
    pub sealing: Arc<dyn Sealing>,
    /// Its keys.
    pub keys: DeviceKeys,
}

/// A call that this device has neither answered nor rejected.
#[derive(Debug)]
pub struct MissedCall {
    /// The call.
    pub call: CallId,
    /// Who called.
    pub from: Party,
    /// What they wanted to send.
    pub media: Option<Media>,
    /// How long ago it ended.
    pub age: Duration,
}

/// What a device's calls share.
pub(crate) struct Inner {
    pub(crate) api: Arc<Api>,
    pub(crate) book: Arc<Book>,
}

impl Inner {
    pub(crate) fn seal(&self, to: Recipient<'_>, payload: &Payload) -> Result<Vec<u8>, Error> {
        let sealed = self.book.sealing().seal(to, &payload.write()?)?;
        let (bytes, most) = (sealed.len(), limits::SEALED_BYTES);
        if bytes > most { Err(Error::TooLarge { bytes, most }) } else { Ok(sealed) }
    }

    /// The call that a place is in, with what pushes have said of it already.
    pub(crate) fn enter(&self, place: Place) -> Arc<Shared> {
        // One too many is not told of by pushes. A server does not let a device have so many.
        let shared = self.book.call(place.call).unwrap_or_else(|| Arc::new(Shared::new(place.call)));
        shared.placed(place);
        shared
    }
}

/// A device. Its connection lives in a task of its own until the device is dropped; calls outlive it, and are told nothing
/// any more then.
pub struct Device {
    inner: Arc<Inner>,
    offers: Mutex<mpsc::Receiver<Offer>>,
    notes: Mutex<mpsc::Receiver<Note>>,
    link: watch::Receiver<Link>,
    again: Arc<Notify>,
    _socket: JoinSet<()>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("link", &*self.link.borrow()).finish_non_exhaustive()
    }
}

impl Device {
    /// Registers the device and begins to connect it. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// Whatever keeps it from being registered: [`Error::Address`], [`Error::Token`], [`Error::Refused`], [`Error::Away`].
    pub async fn start(setup: Setup) -> Result<Self, Error> {
        let Setup { api, connect, party, tokens, sealing, keys } = setup;
        let tokens = Tokens::new(tokens);
        let (api, router) = (Arc::new(Api::new(&api, tokens.clone())?), Router::new(&connect)?);
        api.register(&party.device, &keys).await?;
        let (offers_in, offers) = mpsc::channel(limits::INCOMING_WAITING);
        let (notes_in, notes) = mpsc::channel(limits::MISSED_WAITING);
        let (acks_in, acks) = mpsc::channel(limits::ACKS_WAITING);
        let book = Arc::new(Book::new(party, sealing, offers_in, notes_in, acks_in));
        let (link_in, link) = watch::channel(Link::Connecting);
        let again = Arc::new(Notify::new());
        let inner = Arc::new(Inner { api: Arc::clone(&api), book: Arc::clone(&book) });
        let mut socket = JoinSet::new();
        socket.spawn(Socket { router, tokens, api, book, acks, link: link_in, again: Arc::clone(&again) }.run());
        Ok(Self { inner, offers: Mutex::new(offers), notes: Mutex::new(notes), link, again, _socket: socket })
    }

    /// Which device it is.
    #[must_use]
    pub fn party(&self) -> &Party {
        self.inner.book.me()
    }

    /// How its connection stands, now and from now on.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Waits until the device is up to date; its revision. Cancel-safe. It waits on while the connection is stopped:
    /// [`Device::link`] says so.
    pub async fn ready(&self) -> u64 {
        let mut link = self.link();
        let ready = link.wait_for(|link| matches!(link, Link::Ready(_))).await;
        match ready.as_deref() {
            Ok(Link::Ready(revision)) => *revision,
            // The task lives as long as we do.
            _ => 0,
        }
    }

    /// Connects again now: after [`Link::Displaced`], [`Link::TokenRefused`] or [`Link::Refused`], or because the network is
    /// known to be back.
    pub fn reconnect(&self) {
        self.again.notify_one();
    }

    /// The next call that rings here. It is acknowledged by being taken. `None` never comes while the device lives.
    /// Cancel-safe. Calls that are over by now are passed over.
    pub async fn incoming(&self) -> Option<IncomingCall> {
        let mut offers = self.offers.lock().await;
        loop {
            let Offer { shared, from, media, rings_until, ack } = offers.recv().await?;
            if let Some(ack) = ack {
                shared.taken(ack);
            }
            if !shared.is_over() {
                return Some(IncomingCall::new(Arc::clone(&self.inner), shared, from, media, rings_until));
            }
        }
    }

    /// The next call that was missed. It is acknowledged by being taken, and does not come again. Cancel-safe.
    pub async fn missed(&self) -> Option<MissedCall> {
        let note = self.notes.lock().await.recv().await?;
        let (call, from, media, age_ms) = self.inner.book.noted(note);
        Some(MissedCall { call, from, media, age: Duration::from_millis(age_ms) })
    }

    /// Everything that the router tells of calls, from now on and as it came: for logs and tests. What there is to do about it
    /// is done all the same.
    #[must_use]
    pub fn pushes(&self) -> broadcast::Receiver<Push> {
        self.inner.book.feed()
    }

    /// Calls an account: it rings at all of its devices. It is placed once, however often the request is repeated.
    ///
    /// # Errors
    /// [`Error::Refused`] with, among others, `glare` (the call in [`crate::Problem::call_id`] rings here: it comes out of
    /// [`Device::incoming`] and is to be accepted), `call_exists`, `no_devices`, `call_quota`, `rate_limited`. The callee's
    /// devices having changed meanwhile is dealt with here.
    pub async fn place(&self, to: &AccountId, media: Media) -> Result<Call, Error> {
        let Inner { api, .. } = &*self.inner;
        let key: [u8; 16] = random()?;
        let key = format!("{:032x}", u128::from_be_bytes(key));
        let mut sealings = 0;
        loop {
            sealings += 1;
            let (mut sealed, mut missed) = (BTreeMap::new(), BTreeMap::new());
            for view in api.devices(to).await? {
                let party = Party { account: to.clone(), device: view.device };
                let recipient = Recipient { party: &party, keys: Some(&view.keys) };
                let name = party.device.as_str().to_owned();
                let offer = self.inner.seal(recipient, &Payload::Offer(media))?;
                sealed.insert(name.clone(), STANDARD.encode(offer));
                let note = self.inner.seal(recipient, &Payload::Missed(media))?;
                missed.insert(name, STANDARD.encode(note));
            }
            let body = PlaceCall { to: [to.as_str()], kind: "one_to_one", media, sealed, missed };
            match api.place(&body, &key).await {
                Ok(place) => return Ok(Call::new(Arc::clone(&self.inner), self.inner.enter(place))),
                Err(error) if error.code() == Some(Code::DevicesChanged) && sealings < limits::SEALINGS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Comes back to a call that this device has a leg in, after its process has begun anew.
    ///
    /// # Errors
    /// [`Error::Refused`] with `not_found`, `not_in_call` or `call_ended`.
    pub async fn rejoin(&self, call: CallId) -> Result<Call, Error> {
        let shared = self.inner.enter(self.inner.api.rejoin(call).await?);
        self.inner.book.looked(&shared, self.inner.api.look(call).await?);
        Ok(Call::rejoined(Arc::clone(&self.inner), shared))
    }

    /// Removes the device: its tokens, its connection, what waits for it and its calls end.
    ///
    /// # Errors
    /// Whatever keeps it from being removed.
    pub async fn remove(self) -> Result<(), Error> {
        self.inner.api.remove(&self.party().device).await
    }
}
