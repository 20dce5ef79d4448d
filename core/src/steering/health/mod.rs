//! Whether a relay is there: one run of it, as this load balancer sees it.
//!
//! Decides its state from echoes, silence, refusals and its own word. Each state that is not "up" has its rules in a file of
//! its own. Leaves to `fleet` what the states of several relays mean together, and what is done about it.

mod down;
mod frozen;
mod loss;
mod probing;
mod suspect;

use tandem_wire::units::{Mono, Span};

use crate::limits;
use down::Down;
use probing::Probing;

pub use down::Cause;
pub(super) use frozen::{Frozen, is_ours};
pub(super) use loss::Probes;

/// How a relay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not echoed often enough yet.
    Probing,
    /// It echoes.
    Up,
    /// It has been silent for a while: no new calls.
    Suspect,
    /// It is not there, for this reason.
    Down(Cause),
}

/// What the states carry.
#[derive(Debug, Clone, Copy)]
enum Inner {
    Probing(Probing),
    Up,
    Suspect,
    Down(Down),
}

/// One run of a relay.
#[derive(Debug, Clone)]
pub(super) struct Health {
    inner: Inner,
    /// When it was heard last; before that, when we began to listen.
    heard: Mono,
    /// When a refusal is believed, unless the probe with this number is echoed before, or one after it: an older echo may
    /// have been under way when the relay died.
    refused: Option<(Mono, u32)>,
    /// It says that it is being drained.
    draining: bool,
    /// In thousandths, as it said last.
    pub(super) load: u16,
    /// The probes that were sent to it.
    pub(super) probes: Probes,
}

impl Health {
    /// Begins to listen. `innocent`: nothing is known against this relay, so it is used from the start.
    pub(super) const fn probing(now: Mono, innocent: bool) -> Self {
        let inner = Inner::Probing(Probing::new(innocent));
        Self { inner, heard: now, refused: None, draining: false, load: 0, probes: Probes::new() }
    }

    pub(super) const fn state(&self) -> State {
        match self.inner {
            Inner::Probing(_) => State::Probing,
            Inner::Up => State::Up,
            Inner::Suspect => State::Suspect,
            Inner::Down(down) => State::Down(down.cause),
        }
    }

    /// Whether packets of its buckets go to it.
    pub(super) const fn serves(&self) -> bool {
        match self.inner {
            Inner::Probing(probing) => probing.innocent,
            Inner::Up | Inner::Suspect => true,
            Inner::Down(_) => false,
        }
    }

    /// Whether they do when nobody else's does.
    pub(super) const fn could_serve(&self) -> bool {
        !matches!(self.inner, Inner::Down(_))
    }

    /// Whether those who begin something new may be sent to it.
    pub(super) const fn takes_new(&self) -> bool {
        matches!(self.inner, Inner::Up) && !self.draining
    }

    pub(super) const fn is_down(&self) -> bool {
        matches!(self.inner, Inner::Down(_))
    }

    /// Whether it is down, and well enough to be told so.
    pub(super) fn is_down_and_well(&self, now: Mono) -> bool {
        matches!(self.inner, Inner::Down(down) if down.is_well(now))
    }

    /// An echo of a probe that had none before.
    pub(super) fn echoed(&mut self, now: Mono, number: u32, load: u16, draining: bool) {
        let silence = now.since(self.heard);
        (self.heard, self.load, self.draining) = (now, load, draining);
        self.refused = self.refused.filter(|(_, asked)| number.wrapping_sub(*asked) > u32::MAX / 2);
        self.inner = match self.inner {
            Inner::Probing(probing) => probing.echoed(silence).map_or(Inner::Up, Inner::Probing),
            Inner::Up | Inner::Suspect => Inner::Up,
            Inner::Down(down) => Inner::Down(down.echoed(now)),
        };
    }

    /// The network says that nobody is there. Gives whether it is to be asked once more, at once.
    pub(super) fn refused(&mut self, now: Mono) -> bool {
        if self.is_down() || self.refused.is_some() {
            return false;
        }
        self.refused = Some((now.after(limits::REFUSAL_CONFIRMED), self.probes.next()));
        true
    }

    /// Whether a refusal has become certain.
    pub(super) fn refusal_stands(&self, now: Mono) -> bool {
        !self.is_down() && self.refused.is_some_and(|(at, _)| at <= now)
    }

    /// Turns suspect when it is time.
    pub(super) fn suspect(&mut self, now: Mono) {
        if matches!(self.inner, Inner::Up) && suspect::is_due(self.heard, now) {
            self.inner = Inner::Suspect;
        }
    }

    pub(super) fn take_down(&mut self, cause: Cause) {
        if !self.is_down() {
            self.inner = Inner::Down(Down::new(cause));
            self.refused = None;
        }
    }

    /// It was taken for down when the fault was ours.
    pub(super) fn revive(&mut self) {
        if matches!(self.inner, Inner::Down(down) if down.cause == Cause::Silent) {
            self.inner = Inner::Suspect;
        }
    }

    /// One more probe is sent; gives its number.
    pub(super) const fn probe(&mut self) -> u32 {
        self.probes.sent()
    }

    /// A new table names the same run again: down is over if it has been heard lately.
    pub(super) fn named_again(&mut self, now: Mono) {
        if let Inner::Down(down) = self.inner
            && down.may_return(now)
        {
            self.inner = Inner::Probing(Probing::new(false));
            self.probes = self.probes.judged_anew();
        }
    }

    /// Whether it counts among those that fell silent together: lately, and not for a reason of its own.
    pub(super) fn fell_silent_lately(&self, now: Mono) -> bool {
        let own_reason =
            matches!(self.inner, Inner::Down(down) if down.cause != Cause::Silent) || self.refused.is_some();
        !own_reason && frozen::is_lately(suspect::due(self.heard), now)
    }

    /// Whether it has been silent for so long that it is down, if nothing speaks against it.
    pub(super) fn silent_too_long(&self, now: Mono) -> bool {
        !self.is_down() && down::due(self.heard) <= now
    }

    /// The time of a pause of ours in which it could not be heard.
    pub(super) fn forgive(&mut self, now: Mono, pause: Span) {
        self.heard = self.heard.after(pause).min(now);
        self.refused = self.refused.map(|(at, asked)| (at.after(pause), asked));
    }

    pub(super) const fn heard_after(&self, at: Mono) -> bool {
        self.heard.as_nanos() > at.as_nanos()
    }

    /// When it has to be looked at next, if it stays silent.
    pub(super) fn next_deadline(&self, frozen: bool) -> Option<Mono> {
        if self.is_down() {
            return None;
        }
        let suspect = matches!(self.inner, Inner::Up).then(|| suspect::due(self.heard));
        let down = (!frozen).then(|| down::due(self.heard));
        [suspect, down, self.refused.map(|(at, _)| at)].into_iter().flatten().min()
    }
}
