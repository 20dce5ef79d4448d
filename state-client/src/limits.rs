//! Every bound of the store's contract, with its reason and its arithmetic.

use std::time::Duration;

/// Operations of one command. Under etcd's 128 of a transaction with room for its compares; a call with a blob for each
/// of some devices fits.
pub const OPS_PER_COMMAND: usize = 16;
/// Bytes of one record. The largest there is: a sealed blob of 8 KiB in base64, with room.
pub const VALUE_LEN_MAX: usize = 16 << 10;

/// Bytes of a command on the wire: 16 x (16 KiB + about 100 B), rounded up.
pub const COMMAND_LEN_MAX: usize = 512 << 10;
/// Bytes of one message of an answer. The largest is one call with all its legs; a group of 32 with all their
/// allocations and channels is 1.7 MiB.
pub const MESSAGE_LEN_MAX: usize = 4 << 20;
/// Bytes of one part of a list, above which the next part begins.
pub const LISTING_PART: usize = 512 << 10;
/// What an entry takes on the wire beside its value: path, revision, heads.
pub const ENTRY_OVERHEAD: usize = 128;

/// How long connecting may take. On loopback or in a PoP it is a millisecond, or it does not happen.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer may take. Relays answer from memory after 3 s without the store; they are to know before that.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a silent connection is probed, and how long a probe waits: a dead host is noticed within twice this.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Requests under way on one connection. A relay has up to 1,024 of its own, and watches.
pub const STREAMS_PER_CONNECTION: u32 = 2_048;
/// Bytes of a request's headers (attack S03): ours have some hundred.
pub const HEADER_LIST_MAX: u32 = 8 << 10;
/// Streams that were reset before they were served (attack S01, CVE-2023-44487).
pub const PENDING_RESETS: usize = 20;
/// Streams of one connection that we may have to reset for what was sent on them (attack S02, CVE-2025-8671): h2's own
/// default, which tonic takes away unless it is told.
pub const LOCAL_RESETS: usize = 1_024;
/// How soon accepting is tried again after it failed: descriptors come back when others close theirs, which nobody tells.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(50);
