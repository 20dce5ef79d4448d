//! Ports that stay the same over every restart of a child.
//!
//! Decides where they are looked for: below the range that the kernel gives to outgoing connections. A port inside it
//! could be taken by such a connection while its owner is down; one that tries to reach that very owner would even connect
//! to itself. None is given twice: of the twenty that a fleet draws, two would be the same once in sixty starts.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

use crate::limits;

/// Free ports begin here: above those of well-known services.
const LOWEST: u16 = 20_000;
/// Where the kernel's own range begins when it does not say so itself.
const OUTGOING: u16 = 32_768;

/// What has been given, and is not bound yet.
static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());

/// A free TCP port of `ip`.
pub(crate) fn free_tcp(ip: IpAddr) -> Result<SocketAddr, String> {
    free(ip, |address| TcpListener::bind(address).is_ok())
}

/// A free UDP port of `ip`.
pub(crate) fn free_udp(ip: IpAddr) -> Result<SocketAddr, String> {
    free(ip, |address| UdpSocket::bind(address).is_ok())
}

fn free(ip: IpAddr, can_bind: impl Fn(SocketAddr) -> bool) -> Result<SocketAddr, String> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let outgoing = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(OUTGOING);
    let span = outgoing.saturating_sub(LOWEST);
    if span == 0 {
        return Err(format!("no ports between {LOWEST} and the kernel's own range"));
    }
    for _ in 0..limits::PORT_TRIES {
        let random = getrandom::u32().map_err(|error| format!("no random numbers: {error}"))?;
        let port = LOWEST + u16::try_from(random % u32::from(span)).unwrap_or_default();
        let address = SocketAddr::new(ip, port);
        if can_bind(address) && GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(address) {
            return Ok(address);
        }
    }
    Err(format!("no free port on {ip} after {} tries", limits::PORT_TRIES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_not_offered() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let address = free_tcp(ip).unwrap();
        assert!((LOWEST..OUTGOING.max(LOWEST + 1)).contains(&address.port()) || address.port() > LOWEST);
        let tried = std::cell::Cell::new(0);
        let refuse = |_: SocketAddr| {
            tried.set(tried.get() + 1);
            false
        };
        assert!(free(ip, refuse).is_err());
        assert_eq!(tried.get(), limits::PORT_TRIES);
    }

    #[test]
    fn no_port_is_given_twice() {
        // As many as make a pair of the same all but certain where nobody minds.
        let given: Vec<SocketAddr> = (0..600).map(|_| free(IpAddr::from([127, 0, 0, 2]), |_| true).unwrap()).collect();
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len());
    }
}
