//! Every order of what can happen to a call, and the rules one by one.

use core::net::SocketAddr;
use std::collections::BTreeSet;

use tandem_wire::id::PopId;
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::Span;

use super::*;
use crate::topology::{AttachmentCommand, Call, CallCommand, CallKind, EndReason, Transport};

type Calls = Residency<u32, u32>;

fn id() -> CallId {
    CallId::new(PopId(1), tandem_wire::id::BucketId(2), 3)
}

fn leg() -> LegId {
    LegId::new(1).unwrap()
}

fn at(millis: u64) -> Now {
    Now { mono: Mono::default().after(Span::from_millis(millis)), ..Now::default() }
}

fn record() -> Call {
    let create = CallCommand::Create { id: id(), kind: CallKind::OneToOne, legs: 2 };
    Call::apply(None, create, Now::default()).unwrap()
}

fn ended() -> Call {
    Call::apply(Some(&record()), CallCommand::End { reason: EndReason::Hangup }, Now::default()).unwrap()
}

fn snapshot(revision: u64, legs: Vec<(LegId, Attachment, Revision)>) -> Snapshot {
    Snapshot { at: Revision(revision), call: Some((record(), Revision(1))), legs }
}

fn none(revision: u64) -> Snapshot {
    Snapshot { at: Revision(revision), call: None, legs: Vec::new() }
}

fn client(n: u32) -> ClientAddr {
    ClientAddr::new(SocketAddr::from(([192, 0, 2, 1], 1000 + n as u16)))
}

fn attach(n: u32) -> AttachmentCommand {
    AttachmentCommand::Attach { transport: Transport::Udp, client: client(n) }
}

fn command(n: u32) -> Input<u32, u32> {
    Input::Command { call: id(), leg: leg(), command: attach(n), answer: Some(n) }
}

fn drain(calls: &mut Calls) -> Vec<Output<u32, u32>> {
    core::iter::from_fn(|| calls.poll()).collect()
}

/// A relay that has restored, with the call current if asked for.
fn relay(current: bool) -> Calls {
    let mut calls = Calls::new(RelayId(1), 1);
    calls.handle(at(0), Input::RestoreBegan).unwrap();
    if current {
        calls.handle(at(0), Input::Loaded { call: id(), snapshot: snapshot(1, Vec::new()) }).unwrap();
    }
    calls.handle(at(0), Input::Restored).unwrap();
    assert_eq!(drain(&mut calls), []);
    calls
}

fn ask(held: u32) -> Input<u32, u32> {
    Input::Ask { call: id(), held }
}

#[test]
fn a_call_that_is_loading_holds_32_requests_for_50_ms_and_says_nothing() {
    let mut calls = relay(false);
    for n in 0..40 {
        calls.handle(at(0), ask(n)).unwrap();
    }
    assert_eq!(drain(&mut calls), [Output::Load { call: id() }]);
    assert_eq!(calls.counters().over_cap, 8);
    calls.expire(at(49));
    assert_eq!(calls.counters().held_in_vain, 0);
    calls.expire(at(50));
    assert_eq!(calls.counters().held_in_vain, 32);
    assert_eq!(drain(&mut calls), []);
    calls.handle(at(60), ask(99)).unwrap();
    calls.handle(at(70), Input::Loaded { call: id(), snapshot: snapshot(1, Vec::new()) }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Serve { call: id(), held: 99 }]);
}

#[test]
fn a_call_that_never_was_is_refused_only_once_the_store_has_said_so() {
    let mut calls = relay(false);
    calls.handle(at(0), ask(1)).unwrap();
    calls.handle(at(10), Input::LoadFailed { call: id() }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Load { call: id() }], "and no refusal");
    calls.handle(at(270), ask(2)).unwrap();
    calls.expire(at(270));
    assert_eq!(drain(&mut calls), [Output::Load { call: id() }]);
    calls.handle(at(275), Input::Loaded { call: id(), snapshot: none(5) }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Forget { call: id() }, Output::Refuse { held: 2 }]);
    calls.handle(at(300), ask(3)).unwrap();
    assert_eq!(drain(&mut calls), [Output::Refuse { held: 3 }], "without asking again");
    calls.expire(at(275 + 60_000));
    assert_eq!(calls.calls(), 0);
}

