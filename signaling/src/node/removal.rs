//! What a removed device leaves behind.
//!
//! Decides that its removal is on record, and that nothing waits for it in a call. Leaves the directory and the calls that it is in
//! to the keeper.

use tandem_core::topology::Removal;
use tandem_state_client::{Change, Command, Entry, Key, Op, Revision, StoreError};
use tandem_wire::id::CallId;
use tandem_wire::party::Party;
use tandem_wire::units::Wall;

use super::{Newness, Node, Writes};
use crate::limits;
use crate::refused::Refused;

impl Node {
    /// Deletes what waits for a device of a call.
    pub(crate) async fn clear_device(&self, id: CallId, party: &Party) -> Result<(), Refused> {
        let Some(loaded) = self.load(id, Newness::Known).await? else { return Ok(()) };
        let device = party.key();
        for (to, seq, based_on, _) in loaded.blobs.iter().filter(|(to, ..)| *to == device) {
            let ops = vec![Op { key: Key::Blob(id, *to, *seq), based_on: *based_on, change: Change::Delete }];
            match self.store.commit(Command { ops }).await {
                Ok(_) | Err(StoreError::Stale { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes down that a device was removed: from here on its tokens are void. Gives the moment of it.
    pub(crate) async fn write_removal(&self, party: &Party) -> Result<Wall, Refused> {
        let key = Key::Removal(self.pop, party.key());
        for _ in 0..limits::DECISIONS {
            let based_on = self.store.read(key).await?.map_or(Revision::ZERO, |entry| entry.revision);
            let removal = Removal::new(party.clone(), tandem_net::clock::now().wall);
            let mut writes = Writes::default();
            writes.put(key, based_on, removal.to_json())?;
            match self.store.commit(Command { ops: writes.0 }).await {
                Ok(revision) => {
                    // This node need not wait to hear of it.
                    if let Ok(value) = removal.to_json() {
                        self.live.put(&Entry { key, revision, value: value.into() });
                    }
                    return Ok(removal.at);
                }
                Err(StoreError::Stale { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refused::Contended)
    }
}
