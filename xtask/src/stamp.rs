//! Stamps: what a chore was last done from, so that it is not done again for nothing.
//!
//! Decides whether inputs have changed, by their contents. Leaves it to the caller which files those are.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use crate::{Trouble, place};

/// The contents of some files at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents(u64);

/// Reads `inputs` (files, or directories with everything under them but `skip`ped names). What is not there counts too.
pub(crate) fn contents(root: &Path, inputs: &[&str], skip: &[&str]) -> Contents {
    let mut hasher = DefaultHasher::new();
    for input in inputs {
        hash(root, Path::new(input), skip, &mut hasher);
    }
    Contents(hasher.finish())
}

fn hash(root: &Path, path: &Path, skip: &[&str], hasher: &mut DefaultHasher) {
    let full = root.join(path);
    path.hash(hasher);
    if let Ok(entries) = fs::read_dir(&full) {
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            if !skip.iter().any(|skipped| *skipped == name) {
                hash(root, &path.join(name), skip, hasher);
            }
        }
    } else {
        fs::read(&full).ok().hash(hasher);
    }
}

/// What a chore was last done from.
#[derive(Debug)]
pub(crate) struct Stamp(PathBuf);

impl Stamp {
    /// The stamp of the chore of this name.
    pub(crate) fn of(name: &str) -> Self {
        Self(place::target().join("xtask").join(format!("{name}.stamp")))
    }

    /// Whether the chore was last done from exactly this.
    pub(crate) fn is(&self, contents: Contents) -> bool {
        fs::read_to_string(&self.0).is_ok_and(|stamped| stamped == contents.text())
    }

    /// Notes that the chore has been done from this.
    ///
    /// # Errors
    /// [`Trouble::Failed`] when it cannot be written.
    pub(crate) fn set(&self, contents: Contents) -> Result<(), Trouble> {
        let written = match self.0.parent() {
            Some(parent) => fs::create_dir_all(parent).and_then(|()| fs::write(&self.0, contents.text())),
            None => fs::write(&self.0, contents.text()),
        };
        written.map_err(|error| Trouble::Failed(format!("{} cannot be written: {error}", self.0.display())))
    }
}

impl Contents {
    fn text(self) -> String {
        format!("{:016x}\n", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_change_with_a_files_bytes_its_name_and_its_absence_but_not_with_what_is_skipped() {
        let root = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        fs::create_dir_all(root.join("web/dist")).unwrap();
        fs::write(root.join("web/a.ts"), "one").unwrap();
        let now = || contents(&root, &["web", "lock"], &["dist"]);

        let first = now();
        fs::write(root.join("web/dist/a.js"), "built").unwrap();
        assert_eq!(first, now());
        fs::write(root.join("web/a.ts"), "two").unwrap();
        let second = now();
        assert_ne!(first, second);
        fs::rename(root.join("web/a.ts"), root.join("web/b.ts")).unwrap();
        let third = now();
        assert_ne!(second, third);
        fs::write(root.join("lock"), "").unwrap();
        assert_ne!(third, now());

        let stamp = Stamp(root.join("deep/down.stamp"));
        assert!(!stamp.is(third));
        stamp.set(third).unwrap();
        assert!(stamp.is(third));
        assert!(!stamp.is(second));
        fs::remove_dir_all(&root).unwrap();
    }
}
