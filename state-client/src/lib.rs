//! The store as everyone sees it: keys, the trait, and the remote client.
//!
//! Decides what every store means. Leaves durability to `tandem-state-server`'s backends, and what the records say to
//! `tandem-core::topology`.

pub mod buckets;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod follow;
pub mod grpc;
pub mod key;
pub mod limits;
pub mod load;
#[cfg(feature = "memory")]
pub mod memory;
pub mod store;
pub mod watch;

pub use buckets::{BucketSet, Kinds};
pub use follow::{Followed, follow};
pub use grpc::RemoteStore;
pub use key::{Key, KeyError};
pub use load::{Reports, SeenLoad};
pub use store::{AllocationRef, Change, Command, Entry, Event, Fault, Listing, Op, Store, StoreError};
pub use tandem_wire::id::Revision;
pub use watch::{Changes, Watch};
