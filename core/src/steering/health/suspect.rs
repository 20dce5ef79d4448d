//! Suspect: a relay that was up and has been silent for a moment. It keeps what it has and gets nothing new; one echo, and it
//! is up again.

use tandem_wire::units::Mono;

use crate::limits;

/// When a relay that was heard last at `heard` falls silent.
pub(super) const fn due(heard: Mono) -> Mono {
    heard.after(limits::SUSPECT_AFTER)
}

pub(super) fn is_due(heard: Mono, now: Mono) -> bool {
    due(heard) <= now
}
