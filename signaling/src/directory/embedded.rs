//! The directory in a file of its own (redb): one process at a time, every change on disk before it is answered.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tandem_wire::party::{AccountId, Party};
use tandem_wire::units::Wall;

use super::{DeviceRecord, Devices, Directory, DirectoryError};
use crate::limits;

const ACCOUNTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("accounts");
const ABOUT: TableDefinition<'static, &str, u64> = TableDefinition::new("about");
/// What this code writes, and the newest that it reads.
const FORMAT: u64 = 1;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process uses this directory")]
    InUse,
    /// Written by a newer version of Tandem.
    #[error("the directory has format {0}, this version reads up to {FORMAT}: upgrade first")]
    Newer(u64),
    /// Something else.
    #[error("the directory cannot be opened: {0}")]
    File(#[from] redb::Error),
}

/// The directory in a file.
#[derive(Clone)]
pub struct EmbeddedDirectory {
    database: Arc<Database>,
}

impl std::fmt::Debug for EmbeddedDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EmbeddedDirectory")
    }
}

impl EmbeddedDirectory {
    /// Opens or makes the file at `path`. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let mut builder = Builder::new();
        builder.set_cache_size(limits::DIRECTORY_CACHE);
        let database = builder.create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse,
            other => OpenError::File(other.into()),
        })?;
        let format = format(&database)?;
        if format > FORMAT {
            return Err(OpenError::Newer(format));
        }
        Ok(Self { database: Arc::new(database) })
    }

    /// Does `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let database = Arc::clone(&self.database);
        match tokio::task::spawn_blocking(move || work(&database)).await {
            Ok(done) => done.map_err(Failed::away),
            Err(_) => Err(DirectoryError::Away),
        }
    }
}

/// Writes the format of a new file; gives that of an old one.
fn format(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let found = {
        let mut about = transaction.open_table(ABOUT)?;
        let found = about.get("format")?.map(|format| format.value());
        if found.is_none() {
            about.insert("format", FORMAT)?;
        }
        transaction.open_table(ACCOUNTS)?;
        found
    };
    transaction.commit()?;
    Ok(found.unwrap_or(FORMAT))
}

enum Failed {
    Full,
    Unreadable,
    File(redb::Error),
}

impl Failed {
    /// What the one who asked is told.
    fn away(self) -> DirectoryError {
        match self {
            Self::Full => return DirectoryError::Full,
            Self::File(error) => tracing::error!(%error, "the directory of devices cannot be used"),
            Self::Unreadable => tracing::error!("an account in the directory of devices cannot be read"),
        }
        DirectoryError::Away
    }
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::File(error.into())
    }
}

fn read(bytes: Option<&[u8]>) -> Result<Devices, Failed> {
    bytes.map_or_else(|| Ok(Devices::default()), |bytes| serde_json::from_slice(bytes).map_err(|_| Failed::Unreadable))
}

/// Changes the devices of an account; what `change` refuses leaves the file as it is.
fn change<T>(
    database: &Database,
    account: &AccountId,
    change: impl FnOnce(&mut Devices) -> Result<T, Failed>,
) -> Result<(T, Devices), Failed> {
    let transaction = database.begin_write()?;
    let done = {
        let mut accounts = transaction.open_table(ACCOUNTS)?;
        let mut devices = read(accounts.get(account.as_str())?.map(|value| value.value().to_vec()).as_deref())?;
        let done = change(&mut devices)?;
        if devices.0.is_empty() {
            accounts.remove(account.as_str())?;
        } else {
            let bytes = serde_json::to_vec(&devices).map_err(|_| Failed::Unreadable)?;
            accounts.insert(account.as_str(), bytes.as_slice())?;
        }
        (done, devices)
    };
    transaction.commit()?;
    Ok(done)
}

