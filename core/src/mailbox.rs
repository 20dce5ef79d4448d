//! The rules of a device's queue: one connection, everything until it is acknowledged, nothing of anybody else's.
//!
//! Decides which connection is a device's, what is delivered on it in which order, and which acknowledgement deletes what.
//! Leaves what a blob says to its device to the router, which joins this with `call`, and the blobs themselves to the
//! store: here are only their names.
//!
//! `handle` in, `poll` until `None`. It has no deadlines: idle limits are each connection's own.

use std::collections::{BTreeMap, VecDeque};

use tandem_wire::id::{CallId, Revision};
use tandem_wire::party::DeviceKey;

/// A connection, named by the router; later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A blob for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName {
    /// The call that it is about.
    pub call: CallId,
    /// Its number among those of that call and device.
    pub seq: u16,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The device has connected anew.
    Elsewhere,
    /// The device was removed.
    Removed,
}

/// What happens to a device's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The device has connected. Everything that waits is delivered.
    Connected(DeviceKey, ConnectionId),
    /// The connection is gone.
    Disconnected(DeviceKey, ConnectionId),
    /// A blob was stored for the device, at this revision; or stored anew.
    Stored(DeviceKey, BlobName, Revision),
    /// The blob is gone from the store.
    Gone(DeviceKey, BlobName),
    /// The connection says that its device has the blob.
    Acked(DeviceKey, ConnectionId, BlobName),
    /// The device was removed from its account.
    Removed(DeviceKey),
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Close the connection.
    Close(ConnectionId, Cause),
    /// Say on this connection how the device's calls stand. What waits for it is delivered next.
    Greet(DeviceKey, ConnectionId),
    /// Say on this connection that the device is up to date.
    Ready(DeviceKey, ConnectionId),
    /// Send the blob on the connection.
    Deliver(DeviceKey, ConnectionId, BlobName),
    /// Delete the blob from the store, if it still has this revision.
    Delete(DeviceKey, BlobName, Revision),
    /// The device has no connection any more.
    Left(DeviceKey),
}

#[derive(Debug, Default)]
struct Mailbox {
    connection: Option<ConnectionId>,
    blobs: BTreeMap<BlobName, Revision>,
}

/// The queues of all devices of a PoP that have anything or are connected.
#[derive(Debug, Default)]
pub struct Mailboxes {
    devices: BTreeMap<DeviceKey, Mailbox>,
    out: VecDeque<Output>,
}

impl Mailboxes {
    /// Takes in what happened.
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::Connected(device, connection) => self.connected(device, connection),
            Input::Disconnected(device, connection) => {
                if let Some(mailbox) = self.devices.get_mut(&device)
                    && mailbox.connection == Some(connection)
                {
                    mailbox.connection = None;
                    self.out.push_back(Output::Left(device));
                    self.forget_empty(device);
                }
            }
            Input::Stored(device, blob, revision) => {
                let mailbox = self.devices.entry(device).or_default();
                // The same revision twice is the same blob, told by a list and by a watch.
                if mailbox.blobs.insert(blob, revision) != Some(revision)
                    && let Some(connection) = mailbox.connection
                {
                    self.out.push_back(Output::Deliver(device, connection, blob));
                }
            }
            Input::Gone(device, blob) => {
                if let Some(mailbox) = self.devices.get_mut(&device) {
                    mailbox.blobs.remove(&blob);
                    self.forget_empty(device);
                }
            }
            Input::Acked(device, connection, blob) => {
                // Only the device's own queue is looked into, and only its present connection is heard (attack M01).
                if let Some(mailbox) = self.devices.get(&device)
                    && mailbox.connection == Some(connection)
                    && let Some(revision) = mailbox.blobs.get(&blob)
                {
                    self.out.push_back(Output::Delete(device, blob, *revision));
                }
            }
            Input::Removed(device) => {
                if let Some(mailbox) = self.devices.get_mut(&device)
                    && let Some(connection) = mailbox.connection.take()
                {
                    self.out.push_back(Output::Close(connection, Cause::Removed));
                    self.out.push_back(Output::Left(device));
                    self.forget_empty(device);
                }
            }
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The connection of a device.
    #[must_use]
    pub fn connection(&self, device: DeviceKey) -> Option<ConnectionId> {
        self.devices.get(&device)?.connection
    }

    fn connected(&mut self, device: DeviceKey, connection: ConnectionId) {
        let mailbox = self.devices.entry(device).or_default();
        // Two that connect at once may be told of in either order: the higher number is the newer.
        if let Some(other) = mailbox.connection {
            let older = other.min(connection);
            self.out.push_back(Output::Close(older, Cause::Elsewhere));
            if older == connection {
                return;
            }
        }
        mailbox.connection = Some(connection);
        self.out.push_back(Output::Greet(device, connection));
        let mut waiting: Vec<_> = mailbox.blobs.iter().map(|(blob, revision)| (*revision, *blob)).collect();
        waiting.sort_unstable();
        self.out.extend(waiting.into_iter().map(|(_, blob)| Output::Deliver(device, connection, blob)));
        self.out.push_back(Output::Ready(device, connection));
    }

