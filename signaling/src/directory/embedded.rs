//! The directory in a file of its own (redb): one process at a time, every change on disk before it is answered.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lru::LruCache;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tandem_wire::party::{AccountId, Party};
use tandem_wire::units::Wall;

use super::account::Account;
use super::{DeviceRecord, Devices, Directory, DirectoryError};
use crate::limits;

const ACCOUNTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("accounts");
const ABOUT: TableDefinition<'static, &str, u64> = TableDefinition::new("about");
/// The newest that this code reads. A file is of format 1, in which an account is the list of its devices, until one of its
/// accounts has a root: a version that knows no endorsements would list pending devices and lose the others' endorsements,
/// so it is told to be upgraded. Who never uses them may go back.
const FORMAT: u64 = 2;
const FORMAT_WITHOUT_ROOTS: u64 = 1;

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
    file: Arc<File>,
}

/// The file, which nobody else writes, and what was read of it last.
struct File {
    database: Database,
    recent: Mutex<Recent>,
}

/// Accounts as they stand in the file.
struct Recent {
    accounts: LruCache<AccountId, Arc<Devices>>,
    /// How many changes were made: what was read before one may not be kept after it.
    changes: u64,
}

impl File {
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The devices of an account: a call looks for two accounts', of which one was asked for a moment before.
    fn devices(&self, id: &AccountId) -> Result<Arc<Devices>, Failed> {
        let changes = {
            let mut recent = self.recent();
            if let Some(devices) = recent.accounts.get(id) {
                return Ok(Arc::clone(devices));
            }
            recent.changes
        };
        let transaction = self.database.begin_read()?;
        let accounts = transaction.open_table(ACCOUNTS)?;
        let account = read(accounts.get(id.as_str())?.as_ref().map(|value| value.value()))?;
        let devices = Arc::new(account.into_devices());
        let mut recent = self.recent();
        if recent.changes == changes {
            recent.accounts.put(id.clone(), Arc::clone(&devices));
        }
        Ok(devices)
    }

    /// Changes what stands about an account; what `change` refuses leaves the file as it is.
    fn change<T>(
        &self,
        id: &AccountId,
        change: impl FnOnce(&mut Account) -> Result<T, DirectoryError>,
    ) -> Result<(T, Account), Failed> {
        // Whatever becomes of it, a panic of redb's too: it may be on the disk then.
        let _forgotten = Forgotten { file: self, id };
        write(&self.database, id, change)
    }
}

/// An account that is read anew once this is dropped.
struct Forgotten<'a> {
    file: &'a File,
    id: &'a AccountId,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        let mut recent = self.file.recent();
        recent.changes += 1;
        recent.accounts.pop(self.id);
    }
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
        let recent = Mutex::new(Recent { accounts: LruCache::new(limits::DIRECTORY_ACCOUNTS), changes: 0 });
        Ok(Self { file: Arc::new(File { database, recent }) })
    }

    /// Does `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&File) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let file = Arc::clone(&self.file);
        match tokio::task::spawn_blocking(move || work(&file)).await {
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
            about.insert("format", FORMAT_WITHOUT_ROOTS)?;
        }
        transaction.open_table(ACCOUNTS)?;
        found
    };
    transaction.commit()?;
    Ok(found.unwrap_or(FORMAT_WITHOUT_ROOTS))
}

enum Failed {
    Refused(DirectoryError),
    Unreadable,
    File(redb::Error),
}

