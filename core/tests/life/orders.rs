//! Every ordering of nine events, up to seven of them, some twice and more: 5,380,839 sequences where the answering device
//! declines or is busy, 597,870 (up to six events) in each of some other worlds.
//!
//! Decides what must be true after each. What is expected is read off the sequence of events, never off the record.

use std::collections::BTreeSet;

use tandem_core::topology::{Call, CallCommand, Phase, Refusal, Rejection, Timer};
use tandem_wire::id::LegId;
use tandem_wire::party::Party;
use tandem_wire::units::Wall;

use crate::{A, B, CAST, Telling, cast, devices, is_last_word, now, place, text, told};

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

/// Which timer runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Out {
    Ring,
    /// That of the caller's absence.
    Grace,
    /// That of those who are busy.
    Settle,
}

#[derive(Debug, Clone, Copy)]
struct World {
    /// How many devices of the callee it rings at.
    rung: usize,
    rejecter: usize,
    rejection: Rejection,
    out: Out,
    /// How many events.
    depth: u32,
}

/// How a sequence of events must have gone, read off the events alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Fate {
    placed: bool,
    answerer: Option<usize>,
    end: Option<&'static str>,
    rings: bool,
    rejected: bool,
    away: bool,
}

impl Fate {
    fn then(self, world: &World, event: Event) -> Self {
        if event == Event::Offer {
            return Self { placed: true, ..self };
        }
        if !self.placed || self.end.is_some() {
            return self;
        }
        let ringing = self.answerer.is_none();
        let over = |why| Self { end: Some(why), ..self };
        let said_busy = self.rejected;
        // The first device rings, unless it was that device which became busy.
        let first_rings = self.rings && !(said_busy && world.rejecter == B[0]);
        match event {
            Event::Accept if ringing => Self { answerer: Some(B[0]), ..self },
            Event::SecondAccept if ringing && world.rung > 1 => Self { answerer: Some(B[1]), ..self },
            Event::Ringing if ringing && !(said_busy && world.rejecter == B[0]) => Self { rings: true, ..self },
            Event::Reject if ringing => match world.rejection {
                Rejection::Declined => over("declined"),
                Rejection::Busy if world.rung == 1 => over("busy"),
                Rejection::Busy => Self { rejected: true, ..self },
            },
            Event::Cancel => over(if ringing { "cancelled" } else { "hangup" }),
            Event::Timeout => match world.out {
                Out::Ring if ringing => over("timeout"),
                Out::Grace if self.away => over("connection_lost"),
                Out::Settle if ringing && said_busy && !first_rings => over("busy"),
                _ => self,
            },
            Event::Disconnect => Self { away: true, ..self },
            Event::Rejoin => Self { away: false, ..self },
            _ => self,
        }
    }

    /// Exactly one note for each of these.
    fn missed(self, world: &World) -> BTreeSet<usize> {
        if self.answerer.is_some() || self.end.is_none_or(|why| why == "declined") {
            return BTreeSet::new();
        }
        let busy = |d: usize| (self.rejected || self.end == Some("busy")) && d == world.rejecter;
        B[..world.rung].iter().copied().filter(|d| !busy(*d)).collect()
    }
}

/// What has happened on the way to a place in the tree of all sequences.
#[derive(Clone)]
struct Path {
    record: Option<Call>,
    fate: Fate,
    accepted: BTreeSet<usize>,
    heard: Vec<Telling>,
}

struct Walk {
    world: World,
    cast: [Party; CAST],
    sequence: Vec<Event>,
    seen: usize,
}

