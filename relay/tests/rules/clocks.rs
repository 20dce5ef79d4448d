//! A wall clock that jumps by an hour, at a relay.
//!
//! Lifetimes, held packets and waits for the store go by the monotonic clock. The wall clock is looked at for the age of nonces
//! and tickets only.

use crate::common::*;

const HOUR: i64 = 3_600;

/// What two legs of a call do that is going on: media both ways, by channels and by indications.
#[track_caller]
fn talk(relay: &mut Relay, one: &Client, two: &Client) {
    assert_eq!(one.send(relay, 0x4001, b"there"), on_channel(B, 0x4001, b"there"));
    assert_eq!(two.send(relay, 0x4001, b"back"), on_channel(A, 0x4001, b"back"));
    assert_eq!(two.indicate(relay, LEG1, b"again").len(), 1);
}

#[test]
fn a_wall_clock_that_jumps_by_an_hour_ends_nothing_that_runs_and_moves_no_deadline() {
    for jumps in [[HOUR, 0, -HOUR], [-HOUR, HOUR, 0], [HOUR, -HOUR, HOUR]] {
        let mut relay = Relay::new();
        let (mut one, mut two) = channel_pair(&mut relay);
        for jump in jumps {
            relay.wall_off = jump;
            assert!(relay.pass(10_000).is_empty());
            talk(&mut relay, &one, &two);
            // A nonce of an hour that is still to come is stale: the client is told the new one, and asks again.
            assert_eq!(one.refresh(&mut relay, 600), Some(0));
            assert_eq!(two.permit(&mut relay, LEG1), Some(0));
            assert_eq!(two.bind(&mut relay, 0x4001, LEG1), Some(0));
        }
        // The last lifetimes began 10 s before this, wherever the wall clock is.
        assert_eq!(two.refresh(&mut relay, 600), Some(0));
        relay.pass(599_000);
        assert!(relay.is_attached(A) && relay.is_attached(B));
        relay.wall_off = -jumps[2];
        relay.pass(2_000);
        assert!(!relay.is_attached(A) && !relay.is_attached(B), "they end when they were to end");
    }
}

#[test]
fn a_relay_whose_clock_is_an_hour_off_lets_new_calls_in() {
    for off in [HOUR, -HOUR] {
        let mut relay = Relay::new();
        let call = relay.create(1, 2);
        // Signaling's clock is right, and a ticket is given for a day.
        let mut one = Client::with_ticket(&relay, call, 1, A, (0, 2), 24 * 3_600);
        let mut two = Client::with_ticket(&relay, call, 2, B, (0, 2), 24 * 3_600);
        relay.wall_off = off;
        assert_eq!((one.attach(&mut relay), two.attach(&mut relay)), (LEG1.to_owned(), LEG2.to_owned()));
        assert_eq!((one.bind(&mut relay, 0x4001, LEG2), two.bind(&mut relay, 0x4001, LEG1)), (Some(0), Some(0)));
        talk(&mut relay, &one, &two);
        // Its successor's clock is right; nonces of an hour ahead are stale there, and nothing else is.
        relay.fail_over();
        relay.wall_off = 0;
        talk(&mut relay, &one, &two);
        assert_eq!((one.refresh(&mut relay, 600), two.refresh(&mut relay, 600)), (Some(0), Some(0)));
    }
}

#[test]
fn a_wall_clock_that_jumps_does_not_shorten_the_wait_for_the_store() {
    for jump in [HOUR, -HOUR] {
        let mut relay = Relay::new();
        let call = relay.create(1, 2);
        let mut one = Client::new(&relay, call, 1, A);
        one.learn_nonce(&mut relay);
        relay.store.mood = Mood::Away;
        let asked = one.signed(model::kind::ALLOCATE, &[Part::udp()]);
        assert!(one.exchange(&mut relay, &asked).is_none());
        relay.wall_off = jump;
        assert!(relay.pass(2_900).is_empty(), "it waits for three seconds");
        assert_eq!(one.reply(&relay.pass(200)).map(|reply| reply.code), Some(0), "and no longer");
    }
}
