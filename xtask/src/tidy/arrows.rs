//! Which crate may depend on which: binary → services → adapters → core → wire, and never sideways.
//!
//! Decides by the layer that a crate is given here. Leaves what a crate does with what it may use to its own review.

use super::Violation;
use super::tree::Tree;

/// From the bottom up. A crate depends on lower layers only, so that services meet in records and on the wire alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Wire,
    Core,
    Adapter,
    Service,
    /// The binary, and what drives services from outside. Nothing depends on these.
    Top,
    /// Builds before everything else, so it depends on nothing of ours.
    Chore,
}

/// Where each crate stands. A new crate is entered here first.
const LAYERS: &[(&str, Layer)] = &[
    ("tandem-wire", Layer::Wire),
    ("tandem-core", Layer::Core),
    ("tandem-auth", Layer::Adapter),
    ("tandem-seal", Layer::Adapter),
    ("tandem-net", Layer::Adapter),
    ("tandem-telemetry", Layer::Adapter),
    ("tandem-state-client", Layer::Adapter),
    ("tandem-state-server", Layer::Service),
    ("tandem-relay", Layer::Service),
    ("tandem-signaling", Layer::Service),
    ("tandem-router", Layer::Service),
    ("tandem-client", Layer::Service),
    ("tandem-lb", Layer::Service),
    ("tandem", Layer::Top),
    ("tandem-loadtest", Layer::Top),
    ("tandem-fuzz", Layer::Top),
    ("xtask", Layer::Chore),
];

/// What core may use from outside, and why it is harmless there. What reads clocks, sockets, files or randomness is not.
const CORE_MAY_USE: &[(&str, &str)] = &[
    ("foldhash", "hash tables keyed by a seed that arrives as an argument"),
    ("hashbrown", "hash tables that take such a hasher, without the standard library's random one"),
    ("serde", "records"),
    ("serde_json", "records"),
    ("thiserror", "errors"),
    ("proptest", "tests only"),
];

/// What opens sealed blobs, and who may use it: devices. A server that links it could read what it carries (attack X01,
/// property P8). Tests play devices.
const ONLY_DEVICES: &[(&str, &[&str])] = &[
    ("tandem-seal", &["tandem-client"]),
    ("hpke", &["tandem-seal"]),
    ("aes-gcm", &["tandem-seal"]),
    ("tandem-client", &["tandem-loadtest"]),
];

fn layer(name: &str) -> Option<Layer> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

/// Every arrow between our crates points down; those of tests too.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in &tree.packages {
        let Some(from) = layer(&package.name) else {
            violations.push(Violation::new(&package.name, "has no layer: give it one in xtask/src/tidy/arrows.rs"));
            continue;
        };
        for dependency in &package.dependencies {
            // A crate whose tests need more of itself than it gives by default depends on itself.
            let own = dependency.name == package.name;
            if own || !tree.packages.iter().any(|other| other.name == dependency.name) {
                continue;
            }
            if from == Layer::Chore || layer(&dependency.name).is_some_and(|to| to >= from) {
                let what = format!("depends on {}, which is not below it", dependency.name);
                violations.push(Violation::new(&package.name, what));
            }
        }
    }
    violations
}

/// No server can open what devices seal.
pub(super) fn sealing(tree: &Tree) -> Vec<Violation> {
    let uses = tree.packages.iter().flat_map(|package| package.dependencies.iter().map(move |used| (package, used)));
    uses.filter(|(_, used)| !used.dev)
        .filter_map(|(package, used)| {
            let (_, who) = ONLY_DEVICES.iter().find(|(name, _)| *name == used.name)?;
            let may = who.contains(&package.name.as_str());
            (!may).then(|| Violation::new(&package.name, format!("may not use {}: it is for devices", used.name)))
        })
        .collect()
}

/// core's dependencies are an explicit list.
pub(super) fn core_externals(tree: &Tree) -> Vec<Violation> {
    let Some(core) = tree.packages.iter().find(|package| package.name == "tandem-core") else {
        return vec![Violation::new("tandem-core", "is not in the workspace")];
    };
    let allowed = |name: &str, dev: bool| {
        name == "tandem-wire" || CORE_MAY_USE.iter().any(|(known, why)| *known == name && (dev || *why != "tests only"))
    };
    core.dependencies
        .iter()
        .filter(|dependency| !allowed(&dependency.name, dependency.dev))
        .map(|dependency| Violation::new("tandem-core", format!("may not use {}", dependency.name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted::{packages, places};
    use super::*;

    #[test]
    fn an_arrow_up_or_sideways_is_found_in_tests_too() {
        let tree = packages(&[
            ("tandem-wire", &["tandem-core"]),
            ("tandem-core", &["tandem-wire", "serde"]),
            ("tandem-net", &["tandem-core", "tandem-telemetry"]),
            ("tandem-telemetry", &["tandem-wire"]),
            ("tandem-relay", &["dev:tandem-state-server"]),
            ("tandem-state-server", &["tandem-net", "tandem-core"]),
            ("tandem", &["tandem-relay", "tandem-state-server"]),
            ("xtask", &["tandem-wire"]),
        ]);
        let violations = check(&tree);
        assert_eq!(places(&violations), ["tandem-wire", "tandem-net", "tandem-relay", "xtask"]);
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        assert_eq!(places(&check(&packages(&[("tandem-billing", &[])]))), ["tandem-billing"]);
    }

    #[test]
    fn a_server_that_could_open_what_devices_seal_is_found() {
        let tree = packages(&[
            ("tandem-client", &["tandem-seal"]),
            ("tandem-seal", &["hpke", "aes-gcm"]),
            ("tandem-signaling", &["tandem-seal"]),
            ("tandem-relay", &["aes-gcm"]),
            ("tandem", &["dev:tandem-client", "hpke"]),
        ]);
        assert_eq!(places(&sealing(&tree)), ["tandem-signaling", "tandem-relay", "tandem"]);
    }

    #[test]
    fn core_may_not_gain_a_crate_that_knows_the_time() {
        let tree = packages(&[("tandem-core", &["tandem-wire", "serde", "tokio", "proptest", "dev:proptest"])]);
        let violations: Vec<String> = core_externals(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(violations, ["tandem-core: may not use tokio", "tandem-core: may not use proptest"]);
        assert_eq!(places(&core_externals(&packages(&[]))), ["tandem-core"]);
    }
}
