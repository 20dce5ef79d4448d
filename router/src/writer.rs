//! What the router writes: that a blob has been acknowledged, and whether a device of a live call is there.
//!
//! Decides how much is under way at once, and that of one device only one write is: the last thing that was true is the
//! last that is written. Leaves what presence means to `core::topology`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tandem_core::topology::{Call, CallCommand, Phase};
use tandem_state_client::{Change, Command, Key, Op, Revision, Store, StoreError};
use tandem_telemetry::metric::router as metric;
use tandem_wire::id::CallId;
use tandem_wire::party::{DeviceKey, Party};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::limits;
use crate::view::View;

/// Something that was written, or given up.
#[derive(Debug)]
pub(crate) enum Done {
    /// Of a device, and whether it was said to be there.
    Presence(DeviceKey, bool),
    Deleted,
}

/// A device whose presence is to be written.
struct Presence {
    party: Party,
    /// It is being written; otherwise it waits for its turn, and is looked at then.
    under_way: bool,
    /// It has changed since that began.
    again: bool,
}

pub(crate) struct Writer {
    store: Arc<dyn Store>,
    tasks: JoinSet<Done>,
    presences: HashMap<DeviceKey, Presence>,
    /// Those whose turn is still to come.
    turns: VecDeque<DeviceKey>,
    deletes: VecDeque<(Key, Revision)>,
}

impl Writer {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            tasks: JoinSet::new(),
            presences: HashMap::new(),
            turns: VecDeque::new(),
            deletes: VecDeque::new(),
        }
    }

    /// The next thing that is done. Waits for ever while nothing is under way.
    pub(crate) async fn done(&mut self) -> Done {
        match self.tasks.join_next().await {
            Some(Ok(done)) => done,
            // A write that panicked is as one that was given up.
            Some(Err(_)) => Done::Deleted,
            None => std::future::pending().await,
        }
    }

    /// Goes on after something was done.
    pub(crate) fn settle(&mut self, done: Done, connected: impl Fn(DeviceKey) -> bool, view: &View) {
        if let Done::Presence(device, _) = done
            && let Some(presence) = self.presences.remove(&device)
            && presence.again
        {
            self.presence(&presence.party, connected(device), view);
        }
        while self.has_room()
            && let Some(device) = self.turns.pop_front()
        {
            if let Some(Presence { party, .. }) = self.presences.remove(&device) {
                self.presence(&party, connected(device), view);
            }
        }
        self.go_on();
    }

    fn has_room(&self) -> bool {
        self.tasks.len() < limits::WRITES_AT_ONCE
    }

    /// Deletes a blob that its device has.
    pub(crate) fn delete(&mut self, key: Key, revision: Revision) {
        if self.deletes.len() >= limits::DELETES_WAITING {
            metric::KEPT.add(1);
            return;
        }
        self.deletes.push_back((key, revision));
        self.go_on();
    }

    /// Writes down whether a device is there, in those live calls in which it has a leg that says otherwise.
    pub(crate) fn presence(&mut self, party: &Party, connected: bool, view: &View) {
        let device = party.key();
        if let Some(presence) = self.presences.get_mut(&device) {
            presence.again = presence.under_way;
            return;
        }
        let calls: Vec<CallId> = view
            .calls_of(device)
            .into_iter()
            .filter(|known| known.call.phase() != Phase::Ended)
            .filter(|known| known.call.leg_of(party).is_some_and(|leg| leg.away.is_some() == connected))
            .map(|known| known.call.id)
            .collect();
        if calls.is_empty() {
            return;
        }
        if !self.has_room() {
            self.presences.insert(device, Presence { party: party.clone(), under_way: false, again: false });
            self.turns.push_back(device);
            return;
        }
        self.presences.insert(device, Presence { party: party.clone(), under_way: true, again: false });
        let (store, party) = (Arc::clone(&self.store), party.clone());
        self.tasks.spawn(async move {
            for call in calls {
                write_presence(&*store, call, &party, connected).await;
            }
            Done::Presence(device, connected)
        });
    }

    fn go_on(&mut self) {
        while self.has_room() {
            let Some((key, based_on)) = self.deletes.pop_front() else { return };
            let store = Arc::clone(&self.store);
            self.tasks.spawn(async move {
                let ops = vec![Op { key, based_on, change: Change::Delete }];
                match store.commit(Command { ops }).await {
                    // Gone, or another one by now.
                    Ok(_) | Err(StoreError::Stale { .. }) => {}
                    Err(error) => {
                        tracing::debug!(%error, "an acknowledged blob stays for now");
                        metric::KEPT.add(1);
                    }
                }
                Done::Deleted
            });
        }
    }
}

/// Writes down once whether a device is there. While the store is away it waits, however long: the call goes on meanwhile, and
/// nobody else would ever write it.
async fn write_presence(store: &dyn Store, id: CallId, party: &Party, connected: bool) {
    let mut decisions = 0;
    while decisions < limits::DECISIONS {
        let result = write_once(store, id, party, connected).await;
        match result {
            Ok(()) => return,
            Err(StoreError::Stale { .. }) => decisions += 1,
            Err(error) if error.is_away() => sleep(limits::WRITE_RETRY).await,
            Err(error) => {
                tracing::warn!(%error, "it cannot be written down whether a device is there");
                return;
            }
        }
    }
}

async fn write_once(store: &dyn Store, id: CallId, party: &Party, connected: bool) -> Result<(), StoreError> {
    let Some(entry) = store.read(Key::Call(id)).await? else { return Ok(()) };
    let call = Call::from_json(&entry.value).map_err(|_| StoreError::Garbled)?;
    let command = if connected { CallCommand::Rejoin(party.clone()) } else { CallCommand::Disconnect(party.clone()) };
    // Refused: the call is over, or the device has no leg any more. Then there is nothing to write.
    let Ok(next) = Call::apply(Some(&call), command, tandem_net::clock::now()) else { return Ok(()) };
    if next == call {
        return Ok(());
    }
    let value = next.to_json().map_err(|_| StoreError::Garbled)?;
    let ops = vec![Op { key: entry.key, based_on: entry.revision, change: Change::Put(value) }];
    store.commit(Command { ops }).await.map(|_| ())
}
