//! Tandem, set up to forward: each leg has one allocation with one channel, bound to the other leg of its call.
//!
//! Decides nothing about how it runs: `TANDEM_BIN` names the real binary; without it the relay is hosted (see `host`).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use tandem_wire::ticket::TicketKey;

use crate::client::Client;
use crate::process::Process;
use crate::traffic::{Leg, Route};
use crate::turn::Allocation;
use crate::{Failure, LEGS, WARM_UP_LEGS, calls, host, real, turn};

/// Set-ups at once.
const AT_ONCE: usize = 256;

/// A Tandem that forwards.
pub(crate) struct Tandem {
    pub(crate) relay: Process,
    /// The state server, where that is a process of its own.
    _store: Option<Process>,
    pub(crate) route: Route,
    /// Bytes of resident memory that each idle allocation took.
    pub(crate) bytes_per_allocation: f64,
    pub(crate) what: &'static str,
}

/// Starts it and sets all legs up.
pub(crate) fn start(cpu: usize, directory: &Path, client: &mut Client) -> Result<Tandem, Failure> {
    let calls = (LEGS + WARM_UP_LEGS) / 2;
    let (relay, store, port, secret, what) = match std::env::var_os("TANDEM_BIN") {
        Some(binary) => {
            let real = real::start(&binary, cpu, directory, calls)?;
            (real.relay, Some(real.store), real.port, real::ticket_secret(), "relay and state server, two processes")
        }
        None => {
            let host = host::start(cpu, directory, calls)?;
            (host.process, None, host.port, host::ticket_secret(), "relay and store in one process")
        }
    };
    let key = TicketKey::new(0, &secret)?;
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    set_up(client, to, &key, LEGS, WARM_UP_LEGS)?;
    let before = relay.resident()?;
    let allocations = set_up(client, to, &key, 0, LEGS)?;
    let bytes_per_allocation = relay.resident()?.saturating_sub(before) as f64 / LEGS as f64;
    drop(allocations);
    let legs = (0..LEGS).map(|n| Leg { channel: channel(n), expects: Some(channel(n)), from: to }).collect();
    Ok(Tandem { relay, _store: store, route: Route { to, legs }, bytes_per_allocation, what })
}

/// Neighbours have different numbers, so that a channel that is not rewritten shows.
fn channel(n: usize) -> u16 {
    0x4000 + (n % 0x1000) as u16
}

fn set_up(
    client: &mut Client,
    to: SocketAddrV4,
    key: &TicketKey,
    first: usize,
    count: usize,
) -> Result<Vec<Allocation>, Failure> {
    let mut allocations = calls::allocations(key, first..first + count)?;
    turn::allocate(client, to, first, &mut allocations, AT_ONCE)?;
    let addresses: Vec<_> = allocations.iter().map(|allocation| allocation.relayed).collect();
    turn::bind(client, to, first, &mut allocations, AT_ONCE, |n| Some((channel(n), addresses[n ^ 1]?)))?;
    Ok(allocations)
}