impl Walk {
    fn command(&self, record: Option<&Call>, event: Event) -> CallCommand {
        let by = |d: usize| self.cast[d].clone();
        match event {
            Event::Offer => place(&self.cast, self.world.rung),
            Event::Ringing => CallCommand::Ringing(by(B[0])),
            Event::Accept => CallCommand::Accept(by(B[0])),
            Event::Reject => CallCommand::Reject(by(self.world.rejecter), self.world.rejection),
            Event::Cancel => CallCommand::Hangup(by(A)),
            Event::SecondAccept => CallCommand::Accept(by(B[1])),
            Event::Disconnect => CallCommand::Disconnect(by(A)),
            Event::Rejoin => CallCommand::Rejoin(by(A)),
            Event::Timeout => {
                let running = |timer: &Timer| match self.world.out {
                    Out::Ring => *timer == Timer::Ring,
                    Out::Grace => matches!(timer, Timer::Grace { .. }),
                    Out::Settle => matches!(timer, Timer::Busy { .. }),
                };
                // One that does not run is one that was late.
                let since = Wall::from_millis(1);
                let late = match self.world.out {
                    Out::Ring => Timer::Ring,
                    Out::Grace => Timer::Grace { leg: LegId::new(1).unwrap(), since },
                    Out::Settle => Timer::Busy { since },
                };
                let timer = record.and_then(|call| call.timers().map(|(timer, _)| timer).find(running));
                CallCommand::Expire(timer.unwrap_or(late))
            }
        }
    }

    fn descend(&mut self, path: &Path) {
        for event in EVENTS {
            self.sequence.push(event);
            self.seen += 1;
            let next = self.step(path, event);
            if self.sequence.len() < self.world.depth as usize {
                self.descend(next.as_ref().unwrap_or(path));
            }
            self.sequence.pop();
        }
    }

    /// The place after `event`, if that is another one.
    fn step(&self, path: &Path, event: Event) -> Option<Path> {
        let depth = self.sequence.len() as u64;
        let at = |more: u64| now(0, 1_000 * depth + more);
        let command = || self.command(path.record.as_ref(), event);
        let result = Call::apply(path.record.as_ref(), command(), at(0));
        let fate = path.fate.then(&self.world, event);
        let call = match result {
            Ok(call) => call,
            Err(refusal) => {
                self.refused(path, event, refusal);
                assert_eq!(fate, path.fate, "{:?}: refused with {refusal:?}", self.sequence);
                return None;
            }
        };
        let accepter = match event {
            Event::Accept => Some(B[0]),
            Event::SecondAccept => Some(B[1]),
            _ => None,
        };
        if path.record.as_ref() == Some(&call) {
            assert_eq!(fate, path.fate, "{:?}: nothing came of it", self.sequence);
            assert!(accepter.is_none_or(|d| path.accepted.contains(&d)), "{:?}: accepted anew", self.sequence);
            return None;
        }
        let mut next = Path { record: None, fate, accepted: path.accepted.clone(), heard: path.heard.clone() };
        next.accepted.extend(accepter);
        next.heard.extend(told(&self.cast, path.record.as_ref(), &call));
        self.check(path, &next, &call);

        // The same once more, with the record written down and read in between.
        let read = Call::from_json(&call.to_json().unwrap()).unwrap();
        assert_eq!(read, call);
        let again = Call::apply(Some(&read), command(), at(7));
        if event == Event::Offer {
            assert_eq!(again, Err(Refusal::CallExists));
        } else {
            assert_eq!(again, Ok(read), "{:?} twice", self.sequence);
        }
        next.record = Some(call);
        Some(next)
    }

    fn refused(&self, path: &Path, event: Event, refusal: Refusal) {
        let Fate { answerer, end, placed, .. } = path.fate;
        let expected = match event {
            Event::Offer => Refusal::CallExists,
            Event::SecondAccept if self.world.rung == 1 && placed && end.is_none() => Refusal::UnknownLeg,
            Event::SecondAccept if self.world.rung == 1 => refusal,
            _ if !placed || end.is_some() => Refusal::CallEnded,
            Event::Reject if answerer == Some(self.world.rejecter) => Refusal::Answered,
            Event::Ringing | Event::Accept | Event::SecondAccept | Event::Reject => Refusal::AnsweredElsewhere,
            _ => panic!("{:?}: refused with {refusal:?}", self.sequence),
        };
        assert_eq!(refusal, expected, "{:?}", self.sequence);
    }

