//! What a process tells those who run it: metrics, log lines, and whether it is well.
//!
//! Decides every metric's name and meaning ([`metric`]), that a log record is one line ([`log`]), and how any HTTP server
//! of ours bears bad clients ([`http`]). Leaves what is counted to those who count it.

pub mod http;
pub mod limits;
pub mod log;
pub mod metric;
pub mod registry;
