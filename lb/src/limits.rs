//! Every bound of this crate, with its reason and its arithmetic. The decider's bounds are `tandem_core::limits`.

use std::time::Duration;

use tandem_wire::units::Span;

/// Public addresses of one load balancer.
pub const LISTENERS: usize = tandem_core::limits::LISTENERS;
/// Events of the control task that wait for the packet thread. It waits for room; 64 x up to 256 claims of 32 B = 512 KiB.
pub const EVENTS: usize = 64;
/// Claims in one event: each takes a tenth of a microsecond, so that packets do not wait for a list of the store.
pub const CLAIMS_PER_EVENT: usize = 256;
/// Events that the packet thread takes before it looks at packets again: some 100 microseconds.
pub const EVENTS_PER_TURN: usize = 4;
/// How often the packet thread publishes its totals.
pub const PUBLISH_EVERY: Span = Span::from_millis(100);
/// How long a load balancer that is replaced goes on for those whose requests are under way: an answer of a relay takes a few
/// milliseconds, a cold one waits for the store for 50.
pub const CLOSE_FOR: Span = Span::from_millis(250);
/// How long a question about a bucket waits for the packet thread.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long a store may show an older table than the one that we go by before it is asked whether it means it. A state server
/// that is behind has caught up by then, or says how old its answers are (after 2.5 s).
pub(crate) const OLDER_TABLE: Duration = Duration::from_secs(5);
