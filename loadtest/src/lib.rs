//! The load test: simulated devices that call each other through a running Tandem, and a verdict over what they saw.
//!
//! Decides what is measured, how it is accounted for, and what passes. Each packet is numbered, timed, checksummed and
//! stamped with its call, so that loss, doubles, damage, packets of other calls, delay and gaps are known for every call.
//! Leaves calling to `tandem-client`, and starting what is tested to whoever starts this. docs/loadtest.md is its manual.
//!
//! It is a binary of its own, because the SDK opens what no server may open (docs/decisions/0009).

pub mod budget;
pub mod call;
pub mod clock;
pub mod device;
pub mod fault;
pub mod hold;
pub mod limits;
pub mod meter;
pub mod packet;
pub mod panel;
pub mod plan;
pub mod random;
pub mod report;
pub mod scenario;
pub mod stall;
pub mod stats;
pub mod stream;
pub mod text;
pub mod timeline;
pub mod verdict;
pub mod watch;