#[test]
fn an_answer_waits_until_its_write_is_durable() {
    let mut calls = relay(true);
    calls.handle(at(0), command(1)).unwrap();
    let outputs = drain(&mut calls);
    assert!(
        matches!(outputs[..], [Output::Attach { .. }, Output::Write { based_on: Revision::ZERO, .. }]),
        "{outputs:?}"
    );
    calls.handle(at(1), command(1)).unwrap();
    calls.handle(at(2), command(2)).unwrap();
    let outputs = drain(&mut calls);
    assert!(matches!(outputs[..], [Output::Attach { .. }]), "one write at a time: {outputs:?}");
    calls.handle(at(3), Input::Written { call: id(), leg: leg(), revision: Revision(7) }).unwrap();
    let outputs = drain(&mut calls);
    let answered = [Output::Answer { answer: 1, durable: true }, Output::Answer { answer: 1, durable: true }];
    assert_eq!(outputs[..2], answered, "the retransmission too");
    assert!(
        matches!(&outputs[2..], [Output::Write { based_on: Revision(7), attachment, .. }] if attachment.allocations.len() == 2)
    );
    calls.handle(at(4), Input::Written { call: id(), leg: leg(), revision: Revision(8) }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Answer { answer: 2, durable: true }]);
    calls.handle(at(5), command(2)).unwrap();
    assert_eq!(
        drain(&mut calls),
        [Output::Answer { answer: 2, durable: true }],
        "what changes nothing is answered at once"
    );
}

#[test]
fn without_a_store_for_three_seconds_the_answer_comes_from_memory_and_the_write_later() {
    let mut calls = relay(true);
    calls.handle(at(0), command(1)).unwrap();
    drain(&mut calls);
    calls.handle(at(100), Input::WriteAway { call: id(), leg: leg() }).unwrap();
    calls.expire(at(349));
    assert_eq!(drain(&mut calls), []);
    calls.expire(at(350));
    assert!(matches!(drain(&mut calls)[..], [Output::Write { .. }]), "tried again");
    calls.expire(at(2_999));
    assert_eq!(drain(&mut calls), []);
    calls.expire(at(3_000));
    assert_eq!(drain(&mut calls), [Output::Answer { answer: 1, durable: false }]);
    assert_eq!(calls.counters().undurable, 1);
    // It has been away for long: the next one does not wait another three seconds.
    calls.handle(at(3_200), Input::WriteAway { call: id(), leg: leg() }).unwrap();
    calls.handle(at(3_201), command(2)).unwrap();
    let outputs = drain(&mut calls);
    assert!(outputs.contains(&Output::Answer { answer: 2, durable: false }), "{outputs:?}");
    // The write whose fate nobody knows goes first, as it was; then what has come since.
    for (millis, allocations, revision) in [(3_450, 1, 9), (3_460, 2, 10)] {
        calls.expire(at(millis));
        let outputs = drain(&mut calls);
        assert!(
            matches!(&outputs[..], [Output::Write { attachment, .. }] if attachment.allocations.len() == allocations),
            "{outputs:?}"
        );
        let written = Input::Written { call: id(), leg: leg(), revision: Revision(revision) };
        calls.handle(at(millis + 5), written).unwrap();
    }
    assert_eq!(drain(&mut calls), []);
    assert_eq!(calls.next_deadline(), None, "and nothing is left to do");
}

#[test]
fn a_store_that_never_answers_counts_as_away_after_three_seconds() {
    let mut calls = relay(true);
    calls.handle(at(0), command(1)).unwrap();
    drain(&mut calls);
    assert_eq!(calls.next_deadline(), Some(at(3_000).mono));
    calls.expire(at(3_000));
    assert_eq!(drain(&mut calls), [Output::Answer { answer: 1, durable: false }]);
}

