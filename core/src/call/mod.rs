//! What follows from a call's record without anybody asking: who is told of a change, and what happens by itself.
//!
//! Decides pushes by reading them off two records ([`pushes`]), and deadlines by reading them off one ([`Timers`]). Leaves
//! transitions to `topology`, and what was sealed for whom to `mailbox`.

mod push;
mod timers;

pub use push::{Push, What, pushes};
pub use timers::{Input, Timers};

#[cfg(test)]
mod tests;
