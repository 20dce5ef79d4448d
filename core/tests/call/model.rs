//! A naive model of a call of two, written down from docs/api.md: flags and sets, no record.

use std::collections::{BTreeMap, BTreeSet};

/// What a device of the callee has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    Silent,
    Rings,
    Busy,
    Declined,
    Removed,
}

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    Ringing,
    Accept,
    Decline,
    Busy,
    HangUp,
    Disconnect,
    Rejoin,
    Remove,
}

/// Devices are numbers: 0 calls, 1 to 3 are the callee's, the others are strangers.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) devices: BTreeMap<u8, Device>,
    pub(crate) answered_by: Option<u8>,
    pub(crate) over: Option<&'static str>,
    pub(crate) away: BTreeSet<u8>,
    /// Whether those who spoke are all busy, so that the ring is about to end.
    pub(crate) settling: bool,
}

impl Model {
    pub(crate) fn new(devices: u8) -> Self {
        let devices = (1..=devices).map(|n| (n, Device::Silent)).collect();
        Self { devices, answered_by: None, over: None, away: BTreeSet::new(), settling: false }
    }

    pub(crate) fn rings(&self) -> bool {
        self.over.is_none() && self.answered_by.is_none()
    }

    /// Those who are in the call.
    pub(crate) fn members(&self) -> BTreeSet<u8> {
        [0].into_iter().chain(self.answered_by).collect()
    }

    fn settle(&mut self) {
        let any = |wanted| self.devices.values().any(|device| *device == wanted);
        if !any(Device::Silent) && !any(Device::Rings) {
            self.over = Some(if any(Device::Busy) { "busy" } else { "kicked" });
        }
        self.settling = self.over.is_none() && any(Device::Busy) && !any(Device::Rings);
    }

    /// Does what `who` wants, or says why not: "ended", "elsewhere", "answered", "stranger".
    pub(crate) fn act(&mut self, who: u8, act: Act) -> Result<(), &'static str> {
        let member = self.members().contains(&who);
        let rung = self.devices.get(&who).copied();
        match act {
            Act::Disconnect => {
                if self.over.is_none() && member {
                    self.away.insert(who);
                }
                Ok(())
            }
            Act::Remove => {
                if self.over.is_some() {
                    return Ok(());
                }
                if member {
                    self.over = Some(if self.answered_by.is_none() { "cancelled" } else { "kicked" });
                } else if rung.is_some() && self.answered_by.is_none() {
                    self.devices.insert(who, Device::Removed);
                    self.settle();
                }
                Ok(())
            }
            Act::Rejoin if self.over.is_some() => Err("ended"),
            Act::Rejoin if !member => Err("stranger"),
            Act::Rejoin => {
                self.away.remove(&who);
                Ok(())
            }
            Act::HangUp if member => {
                if self.over.is_none() {
                    self.over = Some(if self.answered_by.is_none() { "cancelled" } else { "hangup" });
                }
                Ok(())
            }
            Act::HangUp => Err(if self.over.is_some() { "ended" } else { "stranger" }),
            Act::Ringing | Act::Accept | Act::Decline | Act::Busy => self.callee(who, rung, act),
        }
    }

    fn callee(&mut self, who: u8, rung: Option<Device>, act: Act) -> Result<(), &'static str> {
        let Some(state) = rung else { return Err("stranger") };
        if self.over.is_some() {
            let same = matches!((act, state), (Act::Decline, Device::Declined) | (Act::Busy, Device::Busy));
            return if same { Ok(()) } else { Err("ended") };
        }
        if state == Device::Removed {
            return Err("stranger");
        }
        match (self.answered_by, act) {
            (Some(other), _) if other != who => Err("elsewhere"),
            (Some(_), Act::Decline | Act::Busy) => Err("answered"),
            (Some(_), _) => Ok(()),
            (None, Act::Ringing) => {
                if state == Device::Silent {
                    self.devices.insert(who, Device::Rings);
                    self.settling = false;
                }
                Ok(())
            }
            (None, Act::Accept) => {
                // Whatever it said before, it is not busy now.
                self.devices.insert(who, Device::Rings);
                self.answered_by = Some(who);
                self.settling = false;
                Ok(())
            }
            (None, Act::Decline) => {
                self.devices.insert(who, Device::Declined);
                self.over = Some("declined");
                Ok(())
            }
            (None, _) => {
                self.devices.insert(who, Device::Busy);
                self.settle();
                Ok(())
            }
        }
    }

    /// The ring, the settling or the absence of `who` has lasted too long.
    pub(crate) fn ring_ends(&mut self) {
        if self.rings() {
            self.over = Some("timeout");
        }
    }

    pub(crate) fn settling_ends(&mut self) {
        if self.rings() && self.settling {
            self.over = Some("busy");
        }
    }

    pub(crate) fn absence_ends(&mut self, who: u8) {
        if self.over.is_none() && self.away.contains(&who) {
            self.over = Some("connection_lost");
        }
    }

    /// Devices that find a note.
    pub(crate) fn missed(&self) -> BTreeSet<u8> {
        if self.answered_by.is_some() || matches!(self.over, None | Some("declined")) {
            return BTreeSet::new();
        }
        let silent = |device: &Device| matches!(device, Device::Silent | Device::Rings);
        self.devices.iter().filter(|(_, device)| silent(device)).map(|(n, _)| *n).collect()
    }
}
