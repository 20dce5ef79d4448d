//! Packets through the relay: TURN over UDP (RFC 8489, RFC 8656), from the client's side.
//!
//! [`session`] decides what is asked and when, without a socket or a clock; [`allocation`] gives it both, and is a socket in the
//! call for apps with a stack of their own; [`transport`] is the way to the one other device, built on it.

mod allocation;
mod answer;
mod frame;
mod place;
mod session;
mod transport;

pub use allocation::{Allocation, Counts};
pub use transport::TurnTransport;

/// Why there is no way through the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// No server was named, or none that speaks UDP.
    #[error("no relay that speaks UDP was named")]
    NoServer,
    /// No socket can be opened.
    #[error("no socket can be opened")]
    Socket,
    /// The relay does not answer.
    #[error("the relay does not answer")]
    Silent,
    /// The relay refuses, with this code of RFC 8489 or RFC 8656.
    #[error("the relay refuses: {0}")]
    Refused(u16),
    /// The relay answered something that cannot be.
    #[error("the relay's answer cannot be understood")]
    Unreadable,
    /// No packet goes out yet: the other device's address is not known, or not bound.
    #[error("the other device's address is not known yet")]
    NotConnected,
    /// A packet is larger than [`crate::limits::PAYLOAD_BYTES`], or [`crate::limits::DATAGRAM_PAYLOAD_BYTES`].
    #[error("{0} bytes are more than a packet may have")]
    TooLarge(usize),
    /// The other device has moved too often for one transport.
    #[error("too many channels")]
    Channels,
    /// It is closed.
    #[error("it is closed")]
    Closed,
}