#[async_trait]
impl Directory for EmbeddedDirectory {
    async fn put(&self, party: &Party, device: DeviceRecord) -> Result<Devices, DirectoryError> {
        let Party { account, device: id } = party.clone();
        self.blocking(move |database| {
            let put = |devices: &mut Devices| {
                match devices.0.binary_search_by(|(other, _)| other.cmp(&id)) {
                    Ok(at) => {
                        if let Some((_, known)) = devices.0.get_mut(at) {
                            *known = device;
                        }
                    }
                    Err(_) if devices.0.len() >= limits::DEVICES_PER_ACCOUNT => return Err(Failed::Full),
                    Err(at) => devices.0.insert(at, (id, device)),
                }
                Ok(())
            };
            change(database, &account, put).map(|((), devices)| devices)
        })
        .await
    }

    async fn remove(&self, party: &Party, at: Wall) -> Result<bool, DirectoryError> {
        let Party { account, device: id } = party.clone();
        self.blocking(move |database| {
            let remove = |devices: &mut Devices| {
                let before = devices.0.len();
                devices.0.retain(|(other, device)| *other != id || device.registered > at);
                Ok(devices.0.len() < before)
            };
            change(database, &account, remove).map(|(removed, _)| removed)
        })
        .await
    }

    async fn devices(&self, account: &AccountId) -> Result<Devices, DirectoryError> {
        // A few microseconds out of the cache, and one page of the file at worst: less than a hop to another thread.
        let devices = || -> Result<Devices, Failed> {
            let transaction = self.database.begin_read()?;
            let accounts = transaction.open_table(ACCOUNTS)?;
            read(accounts.get(account.as_str())?.as_ref().map(|value| value.value()))
        };
        devices().map_err(Failed::away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Custody;

    fn party(account: &str, device: &str) -> Party {
        Party { account: account.parse().unwrap(), device: device.parse().unwrap() }
    }

    fn device(prekey_id: u32) -> DeviceRecord {
        DeviceRecord {
            sign: "s".to_owned(),
            agree: "a".to_owned(),
            prekey_id,
            prekey: "p".to_owned(),
            prekey_signature: "x".to_owned(),
            capabilities: vec![],
            custody: Custody::Device,
            push_token: None,
            registered: Wall::from_millis(u64::from(prekey_id)),
        }
    }

    #[tokio::test]
    async fn what_was_registered_is_there_after_a_restart_and_what_was_removed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devices.redb");
        let directory = EmbeddedDirectory::open(&path).unwrap();
        assert!(matches!(EmbeddedDirectory::open(&path), Err(OpenError::InUse)));
        directory.put(&party("bob", "dev_2"), device(1)).await.unwrap();
        let devices = directory.put(&party("bob", "dev_1"), device(1)).await.unwrap();
        assert_eq!(devices.0.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["dev_1", "dev_2"]);
        directory.put(&party("alice", "dev_1"), device(1)).await.unwrap();
        let alice = party("alice", "dev_1");
        assert!(!directory.remove(&alice, Wall::from_millis(0)).await.unwrap(), "it registered after that");
        assert!(directory.remove(&alice, Wall::from_millis(1)).await.unwrap());
        assert!(!directory.remove(&alice, Wall::from_millis(1)).await.unwrap());
        drop(directory);
        let directory = EmbeddedDirectory::open(&path).unwrap();
        assert_eq!(directory.devices(&"bob".parse().unwrap()).await.unwrap(), devices);
        assert_eq!(directory.devices(&"alice".parse().unwrap()).await.unwrap(), Devices::default());
    }

    #[tokio::test]
    async fn an_account_has_ten_devices_and_any_of_them_may_register_anew() {
        let folder = tempfile::tempdir().unwrap();
        let directory = EmbeddedDirectory::open(&folder.path().join("devices.redb")).unwrap();
        for n in 0..10 {
            directory.put(&party("bob", &format!("dev_{n}")), device(1)).await.unwrap();
        }
        assert_eq!(directory.put(&party("bob", "dev_x"), device(1)).await, Err(DirectoryError::Full));
        let before = directory.devices(&"bob".parse().unwrap()).await.unwrap();
        let after = directory.put(&party("bob", "dev_3"), device(2)).await.unwrap();
        assert_eq!(after.0.len(), 10);
        assert_ne!(before.list_hash(), after.list_hash(), "a new prekey makes a new list");
    }
}
