//! Steering against relays that live, fall silent, lose, refuse and are replaced; and against a naive model of the same rules.
//!
//! Scenarios run twice: the second time the load balancer is replaced, right before what counts, by a new one that has the
//! table and the store's index, and no flow and no memory.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests")]

#[path = "tests/attacks.rs"]
mod attacks;
#[path = "tests/fates.rs"]
mod fates;
#[path = "tests/model.rs"]
mod model;
#[path = "tests/world.rs"]
mod world;
