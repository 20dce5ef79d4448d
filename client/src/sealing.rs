//! The device's keyring, in the hands of everything that seals or opens.
//!
//! Decides what the app is told of whom it can trust. Leaves what is refused to `tandem-seal` (docs/sealing.md), and asking
//! the directory to [`crate::device`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tandem_seal::{Checked, DeviceList, Keyring, SealError};
use tandem_wire::id::CallId;
use tandem_wire::party::{AccountId, Party};
use tandem_wire::units::Wall;
use tokio::sync::broadcast;

use crate::limits;
use crate::payload::Payload;

/// Something that the person should know of whom they talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// An account has a device that was not there before.
    NewDevice(Party),
    /// An account is not who it was. Calls to it and from it wait until [`crate::Device::confirm`].
    IdentityChanged(AccountId),
    /// Something that was said to be of this device in a call was refused. It did not ring, and nothing of it was used.
    Refused {
        /// The call.
        call: CallId,
        /// Who is said to have sealed it.
        from: Party,
        /// Why.
        why: SealError,
    },
}

/// The keyring, and who is told of what.
pub(crate) struct Sealer {
    keyring: Mutex<Keyring>,
    events: broadcast::Sender<Trust>,
}

impl Sealer {
    pub(crate) fn new(keyring: Keyring) -> Self {
        Self { keyring: Mutex::new(keyring), events: broadcast::Sender::new(limits::TRUST_WATCHED) }
    }

    pub(crate) fn keyring(&self) -> MutexGuard<'_, Keyring> {
        self.keyring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Trust> {
        self.events.subscribe()
    }

    pub(crate) fn refused(&self, call: CallId, from: &Party, why: SealError) {
        let _ = self.events.send(Trust::Refused { call, from: from.clone(), why });
    }

    /// Believes a list of an account, or does not; the person is told what is new.
    pub(crate) fn check(&self, account: &AccountId, list: &DeviceList) -> Result<Checked, SealError> {
        let checked = self.keyring().check(account, list);
        match &checked {
            Ok(checked) => {
                for device in &checked.new {
                    let party = Party { account: account.clone(), device: device.clone() };
                    let _ = self.events.send(Trust::NewDevice(party));
                }
            }
            Err(SealError::IdentityChanged) => _ = self.events.send(Trust::IdentityChanged(account.clone())),
            Err(_) => {}
        }
        checked
    }

    /// Opens what `from` sealed in a call.
    pub(crate) fn open(&self, call: CallId, from: &Party, sealed: &[u8]) -> Result<(Payload, Vec<u8>), SealError> {
        let said = self.keyring().open_blob(call, from, sealed)?;
        Ok((Payload::read(&said).ok_or(SealError::Malformed)?, said))
    }
}

/// What the system's clock says.
pub(crate) fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
