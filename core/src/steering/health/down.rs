//! Down: a relay that is not there. Others act for it until the next table says who does: two that both think a call theirs
//! would be worse than a gap, so an echo alone changes nothing.

use tandem_wire::units::Mono;

use crate::limits;

/// Why a relay is taken for down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It has been silent.
    Silent,
    /// The network says that nobody is there.
    Refused,
    /// It has said that it ends.
    Leaving,
    /// Another run answers in its place.
    Replaced,
    /// It answers, but loses too much.
    Lossy,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Down {
    pub(super) cause: Cause,
    /// When it echoed last since.
    echoed: Option<Mono>,
}

impl Down {
    pub(super) const fn new(cause: Cause) -> Self {
        Self { cause, echoed: None }
    }

    pub(super) fn echoed(self, now: Mono) -> Self {
        Self { echoed: Some(now), ..self }
    }

    /// Whether a new table that names the same run brings it back: it is there again.
    pub(super) fn may_return(self, now: Mono) -> bool {
        self.echoed.is_some_and(|at| due(at) > now)
    }
}

/// When a relay that was heard last at `heard` is down.
pub(super) const fn due(heard: Mono) -> Mono {
    heard.after(limits::DOWN_AFTER)
}
