//! What becomes of buckets and flows when relays meet their fates. Every time is exact.

use super::super::*;
use super::world::{Fate, MEDIA, World, client, cookie, row, serving, stun, ticket};
use crate::topology::Table;
use tandem_wire::stun::{Class, Method};
use tandem_wire::tunnel::Head;

fn twice(scenario: impl Fn(bool)) {
    scenario(false);
    scenario(true);
}

#[test]
fn a_packet_goes_by_its_ticket_then_by_its_flow_and_else_only_questions_are_answered() {
    twice(|replaces| {
        let mut world = World::of(replaces, 3);
        let bucket = world.bucket_of(2, 3);
        assert_eq!(world.send(client(1), &MEDIA), Err(Dropped::UnknownSource));
        assert_eq!(world.goes(bucket), (2, false));
        world.attach(2, 1, bucket);
        world.replace();
        let went = world.send(client(1), &MEDIA).unwrap();
        assert_eq!((went.relay, went.bucket, went.acting, went.epoch), (2, bucket, false, 1));
        // A ticket says more than where it comes from.
        let other = world.bucket_of(1, 3);
        assert_eq!(world.send(client(1), &ticket(other)).unwrap().relay, 1);
        assert_eq!(world.send(client(1), &MEDIA).unwrap().relay, 2, "a ticket alone teaches nothing");
        for method in [Method::Binding, Method::Allocate] {
            let question = stun(Class::Request, method, None);
            assert_eq!(world.send(client(1), &question).unwrap().relay, 2, "a known one asks its own");
            assert!(world.send(client(2), &question).is_ok(), "anybody may ask");
            let indication = stun(Class::Indication, method, None);
            assert_eq!(world.send(client(2), &indication), Err(Dropped::UnknownSource));
        }
        let refresh = stun(Class::Request, Method::Refresh, None);
        assert_eq!(world.send(client(2), &refresh), Err(Dropped::UnknownSource));
        world.release(1);
        world.replace();
        assert_eq!(world.send(client(1), &MEDIA), Err(Dropped::UnknownSource));
    });
}

#[test]
fn a_relay_that_refuses_is_down_two_milliseconds_later_and_its_secondary_acts() {
    twice(|replaces| {
        let mut world = World::of(replaces, 3);
        let bucket = world.bucket_of(2, 3);
        world.attach(2, 1, bucket);
        world.fates.insert(2, Fate::Gone);
        let (at, line) = (world.ms, world.line_of(2).unwrap());
        world.steering.handle(world.now(), Input::Refused(line));
        let asked = world.probes.len();
        world.carry_out();
        assert_eq!(world.probes.len(), asked + 1, "it is asked once more, at once");
        world.run(1);
        assert_eq!(world.goes(bucket), (2, false));
        world.run(1);
        assert_eq!(world.turned(2, State::Down(Cause::Refused)), Some(at + 2));
        world.replace();
        assert_eq!(world.goes(bucket), (3, true));
        let went = world.send(client(1), &MEDIA).unwrap();
        assert_eq!((went.relay, went.acting), (3, true));
        assert_eq!(world.goes(world.bucket_of(1, 2)), (1, false), "nobody else moves");
    });
}

#[test]
fn a_refusal_of_a_relay_that_echoes_is_forged_and_changes_nothing() {
    let mut world = World::of(false, 3);
    for _ in 0..50 {
        let line = world.line_of(2).unwrap();
        world.steering.handle(world.now(), Input::Refused(line));
        world.carry_out();
        world.run(3);
    }
    assert_eq!(world.state(2), State::Up);
}

#[test]
fn silence_makes_a_relay_suspect_after_30_ms_and_down_after_100_and_no_millisecond_sooner() {
    twice(|replaces| {
        let mut world = World::of(replaces, 3);
        let bucket = world.bucket_of(2, 3);
        world.fates.insert(2, Fate::Silent);
        // The last echo may still be under way.
        let heard = world.ms + 1;
        let line = world.line_of(2).unwrap();
        world.run(1);
        let known = world.steering.counters().echoes.get();
        world.run(28);
        assert_eq!(world.state(2), State::Up);
        let last = world.turns.len();
        world.run(12);
        let suspected = world.turned(2, State::Suspect).unwrap();
        assert_eq!(world.turns.len(), last + 1);
        assert!(known > 0 && world.lines.contains_key(&line) && suspected <= heard + 30);
        assert_eq!(world.goes(bucket), (2, false), "a suspect keeps what it has");
        world.run(100);
        assert_eq!(world.turned(2, State::Down(Cause::Silent)), Some(suspected + 70));
        world.replace();
        assert_eq!(world.goes(bucket), (3, true));
    });
}

