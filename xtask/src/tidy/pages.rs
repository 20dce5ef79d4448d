//! The pages that people read first: what they say must be so.
//!
//! Decides that the README's commands, the list of crates and the tests that hold the invariants are those that there
//! are. Leaves the rest of the words to their readers.

use std::collections::BTreeSet;

use super::Violation;
use super::tree::Tree;

const README: &str = "README.md";
const CI: &str = ".ci/run";
const ARCHITECTURE: &str = "ARCHITECTURE.md";
const COMMANDS: [&str; 2] = ["cargo xtask dev", "cargo xtask test"];

fn text<'a>(tree: &'a Tree, path: &str) -> &'a str {
    tree.file(path).map(|file| file.text.as_str()).unwrap_or_default()
}

/// The README shows exactly the two commands, and CI does nothing but the second.
pub(super) fn commands(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut inside = false;
    let mut shown = Vec::new();
    for line in text(tree, README).lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside && !line.trim().is_empty() {
            shown.push(line.split(" #").next().unwrap_or(line).trim());
        }
    }
    if shown != COMMANDS {
        violations.push(Violation::new(README, format!("shows {shown:?}, not exactly {COMMANDS:?}")));
    }
    let quiet = |line: &&str| line.is_empty() || ["#", "set ", "cd "].iter().any(|start| line.starts_with(start));
    let run: Vec<&str> = text(tree, CI).lines().map(str::trim).filter(|line| !quiet(line)).collect();
    let [_, test] = COMMANDS;
    if run != [test] {
        violations.push(Violation::new(CI, format!("runs {run:?}, not exactly {test:?}")));
    }
    violations
}

/// The rows of the tables under a heading: the cells of each.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    page.lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect()
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The list of crates is the workspace.
pub(super) fn crates(tree: &Tree) -> Vec<Violation> {
    let rows = rows(text(tree, ARCHITECTURE), "## Crates");
    let listed: BTreeSet<&str> = rows.iter().filter_map(|row| quoted(row.first()?).next()).collect();
    let there: BTreeSet<&str> = tree.packages.iter().map(|package| package.name.as_str()).collect();
    let missing = there.difference(&listed).map(|name| format!("does not list {name}"));
    let gone = listed.difference(&there).map(|name| format!("lists {name}, which is no crate"));
    missing.chain(gone).map(|what| Violation::new(ARCHITECTURE, what)).collect()
}

/// Every invariant names at least one test, and each of them exists: a Rust test by its function, one of the harness by
/// its sentence.
pub(super) fn invariants(tree: &Tree) -> Vec<Violation> {
    let rows = rows(text(tree, ARCHITECTURE), "## Invariants");
    let numbered = |row: &&Vec<&str>| row.first().is_some_and(|cell| cell.parse::<u32>().is_ok());
    let invariants: Vec<&Vec<&str>> = rows.iter().filter(numbered).collect();
    if invariants.is_empty() {
        return vec![Violation::new(ARCHITECTURE, "lists no invariants")];
    }
    let mut violations = Vec::new();
    for row in invariants {
        let number = row.first().copied().unwrap_or_default();
        let tests: Vec<&str> = row.last().into_iter().flat_map(|cell| quoted(cell)).collect();
        if tests.is_empty() {
            violations.push(Violation::new(ARCHITECTURE, format!("invariant {number} names no test")));
        }
        for test in tests.iter().filter(|test| !exists(tree, test)) {
            violations.push(Violation::new(ARCHITECTURE, format!("invariant {number} names {test:?}: no such test")));
        }
    }
    violations
}

fn exists(tree: &Tree, test: &str) -> bool {
    let (function, sentence) = (format!("fn {test}("), format!("\"{test}\""));
    // A function in a file of tests, or a line of `holds!`, which makes one of it.
    let made = format!("        {test}: \"");
    let tests = ["#[test]", "#[tokio::test"];
    let rust = |text: &str| {
        text.contains(&function) && tests.iter().any(|kind| text.contains(kind))
            || text.contains("holds! {") && text.contains(&made)
    };
    tree.files.iter().any(|file| {
        if file.is_rust() { rust(&file.text) } else { file.path.ends_with(".ts") && file.text.contains(&sentence) }
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted::{files, packages, places};
    use super::*;

    const GOOD_README: &str = "# A\n```sh\ncargo xtask dev     # starts it\ncargo xtask test\n```\nSee `cargo doc`.\n";
    const GOOD_CI: &str = "#!/usr/bin/env bash\nset -eu\ncd \"$(dirname \"$0\")/..\"\ncargo xtask test\n";

    #[test]
    fn a_third_command_or_another_one_in_ci_is_found() {
        let found = |readme: &str, ci: &str| {
            let violations = commands(&files(&[(README, readme), (CI, ci)]));
            places(&violations).iter().map(|place| (*place).to_owned()).collect::<Vec<_>>()
        };
        assert!(found(GOOD_README, GOOD_CI).is_empty());
        let third = GOOD_README.replace("cargo xtask test", "cargo xtask test\nnpm ci");
        assert_eq!(found(&third, GOOD_CI), [README]);
        assert_eq!(found(GOOD_README, &GOOD_CI.replace("xtask test", "test")), [CI]);
        assert_eq!(found(GOOD_README, &GOOD_CI.replace("set -eu", "npm ci")), [CI]);
        assert_eq!(places(&commands(&files(&[]))), [README, CI]);
    }

    #[test]
    fn a_crate_that_is_not_listed_and_one_that_is_gone_are_found() {
        let mut tree = files(&[(
            ARCHITECTURE,
            "## Crates\n| crate | decides |\n|---|---|\n| `a` | x |\n| `c` | y |\n## Next\n| `b` |\n",
        )]);
        tree.packages = packages(&[("a", &[]), ("b", &[])]).packages;
        let violations: Vec<String> = crates(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(violations, ["ARCHITECTURE.md: does not list b", "ARCHITECTURE.md: lists c, which is no crate"]);
    }

    #[test]
    fn an_invariant_without_a_test_that_exists_is_found() {
        let page = "## Invariants\n| # | what | held by |\n|---|---|---|\n| 1 | x | `a_holds`, `the call goes on` |\n\
                    | 2 | y | soon |\n| 3 | z | `nobody_wrote_it` |\n| 4 | z | `a_helper` |\n";
        let tree = files(&[
            (ARCHITECTURE, page),
            ("core/src/a.rs", "#[test]\nfn a_holds() {}\n"),
            ("core/src/b.rs", "fn a_helper() {}\n"),
            ("e2e/src/call.test.ts", "test(\"the call goes on\", async () => {});\n"),
        ]);
        let violations: Vec<String> = invariants(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            violations,
            [
                "ARCHITECTURE.md: invariant 2 names no test",
                "ARCHITECTURE.md: invariant 3 names \"nobody_wrote_it\": no such test",
                "ARCHITECTURE.md: invariant 4 names \"a_helper\": no such test",
            ]
        );
        assert_eq!(places(&invariants(&files(&[]))), [ARCHITECTURE]);
    }
}
