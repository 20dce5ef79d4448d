//! All that a device holds to seal and to open, and what it remembers of others.
//!
//! Decides what is kept before what is said, and which name a refusal has. Leaves bytes to the modules beside it, and asking
//! servers to the app. Nothing here waits for anybody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use tandem_wire::id::CallId;
use tandem_wire::party::{AccountId, DeviceId, Party};
use tandem_wire::units::Wall;
use zeroize::Zeroizing;

use crate::blob::{self, Ends, Nonce, OfferHead};
use crate::keys::{DeviceKeys, Key, PublicKeys, Registration};
use crate::list::{Checked, Custody, DeviceList, ListedDevice, Verified};
use crate::session::{Secrets, Session};
use crate::store::Store;
use crate::{SealError, safety_number};

/// What this code writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// Offers that are remembered. A device that was called more often in two weeks forgets the oldest.
const NONCES: usize = 10_000;
/// Sessions: of running calls, some of which nobody said the end of.
const SESSIONS: usize = 256;

/// Why a keyring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// It is not there, or cannot be read or written.
    #[error("the keyring cannot be read or written: {0}")]
    Store(#[from] std::io::Error),
    /// It is not one, or was cut short.
    #[error("this is no keyring")]
    Damaged,
    /// Written by a newer version of Tandem.
    #[error("the keyring has format {0}, this version reads up to {FORMAT}: upgrade first")]
    Newer(u32),
    /// It is of another device.
    #[error("the keyring is of another device")]
    OtherDevice,
    /// Keys could not be drawn.
    #[error("{0}")]
    Seal(#[from] SealError),
}

#[derive(Serialize, Deserialize)]
struct Pin {
    root: Key,
    devices: BTreeSet<DeviceId>,
    /// Another root that was seen since, and that nobody has confirmed.
    #[serde(default)]
    changed: Option<Key>,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    nonce: Nonce,
    call: CallId,
    prekey: u32,
}

#[derive(Serialize, Deserialize)]
struct Open {
    call: CallId,
    peer: Party,
    session: Session,
    /// Something that the other device sealed was opened: it is there, and it is that device.
    proven: bool,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    party: Party,
    custody: Custody,
    keys: DeviceKeys,
    pins: BTreeMap<AccountId, Pin>,
    nonces: VecDeque<Remembered>,
    sessions: VecDeque<Open>,
}

/// The keyring of one device.
pub struct Keyring {
    kept: Kept,
    store: Box<dyn Store>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring")
    }
}

/// The session that an offer of ours opens, until the call that it is for has an id.
pub struct Opening {
    to: Party,
    secrets: Secrets,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opening")
    }
}

