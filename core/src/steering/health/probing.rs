//! Probing: a relay that we have not heard often enough yet.
//!
//! One of which nothing is known serves meanwhile: a load balancer that starts must send every packet where the one before it
//! did, and the relays were well when it began. One that has been down, or has just started, has to show itself first.

use tandem_wire::units::Span;

use crate::limits;

#[derive(Debug, Clone, Copy)]
pub(super) struct Probing {
    /// Nothing is known against it.
    pub(super) innocent: bool,
    /// Echoes in a row.
    echoes: u8,
}

impl Probing {
    pub(super) const fn new(innocent: bool) -> Self {
        Self { innocent, echoes: 0 }
    }

    /// One more echo, after this silence. `None`: that was the last one it owed.
    pub(super) fn echoed(self, silence: Span) -> Option<Self> {
        let echoes = if silence >= limits::SUSPECT_AFTER { 1 } else { self.echoes.saturating_add(1) };
        (echoes < limits::ECHOES_IN_A_ROW).then_some(Self { echoes, ..self })
    }
}
