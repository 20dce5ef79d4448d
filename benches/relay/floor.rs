//! The floor: a bare recvmmsg/sendmmsg forwarder in a process of its own, which is this binary started with a hidden
//! argument.
//!
//! Decides nothing: it shows what the kernel alone costs. What Tandem's own batches cost counts as Tandem's.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process::Command;

use crate::process::Process;
use crate::traffic::{Leg, Route};
use crate::{Failure, LEGS, sys};

/// The hidden argument.
pub(crate) const CHILD: &str = "--floor-child";
/// Every leg sends on this channel, which nobody looks at.
const CHANNEL: u16 = 0x4000;

/// What the child does.
pub(crate) fn child() -> Result<(), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    sys::large_buffers(&socket)?;
    println!("{}", socket.local_addr()?.port());
    Err(sys::forward_bare(&socket).into())
}

/// Starts it, and gives the way through it.
pub(crate) fn start(cpu: usize, directory: &Path) -> Result<(Process, Route), Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CHILD);
    let mut process = Process::start("floor", command, cpu, directory)?;
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, process.line()?.parse()?);
    let leg = Leg { channel: CHANNEL, expects: Some(CHANNEL), from: to };
    Ok((process, Route { to, legs: vec![leg; LEGS] }))
}
