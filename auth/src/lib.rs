//! Who asks, and whether too often: the tokens (JWT, RFC 7519) of devices and operators, and counters of rates.
//!
//! Decides which tokens are good: one algorithm per key, every claim required and of its type, one audience (RFC 8725;
//! attacks S13, S14). Leaves what a device may do to signaling and the router, and whether it was removed to the store.
//! Time arrives as an argument.

mod crypto;
pub mod rate;
mod token;

pub use token::{AUDIENCE, AdminRole, Claims, Grant, LIFE_MAX, TokenError, TokenKey, TokenKeyError, TokenKeys};
