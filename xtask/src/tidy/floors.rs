//! Floors: the oldest versions in which the holes that we know of are closed.
//!
//! Decides by Cargo.lock. Leaves the daily news to `cargo deny check advisories`: some of these holes were in no
//! advisory database when they were found.

use super::Violation;
use super::lock;
use super::tree::Tree;

/// From the attack catalogue's advisories: crate, and first good version.
const FLOORS: &[(&str, [u64; 3])] = &[
    ("quinn-proto", [0, 11, 19]),
    ("h2", [0, 4, 16]),
    ("rustls", [0, 23, 18]),
    ("rustls-webpki", [0, 103, 13]),
    ("tungstenite", [0, 20, 1]),
    ("jsonwebtoken", [10, 3, 0]),
    ("tracing-subscriber", [0, 3, 20]),
    ("bytes", [1, 11, 1]),
    ("axum-core", [0, 2, 8]),
];

/// Where one of them is used, it is not older than its floor.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in lock::packages(tree) {
        let Some((_, floor)) = FLOORS.iter().find(|(name, _)| *name == package.name) else {
            continue;
        };
        if version(&package.version).is_none_or(|version| version < *floor) {
            let [major, minor, patch] = floor;
            let what = format!("{} {} is older than {major}.{minor}.{patch}", package.name, package.version);
            violations.push(Violation::new("Cargo.lock", what));
        }
    }
    violations
}

/// A pre-release is older than its release: it has no place here.
fn version(text: &str) -> Option<[u64; 3]> {
    let text = text.split('+').next()?;
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    let version = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted::files;
    use super::*;

    fn found(name: &str, version: &str) -> usize {
        let lock = format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        check(&files(&[("Cargo.lock", &lock)])).len()
    }

    #[test]
    fn a_version_under_its_floor_is_found() {
        assert_eq!(found("h2", "0.4.9"), 1);
        assert_eq!(found("h2", "0.4.16"), 0);
        assert_eq!(found("bytes", "1.12.0"), 0);
        assert_eq!(found("jsonwebtoken", "9.99.0"), 1);
        assert_eq!(found("rustls", "0.23.18-beta.1"), 1);
        assert_eq!(found("libc", "0.0.1"), 0);
    }
}
