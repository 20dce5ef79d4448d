//! Bytes: what our binaries and clients agree on, and nothing else.
//!
//! Decides how ids, tickets, signed statements, STUN/TURN messages and the tunnel's heads look on the wire. Leaves to others what they mean:
//! `tandem-core` decides over them, `tandem-net` moves them. Nothing here reads a clock, a socket or a random number, and
//! nothing here panics on bytes from the network.

pub mod id;
pub mod nonce;
pub mod party;
pub mod redact;
pub mod statement;
pub mod stun;
pub mod text;
pub mod ticket;
pub mod tunnel;
pub mod units;
