//! Tidy: the rules of this house that no compiler knows, each a function from the tree to what breaks it.
//!
//! Decides which checks there are. Leaves each to the module of its noun. `cargo xtask tidy` runs them all, and so does
//! the test suite: once on the repository, and each on a planted violation, so that no check can pass by looking away.

mod arrows;
mod bans;
mod core_modules;
mod floors;
mod lock;
mod pages;
mod rust_text;
mod sizes;
mod traces;
mod tree;

use std::fmt;

use crate::{Trouble, place};
use tree::Tree;

/// One broken rule, and where.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    /// A file, with its line if there is one, or a crate.
    at: String,
    /// What is wrong, and what would be right.
    what: String,
}

impl Violation {
    fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

type Check = fn(&Tree) -> Vec<Violation>;

/// Every check, under the sentence that it holds.
const CHECKS: &[(&str, Check)] = &[
    ("crates depend downwards only", arrows::check),
    ("core uses the few crates that it may", arrows::core_externals),
    ("no server can open what devices seal", arrows::sealing),
    ("modules of core do not use one another", core_modules::check_arrows),
    ("core and wire touch no clock, file, socket or thread", core_modules::check_purity),
    ("the relay holds no media key", bans::media_keys),
    ("dependencies come from crates.io and npm, by name", lock::check),
    ("dependencies are not older than their last known hole", floors::check),
    ("every Rust file says first what it decides", rust_text::opens_with_docs),
    ("what is allowed says why", rust_text::allows_have_reasons),
    ("no file grows past its noun", sizes::check),
    ("no file names this machine or keeps notes to self", traces::check),
    ("the README has two commands, and CI runs the second", pages::commands),
    ("ARCHITECTURE.md lists the crates that there are", pages::crates),
    ("every invariant names a test that exists", pages::invariants),
];

/// Runs every check on the repository.
///
/// # Errors
/// [`Trouble::Failed`] when a rule is broken, after saying where.
pub(crate) fn run() -> Result<(), Trouble> {
    let tree = Tree::read(&place::root())?;
    let mut broken = 0_usize;
    for (name, check) in CHECKS {
        let violations = check(&tree);
        println!("{} {name}", if violations.is_empty() { "ok     " } else { "BROKEN " });
        violations.iter().for_each(|violation| println!("        {violation}"));
        broken += violations.len();
    }
    if broken == 0 { Ok(()) } else { Err(Trouble::Failed(format!("{broken} places break the rules above"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails with everything that breaks the check of this name.
    fn hold(name: &str) {
        let tree = Tree::read(&place::root()).unwrap();
        let (_, check) = CHECKS.iter().find(|(known, _)| *known == name).unwrap();
        let violations: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
    }

    /// A test for each check, so that the failing line names the rule; `every_check_has_its_test` counts them.
    macro_rules! holds {
        ($($test:ident: $name:literal,)*) => {
            $(#[test]
            fn $test() {
                hold($name);
            })*

            #[test]
            fn every_check_has_its_test() {
                let tested = [$($name),*];
                for (name, _) in CHECKS {
                    assert!(tested.contains(name), "{name}");
                }
            }
        };
    }

    holds! {
        crates_depend_downwards_only: "crates depend downwards only",
        core_uses_the_few_crates_that_it_may: "core uses the few crates that it may",
        no_server_can_open_what_devices_seal: "no server can open what devices seal",
        modules_of_core_do_not_use_one_another: "modules of core do not use one another",
        core_and_wire_touch_no_clock_file_socket_or_thread: "core and wire touch no clock, file, socket or thread",
        the_relay_holds_no_media_key: "the relay holds no media key",
        dependencies_come_from_crates_io_and_npm_by_name: "dependencies come from crates.io and npm, by name",
        dependencies_are_not_older_than_their_last_known_hole: "dependencies are not older than their last known hole",
        every_rust_file_says_first_what_it_decides: "every Rust file says first what it decides",
        what_is_allowed_says_why: "what is allowed says why",
        no_file_grows_past_its_noun: "no file grows past its noun",
        no_file_names_this_machine_or_keeps_notes_to_self: "no file names this machine or keeps notes to self",
        the_readme_has_two_commands_and_ci_runs_the_second: "the README has two commands, and CI runs the second",
        architecture_md_lists_the_crates_that_there_are: "ARCHITECTURE.md lists the crates that there are",
        every_invariant_names_a_test_that_exists: "every invariant names a test that exists",
    }
}
