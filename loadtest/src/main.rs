//! `tandem-loadtest`: the command line of the load test.
//!
//! Decides words, flags and exit codes: 0 passed, 1 failed, 2 nothing could be measured, 64 the command line or a file of it
//! is wrong. Leaves the rest to the library.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks on its terminal")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tandem_loadtest::budget::{self, Budget};
use tandem_loadtest::device::{Sources, Tokens, World};
use tandem_loadtest::panel::Panel;
use tandem_loadtest::plan::{Plan, span};
use tandem_loadtest::report::Report;
use tandem_loadtest::watch::{Registry, Who};
use tandem_loadtest::{limits, scenario, text, timeline};
use tandem_wire::id::CallId;
use tandem_wire::units::Span;

/// EX_USAGE of sysexits.h.
const EXIT_USAGE: u8 = 64;
const EXIT_NOT_MEASURED: u8 = 2;

/// Simulated devices that call each other through a running Tandem, and a verdict over what they saw.
#[derive(Debug, Parser)]
#[command(name = "tandem-loadtest", version, args_override_self = true)]
struct Arguments {
    /// Signaling: http://host:port.
    #[arg(long, value_name = "URL")]
    api: String,
    /// The router: <ws://host:port/v1/connect>.
    #[arg(long, value_name = "URL")]
    connect: String,
    /// Who gives tokens: `dev` (signaling with dev = true), or a file of lines `account device token`, two lines a call.
    #[arg(long, value_name = "dev|FILE", default_value = "dev")]
    tokens: String,
    /// Calls at once.
    #[arg(long, default_value_t = 200)]
    calls: usize,
    /// Calls that are placed when those stand, ring, and are accepted all at once by a fault with `do = "accept"`.
    #[arg(long, default_value_t = 0)]
    held: usize,
    /// How long they are watched once all stand.
    #[arg(long, value_parser = span, default_value = "60s")]
    duration: Span,
    /// Over how long they are placed. Without it and --rate: ten seconds for 200 calls.
    #[arg(long, value_parser = span, conflicts_with = "rate")]
    ramp: Option<Span>,
    /// Calls placed a second.
    #[arg(long)]
    rate: Option<u32>,
    /// Bytes of a packet: 20 ms of sound and its RTP header are 172.
    #[arg(long, default_value_t = 172)]
    packet_bytes: usize,
    /// Packets a second of each leg.
    #[arg(long, default_value_t = 50)]
    pps: u32,
    /// Where devices come from, in turn: an address, two with a dash between them, or a network as in 127.8.0.0/28.
    #[arg(long, value_name = "ADDRESSES")]
    source: Option<Sources>,
    /// What is done meanwhile: a timeline, TOML or JSON (docs/loadtest.md).
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// What there may be of each figure: a name (whole, planned, store-away, relay-killed, relay-hung, lb-killed) or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "whole")]
    budget: String,
    /// Where the report goes as JSON; `-` is stdout, and the words go to stderr then.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the ids of all calls are written, one a line, when all stand.
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Decides accounts, the order of calls and what fills packets. Two processes at once need two.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A call that hears nothing for so long at the end is lost.
    #[arg(long, value_parser = span, default_value = "2s")]
    silence: Span,
    /// A process to watch and to signal, by its pid or a file that holds it. May be repeated.
    #[arg(long, value_name = "NAME=PID|FILE", value_parser = watched)]
    watch: Vec<(String, Who)>,
    /// The page of `tandem dev`: its processes are watched, and faults may be posted to it.
    #[arg(long, value_name = "URL")]
    dev: Option<String>,
}

fn watched(text: &str) -> Result<(String, Who), String> {
    let (name, who) = text.split_once('=').ok_or("not of the form name=pid")?;
    if name.is_empty() || name.parse::<u32>().is_ok() {
        return Err("a name is not empty, and no number".to_owned());
    }
    let who = who.parse().map_or_else(|_| Who::File(who.into()), Who::Pid);
    Ok((name.to_owned(), who))
}

/// What the command line names.
struct Asked {
    plan: Plan,
    world: World,
    registry: Arc<Registry>,
    panel: Option<Panel>,
    budget: Budget,
    json: Option<PathBuf>,
    ids: Option<PathBuf>,
}

fn read(flag: &str, path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).and_then(|file| file.take(limits::FILE_BYTES).read_to_string(&mut text));
    file.map(|_| text).map_err(|error| format!("{flag} {}: {error}", path.display()))
}