    fn forget_empty(&mut self, device: DeviceKey) {
        if self.devices.get(&device).is_some_and(|mailbox| mailbox.connection.is_none() && mailbox.blobs.is_empty()) {
            self.devices.remove(&device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: DeviceKey = DeviceKey::from_bits(1);
    const EVE: DeviceKey = DeviceKey::from_bits(2);

    fn blob(call: u128, seq: u16) -> BlobName {
        BlobName { call: CallId::from_bits(call), seq }
    }

    fn after(mailboxes: &mut Mailboxes, input: Input) -> Vec<Output> {
        mailboxes.handle(input);
        std::iter::from_fn(|| mailboxes.poll()).collect()
    }

    #[test]
    fn what_waits_is_delivered_in_the_order_it_was_stored_and_again_until_it_is_gone() {
        let mut m = Mailboxes::default();
        assert_eq!(after(&mut m, Input::Stored(BOB, blob(2, 1), Revision(5))), []);
        assert_eq!(after(&mut m, Input::Stored(BOB, blob(1, 7), Revision(6))), []);
        let first = ConnectionId(1);
        let deliver = |c, b| Output::Deliver(BOB, c, b);
        assert_eq!(
            after(&mut m, Input::Connected(BOB, first)),
            [
                Output::Greet(BOB, first),
                deliver(first, blob(2, 1)),
                deliver(first, blob(1, 7)),
                Output::Ready(BOB, first)
            ]
        );
        assert_eq!(after(&mut m, Input::Acked(BOB, first, blob(2, 1))), [Output::Delete(BOB, blob(2, 1), Revision(5))]);
        // The store has not yet said that it is gone.
        assert_eq!(after(&mut m, Input::Disconnected(BOB, first)), [Output::Left(BOB)]);
        assert_eq!(after(&mut m, Input::Gone(BOB, blob(2, 1))), []);
        let second = ConnectionId(2);
        assert_eq!(
            after(&mut m, Input::Connected(BOB, second)),
            [Output::Greet(BOB, second), deliver(second, blob(1, 7)), Output::Ready(BOB, second)]
        );
    }

    #[test]
    fn a_newer_connection_closes_the_older_whichever_is_told_first() {
        let (old, new) = (ConnectionId(1), ConnectionId(2));
        let mut m = Mailboxes::default();
        after(&mut m, Input::Connected(BOB, old));
        assert_eq!(
            after(&mut m, Input::Connected(BOB, new)),
            [Output::Close(old, Cause::Elsewhere), Output::Greet(BOB, new), Output::Ready(BOB, new)]
        );
        // The end of the old one is not the end of the device's connection.
        assert_eq!(after(&mut m, Input::Disconnected(BOB, old)), []);
        assert_eq!(after(&mut m, Input::Connected(BOB, old)), [Output::Close(old, Cause::Elsewhere)]);
        assert_eq!(m.connection(BOB), Some(new));
    }

    #[test]
    fn nobody_acknowledges_what_is_anothers_or_on_a_connection_that_is_over() {
        let mut m = Mailboxes::default();
        after(&mut m, Input::Stored(BOB, blob(1, 1), Revision(3)));
        after(&mut m, Input::Connected(EVE, ConnectionId(9)));
        after(&mut m, Input::Connected(BOB, ConnectionId(1)));
        after(&mut m, Input::Connected(BOB, ConnectionId(2)));
        for input in [
            Input::Acked(EVE, ConnectionId(9), blob(1, 1)),
            Input::Acked(BOB, ConnectionId(9), blob(1, 1)),
            Input::Acked(BOB, ConnectionId(1), blob(1, 1)),
            Input::Acked(BOB, ConnectionId(2), blob(1, 2)),
            Input::Acked(BOB, ConnectionId(2), blob(2, 1)),
        ] {
            assert_eq!(after(&mut m, input), [], "{input:?}");
        }
        let delete = Output::Delete(BOB, blob(1, 1), Revision(3));
        assert_eq!(after(&mut m, Input::Acked(BOB, ConnectionId(2), blob(1, 1))), [delete]);
        after(&mut m, Input::Gone(BOB, blob(1, 1)));
        assert_eq!(after(&mut m, Input::Acked(BOB, ConnectionId(2), blob(1, 1))), []);
    }

    #[test]
    fn what_a_list_and_a_watch_both_tell_is_delivered_once_and_what_changed_again() {
        let mut m = Mailboxes::default();
        after(&mut m, Input::Connected(BOB, ConnectionId(1)));
        let deliver = [Output::Deliver(BOB, ConnectionId(1), blob(1, 0))];
        assert_eq!(after(&mut m, Input::Stored(BOB, blob(1, 0), Revision(3))), deliver);
        assert_eq!(after(&mut m, Input::Stored(BOB, blob(1, 0), Revision(3))), []);
        assert_eq!(after(&mut m, Input::Stored(BOB, blob(1, 0), Revision(4))), deliver);
    }

    #[test]
    fn a_removed_device_is_closed_and_an_empty_queue_is_forgotten() {
        let mut m = Mailboxes::default();
        after(&mut m, Input::Connected(BOB, ConnectionId(1)));
        let closed = [Output::Close(ConnectionId(1), Cause::Removed), Output::Left(BOB)];
        assert_eq!(after(&mut m, Input::Removed(BOB)), closed);
        assert_eq!(after(&mut m, Input::Removed(BOB)), []);
        assert!(m.devices.is_empty());
    }
}
