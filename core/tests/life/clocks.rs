//! When things run out: by the monotonic clock for what was seen as it happened, by the wall clock, within bounds, for what
//! was found.
//!
//! Decides when each timer must fire. Leaves what a timer does to the record to the other files.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tandem_core::call::{Input, Timers};
use tandem_core::topology::{Call, CallCommand, CallKind, Media, Placed, Rejection, Timer};
use tandem_wire::id::CallId;
use tandem_wire::party::Party;
use tandem_wire::units::Now;

use crate::{A, cast, id, now};

const HOUR: i64 = 3_600_000;
const DAY: u64 = 24 * 3_600_000;
const BORN: u64 = 1_700_000_000_000;

/// How long each runs, in ms, as the specification says.
fn lasts(timer: Timer) -> u64 {
    match timer {
        Timer::Ring => 45_000,
        Timer::Busy { .. } => 2_000,
        Timer::Grace { .. } => 30_000,
        Timer::Life => DAY,
        Timer::Purge => 60_000,
        Timer::Forget => 600_000,
    }
}

fn name(timer: Timer) -> String {
    match timer {
        Timer::Ring => "ring".to_owned(),
        Timer::Busy { .. } => "busy".to_owned(),
        Timer::Grace { leg, .. } => format!("grace of leg {}", leg.get()),
        Timer::Life => "life".to_owned(),
        Timer::Purge => "purge".to_owned(),
        Timer::Forget => "forget".to_owned(),
    }
}

fn call(cast: &[Party], n: u128, at: Now) -> Call {
    let placed = Placed {
        id: id(n),
        kind: CallKind::OneToOne,
        media: Media::Audio,
        caller: cast[A].clone(),
        callees: cast[2..5].to_vec(),
        request: None,
    };
    Call::apply(None, CallCommand::Place(placed), at).unwrap()
}

fn take(timers: &mut Timers) -> Vec<(CallId, Timer)> {
    std::iter::from_fn(|| timers.poll()).collect()
}

/// Every deadline up to `until` in order, each at its own time, with nothing done about what fires.
fn firings(timers: &mut Timers, until: u64) -> Vec<(u64, String)> {
    let mut fired: Vec<_> = take(timers).into_iter().map(|(_, timer)| (0, name(timer))).collect();
    while let Some(next) = timers.next_deadline().filter(|next| next.as_nanos() <= until * 1_000_000) {
        timers.handle(Now { mono: next, ..now(0, BORN) }, Input::Tick);
        let ms = next.as_nanos() / 1_000_000;
        let list = take(timers);
        assert!(!list.is_empty(), "woken at {ms} for nothing");
        fired.extend(list.into_iter().map(|(_, timer)| (ms, name(timer))));
    }
    fired
}

/// Each kind of thing that a record waits for, in a record of its own.
fn waiting(cast: &[Party]) -> Vec<(Call, Timer)> {
    let born = call(cast, 1, now(0, BORN));
    let then = |call: &Call, command| Call::apply(Some(call), command, now(0, BORN)).unwrap();
    let busy = then(&born, CallCommand::Reject(cast[2].clone(), Rejection::Busy));
    let active = then(&born, CallCommand::Accept(cast[2].clone()));
    let lost = then(&active, CallCommand::Disconnect(cast[2].clone()));
    let over = then(&born, CallCommand::Hangup(cast[A].clone()));
    let find = |call: &Call, wanted: fn(&Timer) -> bool| call.timers().map(|(timer, _)| timer).find(wanted).unwrap();
    vec![
        (born.clone(), Timer::Ring),
        (born, Timer::Life),
        (busy.clone(), find(&busy, |timer| matches!(timer, Timer::Busy { .. }))),
        (lost.clone(), find(&lost, |timer| matches!(timer, Timer::Grace { .. }))),
        (active, Timer::Life),
        (over.clone(), Timer::Purge),
        (over, Timer::Forget),
    ]
}

fn first(fired: &[(u64, String)], timer: Timer) -> u64 {
    fired.iter().find(|(_, other)| *other == name(timer)).map_or(0, |(ms, _)| *ms)
}

#[test]
fn a_timer_that_was_seen_to_start_fires_after_its_span_and_each_second_until_it_is_done() {
    for (call, timer) in waiting(&cast()) {
        let mut timers = Timers::default();
        timers.handle(now(500, BORN), Input::Seen { call: &call, fresh: true });
        let due = 500 + lasts(timer);
        let fired = firings(&mut timers, due + 3_999);
        let own: Vec<_> = fired.iter().filter(|(_, other)| *other == name(timer)).map(|(ms, _)| *ms).collect();
        assert_eq!(own, [due, due + 1_000, due + 2_000, due + 3_000], "{timer:?}");

        timers.handle(now(due + 4_000, BORN), Input::Done(call.id, timer));
        timers.handle(now(due + 4_001, BORN), Input::Seen { call: &call, fresh: true });
        take(&mut timers);
        let later = firings(&mut timers, due + 3 * DAY / 2);
        assert_eq!(later.iter().filter(|(_, other)| *other == name(timer)).count(), 0, "{timer:?} after it was done");
    }
}

