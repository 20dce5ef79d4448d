//! Who is told what, read off two records.
//!
//! The same function serves a change (the record before it and after it) and a device that connects (no record before):
//! so a node that dies between deciding and telling loses nothing, another one tells. What is told twice says the same.

use tandem_wire::id::LegId;
use tandem_wire::party::Party;

use crate::topology::{Call, EndReason, Leg, Phase, Rung, RungState};

/// One thing that one device is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push<'a> {
    /// The device.
    pub to: &'a Party,
    /// What it is told.
    pub what: What<'a>,
}

/// What a device can be told about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// It rings at this device.
    Offer,
    /// It rings at this device of the callee.
    Ringing(&'a Party),
    /// This device of the callee answered, and has this leg.
    Accepted(LegId, &'a Party),
    /// Another device of the same person answered.
    AnsweredElsewhere,
    /// This device of the callee is busy; the call goes on.
    Busy(&'a Party),
    /// The caller gave up.
    Cancelled,
    /// This device is in the call. `rejoined`: it was without a connection and is back.
    LegJoined {
        /// Its leg.
        leg: LegId,
        /// Whose it is.
        party: &'a Party,
        /// Whether it came back.
        rejoined: bool,
    },
    /// This device has left the call, which goes on.
    LegLeft(LegId, &'a Party),
    /// The call is over.
    Ended(EndReason),
}

/// What the change from `old` to `new` is told to whom; `old` is `None` for a record that was not seen before.
#[must_use]
pub fn pushes<'a>(old: Option<&Call>, new: &'a Call) -> Vec<Push<'a>> {
    let mut pushes = Vec::new();
    if new.phase() == Phase::Ended {
        if old.is_none_or(|old| old.phase() != Phase::Ended) {
            ended(old, new, &mut pushes);
        }
        return pushes;
    }
    for leg in &new.legs {
        if let Some(party) = &leg.party {
            leg_changed(old, new, leg, party, &mut pushes);
        }
    }
    for rung in new.ring.iter().flat_map(|ring| &ring.devices) {
        rung_changed(old, new, rung, &mut pushes);
    }
    pushes
}

/// The devices that are in the call now.
fn live(call: &Call) -> impl Iterator<Item = (&Leg, &Party)> {
    let live = call.legs.iter().filter(|leg| leg.left.is_none());
    live.filter_map(|leg| leg.party.as_ref().map(|party| (leg, party)))
}

fn leg_changed<'a>(old: Option<&Call>, new: &'a Call, leg: &Leg, party: &'a Party, pushes: &mut Vec<Push<'a>>) {
    let before = old.and_then(|old| old.legs.iter().find(|other| other.n == leg.n));
    let what = match (before, leg.left) {
        (Some(before), Some(_)) if before.left.is_none() => What::LegLeft(leg.n, party),
        (None, None) => What::LegJoined { leg: leg.n, party, rejoined: false },
        (Some(before), None) if before.away.is_some() && leg.away.is_none() => {
            What::LegJoined { leg: leg.n, party, rejoined: true }
        }
        _ => return,
    };
    pushes.extend(live(new).map(|(_, to)| Push { to, what }));
}

fn rung_changed<'a>(old: Option<&Call>, new: &'a Call, rung: &'a Rung, pushes: &mut Vec<Push<'a>>) {
    let before = old.and_then(|old| old.ring.as_ref()?.find(&rung.party)).map(|rung| rung.state);
    let was_ringing = old.is_some_and(|old| old.phase() == Phase::Ringing);
    let device = &rung.party;
    let caller = |what| new.caller().map(|to| Push { to, what });
    if new.phase() == Phase::Ringing {
        match rung.state {
            RungState::Pending | RungState::Ringing if before.is_none() => {
                pushes.push(Push { to: device, what: What::Offer });
            }
            // Its ring stops, whoever removed it.
            RungState::Removed if before != Some(RungState::Removed) => {
                pushes.push(Push { to: device, what: What::Ended(EndReason::Kicked) });
            }
            _ => {}
        }
        if before != Some(rung.state) {
            match rung.state {
                RungState::Ringing => pushes.extend(caller(What::Ringing(device))),
                RungState::Busy => pushes.extend(caller(What::Busy(device))),
                _ => {}
            }
        }
    } else if old.is_none() || was_ringing {
        match rung.state {
            RungState::Answered => {
                let leg = new.legs.iter().find(|leg| leg.party.as_ref() == Some(device)).map(|leg| leg.n);
                pushes.extend(leg.and_then(|leg| caller(What::Accepted(leg, device))));
            }
            // Removed and answered between two looks: its ring is over all the same.
            RungState::Removed if before.is_some_and(|before| before != RungState::Removed) => {
                pushes.push(Push { to: device, what: What::Ended(EndReason::Kicked) });
            }
            RungState::Removed => {}
            _ => pushes.push(Push { to: device, what: What::AnsweredElsewhere }),
        }
    }
}

fn ended<'a>(old: Option<&Call>, new: &'a Call, pushes: &mut Vec<Push<'a>>) {
    let Some(reason) = new.ended.map(|ended| ended.reason) else { return };
    pushes.extend(live(new).map(|(_, to)| Push { to, what: What::Ended(reason) }));
    let answered = new.ring.as_ref().is_some_and(|ring| ring.answered.is_some());
    let told = answered && old.is_some_and(|old| old.phase() == Phase::Active);
    for rung in new.ring.iter().flat_map(|ring| &ring.devices) {
        let before = old.and_then(|old| old.ring.as_ref()?.find(&rung.party)).map(|rung| rung.state);
        let what = match rung.state {
            // It was the last one, and is told what it would be told if others rang on.
            RungState::Removed if before.is_some_and(|before| before != RungState::Removed) && !told => {
                What::Ended(EndReason::Kicked)
            }
            // It has a leg, and was told above; or it was told when it was removed; or when another one answered.
            RungState::Answered | RungState::Removed => continue,
            _ if told => continue,
            _ if answered => What::AnsweredElsewhere,
            RungState::Declined => What::Ended(reason),
            _ if reason == EndReason::Declined => What::Ended(EndReason::RejectedElsewhere),
            _ if reason == EndReason::Cancelled => What::Cancelled,
            _ => What::Ended(reason),
        };
        pushes.push(Push { to: &rung.party, what });
    }
}
