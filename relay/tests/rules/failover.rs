//! A relay dies and another takes its place with an empty memory: nobody notices.

use tandem_core::residency::Input;
use tandem_core::topology::{Allocation, Attachment, ChannelBinding, ChannelNumber, Transport};
use tandem_wire::id::{AllocationId, RelayId, VirtualAddr};
use tandem_wire::redact::ClientAddr;

use crate::common::*;

#[test]
fn an_allocate_after_a_failover_returns_the_same_virtual_address() {
    let mut relay = Relay::new();
    let (mut one, mut two) = pair(&mut relay);
    let mut second = one.on_socket("198.51.100.7:41000");
    assert_eq!(second.attach(&mut relay), "203.0.113.2:1025");
    assert_eq!(one.refresh(&mut relay, 0), Some(0));
    relay.fail_over();
    assert_eq!(second.attach(&mut relay), "203.0.113.2:1025");
    assert_eq!(two.attach(&mut relay), LEG2);
    assert_eq!(one.attach(&mut relay), "203.0.113.3:1025", "a number is not given again because a relay died");
}

/// All four conversions, to the byte; only the number of a Data indication differs, which nobody looks at.
#[test]
fn channels_and_indications_go_on_exactly_as_before() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let mut third = two.on_socket("198.51.100.8:41000");
    assert_eq!(third.attach(&mut relay), "203.0.113.2:1026");
    let mut one = one;
    assert_eq!(one.bind(&mut relay, 0x4002, "203.0.113.2:1026"), Some(0));
    let everything = |relay: &mut Relay| {
        for payload in [&b""[..], b"1", b"four", b"and seventeen byt", &[0xab; 1_100]] {
            assert_eq!(one.send(relay, 0x4001, payload), on_channel(B, 0x4001, payload));
            assert_indication(&one.send(relay, 0x4002, payload), "198.51.100.8:41000", LEG1, payload);
            assert_eq!(one.indicate(relay, LEG2, payload), on_channel(B, 0x4001, payload));
            let sent = one.indicate(relay, "203.0.113.2:1026", payload);
            assert_indication(&sent, "198.51.100.8:41000", LEG1, payload);
            assert_eq!(third.indicate(relay, LEG1, payload), on_channel(A, 0x4002, payload));
        }
    };
    everything(&mut relay);
    for _ in 0..3 {
        relay.fail_over();
        everything(&mut relay);
    }
}

#[test]
fn the_nonce_of_a_dead_relay_is_good_on_its_successor() {
    let mut relay = Relay::new();
    let (mut one, _) = channel_pair(&mut relay);
    let nonce = one.nonce.clone();
    relay.fail_over();
    let request = one.signed(kind::REFRESH, &[Part::lifetime(600)]);
    assert_eq!(one.exchange(&mut relay, &request).map(|reply| reply.code), Some(0), "at the first try");
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), Some(0));
    assert_eq!(one.permit(&mut relay, LEG2), Some(0));
    assert_eq!(one.nonce, nonce, "no 438 came between");
    // A relay of another PoP has another secret.
    relay.replace(&Make { pop_secret: 77, ..Make::default() });
    relay.restore();
    let request = one.signed(kind::REFRESH, &[Part::lifetime(600)]);
    assert_eq!(one.exchange(&mut relay, &request).map(|reply| reply.code), Some(438));
}

/// What was granted is not stored, and Firefox asks for an hour and comes back after an hour less ten seconds.
#[test]
fn a_restored_allocation_lives_for_an_hour() {
    let mut relay = Relay::new();
    let (mut one, _) = channel_pair(&mut relay);
    relay.pass(5 * MINUTE);
    relay.fail_over();
    relay.pass(3_590_000);
    assert!(relay.is_attached(A) && relay.is_attached(B));
    assert_eq!(one.refresh(&mut relay, 3_600), Some(0));
    relay.pass(11_000);
    assert!(relay.is_attached(A) && !relay.is_attached(B));
    assert_eq!(relay.store.leg(one.call, leg(2)).unwrap().allocations.len(), 0);
}

#[test]
fn packets_that_arrive_during_the_restore_are_forwarded_after_it_in_their_order() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    relay.replace(&Make::default());
    for n in 0..20_u8 {
        assert!(one.send(&mut relay, 0x4001, &[n; 9]).is_empty());
    }
    assert!(two.indicate(&mut relay, LEG1, b"x").is_empty());
    relay.tell(Input::RestoreBegan);
    let snapshot = relay.store.snapshot(one.call);
    relay.tell(Input::Loaded { call: one.call, snapshot });
    let sent = relay.told(Input::Restored);
    let expected: Vec<Sent> = (0..20_u8).flat_map(|n| on_channel(B, 0x4001, &[n; 9])).collect();
    assert_eq!(sent[..20], expected);
    assert_eq!(sent[20..], on_channel(A, 0x4001, b"x"));
}

#[test]
fn packets_are_held_for_50_ms_and_then_dropped() {
    for (wait, forwarded) in [(49, 1), (51, 0)] {
        let mut relay = Relay::new();
        let (one, _) = channel_pair(&mut relay);
        relay.replace(&Make::default());
        assert!(one.send(&mut relay, 0x4001, b"x").is_empty());
        relay.pass(wait);
        relay.tell(Input::RestoreBegan);
        let snapshot = relay.store.snapshot(one.call);
        relay.tell(Input::Loaded { call: one.call, snapshot });
        assert_eq!(relay.told(Input::Restored).len(), forwarded, "{wait} ms");
    }
}

