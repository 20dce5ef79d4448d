//! How long a file may grow before somebody asks which second noun lives in it.
//!
//! Decides by lines without tests. Tests may be as long as they need to be.

use super::Violation;
use super::tree::{File, Tree};

/// Lines of a file without its tests.
const LINES_MAX: usize = 400;

/// Files that may be longer, and why. An exception that is not needed any more is a violation too.
const EXCEPTIONS: &[(&str, &str)] =
    &[("state-client/src/conformance.rs", "a suite of tests, kept where the tests of every store can run it")];

/// No file is longer than it may be.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    check_with(tree, EXCEPTIONS)
}

fn check_with(tree: &Tree, exceptions: &[(&str, &str)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let excepted = |file: &File| exceptions.iter().any(|(path, _)| *path == file.path);
    for file in tree.files.iter().filter(|file| is_code(file)) {
        let lines = lines_without_tests(&file.text);
        if lines > LINES_MAX && !excepted(file) {
            let what = format!("{lines} lines without tests, over {LINES_MAX}: which second noun lives in it?");
            violations.push(Violation::new(&file.path, what));
        }
    }
    for (path, _) in exceptions {
        if tree.file(path).is_none_or(|file| lines_without_tests(&file.text) <= LINES_MAX) {
            violations.push(Violation::new(*path, "needs no exception any more"));
        }
    }
    violations
}

fn is_code(file: &File) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    let code = [".rs", ".ts", ".css", ".html"].iter().any(|end| name.ends_with(end));
    let tests = name == "tests.rs"
        || [".test.ts", ".interop.ts"].iter().any(|end| name.ends_with(end))
        || ["/tests/", "/benches/"].iter().any(|folder| format!("/{}", file.path).contains(folder));
    code && !tests
}

/// Up to the module of tests, which comes last.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| match pair {
        [first, second] => *first == "#[cfg(test)]" && second.contains("mod "),
        _ => false,
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted::{files, places};
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_found_and_tests_do_not_count() {
        let long = "line\n".repeat(LINES_MAX + 1);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}\n", "line\n".repeat(LINES_MAX));
        let tree = files(&[
            ("core/src/long.rs", &long),
            ("core/src/tested.rs", &tested),
            ("core/src/switch/tests.rs", &long),
            ("relay/tests/flood.rs", &long),
            ("web/src/long.ts", &long),
            ("e2e/src/call.test.ts", &long),
            ("docs/protocol.md", &long),
        ]);
        assert_eq!(places(&check_with(&tree, &[])), ["core/src/long.rs", "web/src/long.ts"]);
        assert_eq!(places(&check_with(&tree, &[("core/src/long.rs", "because")])), ["web/src/long.ts"]);
    }

    #[test]
    fn an_exception_that_is_not_needed_is_found() {
        let tree = files(&[("core/src/short.rs", "line\n")]);
        let violations = check_with(&tree, &[("core/src/short.rs", "was long"), ("core/src/gone.rs", "was there")]);
        assert_eq!(places(&violations), ["core/src/short.rs", "core/src/gone.rs"]);
    }
}
