//! Random lives of a call, each step of which must be as the story says.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tandem_core::topology::{Call, CallCommand, EndReason, Refusal, Rejection, Timer};
use tandem_wire::id::LegId;
use tandem_wire::party::Party;
use tandem_wire::units::Wall;

use crate::story::{Deed, No, Story, Waiting};
use crate::{CAST, cast, devices, is_last_word, now, number, place, text, told};

/// Long after any jump back.
const BORN: u64 = 1_700_000_000_000;

#[derive(Debug, Clone, Copy)]
enum Try {
    Do(Deed),
    /// Fires a timer that the record has or has had.
    Fire(prop::sample::Index),
}

fn who() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(crate::A), 9 => 2..5_usize, 1 => Just(crate::A2), 1 => 5..CAST]
}

fn tries() -> impl Strategy<Value = Try> {
    let deed = prop_oneof![
        6 => who().prop_map(Deed::Ring),
        2 => who().prop_map(Deed::Accept),
        1 => who().prop_map(Deed::Decline),
        6 => who().prop_map(Deed::SayBusy),
        1 => who().prop_map(Deed::HangUp),
        6 => who().prop_map(Deed::Lose),
        6 => who().prop_map(Deed::Rejoin),
        2 => Just(Deed::Lose(crate::A)),
        2 => Just(Deed::Rejoin(crate::A)),
        2 => who().prop_map(Deed::Remove),
        1 => Just(Deed::Place),
        1 => Just(Deed::RingRunsOut),
        1 => Just(Deed::HouseKeeping),
        1 => prop_oneof![
            4 => Just(Deed::HouseKeeping),
            1 => Just(Deed::LifeRunsOut),
            1 => Just(Deed::End("ended_by_operator")),
            1 => Just(Deed::End("relay_lost")),
            1 => Just(Deed::End("shed")),
        ],
    ];
    prop_oneof![9 => deed.prop_map(Try::Do), 2 => any::<prop::sample::Index>().prop_map(Try::Fire)]
}

/// How far the clock moves before a step, in ms: mostly a little, sometimes an hour, back as well.
fn moves() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 0..3_000_i64, 2 => 20_000..50_000_i64, 1 => Just(3_600_000), 1 => Just(-3_600_000), 1 => Just(0)]
}

fn command(cast: &[Party], rung: usize, deed: Deed) -> CallCommand {
    let by = |d: usize| cast[d].clone();
    let wall = Wall::from_millis;
    match deed {
        Deed::Place => place(cast, rung),
        Deed::Ring(d) => CallCommand::Ringing(by(d)),
        Deed::Accept(d) => CallCommand::Accept(by(d)),
        Deed::Decline(d) => CallCommand::Reject(by(d), Rejection::Declined),
        Deed::SayBusy(d) => CallCommand::Reject(by(d), Rejection::Busy),
        Deed::HangUp(d) => CallCommand::Hangup(by(d)),
        Deed::Lose(d) => CallCommand::Disconnect(by(d)),
        Deed::Rejoin(d) => CallCommand::Rejoin(by(d)),
        Deed::Remove(d) => CallCommand::Remove(by(d)),
        Deed::RingRunsOut => CallCommand::Expire(Timer::Ring),
        Deed::SettleRunsOut(since) => CallCommand::Expire(Timer::Busy { since: wall(since) }),
        Deed::GraceRunsOut { leg, since } => {
            CallCommand::Expire(Timer::Grace { leg: LegId::new(leg).unwrap(), since: wall(since) })
        }
        Deed::LifeRunsOut => CallCommand::Expire(Timer::Life),
        Deed::HouseKeeping => CallCommand::Expire(Timer::Forget),
        Deed::End(why) => CallCommand::End {
            reason: match why {
                "shed" => EndReason::Shed,
                "relay_lost" => EndReason::RelayLost,
                _ => EndReason::EndedByOperator,
            },
        },
    }
}

