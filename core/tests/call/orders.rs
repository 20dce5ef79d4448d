//! Every ordering of {offer, ringing, accept, reject, cancel, timeout, second accept, disconnect, rejoin} up to length 7.
//!
//! Five million sequences share their beginnings: each step of each is applied once, and what must hold is looked at
//! after every one.

use std::collections::BTreeMap;

use tandem_core::call::{What, pushes};
use tandem_core::topology::{Call, CallCommand, EndReason, Phase, Refusal, Rejection, RungState, Timer};
use tandem_wire::party::Party;

use super::{at, party, placed};

const LENGTH: usize = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Offer,
    Ringing,
    Accept,
    Reject,
    Cancel,
    Timeout,
    SecondAccept,
    Disconnect,
    Rejoin,
}

const EVENTS: [Event; 9] = [
    Event::Offer,
    Event::Ringing,
    Event::Accept,
    Event::Reject,
    Event::Cancel,
    Event::Timeout,
    Event::SecondAccept,
    Event::Disconnect,
    Event::Rejoin,
];

/// Who is who, and what a reject is in this run.
struct World {
    caller: Party,
    first: Party,
    second: Party,
    rejection: Rejection,
}

/// What has been seen on the way to a record.
#[derive(Clone, Default)]
struct Seen {
    /// Which device's accept was taken.
    accepted: Option<Party>,
    ended: Option<EndReason>,
    notes: BTreeMap<Party, u32>,
    offered: BTreeMap<Party, u32>,
    over: BTreeMap<Party, u32>,
    rejected_first: bool,
}

impl World {
    fn command(&self, call: Option<&Call>, event: Event) -> CallCommand {
        match event {
            Event::Offer => CallCommand::Place(placed(&self.caller, &[self.first.clone(), self.second.clone()])),
            Event::Ringing => CallCommand::Ringing(self.first.clone()),
            Event::Accept => CallCommand::Accept(self.first.clone()),
            Event::Reject => CallCommand::Reject(self.first.clone(), self.rejection),
            Event::Cancel => CallCommand::Hangup(self.caller.clone()),
            Event::SecondAccept => CallCommand::Accept(self.second.clone()),
            Event::Disconnect => CallCommand::Disconnect(self.caller.clone()),
            Event::Rejoin => CallCommand::Rejoin(self.caller.clone()),
            // Whatever runs out next.
            Event::Timeout => {
                let timers = call.into_iter().flat_map(Call::timers).filter(|(timer, _)| *timer != Timer::Life);
                let next = timers.min_by_key(|(timer, since)| since.after(timer.span()));
                CallCommand::Expire(next.map_or(Timer::Ring, |(timer, _)| timer))
            }
        }
    }

    fn walk(&self, call: Option<&Call>, seen: &Seen, path: &mut Vec<Event>, steps: &mut u64) {
        if path.len() == LENGTH {
            return;
        }
        for event in EVENTS {
            path.push(event);
            *steps += 1;
            let now = at(path.len() as u64 * 1_000);
            match Call::apply(call, self.command(call, event), now) {
                Ok(next) => {
                    let mut seen = seen.clone();
                    self.look(call, &next, event, &mut seen, path);
                    self.walk(Some(&next), &seen, path, steps);
                }
                Err(refusal) => {
                    self.refused(call, event, refusal, path);
                    self.walk(call, seen, path, steps);
                }
            }
            path.pop();
        }
    }

