//! coturn as Debian ships it, with one relay thread: the peer that Tandem is compared with.
//!
//! Decides its options. Each leg has one allocation with one channel, bound to the other leg's own address: a packet goes
//! client to peer, once through the server. That is the cheapest way that coturn has to take a packet from one leg to
//! the other; with relay-only clients it would cross it twice.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process::Command;

use crate::client::Client;
use crate::process::Process;
use crate::traffic::{Leg, Route};
use crate::turn::{self, Allocation};
use crate::{Failure, LEGS, WARM_UP_LEGS, sys};

/// Set-ups at once: what fits its listener's socket buffer.
const AT_ONCE: usize = 64;
const USER: &str = "bench";
const PASSWORD: &str = "bench-password";
/// How long it may take to start.
const START_NS: u64 = 10_000_000_000;

/// What was found out about it while it was set up.
pub(crate) struct Coturn {
    pub(crate) process: Process,
    pub(crate) route: Route,
    /// Bytes of resident memory that each idle allocation took.
    pub(crate) bytes_per_allocation: f64,
}

/// Starts it and sets all legs up; `None` if it is not installed.
pub(crate) fn start(cpu: usize, directory: &Path, client: &mut Client) -> Result<Option<Coturn>, Failure> {
    let binary = std::env::var_os("COTURN_BIN").unwrap_or_else(|| "turnserver".into());
    if Command::new(&binary).arg("--version").output().is_err() {
        return Ok(None);
    }
    // Bound and let go: nobody else binds it in the moment between.
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let config = directory.join("turnserver.conf");
    let path = |name: &str| directory.join(name).display().to_string();
    let lines = [
        "listening-ip=127.0.0.1".to_owned(),
        "relay-ip=127.0.0.1".to_owned(),
        format!("listening-port={port}"),
        "min-port=10000".to_owned(),
        "max-port=30000".to_owned(),
        // One thread forwards, so that the comparison is core to core.
        "relay-threads=1".to_owned(),
        "allow-loopback-peers".to_owned(),
        "lt-cred-mech".to_owned(),
        "realm=bench".to_owned(),
        format!("user={USER}:{PASSWORD}"),
        "no-tcp".to_owned(),
        "no-tls".to_owned(),
        "no-dtls".to_owned(),
        "no-cli".to_owned(),
        "no-rfc5780".to_owned(),
        // Nothing is to expire while we measure.
        "stale-nonce=0".to_owned(),
        "channel-lifetime=86400".to_owned(),
        "permission-lifetime=86400".to_owned(),
        "no-stdout-log".to_owned(),
        "simple-log".to_owned(),
        format!("log-file={}", path("turnserver.log")),
        format!("pidfile={}", path("turnserver.pid")),
        format!("userdb={}", path("turndb")),
    ];
    fs::write(&config, lines.join("\n") + "\n")?;
    let mut command = Command::new(&binary);
    command.arg("-c").arg(&config);
    let mut process = Process::start("coturn", command, cpu, directory)?;
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    wait(&mut process, to)?;

    set_up(client, to, LEGS, WARM_UP_LEGS)?;
    let before = process.resident()?;
    let allocations = set_up(client, to, 0, LEGS)?;
    let bytes_per_allocation = process.resident()?.saturating_sub(before) as f64 / LEGS as f64;
    process.check()?;
    let legs = (0..LEGS)
        .map(|n| {
            let from = allocations[n ^ 1].relayed.ok_or("an allocation without an address")?;
            Ok(Leg { channel: channel(n), expects: None, from })
        })
        .collect::<Result<_, Failure>>()?;
    Ok(Some(Coturn { process, route: Route { to, legs }, bytes_per_allocation }))
}

fn channel(n: usize) -> u16 {
    0x4000 + (n % 0x1000) as u16
}

fn set_up(client: &mut Client, to: SocketAddrV4, first: usize, count: usize) -> Result<Vec<Allocation>, Failure> {
    let mut allocations: Vec<_> = (0..count).map(|_| Allocation::new(USER.to_owned(), PASSWORD.to_owned())).collect();
    turn::allocate(client, to, first, &mut allocations, AT_ONCE)?;
    let addresses: Vec<_> = (0..count).map(|n| client.address(first + (n ^ 1))).collect();
    turn::bind(client, to, first, &mut allocations, AT_ONCE, |n| Some((channel(n), addresses[n])))?;
    Ok(allocations)
}

/// Waits until it answers a Binding request: it says nothing when it is ready.
fn wait(process: &mut Process, to: SocketAddrV4) -> Result<(), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(std::time::Duration::from_millis(20)))?;
    let request = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let start = sys::monotonic();
    loop {
        process.check()?;
        let _ = socket.send_to(&request, to);
        if socket.recv(&mut [0; 512]).is_ok() {
            return Ok(());
        }
        if sys::monotonic() - start > START_NS || sys::interrupted() {
            return Err(process.failure("does not answer"));
        }
    }
}