fn fires((name, leg, since): Waiting) -> Deed {
    match name {
        "ring" => Deed::RingRunsOut,
        "busy" => Deed::SettleRunsOut(since),
        "grace" => Deed::GraceRunsOut { leg, since },
        "life" => Deed::LifeRunsOut,
        _ => Deed::HouseKeeping,
    }
}

fn waits(call: &Call) -> BTreeSet<Waiting> {
    let timers = call.timers().map(|(timer, since)| {
        let since = since.as_millis();
        match timer {
            Timer::Ring => ("ring", 0, since),
            Timer::Busy { since: own } => ("busy", 0, own.as_millis().max(since)),
            Timer::Grace { leg, since: own } => ("grace", leg.get(), own.as_millis().max(since)),
            Timer::Life => ("life", 0, since),
            Timer::Purge => ("purge", 0, since),
            Timer::Forget => ("forget", 0, since),
        }
    });
    timers.collect()
}

fn same_refusal(refusal: Refusal, no: No) -> bool {
    match no {
        No::Exists => refusal == Refusal::CallExists,
        No::Ended => refusal == Refusal::CallEnded,
        No::AnsweredElsewhere => refusal == Refusal::AnsweredElsewhere,
        No::AlreadyAnswered => refusal == Refusal::Answered,
        No::NotYours => refusal == Refusal::UnknownLeg,
        No::EndedOrNotYours => matches!(refusal, Refusal::CallEnded | Refusal::UnknownLeg),
    }
}

/// All that can be seen of a call, beside what is told.
fn looks_like(cast: &[Party], call: &Call, story: &Story, rung: usize) {
    assert_eq!(serde_json::to_value(call.phase()).unwrap(), story.phase());
    assert_eq!(call.ended.map(|ended| text(ended.reason)).as_deref(), story.over());
    let legs: Vec<_> = call.legs.iter().map(|leg| (leg.n.get(), number(cast, leg.party.as_ref().unwrap()))).collect();
    assert_eq!(legs, (1..).zip(story.legs()).collect::<Vec<_>>());
    assert_eq!(devices(cast, call.missed()), story.missed());
    assert_eq!(waits(call), story.waiting());
    assert_eq!(call.caller(), Some(&cast[crate::A]));
    for (d, party) in cast.iter().enumerate() {
        let may_send = call.leg_of(party).is_some_and(|leg| call.admits(leg.n).is_ok());
        assert_eq!(may_send, story.over().is_none() && story.legs().contains(&d), "may d{d} send?");
        assert_eq!(call.concerns(party), d == crate::A || (2..2 + rung).contains(&d), "does it concern d{d}?");
        if story.over().is_none() {
            let away = call.leg_of(party).and_then(|leg| leg.away).map(Wall::as_millis);
            assert_eq!(away, story.away(d), "is d{d} away?");
        }
    }
    let replay: BTreeSet<_> = told(cast, None, call).into_iter().filter(|(d, _)| !story.was_removed(*d)).collect();
    let expected: BTreeSet<_> = story.told_anew().into_iter().filter(|(d, _)| !story.was_removed(*d)).collect();
    assert_eq!(replay, expected, "told to one that connects");
    assert_eq!(Call::from_json(&call.to_json().unwrap()).unwrap(), *call);
}

/// The last words that each device heard on the way.
fn last_words(tellings: impl IntoIterator<Item = (usize, String)>) -> BTreeSet<(usize, String)> {
    tellings.into_iter().filter(|(_, what)| is_last_word(what)).collect()
}

