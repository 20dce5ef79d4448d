//! A one-to-one call told as a story: what is known of it is a list of facts, and all else is asked of that list.
//!
//! Decides what the specification says of every event. Leaves the code under test aside entirely: only its names are used.

use std::collections::BTreeSet;

use crate::{A, B, Telling};

/// Something that became so. Times are wall milliseconds, as the record's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    Rings(usize),
    Busy(usize),
    Declined(usize),
    Answered(usize),
    Removed(usize),
    Lost(usize, u64),
    Back(usize),
    /// From now on only the busy have spoken, and somebody has not.
    Settling(u64),
    Unsettled,
    Over(&'static str),
}

/// What somebody tries, or what happens to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Place,
    Ring(usize),
    Accept(usize),
    Decline(usize),
    SayBusy(usize),
    HangUp(usize),
    Lose(usize),
    Rejoin(usize),
    Remove(usize),
    RingRunsOut,
    SettleRunsOut(u64),
    GraceRunsOut { leg: u16, since: u64 },
    LifeRunsOut,
    HouseKeeping,
    End(&'static str),
}

/// How it was refused, as far as the specification tells refusals apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum No {
    Exists,
    Ended,
    AnsweredElsewhere,
    AlreadyAnswered,
    NotYours,
    /// It is over, and it was never this device's either: whichever.
    EndedOrNotYours,
}