#[test]
fn a_suspect_that_echoes_is_up_again_and_gets_nothing_new_meanwhile() {
    let mut world = World::of(false, 2);
    let question = stun(Class::Request, Method::Binding, None);
    let mine = (0..100).find(|n| world.send(client(*n), &question).unwrap().relay == 2).unwrap();
    world.fates.insert(2, Fate::Silent);
    world.run(50);
    assert_eq!(world.state(2), State::Suspect);
    let went = world.send(client(mine), &question).unwrap();
    assert_eq!((went.relay, went.acting), (1, true), "whoever is sent elsewhere is told so");
    world.fates.insert(2, Fate::Lives(1));
    world.run(20);
    assert_eq!((world.state(2), world.send(client(mine), &question).unwrap().relay), (State::Up, 2));
}

#[test]
fn down_lasts_until_a_newer_table_and_until_the_relay_has_shown_itself() {
    let mut world = World::of(false, 3);
    let bucket = world.bucket_of(2, 3);
    world.fates.insert(2, Fate::Silent);
    world.run(150);
    world.fates.insert(2, Fate::Lives(1));
    world.run(5_000);
    assert_eq!(
        (world.state(2), world.goes(bucket)),
        (State::Down(Cause::Silent), (3, true)),
        "it echoes, and stays down"
    );
    // The same table again, and an older one, change nothing.
    world.plan(serving(1, 1..=3));
    world.plan(serving(0, 1..=2));
    assert_eq!(world.state(2), State::Down(Cause::Silent));
    world.plan(serving(2, 1..=3));
    assert_eq!((world.state(2), world.goes(bucket)), (State::Probing, (3, true)), "three echoes first");
    world.run(40);
    assert_eq!((world.state(2), world.goes(bucket)), (State::Up, (2, false)));
    // One that does not echo is not brought back by any table.
    world.fates.insert(2, Fate::Silent);
    world.run(300);
    world.plan(serving(3, 1..=3));
    assert_eq!((world.state(2), world.goes(bucket)), (State::Down(Cause::Silent), (3, true)));
    // A new run of it is.
    let new = row(2, 9, Standing::Serving);
    world.fates.insert(2, Fate::Lives(1));
    world.plan(Table::new(4, vec![row(1, 1, Standing::Serving), new, row(3, 1, Standing::Serving)]));
    assert_eq!((world.state(2), world.goes(bucket)), (State::Probing, (3, true)));
    world.run(40);
    assert_eq!(world.goes(bucket), (2, false));
}

#[test]
fn the_table_that_the_store_has_later_counts_whatever_its_epoch() {
    let mut world = World::of(false, 3);
    world.plan(serving(7, 1..=3));
    // The store was wiped: its tables begin at 1 again, and its relays have registered anew. Its revisions are later.
    let rows = (1..=3).map(|relay| row(relay, 9, Standing::Serving)).collect();
    world.fates = (1..=3).map(|relay| (relay, Fate::Replaced)).collect();
    world.run(40);
    let bucket = world.bucket_of(2, 3);
    assert_eq!(world.state(2), State::Down(Cause::Replaced), "by the old table");
    world.fates = (1..=3).map(|relay| (relay, Fate::Lives(1))).collect();
    world.plan_of_store(Table::new(1, rows), 5_000, false);
    world.run(100);
    assert_eq!((world.steering.epoch(), world.state(2), world.goes(bucket)), (1, State::Up, (2, false)));
    // A state server that is behind shows what was before, with whatever epoch: it changes nothing.
    for (epoch, revision) in [(7, 107), (2, 4_999), (9, 5_000)] {
        world.plan_of_store(serving(epoch, [1]), revision, false);
        assert_eq!((world.steering.epoch(), world.goes(bucket)), (1, (2, false)), "{epoch} {revision}");
    }
    // An older state of the store was put back, and is the truth now.
    world.plan_of_store(serving(3, [1, 3]), 300, true);
    assert_eq!((world.steering.epoch(), world.goes(bucket).0), (3, 3));
    // It goes on from there; and what was before it was put back is not later for having been.
    world.plan_of_store(serving(4, [1]), 301, false);
    assert_eq!((world.steering.epoch(), world.goes(bucket).0), (4, 1));
    world.plan_of_store(serving(3, [1, 3]), 301, true);
    assert_eq!(world.steering.epoch(), 4, "the same record, read again");
}