fn live_through(rung: usize, steps: &[(i64, Try)]) {
    let cast = cast();
    let mut wall = BORN;
    let mut call = Call::apply(None, place(&cast, rung), now(0, wall)).unwrap();
    let mut story = Story::new(rung, wall);
    let mut timers: Vec<Waiting> = story.waiting().into_iter().collect();
    let new_timers = |timers: &mut Vec<Waiting>, story: &Story| {
        let new: Vec<_> = story.waiting().into_iter().filter(|timer| !timers.contains(timer)).collect();
        timers.extend(new);
    };
    // Each record that there was, and what was told when it came.
    let mut past = vec![(call.clone(), story.told_anew())];
    assert_eq!(told(&cast, None, &call), story.told_anew());
    looks_like(&cast, &call, &story, rung);

    for (step, what) in steps {
        wall = wall.checked_add_signed(*step).unwrap();
        let deed = match what {
            Try::Do(deed) => *deed,
            Try::Fire(index) => fires(*index.get(&timers)),
        };
        let result = Call::apply(Some(&call), command(&cast, rung, deed), now(0, wall));
        let (next, expected) = match (result, story.tell(deed, wall)) {
            (Ok(next), Ok(expected)) => (next, expected),
            (Err(refusal), Err(no)) => {
                assert!(same_refusal(refusal, no), "{deed:?}: {refusal:?} instead of {no:?}");
                continue;
            }
            (code, spec) => panic!("{deed:?}: the code says {:?}, the specification {spec:?}", code.map(|_| "yes")),
        };
        assert_eq!(told(&cast, Some(&call), &next), expected, "{deed:?}");
        looks_like(&cast, &next, &story, rung);
        let again = Call::apply(Some(&next), command(&cast, rung, deed), now(0, wall + 1));
        match deed {
            // Once more, of a call that is over, is refused by name.
            Deed::End(_) => assert_eq!(again, Err(Refusal::CallEnded)),
            _ => assert_eq!(again.as_ref(), Ok(&next), "{deed:?} twice"),
        }
        new_timers(&mut timers, &story);
        if next != call {
            past.push((next.clone(), expected));
        }
        call = next;
    }
    skips_agree(&cast, &past);
}

/// Who sees only some of the records tells each device the same last word as who sees all of them.
fn skips_agree(cast: &[Party], past: &[(Call, BTreeSet<(usize, String)>)]) {
    for (i, (old, _)) in past.iter().enumerate() {
        let mut words = BTreeSet::new();
        for (new, tellings) in &past[i + 1..] {
            words.extend(last_words(tellings.iter().cloned()));
            let skipping = last_words(told(cast, Some(old), new));
            assert_eq!(skipping, words, "from {old:?}\nto {new:?}");
            for d in 0..CAST {
                assert!(skipping.iter().filter(|(x, _)| *x == d).count() <= 1, "d{d} is told two things: {skipping:?}");
            }
        }
    }
}

#[test]
fn a_timer_of_an_earlier_absence_or_an_earlier_busy_spell_does_not_end_the_call() {
    let cast = cast();
    let apply = |call: &Call, deed, wall| Call::apply(Some(call), command(&cast, 3, deed), now(0, wall)).unwrap();
    let mut call = Call::apply(None, place(&cast, 3), now(0, 100)).unwrap();
    for (deed, wall) in [(Deed::Lose(crate::A), 101), (Deed::Rejoin(crate::A), 102), (Deed::Lose(crate::A), 103)] {
        call = apply(&call, deed, wall);
    }
    assert_eq!(apply(&call, Deed::GraceRunsOut { leg: 1, since: 101 }, 104), call);
    let over = apply(&call, Deed::GraceRunsOut { leg: 1, since: 103 }, 104);
    assert_eq!(over.ended.unwrap().reason, EndReason::ConnectionLost);

    let [one, other, _] = crate::B;
    for (deed, wall) in [(Deed::SayBusy(one), 110), (Deed::Ring(other), 111)] {
        call = apply(&call, deed, wall);
    }
    assert_eq!(apply(&call, Deed::SettleRunsOut(110), 112), call);
    // The third has said nothing yet.
    call = apply(&call, Deed::SayBusy(other), 113);
    assert_eq!(apply(&call, Deed::SettleRunsOut(110), 114), call);
    assert_eq!(apply(&call, Deed::SettleRunsOut(113), 114).ended.unwrap().reason, EndReason::Busy);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_of_a_random_life_is_as_the_story_says(
        rung in 1..=3_usize,
        steps in prop::collection::vec((moves(), tries()), 1..60),
    ) {
        live_through(rung, &steps);
    }
}