impl Keyring {
    /// Reads the keyring of `party` from where it is kept, or draws a new one and keeps it.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn open(party: Party, custody: Custody, mut store: Box<dyn Store>, now: Wall) -> Result<Self, KeyringError> {
        let Some(bytes) = store.load()?.map(Zeroizing::new) else {
            let keys = DeviceKeys::draw(now)?;
            let (pins, nonces, sessions) = Default::default();
            let kept = Kept { format: FORMAT, party, custody, keys, pins, nonces, sessions };
            let mut keyring = Self { kept, store };
            keyring.save(true)?;
            return Ok(keyring);
        };
        let mut kept = read(&bytes)?;
        if kept.party != party {
            return Err(KeyringError::OtherDevice);
        }
        kept.custody = custody;
        kept.sessions.iter_mut().for_each(|open| open.session.again());
        Ok(Self { kept, store })
    }

    fn save(&mut self, durable: bool) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(&self.kept).map(Zeroizing::new)?;
        self.store.save(&bytes, durable)
    }

    fn keep(&mut self, durable: bool) -> Result<(), SealError> {
        self.save(durable).map_err(|_| SealError::NotKept)
    }

    /// Whose it is.
    #[must_use]
    pub const fn party(&self) -> &Party {
        &self.kept.party
    }

    /// This device's public keys.
    ///
    /// # Errors
    /// None that a keyring which could be opened has.
    pub fn public(&self) -> Result<PublicKeys, SealError> {
        self.kept.keys.public(&self.kept.party)
    }

    /// What the device registers with: its keys, and its own endorsement, which counts if it is the account's first.
    ///
    /// # Errors
    /// None that a keyring which could be opened has.
    pub fn registration(&self) -> Result<Registration, SealError> {
        let Kept { keys, party, custody, .. } = &self.kept;
        let public = keys.public(party)?;
        let endorsement = keys.endorse(party, &public.sign, &public.agree, *custody)?;
        Ok(Registration::new(&public, *custody, &endorsement))
    }

    /// Draws a new prekey if it is time, and deletes those that are too old; `true`: the device is to be registered anew.
    ///
    /// # Errors
    /// [`SealError::NotKept`], [`SealError::Randomness`]: nothing was changed.
    pub fn renew(&mut self, now: Wall) -> Result<bool, SealError> {
        let before = self.kept.keys.clone();
        let newest = before.prekeys.last().map(|prekey| prekey.id);
        if !self.kept.keys.renew(now)? {
            return Ok(false);
        }
        let Kept { keys, nonces, .. } = &mut self.kept;
        nonces.retain(|remembered| keys.prekey(remembered.prekey).is_some());
        if let Err(error) = self.keep(true) {
            self.kept.keys = before;
            return Err(error);
        }
        Ok(self.kept.keys.prekeys.last().map(|prekey| prekey.id) != newest)
    }

    /// Vouches for another device of the account, as its first device. The person has compared what it shows.
    ///
    /// # Errors
    /// [`SealError::BadDeviceList`]: it is not of this account.
    pub fn endorse(&self, device: &ListedDevice) -> Result<[u8; 64], SealError> {
        if device.party.account != self.kept.party.account {
            return Err(SealError::BadDeviceList);
        }
        let PublicKeys { sign, agree, .. } = &device.keys;
        self.kept.keys.endorse(&device.party, sign, agree, device.custody)
    }

    /// Checks a list of `account`, and that its root is the one that this device knows. The first that it sees it remembers.
    ///
    /// # Errors
    /// [`SealError::BadDeviceList`], [`SealError::IdentityChanged`], [`SealError::NotKept`].
    pub fn check(&mut self, account: &AccountId, list: &DeviceList) -> Result<Checked, SealError> {
        let Verified { root, devices } = list.verify(account)?;
        let ids = devices.iter().map(|listed| listed.party.device.clone());
        let new = match self.kept.pins.get_mut(account) {
            None => {
                self.kept.pins.insert(account.clone(), Pin { root, devices: ids.collect(), changed: None });
                self.keep(true)?;
                Vec::new()
            }
            Some(pin) if pin.root != root => {
                if pin.changed != Some(root) {
                    pin.changed = Some(root);
                    self.keep(false)?;
                }
                return Err(SealError::IdentityChanged);
            }
            Some(pin) => {
                let new: Vec<DeviceId> = ids.filter(|id| pin.devices.insert(id.clone())).collect();
                if !new.is_empty() {
                    self.keep(false)?;
                }
                new
            }
        };
        Ok(Checked { devices, new })
    }

    /// The root that `account` has now instead of the one that this device knows, if one was seen.
    #[must_use]
    pub fn changed(&self, account: &AccountId) -> Option<[u8; 32]> {
        self.kept.pins.get(account)?.changed
    }

    /// The person has confirmed the root that an account has now: [`Keyring::changed`]. Its devices are all new.
    ///
    /// # Errors
    /// [`SealError::IdentityChanged`]: it is not the one that was seen. [`SealError::NotKept`].
    pub fn confirm(&mut self, account: &AccountId, root: &[u8; 32]) -> Result<(), SealError> {
        let pin = self.kept.pins.get_mut(account).filter(|pin| pin.changed == Some(*root));
        *pin.ok_or(SealError::IdentityChanged)? = Pin { root: *root, devices: BTreeSet::new(), changed: None };
        self.keep(true)
    }

    /// The safety number of this account and another one, if the roots of both are known; of the root that the other one
    /// has now, if that has changed. `None`, too, while this account's own list has not been checked.
    #[must_use]
    pub fn safety_number(&self, account: &AccountId) -> Option<String> {
        let own = &self.kept.party.account;
        let (mine, theirs) = (self.kept.pins.get(own)?, self.kept.pins.get(account)?);
        Some(safety_number((own, &mine.root), (account, &theirs.changed.unwrap_or(theirs.root))))
    }

    /// Seals an offer for a device of a checked list.
    ///
    /// # Errors
    /// [`SealError::Malformed`]: it is too large.
    pub fn seal_offer(&self, to: &ListedDevice, said: &[u8]) -> Result<(Vec<u8>, Opening), SealError> {
        let Kept { keys, party, .. } = &self.kept;
        let ends = Ends { from: party, to: &to.party };
        let (blob, secrets) = blob::seal_offer(ends, &keys.agree, (to.keys.prekey.id, &to.keys.prekey.key), said)?;
        Ok((blob, Opening { to: to.party.clone(), secrets }))
    }

    /// Seals a missed-call note for a device of a checked list.
    ///
    /// # Errors
    /// [`SealError::Malformed`]: it is too large.
    pub fn seal_note(&self, to: &ListedDevice, said: &[u8]) -> Result<Vec<u8>, SealError> {
        let Kept { keys, party, .. } = &self.kept;
        blob::seal_note(Ends { from: party, to: &to.party }, &keys.agree, &to.keys.agree, said)
    }

    /// Opens a missed-call note of a device of a checked list.
    ///
    /// # Errors
    /// [`SealError::Malformed`], [`SealError::Forged`].
    pub fn open_note(&self, from: &ListedDevice, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let Kept { keys, party, .. } = &self.kept;
        blob::open_note(Ends { from: &from.party, to: party }, &keys.agree, &from.keys.agree, sealed)
    }

    /// A call of ours was placed: the sessions with all devices that it rings at begin.
    ///
    /// # Errors
    /// [`SealError::NotKept`].
    pub fn began(&mut self, call: CallId, openings: Vec<Opening>) -> Result<(), SealError> {
        for Opening { to, secrets } in openings {
            self.begin(call, to, secrets, false);
        }
        self.keep(false)
    }

    fn begin(&mut self, call: CallId, peer: Party, secrets: Secrets, proven: bool) {
        self.kept.sessions.retain(|open| open.call != call || open.peer != peer);
        self.kept.sessions.push_back(Open { call, peer, session: Session::new(secrets), proven });
        while self.kept.sessions.len() > SESSIONS {
            self.kept.sessions.pop_front();
        }
    }

    /// Opens an offer of a device of a checked list. The same offer opens again in the same call, to the same session.
    ///
    /// # Errors
    /// [`SealError::Malformed`], [`SealError::UnknownPrekey`], [`SealError::Forged`], [`SealError::Replayed`],
    /// [`SealError::NotKept`].
    pub fn open_offer(&mut self, call: CallId, from: &ListedDevice, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let OfferHead { prekey: id, nonce } = blob::offer_head(sealed)?;
        let Kept { keys, party, .. } = &self.kept;
        let prekey = keys.prekey(id).ok_or(SealError::UnknownPrekey)?;
        let ends = Ends { from: &from.party, to: party };
        let (said, secrets) = blob::open_offer(ends, &prekey.key, &from.keys.agree, sealed)?;
        if let Some(known) = self.kept.nonces.iter().find(|known| known.nonce == nonce) {
            return if known.call == call { Ok(said) } else { Err(SealError::Replayed) };
        }
        self.kept.nonces.push_back(Remembered { nonce, call, prekey: id });
        if self.kept.nonces.len() > NONCES {
            self.kept.nonces.pop_front();
        }
        self.begin(call, from.party.clone(), secrets, true);
        self.keep(true)?;
        Ok(said)
    }

    fn session(&mut self, call: CallId, peer: &Party) -> Result<&mut Open, SealError> {
        let open = self.kept.sessions.iter_mut().find(|open| open.call == call && open.peer == *peer);
        open.ok_or(SealError::NoSession)
    }

    /// Whether this call has a session with a device; `Some(true)`: and something that the device sealed was opened, so
    /// that it is known to be there.
    #[must_use]
    pub fn session_with(&self, call: CallId, peer: &Party) -> Option<bool> {
        self.kept.sessions.iter().find(|open| open.call == call && open.peer == *peer).map(|open| open.proven)
    }

    /// Seals something for a device in a call. Blobs must be sent in the order in which they were sealed.
    ///
    /// # Errors
    /// [`SealError::NoSession`], [`SealError::Malformed`]: it is too large. [`SealError::NotKept`].
    pub fn seal(&mut self, call: CallId, to: &Party, said: &[u8]) -> Result<Vec<u8>, SealError> {
        // Kept as used before it is: whoever finds the keyring after a crash begins behind it.
        if self.session(call, to)?.session.reserve()
            && let Err(error) = self.keep(true)
        {
            self.session(call, to)?.session.unreserve();
            return Err(error);
        }
        self.session(call, to)?.session.seal(call, said)
    }

    /// Opens what a device sealed in a call.
    ///
    /// # Errors
    /// [`SealError::NoSession`], [`SealError::Malformed`], [`SealError::Forged`], [`SealError::Replayed`],
    /// [`SealError::NotKept`].
    pub fn open_blob(&mut self, call: CallId, from: &Party, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let open = self.session(call, from)?;
        let said = open.session.open(call, sealed)?;
        open.proven = true;
        self.keep(false)?;
        Ok(said)
    }

    /// Forgets the sessions of a call that is over.
    ///
    /// # Errors
    /// [`SealError::NotKept`].
    pub fn over(&mut self, call: CallId) -> Result<(), SealError> {
        let before = self.kept.sessions.len();
        self.kept.sessions.retain(|open| open.call != call);
        if self.kept.sessions.len() < before { self.keep(false) } else { Ok(()) }
    }
}

fn read(bytes: &[u8]) -> Result<Kept, KeyringError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(bytes).map_err(|_| KeyringError::Damaged)?;
    if format > FORMAT {
        return Err(KeyringError::Newer(format));
    }
    serde_json::from_slice(bytes).map_err(|_| KeyringError::Damaged)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
