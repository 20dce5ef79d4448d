//! The life of a call, proved from the specification alone: docs/api.md, the architecture's sections on state and on a call.
//!
//! Decides what a call must look like from outside. Leaves how the code goes about it aside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

mod clocks;
mod lives;
mod orders;
mod story;
mod tellings;

use std::collections::BTreeSet;

use tandem_core::call::{What, pushes};
use tandem_core::topology::{Call, CallCommand, CallKind, EndReason, Media, Placed};
use tandem_wire::id::{BucketId, CallId, PopId};
use tandem_wire::party::Party;
use tandem_wire::units::{Mono, Now, Span, Wall};

/// The caller.
const A: usize = 0;
/// Another device of the caller's account.
const A2: usize = 1;
/// The callee's devices.
const B: [usize; 3] = [2, 3, 4];
/// How many there are.
const CAST: usize = 8;

const NAMES: [(&str, &str); CAST] = [
    ("alice", "dev_a"),
    ("alice", "dev_a2"),
    ("bob", "dev_b1"),
    ("bob", "dev_b2"),
    ("bob", "dev_b3"),
    // Strangers to the call: one whose device is called like the callee's first one, one of another name, and a device of
    // the callee's account that it does not ring at, called like the caller's.
    ("mallory", "dev_b1"),
    ("eve", "dev_e"),
    ("bob", "dev_a"),
];

fn cast() -> [Party; CAST] {
    NAMES.map(|(account, device)| Party { account: account.parse().unwrap(), device: device.parse().unwrap() })
}

fn number(cast: &[Party], party: &Party) -> usize {
    cast.iter().position(|other| other == party).expect("one of the cast")
}

/// `mono` ms after the machine's start, when the wall clock shows `wall` ms.
fn now(mono: u64, wall: u64) -> Now {
    Now { mono: Mono::default().after(Span::from_millis(mono)), wall: Wall::from_millis(wall) }
}

fn id(n: u128) -> CallId {
    CallId::new(PopId(1), BucketId(9), n)
}

/// The caller calls the callee's first `n` devices.
fn place(cast: &[Party], n: usize) -> CallCommand {
    CallCommand::Place(Placed {
        id: id(1),
        kind: CallKind::OneToOne,
        media: Media::Audio,
        caller: cast[A].clone(),
        callees: B[..n].iter().map(|b| cast[*b].clone()).collect(),
        request: None,
    })
}

/// What a device is told, by its name in the API.
type Telling = (usize, String);

fn wire(cast: &[Party], what: What<'_>) -> String {
    match what {
        What::Offer => "offer".to_owned(),
        What::Ringing(d) => format!("ringing d{}", number(cast, d)),
        What::Accepted(leg, d) => format!("accepted leg{} d{}", leg.get(), number(cast, d)),
        What::AnsweredElsewhere => "answered_elsewhere".to_owned(),
        What::Busy(d) => format!("rejected busy d{}", number(cast, d)),
        What::Cancelled => "cancelled".to_owned(),
        What::LegJoined { leg, party, rejoined } => {
            format!("leg_joined leg{} d{}{}", leg.get(), number(cast, party), if rejoined { " again" } else { "" })
        }
        What::LegLeft(leg, d) => format!("leg_left leg{} d{}", leg.get(), number(cast, d)),
        What::Ended(reason) => format!("ended {}", text(reason)),
    }
}

fn text(reason: EndReason) -> String {
    serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned()
}

/// What is told, as a set; nothing may be told twice at once.
fn told(cast: &[Party], old: Option<&Call>, new: &Call) -> BTreeSet<Telling> {
    let list: Vec<_> = pushes(old, new).iter().map(|p| (number(cast, p.to), wire(cast, p.what))).collect();
    let set: BTreeSet<_> = list.iter().cloned().collect();
    assert_eq!(set.len(), list.len(), "told twice at once: {list:?}");
    set
}

/// Whether this says to a device that was rung that the ring is over for it.
fn is_last_word(what: &str) -> bool {
    what == "answered_elsewhere" || what == "cancelled" || what.starts_with("ended")
}

fn devices<'a>(cast: &[Party], parties: impl Iterator<Item = &'a Party>) -> BTreeSet<usize> {
    let list: Vec<_> = parties.map(|party| number(cast, party)).collect();
    let set: BTreeSet<_> = list.iter().copied().collect();
    assert_eq!(set.len(), list.len(), "one device twice: {list:?}");
    set
}
