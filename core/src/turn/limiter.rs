//! How many unauthenticated answers a source gets: a fixed table of counters, one second each.
//!
//! Decides by address, never by port, so that changing ports evades nothing (attack R28). Costs the same 256 KiB whether
//! one source sends or ten million do.

use core::hash::BuildHasher;
use core::net::IpAddr;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::Now;

use crate::limits;

/// One counter: which second it counts (its low 16 bits) and how many answers went out in it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    second: u16,
    answers: u16,
}

#[derive(Debug)]
pub(super) struct AnswerLimiter {
    counts: Box<[Count]>,
    hash: SeedableRandomState,
}

impl AnswerLimiter {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            counts: vec![Count::default(); limits::ANSWER_COUNTERS].into_boxed_slice(),
            hash: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
        }
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &[Count] {
        &self.counts
    }

    /// Whether `client` may have one more answer in this second; counts it if so.
    pub(super) fn allow(&mut self, now: Now, client: ClientAddr) -> bool {
        let network = match client.socket_addr().ip() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            // Bit 63 cannot stand in an IPv4 number: the two kinds do not meet.
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 | (1 << 63),
        };
        let slot = self.hash.hash_one(network) as usize % limits::ANSWER_COUNTERS;
        let second = (now.mono.as_nanos() / 1_000_000_000) as u16;
        let Some(count) = self.counts.get_mut(slot) else { return false };
        if count.second != second {
            *count = Count { second, answers: 0 };
        }
        if count.answers >= limits::ANSWERS_PER_SOURCE {
            return false;
        }
        count.answers += 1;
        true
    }
}
