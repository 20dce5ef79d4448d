//! `cargo xtask bench failover`: what calls notice of each fault of a PoP, 200 of the SDK and then one between Chromiums.
//!
//! Decides what is built and in which network it runs: one of its own, where a link can be cut. Leaves faults and figures to
//! the load test's bench and to `e2e/src/failover.measure.ts`.

use crate::child::Child;
use crate::namespaces::{PREFIX, fed, remove_leftovers};
use crate::{Trouble, place, tools, web};

/// Of each fault unless `--runs` says otherwise: with five a run of all would take too long.
const CHROMIUM_RUNS: &str = "3";

/// What may be asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words<'a> {
    /// Both parts if neither is named.
    sdk: bool,
    chromium: bool,
    /// For the bench of the SDK's calls.
    rest: Vec<&'a str>,
    runs: Option<&'a str>,
    only: Option<&'a str>,
}

impl<'a> Words<'a> {
    fn read(arguments: &[&'a str]) -> Result<Self, Trouble> {
        let mut words = Self::default();
        let mut given = arguments.iter().copied();
        while let Some(word) = given.next() {
            match word {
                "--only-sdk" => words.sdk = true,
                "--only-chromium" => words.chromium = true,
                _ => {
                    let value = given.next().ok_or_else(|| Trouble::Usage(format!("{word} needs a value")))?;
                    match word {
                        "--runs" => words.runs = Some(value),
                        "--only" => words.only = Some(value),
                        _ => {}
                    }
                    words.rest.extend([word, value]);
                }
            }
        }
        if !words.sdk && !words.chromium {
            (words.sdk, words.chromium) = (true, true);
        }
        Ok(words)
    }
}

/// A network namespace with nothing in it but a loopback. It goes when this is dropped.
struct OwnNetwork(String);

impl OwnNetwork {
    fn make() -> Result<Self, String> {
        for tool in [tools::IP, tools::NFT] {
            if !tool.is_there() {
                return Err(format!("{} is not installed", tool.program));
            }
        }
        if !tools::is_root() {
            return Err("only root makes one".to_owned());
        }
        remove_leftovers()?;
        let name = format!("{PREFIX}{}-bench", std::process::id());
        fed("ip", &["netns", "add", &name], "")?;
        let network = Self(name);
        fed("ip", &["-n", &network.0, "link", "set", "lo", "up"], "")?;
        Ok(network)
    }
}

impl Drop for OwnNetwork {
    fn drop(&mut self) {
        // What cannot be removed is a leftover for the next one.
        let _ = fed("ip", &["netns", "delete", &self.0], "");
    }
}

/// A program, in the network of its own if there is one.
fn inside(network: Option<&OwnNetwork>, program: &str, arguments: &[&str]) -> Child {
    let Some(OwnNetwork(name)) = network else { return Child::new(program, arguments) };
    let all: Vec<&str> = ["netns", "exec", name, program].iter().chain(arguments).copied().collect();
    // The benches cut links only where they are told that it is theirs.
    Child::new("ip", &all).env("TANDEM_BENCH_NETNS", name)
}

/// Builds a release, and measures.
///
/// # Errors
/// [`Trouble::Usage`] for a word without its value; what fails to build or to run. A breach is no error: it is printed.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Trouble> {
    let words = Words::read(arguments)?;
    tools::see_to(&[tools::PROTOC, tools::PROTOS, tools::NODE, tools::NPM, tools::ETCD, tools::ETCDCTL])?;
    web::packages()?;
    web::build()?;
    Child::cargo("build", &["--release"]).run()?;
    let network = OwnNetwork::make();
    if let Err(why) = &network {
        println!("no network of our own, so no link is cut: {why}");
    }
    let network = network.as_ref().ok();
    let tandem = place::tandem("release");
    if words.sdk {
        let bench = ["--package", "tandem-loadtest", "--bench", "failover"];
        Child::cargo("bench", &[&bench[..], &["--no-run"]].concat()).run()?;
        let kept = place::target().join("failover").display().to_string();
        let all = [&["bench"], &bench[..], &["--", "--keep", &kept], &words.rest].concat();
        println!("{}", machine());
        inside(network, &place::cargo(), &all).env("TANDEM_BIN", &tandem).run()?;
    }
    if words.chromium && !tools::CHROMIUM.is_there() {
        println!("chromium is not installed: the call between Chromiums is left out");
    } else if words.chromium {
        println!("{}", machine());
        let npm = inside(network, "npm", &["run", "--silent", "failover", "-w", "e2e"]).env("TANDEM_BIN", &tandem);
        let npm = npm.env("TANDEM_FAILOVER_RUNS", words.runs.unwrap_or(CHROMIUM_RUNS));
        npm.env("TANDEM_FAILOVER_ONLY", words.only.unwrap_or("")).run()?;
    }
    Ok(())
}

/// What figures of this machine are worth: a line for docs/benchmarks.md.
fn machine() -> String {
    let said = |program: &str, arguments: &[&str]| {
        Child::new(program, arguments).quiet().map_or("?".to_owned(), |text| text.trim().to_owned())
    };
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let changed = if said("git", &["status", "--porcelain", "-uno"]).is_empty() { "" } else { " and changes" };
    format!(
        "\n{}, {cores} cores ({}), Linux {}, commit {}{changed}, release build.",
        said("date", &["-u", "+%F %H:%M UTC"]),
        model.unwrap_or("?"),
        said("uname", &["-r"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_run_unless_one_is_named_and_each_gets_its_words() {
        let both = Words::read(&["--runs", "20", "--calls", "50"]).unwrap();
        assert_eq!((both.sdk, both.chromium, both.runs, both.only), (true, true, Some("20"), None));
        assert_eq!(both.rest, ["--runs", "20", "--calls", "50"]);
        let one = Words::read(&["--only-chromium", "--only", "relay"]).unwrap();
        assert_eq!((one.sdk, one.chromium, one.only), (false, true, Some("relay")));
        assert!(matches!(Words::read(&["--runs"]), Err(Trouble::Usage(_))));
    }

    #[test]
    fn the_machine_is_named_by_what_figures_depend_on() {
        let line = machine();
        assert!(!line.contains('?') && line.contains("Linux ") && line.contains("commit "), "{line}");
    }
}
