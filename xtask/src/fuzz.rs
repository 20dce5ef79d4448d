//! `cargo xtask fuzz`: made-up input for everything that reads bytes from the network.
//!
//! Decides how a target is built and for how long it runs. Leaves what is called to `fuzz/`, and making up input to
//! libFuzzer, which comes as a crate: neither cargo-fuzz nor a nightly compiler is needed.
//!
//! What a run finds worth keeping goes to the target directory; `--keep` brings the smallest set of it that reaches the
//! same code into `fuzz/corpus`, where `cargo xtask test` replays it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::child::Child;
use crate::{Trouble, place};

/// The host that we run on; naming it keeps the flags below away from build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What cargo-fuzz sets too: edges counted in eight bits each, their addresses, and the operands of comparisons.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
const SECONDS: u32 = 60;
/// The longest input: a whole datagram is never longer (65,507 bytes), and most of what is interesting is short.
const INPUT_LEN_MAX: &str = "-max_len=4096";
/// Longer than this for one input is a hang.
const INPUT_SECONDS_MAX: &str = "-timeout=5";

/// What is asked for on the command line.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    seconds: u32,
    keep: bool,
    targets: Vec<String>,
}

/// Builds and runs the targets, one after the other.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Trouble> {
    let wish = parse(arguments, &targets(&place::root().join("fuzz/src/bin")))?;
    let built = place::target().join("fuzz");
    build(&built)?;
    let mut crashed = Vec::new();
    for target in &wish.targets {
        let campaign = Campaign::of(&built, target)?;
        if campaign.run(wish.seconds)? {
            if wish.keep {
                campaign.keep()?;
            }
        } else {
            crashed.push(target.as_str());
        }
    }
    if crashed.is_empty() {
        return Ok(());
    }
    Err(Trouble::Failed(format!("crashed: {}. The inputs are under fuzz/artifacts", crashed.join(", "))))
}

/// The targets are the binaries of `fuzz/`.
fn targets(bins: &Path) -> Vec<String> {
    let mut names: Vec<String> = files(bins)
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

fn parse(arguments: &[&str], all: &[String]) -> Result<Wish, Trouble> {
    let mut wish = Wish { seconds: SECONDS, keep: false, targets: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--keep" => wish.keep = true,
            "--seconds" => {
                let seconds = rest.next().and_then(|seconds| seconds.parse().ok()).filter(|seconds| *seconds > 0);
                wish.seconds = seconds.ok_or_else(|| Trouble::Usage("--seconds wants a whole number".to_owned()))?;
            }
            name if all.iter().any(|target| target == name) => wish.targets.push(name.to_owned()),
            name => {
                return Err(Trouble::Usage(format!("there is no fuzz target {name}. There are: {}", all.join(" "))));
            }
        }
    }
    if wish.targets.is_empty() {
        wish.targets = all.to_vec();
    }
    Ok(wish)
}

fn build(into: &Path) -> Result<(), Trouble> {
    let into = into.to_string_lossy();
    let arguments = [
        "--package",
        "tandem-fuzz",
        "--bins",
        "--features",
        "libfuzzer",
        "--release",
        "--target",
        TARGET,
        "--target-dir",
        &into,
    ];
    Child::cargo("build", &arguments)
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        // Link-time optimization would make every change of a target a minute's wait.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .run()
}

/// One target, with its directories.
struct Campaign {
    target: String,
    binary: PathBuf,
    /// In the repository: replayed by the tests.
    corpus: PathBuf,
    /// In the target directory: what all runs have found here.
    found: PathBuf,
    artifacts: PathBuf,
}

impl Campaign {
    fn of(built: &Path, target: &str) -> Result<Self, Trouble> {
        let campaign = Self {
            target: target.to_owned(),
            binary: built.join(TARGET).join("release").join(target),
            corpus: place::root().join("fuzz/corpus").join(target),
            found: built.join("found").join(target),
            artifacts: place::root().join("fuzz/artifacts").join(target),
        };
        for dir in [&campaign.corpus, &campaign.found, &campaign.artifacts] {
            fs::create_dir_all(dir)
                .map_err(|error| Trouble::Failed(format!("{} cannot be made: {error}", dir.display())))?;
        }
        Ok(campaign)
    }

