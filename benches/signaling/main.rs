//! `cargo xtask bench signaling`: how soon a call rings, how many calls a second can be set up beside what the store alone
//! makes durable, and what an idle device connection costs; with the real binary, three processes of it.
//!
//! Decides what is measured in which order. Ratios are made round by round, from runs a few seconds apart. Nobody else
//! should use the machine.
//!
//! ```text
//! cargo xtask bench signaling [--rounds 5] [--seconds 3] [--at-once 64] [--connections 19000] [--only setup,ring,memory,storm]
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a tool at a terminal: it prints, and a wrong index ends the measurement, which nobody depends on"
)]

mod cluster;
mod http;
mod idle;
mod load;
mod socket;

use std::process::ExitCode;

use cluster::Cluster;

/// What went wrong, for the one who started us.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Accounts that call, and accounts that are called: each pair calls once.
pub(crate) const ACCOUNTS: usize = 400;
/// Requests under way at once, each on a connection of its own; as many writes at once in the floor.
pub(crate) const AT_ONCE: usize = 64;
/// How long calls are placed that nobody answers, before rings are measured until those have run out; in seconds.
const STORM_SECONDS: u64 = 6;
/// As long as a ring lasts, and a little; in seconds.
const RING_LASTS: u64 = 55;
/// Calls a second at which the ring's delay is measured.
const RINGS_PER_SECOND: u64 = 100;

struct Args {
    rounds: usize,
    seconds: u64,
    connections: usize,
    at_once: usize,
    only: Vec<String>,
}

impl Args {
    fn parse() -> Result<Self, Failure> {
        let mut args = Self { rounds: 5, seconds: 3, connections: 19_000, at_once: AT_ONCE, only: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => args.rounds = value()?.parse()?,
                "--seconds" => args.seconds = value()?.parse()?,
                "--connections" => args.connections = value()?.parse()?,
                "--at-once" => args.at_once = value()?.parse()?,
                "--only" => args.only = value()?.split(',').map(str::to_owned).collect(),
                "--bench" => {}
                other => return Err(format!("there is no {other}").into()),
            }
        }
        Ok(args)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

fn main() -> ExitCode {
    let run = || -> Result<(), Failure> {
        let args = Args::parse()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(measure(&args))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench signaling: {error}");
            ExitCode::FAILURE
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

async fn measure(args: &Args) -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    println!("state server, signaling and router: release build, one process each, loopback");
    if args.wants("ring") {
        rings(&cluster, args.seconds * 3, "").await?;
    }
    // The rings of the set-ups run out 45 s later, all at once: what is measured after them is measured beside that.
    if args.wants("setup") {
        setups(args, &cluster).await?;
    }
    // Only where it is asked for: it takes a minute.
    if args.only.iter().any(|only| only == "storm") {
        let placed = load::setups(&cluster, STORM_SECONDS, args.at_once, 0).await?;
        let beside = format!(" beside {:.0} others that run out", placed * STORM_SECONDS as f64);
        rings(&cluster, RING_LASTS, &beside).await?;
    }
    if args.wants("memory") {
        idle::measure(&cluster, args.connections).await?;
    }
    Ok(())
}

async fn rings(cluster: &Cluster, seconds: u64, beside: &str) -> Result<(), Failure> {
    let delays = load::rings(cluster, RINGS_PER_SECOND, seconds).await?;
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    println!(
        "POST /v1/calls to the ring on the callee's socket, {RINGS_PER_SECOND} calls/s, {} calls{beside}: \
         p50 {p50:.2} ms, p99 {p99:.2} ms, max {:.2} ms (target: p99 under 20 ms: {})",
        delays.len(),
        at(1.0),
        verdict(p99 < 20.0)
    );
    Ok(())
}

/// Microseconds of CPU of each process for each of `count` things done.
fn each(before: [f64; 4], after: [f64; 4], count: f64) -> [f64; 4] {
    std::array::from_fn(|n| (after[n] - before[n]) * 1e6 / count.max(1.0))
}

async fn setups(args: &Args, cluster: &Cluster) -> Result<(), Failure> {
    let (mut floors, mut same, mut placed, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut floor_cpu, mut setup_cpu) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let at = cluster.cpu()?;
        let floor = load::floor(cluster, load::ONE_RECORD, args.seconds, args.at_once).await?;
        floor_cpu.push(each(at, cluster.cpu()?, floor * args.seconds as f64));
        let bare = load::floor(cluster, load::OF_A_CALL, args.seconds, args.at_once).await?;
        let at = cluster.cpu()?;
        let setups = load::setups(cluster, args.seconds, args.at_once, round).await?;
        setup_cpu.push(each(at, cluster.cpu()?, setups * args.seconds as f64));
        println!(
            "round {round}: store {floor:.0} writes/s, {bare:.0} writes/s of a call's records, calls placed {setups:.0}/s, \
             ratios {:.2} and {:.2}",
            setups / floor,
            setups / bare
        );
        floors.push(floor);
        same.push(setups / bare);
        placed.push(setups);
        ratios.push(setups / floor);
    }
    let ratio = median(ratios);
    println!(
        "call set-ups (POST /v1/calls answered, {} at once): {:.0}/s beside {:.0} bare durable writes/s of the store \
         over the same gRPC: {ratio:.2} of it (target 0.4: {}); {:.2} of bare writes of a call's four records",
        args.at_once,
        median(placed),
        median(floors),
        verdict(ratio >= 0.4),
        median(same)
    );
    for (what, cpu) in [("bare write", floor_cpu), ("call set-up", setup_cpu)] {
        let of = |n: usize| median(cpu.iter().map(|each| each[n]).collect());
        println!(
            "CPU of a {what}: state server {:.0} µs, signaling {:.0} µs, router {:.0} µs, this bench {:.0} µs",
            of(0),
            of(1),
            of(2),
            of(3)
        );
    }
    Ok(())
}
