//! Every bound of this crate, with its reason and its arithmetic.

/// Commands of one durable write. Each is about 1 KiB, so that a batch is written by one fsync of half a mebibyte at
/// most. (etcd's batches are 100: its transactions are limited to 128 operations. This one has no such limit, and an
/// fsync costs the same for 500.)
pub const COMMANDS_PER_BATCH: usize = 512;
/// Commands that wait for the writer. At 20,000/s that is 0.8 s of work; what is over is told to come back.
pub const COMMANDS_WAITING: usize = 16_384;
/// When to come back, in milliseconds.
pub const RETRY_AFTER_MS: u64 = 100;
/// Changes that are kept for those who follow: a relay that was cut off for some seconds at a thousand changes a second
/// catches up; who was away for longer lists everything anew.
pub const CHANGES_KEPT: usize = 16_384;
/// Bytes of these changes: 16,384 x 1 KiB.
pub const CHANGES_KEPT_BYTES: usize = 16 << 20;
/// Changes that are copied for one follower at a time, and that wait for it to take them.
pub const CHANGES_PER_TURN: usize = 256;