    /// What must hold after a step that was taken.
    fn look(&self, old: Option<&Call>, new: &Call, event: Event, seen: &mut Seen, path: &[Event]) {
        let accepting = match event {
            Event::Accept => Some(&self.first),
            Event::SecondAccept => Some(&self.second),
            _ => None,
        };
        if let Some(device) = accepting {
            assert!(seen.accepted.as_ref().is_none_or(|other| other == device), "two accepted: {path:?}");
            seen.accepted = Some(device.clone());
        }
        seen.rejected_first |= event == Event::Reject;
        // No leg, and so no ticket, for a device that did not accept.
        for leg in &new.legs {
            let party = leg.party.as_ref().unwrap();
            let may = *party == self.caller || seen.accepted.as_ref() == Some(party);
            assert!(may, "a leg for one who did not accept: {path:?}");
        }
        let numbers: Vec<u16> = new.legs.iter().map(|leg| leg.n.get()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u16).collect::<Vec<_>>(), "{path:?}");
        // Exactly one reason, for good.
        if let Some(reason) = seen.ended {
            assert_eq!(new.ended.map(|ended| ended.reason), Some(reason), "the reason changed: {path:?}");
            assert_eq!(Some(new), old, "an ended call changed: {path:?}");
        }
        if let (Some(ended), None) = (new.ended, seen.ended) {
            seen.ended = Some(ended.reason);
            for party in new.missed() {
                *seen.notes.entry(party.clone()).or_default() += 1;
            }
            self.notes(new, ended.reason, seen, path);
        }
        for push in pushes(old, new) {
            assert!(new.concerns(push.to), "a stranger is told: {path:?}");
            let over = match push.what {
                What::Offer => {
                    *seen.offered.entry(push.to.clone()).or_default() += 1;
                    false
                }
                What::AnsweredElsewhere | What::Cancelled => true,
                What::Ended(_) => *push.to != self.caller && seen.accepted.as_ref() != Some(push.to),
                _ => false,
            };
            if over {
                *seen.over.entry(push.to.clone()).or_default() += 1;
            }
        }
        // Each device that it rang at is told once that it rings no more, unless it has the call.
        if new.phase() != Phase::Ringing {
            for device in [&self.first, &self.second] {
                let told = seen.over.get(device).copied().unwrap_or_default();
                let has = seen.accepted.as_ref() == Some(device);
                assert_eq!((seen.offered.get(device), told), (Some(&1), u32::from(!has)), "{path:?}");
            }
        }
        // The same again changes nothing, and neither does a way through the store.
        let again = Call::apply(Some(new), self.command(Some(new), event), at(path.len() as u64 * 1_000));
        if !matches!(event, Event::Offer | Event::Timeout) {
            assert_eq!(again.as_ref().ok(), Some(new), "not idempotent: {path:?}");
        }
        if path.len() < 5 {
            assert_eq!(Call::from_json(&new.to_json().unwrap()).unwrap(), *new, "{path:?}");
        }
    }

    /// One note for each device that neither answered nor rejected, if nobody answered or declined.
    fn notes(&self, call: &Call, reason: EndReason, seen: &Seen, path: &[Event]) {
        let state = |party: &Party| call.ring.as_ref().unwrap().find(party).unwrap().state;
        for device in [&self.first, &self.second] {
            let rejected = matches!(state(device), RungState::Busy | RungState::Declined);
            let missed = seen.accepted.is_none() && reason != EndReason::Declined && !rejected;
            assert_eq!(seen.notes.get(device).copied().unwrap_or_default(), u32::from(missed), "{path:?}");
        }
        if seen.rejected_first && self.rejection == Rejection::Declined && seen.accepted.is_none() {
            assert_eq!(reason, EndReason::Declined, "{path:?}");
        }
    }

    /// A refusal says why, truly.
    fn refused(&self, call: Option<&Call>, event: Event, refusal: Refusal, path: &[Event]) {
        let Some(call) = call else {
            assert_eq!(refusal, Refusal::CallEnded, "{path:?}");
            return;
        };
        let answered = call.ring.as_ref().is_some_and(|ring| ring.answered.is_some());
        let holds = match refusal {
            Refusal::CallExists => event == Event::Offer,
            Refusal::CallEnded => call.phase() == Phase::Ended,
            Refusal::AnsweredElsewhere => answered && call.phase() == Phase::Active,
            Refusal::Answered => answered && event == Event::Reject,
            _ => false,
        };
        assert!(holds, "{refusal:?} of {event:?} in {:?}: {path:?}", call.phase());
    }
}

fn every_order(rejection: Rejection) {
    let world = World {
        caller: party("alice", "dev_a"),
        first: party("bob", "dev_b1"),
        second: party("bob", "dev_b2"),
        rejection,
    };
    let mut steps = 0;
    world.walk(None, &Seen::default(), &mut Vec::new(), &mut steps);
    assert_eq!(steps, (1..=LENGTH as u32).map(|n| 9_u64.pow(n)).sum::<u64>());
}

#[test]
fn every_order_of_seven_events_keeps_the_rules_with_a_decline() {
    every_order(Rejection::Declined);
}

#[test]
fn every_order_of_seven_events_keeps_the_rules_with_a_busy_device() {
    every_order(Rejection::Busy);
}
