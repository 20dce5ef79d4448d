//! What the relay's dependency tree does not hold: anything that could open what it carries.
//!
//! Decides by names in Cargo.lock, which has every platform's and every feature's dependencies: more than is ever linked.

use std::collections::BTreeSet;

use super::Violation;
use super::lock;
use super::tree::Tree;

/// Parts of names of crates that have a type for a media key, or for a session that gives one. architecture.md,
/// invariant 2: the relay cannot hold a media key, because there is no type for one in its dependency tree.
const MEDIA_KEY_CRATES: &[&str] =
    &["srtp", "sframe", "webrtc", "str0m", "dtls", "dimpl", "openmls", "mls-rs", "libsignal", "vodozemac"];

const RELAY: &str = "tandem-relay";

/// Nothing that the relay is built from holds a media key.
pub(super) fn media_keys(tree: &Tree) -> Vec<Violation> {
    let locked = lock::packages(tree);
    let (mut seen, mut next) = (BTreeSet::new(), vec![RELAY]);
    while let Some(name) = next.pop() {
        for package in locked.iter().filter(|package| package.name == name) {
            if seen.insert((&package.name, &package.version)) {
                next.extend(package.dependencies.iter().map(String::as_str));
            }
        }
    }
    if seen.is_empty() {
        return vec![Violation::new(RELAY, "is not in Cargo.lock: this check looks at the wrong place")];
    }
    seen.iter()
        .filter(|(name, _)| MEDIA_KEY_CRATES.iter().any(|part| name.contains(part)))
        .map(|(name, _)| Violation::new(RELAY, format!("is built from {name}, which can hold a media key")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted::{files, places};
    use super::*;

    fn lock_of(packages: &[(&str, &[&str])]) -> Tree {
        let package = |(name, dependencies): &(&str, &[&str])| {
            let dependencies: String = dependencies.iter().map(|name| format!(" \"{name}\",\n")).collect();
            format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\ndependencies = [\n{dependencies}]\n\n")
        };
        files(&[("Cargo.lock", &packages.iter().map(package).collect::<String>())])
    }

    #[test]
    fn a_media_key_crate_is_found_however_deep_it_is() {
        let tree = lock_of(&[
            ("tandem-relay", &["tandem-net", "libc"]),
            ("tandem-net", &["helper"]),
            ("helper", &["webrtc-srtp", "tandem-net"]),
            ("webrtc-srtp", &[]),
            ("libc", &[]),
        ]);
        let violations = media_keys(&tree);
        assert_eq!(places(&violations), ["tandem-relay"]);
        assert!(violations[0].what.contains("webrtc-srtp"));
    }

    #[test]
    fn a_media_key_crate_of_somebody_else_is_none_of_the_relays() {
        let tree = lock_of(&[("tandem-relay", &["libc"]), ("libc", &[]), ("client", &["str0m"]), ("str0m", &[])]);
        assert_eq!(places(&media_keys(&tree)), Vec::<&str>::new());
    }

    #[test]
    fn a_lockfile_without_the_relay_does_not_pass() {
        assert_eq!(places(&media_keys(&lock_of(&[("libc", &[])]))), ["tandem-relay"]);
    }
}
