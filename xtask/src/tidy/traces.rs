//! What has no place in a file of ours: paths of one machine, hosts of one registry, notes to self.
//!
//! Decides by words. What is looked for is written in two halves here, so that this file passes its own check.

use super::Violation;
use super::tree::{File, Tree};

/// Directories that are somebody's own.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/tm", "p/"),
];
/// Whose directory stands in an example.
const NOBODY: &str = "somebody/";
/// Hosts that serve packages: a name and a checksum are enough.
const REGISTRIES: &[&str] = &[
    concat!("registry.npm", "js.org"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("deb.deb", "ian.org"),
];
/// Work that was left for later belongs into an issue.
const NOTES: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!"), concat!("unimple", "mented!")];

/// No line of any file holds one of these.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    tree.files.iter().flat_map(in_file).collect()
}

fn in_file(file: &File) -> Vec<Violation> {
    let mut violations = Vec::new();
    // Checksums are no words.
    let checksums = file.path.ends_with("-lock.json");
    for (index, line) in file.text.lines().enumerate() {
        let mut found = |what: String| violations.push(Violation::new(format!("{}:{}", file.path, index + 1), what));
        for path in MACHINE_PATHS.iter().filter(|path| stands_alone(line, path, "/.")) {
            found(format!("{path} is a place on one machine"));
        }
        for host in REGISTRIES.iter().filter(|host| line.contains(**host)) {
            found(format!("{host} is one of many hosts"));
        }
        for note in NOTES.iter().filter(|note| !checksums && stands_alone(line, note, "")) {
            found(format!("{note}: finish it, or file an issue"));
        }
    }
    violations
}

/// Whether `word` is in the line without a letter, a digit or one of `others` right before it, or a letter after it.
fn stands_alone(line: &str, word: &str, others: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        let rest = line.get(at + word.len()..).unwrap_or_default();
        let after = rest.chars().next();
        let joined = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-' || others.contains(c));
        let continued = !word.ends_with(['/', '!']) && after.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !joined && !continued && !rest.starts_with(NOBODY)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted::{files, places};
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_found_and_a_relative_one_is_not() {
        let text = ["see `/ro-ot/x`", "e2e/wo-rk/x", "https://example.org/ho-me/x", "path=/tm-p/x", "../wo-rk/x"];
        let text = text.join("\n").replace("o-", "o").replace("m-", "m");
        assert_eq!(places(&check(&files(&[("a.md", &text)]))), ["a.md:1", "a.md:4"]);
    }

    #[test]
    fn a_registry_host_is_found() {
        let text = format!("\"x\": \"https://{}/x.tgz\"", REGISTRIES[0]);
        assert_eq!(places(&check(&files(&[("package-lock.json", &text)]))), ["package-lock.json:1"]);
    }

    #[test]
    fn a_note_to_self_is_found_and_a_checksum_is_not() {
        let text = format!("// {}: later\n// {}S are words\nfn a() {{ {}() }}\n", NOTES[0], NOTES[0], NOTES[2]);
        assert_eq!(places(&check(&files(&[("a.rs", &text)]))), ["a.rs:1", "a.rs:3"]);
        let checksum = format!("\"integrity\": \"sha512-+{}+\"", NOTES[0]);
        assert_eq!(places(&check(&files(&[("package-lock.json", &checksum)]))), Vec::<&str>::new());
    }
}
