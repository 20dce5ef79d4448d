//! Devices that were connected here and are not any more: what records say of them is looked at for a while longer.
//!
//! Decides which record is to be corrected by this router: when a connection is lost, what is seen of a call may be older than
//! what is stored, and a leg may appear after it. A record that has come to say that the device is away is settled: another
//! router that has the device changes it back, and must not be contradicted. Leaves writing to [`crate::writer`].

use std::collections::HashMap;

use tandem_wire::id::CallId;
use tandem_wire::party::DeviceKey;
use tandem_wire::units::Mono;

use crate::limits;

#[derive(Debug, Default)]
pub(crate) struct Absent(HashMap<DeviceKey, Left>);

#[derive(Debug)]
struct Left {
    until: Mono,
    settled: Vec<CallId>,
}

impl Absent {
    /// The device's connection is gone.
    pub(crate) fn left(&mut self, device: DeviceKey, now: Mono) {
        self.0.insert(device, Left { until: now.after(limits::ABSENCE), settled: Vec::new() });
    }

    /// It is connected again.
    pub(crate) fn back(&mut self, device: DeviceKey) {
        self.0.remove(&device);
    }

    /// The call has come to say that the device is away.
    pub(crate) fn settled(&mut self, device: DeviceKey, call: CallId) {
        if let Some(left) = self.0.get_mut(&device)
            && !left.settled.contains(&call)
        {
            left.settled.push(call);
        }
    }

    /// Whether this call is to be corrected if it says that the device is there.
    pub(crate) fn owed(&self, device: DeviceKey, call: CallId) -> bool {
        self.0.get(&device).is_some_and(|left| !left.settled.contains(&call))
    }

    pub(crate) fn forget_old(&mut self, now: Mono) {
        self.0.retain(|_, left| left.until > now);
    }
}