#[test]
fn a_call_that_is_gone_waits_for_nothing() {
    let cast = cast();
    for (call, timer) in waiting(&cast) {
        let mut timers = Timers::default();
        timers.handle(now(0, BORN), Input::Seen { call: &call, fresh: true });
        timers.handle(now(1, BORN), Input::Gone(id(99)));
        assert!(timers.next_deadline().is_some(), "another one is gone, and not {timer:?}");
        timers.handle(now(1, BORN), Input::Gone(call.id));
        assert_eq!((timers.next_deadline(), timers.poll()), (None, None), "{timer:?}");
        timers.handle(now(2 * DAY, BORN), Input::Tick);
        assert_eq!(timers.poll(), None, "{timer:?}");
        // It comes back as something new: whatever was done is forgotten with it.
        timers.handle(now(2 * DAY, BORN), Input::Done(call.id, timer));
        timers.handle(now(2 * DAY, BORN), Input::Seen { call: &call, fresh: true });
        assert_eq!(first(&firings(&mut timers, 4 * DAY), timer), 2 * DAY + lasts(timer), "{timer:?}");
    }
}

/// What happens in the course of a random life, by numbers.
fn command(cast: &[Party], what: u8, d: usize) -> CallCommand {
    match what {
        0 => CallCommand::Ringing(cast[d].clone()),
        1 => CallCommand::Accept(cast[d].clone()),
        2 | 3 => CallCommand::Reject(cast[d].clone(), Rejection::Busy),
        4 | 5 => CallCommand::Disconnect(cast[d].clone()),
        6 => CallCommand::Rejoin(cast[d].clone()),
        7 => CallCommand::Remove(cast[d].clone()),
        _ => CallCommand::Hangup(cast[d].clone()),
    }
}

/// After how long, what, of whom, and how far the wall clocks jump: that of the node that decides, and of the one that follows.
type Happening = (u64, u8, usize, (i64, i64));

/// Lives through `happenings` and gives what fired when, by the monotonic clock. `jumps`: the wall clocks jump as they say.
/// What fires is done at once, unless the store is `away`.
fn live(happenings: &[Happening], jumps: bool, away: bool) -> Vec<(u64, String)> {
    let cast = cast();
    let (mut ms, mut decider, mut follower, mut fired) = (0_u64, 0_i64, 0_i64, Vec::new());
    let at = |ms: u64, off: i64| now(ms, (BORN + ms).checked_add_signed(off).unwrap());
    let mut record = call(&cast, 1, at(0, 0));
    let mut timers = Timers::default();
    timers.handle(at(0, 0), Input::Seen { call: &record, fresh: true });
    for (pause, what, d, jump) in happenings {
        let until = ms + pause;
        if jumps {
            (decider, follower) = (decider + jump.0, follower + jump.1);
        }
        while let Some(next) = timers.next_deadline().map(|next| next.as_nanos() / 1_000_000).filter(|n| *n <= until) {
            timers.handle(at(next, follower), Input::Tick);
            for (call, timer) in take(&mut timers) {
                fired.push((next, name(timer)));
                if matches!(timer, Timer::Purge | Timer::Forget) {
                    timers.handle(at(next, follower), Input::Done(call, timer));
                } else if !away {
                    record = Call::apply(Some(&record), CallCommand::Expire(timer), at(next, decider)).unwrap();
                    timers.handle(at(next, follower), Input::Seen { call: &record, fresh: true });
                }
            }
        }
        ms = until;
        if let Ok(next) = Call::apply(Some(&record), command(&cast, *what, *d), at(ms, decider)) {
            record = next;
            timers.handle(at(ms, follower), Input::Seen { call: &record, fresh: true });
        }
    }
    fired.push((ms, serde_json::to_string(&record.ended.map(|ended| ended.reason)).unwrap()));
    fired
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let pause = prop_oneof![4 => 0..1_500_u64, 2 => 1_500..20_000_u64, 1 => 20_000..60_000_u64];
    let jump = || prop_oneof![2 => Just(0), 1 => Just(HOUR), 1 => Just(-HOUR), 1 => -30_000..30_000_i64];
    prop::collection::vec((pause, 0..=8_u8, 0..6_usize, (jump(), jump())), 1..25)
}