#[test]
fn a_stale_write_answers_nobody_and_loads_the_call_again() {
    let mut calls = relay(true);
    calls.handle(at(0), command(1)).unwrap();
    drain(&mut calls);
    calls.handle(at(1), Input::WriteStale { call: id(), leg: leg() }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Load { call: id() }]);
    calls.handle(at(2), ask(5)).unwrap();
    assert_eq!(drain(&mut calls), [], "held, not refused");
    let theirs = Attachment::empty(RelayId(9)).apply(&record(), leg(), RelayId(9), attach(7)).unwrap().unwrap();
    let loaded = snapshot(20, vec![(leg(), theirs.clone(), Revision(19))]);
    calls.handle(at(3), Input::Loaded { call: id(), snapshot: loaded }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Attach { call: id(), leg: leg() }, Output::Serve { call: id(), held: 5 }]);
    assert_eq!(calls.attachment(id(), leg()), Some(&theirs));
    assert_eq!((calls.counters().conflicts.get(), calls.counters().abandoned.get()), (1, 1));
}

#[test]
fn the_echo_of_our_own_write_changes_nothing_and_a_strangers_write_wins() {
    let mut calls = relay(true);
    calls.handle(at(0), command(1)).unwrap();
    drain(&mut calls);
    let ours = calls.attachment(id(), leg()).unwrap().clone();
    let echo = |record: &Attachment, revision| Input::AttachmentChanged {
        call: id(),
        leg: leg(),
        record: Some(record.clone()),
        revision: Revision(revision),
    };
    calls.handle(at(1), echo(&ours, 7)).unwrap();
    assert_eq!(drain(&mut calls), [], "before its answer");
    calls.handle(at(2), Input::Written { call: id(), leg: leg(), revision: Revision(7) }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Answer { answer: 1, durable: true }]);
    calls.handle(at(3), echo(&ours, 7)).unwrap();
    assert_eq!(drain(&mut calls), [], "and after it");
    let theirs = Attachment::empty(RelayId(9));
    calls.handle(at(4), echo(&theirs, 8)).unwrap();
    assert_eq!(drain(&mut calls), [Output::Attach { call: id(), leg: leg() }]);
    assert_eq!(calls.attachment(id(), leg()), Some(&theirs));
    let gone = Input::AttachmentChanged { call: id(), leg: leg(), record: None, revision: Revision(9) };
    calls.handle(at(5), gone).unwrap();
    assert_eq!(drain(&mut calls), [Output::Detach { call: id(), leg: leg() }]);
}

#[test]
fn a_write_whose_answer_was_lost_is_found_again_by_its_echo() {
    let mut calls = relay(true);
    calls.handle(at(0), command(1)).unwrap();
    drain(&mut calls);
    let ours = calls.attachment(id(), leg()).unwrap().clone();
    let echo = Input::AttachmentChanged { call: id(), leg: leg(), record: Some(ours), revision: Revision(7) };
    calls.handle(at(1), echo.clone()).unwrap();
    calls.handle(at(2_000), Input::WriteAway { call: id(), leg: leg() }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Answer { answer: 1, durable: true }]);
    // The other way round: first given up, then heard.
    let mut calls = relay(true);
    calls.handle(at(0), command(1)).unwrap();
    calls.handle(at(1), Input::WriteAway { call: id(), leg: leg() }).unwrap();
    drain(&mut calls);
    calls.handle(at(2), echo).unwrap();
    assert_eq!(drain(&mut calls), [Output::Answer { answer: 1, durable: true }]);
    assert_eq!(calls.next_deadline(), None);
}

#[test]
fn a_call_that_ends_answers_nobody_and_refuses_who_asks() {
    let mut calls = relay(true);
    calls.handle(at(0), command(1)).unwrap();
    drain(&mut calls);
    let change = Input::CallChanged { call: id(), record: Some(ended()), revision: Revision(9) };
    calls.handle(at(1), change).unwrap();
    assert_eq!(drain(&mut calls), [Output::Forget { call: id() }]);
    calls.handle(at(2), Input::Written { call: id(), leg: leg(), revision: Revision(8) }).unwrap();
    calls.handle(at(3), ask(4)).unwrap();
    assert_eq!(drain(&mut calls), [Output::Refuse { held: 4 }]);
    assert_eq!(calls.handle(at(4), command(5)), Err(Refusal::CallEnded));
    calls.expire(at(60_001));
    assert_eq!((calls.calls(), calls.next_deadline()), (0, None));
}

