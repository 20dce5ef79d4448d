//! Allocations: one for each 5-tuple, whose it is, how long it lives and what ends it.

use crate::common::*;

/// A retransmission keeps its transaction; a client that has lost its patience makes a new one. Both get the same.
#[test]
fn a_retransmitted_allocate_gets_the_same_allocation() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut one = Client::new(&relay, call, 1, A);
    one.learn_nonce(&mut relay);
    let request = one.signed(kind::ALLOCATE, &[Part::udp()]);
    for _ in 0..5 {
        let reply = one.exchange(&mut relay, &request).unwrap();
        assert_eq!((reply.code, reply.relayed), (0, Some(addr(LEG1))), "never 437");
    }
    for _ in 0..5 {
        assert_eq!(one.attach(&mut relay), LEG1);
    }
    assert_eq!((relay.engine.switch().allocations(), relay.stored_allocations(&one)), (1, 1));
    assert_eq!(relay.store.writes, 1, "and it is written once");
}

#[test]
fn each_new_5_tuple_gets_an_allocation_of_its_own() {
    let mut relay = Relay::new();
    let (one, _) = pair(&mut relay);
    assert_eq!(one.on_socket("198.51.100.7:40003").attach(&mut relay), "203.0.113.2:1025");
    assert_eq!(one.on_socket("198.51.100.77:40001").attach(&mut relay), "203.0.113.3:1025");
    assert_eq!(
        one.on_socket("[2001:db8:7::1]:40001").attach(&mut relay),
        "203.0.113.4:1025",
        "an IPv4 virtual address"
    );
    let call = relay.create(2, 32);
    assert_eq!(Client::new(&relay, call, 32, "198.51.100.9:1").attach(&mut relay), "203.0.113.1:1056");
}

#[test]
fn a_number_rests_before_another_allocation_gets_it() {
    let mut relay = Relay::new();
    let (one, mut two) = pair(&mut relay);
    assert_eq!(two.bind(&mut relay, 0x4001, LEG1), Some(0));
    let mut one = one;
    for n in 2..=250 {
        assert_eq!(one.refresh(&mut relay, 0), Some(0));
        assert_eq!(one.attach(&mut relay), format!("203.0.113.{n}:1025"));
        assert!(two.send(&mut relay, 0x4001, b"x").is_empty(), "what was meant for the old one does not reach it");
    }
    assert_eq!(one.refresh(&mut relay, 0), Some(0));
    assert_eq!(one.attach(&mut relay), LEG1);
}

#[test]
fn lifetimes_are_ten_minutes_unless_more_is_asked_for_and_an_hour_at_most() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    let asked = [(0, 600), (1, 600), (60, 600), (599, 600), (600, 600), (601, 601), (777, 777), (3_599, 3_599)];
    let over = [(3_600, 3_600), (3_601, 3_600), (86_400, 3_600), (u32::MAX, 3_600)];
    for (asked, granted) in asked.into_iter().chain(over) {
        let allocated = one.ask(&mut relay, kind::ALLOCATE, &[Part::udp(), Part::lifetime(asked)]).unwrap();
        assert_eq!((allocated.code, allocated.lifetime), (0, Some(granted)), "{asked}");
        if asked > 0 {
            let refreshed = one.ask(&mut relay, kind::REFRESH, &[Part::lifetime(asked)]).unwrap();
            assert_eq!((refreshed.code, refreshed.lifetime), (0, Some(granted)), "{asked}");
        }
    }
    let unasked = one.ask(&mut relay, kind::REFRESH, &[]).unwrap();
    assert_eq!((unasked.code, unasked.lifetime), (0, Some(600)));
}

/// What was said is what is done.
#[test]
fn an_allocation_lives_as_long_as_its_client_was_told_and_then_its_record_ends_too() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    for (n, secs) in [(1_u16, 600_u32), (2, 777), (3, 3_600)] {
        let mut client = Client::new(&relay, call, 1, &format!("198.51.100.7:4000{n}"));
        let at = client.at.to_string();
        let reply = client.ask(&mut relay, kind::ALLOCATE, &[Part::udp(), Part::lifetime(secs)]).unwrap();
        assert_eq!(reply.lifetime, Some(secs));
        relay.pass(u64::from(secs) * 1_000 - 1_000);
        assert!(relay.is_attached(&at), "{secs} s, less one");
        assert_eq!(client.refresh(&mut relay, secs), Some(0));
        relay.pass(u64::from(secs) * 1_000 - 1_000);
        assert!(relay.is_attached(&at), "a refresh counts from itself");
        relay.pass(2_000);
        assert!(!relay.is_attached(&at), "{secs} s and one");
        assert_eq!(relay.stored_allocations(&client), 0);
        assert_eq!(client.refresh(&mut relay, 600), Some(437));
    }
}

/// Nothing stops at 300 s, neither a permission nor a channel: aioice and werift never renew the one and renew the other
/// at 500 s.
#[test]
fn a_channel_and_a_leg_are_permission_enough_for_as_long_as_the_allocation_lives() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let (mut one, mut two) = (Client::new(&relay, call, 1, A), Client::new(&relay, call, 2, B));
    one.ask(&mut relay, kind::ALLOCATE, &[Part::udp(), Part::lifetime(3_600)]).unwrap();
    two.ask(&mut relay, kind::ALLOCATE, &[Part::udp(), Part::lifetime(3_600)]).unwrap();
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), Some(0));
    for minutes in [4, 1, 1, 5, 20, 28] {
        relay.pass(minutes * MINUTE);
        assert_indication(&one.send(&mut relay, 0x4001, b"x"), B, LEG1, b"x");
        assert_eq!(two.indicate(&mut relay, LEG1, b"y"), on_channel(A, 0x4001, b"y"), "nobody ever asked for leave");
    }
}