    /// Runs it for so long; whether it did not crash.
    fn run(&self, seconds: u32) -> Result<bool, Trouble> {
        println!("\n==> {}", self.target);
        let before = files(&self.found).len();
        let time = format!("-max_total_time={seconds}");
        let artifacts = format!("-artifact_prefix={}/", self.artifacts.display());
        let (found, corpus) = (self.found.to_string_lossy(), self.corpus.to_string_lossy());
        let (lines, result) = Child::new(
            &self.binary,
            &[
                &time,
                &artifacts,
                INPUT_LEN_MAX,
                INPUT_SECONDS_MAX,
                "-print_final_stats=1",
                "-verbosity=0",
                &found,
                &corpus,
            ],
        )
        .run_sifting(is_news, |line| line.starts_with("stat::"));
        let stat = |name| stat(&lines, name).unwrap_or(0);
        println!(
            "{}: {} executions, {} a second, {} new inputs",
            self.target,
            stat("number_of_executed_units"),
            stat("average_exec_per_sec"),
            files(&self.found).len().saturating_sub(before),
        );
        // A target that never ran is no proof of anything.
        match result {
            Ok(()) if stat("number_of_executed_units") == 0 => {
                Err(Trouble::Failed(format!("{} did not run a single input", self.target)))
            }
            Ok(()) => Ok(true),
            Err(_) => Ok(false),
        }
    }

    /// Merges what was found into the repository's corpus.
    fn keep(&self) -> Result<(), Trouble> {
        let (found, corpus) = (self.found.to_string_lossy(), self.corpus.to_string_lossy());
        let before = files(&self.corpus).len();
        let (_, result) =
            Child::new(&self.binary, &["-merge=1", INPUT_LEN_MAX, &corpus, &found]).run_keeping(|_| false);
        println!("{}: {} inputs kept", self.target, files(&self.corpus).len().saturating_sub(before));
        result
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// Not libFuzzer's dictionary, of which it prints hundreds of lines, nor its warnings about sanitizers that are not there.
fn is_news(line: &str) -> bool {
    !["\"", "######", "WARNING: Failed to find function", "stat::"].iter().any(|noise| line.starts_with(noise))
}

/// A number of libFuzzer's `-print_final_stats`.
fn stat(lines: &[String], name: &str) -> Option<u64> {
    lines
        .iter()
        .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<String> {
        vec!["stun".to_owned(), "ticket".to_owned()]
    }

    #[test]
    fn without_names_all_targets_run_for_a_minute() {
        let wish = parse(&[], &all()).unwrap();
        assert_eq!(wish, Wish { seconds: 60, keep: false, targets: all() });
    }

    #[test]
    fn seconds_and_targets_are_taken_and_what_is_unknown_is_refused() {
        let wish = parse(&["--seconds", "5", "ticket", "--keep"], &all()).unwrap();
        assert_eq!(wish, Wish { seconds: 5, keep: true, targets: vec!["ticket".to_owned()] });
        for bad in [&["--seconds"][..], &["--seconds", "0"], &["--seconds", "soon"], &["quic"], &["--jobs"]] {
            assert!(matches!(parse(bad, &all()), Err(Trouble::Usage(_))), "{bad:?}");
        }
    }

    #[test]
    fn libfuzzers_closing_numbers_are_read() {
        let lines = ["stat::number_of_executed_units: 123456", "stat::average_exec_per_sec:     2057"];
        let lines = lines.map(str::to_owned);
        assert_eq!(stat(&lines, "number_of_executed_units"), Some(123_456));
        assert_eq!(stat(&lines, "average_exec_per_sec"), Some(2_057));
        assert_eq!(stat(&lines, "peak_rss_mb"), None);
    }

    #[test]
    fn a_crash_is_news_and_a_dictionary_is_not() {
        assert!(is_news("thread '<unnamed>' panicked at fuzz/src/targets/stun.rs:1:1:"));
        assert!(is_news("artifact_prefix='fuzz/artifacts/stun/'; Test unit written to"));
        assert!(!is_news("\"\\000\\001\" # Uses: 12") && !is_news("###### Recommended dictionary. ######"));
    }

    #[test]
    fn the_targets_are_the_binaries_that_are_there() {
        assert!(targets(&place::root().join("fuzz/src/bin")).contains(&"stun".to_owned()));
    }
}
