//! Every bound of this crate, with its reason and its arithmetic. What is over a bound is closed or dropped, and counted.

use std::time::Duration;

use tandem_auth::rate::Rate;
use tandem_wire::units::Span;

/// Bytes of a frame, and of a message, from a device: an acknowledgement of 60 blobs. One more closes with 1009.
pub const MESSAGE_BYTES: usize = 4 << 10;
/// What a connection reads into. tungstenite takes 128 KiB unless it is told (attack S08).
pub const READ_BUFFER: usize = 1 << 10;
/// What a connection may have to write before it fails. The largest push, an offer of 8 KiB in base64, is under 12 KiB.
pub const WRITE_BUFFER_MAX: usize = 64 << 10;
/// Pushes that are handed to one connection at once, and what may happen to a device that takes nothing of them: then it is
/// closed, and finds everything when it comes back. What waits for it when it comes may be more, and is told piece by piece.
pub const PUSHES_WAITING: usize = 64;
/// Pushes that the standing of one call may come to for one device: of a call of two, a caller's that rings at ten.
pub const PUSHES_PER_CALL: usize = 16;
/// Connections of one process. It may have 20,000 files here.
pub const CONNECTIONS: usize = 19_500;
/// Connections of one account at one router: three for each of its ten devices, since one that comes back often is there twice
/// or three times while its older connections are being closed, and two more.
pub const ACCOUNT_CONNECTIONS: usize = 32;
/// Bytes of a request's body: there is none.
pub const BODY_BYTES: usize = 1 << 10;

/// How often a silent device is asked whether it is there. Browsers answer by themselves; NATs forget UDP after 30 s, TCP
/// after minutes.
pub const PING_EVERY: Duration = Duration::from_secs(25);
/// A device that was silent for this long is not there: two pings and ten seconds.
pub const IDLE: Duration = Duration::from_secs(60);
/// How long a connection that is being closed may take to say that it has heard.
pub const CLOSING: Duration = Duration::from_secs(2);
/// Frames from a device. One that acknowledges each push by itself sends some tens at once.
pub const FRAMES: Rate = Rate { per_minute: 600, burst: 200 };
/// Bytes a second that a device may send: ten frames of 4 KiB and as much again. It bounds what tungstenite works through
/// without a message coming of it, as fragments without end.
pub const BYTES_PER_SECOND: u32 = 64 << 10;
/// Blobs in one acknowledgement: they fit a message.
pub const ACKS_PER_MESSAGE: usize = 64;
/// Tokens that are not good, of one source.
pub const BAD_TOKENS: Rate = Rate { per_minute: 60, burst: 60 };

/// Numbers among which an offer and an answer are looked for: they are among the first of a call.
pub const BLOB_NUMBERS_LOOKED_AT: u16 = 64;

/// What connections have to say to the hub. Who says more waits.
pub const EVENTS_WAITING: usize = 1_024;
/// Blobs that are being deleted at once, and devices whose presence is being written: some thousands a second, and a call
/// that is placed meanwhile waits behind so many in the store, at most.
pub const WRITES_AT_ONCE: usize = 16;
/// Blobs that wait to be deleted. One more stays, and is delivered again.
pub const DELETES_WAITING: usize = 16_384;
/// For how long a router answers for a device whose connection it has lost: what was being written when that happened is seen
/// within milliseconds, or seconds in a store's election. A device that has come to another router and calls within that time
/// is doubted once. All 19,500 connections at once are some 2 MB.
pub const ABSENCE: Span = Span::from_secs(10);
/// How soon a write is tried again when the store is away.
pub const WRITE_RETRY: Duration = Duration::from_millis(500);
/// How often a presence is decided anew because its record changed meanwhile.
pub const DECISIONS: usize = 16;
/// How long a router that has just started waits for the devices of live calls to connect, before it takes those that have
/// not for lost: as long as a device that lost its connection has to come back.
pub const ARRIVAL: Duration = Duration::from_secs(30);
/// How often the tokens of open connections are looked at.
pub const TOKENS_EVERY: Duration = Duration::from_secs(1);
/// How long connections may go on once the process is being stopped.
pub const DRAIN: Duration = Duration::from_secs(2);
