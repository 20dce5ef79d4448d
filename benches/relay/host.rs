//! A relay over a store in the same process: this binary started with a hidden argument.
//!
//! Decides how it is driven: it makes calls in an embedded store, a file with an fsync for each group of commits, times
//! that, and then serves. Allocations are counted from outside, by the answers that clients get.
//!
//! Its secrets are constants: it listens on loopback and lives as long as the benchmark.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tandem_relay::{Config, Relay};
use tandem_state_client::Store;
use tandem_state_server::StateServer;
use tandem_wire::id::RelayId;
use tandem_wire::redact::Secret;
use tandem_wire::units::Wall;

use crate::calls::{self, POP};
use crate::process::Process;
use crate::{Failure, sys};

/// The hidden argument; the directory and the number of calls follow it.
pub(crate) const CHILD: &str = "--host-child";
const POP_SECRET: [u8; 32] = [0x50; 32];
const TICKET_SECRET: [u8; 32] = [0x54; 32];

/// The secret of the hosted relay's tickets, which have key 0.
pub(crate) fn ticket_secret() -> Secret {
    Secret::new(TICKET_SECRET.to_vec())
}

fn now() -> Wall {
    Wall::from_millis(sys::realtime() / 1_000_000)
}

/// What the child does: says how many commits a second the store makes, then its port, then serves until it is killed.
pub(crate) fn child(mut arguments: impl Iterator<Item = String>) -> Result<(), Failure> {
    let directory = PathBuf::from(arguments.next().ok_or("no directory")?);
    let count = arguments.next().ok_or("no number of calls")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let store: Arc<dyn Store> = StateServer::open(&directory.join("store.redb"), POP, now)?;
        let nanos = calls::create(&store, 0..count).await?;
        println!("{}", count as f64 * 1e9 / nanos as f64);
        let config = Config {
            entrance: tandem_relay::Entrance::Clients((Ipv4Addr::LOCALHOST, 0).into()),
            pop: POP,
            relay: RelayId(1),
            realm: "tndm".to_owned(),
            pop_secret: Secret::new(POP_SECRET.to_vec()),
            ticket_keys: vec![(0, ticket_secret())],
        };
        let relay = Relay::start(&config, store)?;
        if !relay.ready().await {
            return Err("the relay has ended".into());
        }
        println!("{}", relay.local_addr().port());
        std::future::pending().await
    })
}

/// A running host.
pub(crate) struct Host {
    pub(crate) process: Process,
    pub(crate) port: u16,
    /// Durable commits a second that its store made, by as many at once as a relay has under way.
    pub(crate) commits_per_second: f64,
}

/// Starts one with `calls` calls in its store.
pub(crate) fn start(cpu: usize, directory: &Path, calls: usize) -> Result<Host, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CHILD).arg(directory).arg(calls.to_string());
    let mut process = Process::start("host", command, cpu, directory)?;
    let commits_per_second = process.line()?.parse()?;
    let port = process.line()?.parse()?;
    Ok(Host { process, port, commits_per_second })
}
