//! Who has a connection: how many there are, and how many each source has.
//!
//! Decides when there is no place for one more. A place is given back when its last owner is gone: one that stays open
//! under another protocol (a WebSocket) keeps it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a request came from: an IPv4 address, or the /64 that an IPv6 address is in, since one subscriber has all of it.
/// It prints as `source[…]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// Of an address as the socket gave it.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("source[…]")
    }
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_source: HashMap<Source, usize>,
}

/// Who has as many connections as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All clients together.
    Server,
    /// The source of this one.
    Source,
}

/// The places of one server.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

/// A connection's place. It stands in the extensions of every request; who goes on with the connection keeps it.
#[derive(Debug)]
pub struct Place {
    source: Source,
    places: Places,
}

impl Place {
    /// Where the connection came from.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }
}

impl Places {
    /// A place for a connection from `source`.
    ///
    /// # Errors
    /// Who has too many.
    pub(super) fn take(&self, source: Source, all: usize, per_source: usize) -> Result<Arc<Place>, Full> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = taken.by_source.get(&source).copied().unwrap_or_default();
        if of_source >= per_source {
            return Err(Full::Source);
        }
        if taken.all >= all {
            return Err(Full::Server);
        }
        taken.all += 1;
        taken.by_source.insert(source, of_source + 1);
        Ok(Arc::new(Place { source, places: self.clone() }))
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        match taken.by_source.get_mut(&self.source) {
            Some(open) if *open > 1 => *open -= 1,
            _ => _ = taken.by_source.remove(&self.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_no_more_and_leaves_nothing_behind() {
        let places = Places::default();
        let source = |text: &str| Source::of(text.parse().unwrap());
        let one = places.take(source("192.0.2.1"), 3, 2).unwrap();
        let two = places.take(source("::ffff:192.0.2.1"), 3, 2).unwrap();
        assert_eq!(places.take(source("192.0.2.1"), 3, 2).unwrap_err(), Full::Source);
        let other = places.take(source("2001:db8::1"), 3, 2).unwrap();
        assert_eq!(places.take(source("2001:db8:0:1::1"), 3, 2).unwrap_err(), Full::Server);
        drop((one, two));
        assert_eq!(places.taken(), 1);
        let again = places.take(source("2001:db8::ffff"), 3, 2).unwrap();
        assert_eq!(places.take(source("2001:db8::2"), 3, 2).unwrap_err(), Full::Source, "the /64 is one source");
        drop((other, again));
        assert!(places.taken() == 0 && places.0.lock().unwrap().by_source.is_empty());
    }
}
