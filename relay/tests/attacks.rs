//! The attack catalogue against a relay: each test sends what its row says and holds what docs/protocol.md gives for it.
//!
//! The relay is whole but for its socket, so that every answer, every silence and every byte can be looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

#[path = "attacks/addresses.rs"]
mod addresses;
#[path = "attacks/bounds.rs"]
mod bounds;
#[path = "attacks/media.rs"]
mod media;
#[path = "attacks/proof.rs"]
mod proof;
#[path = "attacks/replies.rs"]
mod replies;
#[path = "attacks/words.rs"]
mod words;
