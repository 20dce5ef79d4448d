//! Where packets are steered: the rows of a table of buckets.

pub mod rows;

pub use rows::{BUCKETS, Place, Rows};