#[test]
fn packets_from_unknown_addresses_wait_for_the_first_restore_and_no_longer() {
    let mut calls = Calls::new(RelayId(1), 1);
    calls.handle(at(0), Input::Stray { held: 1 }).unwrap();
    calls.handle(at(30), Input::Stray { held: 2 }).unwrap();
    calls.expire(at(50));
    calls.handle(at(60), Input::RestoreBegan).unwrap();
    calls.handle(at(60), Input::Restored).unwrap();
    assert_eq!(drain(&mut calls), [Output::Retry { held: 2 }]);
    calls.handle(at(70), Input::Stray { held: 3 }).unwrap();
    assert_eq!(drain(&mut calls), []);
    assert_eq!(calls.next_deadline(), None);
}

#[test]
fn a_request_during_the_restore_is_served_by_it_or_asked_for_after_it() {
    let mut calls = Calls::new(RelayId(1), 1);
    calls.handle(at(0), Input::RestoreBegan).unwrap();
    let other = CallId::from_bits(99);
    calls.handle(at(1), ask(1)).unwrap();
    calls.handle(at(1), Input::Ask { call: other, held: 2 }).unwrap();
    assert_eq!(drain(&mut calls), []);
    calls.handle(at(2), Input::Loaded { call: id(), snapshot: snapshot(1, Vec::new()) }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Serve { call: id(), held: 1 }]);
    calls.handle(at(3), Input::Restored).unwrap();
    assert_eq!(drain(&mut calls), [Output::Load { call: other }]);
}

#[test]
fn a_second_restore_asks_for_what_it_does_not_name() {
    let mut calls = relay(true);
    calls.handle(at(0), Input::RestoreBegan).unwrap();
    calls.handle(at(0), ask(1)).unwrap();
    assert_eq!(drain(&mut calls), [Output::Serve { call: id(), held: 1 }], "it is served meanwhile");
    calls.handle(at(0), Input::Restored).unwrap();
    assert_eq!(drain(&mut calls), [Output::Load { call: id() }]);
    calls.handle(at(1), Input::Loaded { call: id(), snapshot: none(9) }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Forget { call: id() }]);
}

#[test]
fn a_doubted_packet_has_the_record_read_again_once_a_second() {
    let mut calls = relay(true);
    let doubt = |held| Input::Doubt { call: id(), held };
    calls.handle(at(0), doubt(1)).unwrap();
    calls.handle(at(1), doubt(2)).unwrap();
    assert_eq!(drain(&mut calls), [Output::Load { call: id() }]);
    calls.handle(at(5), Input::Loaded { call: id(), snapshot: snapshot(3, Vec::new()) }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Retry { held: 1 }, Output::Retry { held: 2 }]);
    calls.handle(at(900), doubt(3)).unwrap();
    assert_eq!(drain(&mut calls), []);
    calls.handle(at(1_000), doubt(4)).unwrap();
    assert_eq!(drain(&mut calls), [Output::Load { call: id() }]);
}

#[test]
fn a_load_that_is_older_than_what_is_known_takes_nothing_back() {
    let mut calls = relay(true);
    calls.handle(at(0), Input::Doubt { call: id(), held: 1 }).unwrap();
    calls.handle(at(0), command(1)).unwrap();
    calls.handle(at(1), Input::Written { call: id(), leg: leg(), revision: Revision(7) }).unwrap();
    drain(&mut calls);
    calls.handle(at(2), Input::Loaded { call: id(), snapshot: snapshot(6, Vec::new()) }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Retry { held: 1 }]);
    assert_eq!(calls.attachment(id(), leg()).unwrap().allocations.len(), 1);
    calls.handle(at(3), Input::Loaded { call: id(), snapshot: snapshot(8, Vec::new()) }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Detach { call: id(), leg: leg() }], "a newer one does");
}

/// What can happen to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Packet,
    Loaded,
    NotFound,
    WriteDone,
    WriteFailed,
    StoreAway,
    CallEnded,
}

