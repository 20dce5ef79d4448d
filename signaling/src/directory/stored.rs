//! The directory at a state server of its own: any number of signaling nodes share it.
//!
//! Decides nothing about devices: each change is what [`Account`] makes of the record, under compare-and-set. It is never
//! the store of the calls: that one holds all of its records in memory, and lives as long as its calls.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tandem_state_client::limits::VALUE_LEN_MAX;
use tandem_state_client::{Change, Command, Key, Op, Revision, Store, StoreError};
use tandem_wire::id::PopId;
use tandem_wire::party::{AccountId, Party};
use tandem_wire::units::Wall;

use super::account::Account;
use super::{DeviceRecord, Devices, Directory, DirectoryError};
use crate::limits;

/// The version that this code writes and reads.
const VERSION: u32 = 1;

/// A record of the directory.
#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    /// Whose it is: two accounts whose keys are the same must not have each other's devices.
    account: AccountId,
    #[serde(flatten)]
    content: Account,
}

/// The directory at a state server.
#[derive(Clone)]
pub struct StoredDirectory {
    store: Arc<dyn Store>,
    pop: PopId,
}

impl std::fmt::Debug for StoredDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredDirectory")
    }
}

impl StoredDirectory {
    /// The directory of `pop` in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, pop: PopId) -> Self {
        Self { store, pop }
    }

    fn key(&self, account: &AccountId) -> Key {
        Key::Account(self.pop, account.key())
    }

    async fn read(&self, account: &AccountId) -> Result<(Account, Revision), DirectoryError> {
        let Some(entry) = self.store.read(self.key(account)).await.map_err(away)? else {
            return Ok((Account::default(), Revision::ZERO));
        };
        let stored = serde_json::from_slice::<Stored>(&entry.value).ok();
        match stored.filter(|stored| stored.v == VERSION && stored.account == *account) {
            Some(stored) => Ok((stored.content, entry.revision)),
            None => {
                tracing::error!("an account in the directory of devices cannot be read");
                Err(DirectoryError::Away)
            }
        }
    }

    /// Changes what stands about an account, from what stands there when the change is made.
    async fn change<T>(
        &self,
        account: &AccountId,
        change: impl Fn(&mut Account) -> Result<T, DirectoryError>,
    ) -> Result<(T, Account), DirectoryError> {
        for _ in 0..limits::DIRECTORY_TRIES {
            let (mut content, based_on) = self.read(account).await?;
            let before = content.clone();
            let done = change(&mut content)?;
            if content == before {
                return Ok((done, content));
            }
            let change = if content.devices.is_empty() {
                Change::Delete
            } else {
                let stored = Stored { v: VERSION, account: account.clone(), content: content.clone() };
                let value = serde_json::to_vec(&stored).map_err(|_| DirectoryError::Away)?;
                if value.len() > VALUE_LEN_MAX {
                    return Err(DirectoryError::Full);
                }
                Change::Put(value)
            };
            let op = Op { key: self.key(account), based_on, change };
            match self.store.commit(Command { ops: vec![op] }).await {
                Ok(_) => return Ok((done, content)),
                // Another device of the account was faster.
                Err(StoreError::Stale { .. }) => {}
                Err(error) => return Err(away(error)),
            }
        }
        Err(DirectoryError::Away)
    }
}

fn away(error: StoreError) -> DirectoryError {
    if error.is_away() {
        tracing::debug!(%error, "the directory of devices does not answer");
    } else {
        tracing::error!(%error, "the directory of devices cannot be used");
    }
    DirectoryError::Away
}

#[async_trait]
impl Directory for StoredDirectory {
    async fn put(&self, party: &Party, device: DeviceRecord) -> Result<Devices, DirectoryError> {
        let put = |account: &mut Account| account.put(party, device.clone());
        self.change(&party.account, put).await.map(|((), account)| account.into_devices())
    }

    async fn endorse(&self, party: &Party, endorsement: String) -> Result<(), DirectoryError> {
        let endorse = |account: &mut Account| account.endorse(party, endorsement.clone());
        self.change(&party.account, endorse).await.map(|((), _)| ())
    }