/// The order of all deadlines, kept in the simplest way: a table of what each call waits for and until when.
#[derive(Default)]
struct Table(BTreeMap<(u128, String), u64>);

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_wall_clock_that_jumps_changes_nothing_of_what_was_seen(happenings in happenings(), away in any::<bool>()) {
        prop_assert_eq!(live(&happenings, true, away), live(&happenings, false, away));
    }

    #[test]
    fn after_a_restart_wall_time_counts_but_never_for_more_than_the_span_or_less_than_nothing(
        which in 0..7_usize, passed in prop_oneof![-2 * HOUR..2 * HOUR, -60_000..60_000_i64, Just(25 * HOUR)],
    ) {
        let (call, timer) = waiting(&cast()).swap_remove(which);
        let mut timers = Timers::default();
        let wall = BORN.checked_add_signed(passed).unwrap();
        timers.handle(now(700, wall), Input::Seen { call: &call, fresh: false });
        let left = lasts(timer).saturating_sub(passed.max(0).unsigned_abs());
        if left == 0 {
            prop_assert!(take(&mut timers).iter().any(|(_, due)| *due == timer));
        } else {
            prop_assert!(take(&mut timers).iter().all(|(_, due)| *due != timer));
            prop_assert_eq!(first(&firings(&mut timers, 700 + left + 10), timer), 700 + left);
        }
    }

    #[test]
    fn a_change_of_the_record_moves_no_deadline_but_those_that_it_is_about(
        steps in prop::collection::vec((1..4_000_u64, 0..4_u128, 0..=8_u8, 0..6_usize), 1..40),
    ) {
        let cast = cast();
        let mut calls: BTreeMap<u128, Call> = (0..4).map(|n| (n, call(&cast, n, now(0, BORN)))).collect();
        let (mut timers, mut table, mut ms) = (Timers::default(), Table::default(), 0);
        for (pause, n, what, d) in steps {
            for call in calls.values() {
                timers.handle(now(ms, BORN + ms), Input::Seen { call, fresh: true });
            }
            for (n, call) in &calls {
                let waits: BTreeSet<_> = call.timers().map(|(timer, since)| (timer, format!("{timer:?} {since:?}"))).collect();
                table.0.retain(|(other, key), _| other != n || waits.iter().any(|(_, key2)| key == key2));
                for (timer, key) in waits {
                    table.0.entry((*n, key)).or_insert(ms + lasts(timer));
                }
            }
            let earliest = table.0.values().min().copied();
            prop_assert_eq!(timers.next_deadline().map(|at| at.as_nanos() / 1_000_000), earliest);
            ms = (ms + pause).min(earliest.unwrap_or(ms).saturating_sub(1).max(ms));
            if let Ok(next) = Call::apply(calls.get(&n), command(&cast, what, d), now(ms, BORN + ms)) {
                calls.insert(n, next);
            }
        }
    }
}

#[test]
fn ten_thousand_calls_in_any_order_fire_in_the_order_of_their_deadlines() {
    let cast = cast();
    let mut timers = Timers::default();
    let mut deadlines = BTreeMap::new();
    // A full cycle of 10,007 (a prime) visits each number once, far from in order.
    let mut n = 1_u64;
    for _ in 0..10_000 {
        n = n * 5 % 10_007;
        let born = BORN + n * 3;
        // Found after a restart, when all of them are long born: some are past, and due at once.
        let call = call(&cast, n.into(), now(0, born));
        timers.handle(now(1_000, BORN + 50_000), Input::Seen { call: &call, fresh: false });
        let left = 45_000_u64.saturating_sub(50_000_u64.saturating_sub(n * 3));
        deadlines.insert(call.id, 1_000 + left);
    }
    let due: BTreeSet<_> = take(&mut timers).into_iter().map(|(id, _)| id).collect();
    let at_once: BTreeSet<_> = deadlines.iter().filter(|(_, at)| **at == 1_000).map(|(id, _)| *id).collect();
    assert!(at_once.len() > 1_000, "{}", at_once.len());
    assert_eq!(due, at_once);
    for id in due {
        timers.handle(now(1_000, BORN), Input::Gone(id));
    }
    // All the rest at once, long after.
    timers.handle(now(100_000, BORN), Input::Tick);
    let fired = take(&mut timers);
    let order: Vec<_> = fired.iter().map(|(id, _)| deadlines[id]).collect();
    assert_eq!(order.len(), deadlines.len() - at_once.len());
    assert!(order.is_sorted(), "not in order");
    assert!(fired.iter().all(|(_, timer)| *timer == Timer::Ring));
}
