//! Where a keyring is kept.
//!
//! Decides that it is replaced whole, and that only its owner may read it. Leaves what stands in it to the keyring.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Keeps the bytes of one keyring. Called from async tasks: it may write a small file, but not wait for anybody.
pub trait Store: Send {
    /// What was kept last; `None`: nothing ever.
    ///
    /// # Errors
    /// It is there and cannot be read.
    fn load(&mut self) -> io::Result<Option<Vec<u8>>>;

    /// Keeps this instead, whole or not at all, and so that it outlives the process. `durable`: and the machine.
    ///
    /// # Errors
    /// It could not be kept.
    fn save(&mut self, bytes: &[u8], durable: bool) -> io::Result<()>;
}

/// Forgets with the process.
#[derive(Debug, Default)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn load(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn save(&mut self, _: &[u8], _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// One file that only its owner may read. It belongs to one process at a time.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    /// Held for as long as the keyring lives: two processes with one counter would use a number twice.
    _lock: File,
}

impl FileStore {
    /// The file at `path`; it need not be there yet.
    ///
    /// # Errors
    /// Its folder cannot be written, or another process has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let lock = private().write(true).create(true).truncate(false).open(beside(path, ".lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => {
                Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process uses this keyring"))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Store for FileStore {
    fn load(&mut self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn save(&mut self, bytes: &[u8], durable: bool) -> io::Result<()> {
        let new = beside(&self.path, ".new");
        // One that was left there may have other rights.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private().write(true).create_new(true).open(&new)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&new, &self.path)?;
        if durable {
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }
}

/// Secret bytes in base64.
pub(crate) mod base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer>(bytes: &Zeroizing<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(bytes)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        STANDARD.decode(&*text).map(Zeroizing::new).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_its_owners_alone_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut store = FileStore::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), None);
        for content in [&b"one"[..], b"another"] {
            store.save(content, true).unwrap();
            assert_eq!(store.load().unwrap().as_deref(), Some(content));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        // What an earlier process left half done.
        fs::write(beside(&path, ".new"), b"half").unwrap();
        store.save(b"third", false).unwrap();
        assert_eq!(store.load().unwrap().as_deref(), Some(&b"third"[..]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn two_cannot_have_it_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let first = FileStore::open(&path).unwrap();
        assert_eq!(FileStore::open(&path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        FileStore::open(&path).unwrap();
    }
}
