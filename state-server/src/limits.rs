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
/// By how much that differs from one to the next.
pub const RETRY_SPREAD_MS: u64 = 100;
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
/// Bytes of these changes. With the largest revision on top ([`ETCD_BATCH_BYTES`]) that is under 1 MiB, a message's most.
pub const CHANGES_PER_TURN_BYTES: usize = 256 << 10;
/// Those who follow: 200 relays and routers, several watches each. One costs the 8 KiB of its buckets.
pub const FOLLOWERS: usize = 1_024;
/// How many changes may pass that do not concern a follower before it is told how far we are: so that it can resume from
/// what is still kept.
pub const UNTOLD: usize = CHANGES_KEPT / 4;
/// Claims to one address that are looked at, the latest first. A client that leaves calls behind without a word has one
/// for each that has not ended.
pub const CLAIMS_LOOKED_AT: usize = 16;
/// What redb may keep in memory. Records are read from our own memory; this is for the pages that a batch changes.
pub const REDB_CACHE: usize = 64 << 20;
/// Claims of an answer's age under which it is shown as none: somebody looks every second, and may have to wait for it.
pub const AGE_UNKNOWN: Duration = Duration::from_millis(2_500);

/// Commands of one transaction of etcd. 3.4 allows 128 operations in each transaction less those of the one around it:
/// 24 of a command's fit beside 100 commands (a test says so).
pub const ETCD_COMMANDS: usize = 100;
/// Bytes of such a batch: one command of the largest kind (24 x 16 KiB), or many small ones; under etcd's 1.5 MiB of a
/// request, and what a follower's turn has room for.
pub const ETCD_BATCH_BYTES: usize = 512 << 10;
/// What an operation takes in a request of etcd beside its value: its path three times (condition, change, and what is
/// asked for if it was stale), and heads.
pub const ETCD_OP_OVERHEAD: usize = 512;
/// Batches that are under way at once. One leaves etcd idle between them; more only make them smaller.
pub const ETCD_BATCHES: usize = 4;
/// Commands that are put aside because one with the same record is in the batch that is being filled.
pub const ETCD_ASIDE: usize = 512;
/// How long etcd may take for an answer, and a connection to be there. Twice this and it is over what our clients wait.
pub const ETCD_TIMEOUT: Duration = Duration::from_millis(900);
/// How long a durable command may take to come back by the watch before its writer is told to look later.
pub const ETCD_ECHO: Duration = Duration::from_millis(900);
/// How often a connection is probed. etcd ends one that is probed more often than every 5 s, which is its
/// `--grpc-keepalive-min-time`; what hangs is noticed sooner by the times that its answers may take.
pub const ETCD_KEEP_ALIVE: Duration = Duration::from_secs(6);
/// How long a probe waits.
pub const ETCD_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often we look whether the cache has what etcd has.
pub const ETCD_LOOK: Duration = Duration::from_secs(1);
/// How long a lookup may take to find out the latest, with the watch. A client that has three state servers waits 667 ms for each.
pub const LATEST_WITHIN: Duration = Duration::from_millis(500);
/// Lookups that ask etcd for the latest at once. One more is answered by the cache.
pub const SETTLING: usize = 64;
/// How long the watch may take to deliver what is there, when we look.
pub const ETCD_BEHIND: Duration = Duration::from_millis(300);
/// How soon etcd is tried again; it doubles, up to [`ETCD_RETRY_MAX`]. Half of each wait is by chance.
pub const ETCD_RETRY: Duration = Duration::from_millis(20);
/// The longest of these waits.
pub const ETCD_RETRY_MAX: Duration = Duration::from_millis(500);
/// Records of one page of a list: 512 x 16 KiB at most, 512 x 300 B as a rule.
pub const ETCD_PAGE: i64 = 512;
/// Bytes of a page.
pub const ETCD_LIST_LEN_MAX: usize = 12 << 20;
/// Bytes of one message of a watch: etcd puts up to 1,000 revisions into one when we catch up. What is over is listed.
pub const ETCD_WATCH_LEN_MAX: usize = 64 << 20;
/// How long a state server that is behind another may take to reach what a follower has seen there.
pub const FOLLOWER_AHEAD: Duration = Duration::from_millis(500);
/// How often the cache is compared with etcd, record by record; less a part by chance. 100,000 records are some 15 MB of paths
/// then, and a tenth of a second of a core on both sides.
pub const ETCD_AUDIT: Duration = Duration::from_secs(300);
/// Paths of one page of that: about 170 B each.
pub const ETCD_AUDIT_PAGE: i64 = 10_000;
/// Records that are looked at once more when they differ: one that does is enough.
pub const CONTRADICTIONS: usize = 16;
