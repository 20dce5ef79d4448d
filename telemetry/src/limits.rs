//! Every bound of this crate, with its reason and its arithmetic. What is over a bound is refused and counted.

use std::time::Duration;

/// Connections to an admin port at once: a few scrapers, probes and people. 64 x about 20 KiB of buffers = 1.3 MiB.
pub const ADMIN_CONNECTIONS: usize = 64;
/// A request line and its headers. Browsers send under 4 KiB; hyper takes no less than 8 KiB.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Pieces in which a head may come (attack S07): each wakes the server, which takes some 40 us. 1,024 are 41 ms; 16,384 of one byte
/// would be over half a second. In the smallest segments that IPv4 promises, of 536 bytes, 16 KiB are 31; a plain head may come
/// byte by byte.
pub const HEAD_PIECES: usize = 1_024;
/// The body of a request to an admin port: no route there reads one.
pub const ADMIN_BODY_BYTES: usize = 1024;
/// From the first moment in which a head could arrive to its end; a connection between two requests is closed then too
/// (attack S04).
pub const HEADER_READ: Duration = Duration::from_secs(10);
/// From the end of the head to the end of the body.
pub const BODY_READ: Duration = Duration::from_secs(10);
/// A client that takes nothing for this long has gone (attack S09). The kernel says that something was taken once a third of its
/// buffer is free: of one of 87 KiB, as slow clients get, that is 2.9 KB a second.
pub const WRITE_STALL: Duration = Duration::from_secs(10);
/// Requests at once on one connection of HTTP/2.
pub const HTTP2_STREAMS: u32 = 64;
/// Streams that were reset before they were served (attack S01, CVE-2023-44487).
pub const HTTP2_PENDING_RESETS: usize = 20;
/// Streams of one connection that we may have to reset for what was sent on them (attack S02, CVE-2025-8671).
pub const HTTP2_LOCAL_RESETS: usize = 1_024;
/// What a client with a rate may send at once after a quiet time.
pub const READ_BURST: usize = 1 << 20;
/// How long requests that run may go on once a server is being stopped.
pub const DRAIN: Duration = Duration::from_secs(3);
/// How soon accepting is tried again when the machine has no file or memory for a connection, and none of ours ended
/// meanwhile (attack S11).
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How often histograms are folded when nobody scrapes, so that their samples do not pile up.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// What `Retry-After` says where nobody knows better.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest path into a JSON body that is named in an error.
pub const ERROR_PATH_CHARS: usize = 100;