#[test]
fn a_relay_that_says_goodbye_or_has_been_replaced_is_down_at_once() {
    twice(|replaces| {
        let mut world = World::of(replaces, 4);
        let (first, second) = (world.bucket_of(2, 1), world.bucket_of(3, 1));
        let line = world.line_of(2).unwrap();
        let head = Head { back: true, leaving: true, ..Head::to_relay(client(0).client, BucketId(0), 1, cookie(2, 1)) };
        let forged = Head { cookie: cookie(2, 2), ..head };
        assert_eq!(world.steering.returned(world.now(), line, &forged.to_bytes()), Back::Drop(Dropped::WrongCookie));
        assert_eq!(world.goes(first), (2, false));
        for _ in 0..3 {
            assert_eq!(world.steering.returned(world.now(), line, &head.to_bytes()), Back::Told);
        }
        world.carry_out();
        assert_eq!((world.state(2), world.goes(first)), (State::Down(Cause::Leaving), (1, true)));
        world.fates.insert(2, Fate::Gone);
        world.fates.insert(3, Fate::Replaced);
        world.run(12);
        assert_eq!((world.state(3), world.goes(second)), (State::Down(Cause::Replaced), (1, true)));
        world.replace();
        assert_eq!((world.goes(first), world.goes(second)), ((1, true), (1, true)));
        assert_eq!(world.steering.counters().downs.iter().map(|total| total.get()).sum::<u64>(), 2);
    });
}

#[test]
fn a_relay_that_is_drained_gets_nothing_new_and_what_is_its_own_as_before() {
    let mut world = World::of(false, 2);
    let question = stun(Class::Request, Method::Binding, None);
    let bucket = world.bucket_of(2, 1);
    let line = world.line_of(2).unwrap();
    // The echo of a probe that is still to be answered.
    world.fates.insert(2, Fate::Silent);
    world.steering.handle(world.now(), Input::Refused(line));
    let Some(Output::Probe { bytes, .. }) = world.steering.poll() else { panic!("a refusal asks") };
    let (head, rest) = Head::read(&bytes).unwrap();
    let probe = tandem_wire::tunnel::Probe { incarnation: 1, ..tandem_wire::tunnel::Probe::read(rest).unwrap() };
    let head = Head { back: true, leaving: true, ..head };
    let forged = [&Head { cookie: cookie(2, 2), ..head }.to_bytes()[..], &probe.to_bytes()].concat();
    assert_eq!(world.steering.returned(world.now(), line, &forged), Back::Drop(Dropped::WrongCookie));
    let echo = [&head.to_bytes()[..], &probe.to_bytes()].concat();
    assert_eq!(world.steering.returned(world.now(), line, &echo), Back::Told);
    assert_eq!(world.steering.returned(world.now(), line, &echo), Back::Drop(Dropped::NotBack), "an echo counts once");
    assert!((0..100).all(|n| world.send(client(n), &question).unwrap().relay == 1));
    assert_eq!((world.state(2), world.goes(bucket)), (State::Up, (2, false)));
}

/// L06: all are down, and it fails open.
#[test]
fn when_both_of_its_row_are_down_the_next_by_score_acts_and_when_all_are_the_primary_is_tried() {
    twice(|replaces| {
        let mut world = World::of(replaces, 4);
        let bucket = world.bucket_of(1, 2);
        let table = world.table.clone().unwrap();
        let rows = Rows::of(&table);
        let third = rows.first(BucketId(bucket), |place| place.0 > 1).unwrap().0 + 1;
        for relay in [1, 2] {
            world.fates.insert(relay, Fate::Gone);
            world.run(15);
        }
        world.replace();
        assert_eq!(world.goes(bucket), (third, true));
        for relay in [3, 4] {
            world.fates.insert(relay, Fate::Gone);
            world.run(15);
        }
        assert_eq!(world.steering.relays()[3], 4);
        assert_eq!(world.goes(bucket), (1, false), "it can only get better");
        world.replace();
        assert_eq!(world.goes(bucket), (1, false));
    });
}

