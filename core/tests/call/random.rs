//! Random lives of a call, against the model; and what a device is told, against what it would find if it came anew.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tandem_core::call::{What, pushes};
use tandem_core::topology::{Call, CallCommand, Phase, Refusal, Rejection, Timer};
use tandem_wire::party::Party;

use super::model::{Act, Model};
use super::{at, party, placed};

#[derive(Debug, Clone)]
enum Step {
    Act(u8, Act),
    RingEnds,
    SettlingEnds,
    AbsenceEnds(u8),
    /// A timer of a moment that is over.
    Stale,
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop::sample::select(vec![
        Act::Ringing,
        Act::Accept,
        Act::Decline,
        Act::Busy,
        Act::HangUp,
        Act::Disconnect,
        Act::Rejoin,
        Act::Remove,
    ]);
    prop_oneof![
        12 => (0..6_u8, act).prop_map(|(who, act)| Step::Act(who, act)),
        1 => Just(Step::RingEnds),
        2 => Just(Step::SettlingEnds),
        2 => (0..4_u8).prop_map(Step::AbsenceEnds),
        1 => Just(Step::Stale),
    ]
}

/// 0 calls, 1 to 3 are the callee's; 4 is another device of the caller's account, 5 a stranger.
fn who(n: u8) -> Party {
    let account = match n {
        0 | 4 => "alice",
        1..=3 => "bob",
        _ => "eve",
    };
    party(account, &format!("dev_{n}"))
}

fn number(party: &Party) -> u8 {
    party.device.as_str().trim_start_matches("dev_").parse().unwrap()
}

fn command(n: u8, act: Act) -> CallCommand {
    let party = who(n);
    match act {
        Act::Ringing => CallCommand::Ringing(party),
        Act::Accept => CallCommand::Accept(party),
        Act::Decline => CallCommand::Reject(party, Rejection::Declined),
        Act::Busy => CallCommand::Reject(party, Rejection::Busy),
        Act::HangUp => CallCommand::Hangup(party),
        Act::Disconnect => CallCommand::Disconnect(party),
        Act::Rejoin => CallCommand::Rejoin(party),
        Act::Remove => CallCommand::Remove(party),
    }
}

fn word(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::CallEnded => "ended",
        Refusal::AnsweredElsewhere => "elsewhere",
        Refusal::Answered => "answered",
        Refusal::UnknownLeg => "stranger",
        other => panic!("{other:?}"),
    }
}

/// The timer that `step` is about, as the record has it.
fn timer(call: &Call, step: &Step) -> Option<Timer> {
    let wanted = |timer: &Timer| match (step, timer) {
        (Step::RingEnds, Timer::Ring) | (Step::SettlingEnds, Timer::Busy { .. }) => true,
        (Step::AbsenceEnds(n), Timer::Grace { leg, .. }) => {
            call.legs.iter().any(|l| l.n == *leg && l.party.as_ref().is_some_and(|party| number(party) == *n))
        }
        _ => false,
    };
    call.timers().map(|(timer, _)| timer).find(wanted)
}

/// What a device believes, from what it was told: whether it rings, and whether it is in the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Belief {
    rings: bool,
    member: bool,
}

fn hear(belief: &mut Belief, me: &Party, what: What<'_>) {
    match what {
        What::Offer => belief.rings = true,
        What::AnsweredElsewhere | What::Cancelled | What::Ended(_) => *belief = Belief::default(),
        What::LegJoined { party, .. } if party == me => *belief = Belief { rings: false, member: true },
        What::LegLeft(_, party) if party == me => *belief = Belief::default(),
        _ => {}
    }
}

fn compare(call: &Call, model: &Model) {
    let phase = if model.over.is_some() {
        Phase::Ended
    } else if model.answered_by.is_some() {
        Phase::Active
    } else {
        Phase::Ringing
    };
    assert_eq!(call.phase(), phase);
    let reason = call.ended.map(|ended| serde_json::to_value(ended.reason).unwrap());
    assert_eq!(reason.as_ref().and_then(|reason| reason.as_str()), model.over);
    let legs: BTreeSet<u8> = call.legs.iter().map(|leg| number(leg.party.as_ref().unwrap())).collect();
    assert_eq!(legs, model.members());
    assert_eq!(call.missed().map(number).collect::<BTreeSet<_>>(), model.missed());
    let settling = call.timers().any(|(timer, _)| matches!(timer, Timer::Busy { .. }));
    assert_eq!(settling, model.settling && model.rings());
}

