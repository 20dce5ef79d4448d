//! What the switch counts: plain numbers of one thread, read by whoever publishes them.
//!
//! Decides what is counted. Leaves names, units and labels of metrics to `tandem-telemetry`.

use tandem_wire::units::Total;

/// Declares the counters once: the enum, their number and their order.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One thing that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        impl Counter {
            /// All of them, in the order of [`Counters::totals`].
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
        }
    };
}

counters! {
    /// Forwarded: came on a channel, left on a channel.
    ChannelToChannel,
    /// Forwarded: came on a channel, left as a Data indication.
    ChannelToIndication,
    /// Forwarded: came as a Send indication, left on a channel.
    IndicationToChannel,
    /// Forwarded: came as a Send indication, left as a Data indication.
    IndicationToIndication,
    /// Bytes of payload that were forwarded.
    PayloadBytes,
    /// Dropped: media from an address that no allocation has.
    UnknownSource,
    /// Dropped: ChannelData on a channel that the allocation has not bound.
    UnknownChannel,
    /// Dropped: to an address inside the prefix where nobody is attached.
    NobodyThere,
    /// Dropped: to an address outside the virtual prefix.
    OutsidePrefix,
    /// Dropped: an empty datagram.
    Empty,
    /// Dropped: cut short, longer than it says, or an attribute is wrong.
    Malformed,
    /// Dropped: the first byte belongs to no protocol that is served on this port (RFC 7983).
    NotOurs,
    /// Dropped: a STUN message that asks for nothing: answers, and indications that are not Send.
    NotRequest,
    /// Dropped: its call sends more than a call may.
    OverRate,
    /// Dropped: no room in front of the packet for a longer header.
    NoHeadroom,
    /// Refused: an allocation for which the table has no room.
    TableFull,
}

/// Totals since the switch was made. They wrap, as counters do; nothing depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters([Total; Counter::COUNT]);

impl Default for Counters {
    fn default() -> Self {
        Self([Total::at(0); Counter::COUNT])
    }
}

impl Counters {
    /// Starts every counter at `value`: tests start them just below the wrap (attack X05).
    #[must_use]
    pub const fn starting_at(value: u64) -> Self {
        Self([Total::at(value); Counter::COUNT])
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&mut self, counter: Counter, n: u64) {
        if let Some(total) = self.0.get_mut(counter as usize) {
            *total += n;
        }
    }

    /// The total of one.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or_default().get()
    }

    /// All totals, in the order of [`Counter::ALL`].
    #[must_use]
    pub fn totals(&self) -> [u64; Counter::COUNT] {
        self.0.map(Total::get)
    }
}
