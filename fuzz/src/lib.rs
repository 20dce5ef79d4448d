//! Fuzz targets: everything that reads bytes from the network, fed with what nobody would send.
//!
//! Decides what must hold for every input. Leaves making up inputs to libFuzzer (`cargo xtask fuzz`); the test suite
//! replays the corpus of every target, so that what was found once stays found.

pub mod script;
pub mod store;
pub mod targets;

#[cfg(test)]
mod seeds;

/// What a target is run with: any bytes. It panics when something that must hold does not.
pub type Target = fn(&[u8]);

/// Every target, by the name of its binary and its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("stun", targets::stun::run),
    ("ticket", targets::ticket::run),
    ("switch", targets::switch::run),
    ("engine", targets::engine::run),
    ("tunnel", targets::tunnel::run),
    ("steering", targets::steering::run),
    ("entrance", targets::entrance::run),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs a target on every file of its corpus; `Err` if there is none.
    fn replay(root: &Path, name: &str, target: Target) -> Result<usize, String> {
        let corpus = root.join(name);
        let entries = std::fs::read_dir(&corpus).map_err(|error| format!("corpus {name}: {error}"))?;
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in &files {
            // Shown only if the target panics: this is the input to look at.
            println!("{}", file.display());
            target(&std::fs::read(file).unwrap());
        }
        if files.is_empty() { Err(format!("corpus {name} is empty")) } else { Ok(files.len()) }
    }

    fn replay_by_name(name: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
        replay(&root, name, *target).unwrap();
    }

    #[test]
    fn the_corpus_of_stun_breaks_nothing() {
        replay_by_name("stun");
    }

    #[test]
    fn the_corpus_of_ticket_breaks_nothing() {
        replay_by_name("ticket");
    }

    #[test]
    fn the_corpus_of_switch_breaks_nothing() {
        replay_by_name("switch");
    }

    #[test]
    fn the_corpus_of_engine_breaks_nothing() {
        replay_by_name("engine");
    }

    #[test]
    fn the_corpus_of_tunnel_breaks_nothing() {
        replay_by_name("tunnel");
    }

    #[test]
    fn the_corpus_of_steering_breaks_nothing() {
        replay_by_name("steering");
    }

    #[test]
    fn the_corpus_of_entrance_breaks_nothing() {
        replay_by_name("entrance");
    }

    #[test]
    fn every_target_has_a_binary_and_every_binary_is_a_target() {
        let bins = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
        let mut bins: Vec<String> = std::fs::read_dir(bins)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        bins.sort();
        let mut names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(bins, names);
    }

    #[test]
    fn a_corpus_that_is_missing_or_empty_is_a_failure() {
        let root = std::env::temp_dir().join(format!("tandem-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(root.join("empty")).unwrap();
        assert!(replay(&root, "missing", |_| {}).is_err());
        assert!(replay(&root, "empty", |_| {}).is_err());
        std::fs::write(root.join("empty/one"), b"x").unwrap();
        assert_eq!(replay(&root, "empty", |data| assert_eq!(data, b"x")), Ok(1));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
