//! The whole life of a call, from outside: every ordering of nine events, and random ones against a naive model.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod model;
mod orders;
mod random;

use tandem_core::topology::{CallKind, Media, Placed};
use tandem_wire::id::{BucketId, CallId, PopId};
use tandem_wire::party::Party;
use tandem_wire::units::{Mono, Now, Wall};

/// Where tests begin.
const START_MS: u64 = 1_800_000_000_000;

fn party(account: &str, device: &str) -> Party {
    Party { account: account.parse().unwrap(), device: device.parse().unwrap() }
}

fn at(ms: u64) -> Now {
    Now { wall: Wall::from_millis(START_MS + ms), mono: Mono::from_nanos(ms * 1_000_000) }
}

fn placed(caller: &Party, callees: &[Party]) -> Placed {
    Placed {
        id: CallId::new(PopId(1), BucketId(7), 42),
        kind: CallKind::OneToOne,
        media: Media::Video,
        caller: caller.clone(),
        callees: callees.to_vec(),
        request: None,
    }
}
