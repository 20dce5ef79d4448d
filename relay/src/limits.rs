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
/// How soon an entry is written again of which nobody knows whether it was.
pub const BEAT_RETRY: Span = Span::from_secs(1);
/// How often one beat is based on what the store says: the second time on what the first one found.
pub const BEAT_WRITES: usize = 2;
/// A packet thread that stood still for longer than this does not know what others did meanwhile (docs/fleet.md). A load
/// balancer takes a relay for down after 100 ms.
pub const FENCE_AFTER: Span = Span::from_millis(80);
/// How long the packet thread of a relay in a fleet sleeps at most: a stop of [`FENCE_AFTER`] and this is seen, which is as
/// soon as a load balancer takes the relay for down.
pub const LOOK_EVERY: Span = Span::from_millis(10);
/// How long a relay goes on after its share has gone to others: what was on its way to it by then, and a round trip.
pub const LINGER: Span = Span::from_millis(300);
/// How long a relay waits at its end for others to take its share over. A table takes a second; if none comes, its
/// secondary acts for it as for one that was killed.
pub const LEAVE_MAX: Span = Span::from_secs(5);
/// How often a relay says that it ends: datagrams get lost.
pub const GOODBYES: usize = 3;
/// Requests of the packet thread for a table: one that waits is as good as two.
pub const FENCES_WAITING: usize = 1;