#[test]
fn lifetime_zero_ends_it_at_once_and_writes_that_down() {
    let mut relay = Relay::new();
    let (mut one, two) = channel_pair(&mut relay);
    let reply = one.ask(&mut relay, kind::REFRESH, &[Part::lifetime(0)]).unwrap();
    assert_eq!((reply.code, reply.lifetime), (0, Some(0)));
    assert!(!relay.is_attached(A));
    assert!(one.send(&mut relay, 0x4001, b"x").is_empty() && two.send(&mut relay, 0x4001, b"x").is_empty());
    assert_eq!(relay.stored_allocations(&one), 0);
    relay.fail_over();
    assert!(!relay.is_attached(A) && relay.is_attached(B), "the next relay does not bring it back");
}

#[test]
fn a_call_that_ends_is_silent_from_that_moment_on() {
    let mut relay = Relay::new();
    let (mut one, two) = channel_pair(&mut relay);
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
    relay.end(one.call);
    for _ in 0..3 {
        assert!(one.send(&mut relay, 0x4001, b"x").is_empty());
        assert!(two.indicate(&mut relay, LEG1, b"x").is_empty());
        assert_eq!(one.allocate(&mut relay).map(|r| r.code), Some(403));
        assert_eq!(relay.engine.switch().allocations(), 0);
        relay.pass(40_000);
    }
    assert_eq!(relay.engine.residency().calls(), 1, "only who asked last is remembered, for a while");
    relay.pass(61_000);
    assert_eq!(relay.engine.residency().calls(), 0);
}

/// The record of an ended call may be deleted at any time.
#[test]
fn a_call_that_is_deleted_ends() {
    let mut relay = Relay::new();
    let (mut one, two) = channel_pair(&mut relay);
    let change = relay.store.delete_call(one.call);
    relay.follow(change);
    assert!(two.send(&mut relay, 0x4001, b"x").is_empty());
    assert_eq!(one.allocate(&mut relay).map(|r| r.code), Some(403));
}

#[test]
fn who_leaves_goes_alone() {
    let mut relay = Relay::new();
    let call = relay.create(1, 3);
    let mut legs: Vec<Client> = (1..=3).map(|n| Client::new(&relay, call, n, &format!("198.51.100.{n}:1"))).collect();
    legs.iter_mut().for_each(|leg| _ = leg.attach(&mut relay));
    relay.leave(call, 2);
    assert!(legs[1].indicate(&mut relay, LEG1, b"x").is_empty());
    assert!(legs[0].indicate(&mut relay, LEG2, b"x").is_empty());
    assert_indication(&legs[0].indicate(&mut relay, "203.0.113.1:1027", b"x"), "198.51.100.3:1", LEG1, b"x");
    assert_eq!(legs[1].allocate(&mut relay).map(|r| r.code), Some(403));
    relay.fail_over();
    assert!(!relay.is_attached("198.51.100.2:1") && relay.is_attached("198.51.100.1:1"));
}

/// A NAT gives an address to another client of it: who proves to be there now has it.
#[test]
fn a_new_allocation_from_an_address_evicts_the_older_one_there() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let call = relay.create(2, 2);
    let mut other = Client::new(&relay, call, 1, A);
    other.attach(&mut relay);
    assert_eq!(relay.owner(addr(A)).map(|owner| owner.call), Some(call));
    assert!(two.send(&mut relay, 0x4001, b"x").is_empty(), "its peer does not reach the new one");
    assert!(one.send(&mut relay, 0x4001, b"x").is_empty(), "its channels are not the new one's");
    assert_eq!(relay.stored_allocations(&one), 0, "and that is written");
    assert_eq!(relay.stored_allocations(&other), 1);
    relay.fail_over();
    assert_eq!(relay.owner(addr(A)).map(|owner| owner.call), Some(call));
    // The evicted one may come back the same way.
    let mut back = one.clone();
    assert_eq!(back.attach(&mut relay), "203.0.113.2:1025");
    assert_eq!(relay.owner(addr(A)).map(|owner| owner.call), Some(one.call));
    assert_eq!(relay.stored_allocations(&other), 0);
}

/// Tickets are minted again and again for the same leg.
#[test]
fn a_fresh_ticket_of_the_same_leg_goes_on_with_its_allocation() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    let mut renewed = Client::with_ticket(&relay, one.call, 1, A, (0, 2), 7_200);
    assert_ne!(renewed.username, one.username);
    assert_eq!(renewed.refresh(&mut relay, 600), Some(0));
    assert_eq!(renewed.bind(&mut relay, 0x4001, LEG2), Some(0));
    assert_eq!(renewed.attach(&mut relay), LEG1);
    assert_eq!(relay.stored_allocations(&one), 1);
}

#[test]
fn without_an_allocation_every_request_but_allocate_gets_437() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut one = Client::new(&relay, call, 1, A);
    assert_eq!(one.refresh(&mut relay, 600), Some(437));
    assert_eq!(one.refresh(&mut relay, 0), Some(437));
    assert_eq!(one.permit(&mut relay, LEG2), Some(437));
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), Some(437));
    assert_eq!(relay.store.writes, 0);
    // Of another address of the same leg as well.
    Client::new(&relay, call, 1, B).attach(&mut relay);
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), Some(437));
}
