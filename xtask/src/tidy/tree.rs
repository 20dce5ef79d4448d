//! The tree that the checks read: files as text, packages as cargo sees them.
//!
//! Decides what belongs to the repository: everything but what tools make. Leaves judging to the checks. Tests plant a
//! violation by making a tree of their own.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::child::Child;
use crate::{Trouble, place};

/// Directories that tools make, by name, wherever they are.
const MADE: &[&str] =
    &[".git", "target", "node_modules", "dist", "artifacts", "corpus", ".hypothesis", ".schemathesis"];

/// One text file.
#[derive(Debug)]
pub(super) struct File {
    /// Its path from the root, with `/`.
    pub(super) path: String,
    /// What is in it.
    pub(super) text: String,
}

impl File {
    /// Whether it is Rust.
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// One package of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    /// Its name.
    pub(super) name: String,
    /// What it depends on.
    pub(super) dependencies: Vec<Dependency>,
}

/// One line of a package's dependencies.
#[derive(Debug)]
pub(super) struct Dependency {
    /// The package depended on.
    pub(super) name: String,
    /// Only tests, examples and benches see it.
    pub(super) dev: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Every text file, sorted by path.
    pub(super) files: Vec<File>,
    /// The workspace's packages.
    pub(super) packages: Vec<Package>,
}

impl Tree {
    /// Reads the repository under `root`.
    ///
    /// # Errors
    /// [`Trouble::Failed`] when cargo cannot read the workspace.
    pub(super) fn read(root: &Path) -> Result<Self, Trouble> {
        let mut files = Vec::new();
        walk(root, "", &mut files);
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let metadata = Child::new(place::cargo(), &["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .quiet()
            .and_then(|text| serde_json::from_str(&text).ok())
            .ok_or_else(|| Trouble::Failed("`cargo metadata` does not read this workspace".to_owned()))?;
        Ok(Self { files, packages: packages(&metadata) })
    }

    /// A file by its path.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The Rust files.
    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }
}

/// Collects what is text; what is not (pictures, recordings) has no lines to judge.
fn walk(root: &Path, dir: &str, files: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(root.join(dir)) else {
        return;
    };
    for entry in entries.flatten() {
        let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string()) else {
            continue;
        };
        let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
        if kind.is_dir() && !MADE.contains(&name.as_str()) {
            walk(root, &path, files);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            files.push(File { path, text });
        }
    }
}

fn packages(metadata: &Value) -> Vec<Package> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    list(metadata, "packages")
        .iter()
        .map(|package| Package {
            name: text(package, "name"),
            dependencies: list(package, "dependencies")
                .iter()
                .map(|dependency| Dependency { name: text(dependency, "name"), dev: text(dependency, "kind") == "dev" })
                .collect(),
        })
        .collect()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(super) mod planted {
    //! Trees that tests make.

    use super::{Dependency, File, Package, Tree};

    /// A tree of these files.
    pub(in crate::tidy) fn files(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() }).collect();
        Tree { files, packages: Vec::new() }
    }

    /// A tree of these packages, each with its dependencies; "dev:" stands before those of its tests.
    pub(in crate::tidy) fn packages(packages: &[(&str, &[&str])]) -> Tree {
        let dependency =
            |name: &&str| Dependency { name: name.trim_start_matches("dev:").into(), dev: name.starts_with("dev:") };
        let package = |(name, dependencies): &(&str, &[&str])| Package {
            name: (*name).into(),
            dependencies: dependencies.iter().map(dependency).collect(),
        };
        Tree { files: Vec::new(), packages: packages.iter().map(package).collect() }
    }

    /// Where a check found something.
    pub(in crate::tidy) fn places(violations: &[super::super::Violation]) -> Vec<&str> {
        violations.iter().map(|violation| violation.at.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_read_with_its_files_and_packages() {
        let tree = Tree::read(&place::root()).unwrap();
        assert!(tree.file("xtask/src/tidy/tree.rs").is_some_and(|file| file.text.contains("the_repository_is_read")));
        assert!(tree.files.iter().all(|file| !file.path.starts_with("target/")));
        let this = tree.packages.iter().find(|package| package.name == "xtask").unwrap();
        assert!(this.dependencies.iter().any(|dependency| dependency.name == "serde_json" && !dependency.dev));
        assert!(tree.packages.iter().any(|package| package.name == "tandem-core"));
    }
}