const EVENTS: [Event; 7] = [
    Event::Packet,
    Event::Loaded,
    Event::NotFound,
    Event::WriteDone,
    Event::WriteFailed,
    Event::StoreAway,
    Event::CallEnded,
];

/// A relay and its store, as seen from outside: does what the residency asks, and checks every rule as it does.
#[derive(Default)]
struct World {
    now: u64,
    revision: u64,
    next_packet: u32,
    stored: Option<(Attachment, Revision)>,
    in_flight: Option<Attachment>,
    loading: bool,
    /// Clients whose attachment the store has confirmed or shown.
    durable: BTreeSet<u32>,
    asked_at: std::collections::BTreeMap<u32, u64>,
    fates: BTreeSet<u32>,
    away_since: Option<u64>,
    over: bool,
}

impl World {
    fn clients(record: &Attachment) -> BTreeSet<u32> {
        record.allocations.iter().map(|a| u32::from(a.client.socket_addr().port()) - 1000).collect()
    }

    fn event(&mut self, calls: &mut Calls, event: Event) {
        // What is due is done before what is new.
        self.settle(calls);
        let now = at(self.now);
        let (call, leg) = (id(), leg());
        match event {
            Event::Packet => {
                self.next_packet += 1;
                self.asked_at.insert(self.next_packet, self.now);
                calls.handle(now, ask(self.next_packet)).unwrap();
            }
            Event::Loaded => {
                self.loading = false;
                self.away_since = None;
                self.revision += 1;
                let legs = self.stored.iter().map(|(record, revision)| (leg, record.clone(), *revision)).collect();
                let snapshot = if self.over {
                    Snapshot { at: Revision(self.revision), call: Some((ended(), Revision(self.revision))), legs }
                } else {
                    snapshot(self.revision, legs)
                };
                calls.handle(now, Input::Loaded { call, snapshot }).unwrap();
            }
            Event::NotFound => {
                self.loading = false;
                self.away_since = None;
                self.revision += 1;
                self.over = true;
                calls.handle(now, Input::Loaded { call, snapshot: none(self.revision) }).unwrap();
            }
            Event::WriteDone => {
                if let Some(record) = self.in_flight.take() {
                    self.away_since = None;
                    self.revision += 1;
                    self.durable.extend(Self::clients(&record));
                    self.stored = Some((record, Revision(self.revision)));
                    calls.handle(now, Input::Written { call, leg, revision: Revision(self.revision) }).unwrap();
                }
            }
            Event::WriteFailed => {
                if self.in_flight.take().is_some() {
                    self.away_since = None;
                    // Somebody else wrote: an empty attachment.
                    self.revision += 1;
                    self.stored = Some((Attachment::empty(RelayId(9)), Revision(self.revision)));
                    calls.handle(now, Input::WriteStale { call, leg }).unwrap();
                }
            }
            Event::StoreAway => {
                if self.in_flight.take().is_some() {
                    self.away_since.get_or_insert(self.now);
                    calls.handle(now, Input::WriteAway { call, leg }).unwrap();
                } else if self.loading {
                    self.loading = false;
                    self.away_since.get_or_insert(self.now);
                    calls.handle(now, Input::LoadFailed { call }).unwrap();
                }
            }
            Event::CallEnded => {
                self.revision += 1;
                self.over = true;
                let record = Some(ended());
                calls.handle(now, Input::CallChanged { call, record, revision: Revision(self.revision) }).unwrap();
            }
        }
        self.settle(calls);
    }

    fn settle(&mut self, calls: &mut Calls) {
        calls.expire(at(self.now));
        while let Some(output) = calls.poll() {
            match output {
                Output::Load { .. } => {
                    assert!(!self.loading, "one load at a time");
                    self.loading = true;
                }
                Output::Write { attachment, .. } => {
                    assert!(self.in_flight.is_none(), "one write at a time");
                    self.in_flight = Some(attachment);
                }
                Output::Serve { held, .. } => {
                    assert!(self.fates.insert(held), "served or refused once");
                    assert!(!self.over, "nobody is served after the end");
                    assert!(self.now - self.asked_at[&held] <= 50, "held no longer than 50 ms");
                    calls.handle(at(self.now), command(held)).unwrap();
                }
                Output::Refuse { held } => {
                    assert!(self.fates.insert(held), "served or refused once");
                    assert!(self.over, "a refusal needs to know that the call is over");
                }
                Output::Answer { answer, durable } => {
                    assert!(!self.over, "no answer after the end");
                    if durable {
                        assert!(self.durable.contains(&answer), "durable before it is said");
                    } else {
                        let since = self.away_since.unwrap_or(u64::MAX).min(self.asked_at[&answer]);
                        assert!(self.now >= since + 3_000, "three seconds without the store");
                    }
                }
                Output::Retry { .. } => unreachable!("nothing was doubted"),
                Output::Attach { .. } | Output::Detach { .. } | Output::Forget { .. } => {}
            }
        }
    }
}

