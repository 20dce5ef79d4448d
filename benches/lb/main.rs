//! `cargo xtask bench lb`: what steering costs: packets a second on one core, each way, beside a bare forwarder that does the
//! same system calls and decides nothing, interleaved in one run; and how evenly buckets are shared out, and how many move.
//!
//! Decides what is measured in which order. Forwarders run on processor 0; this process, which is all clients and all relays
//! in one busy thread, on processor 1. Linux, two processors and a loopback interface are needed, and nobody else should use
//! the machine.
//!
//! ```text
//! cargo xtask bench lb [--rounds 5] [--seconds 1]
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    dead_code,
    reason = "a tool at a terminal: it prints, and a wrong index ends the measurement, which nobody depends on; and it shares \
              files with another one"
)]

#[path = "../relay/client.rs"]
mod client;
mod floor;
mod host;
#[path = "../relay/process.rs"]
mod process;
mod rows;
#[path = "../relay/sys.rs"]
mod sys;
mod traffic;

use std::path::Path;
use std::process::{Command, ExitCode};

use process::Process;
use traffic::{Way, World};

/// What went wrong, for the one who started us.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Bytes behind a head: a voice packet.
const PAYLOAD: usize = 172;
const FLOWS: [usize; 2] = [64, 2_000];
const RELAYS: [usize; 2] = [1, 4];
/// Before each measurement.
const WARM_UP_NS: u64 = 100_000_000;
const FORWARDER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;
const USAGE: &str = "usage: cargo xtask bench lb [--rounds N] [--seconds S]";

/// Who forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Floor,
    Tandem,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some(floor::CHILD) => floor::child(&arguments[1..]),
        Some(host::CHILD) => host::child(&arguments[1..]),
        // Test runners want to know what we are, and nothing else.
        _ if !arguments.iter().any(|argument| argument == "--bench") => Ok(()),
        _ => match options(&arguments) {
            Some((rounds, nanos)) => measure(rounds, nanos),
            None => {
                eprintln!("{USAGE}");
                return ExitCode::from(64);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark stops: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Option<(usize, u64)> {
    let (mut rounds, mut nanos) = (5, 1_000_000_000);
    let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
    while let Some(argument) = arguments.next() {
        let value = arguments.next()?;
        match argument.as_str() {
            "--rounds" => rounds = value.parse().ok().filter(|rounds| *rounds > 0)?,
            "--seconds" => {
                let seconds: f64 = value.parse().ok().filter(|seconds| (0.01..=600.0).contains(seconds))?;
                nanos = (seconds * 1e9) as u64;
            }
            _ => return None,
        }
    }
    Some((rounds, nanos))
}

/// One line of the result: its numbers of each round.
struct Line {
    relays: usize,
    flows: usize,
    way: Way,
    kind: Kind,
    ns: Vec<f64>,
    pps: Vec<f64>,
    lost: u64,
    wrong: u64,
}

fn measure(rounds: usize, nanos: u64) -> Result<(), Failure> {
    sys::catch_signals();
    sys::pin(GENERATOR_CPU)?;
    let directory = tempfile::Builder::new().prefix("tandem-bench-").tempdir()?;
    let mut lines = Vec::new();
    let mut worlds = Vec::new();
    for relays in RELAYS {
        for kind in [Kind::Floor, Kind::Tandem] {
            eprintln!("setting {kind:?} up with {relays} relays");
            let mut world = World::new(relays)?;
            let process = start(kind, &mut world, directory.path())?;
            worlds.push((relays, kind, world, process));
        }
    }
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for flows in FLOWS {
            for way in [Way::In, Way::Out] {
                for index in 0..worlds.len() {
                    // In another order each round, so that none always comes after the same one.
                    let count = worlds.len();
                    let (relays, kind, world, process) = &mut worlds[(index + round) % count];
                    world.run(way, flows, PAYLOAD, WARM_UP_NS)?;
                    let (cpu, at) = (process.cpu_ns()?, sys::monotonic());
                    let counts = world.run(way, flows, PAYLOAD, nanos)?;
                    let (cpu, wall) = (process.cpu_ns()? - cpu, sys::monotonic() - at);
                    process.check()?;
                    if sys::interrupted() {
                        return Err("interrupted".into());
                    }
                    let same = |line: &&mut Line| {
                        (line.relays, line.flows, line.way, line.kind) == (*relays, flows, way, *kind)
                    };
                    let line = match lines.iter_mut().find(same) {
                        Some(line) => line,
                        None => {
                            let (ns, pps) = (Vec::new(), Vec::new());
                            lines.push(Line { relays: *relays, flows, way, kind: *kind, ns, pps, lost: 0, wrong: 0 });
                            lines.last_mut().ok_or("no line")?
                        }
                    };
                    let received = counts.received as f64;
                    line.ns.push(cpu as f64 / received);
                    line.pps.push(received * 1e9 / cpu as f64);
                    line.lost += counts.lost;
                    line.wrong += counts.wrong;
                    let _ = wall;
                }
            }
        }
    }
    report(&lines);
    report_direct(&lines);
    rows::report();
    Ok(())
}

fn start(kind: Kind, world: &mut World, directory: &Path) -> Result<Process, Failure> {
    let (name, hidden) = match kind {
        Kind::Floor => ("floor", floor::CHILD),
        Kind::Tandem => ("tandem", host::CHILD),
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(hidden).arg(world.client_port().to_string()).arg(FLOWS[1].to_string());
    command.args(world.relay_ports()?.iter().map(ToString::to_string));
    let mut process = Process::start(name, command, FORWARDER_CPU, directory)?;
    // Relays must echo before a load balancer listens for long.
    world.public = Some(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, process.line()?.parse()?));
    world.meet()?;
    Ok(process)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(lines: &[Line]) {
    println!("| relays | flows | way | | ns of CPU a packet | packets/s a core | of the floor | lost | wrong |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut sorted: Vec<&Line> = lines.iter().collect();
    sorted.sort_by_key(|line| (line.relays, line.flows, line.way == Way::Out, line.kind == Kind::Tandem));
    for line in &sorted {
        let floor = sorted.iter().find(|other| {
            (other.relays, other.flows, other.way, other.kind) == (line.relays, line.flows, line.way, Kind::Floor)
        });
        let share = floor.map_or(f64::NAN, |floor| median(&line.pps) / median(&floor.pps));
        println!(
            "| {} | {} | {:?} | {:?} | {:.0} | {:.0} | {share:.2} | {} | {} |",
            line.relays,
            line.flows,
            line.way,
            line.kind,
            median(&line.ns),
            median(&line.pps),
            line.lost,
            line.wrong
        );
    }
}

/// What direct return spares the load balancer: a packet that goes in and is answered costs it both ways, or one.
fn report_direct(lines: &[Line]) {
    println!("\n| relays | flows | ns of CPU there and back, through the load balancer | with direct return | of it |");
    println!("|---|---|---|---|---|");
    for line in lines.iter().filter(|line| line.kind == Kind::Tandem && line.way == Way::In) {
        let back = lines.iter().find(|other| {
            (other.relays, other.flows, other.way, other.kind) == (line.relays, line.flows, Way::Out, line.kind)
        });
        let Some(back) = back else { continue };
        let (through, direct) = (median(&line.ns) + median(&back.ns), median(&line.ns));
        println!("| {} | {} | {through:.0} | {direct:.0} | {:.2} |", line.relays, line.flows, direct / through);
    }
}
