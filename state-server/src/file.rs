//! The file of the embedded store: opening it, and making it so that it is there whole or not at all.
//!
//! redb makes a file where it will stand; if the power goes while it does, what stands there is refused for ever. So it is
//! made under another name, and gets its own when it is on the disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database};

use crate::backend::OpenError;
use crate::embedded::open_error;
use crate::limits;

/// How every store is opened: its pages are checked against their sums, all of them, since all of them are read anyway.
pub(crate) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(limits::REDB_CACHE).set_check_integrity_on_open(true);
    builder
}

/// Opens the file at `path`, or makes it.
pub(crate) fn open(path: &Path) -> Result<Database, OpenError> {
    let new = name_of_new(path)?;
    if !path.try_exists().map_err(OpenError::System)? {
        make(path, &new)?;
    }
    // What an earlier attempt left; a link to our own file, at most.
    remove(&new)?;
    builder().open(path).map_err(open_error)
}

fn name_of_new(path: &Path) -> Result<PathBuf, OpenError> {
    let Some(name) = path.file_name() else {
        return Err(OpenError::System(io::Error::new(ErrorKind::InvalidInput, "not the path of a file")));
    };
    let mut name = name.to_owned();
    name.push(".new");
    Ok(path.with_file_name(name))
}

fn remove(path: &Path) -> Result<(), OpenError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(OpenError::System(error)),
        _ => Ok(()),
    }
}

fn make(path: &Path, new: &Path) -> Result<(), OpenError> {
    // Somebody who is making it at this moment has it locked, and then we are the second one.
    let made = match builder().create(new).map_err(open_error) {
        Err(OpenError::Damaged(_)) => {
            remove(new)?;
            builder().create(new).map_err(open_error)?
        }
        made => made?,
    };
    made.close().map_err(open_error)?;
    File::open(new).and_then(|file| file.sync_all()).map_err(OpenError::System)?;
    // A link, since it does not replace what is there: two who make it at once end up with one file.
    match fs::hard_link(new, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(OpenError::System(error)),
        _ => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(OpenError::System)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_of_a_file_that_was_never_finished_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let new = folder.path().join("state.redb.new");
        // Cut short at any length, as redb leaves it: first without its magic number, then with all of it.
        drop(builder().create(&new).unwrap());
        let whole = fs::read(&new).unwrap();
        for length in [0, 1, 8, 100, 4_096, whole.len() - 1, whole.len()] {
            for magic in [false, true] {
                let mut left = whole[..length].to_vec();
                if !magic {
                    let blank = length.min(16);
                    left[..blank].fill(0);
                }
                fs::write(&new, left).unwrap();
                let database = open(&path).unwrap();
                assert!(!new.exists() && path.exists());
                drop(database);
                fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn what_stands_there_and_is_no_store_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        for content in [&b"diary"[..], &[0; 5_000]] {
            fs::write(&path, content).unwrap();
            let error = open(&path).unwrap_err();
            assert!(matches!(error, OpenError::Damaged(_)), "{error}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_file_that_lost_the_race_to_be_made_is_not_put_in_place_of_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("state.redb"), folder.path().join("state.redb.new"));
        fs::write(&path, b"the winner's").unwrap();
        make(&path, &new).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"the winner's");
    }

    #[test]
    fn a_path_that_cannot_be_a_file_is_refused() {
        assert!(matches!(open(Path::new("/")), Err(OpenError::System(_))));
        assert!(matches!(open(Path::new("/nowhere/state.redb")), Err(OpenError::System(_))));
    }
}
