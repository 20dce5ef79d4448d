//! What stands about an account, and which of its devices are listed (docs/sealing.md, "Who vouches for a device").
//!
//! Decides who becomes the root, which endorsements count, and so which devices call and ring. Leaves keeping it, one
//! change after another, to a backend. An endorsement is checked when it comes: one that stands here is by the root.

use serde::{Deserialize, Serialize};
use tandem_wire::party::{DeviceId, Party};
use tandem_wire::units::Wall;

use super::endorsement::holds;
use super::{DeviceRecord, Devices, DirectoryError};
use crate::limits;

/// An account: its root, and all of its devices in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    pub(super) root: Option<String>,
    pub(super) devices: Vec<(DeviceId, DeviceRecord)>,
}

impl Account {
    /// Registers a device, or registers it anew. The first one that endorses itself is the root; so is the next one,
    /// after the root's device is gone. What else it offers is kept if the root signed it, and otherwise what the device
    /// had, as long as it has the keys that this was for.
    ///
    /// # Errors
    /// [`DirectoryError::Full`].
    pub fn put(&mut self, party: &Party, mut device: DeviceRecord) -> Result<(), DirectoryError> {
        let at = self.devices.binary_search_by(|(id, _)| id.cmp(&party.device));
        if at.is_err() && self.devices.len() >= limits::DEVICES_PER_ACCOUNT {
            return Err(DirectoryError::Full);
        }
        let offered = device.endorsement.take();
        let signed = |key: &str| offered.as_deref().is_some_and(|offered| holds(offered, key, party, &device));
        let founds = !self.has_roots_device(&party.device, &device.sign) && signed(&device.sign);
        if founds {
            self.root = Some(device.sign.clone());
            for (_, other) in &mut self.devices {
                other.endorsement = None;
            }
        }
        device.endorsement = if founds || self.root.as_deref().is_some_and(signed) {
            offered
        } else {
            let known = at.ok().and_then(|at| self.devices.get(at));
            known.filter(|(_, known)| same_keys(known, &device)).and_then(|(_, known)| known.endorsement.clone())
        };
        match at {
            Ok(at) => {
                if let Some((_, known)) = self.devices.get_mut(at) {
                    *known = device;
                }
            }
            Err(at) => self.devices.insert(at, (party.device.clone(), device)),
        }
        Ok(())
    }

    /// Whether a device with the root's key is registered, once the one with this id has this key.
    fn has_roots_device(&self, id: &DeviceId, sign: &str) -> bool {
        let mut others = self.devices.iter().filter(|(other, _)| other != id).map(|(_, device)| device.sign.as_str());
        self.root.as_deref().is_some_and(|root| sign == root || others.any(|other| other == root))
    }

    /// Sets the root's endorsement of a device.
    ///
    /// # Errors
    /// [`DirectoryError::Unknown`], [`DirectoryError::NotEndorsed`]: then nothing changes.
    pub fn endorse(&mut self, party: &Party, endorsement: String) -> Result<(), DirectoryError> {
        let device = self.devices.iter_mut().find(|(id, _)| *id == party.device).map(|(_, device)| device);
        let device = device.ok_or(DirectoryError::Unknown)?;
        let root = self.root.as_deref().ok_or(DirectoryError::NotEndorsed)?;
        if !holds(&endorsement, root, party, device) {
            return Err(DirectoryError::NotEndorsed);
        }
        device.endorsement = Some(endorsement);
        Ok(())
    }

    /// Removes a device that was not registered anew after `at`; `false` if there was none. With its last device an
    /// account is gone, and so is its root.
    pub fn remove(&mut self, id: &DeviceId, at: Wall) -> bool {
        let before = self.devices.len();
        self.devices.retain(|(other, device)| other != id || device.registered > at);
        if self.devices.is_empty() {
            self.root = None;
        }
        self.devices.len() < before
    }

    /// The devices as others see them. Where nobody vouches, all are listed.
    #[must_use]
    pub fn into_devices(self) -> Devices {
        let Self { root, devices } = self;
        let is_listed = |device: &DeviceRecord| root.is_none() || device.endorsement.is_some();
        let (listed, pending) = devices.into_iter().partition(|(_, device)| is_listed(device));
        Devices { root, listed, pending }
    }
}

/// Whether an endorsement of one is one of the other.
fn same_keys(one: &DeviceRecord, other: &DeviceRecord) -> bool {
    (&one.sign, &one.agree, one.custody) == (&other.sign, &other.agree, other.custody)
}

#[cfg(test)]
pub(super) mod tests;