/// Runs every sequence of up to seven events, `step` milliseconds apart.
fn every_order(step: u64) {
    let mut orders = 0;
    let mut sequence = [0_usize; 7];
    loop {
        let mut calls = Calls::new(RelayId(1), 1);
        calls.handle(at(0), Input::RestoreBegan).unwrap();
        calls.handle(at(0), Input::Restored).unwrap();
        let mut world = World { revision: 1, ..World::default() };
        for index in sequence {
            world.now += step;
            world.event(&mut calls, EVENTS[index]);
        }
        // Then the store is away for good: nothing hangs, nothing is kept that nobody needs.
        for _ in 0..8 {
            world.now += 60_000;
            world.event(&mut calls, Event::StoreAway);
        }
        if world.over {
            assert_eq!(calls.calls(), 0, "an ended call is forgotten: {:?}", sequence.map(|i| EVENTS[i]));
        }
        orders += 1;
        let Some(at) = sequence.iter().rposition(|index| *index < EVENTS.len() - 1) else { break };
        sequence[at] += 1;
        sequence[at + 1..].fill(0);
    }
    assert_eq!(orders, 823_543);
}

#[test]
fn every_order_of_seven_events_keeps_the_rules_at_20_ms_apart() {
    every_order(20);
}

#[test]
fn every_order_of_seven_events_keeps_the_rules_at_1500_ms_apart() {
    every_order(1_500);
}

#[test]
fn strays_wait_while_more_buckets_are_listed_and_what_was_held_before_is_not_asked_for_again() {
    let mut calls = relay(true);
    calls.handle(at(10), Input::FillBegan).unwrap();
    assert!(calls.holds_strays() && !calls.restoring());
    calls.handle(at(10), Input::Stray { held: 7 }).unwrap();
    let other = CallId::new(PopId(1), tandem_wire::id::BucketId(3), 4);
    calls.handle(at(11), Input::Ask { call: other, held: 8 }).unwrap();
    assert_eq!(drain(&mut calls), [Output::Load { call: other }], "a request does not wait for the list");
    calls.handle(at(12), Input::Filled).unwrap();
    assert_eq!(drain(&mut calls), [Output::Retry { held: 7 }], "and the call of before is not loaded");
    assert!(!calls.holds_strays());
}

#[test]
fn what_is_told_of_no_more_is_forgotten_unless_it_waits_for_something() {
    let mut calls = relay(true);
    calls.handle(at(0), command(1)).unwrap();
    drain(&mut calls);
    calls.handle(at(1), Input::Narrowed { ranges: vec![(0, 1), (3, 9)] }).unwrap();
    assert_eq!((drain(&mut calls), calls.calls()), (vec![], 1), "its write is under way");
    calls.handle(at(2), Input::Written { call: id(), leg: leg(), revision: Revision(5) }).unwrap();
    drain(&mut calls);
    calls.handle(at(3), Input::Narrowed { ranges: vec![(0, 1), (2, 2), (3, 9)] }).unwrap();
    assert_eq!((drain(&mut calls), calls.calls()), (vec![], 1), "its bucket is kept");
    calls.handle(at(4), Input::Narrowed { ranges: vec![(0, 1), (3, 9)] }).unwrap();
    assert_eq!((drain(&mut calls), calls.calls()), (vec![Output::Forget { call: id() }], 0));
    calls.expire(at(60_000));
    assert_eq!(calls.next_deadline(), None);
}
