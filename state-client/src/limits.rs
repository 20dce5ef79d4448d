//! Every bound of the store's contract, with its reason and its arithmetic.

use std::time::Duration;

/// Operations of one command. Under etcd's 128 of a transaction with room for its compares; a call, its pair, and an offer
/// and a note for each of ten devices are 22; so are its end, when ten notes become missed calls.
pub const OPS_PER_COMMAND: usize = 24;
/// Bytes of one record. The largest there is: a sealed blob of 8 KiB in base64, with room.
pub const VALUE_LEN_MAX: usize = 16 << 10;

/// Bytes of a command on the wire: 24 x (16 KiB + about 100 B), rounded up.
pub const COMMAND_LEN_MAX: usize = 512 << 10;
/// Bytes of one message of an answer. The largest is a part of a list, or the changes of one turn: 512 KiB and one
/// command more, which is under 1 MiB.
pub const MESSAGE_LEN_MAX: usize = 1 << 20;
/// Bytes of one part of a list, above which the next part begins.
pub const LISTING_PART: usize = 512 << 10;
/// What an entry takes on the wire beside its value: path, revision, heads.
pub const ENTRY_OVERHEAD: usize = 128;

/// How long connecting may take. On loopback or in a PoP it is a millisecond, or it does not happen.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer may take. Relays answer from memory after 3 s without the store; they are to know before that.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// When to come back, in milliseconds, where nobody says it.
pub const RETRY_AFTER_MS: u64 = 100;
/// How often a silent connection is probed, and how long a probe waits: a dead host is noticed within twice this.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Connections to one server: those of 200 relays and routers, and some that are being replaced. Each costs what HTTP/2
/// may keep of it, about 1 MiB at most: 256 MiB if all of them are hostile.
pub const CONNECTIONS: usize = 256;
/// How long a connection may take to say that it speaks HTTP/2.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the preface of HTTP/2 (RFC 9113 section 3.4), which say so.
pub const HELLO_LEN: usize = 24;
/// Lists that are under way at once. Each keeps up to 200,000 records alive at 64 B (their bytes are shared): 64 x 13 MB.
pub const LISTS_AT_ONCE: usize = 64;
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

/// Lists and turns of changes that wait for whoever follows. A turn has up to 512 KiB; more wait at the server, which keeps
/// them for a while.
pub const FOLLOWED_WAITING: usize = 4;
/// How soon a store that was away is followed again; it doubles, up to [`FOLLOW_RETRY_MAX`].
pub const FOLLOW_RETRY: Duration = Duration::from_millis(20);
/// The longest wait: a server that comes back is followed again within a blink.
pub const FOLLOW_RETRY_MAX: Duration = Duration::from_millis(250);

/// Relays that report their load to one server at once: 300 of a PoP, with streams that hang from before. What is over is
/// told to come back.
pub const LOAD_STREAMS: usize = 512;
/// How soon a server that was away is told of a relay's load again; it doubles, up to [`LOAD_RETRY_MAX`].
pub const LOAD_RETRY: Duration = Duration::from_millis(100);
/// The longest wait: a server that comes back has everybody's load two seconds later at most.
pub const LOAD_RETRY_MAX: Duration = Duration::from_secs(1);