/// A timer that should be running, and what it is counted from.
pub(crate) type Waiting = (&'static str, u16, u64);

#[derive(Debug, Clone)]
pub(crate) struct Story {
    rung: usize,
    born: u64,
    ended_at: u64,
    facts: Vec<Fact>,
}

impl Story {
    pub(crate) fn new(rung: usize, born: u64) -> Self {
        Self { rung, born, ended_at: 0, facts: Vec::new() }
    }

    fn callees(&self) -> impl Iterator<Item = usize> {
        B.into_iter().take(self.rung)
    }

    fn is_callee(&self, d: usize) -> bool {
        self.callees().any(|b| b == d)
    }

    fn has(&self, fact: Fact) -> bool {
        self.facts.contains(&fact)
    }

    /// The last thing that a device of the callee has said or undergone.
    fn last(&self, d: usize) -> Option<Fact> {
        let about = |f: &&Fact| match f {
            Fact::Rings(x) | Fact::Busy(x) | Fact::Declined(x) | Fact::Answered(x) | Fact::Removed(x) => *x == d,
            _ => false,
        };
        self.facts.iter().rfind(about).copied()
    }

    pub(crate) fn over(&self) -> Option<&'static str> {
        self.facts.iter().find_map(|f| if let Fact::Over(why) = f { Some(*why) } else { None })
    }

    pub(crate) fn answerer(&self) -> Option<usize> {
        self.facts.iter().find_map(|f| if let Fact::Answered(d) = f { Some(*d) } else { None })
    }

    pub(crate) fn phase(&self) -> &'static str {
        match (self.over(), self.answerer()) {
            (Some(_), _) => "ended",
            (None, Some(_)) => "active",
            (None, None) => "ringing",
        }
    }

    /// Legs in order of arrival.
    pub(crate) fn legs(&self) -> Vec<usize> {
        std::iter::once(A).chain(self.answerer()).collect()
    }

    pub(crate) fn away(&self, d: usize) -> Option<u64> {
        let mut since = None;
        for fact in &self.facts {
            match *fact {
                Fact::Lost(x, at) if x == d => since = since.or(Some(at)),
                Fact::Back(x) if x == d => since = None,
                _ => {}
            }
        }
        since
    }

    fn settling(&self) -> Option<u64> {
        self.facts.iter().rev().find_map(|f| match f {
            Fact::Settling(at) => Some(Some(*at)),
            Fact::Unsettled | Fact::Over(_) | Fact::Answered(_) => Some(None),
            _ => None,
        })?
    }

    /// One missed-call note for each device that neither answered nor rejected, if nobody answered or declined.
    pub(crate) fn missed(&self) -> BTreeSet<usize> {
        if self.over().is_none_or(|why| why == "declined") || self.answerer().is_some() {
            return BTreeSet::new();
        }
        self.callees().filter(|d| matches!(self.last(*d), None | Some(Fact::Rings(_)))).collect()
    }

    pub(crate) fn waiting(&self) -> BTreeSet<Waiting> {
        if self.over().is_some() {
            return [("purge", 0, self.ended_at), ("forget", 0, self.ended_at)].into();
        }
        let mut all = BTreeSet::from([("life", 0, self.born)]);
        if self.answerer().is_none() {
            all.insert(("ring", 0, self.born));
            all.extend(self.settling().map(|since| ("busy", 0, since)));
        }
        for (n, d) in (1..).zip(self.legs()) {
            all.extend(self.away(d).map(|since| ("grace", n, since)));
        }
        all
    }

    /// Tries it. What is told, or why not.
    pub(crate) fn tell(&mut self, deed: Deed, at: u64) -> Result<BTreeSet<Telling>, No> {
        let (over, ringing) = (self.over().is_some(), self.phase() == "ringing");
        match deed {
            Deed::Place => return Err(No::Exists),
            Deed::Ring(d) | Deed::Accept(d) | Deed::Decline(d) | Deed::SayBusy(d) => {
                let said = self.last(d);
                if over {
                    let again = matches!(
                        (deed, said),
                        (Deed::Decline(_), Some(Fact::Declined(_))) | (Deed::SayBusy(_), Some(Fact::Busy(_)))
                    );
                    return match (again, self.is_callee(d)) {
                        (true, _) => Ok(BTreeSet::new()),
                        (false, true) => Err(No::Ended),
                        (false, false) => Err(No::EndedOrNotYours),
                    };
                }
                if !self.is_callee(d) || said == Some(Fact::Removed(d)) {
                    return Err(No::NotYours);
                }
                if !ringing {
                    return match (deed, self.answerer() == Some(d)) {
                        (_, false) => Err(No::AnsweredElsewhere),
                        (Deed::Ring(_) | Deed::Accept(_), true) => Ok(BTreeSet::new()),
                        (_, true) => Err(No::AlreadyAnswered),
                    };
                }
                return Ok(self.callee_says(deed, d, at));
            }
            Deed::HangUp(d) | Deed::Rejoin(d) if !self.legs().contains(&d) => {
                return Err(if over { No::EndedOrNotYours } else { No::NotYours });
            }
            Deed::HangUp(_) if over => {}
            Deed::HangUp(_) => return Ok(self.finish(if ringing { "cancelled" } else { "hangup" }, at)),
            Deed::Rejoin(_) | Deed::End(_) if over => return Err(No::Ended),
            Deed::Rejoin(d) => {
                let was_away = self.away(d).is_some();
                self.facts.push(Fact::Back(d));
                if was_away {
                    let n = self.legs().iter().position(|x| *x == d).unwrap() + 1;
                    return Ok(self.to_legs(&format!("leg_joined leg{n} d{d} again")));
                }
            }
            Deed::End(why) => return Ok(self.finish(why, at)),
            _ if over => {}
            Deed::Lose(d) if self.legs().contains(&d) => self.facts.push(Fact::Lost(d, at)),
            Deed::Remove(d) if self.legs().contains(&d) => {
                return Ok(self.finish(if ringing { "cancelled" } else { "kicked" }, at));
            }
            Deed::Remove(d) if ringing && self.is_callee(d) && !self.has(Fact::Removed(d)) => {
                self.facts.push(Fact::Removed(d));
                let mut told = BTreeSet::from([(d, "ended kicked".to_owned())]);
                told.extend(self.settle(at).unwrap_or_default());
                return Ok(told);
            }
            Deed::RingRunsOut if ringing => return Ok(self.finish("timeout", at)),
            Deed::SettleRunsOut(since) if ringing && self.settling() == Some(since) => {
                return Ok(self.finish("busy", at));
            }
            Deed::GraceRunsOut { leg, since } => {
                let gone = self.legs().get(usize::from(leg) - 1).and_then(|d| self.away(*d));
                if gone == Some(since) {
                    return Ok(self.finish("connection_lost", at));
                }
            }
            Deed::LifeRunsOut => return Ok(self.finish("timeout", at)),
            Deed::Lose(_) | Deed::Remove(_) | Deed::RingRunsOut | Deed::SettleRunsOut(_) | Deed::HouseKeeping => {}
        }
        Ok(BTreeSet::new())
    }

    fn callee_says(&mut self, deed: Deed, d: usize, at: u64) -> BTreeSet<Telling> {
        match deed {
            Deed::Ring(_) if self.last(d).is_none() => {
                self.facts.extend([Fact::Rings(d), Fact::Unsettled]);
                [(A, format!("ringing d{d}"))].into()
            }
            Deed::Accept(_) => {
                self.facts.push(Fact::Answered(d));
                let mut told = self.to_legs(&format!("leg_joined leg2 d{d}"));
                told.insert((A, format!("accepted leg2 d{d}")));
                told.extend(self.others(d).map(|x| (x, "answered_elsewhere".to_owned())));
                told
            }
            Deed::Decline(_) => {
                self.facts.push(Fact::Declined(d));
                self.finish("declined", at)
            }
            Deed::SayBusy(_) => {
                let news = !matches!(self.last(d), Some(Fact::Busy(_)));
                self.facts.push(Fact::Busy(d));
                let ends = self.settle(at);
                let others_ring_on = [(A, format!("rejected busy d{d}"))].into();
                ends.unwrap_or(if news { others_ring_on } else { BTreeSet::new() })
            }
            _ => BTreeSet::new(),
        }
    }

    /// Busy only if every device that could be reached is. Who has said nothing gets a little time to say that it rings.
    fn settle(&mut self, at: u64) -> Option<BTreeSet<Telling>> {
        let all: Vec<_> = self.callees().map(|d| self.last(d)).collect();
        let busy = all.iter().any(|f| matches!(f, Some(Fact::Busy(_))));
        let rings = all.iter().any(|f| matches!(f, Some(Fact::Rings(_))));
        let silent = all.iter().any(Option::is_none);
        if !rings && !silent {
            return Some(self.finish(if busy { "busy" } else { "kicked" }, at));
        }
        match (busy && !rings, self.settling()) {
            (true, None) => self.facts.push(Fact::Settling(at)),
            (false, Some(_)) => self.facts.push(Fact::Unsettled),
            _ => {}
        }
        None
    }

    /// Each leg is told the reason, and each device that it still rings at what that means for it.
    fn finish(&mut self, why: &'static str, at: u64) -> BTreeSet<Telling> {
        let mut told = self.to_legs(&format!("ended {why}"));
        if self.answerer().is_none() {
            for d in self.callees().filter(|d| !self.has(Fact::Removed(*d))) {
                told.insert((
                    d,
                    match why {
                        "cancelled" => "cancelled".to_owned(),
                        "declined" if !self.has(Fact::Declined(d)) => "ended rejected_elsewhere".to_owned(),
                        _ => format!("ended {why}"),
                    },
                ));
            }
        }
        self.facts.push(Fact::Over(why));
        self.ended_at = at;
        told
    }

    fn to_legs(&self, what: &str) -> BTreeSet<Telling> {
        self.legs().into_iter().map(|d| (d, what.to_owned())).collect()
    }

    fn others(&self, d: usize) -> impl Iterator<Item = usize> {
        self.callees().filter(move |x| *x != d && !self.has(Fact::Removed(*x)))
    }

    /// What a device that connects now is told. A removed device cannot connect: what it is told does not matter.
    pub(crate) fn told_anew(&self) -> BTreeSet<Telling> {
        let mut told = BTreeSet::new();
        match (self.over(), self.answerer()) {
            (Some(why), None) => return self.clone().finish(why, 0),
            (Some(why), Some(d)) => {
                told = self.to_legs(&format!("ended {why}"));
                told.extend(self.others(d).map(|x| (x, "answered_elsewhere".to_owned())));
            }
            (None, Some(d)) => {
                told.extend(self.to_legs("leg_joined leg1 d0"));
                told.extend(self.to_legs(&format!("leg_joined leg2 d{d}")));
                told.insert((A, format!("accepted leg2 d{d}")));
                told.extend(self.others(d).map(|x| (x, "answered_elsewhere".to_owned())));
            }
            (None, None) => {
                told.extend(self.to_legs("leg_joined leg1 d0"));
                for d in self.callees() {
                    let (offer, ring) = ((d, "offer".to_owned()), (A, format!("ringing d{d}")));
                    match self.last(d) {
                        None => told.extend([offer]),
                        Some(Fact::Rings(_)) => told.extend([offer, ring]),
                        Some(Fact::Busy(_)) => told.extend([(A, format!("rejected busy d{d}"))]),
                        _ => {}
                    }
                }
            }
        }
        told
    }

    pub(crate) fn was_removed(&self, d: usize) -> bool {
        self.has(Fact::Removed(d))
    }
}
