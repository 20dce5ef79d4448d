//! Every bound of this crate, with its reason and its arithmetic. What is over a bound is counted, and the report says so.

use std::time::Duration;

use tandem_wire::units::Span;

/// Calls of one process: each is two devices with a connection to the router, some to signaling and a socket of their own,
/// at most eight descriptors a call of the 20,000 that a process may have here.
pub const CALLS: usize = 2_400;
/// Packets a second of one leg: a video call's.
pub const PACKETS_PER_SECOND: u32 = 1_000;
/// Numbers of one direction: eleven days at 50 a second, or half a day at 1,000; one bit each, 6 MiB.
pub const NUMBERS: u32 = 48_000_000;
/// Delays kept of one direction, four bytes each: an hour at 50 a second is 180,000. With 200 calls that is 288 MB.
pub const DELAYS: usize = 180_000;
/// Gaps kept of one direction. The longest is known beyond that.
pub const GAPS: usize = 1_000;
/// A gap that is worth a line: one lost packet at 50 a second makes 40 ms, and jitter some more.
pub const GAP_NOTED: Span = Span::from_millis(40);
/// A gap that begins within so long after a fault is put down to it.
pub const FAULT_REACHES: Span = Span::from_secs(5);

/// How often the generator looks whether it is on time, and sends what is due.
pub const TICK: Duration = Duration::from_millis(1);
/// A stall of the generator that is kept: a quarter of what lies between two packets at 50 a second.
pub const STALL_NOTED: Span = Span::from_millis(5);
/// Stalls kept. A machine that stalls so often measures nothing.
pub const STALLS: usize = 100_000;
/// How often other processes are looked at: some ten files each, 1 % of a core for ten processes.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A wait for a core, of one thread within one look, that is kept.
pub const WAIT_NOTED: Span = Span::from_millis(5);
/// Waits kept of one process.
pub const WAITS: usize = 20_000;
/// Processes that are watched.
pub const WATCHED: usize = 64;

/// Devices that are started at once: a registration is a durable write.
pub const STARTS_AT_ONCE: usize = 16;
/// How long a device may take to be registered and up to date.
pub const START_WITHIN: Duration = Duration::from_secs(30);
/// How long a call may take from being placed to packets going both ways. A ring lasts 45 s.
pub const SET_UP_WITHIN: Duration = Duration::from_secs(30);
/// How long accepting all held calls at once may take: each is a durable write.
pub const ACCEPT_WITHIN: Duration = Duration::from_secs(5);
/// Between two held calls that are placed: twenty a second, as the others by default.
pub const HELD_EVERY: Duration = Duration::from_millis(50);
/// How long packets that are under way are waited for when nothing more is sent.
pub const LINGER: Duration = Duration::from_millis(500);
/// How long a call may take to be hung up: a process that died is back by then.
pub const HANG_UP_WITHIN: Duration = Duration::from_secs(20);
/// How long a command of the timeline may take.
pub const EXEC_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of a file of faults, budgets or tokens: 10,000 tokens of 400 characters.
pub const FILE_BYTES: u64 = 8 << 20;
/// Bytes of an answer of the fault panel: a line for each process.
pub const ANSWER_BYTES: usize = 256 << 10;
