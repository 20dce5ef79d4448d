//! `cargo xtask bench state`: durable commands a second at 1, 16 and 256 writers on the embedded store and on etcd, beside
//! plain puts of etcd in the same run; how long a restore of 3,000 calls takes, and how late a change is seen.
//!
//! Decides what is measured in which order: the ways interleave, round by round, and ratios are made within a round.
//! Nobody else should use the machine.
//!
//! The folder decides what is measured: a disk, or memory.
//!
//! ```text
//! cargo xtask bench state [--rounds 3] [--seconds 3] [--calls 3000] [--nodes 1,3] [--folder ../target]
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool at a terminal: it prints, and nobody depends on it"
)]

mod etcd;
mod load;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use etcd::Cluster;
use load::{Measured, POP};
use tandem_state_client::{BucketSet, RemoteStore, Store, grpc};
use tandem_state_server::StateServer;
use tandem_wire::redact::Secret;
use tandem_wire::units::Wall;
use tokio::time::Instant;

/// What went wrong, for the one who started us.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

const WRITERS: [usize; 3] = [1, 16, 256];

struct Args {
    rounds: usize,
    seconds: u64,
    calls: usize,
    nodes: Vec<usize>,
    folder: PathBuf,
}

impl Args {
    fn parse() -> Result<Self, Failure> {
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
        let mut args = Self { rounds: 3, seconds: 3, calls: 3_000, nodes: vec![1, 3], folder: target.into() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => args.rounds = value()?.parse()?,
                "--seconds" => args.seconds = value()?.parse()?,
                "--calls" => args.calls = value()?.parse()?,
                "--nodes" => args.nodes = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--folder" => args.folder = value()?.into(),
                "--bench" => {}
                other => return Err(format!("there is no {other}").into()),
            }
        }
        Ok(args)
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
            eprintln!("bench state: {error}");
            ExitCode::FAILURE
        }
    }
}

/// When the stores are made; nothing else depends on it.
fn now() -> Wall {
    Wall::from_secs(1_795_000_000)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One way of writing, over all rounds.
#[derive(Default)]
struct Way {
    per_second: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Way {
    fn add(&mut self, measured: &Measured) {
        self.per_second.push(measured.per_second);
        self.p50.push(measured.at(0.5));
        self.p99.push(measured.at(0.99));
    }

    fn print(&self, writers: usize, name: &str, of: &Self) {
        let ratios = self.per_second.iter().zip(&of.per_second).map(|(own, other)| own / other).collect();
        println!(
            "| {writers} | {name} | {:.0} | {:.2} | {:.2} | {:.2} |",
            median(self.per_second.clone()),
            median(self.p50.clone()),
            median(self.p99.clone()),
            median(ratios)
        );
    }
}

async fn measure(args: &Args) -> Result<(), Failure> {
    std::fs::create_dir_all(&args.folder)?;
    let folder = tempfile::tempdir_in(&args.folder)?;
    let path = folder.path().join("state.redb");
    let embedded: Arc<dyn Store> = StateServer::open(&path, POP, now)?;
    for nodes in &args.nodes {
        let cluster = Cluster::start(folder.path(), *nodes).await?;
        let server: Arc<dyn Store> = StateServer::connect(&cluster.config(), POP, now).await?;
        println!("\netcd with {nodes} nodes on this machine; medians of {} rounds of {} s", args.rounds, args.seconds);
        println!("| writers | | a second | p50 ms | p99 ms | of plain puts |\n|---|---|---|---|---|---|");
        for writers in WRITERS {
            let (mut file, mut ours, mut plain) = (Way::default(), Way::default(), Way::default());
            for _ in 0..args.rounds {
                file.add(&load::commands(&embedded, writers, args.seconds).await?);
                ours.add(&load::commands(&server, writers, args.seconds).await?);
                plain.add(&load::puts(cluster.client().await?, writers, args.seconds).await?);
            }
            file.print(writers, "embedded", &plain);
            ours.print(writers, "on etcd", &plain);
            plain.print(writers, "plain puts of etcd", &plain);
        }
        let other: Arc<dyn Store> = StateServer::connect(&cluster.config(), POP, now).await?;
        delay("on etcd, seen at the same state server", &load::watch_delay(&server, &server, args.seconds).await?);
        delay("on etcd, seen at another state server", &load::watch_delay(&server, &other, args.seconds).await?);
    }
    delay("embedded", &load::watch_delay(&embedded, &embedded, args.seconds).await?);
    drop(embedded);
    restore(args, folder.path()).await
}

fn delay(name: &str, measured: &Measured) {
    println!(
        "from asking for a command to its change, {name}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms of {}",
        measured.at(0.5),
        measured.at(0.99),
        measured.at(1.0),
        measured.took_ms.len()
    );
}

/// Stores with nothing but the calls in them.
async fn restore(args: &Args, folder: &Path) -> Result<(), Failure> {
    let path = folder.join("restore.redb");
    let store: Arc<dyn Store> = StateServer::open(&path, POP, now)?;
    load::fill(&store, args.calls).await?;
    drop(store);
    let (begun, store) = (Instant::now(), open_again(&path).await?);
    listed("embedded", args.calls, begun.elapsed(), store).await?;
    let cluster = Cluster::start(&folder.join("restore"), 1).await?;
    let store: Arc<dyn Store> = StateServer::connect(&cluster.config(), POP, now).await?;
    load::fill(&store, args.calls).await?;
    drop(store);
    let (begun, store) = (Instant::now(), StateServer::connect(&cluster.config(), POP, now).await?);
    listed("on etcd", args.calls, begun.elapsed(), store).await
}

/// The writer of the one before may still be ending.
async fn open_again(path: &Path) -> Result<Arc<StateServer>, Failure> {
    loop {
        match StateServer::open(path, POP, now) {
            Ok(store) => return Ok(store),
            Err(tandem_state_server::OpenError::InUse) => tokio::task::yield_now().await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn listed(name: &str, calls: usize, opened: Duration, store: Arc<StateServer>) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let secret = Secret::new(vec![7; 32]);
    let remote = RemoteStore::new(&format!("http://{}", listener.local_addr()?), &secret)?;
    let server = tokio::spawn(async move { grpc::serve(listener, store, &secret, std::future::pending()).await });
    // Once for the connection.
    remote.restore(&BucketSet::none()).await?;
    let mut took = Vec::new();
    for _ in 0..9 {
        let begun = Instant::now();
        let records = remote.restore(&BucketSet::all()).await?.entries.len();
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        if records != 3 * calls {
            return Err(format!("{records} records of {calls} calls").into());
        }
    }
    server.abort();
    println!(
        "{calls} calls with two legs, {name}: a state server has them {:.0} ms after its start, a client of it lists them in \
         {:.1} ms (median of 9)",
        opened.as_secs_f64() * 1e3,
        median(took)
    );
    Ok(())
}
