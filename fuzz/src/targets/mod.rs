//! The targets, one for each thing that reads bytes from the network.
//!
//! Each says in its own words what must hold whatever it is given.

pub mod engine;
pub mod entrance;
pub mod steering;
pub mod stun;
pub mod switch;
pub mod ticket;
pub mod tunnel;
