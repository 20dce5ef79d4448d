//! HTTP servers that bear bad clients.
//!
//! Decides how long a client may take, how much it may send, how many there may be, and what an error looks like
//! ([`Problem`]). Leaves routes to whoever brings a router: the admin port of every role ([`admin`]), `tandem dev`, later
//! signaling.

pub mod admin;
pub mod allow;
mod connection;
pub mod extract;
mod framing;
mod guard;
mod place;
mod problem;
mod serve;

pub use allow::{BadNetwork, Network, Networks};
pub use place::{Place, Source};
pub use problem::Problem;
pub use serve::{Limits, serve, serve_within};
