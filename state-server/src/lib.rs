//! The store of a PoP: what is critical about its calls, durable before anyone is told.
//!
//! Decides nothing about calls: it keeps records, refuses stale writes, and lets others follow; and it keeps the list of
//! relays and their table. The embedded backend is one redb file in one process; on etcd, several state servers serve one
//! store.

pub mod backend;
mod cache;
pub mod embedded;
pub mod etcd;
mod file;
pub mod fleet;
mod follower;
mod index;
pub mod limits;
mod loads;
mod server;
mod shared;
mod writer;

pub use backend::{Backend, OpenError, WriteError};
pub use embedded::Embedded;
pub use etcd::{EtcdConfig, EtcdTls};
pub use server::StateServer;
pub use shared::{Cause, Counters};

/// What tests outside and inside share calls us by our name.
#[cfg(test)]
extern crate self as tandem_state_server;
