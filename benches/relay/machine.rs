//! The machine as the measurement uses it: clocks, processors, and the signals that end it.
//!
//! Decides nothing.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{check, nanos};

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is a local that the kernel writes one time into.
    let _ = unsafe { libc::clock_gettime(id, &raw mut time) };
    nanos(time)
}

/// Nanoseconds that only go forward.
pub(crate) fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// The clock of the kernel's time stamps.
pub(crate) fn realtime() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

fn pin_to(cpu: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is an empty one; CPU_SET writes one bit into it, below its size by the assertion; the set
    // is read before the call is over. Called between fork and exec too: nothing here allocates.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if cpu >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        libc::CPU_SET(cpu, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set))
    }
}

/// Keeps this thread, and the threads and processes that it starts, on one processor.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    pin_to(cpu)
}

/// Makes the child run on `cpu` only and die with this thread.
pub(crate) fn bind_child(command: &mut Command, cpu: usize) {
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            pin_to(cpu)
        });
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT and SIGTERM end the measurement in order, so that temporary files go too.
pub(crate) fn catch_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores an atomic.
        unsafe { libc::signal(signal, note as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

/// Whether somebody wants us to end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