#[test]
fn relays_that_fall_silent_together_without_refusing_are_not_taken_for_down() {
    let mut world = World::of(false, 9);
    let bucket = world.bucket_of(2, 8);
    let fallen = world.ms;
    for relay in 1..=4 {
        world.fates.insert(relay, Fate::Silent);
        world.run(15);
    }
    world.run(500);
    assert_eq!((world.frosts.len(), world.frosts[0].1), (1, true));
    assert!((fallen + 100..=fallen + 112).contains(&world.frosts[0].0), "{fallen} {:?}", world.frosts);
    assert!((1..=4).all(|relay| world.state(relay) == State::Suspect));
    assert_eq!(world.goes(bucket), (2, false));
    // A refusal still counts.
    world.fates.insert(9, Fate::Gone);
    world.run(15);
    assert_eq!(world.state(9), State::Down(Cause::Refused));
    // One of four is not half of them; two are.
    world.fates.insert(1, Fate::Lives(1));
    world.run(50);
    assert_eq!((world.frosts.len(), world.state(1)), (1, State::Up));
    world.fates.insert(2, Fate::Lives(1));
    world.run(50);
    assert_eq!(world.frosts.last().map(|(_, frozen)| *frozen), Some(false));
    assert_eq!((world.state(1), world.state(2)), (State::Up, State::Up));
    assert_eq!((world.state(3), world.state(4)), (State::Down(Cause::Silent), State::Down(Cause::Silent)));
}

#[test]
fn those_that_were_taken_for_down_before_it_was_clear_that_it_is_our_fault_are_taken_back() {
    let mut world = World::of(false, 9);
    world.fates.insert(1, Fate::Silent);
    world.run(90);
    world.fates.extend([(2, Fate::Silent), (3, Fate::Silent)]);
    world.run(30);
    assert_eq!(world.state(1), State::Down(Cause::Silent));
    world.run(100);
    assert_eq!(world.frosts.len(), 1);
    assert!((1..=3).all(|relay| world.state(relay) == State::Suspect));
    // Had they fallen one by one, they would be down.
    let mut world = World::of(false, 9);
    for relay in 1..=3 {
        world.fates.insert(relay, Fate::Silent);
        world.run(250);
    }
    assert!(world.frosts.is_empty() && (1..=3).all(|relay| world.state(relay) == State::Down(Cause::Silent)));
}

#[test]
fn a_table_without_those_that_froze_us_ends_the_frost() {
    let mut world = World::of(false, 5);
    world.fates.extend([(1, Fate::Silent), (2, Fate::Silent), (3, Fate::Silent)]);
    world.run(200);
    assert_eq!(world.frosts.len(), 1);
    world.plan(serving(2, 4..=5));
    world.run(1);
    assert_eq!(world.frosts.last().map(|(_, frozen)| *frozen), Some(false));
}

#[test]
fn a_pause_of_our_own_is_nobody_s_silence() {
    let mut world = World::of(false, 2);
    // We stand still: nothing is sent, nothing is heard, and the relays live.
    world.quiet();
    world.ms += 5_000;
    world.step();
    world.run(50);
    assert_eq!((world.state(1), world.state(2)), (State::Up, State::Up));
    assert_eq!(world.steering.counters().pauses.get(), 1);
    // One that died meanwhile is found out as if it had died now.
    world.fates.insert(2, Fate::Silent);
    world.quiet();
    world.ms += 5_000;
    let at = world.ms;
    world.run(110);
    assert!(world.turned(2, State::Down(Cause::Silent)).is_some_and(|down| down > at + 60), "{:?}", world.turns);
}

#[test]
fn every_relay_is_asked_every_ten_milliseconds() {
    let mut world = World::of(false, 3);
    world.probes.clear();
    world.run(100);
    for relay in 1..=3 {
        let times: Vec<u64> = world.probes.iter().filter(|(_, to)| *to == relay).map(|(at, _)| *at).collect();
        assert_eq!(times.len(), 10);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 10), "{times:?}");
    }
}

