//! What steering counts: plain numbers of one thread, read by whoever publishes them.
//!
//! Decides what is counted. Leaves names, units and labels of metrics to `tandem-telemetry`.

use tandem_wire::units::Total;

/// Why a packet went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Dropped {
    /// An empty datagram.
    Empty,
    /// Cut short, longer than it says, or an attribute is wrong.
    Malformed,
    /// Of no protocol that is served, heads of our own tunnel among them.
    NotOurs,
    /// STUN that asks for nothing.
    NotRequest,
    /// Nothing in it says where it belongs, and nobody has proved to be at this address.
    UnknownSource,
    /// It pretends to come from a relay or from ourselves.
    OurOwnSource,
    /// With a head before it, it would be longer than any datagram that is taken.
    TooLong,
    /// There is no table yet, or nobody in it.
    NoTable,
    /// From a relay's address, and no head of the tunnel.
    NoHead,
    /// From a relay's address, with a cookie that is not the relay's.
    WrongCookie,
    /// From a relay, and neither a packet for a client nor an echo of a probe of ours.
    NotBack,
}

impl Dropped {
    /// How many reasons there are.
    pub const COUNT: usize = 11;
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets of clients that went to a relay.
    pub forwarded: Total,
    /// Those of them that went to another relay than their bucket's first.
    pub acting: Total,
    /// Packets of relays that went to a client.
    pub returned: Total,
    /// Probes sent.
    pub probes: Total,
    /// Echoes of them.
    pub echoes: Total,
    /// Relays taken for down: silent, refused, leaving, replaced, lossy.
    pub downs: [Total; 5],
    /// Times that relays fell silent through our own fault.
    pub freezes: Total,
    /// Pauses of our own in which nobody could be heard.
    pub pauses: Total,
    /// Packets dropped, by reason.
    pub dropped: [Total; Dropped::COUNT],
}

impl Counters {
    pub(super) fn drop(&mut self, why: Dropped) {
        if let Some(total) = self.dropped.get_mut(why as usize) {
            *total += 1;
        }
    }

    /// How many were dropped for a reason.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped.get(why as usize).copied().unwrap_or_default().get()
    }
}
