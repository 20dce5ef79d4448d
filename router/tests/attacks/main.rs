//! Attacks on the router, from its contract (docs/api.md): who knocks, what is said on a connection, and who is silent.
//!
//! What needs calls stands in the root package's tests, where both services meet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "a test says what it expects"
)]

mod calls;
mod door;
mod frames;
mod place;
mod presence;
mod sessions;
mod socket;
