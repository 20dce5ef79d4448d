//! Where a datagram may go: to an attached leg, or back to who asked. There is no other destination in these types.
//!
//! Decides nothing. Only the switch makes an [`Attached`]; which of a load balancer's addresses the datagram leaves from can be
//! said of a destination, and to whom it goes cannot.

use tandem_wire::redact::ClientAddr;

use super::Source;
use crate::topology::Transport;

/// Which of the load balancer's addresses a client spoke to, and in which epoch of the table: from one epoch to the next others
/// may have heard it speak to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Its number there.
    pub number: u8,
    /// The epoch.
    pub epoch: u32,
}

/// The address of an attached leg. Only the switch makes one, out of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    pub(super) source: Source,
    pub(super) listener: Option<Listener>,
}

/// A destination that the I/O shell may send to: an attached leg, or the source of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Egress {
    source: Source,
    listener: Option<Listener>,
}

impl Source {
    /// The address as a destination for the one thing that may be sent to an unattached address: the answer to a
    /// request that came from it.
    #[must_use]
    pub const fn reply(self) -> Egress {
        Egress { source: self, listener: None }
    }
}

impl From<Attached> for Egress {
    fn from(Attached { source, listener }: Attached) -> Self {
        Self { source, listener }
    }
}

impl Egress {
    /// Where to send, for the shell that sends.
    #[must_use]
    pub const fn client(self) -> ClientAddr {
        self.source.client
    }

    /// By which way it came in, and goes out.
    #[must_use]
    pub const fn transport(self) -> Transport {
        self.source.transport
    }

    /// Which address the client is to be answered from; `None`: it has not been heard to speak to any.
    #[must_use]
    pub const fn listener(self) -> Option<Listener> {
        self.listener
    }

    /// The same, to be answered from where the request came to.
    #[must_use]
    pub const fn by(self, listener: Option<Listener>) -> Self {
        Self { source: self.source, listener }
    }
}
