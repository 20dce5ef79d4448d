//! The lockfiles: what is locked, and where it comes from.
//!
//! Decides that dependencies come from crates.io and npm by name and checksum, and that no file of ours says which host
//! serves them: any mirror may.

use super::Violation;
use super::tree::Tree;

/// How cargo writes crates.io, whoever serves it.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
const CARGO_LOCK: &str = "Cargo.lock";
const NPM_LOCK: &str = "package-lock.json";

/// One package of Cargo.lock.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Locked {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) source: Option<String>,
    pub(super) dependencies: Vec<String>,
}

/// The packages of Cargo.lock; none if it is not there.
pub(super) fn packages(tree: &Tree) -> Vec<Locked> {
    let text = tree.file(CARGO_LOCK).map(|file| file.text.as_str()).unwrap_or_default();
    text.split("[[package]]").skip(1).map(package).collect()
}

/// Cargo writes one key a line, and one dependency a line: "name", or "name version".
fn package(text: &str) -> Locked {
    let mut package = Locked::default();
    for line in text.lines() {
        let quoted = line.split('"').nth(1).unwrap_or_default();
        match line.split(' ').next() {
            Some("name") => quoted.clone_into(&mut package.name),
            Some("version") => quoted.clone_into(&mut package.version),
            Some("source") => package.source = Some(quoted.to_owned()),
            Some("") if !quoted.is_empty() => {
                package.dependencies.push(quoted.split(' ').next().unwrap_or(quoted).to_owned());
            }
            _ => {}
        }
    }
    package
}

/// Every dependency is from a registry, and no host of one is written down.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let locked = packages(tree);
    if locked.is_empty() {
        violations.push(Violation::new(CARGO_LOCK, "is not there, or empty"));
    }
    for package in locked {
        if package.source.is_some_and(|source| source != CRATES_IO) {
            violations.push(Violation::new(CARGO_LOCK, format!("{} is not from crates.io", package.name)));
        }
    }
    if tree.file(NPM_LOCK).is_none() {
        violations.push(Violation::new(NPM_LOCK, "is not there"));
    }
    violations.extend(lines(tree, NPM_LOCK, "names where a package came from: see .npmrc", |line| {
        line.trim_start().starts_with("\"resolved\"")
            && line.contains(':')
            && (line.contains("//") || line.contains("git+"))
    }));
    violations.extend(lines(tree, ".npmrc", "names a registry", |line| line.contains("registry=")));
    violations.extend(lines(tree, ".cargo/config.toml", "names a registry", |line| {
        line.trim_start().starts_with("[source") || line.trim_start().starts_with("[registr")
    }));
    violations
}

fn lines(tree: &Tree, path: &str, what: &str, is_bad: fn(&str) -> bool) -> Vec<Violation> {
    let text = tree.file(path).map(|file| file.text.as_str()).unwrap_or_default();
    let bad = text.lines().enumerate().filter(|(_, line)| is_bad(line));
    bad.map(|(index, _)| Violation::new(format!("{path}:{}", index + 1), what)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted::{files, places};
    use super::*;

    const GOOD: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n\
        source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"00\"\n\
        dependencies = [\n \"b\",\n \"c 0.2.0\",\n]\n\n[[package]]\nname = \"b\"\nversion = \"0.1.0\"\n";

    #[test]
    fn cargos_lockfile_is_read() {
        let locked = packages(&files(&[(CARGO_LOCK, GOOD)]));
        assert_eq!(locked.len(), 2);
        assert_eq!((locked[0].name.as_str(), locked[0].version.as_str()), ("a", "1.2.3"));
        assert_eq!(locked[0].dependencies, ["b", "c"]);
        assert_eq!(locked[1], Locked { name: "b".into(), version: "0.1.0".into(), ..Locked::default() });
    }

    #[test]
    fn a_package_from_elsewhere_is_found() {
        let git = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"git+https://example.org/a#0\"\n";
        let npm = "{\n\"resolved\": \"web\",\n\"resolved\": \"https://example.org/a.tgz\",\n}\n";
        let tree =
            files(&[(CARGO_LOCK, git), (NPM_LOCK, npm), (".npmrc", "fund=false\nregistry=https://example.org\n")]);
        assert_eq!(places(&check(&tree)), ["Cargo.lock", "package-lock.json:3", ".npmrc:2"]);
        let tree = files(&[(CARGO_LOCK, GOOD), (NPM_LOCK, "{}"), (".cargo/config.toml", "[source.crates-io]\n")]);
        assert_eq!(places(&check(&tree)), [".cargo/config.toml:1"]);
    }

    #[test]
    fn lockfiles_that_are_not_there_are_found() {
        assert_eq!(places(&check(&files(&[]))), ["Cargo.lock", "package-lock.json"]);
    }
}
