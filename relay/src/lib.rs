//! A relay: forwards packets between the attached legs of a call, and can be killed and replaced without them noticing.
//!
//! Decides nothing: joins the deciders of `tandem-core` ([`engine`]) and gives them a socket, a store and a clock. Keeps
//! nothing on disk.

pub mod engine;
