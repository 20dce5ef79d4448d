//! What a device and its calls share, and do for each other.
//!
//! Decides when a list of devices is asked for and how patiently. Leaves whether it is believed to `tandem-seal`.

use std::net::IpAddr;
use std::sync::Arc;

use tandem_seal::{Checked, Custody, SealError};
use tandem_wire::id::CallId;
use tandem_wire::party::{AccountId, Party};
use tandem_wire::units::Wall;

use crate::api::{Api, Media, Place};
use crate::book::{Book, Note, Offer};
use crate::error::Error;
use crate::jitter::{Jitter, draw};
use crate::limits;
use crate::payload::Payload;
use crate::shared::Shared;

/// What a device's calls share.
pub(crate) struct Inner {
    pub(crate) api: Arc<Api>,
    pub(crate) book: Arc<Book>,
    /// The address of this machine that everything of the device comes from; without one the system's choice.
    pub(crate) source: Option<IpAddr>,
}

impl Inner {
    pub(crate) fn seal(&self, call: CallId, to: &Party, said: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.book.sealer().keyring().seal(call, to, said)?)
    }

    /// The devices of an account, if all that is said of them holds.
    pub(crate) async fn devices(&self, account: &AccountId) -> Result<Checked, Error> {
        let list = self.api.devices(account).await?;
        Ok(self.book.sealer().check(account, &list)?)
    }

    /// The same, for as long as it may be known later. A refusal of the server's leaves nothing to believe.
    pub(crate) async fn devices_patiently(&self, account: &AccountId, shared: &Shared) -> Result<Checked, SealError> {
        let mut jitter = Jitter::new(limits::RETRY);
        loop {
            match self.devices(account).await {
                Ok(checked) => return Ok(checked),
                Err(Error::Sealing(why)) => return Err(why),
                Err(error) if error.is_temporary() && !shared.is_over() => {
                    tokio::time::sleep(jitter.pause(draw())).await;
                }
                Err(_) => return Err(SealError::BadDeviceList),
            }
        }
    }

    /// Registers the device as its keyring says now.
    pub(crate) async fn register(&self) -> Result<(), Error> {
        let registration = self.book.sealer().keyring().registration()?;
        self.api.register(&self.book.me().device, &registration).await
    }

    /// Renews the prekey if it is time, and registers it.
    pub(crate) async fn renew(&self, now: Wall) -> Result<bool, Error> {
        let renewed = self.book.sealer().keyring().renew(now)?;
        if renewed {
            self.register().await?;
        }
        Ok(renewed)
    }

    /// Opens what rings, as its caller sealed it.
    pub(crate) async fn open(&self, offer: &Offer) -> Result<(Media, Custody, Vec<u8>), SealError> {
        let Offer { shared, from, media, sealed, .. } = offer;
        let checked = self.devices_patiently(&from.account, shared).await?;
        let device = checked.find(&from.device)?;
        let mut keyring = self.book.sealer().keyring();
        let Some(sealed) = sealed else {
            let proven = keyring.session_with(shared.id, from) == Some(true);
            return if proven { Ok((*media, device.custody, Vec::new())) } else { Err(SealError::NoSession) };
        };
        let said = keyring.open_offer(shared.id, device, sealed.expose())?;
        match Payload::read(&said) {
            Some(Payload::Offer(media)) => Ok((media, device.custody, said)),
            _ => Err(SealError::Malformed),
        }
    }

    /// What a note says, if it is from whom it is said to be.
    pub(crate) async fn read_note(&self, note: &Note) -> Option<Media> {
        let sealed = note.sealed.as_ref()?;
        let checked = self.devices(&note.from.account).await.ok()?;
        let device = checked.find(&note.from.device).ok()?;
        let said = self.book.sealer().keyring().open_note(device, sealed.expose()).ok()?;
        if let Some(Payload::Missed(media)) = Payload::read(&said) { Some(media) } else { None }
    }

    /// The call that a place is in, with what pushes have said of it already.
    pub(crate) fn enter(&self, place: Place) -> Arc<Shared> {
        // One too many is not told of by pushes. A server does not let a device have so many.
        let shared = self.book.call(place.call).unwrap_or_else(|| Arc::new(Shared::new(place.call)));
        shared.placed(place);
        for push in shared.held() {
            self.book.take(push);
        }
        shared
    }
}
