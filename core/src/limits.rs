//! Every bound of this crate, with its reason and its arithmetic. What is over a bound is refused or dropped, and counted.

use tandem_wire::units::Span;

/// Legs of a one-to-one call: two devices.
pub const ONE_TO_ONE_LEGS: usize = 2;
/// Legs of a group call. 32 legs of about 30 B keep the record under 4 KiB.
pub const GROUP_LEGS: usize = 32;
/// The longest call (protocol.md, "Ticket"): a ticket key must outlive every call that could name it.
pub const CALL_LIFE: Span = Span::from_secs(24 * 3_600);
/// How long the record of an ended call stays, so that latecomers are told.
pub const ENDED_CALL_LIFE: Span = Span::from_secs(60);

/// Allocations of one leg. libwebrtc makes one per URL, interface and peer connection: 2 URLs x 3 interfaces x 4
/// peer connections (the old and the new one of an ICE restart, of two pages) = 24.
pub const ALLOCATIONS_PER_LEG: usize = 24;
/// Channels of one allocation. A peer has up to 24 candidates; ten peers of a mesh with all of theirs is 240.
/// 256 x 8 B = 2 KiB of record an allocation at most.
pub const CHANNELS_PER_ALLOCATION: usize = 256;
