//! Every bound of this crate, with its reason and its arithmetic.

use std::time::Duration;

/// Commands of one durable write. Each is about 1 KiB, so that a batch is written by one fsync of half a mebibyte at
/// most. (etcd's batches are 100: its transactions are limited to 128 operations. This one has no such limit, and an
/// fsync costs the same for 500.)
pub const COMMANDS_PER_BATCH: usize = 512;
/// Commands that wait for the writer. At 20,000/s that is 0.8 s of work; what is over is told to come back.
pub const COMMANDS_WAITING: usize = 16_384;
/// Bytes of these commands: 16,384 x 4 KiB. The largest that are allowed (256 KiB) would be 4 GiB.
pub const COMMAND_BYTES_WAITING: u32 = 64 << 20;
/// What an operation takes beside its value: key, revision, heads.
pub const OP_OVERHEAD: u32 = 128;
/// When to come back, in milliseconds.
pub const RETRY_AFTER_MS: u64 = 100;
/// How long the writer waits before it opens a backend again that failed: it doubles with every failure in a row, since
/// each time everything is read.
pub const REOPEN_AFTER: Duration = Duration::from_millis(50);
/// How long it waits at most: half of what a relay waits for an answer.
pub const REOPEN_AFTER_MAX: Duration = Duration::from_secs(1);
/// Changes that are kept for those who follow: a relay that was cut off for a minute at a thousand changes a second, or
/// for three seconds at 20,000, catches up; who was away for longer lists everything anew.
pub const CHANGES_KEPT: usize = 65_536;
/// Bytes of these changes: 65,536 x 512 B. Values are shared with the records, so most of it is there anyway.
pub const CHANGES_KEPT_BYTES: usize = 32 << 20;
/// Changes that are taken for one follower at a time.
pub const CHANGES_PER_TURN: usize = 256;
/// Bytes of these changes. With the largest command on top (16 x 16 KiB) that is 512 KiB.
pub const CHANGES_PER_TURN_BYTES: usize = 256 << 10;
/// Those who follow: 200 relays and routers, several watches each. One costs the 8 KiB of its buckets.
pub const FOLLOWERS: usize = 1_024;
/// How far others' changes may go on before a follower that none of them concerns is told so, in revisions: so that it can
/// resume from what is still kept. A revision is at most 16 changes.
pub const UNTOLD: u64 = CHANGES_KEPT as u64 / 64;
/// Claims to one address that are looked at, the latest first. A client that leaves calls behind without a word has one
/// for each that has not ended.
pub const CLAIMS_LOOKED_AT: usize = 16;
/// What redb may keep in memory. Records are read from our own memory; this is for the pages that a batch changes.
pub const REDB_CACHE: usize = 64 << 20;
