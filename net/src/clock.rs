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

/// How long this thread has run on a core so far, in microseconds.
#[must_use]
pub fn thread_cpu_us() -> u64 {
    sys::clock(libc::CLOCK_THREAD_CPUTIME_ID) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_computes_has_run_and_one_that_sleeps_has_not() {
        let before = thread_cpu_us();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let slept = thread_cpu_us() - before;
        let mut sum = 0_u64;
        while thread_cpu_us() - before - slept < 20_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(slept < 20_000, "{slept} us while it slept");
    }

    #[test]
    fn time_goes_on_and_is_later_than_this_line_was_written() {
        let (first, second) = (now(), now());
        assert!(second.mono >= first.mono);
        assert!(first.wall > Wall::from_secs(1_795_000_000));
    }
}
