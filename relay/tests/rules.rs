//! The rules that clients live by, at a whole relay without its socket: what docs/protocol.md promises, and keeps when
//! the store is slow or away, when the relay dies, and when time passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

#[path = "rules/allocations.rs"]
mod allocations;
#[path = "rules/clients.rs"]
mod clients;
#[path = "rules/clocks.rs"]
mod clocks;
#[path = "rules/closed_world.rs"]
mod closed_world;
#[path = "rules/durability.rs"]
mod durability;
#[path = "rules/failover.rs"]
mod failover;
#[path = "rules/loading.rs"]
mod loading;
