//! Inside core: which module may use which, and what neither core nor wire may touch.
//!
//! Decides by the paths in their code. `topology` and `limits` are for all; any other module uses itself and those, so
//! that joining two deciders stays a service's job.

use std::collections::BTreeSet;

use super::Violation;
use super::rust_text::{code, line_of};
use super::tree::{File, Tree};

/// Modules of core that every other may use.
const FOR_ALL: &[&str] = &["topology", "limits"];
/// Parts of the standard library that know the time, the machine or the network. Addresses come from `core::net`.
const IMPURE: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread", "time"];

/// No module of core uses another one but those for all.
pub(super) fn check_arrows(tree: &Tree) -> Vec<Violation> {
    let modules: BTreeSet<&str> = tree.rust().filter_map(module).collect();
    let mut violations = Vec::new();
    if modules.is_empty() {
        violations.push(Violation::new("core/src", "has no modules: this check looks at the wrong place"));
    }
    for file in tree.rust() {
        let Some(own) = module(file) else { continue };
        let code = code(&file.text);
        let paths = names_after(&code, "crate").into_iter().chain(names_after(&code, "super"));
        for (at, name) in paths {
            let submodule = format!("core/src/{own}/{name}");
            let is_submodule = tree.rust().any(|other| other.path.starts_with(&submodule));
            if modules.contains(name) && name != own && !FOR_ALL.contains(&name) && !is_submodule {
                let what = format!("{own} uses {name}: joining the two is a service's job");
                violations.push(Violation::new(format!("{}:{}", file.path, line_of(&code, at)), what));
            }
        }
    }
    violations
}

/// Neither core nor wire uses what is impure.
pub(super) fn check_purity(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust().filter(|file| ["core/src/", "wire/src/"].iter().any(|dir| file.path.starts_with(dir))) {
        let code = code(&file.text);
        for (at, name) in names_after(&code, "std") {
            if IMPURE.contains(&name) {
                let what = format!("std::{name} is for others: it arrives as an argument here");
                violations.push(Violation::new(format!("{}:{}", file.path, line_of(&code, at)), what));
            }
        }
    }
    violations
}

/// The module of core that a file belongs to; lib.rs belongs to none.
fn module(file: &File) -> Option<&str> {
    let name = file.path.strip_prefix("core/src/")?.split('/').next()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (name != "lib").then_some(name)
}

/// The names that follow `root::` in paths, also in groups: `root::{one, two::three}` gives one and two.
fn names_after<'a>(code: &'a str, root: &str) -> Vec<(usize, &'a str)> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(root) {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        if before.is_some_and(is_word) {
            continue;
        }
        let after = at + root.len();
        let Some(rest) = code.get(after..).and_then(|rest| rest.trim_start().strip_prefix("::")) else {
            continue;
        };
        match rest.trim_start().strip_prefix('{') {
            None => names.push((at, word(rest))),
            Some(group) => names.extend(members(group).into_iter().map(|name| (at, name))),
        }
    }
    names
}

/// The first names of a group's members, up to its closing brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut names, mut start) = (0_usize, Vec::new(), 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.push(word(group.get(start..at).unwrap_or_default()));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> &str {
    let text = text.trim_start();
    text.find(|character| !is_word(character)).and_then(|end| text.get(..end)).unwrap_or(text)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted::{files, places};
    use super::*;

    #[test]
    fn a_decider_that_uses_another_is_found_in_every_spelling() {
        let tree = files(&[
            ("core/src/lib.rs", "//! A.\npub mod switch;\npub use crate::switch::Switch;\n"),
            ("core/src/limits.rs", "//! A.\n"),
            ("core/src/topology/mod.rs", "//! A.\nuse crate::limits;\n"),
            (
                "core/src/switch/mod.rs",
                "//! A, see [`crate::turn`].\nuse crate::topology::Call;\nuse crate::switch::table;\n",
            ),
            ("core/src/switch/table.rs", "//! A.\nuse super::super::turn::Gate;\n"),
            ("core/src/switch/leg.rs", "//! A.\n"),
            (
                "core/src/turn/mod.rs",
                "//! A.\n\nuse crate::{\n    limits,\n    topology::{self, Leg},\n    residency::Input,\n};\n",
            ),
            ("core/src/turn/leg.rs", "//! A.\nfn a() { super::leg::b() }\n"),
            ("core/src/residency.rs", "//! A.\nfn a(x: &crate::switch::Switch) {}\nuse super::turn;\n"),
        ]);
        assert_eq!(
            places(&check_arrows(&tree)),
            [
                "core/src/switch/table.rs:2",
                "core/src/turn/mod.rs:3",
                "core/src/residency.rs:2",
                "core/src/residency.rs:3",
            ]
        );
    }

    #[test]
    fn a_check_that_finds_no_modules_does_not_pass() {
        assert_eq!(places(&check_arrows(&files(&[("core/lib.rs", "//! A.\n")]))), ["core/src"]);
    }

    #[test]
    fn a_clock_or_a_file_in_core_or_wire_is_found() {
        let tree = files(&[
            ("core/src/a.rs", "//! A, never std::time.\nuse std::time::Instant;\nuse core::time::Duration;\n"),
            ("wire/src/b.rs", "//! B.\nuse std::{collections::BTreeMap, fs};\nuse std::sync::Arc;\n"),
            ("net/src/c.rs", "//! C.\nuse std::net::UdpSocket;\n"),
        ]);
        assert_eq!(places(&check_purity(&tree)), ["core/src/a.rs:2", "wire/src/b.rs:2"]);
    }
}
