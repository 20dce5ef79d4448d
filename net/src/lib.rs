//! Touches the network and the clock, decides nothing.
//!
//! Gives batches of UDP datagrams (recvmmsg, sendmmsg), a way to wait for several sockets and to wake a thread that waits, and
//! the time.
//! Leaves to `tandem-core` what becomes of a datagram. Linux only.

pub mod batch;
pub mod clock;
pub mod poll;
pub mod socket;
mod sys;
