//! The store of a PoP: what is critical about its calls, durable before anyone is told.
//!
//! Decides nothing about calls: it keeps records, refuses stale writes, and lets others follow; and it keeps the list of
//! relays and their table. The embedded backend is
//! one redb file in one process.

pub mod backend;
mod cache;
pub mod embedded;
mod file;
pub mod fleet;
mod follower;
mod index;
pub mod limits;
mod server;
mod writer;

pub use backend::{Backend, OpenError, WriteError};
pub use embedded::Embedded;
pub use server::StateServer;
pub use writer::Counters;
