//! Attacks on signaling, from its contract (docs/api.md): clients that lie, flood, stall, race and pry.
//!
//! Each test says in a sentence what holds, and names the attacks that it stands for. Time is real where the kernel's is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "a test says what it expects"
)]

mod bodies;
mod endorsements;
mod idempotency;
mod ids;
mod notes;
mod quotas;
mod races;
mod raw;
mod removal;
mod store_away;
mod strangers;
mod tokens;
mod world;