#[test]
fn a_new_load_balancer_sends_packets_where_the_one_before_did_from_the_first_one_on() {
    let mut world = World::of(false, 4);
    let before: Vec<(u16, bool)> = (0..2_000).map(|bucket| world.goes(bucket * 32)).collect();
    world.really_replace();
    let after: Vec<(u16, bool)> = (0..2_000).map(|bucket| world.goes(bucket * 32)).collect();
    assert_eq!(before, after);
    assert_eq!(world.state(1), State::Probing);
    // While they show themselves, too: one echoes at once, the others take their time.
    world.fates.extend([(2, Fate::Lives(9)), (3, Fate::Lives(9)), (4, Fate::Lives(9))]);
    for _ in 0..60 {
        world.run(1);
        assert!((0..100).all(|n| world.goes(n * 640) == before[usize::from(n) * 20]));
    }
    assert_eq!(world.steering.relays()[1], 4);
}

#[test]
fn a_new_table_moves_sockets_only_for_those_that_come_and_go() {
    let mut world = World::of(false, 3);
    let (first, third) = (world.line_of(1).unwrap(), world.line_of(3).unwrap());
    world.fates.insert(9, Fate::Lives(1));
    world.plan(serving(2, [1, 3, 9]));
    assert_eq!((world.line_of(1), world.line_of(3), world.lines.len()), (Some(first), Some(third), 3));
    world.run(50);
    assert_eq!(world.steering.relays(), [0, 3, 0, 0, 0]);
    // A packet of the relay that is gone is nobody's; one of a new run comes over the same socket.
    let new = row(1, 2, Standing::Serving);
    let old = Head { back: true, ..Head::to_relay(client(1).client, BucketId(1), 1, cookie(1, 1)) };
    world.plan(Table::new(3, vec![new, row(3, 1, Standing::Serving)]));
    assert_eq!(world.line_of(1), Some(first));
    let bytes = [&old.to_bytes()[..], b"x"].concat();
    assert_eq!(world.steering.returned(world.now(), first, &bytes), Back::Drop(Dropped::WrongCookie));
    // Nobody in the table: nothing can be sent.
    world.plan(Table::new(4, vec![]));
    assert_eq!((world.send(client(1), &ticket(5)), world.lines.len()), (Err(Dropped::NoTable), 0));
    world.run(100);
}

#[test]
fn a_flow_stays_where_its_bucket_is_over_a_new_table() {
    twice(|replaces| {
        let mut world = World::of(replaces, 3);
        let bucket = world.bucket_of(3, 2);
        world.attach(3, 1, bucket);
        world.plan(serving(2, 1..=2));
        world.replace();
        let went = world.send(client(1), &MEDIA).unwrap();
        assert_eq!((went.relay, went.acting, went.epoch, went.bucket), (2, false, 2, bucket));
    });
}

#[test]
fn who_fills_or_drains_is_asked_and_gets_no_bucket() {
    let mut world = World::new(false, 5);
    world.fates = (1..=3).map(|relay| (relay, Fate::Lives(1))).collect();
    let rows = [row(1, 1, Standing::Serving), row(2, 1, Standing::Filling), row(3, 1, Standing::Draining)];
    world.plan(Table::new(1, rows.to_vec()));
    world.run(50);
    assert_eq!(world.steering.relays()[1], 3);
    assert!((0..200).all(|bucket| world.goes(bucket * 300) == (1, false)));
    let question = stun(Class::Request, Method::Binding, None);
    assert!((0..200).all(|n| world.send(client(n), &question).unwrap().relay == 1));
    // What the one that drains still sends goes to its client.
    assert_eq!(world.back(3, client(5), 0, None), Back::To { flow: client(5), listener: 0 });
}

#[test]
fn what_comes_back_leaves_by_the_way_that_the_client_uses() {
    let mut world = World::new(false, 5);
    let own = ["192.0.2.1:3478", "[2001:db8::1]:3478"].map(|text| text.parse().unwrap());
    world.steering.listens_at(&own);
    world.fates.insert(1, Fate::Lives(1));
    world.plan(serving(1, [1]));
    world.claim(1, 77);
    // The relay has restored the leg from the store, and knows nothing of ways; nor do we before the client speaks.
    assert_eq!(world.back(1, client(1), 0, None), Back::To { flow: client(1), listener: 0 });
    assert!(matches!(world.steering.datagram(world.now(), client(1), 1, &MEDIA), Verdict::Forward { .. }));
    assert_eq!(world.back(1, client(1), 0, None), Back::To { flow: client(1), listener: 1 });
}
