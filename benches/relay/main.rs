//! `cargo bench -p tandem-relay --bench relay`: how fast a relay forwards, what delay and memory it costs, and how many
//! allocations a second it gives; beside a bare forwarder and coturn, interleaved in one run.
//!
//! Decides what is measured in which order. Forwarders run on processor 0, this process (generator and sink, one busy
//! thread) on processor 1. All servers stay up for the whole run. Linux, two processors and a loopback interface are
//! needed, coturn is measured if it is installed, and nobody else should use the machine.
//!
//! ```text
//! cargo bench -p tandem-relay --bench relay -- [--rounds 5] [--seconds 1] [--only forward,delay,memory,allocations] [--json]
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a tool at a terminal: it prints, and a wrong index ends the measurement, which nobody depends on"
)]

mod args;
mod calls;
mod client;
mod coturn;
mod floor;
mod host;
mod process;
mod real;
mod report;
mod sys;
mod tandem;
mod traffic;
mod turn;

use std::path::Path;
use std::process::ExitCode;

use tandem_wire::ticket::TicketKey;

use args::{Args, Part};
use client::Client;
use process::Process;
use report::{Delay, Report, Series, Throughput};
use traffic::{Counts, Route, Run, shuffled};

/// What went wrong, for the one who started us.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Legs that are set up at each forwarder: 1,000 calls.
pub(crate) const LEGS: usize = 2_000;
/// Legs that are set up before memory is measured, so that code and tables are there.
pub(crate) const WARM_UP_LEGS: usize = 1_024;
/// Payload bytes of ChannelData: a voice packet and a full video packet.
const PAYLOADS: [usize; 2] = [172, 1_100];
/// The fewer of them are 128 calls: what one call may send is bounded (`tandem_core::limits::CALL_BYTES_PER_SECOND`).
const FLOWS: [usize; 2] = [256, LEGS];
/// Packets a second at which delay is measured.
const LOADS: [u64; 3] = [20_000, 50_000, 100_000];
/// Before each measurement.
const WARM_UP_NS: u64 = 100_000_000;
/// Allocations of one round.
const ALLOCATIONS: usize = 20_000;
/// Allocations at once: as many as a relay has writes under way.
const ALLOCATIONS_AT_ONCE: usize = tandem_relay::limits::REQUESTS_UNDER_WAY;
const FORWARDER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;

