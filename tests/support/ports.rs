//! Ports for processes that are started later, or more than once.
//!
//! Decides where they lie: below those that the kernel gives to outgoing connections, and below those that `tandem dev` draws,
//! so that nothing takes one before its owner does. What one test has drawn no other draws, in whatever process, until it
//! ends: a socket in the abstract namespace stands for each.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::sync::Mutex;

const PORTS: Range<u16> = 10_000..20_000;

static DRAWN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

fn free(can_bind: impl Fn(SocketAddr) -> bool) -> SocketAddr {
    loop {
        let random = u16::try_from(getrandom::u32().unwrap() % u32::from(PORTS.end - PORTS.start)).unwrap();
        let port = PORTS.start + random;
        let name = Name::from_abstract_name(format!("tandem-test-port-{port}")).unwrap();
        let Ok(drawn) = UnixListener::bind_addr(&name) else { continue };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if can_bind(address) {
            DRAWN.lock().unwrap().push(drawn);
            return address;
        }
    }
}

/// A TCP port that nobody has.
pub(crate) fn free_tcp() -> SocketAddr {
    free(|address| TcpListener::bind(address).is_ok())
}

/// A UDP port that nobody has.
#[allow(dead_code, reason = "not every test has one")]
pub(crate) fn free_udp() -> SocketAddr {
    free(|address| UdpSocket::bind(address).is_ok())
}