impl Arguments {
    fn asked(self) -> Result<Asked, String> {
        let tokens = if self.tokens == "dev" {
            Tokens::Dev
        } else {
            let listed = Tokens::read(&read("--tokens", self.tokens.as_ref())?);
            listed.map_err(|error| format!("--tokens: {error}"))?
        };
        let budget = match budget::named(&self.budget) {
            Some(budget) => budget,
            None if Path::new(&self.budget).is_file() => {
                let own = budget::read(&read("--budget", self.budget.as_ref())?);
                own.map_err(|error| format!("--budget: {error}"))?
            }
            None => return Err(format!("--budget: neither a file nor one of {}", budget::names())),
        };
        let faults = match &self.faults {
            Some(path) => timeline::read(&read("--faults", path)?).map_err(|error| format!("--faults: {error}"))?,
            None => Vec::new(),
        };
        let ramp = match (self.ramp, self.rate) {
            (Some(ramp), _) => ramp,
            (None, Some(0)) => return Err("--rate: at least 1".to_owned()),
            (None, rate) => Span::from_millis(1_000 * self.calls as u64 / u64::from(rate.unwrap_or(20))),
        };
        let Self { calls, held, duration, pps, packet_bytes, silence, seed, api, connect, .. } = self;
        let plan = Plan { calls, held, duration, ramp, pps, packet_bytes, silence, seed, faults };
        plan.check()?;
        let world = World { api, connect, tokens, sources: self.source.unwrap_or_default(), seed };
        let all = calls + held;
        world.party(2 * all - 1).map_err(|error| format!("--tokens: {error} for {all} calls"))?;
        let panel = self.dev.as_deref().map(Panel::new);
        Ok(Asked {
            plan,
            world,
            registry: Arc::new(Registry::new(self.watch)),
            panel,
            budget,
            json: self.json,
            ids: self.ids,
        })
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout, mistakes to stderr; who closed those does not want to hear.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let asked = match arguments.asked() {
        Ok(asked) => asked,
        Err(error) => return complain(&error, EXIT_USAGE),
    };
    let to_stdout = asked.json.as_deref() == Some(Path::new("-"));
    let report = match measure(&asked) {
        Ok(report) => report,
        Err(error) => return complain(&error, EXIT_NOT_MEASURED),
    };
    let words = text::text(&report);
    if to_stdout {
        eprint!("{words}")
    } else {
        print!("{words}")
    }
    if let Some(path) = &asked.json
        && let Err(error) = write(path, to_stdout, &report)
    {
        return complain(&format!("--json {}: {error}", path.display()), EXIT_NOT_MEASURED);
    }
    if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(path: &Path, to_stdout: bool, report: &Report) -> std::io::Result<()> {
    let json = serde_json::to_vec_pretty(report)?;
    if to_stdout {
        return std::io::stdout().lock().write_all(&[&json[..], b"\n"].concat());
    }
    std::fs::write(path, json)
}

fn measure(asked: &Asked) -> Result<Report, String> {
    // Two threads read packets: one that is kept from its core does not keep the other from its packets.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let Asked { plan, world, registry, panel, budget, ids, .. } = asked;
    let say = |words: &str| eprintln!("loadtest: {words}");
    let stand = |calls: &[CallId]| {
        let Some(path) = ids else { return };
        let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
        if let Err(error) = std::fs::write(path, lines) {
            eprintln!("loadtest: --ids {}: {error}", path.display());
        }
    };
    let run = scenario::run(plan, world.clone(), Arc::clone(registry), panel.clone(), say, stand);
    let measured = runtime.block_on(run).map_err(|error| error.to_string())?;
    Ok(Report::of(plan, measured, budget))
}

fn complain(error: &dyn std::fmt::Display, exit: u8) -> ExitCode {
    eprintln!("tandem-loadtest: {error}");
    ExitCode::from(exit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    const HERE: [&str; 5] = ["tandem-loadtest", "--api", "http://a:1", "--connect", "ws://a:2/v1/connect"];

    fn asked(more: &[&str]) -> Result<Asked, String> {
        Arguments::try_parse_from(HERE.iter().chain(more)).map_err(|error| error.to_string())?.asked()
    }

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_ramp_is_given_by_its_length_or_by_a_rate() {
        let ramp = |more: &[&str]| asked(more).map(|asked| asked.plan.ramp.as_millis());
        assert_eq!(ramp(&[]), Ok(10_000));
        assert_eq!(ramp(&["--ramp", "3s"]), Ok(3_000));
        assert_eq!(ramp(&["--rate", "100"]), Ok(2_000));
        assert!(ramp(&["--rate", "100", "--ramp", "1s"]).is_err());
        assert!(ramp(&["--rate", "0"]).is_err());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_flag() {
        for (more, flag) in [
            (&["--budget", "no-such"][..], "--budget"),
            (&["--faults", "no/such/file"], "--faults"),
            (&["--tokens", "no/such/file"], "--tokens"),
            (&["--watch", "relay"], "--watch"),
            (&["--watch", "7=7"], "--watch"),
            (&["--source", "x"], "--source"),
            (&["--duration", "60"], "--duration"),
            (&["--calls", "0"], "--calls"),
        ] {
            let error = asked(more).err().unwrap_or_default();
            assert!(error.contains(flag), "{more:?}: {error}");
        }
    }
}