    fn check(&self, before: &Path, path: &Path, call: &Call) {
        let (world, seq, fate) = (&self.world, &self.sequence, &path.fate);
        assert!(path.accepted.len() <= 1, "{seq:?}: two have accepted");
        assert_eq!(path.accepted, fate.answerer.into_iter().collect(), "{seq:?}: who answered");
        assert_eq!(call.ended.map(|ended| text(ended.reason)).as_deref(), fate.end, "{seq:?}: its end");
        if let Some(old) = before.record.as_ref().and_then(|old| old.ended) {
            assert_eq!(call.ended, Some(old), "{seq:?}: it ended anew");
        }
        let phase = match (fate.end, fate.answerer) {
            (Some(_), _) => Phase::Ended,
            (None, Some(_)) => Phase::Active,
            (None, None) => Phase::Ringing,
        };
        assert_eq!(call.phase(), phase, "{seq:?}");

        // Leg 1 is the caller's, leg 2 that of whoever accepted; once there, always there and the same device's.
        let legs: Vec<_> = call.legs.iter().map(|leg| (leg.n.get(), leg.party.clone().unwrap())).collect();
        let owners = std::iter::once(A).chain(fate.answerer).map(|d| self.cast[d].clone());
        assert_eq!(legs, (1..).zip(owners).collect::<Vec<_>>(), "{seq:?}: legs");
        for (d, party) in self.cast.iter().enumerate() {
            let has = call.leg_of(party).is_some();
            assert_eq!(has, d == A || fate.answerer == Some(d), "{seq:?}: a ticket for d{d}");
        }
        assert_eq!(devices(&self.cast, call.missed()), fate.missed(world), "{seq:?}: who missed it");

        for (d, what) in &path.heard {
            assert!(*d == A || B[..world.rung].contains(d), "{seq:?}: d{d} is a stranger, and told {what}");
        }
        for d in B.into_iter().take(world.rung) {
            let heard = |wanted: fn(&str) -> bool| path.heard.iter().filter(|(x, w)| *x == d && wanted(w)).count();
            assert_eq!(heard(|what| what == "offer"), 1, "{seq:?}: offers to d{d}");
            let over = fate.end.is_some() || fate.answerer.is_some_and(|answerer| answerer != d);
            assert_eq!(heard(is_last_word), usize::from(over), "{seq:?}: last words to d{d}: {:?}", path.heard);
            if fate.answerer == Some(d) {
                let joined = heard(|what| what.starts_with("leg_joined leg2") && !what.ends_with("again"));
                assert_eq!(joined, 1, "{seq:?}: d{d} is told of its leg");
            }
        }
        let ends = path.heard.iter().filter(|(d, what)| *d == A && is_last_word(what)).count();
        assert_eq!(ends, usize::from(fate.end.is_some()), "{seq:?}: the caller is told of the end");
    }
}

fn walk(world: World) {
    let mut walk = Walk { world, cast: cast(), sequence: Vec::new(), seen: 0 };
    walk.descend(&Path { record: None, fate: Fate::default(), accepted: BTreeSet::new(), heard: Vec::new() });
    // 9 + 9^2 + … + 9^depth.
    assert_eq!(walk.seen, (9_usize.pow(world.depth + 1) - 9) / 8);
}

#[test]
fn every_ordering_in_which_the_answering_device_declines() {
    walk(World { rung: 3, rejecter: B[0], rejection: Rejection::Declined, out: Out::Ring, depth: 7 });
}

#[test]
fn every_ordering_in_which_a_third_device_declines_and_the_caller_is_lost() {
    walk(World { rung: 3, rejecter: B[2], rejection: Rejection::Declined, out: Out::Grace, depth: 6 });
}

#[test]
fn every_ordering_in_which_the_answering_device_is_busy() {
    walk(World { rung: 2, rejecter: B[0], rejection: Rejection::Busy, out: Out::Ring, depth: 7 });
}

#[test]
fn every_ordering_in_which_another_device_is_busy_and_nobody_else_rings() {
    walk(World { rung: 2, rejecter: B[1], rejection: Rejection::Busy, out: Out::Settle, depth: 6 });
}

#[test]
fn every_ordering_in_which_a_third_device_is_busy_and_the_caller_is_lost() {
    walk(World { rung: 3, rejecter: B[2], rejection: Rejection::Busy, out: Out::Grace, depth: 6 });
}

#[test]
fn every_ordering_in_which_the_only_device_is_busy() {
    walk(World { rung: 1, rejecter: B[0], rejection: Rejection::Busy, out: Out::Settle, depth: 6 });
}