impl Failed {
    /// What the one who asked is told.
    fn away(self) -> DirectoryError {
        match self {
            Self::Refused(why) => return why,
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

fn read(bytes: Option<&[u8]>) -> Result<Account, Failed> {
    let account = match bytes {
        None => return Ok(Account::default()),
        Some(bytes @ [b'[', ..]) => serde_json::from_slice(bytes).map(|devices| Account { root: None, devices }),
        Some(bytes) => serde_json::from_slice(bytes),
    };
    account.map_err(|_| Failed::Unreadable)
}

fn written(account: &Account) -> Result<Vec<u8>, Failed> {
    let bytes = match account.root {
        None => serde_json::to_vec(&account.devices),
        Some(_) => serde_json::to_vec(account),
    };
    bytes.map_err(|_| Failed::Unreadable)
}

/// Changes what stands in the file about an account.
fn write<T>(
    database: &Database,
    id: &AccountId,
    change: impl FnOnce(&mut Account) -> Result<T, DirectoryError>,
) -> Result<(T, Account), Failed> {
    let transaction = database.begin_write()?;
    let done = {
        let mut accounts = transaction.open_table(ACCOUNTS)?;
        let mut account = read(accounts.get(id.as_str())?.map(|value| value.value().to_vec()).as_deref())?;
        let done = change(&mut account).map_err(Failed::Refused)?;
        if account.devices.is_empty() {
            accounts.remove(id.as_str())?;
        } else {
            accounts.insert(id.as_str(), written(&account)?.as_slice())?;
        }
        if account.root.is_some() {
            transaction.open_table(ABOUT)?.insert("format", FORMAT)?;
        }
        (done, account)
    };
    transaction.commit()?;
    Ok(done)
}

#[async_trait]
impl Directory for EmbeddedDirectory {
    async fn put(&self, party: &Party, device: DeviceRecord) -> Result<Devices, DirectoryError> {
        let party = party.clone();
        self.blocking(move |file| {
            let put = |account: &mut Account| account.put(&party, device);
            file.change(&party.account, put).map(|((), account)| account.into_devices())
        })
        .await
    }

    async fn endorse(&self, party: &Party, endorsement: String) -> Result<(), DirectoryError> {
        let party = party.clone();
        self.blocking(move |file| {
            let endorse = |account: &mut Account| account.endorse(&party, endorsement);
            file.change(&party.account, endorse).map(|((), _)| ())
        })
        .await
    }

    async fn remove(&self, party: &Party, at: Wall) -> Result<bool, DirectoryError> {
        let party = party.clone();
        self.blocking(move |file| {
            let remove = |account: &mut Account| Ok(account.remove(&party.device, at));
            file.change(&party.account, remove).map(|(removed, _)| removed)
        })
        .await
    }

    async fn devices(&self, account: &AccountId) -> Result<Arc<Devices>, DirectoryError> {
        // One page of the file at worst: less than a hop to another thread.
        self.file.devices(account).map_err(Failed::away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Custody;
    use crate::directory::account::tests::{Keys, party};

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
            endorsement: None,
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
        assert_eq!(devices.listed.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["dev_1", "dev_2"]);
        directory.put(&party("alice", "dev_1"), device(1)).await.unwrap();
        let alice = party("alice", "dev_1");
        assert!(!directory.remove(&alice, Wall::from_millis(0)).await.unwrap(), "it registered after that");
        assert!(directory.remove(&alice, Wall::from_millis(1)).await.unwrap());
        assert!(!directory.remove(&alice, Wall::from_millis(1)).await.unwrap());
        drop(directory);
        let directory = EmbeddedDirectory::open(&path).unwrap();
        assert_eq!(*directory.devices(&"bob".parse().unwrap()).await.unwrap(), devices);
        assert_eq!(*directory.devices(&"alice".parse().unwrap()).await.unwrap(), Devices::default());
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
        assert_eq!(after.listed.len(), 10);
        assert_ne!(before.list_hash(), after.list_hash(), "a new prekey makes a new list");
    }

    fn root_and_directory() -> (Keys, EmbeddedDirectory, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let directory = EmbeddedDirectory::open(&folder.path().join("devices.redb")).unwrap();
        (Keys::new(1), directory, folder)
    }

    #[tokio::test]
    async fn a_root_and_what_it_signed_are_there_after_a_restart() {
        let (root, directory, folder) = root_and_directory();
        let (first, second) = (party("bob", "dev_1"), party("bob", "dev_2"));
        directory.put(&first, root.registers(&first, &root)).await.unwrap();
        let later = Keys::new(2).device();
        let devices = directory.put(&second, later.clone()).await.unwrap();
        assert_eq!((devices.listed.len(), devices.pending.len()), (1, 1));
        let none = directory.endorse(&party("bob", "dev_3"), root.endorses(&second, &later)).await;
        assert_eq!(none, Err(DirectoryError::Unknown));
        let forged = directory.endorse(&second, Keys::new(2).endorses(&second, &later)).await;
        assert_eq!(forged, Err(DirectoryError::NotEndorsed));
        assert_eq!(*directory.devices(&second.account).await.unwrap(), devices);
        directory.endorse(&second, root.endorses(&second, &later)).await.unwrap();
        drop(directory);
        let directory = EmbeddedDirectory::open(&folder.path().join("devices.redb")).unwrap();
        let devices = directory.devices(&second.account).await.unwrap();
        assert_eq!((devices.root.clone(), devices.listed.len()), (Some(root.sign()), 2));
        assert!(devices.listed.iter().all(|(_, device)| device.endorsement.is_some()));
        for party in [&first, &second] {
            assert!(directory.remove(party, Wall::from_millis(9)).await.unwrap());
        }
        assert_eq!(*directory.devices(&second.account).await.unwrap(), Devices::default());
    }

    fn stored(directory: &EmbeddedDirectory, account: &str) -> (u64, String) {
        let transaction = directory.file.database.begin_read().unwrap();
        let format = transaction.open_table(ABOUT).unwrap().get("format").unwrap().unwrap().value();
        let accounts = transaction.open_table(ACCOUNTS).unwrap();
        let bytes = accounts.get(account).unwrap().unwrap().value().to_vec();
        (format, String::from_utf8(bytes).unwrap())
    }

    /// As version 0.1 wrote it before there were endorsements.
    const OLD: &str = "[[\"dev_1\",{\"sign\":\"s\",\"agree\":\"a\",\"prekey_id\":1,\"prekey\":\"p\",\
         \"prekey_signature\":\"x\",\"capabilities\":[],\"custody\":\"device\",\"push_token\":null,\"registered\":1}]]";

    #[tokio::test]
    async fn a_file_from_before_there_were_roots_is_read_and_stays_as_it_is_until_there_is_one() {
        let (root, directory, folder) = root_and_directory();
        let write = directory.file.database.begin_write().unwrap();
        write.open_table(ABOUT).unwrap().insert("format", 1).unwrap();
        write.open_table(ACCOUNTS).unwrap().insert("bob", OLD.as_bytes()).unwrap();
        write.commit().unwrap();
        drop(directory);
        let directory = EmbeddedDirectory::open(&folder.path().join("devices.redb")).unwrap();
        let bob = party("bob", "dev_1");
        let devices = directory.devices(&bob.account).await.unwrap();
        assert_eq!((&devices.root, devices.pending.len()), (&None, 0));
        assert_eq!(devices.listed, [(bob.device.clone(), device(1))]);
        directory.put(&bob, device(1)).await.unwrap();
        assert_eq!(stored(&directory, "bob"), (1, OLD.to_owned()), "an older version reads it still");
        let second = party("bob", "dev_2");
        let devices = directory.put(&second, root.registers(&second, &root)).await.unwrap();
        assert_eq!((devices.listed.len(), devices.pending.len()), (1, 1));
        assert_eq!(stored(&directory, "bob").0, 2, "an older version would ring at what is pending");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_changed_is_read_at_once_however_many_read_it_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let directory = EmbeddedDirectory::open(&folder.path().join("devices.redb")).unwrap();
        let bob = party("bob", "dev_1");
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (file, account, done) = (Arc::clone(&directory.file), bob.account.clone(), Arc::clone(&done));
                std::thread::spawn(move || {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        assert!(file.devices(&account).is_ok());
                        // As if others had pushed it out: it is read from the file again and again.
                        file.recent().accounts.clear();
                    }
                })
            })
            .collect();
        for n in 1..300 {
            directory.put(&bob, device(n)).await.unwrap();
            let seen = directory.devices(&bob.account).await.unwrap();
            assert_eq!(seen.find(&bob.device).unwrap().prekey_id, n);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    }

    #[test]
    fn a_file_of_a_later_version_is_not_opened() {
        let (_, directory, folder) = root_and_directory();
        let write = directory.file.database.begin_write().unwrap();
        write.open_table(ABOUT).unwrap().insert("format", FORMAT + 1).unwrap();
        write.commit().unwrap();
        drop(directory);
        let opened = EmbeddedDirectory::open(&folder.path().join("devices.redb"));
        assert!(matches!(opened, Err(OpenError::Newer(3))));
    }
}