/// And what nobody explains is dropped then: a stranger's packet is not sent anywhere, nor kept.
#[test]
fn a_strangers_packets_during_the_restore_go_nowhere() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    relay.replace(&Make::default());
    for port in 1..3_000 {
        let packet = model::channel_data(0x4001, b"inject");
        assert!(relay.datagram(([192, 0, 2, 66], port).into(), &packet).is_empty());
    }
    relay.tell(Input::RestoreBegan);
    let snapshot = relay.store.snapshot(one.call);
    relay.tell(Input::Loaded { call: one.call, snapshot });
    assert!(relay.told(Input::Restored).is_empty());
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
}

#[test]
fn requests_that_arrive_during_the_restore_are_answered_after_it_and_not_with_an_error() {
    let mut relay = Relay::new();
    let (mut one, mut two) = channel_pair(&mut relay);
    relay.replace(&Make::default());
    assert_eq!(one.refresh(&mut relay, 600), None);
    assert_eq!(two.bind(&mut relay, 0x4001, LEG1), None);
    relay.tell(Input::RestoreBegan);
    let snapshot = relay.store.snapshot(one.call);
    let sent = relay.told(Input::Loaded { call: one.call, snapshot });
    assert_eq!(one.reply(&sent).map(|reply| reply.code), Some(0));
    assert_eq!(two.reply(&sent).map(|reply| reply.code), Some(0));
}

/// The store may be away just then. Whatever is asked, there is silence: any error would end the candidate pair.
#[test]
fn a_relay_that_cannot_restore_is_silent_to_all_who_have_proof() {
    let mut relay = Relay::new();
    let (mut one, _) = channel_pair(&mut relay);
    relay.replace(&Make::default());
    relay.store.mood = Mood::Away;
    for _ in 0..100 {
        assert_eq!(one.allocate(&mut relay), None);
        assert_eq!(one.refresh(&mut relay, 600), None);
        assert_eq!(one.permit(&mut relay, LEG2), None);
        assert_eq!(one.bind(&mut relay, 0x4001, LEG2), None);
        assert!(one.send(&mut relay, 0x4001, b"x").is_empty());
        assert!(relay.pass(100).is_empty());
    }
    relay.store.mood = Mood::Prompt;
    relay.restore();
    assert_eq!(one.refresh(&mut relay, 600), Some(0));
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
}

/// Two records name one address: the relay died between giving it away and writing that down. The newer one has it,
/// whichever is listed first.
#[test]
fn of_two_records_that_name_one_address_the_newer_one_has_it() {
    for newer_first in [false, true] {
        let mut relay = Relay::unrestored(&Make::default());
        let numbers = if newer_first { [2, 1] } else { [1, 2] };
        let [older, newer] = numbers.map(|n| relay.create(n, 2));
        let allocation = Allocation {
            a: AllocationId::new(1).unwrap(),
            transport: Transport::Udp,
            client: ClientAddr::new(addr(A)),
            channels: Vec::new(),
        };
        let record = Attachment { last_allocation: 1, allocations: vec![allocation], ..Attachment::empty(RelayId(1)) };
        relay.store.put_leg(older, leg(1), &record);
        relay.store.put_leg(newer, leg(1), &record);
        relay.restore();
        assert_eq!(relay.owner(addr(A)).map(|owner| owner.call), Some(newer));
        assert!(relay.store.leg(older, leg(1)).unwrap().allocations.is_empty(), "and the older one is put right");
        assert_eq!(relay.store.leg(newer, leg(1)).unwrap().allocations.len(), 1);
    }
}

/// A warm secondary follows what the primary writes, and serves from it without having been asked anything before.
#[test]
fn a_relay_that_follows_the_records_of_another_is_warm() {
    let mut primary = Relay::new();
    let (mut one, mut two) = pair(&mut primary);
    let mut secondary = Relay::unrestored(&Make { relay: 2, seed: 4, ..Make::default() });
    secondary.create(1, 2);
    secondary.restore();
    let mut follow = |primary: &Relay| {
        for (call, leg, record) in primary.store.legs() {
            let change = secondary.store.put_leg(call, leg, &record);
            secondary.follow(change);
        }
    };
    follow(&primary);
    assert_eq!((one.bind(&mut primary, 0x4001, LEG2), two.bind(&mut primary, 0x4001, LEG1)), (Some(0), Some(0)));
    follow(&primary);
    assert_eq!(one.send(&mut secondary, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
    assert_eq!(two.refresh(&mut secondary, 600), Some(0));
    assert_eq!(two.bind(&mut secondary, 0x4002, "203.0.113.9:9"), Some(0), "it may write now");
    assert_eq!(secondary.store.leg(two.call, two.leg).unwrap().relay, RelayId(2));
    assert!(secondary.store.loads.is_empty(), "it had everything");
}

/// ChannelData on a channel that this relay does not know of, but the store does: hold, read again, forward.
#[test]
fn a_channel_that_another_relay_has_written_is_found_by_its_first_packet() {
    let mut relay = Relay::new();
    let (one, _) = pair(&mut relay);
    let mut record = relay.store.leg(one.call, one.leg).unwrap();
    let binding =
        ChannelBinding { channel: ChannelNumber::new(0x4007).unwrap(), peer: VirtualAddr { octet: 1, port: 1026 } };
    record.allocations[0].channels.push(binding);
    // Written, and the change has not reached us yet.
    relay.store.put_leg(one.call, one.leg, &record);
    relay.store.mood = Mood::Slow;
    for n in 0..5_u8 {
        assert!(one.send(&mut relay, 0x4007, &[n]).is_empty());
    }
    assert_eq!(relay.store.owes(), 1, "one question for all of them");
    let sent = relay.catch_up();
    assert_eq!(sent.len(), 5);
    for (n, sent) in sent.iter().enumerate() {
        assert_indication(std::slice::from_ref(sent), B, LEG1, &[n as u8]);
    }
    assert_indication(&one.send(&mut relay, 0x4007, b"x"), B, LEG1, b"x");
}
