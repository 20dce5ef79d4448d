//! Timers, and pushes of single changes. The whole life of a call is held by `tests/life.rs`.
