//! While a call is loading there is silence. What is negative is said only by who knows.

use tandem_core::limits::HELD_PER_CALL;
use tandem_core::residency::Input;

use crate::common::*;

/// A relay that has restored, and a call whose record it has not heard of.
fn unheard() -> (Relay, Client) {
    let mut relay = Relay::new();
    relay.store.mood = Mood::Away;
    let call = relay.create(1, 2);
    relay.store.mood = Mood::Slow;
    let mut one = Client::new(&relay, call, 1, A);
    one.learn_nonce(&mut relay);
    (relay, one)
}

#[test]
fn a_call_that_is_loading_gets_silence_and_then_its_answers() {
    let (mut relay, mut one) = unheard();
    assert_eq!(one.refresh(&mut relay, 600), None);
    let refresh = one.clone();
    assert_eq!(one.permit(&mut relay, LEG2), None);
    let permit = one.clone();
    assert_eq!(one.allocate(&mut relay), None);
    assert_eq!(relay.store.owes(), 1, "one question for all of them");
    let sent = relay.catch_up();
    // Current now: what was asked before the Allocate is told that there is no allocation.
    assert_eq!(refresh.reply(&sent).map(|reply| reply.code), Some(437));
    assert_eq!(permit.reply(&sent).map(|reply| reply.code), Some(437));
    assert_eq!(one.reply(&sent).map(|reply| reply.relayed), Some(Some(addr(LEG1))));
}

#[test]
fn whatever_is_asked_of_a_call_that_is_loading_no_error_comes() {
    let (mut relay, mut one) = unheard();
    let mut not_in_it = Client::new(&relay, one.call, 3, "198.51.100.9:1");
    not_in_it.learn_nonce(&mut relay);
    for _ in 0..20 {
        assert_eq!(one.code(&mut relay, kind::ALLOCATE, &[]), None, "400 later");
        assert_eq!(one.code(&mut relay, kind::ALLOCATE, &[Part::Raw(attr::TRANSPORT, vec![6, 0, 0, 0])]), None);
        assert_eq!(one.permit(&mut relay, "127.0.0.1:1"), None, "403 later");
        assert_eq!(one.bind(&mut relay, 0x1000, LEG2), None);
        assert_eq!(one.refresh(&mut relay, 600), None);
        assert_eq!(not_in_it.allocate(&mut relay), None);
        assert!(relay.pass(60).is_empty());
    }
    assert_eq!(relay.store.loads.len(), 1);
}

#[test]
fn at_most_32_requests_wait_for_a_call_and_none_for_more_than_50_ms() {
    let (mut relay, mut one) = unheard();
    for _ in 0..100 {
        assert_eq!(one.refresh(&mut relay, 600), None);
    }
    assert_eq!((relay.catch_up().len(), HELD_PER_CALL), (32, 32));
    for (wait, answers) in [(49, 1), (51, 0)] {
        let (mut relay, mut one) = unheard();
        assert_eq!(one.refresh(&mut relay, 600), None);
        relay.pass(wait);
        assert_eq!(relay.catch_up().len(), answers, "{wait} ms");
    }
}

#[test]
fn a_call_that_the_store_does_not_have_is_refused_once_the_store_has_said_so() {
    let mut relay = Relay::new();
    let mut one = Client::new(&relay, call_id(40), 1, A);
    one.learn_nonce(&mut relay);
    relay.store.mood = Mood::Slow;
    assert_eq!(one.allocate(&mut relay), None);
    assert_eq!(one.reply(&relay.catch_up()).map(|reply| reply.code), Some(403));
    assert_eq!(one.refresh(&mut relay, 600), Some(437));
}

#[test]
fn a_store_that_cannot_be_asked_refuses_nobody() {
    let mut relay = Relay::new();
    let mut one = Client::new(&relay, call_id(40), 1, A);
    one.learn_nonce(&mut relay);
    relay.store.mood = Mood::Away;
    for _ in 0..50 {
        assert_eq!(one.allocate(&mut relay), None);
        assert_eq!(one.refresh(&mut relay, 600), None);
        assert!(relay.pass(250).is_empty());
    }
    relay.pass(5_000);
    assert_eq!(relay.engine.residency().calls(), 0, "and nothing is kept of a call that nobody can load");
    // It was there all along.
    relay.create(40, 2);
    relay.store.mood = Mood::Prompt;
    assert_eq!(one.attach(&mut relay), LEG1);
}

