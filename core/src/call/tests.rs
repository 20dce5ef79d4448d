//! Timers: by the monotonic clock for what was seen, by the wall clock after a restart. The whole life of a call is held
//! by `core/tests/life`.

use tandem_wire::id::{BucketId, CallId, PopId};
use tandem_wire::party::Party;
use tandem_wire::units::{Mono, Now, Span, Wall};

use super::{Input, Timers};
use crate::topology::{Call, CallCommand, CallKind, Media, Placed, Rejection, Timer};

const HOUR_MS: i64 = 3_600_000;

fn party(name: &str) -> Party {
    Party { account: name.parse().unwrap(), device: format!("dev_{name}").parse().unwrap() }
}

/// `ms` after the start, by a wall clock that is `off` ms wrong.
fn at(ms: u64, off: i64) -> Now {
    let wall = (1_800_000_000_000 + ms).checked_add_signed(off).unwrap();
    Now { mono: Mono::default().after(Span::from_millis(ms)), wall: Wall::from_millis(wall) }
}

fn ringing(n: u128, now: Now) -> Call {
    let placed = Placed {
        id: CallId::new(PopId(1), BucketId(0), n),
        kind: CallKind::OneToOne,
        media: Media::Audio,
        caller: party("alice"),
        callees: vec![party("bob"), party("bob2")],
        request: None,
    };
    Call::apply(None, CallCommand::Place(placed), now).unwrap()
}

fn apply(call: &Call, command: CallCommand, now: Now) -> Call {
    Call::apply(Some(call), command, now).unwrap()
}

fn due(timers: &mut Timers, now: Now) -> Vec<Timer> {
    timers.handle(now, Input::Tick);
    std::iter::from_fn(|| timers.poll()).map(|(_, timer)| timer).collect()
}

#[test]
fn a_wall_clock_that_jumps_by_an_hour_changes_nothing_for_what_was_seen() {
    for first in [0, HOUR_MS, -HOUR_MS] {
        for then in [0, HOUR_MS, -HOUR_MS] {
            let mut timers = Timers::default();
            // Placed by a node whose clock is right; this one's is wrong, and jumps.
            let call = ringing(1, at(0, 0));
            timers.handle(at(0, first), Input::Seen { call: &call, fresh: true });
            assert_eq!(due(&mut timers, at(44_999, then)), []);
            assert_eq!(due(&mut timers, at(45_000, then)), [Timer::Ring]);

            let mut timers = Timers::default();
            let call = apply(&ringing(1, at(0, 0)), CallCommand::Reject(party("bob"), Rejection::Busy), at(5, first));
            timers.handle(at(5, first), Input::Seen { call: &call, fresh: true });
            assert_eq!(due(&mut timers, at(2_004, then)), []);
            assert!(matches!(due(&mut timers, at(2_005, then))[..], [Timer::Busy { .. }]));

            let mut timers = Timers::default();
            let call = apply(&ringing(1, at(0, 0)), CallCommand::Accept(party("bob")), at(5, 0));
            timers.handle(at(5, first), Input::Seen { call: &call, fresh: true });
            let call = apply(&call, CallCommand::Disconnect(party("alice")), at(100, first));
            timers.handle(at(100, then), Input::Seen { call: &call, fresh: true });
            assert_eq!(due(&mut timers, at(30_099, first)), []);
            assert!(matches!(due(&mut timers, at(30_100, first))[..], [Timer::Grace { .. }]));
        }
    }
}

#[test]
fn after_a_restart_wall_time_bounds_a_ring_and_no_clock_makes_it_longer() {
    for (found_at, off, runs_out) in
        [(10_000, 0, 45_000), (60_000, 0, 60_000), (10_000, HOUR_MS, 10_000), (10_000, -HOUR_MS, 55_000)]
    {
        let mut timers = Timers::default();
        let call = ringing(1, at(0, 0));
        timers.handle(at(found_at, off), Input::Seen { call: &call, fresh: false });
        if runs_out > found_at {
            assert_eq!(due(&mut timers, at(runs_out - 1, off)), [], "found at {found_at}, {off} ms off");
        }
        assert_eq!(due(&mut timers, at(runs_out, off)), [Timer::Ring], "found at {found_at}, {off} ms off");
    }
}

#[test]
fn what_ran_out_runs_out_again_each_second_until_the_record_says_otherwise() {
    let mut timers = Timers::default();
    let call = ringing(1, at(0, 0));
    timers.handle(at(0, 0), Input::Seen { call: &call, fresh: true });
    for ms in [45_000, 46_000, 47_000] {
        assert_eq!(due(&mut timers, at(ms - 1, 0)), []);
        assert_eq!(due(&mut timers, at(ms, 0)), [Timer::Ring]);
    }
    let call = apply(&call, CallCommand::Expire(Timer::Ring), at(47_001, 0));
    timers.handle(at(47_001, 0), Input::Seen { call: &call, fresh: true });
    assert_eq!(due(&mut timers, at(107_000, 0)), []);
    assert_eq!(due(&mut timers, at(107_001, 0)), [Timer::Purge]);
    // Done without a trace in the record: once, even if the record is seen again.
    timers.handle(at(107_002, 0), Input::Done(call.id, Timer::Purge));
    timers.handle(at(107_003, 0), Input::Seen { call: &call, fresh: true });
    assert_eq!(due(&mut timers, at(647_000, 0)), []);
    assert_eq!(due(&mut timers, at(647_001, 0)), [Timer::Forget]);
    timers.handle(at(647_002, 0), Input::Gone(call.id));
    assert_eq!((due(&mut timers, at(9_000_000, 0)), timers.next_deadline()), (vec![], None));
}

#[test]
fn a_change_of_the_record_leaves_the_ring_as_long_as_it_was() {
    let mut timers = Timers::default();
    let call = ringing(1, at(0, 0));
    timers.handle(at(0, 0), Input::Seen { call: &call, fresh: true });
    let call = apply(&call, CallCommand::Ringing(party("bob")), at(30_000, 0));
    timers.handle(at(30_000, 0), Input::Seen { call: &call, fresh: true });
    assert_eq!(timers.next_deadline(), Some(at(45_000, 0).mono));
}

#[test]
fn ten_thousand_calls_run_out_in_the_order_of_their_deadlines() {
    let mut timers = Timers::default();
    for n in 0..10_000_u64 {
        let ms = n * 7_919 % 10_000;
        timers.handle(at(ms, 0), Input::Seen { call: &ringing(n.into(), at(ms, 0)), fresh: true });
    }
    let mut last = Mono::default();
    let mut count = 0;
    while let Some(next) = timers.next_deadline().filter(|next| *next < at(56_000, 0).mono && count < 10_000) {
        assert!(next >= last);
        last = next;
        count += due(&mut timers, Now { mono: next, ..at(0, 0) }).len();
    }
    assert_eq!(count, 10_000);
}
