//! `cargo xtask test`: the one definition of "checked", run by people and CI alike.
//!
//! Decides which checks there are and in which order: cheap before dear, and what others need first. Leaves running and
//! counting to `step`.

use crate::child::Child;
use crate::step::{self, Done, Step};
use crate::{Trouble, place, tidy, tools, web};

const STEPS: &[Step] = &[
    Step { name: "tools", needs: &[], run: || tools::see_to(tools::TEST).map(passed) },
    Step { name: "tidy", needs: &[], run: || tidy::run().map(passed) },
    Step { name: "fmt", needs: &[], run: || Child::cargo("fmt", &["--all", "--check"]).run().map(passed) },
    Step { name: "npm", needs: &["tools"], run: || web::packages().map(passed) },
    Step { name: "web-build", needs: &["npm"], run: || web::build().map(passed) },
    Step { name: "web-check", needs: &["npm"], run: web_check },
    Step { name: "web-tests", needs: &["npm"], run: || reported(npm(&["test", "-w", "web"])) },
    Step { name: "clippy", needs: &["web-build"], run: clippy },
    Step { name: "doc", needs: &["web-build"], run: doc },
    Step { name: "build", needs: &["web-build"], run: build },
    Step { name: "tests", needs: &["build"], run: tests },
    Step { name: "doctests", needs: &["build"], run: doctests },
    Step { name: "deny", needs: &[], run: deny },
    Step { name: "e2e", needs: &["tools", "npm", "build"], run: e2e },
];

/// Runs all checks, or only those that are named.
pub(crate) fn run(named: &[&str]) -> Result<(), Trouble> {
    step::run(STEPS, named)
}

fn passed(_: ()) -> Done {
    Done::Passed(Vec::new())
}

fn npm(arguments: &[&str]) -> Child {
    Child::new("npm", arguments)
}

/// Runs a test runner and keeps what it says at its end.
fn reported(child: Child) -> Result<Done, Trouble> {
    match child.run_keeping(is_summary) {
        (kept, Ok(())) => Ok(Done::Passed(kept)),
        (kept, Err(Trouble::Failed(what))) => Ok(Done::Failed(kept, what)),
        (_, Err(other)) => Err(other),
    }
}

/// The closing lines of nextest, of cargo's own test runner and of vitest.
fn is_summary(line: &str) -> bool {
    let line = line.trim_start();
    let cargo = line.starts_with("test result: ") && !line.contains(" 0 passed; 0 failed;");
    cargo || ["Summary [", "Test Files  ", "Tests  "].iter().any(|start| line.starts_with(start))
}

fn web_check() -> Result<Done, Trouble> {
    // Both, so that a person sees the errors of both.
    let (page, harness) = (npm(&["run", "check", "-w", "web"]).run(), npm(&["run", "check", "-w", "e2e"]).run());
    page.and(harness).map(passed)
}

fn clippy() -> Result<Done, Trouble> {
    Child::cargo("clippy", &["--workspace", "--all-targets", "--", "-D", "warnings"]).run().map(passed)
}

fn doc() -> Result<Done, Trouble> {
    Child::cargo("doc", &["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run().map(passed)
}

fn build() -> Result<Done, Trouble> {
    // The product alone, as `cargo xtask dev` builds it: what it needs it must name itself, whatever the tests bring along.
    Child::cargo("check", &[]).run()?;
    // What tests and browsers run. With the features of `cargo test --workspace`, or all of it is compiled once more for each.
    Child::cargo("build", &["--workspace", "--bins", "--examples"]).run().map(passed)
}

fn tests() -> Result<Done, Trouble> {
    if Child::new(place::cargo(), &["nextest", "--version"]).quiet().is_none() {
        println!(
            "cargo-nextest is not installed: cargo's own runner does its work, without a time limit for each test"
        );
        return reported(Child::cargo("test", &["--workspace", "--lib", "--bins", "--tests"]));
    }
    let profile = if place::in_ci() { "ci" } else { "default" };
    reported(Child::cargo("nextest run", &["--workspace", "--profile", profile]))
}

fn doctests() -> Result<Done, Trouble> {
    reported(Child::cargo("test", &["--workspace", "--doc"]))
}

fn deny() -> Result<Done, Trouble> {
    if Child::new(place::cargo(), &["deny", "--version"]).quiet().is_none() {
        return Ok(Done::Skipped("cargo-deny is not installed (cargo install cargo-deny)".to_owned()));
    }
    Child::new(place::cargo(), &["deny", "--workspace", "check", "licenses", "bans", "sources"]).run()?;
    // Advisories need the network. `fetch` alone tells an unreachable database from a bad dependency.
    if Child::new(place::cargo(), &["deny", "fetch", "db"]).run().is_err() {
        println!("the advisory database cannot be reached: advisories are NOT checked");
        return Ok(Done::Passed(vec!["advisories not checked: their database cannot be reached".to_owned()]));
    }
    Child::new(place::cargo(), &["deny", "--workspace", "check", "advisories"]).run().map(passed)
}

fn e2e() -> Result<Done, Trouble> {
    let example = |name| place::target().join("debug/examples").join(name);
    reported(
        npm(&["test", "-w", "e2e"])
            .env("TANDEM_BIN", place::tandem("debug"))
            .env("TANDEM_ROBOT", example("webrtc_echo"))
            .env("TANDEM_CANARIES", example("canaries")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_each_runner_are_kept_and_nothing_else() {
        for kept in [
            "     Summary [   0.712s] 60 tests run: 60 passed, 0 skipped",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            " Test Files  2 passed (2)",
            "      Tests  7 passed (7)",
        ] {
            assert!(is_summary(kept), "{kept}");
        }
        for dropped in [
            "        PASS [   0.003s] (1/60) tandem-wire id::tests::an_id_reads_back",
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "Tests are named as sentences",
        ] {
            assert!(!is_summary(dropped), "{dropped}");
        }
    }

    #[test]
    fn a_step_needs_only_steps_that_come_before_it() {
        for (position, step) in STEPS.iter().enumerate() {
            for need in step.needs {
                assert!(STEPS[..position].iter().any(|earlier| earlier.name == *need), "{} needs {need}", step.name);
            }
        }
    }
}
