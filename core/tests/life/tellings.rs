//! What is told to a device that connects, phase by phase, and to one that sees several changes at once.

use std::collections::BTreeSet;

use tandem_core::topology::{Call, CallCommand, EndReason, Rejection, Timer};
use tandem_wire::party::Party;

use crate::{A, B, Telling, cast, now, place, told};

fn set(list: &[(usize, &str)]) -> BTreeSet<Telling> {
    list.iter().map(|(d, what)| (*d, (*what).to_owned())).collect()
}

/// A call at three devices, after these.
fn after(cast: &[Party], commands: &[CallCommand]) -> Call {
    let mut call = Call::apply(None, place(cast, 3), now(0, 1_000)).unwrap();
    for (ms, command) in (1_001..).zip(commands) {
        call = Call::apply(Some(&call), command.clone(), now(0, ms)).unwrap();
    }
    call
}

#[test]
fn a_device_that_connects_while_it_rings_is_offered_the_call_and_the_caller_is_told_who_rings() {
    let cast = cast();
    let busy = CallCommand::Reject(cast[3].clone(), Rejection::Busy);
    let call = after(&cast, &[CallCommand::Ringing(cast[2].clone()), busy]);
    let expected = [(2, "offer"), (4, "offer"), (A, "ringing d2"), (A, "rejected busy d3"), (A, "leg_joined leg1 d0")];
    assert_eq!(told(&cast, None, &call), set(&expected));
}

#[test]
fn a_device_that_connects_during_the_call_is_told_who_is_in_it() {
    let cast = cast();
    let call = after(&cast, &[CallCommand::Accept(cast[3].clone()), CallCommand::Disconnect(cast[A].clone())]);
    let legs = [(A, "leg_joined leg1 d0"), (A, "leg_joined leg2 d3"), (3, "leg_joined leg1 d0")];
    let rest =
        [(3, "leg_joined leg2 d3"), (A, "accepted leg2 d3"), (2, "answered_elsewhere"), (4, "answered_elsewhere")];
    assert_eq!(told(&cast, None, &call), &set(&legs) | &set(&rest));
}

#[test]
fn a_device_that_connects_when_it_is_over_is_told_how_it_ended_for_it() {
    let cast = cast();
    let by = |d: usize| cast[d].clone();
    for (commands, expected) in [
        (
            vec![CallCommand::Hangup(by(A))],
            [(A, "ended cancelled"), (2, "cancelled"), (3, "cancelled"), (4, "cancelled")],
        ),
        (
            vec![CallCommand::Expire(Timer::Ring)],
            [(A, "ended timeout"), (2, "ended timeout"), (3, "ended timeout"), (4, "ended timeout")],
        ),
        (
            vec![CallCommand::Reject(by(2), Rejection::Busy), CallCommand::Reject(by(3), Rejection::Declined)],
            [
                (A, "ended declined"),
                (2, "ended rejected_elsewhere"),
                (3, "ended declined"),
                (4, "ended rejected_elsewhere"),
            ],
        ),
        (
            vec![CallCommand::Accept(by(2)), CallCommand::Hangup(by(2))],
            [(A, "ended hangup"), (2, "ended hangup"), (3, "answered_elsewhere"), (4, "answered_elsewhere")],
        ),
        (
            vec![CallCommand::End { reason: EndReason::EndedByOperator }],
            [
                (A, "ended ended_by_operator"),
                (2, "ended ended_by_operator"),
                (3, "ended ended_by_operator"),
                (4, "ended ended_by_operator"),
            ],
        ),
    ] {
        let call = after(&cast, &commands);
        assert_eq!(told(&cast, None, &call), set(&expected), "{commands:?}");
        assert_eq!(told(&cast, Some(&call), &call), BTreeSet::new(), "{commands:?}");
    }
}

#[test]
fn who_missed_the_whole_call_is_told_only_that_it_was_answered_elsewhere() {
    let cast = cast();
    let ringing = after(&cast, &[CallCommand::Ringing(cast[2].clone())]);
    let commands = [
        CallCommand::Ringing(cast[2].clone()),
        CallCommand::Accept(cast[2].clone()),
        CallCommand::Disconnect(cast[A].clone()),
        CallCommand::Rejoin(cast[A].clone()),
        CallCommand::Hangup(cast[A].clone()),
    ];
    let over = after(&cast, &commands);
    let expected = [(A, "ended hangup"), (2, "ended hangup"), (3, "answered_elsewhere"), (4, "answered_elsewhere")];
    assert_eq!(told(&cast, Some(&ringing), &over), set(&expected));
}

#[test]
fn a_leg_that_was_away_and_came_back_between_two_looks_is_not_told_of() {
    let cast = cast();
    let accept = CallCommand::Accept(cast[2].clone());
    let old = after(&cast, std::slice::from_ref(&accept));
    let gone = CallCommand::Disconnect(cast[2].clone());
    let back = CallCommand::Rejoin(cast[2].clone());
    let new = after(&cast, &[accept.clone(), gone.clone(), back.clone()]);
    assert_eq!(told(&cast, Some(&old), &new), BTreeSet::new());
    let away = after(&cast, &[accept, gone]);
    assert_eq!(told(&cast, Some(&old), &away), BTreeSet::new());
    assert_eq!(
        told(&cast, Some(&away), &new),
        set(&[(A, "leg_joined leg2 d2 again"), (2, "leg_joined leg2 d2 again")])
    );
}

/// A device that was offered the call hears how its ring ended, whatever else changed in the meantime.
#[test]
fn a_device_removed_while_nobody_looked_is_told_once_that_its_ring_is_over() {
    let cast = cast();
    let remove = || CallCommand::Remove(cast[3].clone());
    let old = after(&cast, &[]);
    for rest in [
        vec![],
        vec![CallCommand::Ringing(cast[B[0]].clone())],
        vec![CallCommand::Hangup(cast[A].clone())],
        vec![CallCommand::Expire(Timer::Ring)],
        vec![CallCommand::Accept(cast[2].clone())],
        vec![CallCommand::Accept(cast[2].clone()), CallCommand::Hangup(cast[2].clone())],
    ] {
        let commands: Vec<_> = std::iter::once(remove()).chain(rest).collect();
        let told = told(&cast, Some(&old), &after(&cast, &commands));
        let heard: Vec<_> = told.iter().filter(|(d, _)| *d == 3).map(|(_, what)| what.as_str()).collect();
        assert_eq!(heard, ["ended kicked"], "{commands:?}");
    }
}
