//! Every bound of this crate, with its reason and its arithmetic. The deciders' bounds are `tandem_core::limits`.

use tandem_wire::units::Span;

/// Events of the store that wait for the packet thread. A restore waits for room; 16,384 x about 300 B = 5 MiB.
pub const EVENTS: usize = 16_384;
/// Events that the packet thread takes before it looks at packets again. Each takes a few microseconds: well under a
/// millisecond in all.
pub const EVENTS_PER_BATCH: usize = 64;
/// Requests to the store that wait for the control task. What is over is taken as "the store is away", and tried again.
pub const REQUESTS: usize = 16_384;
/// Requests that are under way at the store at once. At 1 ms each that is a thousand times as many a second.
pub const REQUESTS_UNDER_WAY: usize = 1_024;
/// How often the packet thread publishes its totals.
pub const PUBLISH_EVERY: Span = Span::from_millis(100);
/// The first wait before a store that is away is asked again for the list; it doubles up to [`RESTORE_RETRY_MAX`].
pub const RESTORE_RETRY: Span = Span::from_millis(20);
/// The longest wait. A relay that starts before its store is ready at most this long after it.
pub const RESTORE_RETRY_MAX: Span = Span::from_millis(500);