#[test]
fn a_timer_of_an_absence_that_ended_does_not_end_the_one_that_followed() {
    let mut call = Call::apply(None, CallCommand::Place(placed(&who(0), &[who(1)])), at(0)).unwrap();
    let mut seen = Vec::new();
    for (ms, act) in [(1, Act::Disconnect), (2, Act::Rejoin), (3, Act::Disconnect)] {
        call = Call::apply(Some(&call), command(0, act), at(ms)).unwrap();
        seen.extend(timer(&call, &Step::AbsenceEnds(0)));
    }
    let [old, new] = seen[..] else { panic!("{seen:?}") };
    assert_eq!(Call::apply(Some(&call), CallCommand::Expire(old), at(4)).unwrap(), call);
    assert_eq!(Call::apply(Some(&call), CallCommand::Expire(new), at(4)).unwrap().phase(), Phase::Ended);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_random_life_is_as_the_model_says(devices in 1..=3_u8, steps in prop::collection::vec((step(), 0..50_000_u64), 1..60)) {
        let callees: Vec<Party> = (1..=devices).map(who).collect();
        let mut call = Call::apply(None, CallCommand::Place(placed(&who(0), &callees)), at(0)).unwrap();
        let mut model = Model::new(devices);
        let mut beliefs = [Belief::default(); 6];
        let mut stale = None;
        for push in pushes(None, &call) {
            hear(&mut beliefs[usize::from(number(push.to))], push.to, push.what);
        }
        let mut now = 0;
        for (step, later) in steps {
            now += later + 1;
            let (result, expected) = match &step {
                Step::Act(n, act) => (Call::apply(Some(&call), command(*n, *act), at(now)), model.act(*n, *act)),
                Step::Stale => {
                    let timer = stale.unwrap_or(Timer::Purge);
                    (Call::apply(Some(&call), CallCommand::Expire(timer), at(now)), Ok(()))
                }
                _ => {
                    match &step {
                        Step::RingEnds => model.ring_ends(),
                        Step::SettlingEnds => model.settling_ends(),
                        Step::AbsenceEnds(n) => model.absence_ends(*n),
                        Step::Act(..) | Step::Stale => {}
                    }
                    let timer = timer(&call, &step).unwrap_or(Timer::Forget);
                    (Call::apply(Some(&call), CallCommand::Expire(timer), at(now)), Ok(()))
                }
            };
            prop_assert_eq!(result.as_ref().map(|_| ()).map_err(|refusal| word(*refusal)), expected, "{:?}", step);
            let Ok(next) = result else { continue };
            // One that says that it is busy does not ring, and needs nobody to tell it.
            if let Step::Act(n, Act::Busy) = step {
                beliefs[usize::from(n)].rings = false;
            }
            // A timer whose moment is over: of a settling or an absence that has ended.
            let gone = call.timers().map(|(timer, _)| timer).find(|timer| {
                matches!(timer, Timer::Busy { .. } | Timer::Grace { .. }) && next.timers().all(|(other, _)| other != *timer)
            });
            stale = gone.or(stale.filter(|timer| next.timers().all(|(other, _)| other != *timer)));
            for push in pushes(Some(&call), &next) {
                prop_assert!(next.concerns(push.to));
                hear(&mut beliefs[usize::from(number(push.to))], push.to, push.what);
            }
            call = Call::from_json(&next.to_json().unwrap()).unwrap();
            prop_assert_eq!(&call, &next);
            compare(&call, &model);
            // Who was there all along believes what one does who comes anew.
            let mut fresh = [Belief::default(); 6];
            for push in pushes(None, &call) {
                hear(&mut fresh[usize::from(number(push.to))], push.to, push.what);
            }
            prop_assert_eq!(beliefs, fresh, "after {:?}", step);
        }
    }
}
