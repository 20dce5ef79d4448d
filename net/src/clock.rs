//! The clocks, read in one place.

use tandem_wire::units::{Mono, Now, Wall};

use crate::sys;

/// Reads both clocks: CLOCK_BOOTTIME, which goes on while the machine sleeps, and the wall clock.
#[must_use]
pub fn now() -> Now {
    Now {
        mono: Mono::from_nanos(sys::clock(libc::CLOCK_BOOTTIME)),
        wall: Wall::from_millis(sys::clock(libc::CLOCK_REALTIME) / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_is_later_than_this_line_was_written() {
        let (first, second) = (now(), now());
        assert!(second.mono >= first.mono);
        assert!(first.wall > Wall::from_secs(1_795_000_000));
    }
}
