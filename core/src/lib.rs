//! Decides. Every rule of Tandem that is not about bytes or sockets stands in this crate, one noun per module.
//!
//! Leaves to others: reading clocks, sockets, files and random numbers. Time, randomness and addresses arrive as
//! arguments, so that ten minutes run in a millisecond and repeat exactly.
//!
//! `topology` and `limits` may be used by every module; the deciders (`call`, `load`, `mailbox`, `membership`,
//! `residency`, `steering`, `switch`, `turn`) do not use one another: joining two is a service's job.

pub mod call;
pub mod limits;
pub mod load;
pub mod mailbox;
pub mod membership;
pub mod residency;
pub mod steering;
pub mod switch;
pub mod topology;
pub mod turn;
