//! The one clock of all that is measured here, and how times are shown.
//!
//! Decides that times in reports are milliseconds after the calls stood, with a fraction.

use serde::Serialize;
use tandem_wire::units::{Mono, Span};

/// Now. The clock is the machine's, so times of several processes compare.
#[must_use]
pub fn now() -> Mono {
    tandem_net::clock::now().mono
}

/// A length of time in milliseconds, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize)]
#[serde(transparent)]
pub struct Ms(pub f64);

impl From<Span> for Ms {
    fn from(span: Span) -> Self {
        Self((span.as_nanos() / 1_000) as f64 / 1_000.0)
    }
}

impl Ms {
    /// From `start` to `at`; below zero if that is earlier.
    #[must_use]
    pub fn between(start: Mono, at: Mono) -> Self {
        let (after, before) = (Self::from(at.since(start)), Self::from(start.since(at)));
        Self(after.0 - before.0)
    }
}

impl std::fmt::Display for Ms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} ms", self.0)
    }
}
