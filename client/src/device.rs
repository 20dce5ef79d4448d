//! One device of an account: registered, connected, ready to call and to be called.
//!
//! Decides what there is to set up and in which order. Leaves calls to [`crate::call`].

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tandem_seal::{Checked, Keyring, ListedDevice, SealError};
use tandem_wire::id::CallId;
use tandem_wire::party::{AccountId, DeviceId, Party};
use tandem_wire::units::Wall;
use tokio::sync::{Mutex, Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::api::{Api, Media, PlaceCall};
use crate::book::{Book, Note, Offer, Placing};
use crate::call::{Call, IncomingCall};
use crate::error::{Code, Error};
use crate::inner::Inner;
use crate::limits;
use crate::payload::Payload;
use crate::push::Push;
use crate::random::random;
use crate::sealing::{Sealer, Trust, now};
use crate::socket::{Link, Router, Socket};
use crate::token::{TokenProvider, Tokens};

/// What a device is set up with.
pub struct Setup {
    /// Where signaling is: `http://host:port`.
    pub api: String,
    /// Where the router is: `ws://host:port/v1/connect`.
    pub connect: String,
    /// Who gives its tokens.
    pub tokens: Arc<dyn TokenProvider>,
    /// Which device of which account it is, its keys, and what it remembers of others.
    pub keyring: Keyring,
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

/// What comes for the app, and what of it is being looked at.
struct Inbox<T> {
    coming: mpsc::Receiver<T>,
    at_work: Option<T>,
}

impl<T> Inbox<T> {
    const fn new(coming: mpsc::Receiver<T>) -> Mutex<Self> {
        Mutex::const_new(Self { coming, at_work: None })
    }

    /// The first. It stays until it is taken, also if whoever looks at it gives up.
    async fn first(&mut self) -> Option<&T> {
        if self.at_work.is_none() {
            self.at_work = Some(self.coming.recv().await?);
        }
        self.at_work.as_ref()
    }
}

/// A device. Its connection lives in a task of its own until the device is dropped; calls outlive it, and are told nothing
/// any more then.
pub struct Device {
    inner: Arc<Inner>,
    offers: Mutex<Inbox<Offer>>,
    notes: Mutex<Inbox<Note>>,
    /// Offers of accounts whose identity has changed, until somebody has confirmed it.
    aside: Lock<VecDeque<Offer>>,
    link: watch::Receiver<Link>,
    again: Arc<Notify>,
    _tasks: JoinSet<()>,
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
        Self::start_from(None, setup).await
    }

    /// The same, with everything of the device's coming from this address of the machine: for one that has several. Without
    /// one the system chooses.
    ///
    /// # Errors
    /// Those of [`Device::start`].
    pub async fn start_from(source: Option<IpAddr>, setup: Setup) -> Result<Self, Error> {
        let Setup { api, connect, tokens, keyring } = setup;
        let party = keyring.party().clone();
        let tokens = Tokens::new(tokens);
        let (api, router) = (Arc::new(Api::new(&api, source, tokens.clone())?), Router::new(&connect, source)?);
        let (offers_in, offers) = mpsc::channel(limits::INCOMING_WAITING);
        let (notes_in, notes) = mpsc::channel(limits::MISSED_WAITING);
        let (acks_in, acks) = mpsc::channel(limits::ACKS_WAITING);
        let (ends_in, mut ends) = mpsc::channel(limits::INCOMING_WAITING);
        let sealer = Arc::new(Sealer::new(keyring));
        let book = Arc::new(Book::new(party, sealer, offers_in, notes_in, acks_in, ends_in));
        let inner = Arc::new(Inner { api: Arc::clone(&api), book: Arc::clone(&book), source });
        inner.book.sealer().keyring().renew(now())?;
        inner.register().await?;
        // Its own account's root: one half of every safety number.
        match inner.devices(&book.me().account).await {
            Err(Error::Sealing(SealError::IdentityChanged)) | Ok(_) => {}
            Err(error) => return Err(error),
        }
        let (link_in, link) = watch::channel(Link::Connecting);
        let again = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(Socket { router, tokens, api, book, acks, link: link_in, again: Arc::clone(&again) }.run());
        let renewing = Arc::clone(&inner);
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(limits::RENEW_EVERY).await;
                // Its old prekey is good for a week more: the next look tries again.
                let _ = renewing.renew(now()).await;
            }
        });
        let ending = Arc::clone(&inner);
        tasks.spawn(async move {
            while let Some(call) = ends.recv().await {
                // Of a server that never hears it: it ends the call by itself, when this device is not there.
                for _ in 0..limits::LEAVE_TRIES {
                    if !ending.api.leave(call).await.is_err_and(|error| error.is_temporary()) {
                        break;
                    }
                }
            }
        });
        let (offers, notes) = (Inbox::new(offers), Inbox::new(notes));
        Ok(Self { inner, offers, notes, aside: Lock::default(), link, again, _tasks: tasks })
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

    /// The next call that rings here, and that its caller has sealed. It is acknowledged by being taken. `None` never comes while
    /// the device lives. Cancel-safe. Calls that are over by now are passed over; so are those that are not what they are
    /// said to be, and [`Device::trust`] tells of them.
    pub async fn incoming(&self) -> Option<IncomingCall> {
        let mut offers = self.offers.lock().await;
        loop {
            let opened = self.inner.open(offers.first().await?).await;
            let offer = offers.at_work.take()?;
            if matches!(opened, Err(SealError::IdentityChanged)) && !offer.shared.is_over() {
                self.put_aside(offer);
                continue;
            }
            let Offer { shared, from, rings_until, ack, .. } = offer;
            if let Some(ack) = ack {
                shared.taken(ack);
            }
            match opened {
                _ if shared.is_over() => {}
                Ok((media, custody, said)) => {
                    shared.peer_is(0, None, from.clone());
                    let inner = Arc::clone(&self.inner);
                    return Some(IncomingCall::new(inner, shared, from, media, (custody, said), rings_until));
                }
                Err(why) => self.inner.book.sealer().refused(shared.id, &from, why),
            }
        }
    }

    fn put_aside(&self, offer: Offer) {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.retain(|offer| !offer.shared.is_over());
        if aside.len() < limits::INCOMING_WAITING {
            aside.push_back(offer);
        }
    }

    /// The next call that was missed. It is acknowledged by being taken, and does not come again. Cancel-safe.
    pub async fn missed(&self) -> Option<MissedCall> {
        let mut notes = self.notes.lock().await;
        let media = self.inner.read_note(notes.first().await?).await;
        let Note { call, from, age_ms, ack, .. } = notes.at_work.take()?;
        self.inner.book.noted(ack);
        Some(MissedCall { call, from, media, age: Duration::from_millis(age_ms) })
    }

    /// What the person should know of whom they talk to, from now on.
    #[must_use]
    pub fn trust(&self) -> broadcast::Receiver<Trust> {
        self.inner.book.sealer().events()
    }

    /// The devices of an account, as they can be called, with whoever holds their keys.
    ///
    /// # Errors
    /// [`Error::Sealing`] with `BadDeviceList` or `IdentityChanged`, and what keeps any request from being done.
    pub async fn devices(&self, account: &AccountId) -> Result<Checked, Error> {
        self.inner.devices(account).await
    }

    /// The 60 digits that are the same for both accounts if nobody stands between them; once the account was asked for, called
    /// or called from.
    #[must_use]
    pub fn safety_number(&self, account: &AccountId) -> Option<String> {
        self.inner.book.sealer().keyring().safety_number(account)
    }

    /// The person has confirmed that an account is another one now: calls to and from it go on. The safety number is then the one
    /// that was to be compared.
    ///
    /// # Errors
    /// [`Error::Sealing`]: the account has not changed, or this cannot be kept.
    pub fn confirm(&self, account: &AccountId) -> Result<(), Error> {
        let mut keyring = self.inner.book.sealer().keyring();
        let root = keyring.changed(account).ok_or(SealError::IdentityChanged)?;
        keyring.confirm(account, &root)?;
        drop(keyring);
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let (again, others) = aside.drain(..).partition(|offer| offer.from.account == *account);
        *aside = others;
        let again: VecDeque<Offer> = again;
        again.into_iter().for_each(|offer| self.inner.book.offer(offer));
        Ok(())
    }

    /// The devices of this account that wait until its first device vouches for them.
    ///
    /// # Errors
    /// What keeps any request from being done.
    pub async fn pending(&self) -> Result<Vec<ListedDevice>, Error> {
        let account = &self.party().account;
        Ok(self.inner.api.devices(account).await?.pending())
    }

    /// What this device shows while it waits to be let in: 20 digits, to be compared with [`ListedDevice::join_code`] at the
    /// account's first device.
    ///
    /// # Errors
    /// None that a device which was started has.
    pub fn join_code(&self) -> Result<String, Error> {
        let keys = self.inner.book.sealer().keyring().public()?;
        Ok(tandem_seal::join_code(self.party(), &keys.sign, &keys.agree))
    }

    /// Vouches for another device of this account, as its first device. The person has compared what that one shows.
    ///
    /// # Errors
    /// [`Error::Refused`] with `not_endorsed` (this is not the account's first device) or `not_found`.
    pub async fn endorse(&self, device: &ListedDevice) -> Result<(), Error> {
        let endorsement = self.inner.book.sealer().keyring().endorse(device)?;
        self.inner.api.endorse(&device.party.device, &endorsement).await
    }

    /// Renews the prekey, if it is a week old at `now`; whether it was. The device does so by itself.
    ///
    /// # Errors
    /// [`Error::Sealing`], and what keeps any request from being done.
    pub async fn renew(&self, now: Wall) -> Result<bool, Error> {
        self.inner.renew(now).await
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
    /// devices having changed meanwhile is dealt with here. [`Error::Sealing`] with `BadDeviceList`, `IdentityChanged`: nothing
    /// was sealed, and nothing rings. [`Error::Away`] and a refusal with 503: a call that comes of it all the same, though the
    /// store was away, is ended as soon as this device is told of it; likewise if this is dropped before it is done.
    pub async fn place(&self, to: &AccountId, media: Media) -> Result<Call, Error> {
        self.place_saying(to, media, &Payload::Offer(media).write()?).await
    }

    /// Calls an account, and says this: for an app that has a transport of its own. It is JSON with `"v":1,"t":"offer"` and
    /// `"media"`.
    ///
    /// # Errors
    /// Those of [`Device::place`].
    pub async fn place_saying(&self, to: &AccountId, media: Media, offer: &[u8]) -> Result<Call, Error> {
        let Inner { api, .. } = &*self.inner;
        let key: [u8; 16] = random()?;
        let key = format!("{:032x}", u128::from_be_bytes(key));
        let mut sealings = 0;
        loop {
            sealings += 1;
            let (mut sealed, mut missed, mut openings) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            let list = api.devices(to).await?;
            if !list.is_empty() {
                let sealer = self.inner.book.sealer();
                let Checked { devices, .. } = sealer.check(to, &list)?;
                let note = Payload::Missed(media).write()?;
                let keyring = sealer.keyring();
                for device in &devices {
                    let name: &DeviceId = &device.party.device;
                    let (blob, opening) = keyring.seal_offer(device, offer)?;
                    sealed.insert(name.as_str().to_owned(), STANDARD.encode(blob));
                    missed.insert(name.as_str().to_owned(), STANDARD.encode(keyring.seal_note(device, &note)?));
                    openings.push(opening);
                }
            }
            let body = PlaceCall { to: [to.as_str()], kind: "one_to_one", media, sealed, missed };
            // If this is given up, or not answered, the call may come all the same: then it is ended.
            let placing = Placing::new(&self.inner.book);
            match api.place(&body, &key).await {
                Ok(place) => {
                    self.inner.book.sealer().keyring().began(place.call, openings)?;
                    let shared = self.inner.enter(place);
                    placing.settled();
                    return Ok(Call::new(Arc::clone(&self.inner), shared));
                }
                Err(error) => {
                    if !error.is_temporary() && !matches!(error, Error::Unreadable) {
                        placing.settled();
                    }
                    if error.code() != Some(Code::DevicesChanged) || sealings >= limits::SEALINGS {
                        return Err(error);
                    }
                }
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
