//! Every bound of this crate, with its reason and its arithmetic. What is over a bound is refused or dropped, and said.

use std::time::Duration;

/// Bytes of one packet of media (protocol.md: our SDK keeps payloads at this on every transport): with 28 B of UDP and IPv4,
/// 4 B of ChannelData and 62 B of the tunnel it stays under 1,200 B, which every path takes.
pub const PAYLOAD_BYTES: usize = 1_100;
/// Bytes of one packet of an app's own stack: WebRTC's are 1,200 B at most (libwebrtc's default for RTP, and what its DTLS
/// keeps under). In an indication (36 B more) through the tunnel and IPv4 that is 1,326 B, which Ethernet takes.
pub const DATAGRAM_PAYLOAD_BYTES: usize = 1_200;
/// Channels that wait to be asked for. What does not fit is asked for with the next packet to that address.
pub const ASKS_WAITING: usize = 32;
/// Packets that wait for the app. A second of video at 1 Mbit/s is some 115; older ones are worth nothing.
pub const PACKETS_WAITING: usize = 256;
/// Bytes that one datagram may have: more than any packet or answer.
pub const DATAGRAM_BYTES: usize = 2_048;

/// Bytes of one message of the app to the other device. In base64 inside JSON they are 6,2 KB, under the 8 KiB of a blob.
pub const MESSAGE_BYTES: usize = 4_608;
/// Messages of one call that wait for the app: as many as the server keeps for a device.
pub const MESSAGES_WAITING: usize = 32;
/// Names of blobs that the app took, kept to know them when they are delivered again: twice what can wait.
pub const TAKEN_REMEMBERED: usize = 64;
/// Calls that are known at once. An account has at most 8 live ones; the others have just ended.
pub const CALLS: usize = 64;
/// Incoming calls that wait for the app. 16 may ring at an account.
pub const INCOMING_WAITING: usize = 32;
/// Requests for a call that were given up and are remembered. A person asks for one after the other.
pub const GIVEN_UP: usize = 16;
/// How long after it was given up a request may still have made a call that is told of: a store that was away takes in within
/// seconds what it had; a device that had no connection hears of it with its next one. Longer than a call rings (45 s).
pub const GHOST_COMES_WITHIN: Duration = Duration::from_secs(300);
/// How far the clocks of two servers may be apart when one says how long ago it is that the other made a call.
pub const SERVERS_APART: Duration = Duration::from_secs(2);
/// How often a call that is to end is left, each time for [`PATIENCE`]: longer than it rings.
pub const LEAVE_TRIES: usize = 4;
/// Missed calls that wait for the app. What does not fit comes again with the next connection.
pub const MISSED_WAITING: usize = 64;
/// Pushes that wait for whoever watches them all. Who is slower misses the oldest.
pub const PUSHES_WATCHED: usize = 256;

/// Bytes of one push: an offer of 8 KiB is under 12 KiB.
pub const PUSH_BYTES: usize = 16 << 10;
/// Bytes that a connection reads into. tungstenite takes 128 KiB unless it is told.
pub const READ_BUFFER: usize = 4 << 10;
/// Bytes that a connection may have to write: a few acknowledgements.
pub const WRITE_BUFFER: usize = 64 << 10;
/// Blobs in one acknowledgement: 60 x some 55 characters is under the router's 4 KiB.
pub const ACKS_AT_ONCE: usize = 60;
/// Acknowledgements that wait to be sent. One that does not fit is made when its blob comes again.
pub const ACKS_WAITING: usize = 256;
/// How long a connection may take to open.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A token that was good for so long and is not any more has run out. One that is refused sooner, twice in a row, is not good: a
/// device connects for this reason at most sixty times an hour.
pub const TOKEN_HELD: Duration = Duration::from_secs(60);
/// A connection that is silent for so long is gone: the router pings every 25 s.
pub const SILENCE: Duration = Duration::from_secs(60);
/// The shortest and the longest pause before the next connection. A router that is replaced is back within 200 ms; a
/// million devices that come back within 10 s are 100,000 a second.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Bytes of an answer: the list of ten devices is under 8 KiB.
pub const ANSWER_BYTES: usize = 64 << 10;
/// How long one attempt of a request may take. The store answers within 3 s or is away.
pub const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a request is tried in all: a process that died is back by then.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// The shortest and the longest pause before the next attempt.
pub const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// For how long a token is used for requests before the app is asked for another one.
pub const TOKEN_REUSE: Duration = Duration::from_secs(60);
/// How often a call is sealed anew because the callee's devices have changed meanwhile.
pub const SEALINGS: usize = 4;

/// The first pause before a STUN request is sent again (RFC 8489 section 6.2.1: 500 ms or more, unless the path is known to
/// be faster). Ours goes to the nearest PoP, and a relay that is replaced is silent for some 50 ms.
pub const RTO: Duration = Duration::from_millis(250);
/// How often a STUN request is sent (RFC 8489: Rc). 250 ms doubling six times and a last wait of 4 s is 19.75 s.
pub const SENDS: u32 = 7;
/// The last wait, in first pauses (RFC 8489: Rm).
pub const LAST_WAIT: u32 = 16;
/// How often a server may answer with another nonce before it is taken for broken.
pub const CHALLENGES: u32 = 4;
/// How soon what got no answer on a running transport is asked again.
pub const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The life that is asked for, in seconds: what the relay gives by default.
pub const LIFETIME_S: u32 = 600;
/// A permission lives for 300 s (RFC 8656 section 9); a minute before that it is renewed.
pub const PERMISSION_EVERY: Duration = Duration::from_secs(240);
/// A channel lives for 600 s (RFC 8656 section 12); two minutes before that it is renewed.
pub const CHANNEL_EVERY: Duration = Duration::from_secs(480);
/// How often something is sent whatever happens: NATs forget UDP after 30 s.
pub const KEEPALIVE: Duration = Duration::from_secs(15);
/// Channels of one allocation: as many as the relay gives.
pub const CHANNELS: u16 = 256;
/// How long the end of an allocation may take to be said.
pub const CLOSING: Duration = Duration::from_secs(2);
/// Things about trust that wait for whoever watches.
pub const TRUST_WATCHED: usize = 64;
/// How often a device looks whether its prekey is a week old.
pub const RENEW_EVERY: Duration = Duration::from_secs(3_600);