/// A forwarder that is up and set up.
struct Forwarder {
    name: &'static str,
    process: Process,
    route: Route,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let result = match arguments.next().as_deref() {
        Some(floor::CHILD) => floor::child(),
        Some(host::CHILD) => host::child(arguments),
        _ => match Args::parse(std::env::args().skip(1)) {
            Ok(Some(args)) => measure(&args),
            Ok(None) => Ok(()),
            Err(message) => {
                eprintln!("{message}");
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

fn measure(args: &Args) -> Result<(), Failure> {
    sys::catch_signals();
    sys::pin(GENERATOR_CPU)?;
    let directory = tempfile::Builder::new().prefix("tandem-bench-").tempdir()?;
    let mut report = Report::default();
    let mut client = Client::new()?;
    if args.wants(Part::Forward) || args.wants(Part::Delay) || args.wants(Part::Memory) {
        let forwarders = start(args, directory.path(), &mut client, &mut report)?;
        if args.wants(Part::Forward) {
            forward(args, &forwarders, &mut client, &mut report)?;
        }
        if args.wants(Part::Delay) {
            delay(args, &forwarders, &mut client, &mut report)?;
        }
    }
    if args.wants(Part::Allocations) {
        allocations(args, directory.path(), &mut client, &mut report)?;
    }
    let text = report.text();
    if args.json {
        eprint!("{text}");
        println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        print!("{text}");
    }
    Ok(())
}

/// Starts the forwarders and sets them up.
fn start(args: &Args, directory: &Path, client: &mut Client, report: &mut Report) -> Result<Vec<Forwarder>, Failure> {
    let memory = args.wants(Part::Memory);
    let (process, route) = floor::start(FORWARDER_CPU, directory)?;
    let mut forwarders = vec![Forwarder { name: "floor", process, route }];
    eprintln!("setting Tandem up: {LEGS} allocations");
    let tandem = tandem::start(FORWARDER_CPU, directory, client)?;
    report.tandem = tandem.what;
    if memory {
        report.memory.push(("tandem", tandem.bytes_per_allocation));
    }
    forwarders.push(Forwarder { name: "tandem", process: tandem.relay, route: tandem.route });
    eprintln!("setting coturn up: {LEGS} allocations");
    match coturn::start(FORWARDER_CPU, directory, client)? {
        Some(coturn) => {
            if memory {
                report.memory.push(("coturn", coturn.bytes_per_allocation));
            }
            forwarders.push(Forwarder { name: "coturn", process: coturn.process, route: coturn.route });
        }
        None => eprintln!("coturn is not installed (apt-get install coturn): measured without it"),
    }
    Ok(forwarders)
}

/// The forwarders in another order each round, so that none always comes after the same one.
fn rotated(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |n| (n + round) % count)
}

fn interrupted() -> Result<(), Failure> {
    if sys::interrupted() { Err("interrupted".into()) } else { Ok(()) }
}

/// Full load: CPU time a packet.
fn forward(args: &Args, forwarders: &[Forwarder], client: &mut Client, report: &mut Report) -> Result<(), Failure> {
    for payload in PAYLOADS {
        for flows in FLOWS {
            for forwarder in forwarders {
                report.throughput.push(Throughput {
                    forwarder: forwarder.name,
                    payload,
                    flows,
                    cpu_ns: Series::default(),
                    pps: Series::default(),
                    busy: Series::default(),
                    counts: Counts::default(),
                });
            }
        }
    }
    let mut number = 0;
    for round in 0..args.rounds {
        eprintln!("full load: round {} of {}", round + 1, args.rounds);
        let mut rows = 0;
        for payload in PAYLOADS {
            for flows in FLOWS {
                let order = shuffled(flows);
                for index in rotated(forwarders.len(), round) {
                    let Forwarder { process, route, .. } = &forwarders[index];
                    number += 1;
                    let mut run = Run::new(client, route, &order, number, payload)?;
                    run.closed(WARM_UP_NS)?;
                    let (cpu, packets, at) = (process.cpu_ns()?, run.counts.received, sys::monotonic());
                    run.closed(args.nanos)?;
                    let cpu = (process.cpu_ns()? - cpu) as f64;
                    let packets = (run.counts.received - packets) as f64;
                    let wall = (sys::monotonic() - at) as f64;
                    let row = &mut report.throughput[rows + index];
                    row.counts.add(run.drain()?);
                    interrupted()?;
                    row.cpu_ns.push(cpu / packets);
                    row.pps.push(packets * 1e9 / wall);
                    row.busy.push(cpu / wall);
                }
                rows += forwarders.len();
            }
        }
    }
    Ok(())
}

/// Fixed loads: delay.
fn delay(args: &Args, forwarders: &[Forwarder], client: &mut Client, report: &mut Report) -> Result<(), Failure> {
    sys::time_stamps(&client.socket, true)?;
    let order = shuffled(LEGS);
    for pps in LOADS {
        for forwarder in forwarders {
            report.delay.push(Delay {
                forwarder: forwarder.name,
                pps,
                p50: Series::default(),
                p99: Series::default(),
                cpu_ns: Series::default(),
                counts: Counts::default(),
            });
        }
    }
    let mut number = 1 << 16;
    for round in 0..args.rounds {
        eprintln!("fixed load: round {} of {}", round + 1, args.rounds);
        for (block, pps) in LOADS.into_iter().enumerate() {
            for index in rotated(forwarders.len(), round) {
                let Forwarder { process, route, .. } = &forwarders[index];
                number += 1;
                let mut run = Run::new(client, route, &order, number, PAYLOADS[0])?;
                run.paced(pps, WARM_UP_NS, false)?;
                let (cpu, packets) = (process.cpu_ns()?, run.counts.received);
                run.paced(pps, args.nanos, true)?;
                let cpu = (process.cpu_ns()? - cpu) as f64;
                let packets = (run.counts.received - packets) as f64;
                let row = &mut report.delay[block * forwarders.len() + index];
                row.counts.add(run.drain()?);
                interrupted()?;
                run.delays.sort_unstable();
                let percentile = |p: usize| {
                    let at = run.delays.len() * p / 100;
                    run.delays.get(at).map_or(f64::NAN, |ns| f64::from(*ns))
                };
                row.p50.push(percentile(50));
                row.p99.push(percentile(99));
                row.cpu_ns.push(cpu / packets);
            }
        }
    }
    sys::time_stamps(&client.socket, false)?;
    Ok(())
}

/// Allocations a second. Every client has an address of its own: unauthenticated answers are limited per address.
fn allocations(args: &Args, directory: &Path, client: &mut Client, report: &mut Report) -> Result<(), Failure> {
    let key = TicketKey::new(0, &host::ticket_secret())?;
    for round in 0..args.rounds {
        eprintln!("allocations: round {} of {}", round + 1, args.rounds);
        let directory = tempfile::Builder::new().prefix("allocations-").tempdir_in(directory)?;
        let host = host::start(FORWARDER_CPU, directory.path(), (ALLOCATIONS + WARM_UP_LEGS) / 2)?;
        let server = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, host.port);
        let mut warm_up = calls::allocations(&key, ALLOCATIONS..ALLOCATIONS + WARM_UP_LEGS)?;
        turn::allocate(client, server, ALLOCATIONS, &mut warm_up, ALLOCATIONS_AT_ONCE)?;
        let mut clients = calls::allocations(&key, 0..ALLOCATIONS)?;
        let nanos = turn::allocate(client, server, 0, &mut clients, ALLOCATIONS_AT_ONCE)?;
        report.allocations_per_second.push(ALLOCATIONS as f64 * 1e9 / nanos as f64);
        report.commits_per_second.push(host.commits_per_second);
    }
    Ok(())
}