    async fn remove(&self, party: &Party, at: Wall) -> Result<bool, DirectoryError> {
        let remove = |account: &mut Account| Ok(account.remove(&party.device, at));
        self.change(&party.account, remove).await.map(|(removed, _)| removed)
    }

    async fn devices(&self, account: &AccountId) -> Result<Arc<Devices>, DirectoryError> {
        self.read(account).await.map(|(account, _)| Arc::new(account.into_devices()))
    }
}

#[cfg(test)]
mod tests {
    use tandem_state_client::memory::MemoryStore;

    use super::*;
    use crate::directory::account::tests::{Keys, party};

    fn directory() -> (Arc<MemoryStore>, [StoredDirectory; 2]) {
        let store = Arc::new(MemoryStore::new(PopId(1)));
        let node = || StoredDirectory::new(Arc::clone(&store) as Arc<dyn Store>, PopId(1));
        let nodes = [node(), node()];
        (store, nodes)
    }

    #[tokio::test]
    async fn what_one_node_registers_another_knows_and_removes() {
        let (_, [one, other]) = directory();
        let (bob, keys) = (party("bob", "dev_1"), Keys::new(1));
        let devices = one.put(&bob, keys.registers(&bob, &keys)).await.unwrap();
        assert_eq!(*other.devices(&bob.account).await.unwrap(), devices);
        let second = party("bob", "dev_2");
        let later = Keys::new(2).device();
        assert_eq!(other.put(&second, later.clone()).await.unwrap().pending.len(), 1);
        one.endorse(&second, keys.endorses(&second, &later)).await.unwrap();
        assert_eq!(other.devices(&bob.account).await.unwrap().listed.len(), 2);
        assert_eq!(
            one.endorse(&second, Keys::new(2).endorses(&second, &later)).await,
            Err(DirectoryError::NotEndorsed)
        );
        for party in [&bob, &second] {
            assert!(other.remove(party, Wall::from_millis(9)).await.unwrap());
            assert!(!one.remove(party, Wall::from_millis(9)).await.unwrap());
        }
        assert_eq!(*one.devices(&bob.account).await.unwrap(), Devices::default());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_devices_that_register_at_once_through_two_nodes_none_is_lost_and_ten_are_all() {
        let (_, nodes) = directory();
        let tasks: Vec<_> = (0..12)
            .map(|n| {
                let node = nodes[n % 2].clone();
                tokio::spawn(async move { node.put(&party("bob", &format!("dev_{n}")), Keys::new(1).device()).await })
            })
            .collect();
        let mut full = 0;
        for task in tasks {
            full += usize::from(task.await.unwrap() == Err(DirectoryError::Full));
        }
        let devices = nodes[0].devices(&"bob".parse().unwrap()).await.unwrap();
        assert_eq!((devices.listed.len(), full), (10, 2));
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_said_to_be_and_an_account_is_never_taken_for_another() {
        let (store, [one, _]) = directory();
        let bob = party("bob", "dev_1");
        one.put(&bob, Keys::new(1).device()).await.unwrap();
        let value = store.read(one.key(&bob.account)).await.unwrap().unwrap().value;
        let alice: AccountId = "alice".parse().unwrap();
        let op = Op { key: one.key(&alice), based_on: Revision::ZERO, change: Change::Put(value.to_vec()) };
        store.commit(Command { ops: vec![op] }).await.unwrap();
        assert_eq!(one.devices(&alice).await, Err(DirectoryError::Away));
        store.set_away(true);
        assert_eq!(one.devices(&bob.account).await, Err(DirectoryError::Away));
        assert_eq!(one.put(&bob, Keys::new(1).device()).await, Err(DirectoryError::Away));
    }

    #[tokio::test]
    async fn an_account_that_no_record_could_hold_is_full() {
        let (_, [one, _]) = directory();
        let mut kept = 0;
        for n in 0..10 {
            let device = DeviceRecord { push_token: Some("x".repeat(3_000)), ..Keys::new(1).device() };
            match one.put(&party("bob", &format!("dev_{n}")), device).await {
                Ok(_) => kept += 1,
                Err(error) => assert_eq!(error, DirectoryError::Full),
            }
        }
        assert!((3..6).contains(&kept), "{kept}");
    }
}