/// The store is the truth, and everything else follows it: also when it says something else than a moment ago. A cache in
/// front of it may lag behind signaling, so that a ticket is quicker than its call's record.
#[test]
fn a_call_that_the_store_did_not_have_a_moment_ago_and_has_now_lets_its_legs_in() {
    let mut relay = Relay::new();
    let mut one = Client::new(&relay, call_id(40), 1, A);
    assert_eq!(one.allocate(&mut relay).map(|reply| reply.code), Some(403));
    relay.create(40, 2);
    assert_eq!(one.on_socket("198.51.100.7:41000").allocate(&mut relay).map(|reply| reply.code), Some(0));
}

/// The other way round: what was made and is gone again does not come back because its making is told late.
#[test]
fn a_change_that_is_older_than_the_stores_answer_revives_nothing() {
    let mut relay = Relay::new();
    relay.store.mood = Mood::Away;
    let call = relay.create(40, 2);
    let (record, revision) = relay.store.call(call).unwrap();
    let _ = relay.store.delete_call(call);
    relay.store.mood = Mood::Prompt;
    let mut one = Client::new(&relay, call, 1, A);
    assert_eq!(one.allocate(&mut relay).map(|reply| reply.code), Some(403));
    relay.tell(Input::CallChanged { call, record: Some(record), revision });
    assert_eq!(one.allocate(&mut relay).map(|reply| reply.code), Some(403));
    assert_eq!(one.refresh(&mut relay, 600), Some(437));
}

/// A change overtakes the answer to a question that was put before it.
#[test]
fn an_answer_that_is_older_than_what_is_known_ends_nothing() {
    let mut relay = Relay::new();
    let before = relay.store.snapshot(call_id(1));
    let (mut one, two) = channel_pair(&mut relay);
    relay.tell(Input::Loaded { call: one.call, snapshot: before });
    assert_eq!(two.send(&mut relay, 0x4001, b"x"), on_channel(A, 0x4001, b"x"));
    assert_eq!(one.refresh(&mut relay, 600), Some(0));
}

/// The connection to the store broke, and the relay lists everything anew: it goes on with what it has meanwhile.
#[test]
fn a_later_restore_interrupts_nobody_and_ends_what_it_does_not_name_only_when_the_store_says_so() {
    let mut relay = Relay::new();
    let (mut one, two) = channel_pair(&mut relay);
    let other = relay.create(2, 2);
    let mut third = Client::new(&relay, other, 1, "198.51.100.9:1");
    third.attach(&mut relay);
    relay.tell(Input::RestoreBegan);
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
    assert_eq!(one.refresh(&mut relay, 600), Some(0));
    let snapshot = relay.store.snapshot(one.call);
    relay.tell(Input::Loaded { call: one.call, snapshot });
    // The list was made before the second call was.
    relay.store.loads.clear();
    relay.tell(Input::Restored);
    assert_eq!(relay.store.loads, [other], "asked for by name");
    assert_eq!(third.refresh(&mut relay, 600), Some(0));
    // And one that has gone while we were not listening.
    let _ = relay.store.delete_call(other);
    relay.restore();
    assert_eq!(third.refresh(&mut relay, 600), Some(437));
    assert_eq!(two.send(&mut relay, 0x4001, b"x"), on_channel(A, 0x4001, b"x"));
}

/// What ended while the relay was not listening.
#[test]
fn a_call_that_ended_while_nobody_listened_is_silent_after_the_next_list() {
    let mut relay = Relay::new();
    let (one, mut two) = channel_pair(&mut relay);
    relay.store.mood = Mood::Away;
    relay.end(one.call);
    relay.store.mood = Mood::Prompt;
    relay.restore();
    assert!(one.send(&mut relay, 0x4001, b"x").is_empty());
    assert_eq!(two.allocate(&mut relay).map(|reply| reply.code), Some(403));
}
