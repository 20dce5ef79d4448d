//! R09, R14, R21, R37, R38, R41, X05: what a call or a leg may have, and that nothing breaks at a bound.

use tandem_core::limits::{
    ALLOCATIONS_PER_LEG, ALLOCATIONS_PER_RELAY, CALL_BYTES_PER_SECOND, CHANNELS_PER_ALLOCATION, GROUP_LEGS,
};
use tandem_core::residency::Input;
use tandem_core::switch::{Counter, Counters, Input as SwitchInput, Newness, Slot, Source, Switch, Verdict};
use tandem_core::topology::{Allocation, Attachment, Transport};
use tandem_core::turn::GateError;
use tandem_relay::engine::Engine;
use tandem_relay::{Config, Entrance};
use tandem_wire::id::{AllocationId, RelayId};
use tandem_wire::redact::ClientAddr;
use tandem_wire::ticket::KeyError;
use tandem_wire::units::{Mono, Now, Span, Total, Wall};

use crate::common::*;

/// R09: there is no deny list to mistype. What there is to get wrong is refused before anything is bound.
#[test]
fn a_config_that_cannot_stand_is_refused_by_name() {
    let good = Config {
        entrance: Entrance::Clients(addr("127.0.0.1:0")),
        pop: POP,
        relay: RelayId(1),
        realm: "tndm".to_owned(),
        pop_secret: secret(1),
        ticket_keys: vec![(0, secret(2)), (7, secret(3))],
    };
    assert_eq!(good.check(), Ok(()));
    for realm in ["", "tandem", "five5"] {
        let config = Config { realm: realm.to_owned(), ..good.clone() };
        assert_eq!(config.check(), Err(GateError::Realm), "{realm:?} leaves no room for 64-byte answers");
    }
    let short = tandem_wire::redact::Secret::new(vec![1; 31]);
    assert_eq!(Config { pop_secret: short.clone(), ..good.clone() }.check(), Err(GateError::Secret));
    for (keys, error) in [
        (vec![], KeyError::None),
        (vec![(0, short)], KeyError::Short),
        (vec![(8, secret(2))], KeyError::Id),
        (vec![(1, secret(2)), (1, secret(3))], KeyError::Duplicate),
    ] {
        assert_eq!(Config { ticket_keys: keys, ..good.clone() }.check(), Err(GateError::Key(error)));
    }
}

/// R14
#[test]
fn a_ticket_for_a_call_that_ended_or_never_was_opens_nothing() {
    let mut relay = Relay::new();
    let (mut one, mut two) = channel_pair(&mut relay);
    relay.end(one.call);
    assert_eq!(one.allocate(&mut relay).map(|r| r.code), Some(403));
    assert_eq!(one.on_socket("198.51.100.7:41000").allocate(&mut relay).map(|r| r.code), Some(403));
    assert_eq!(two.refresh(&mut relay, 600), Some(437));
    assert_eq!(two.permit(&mut relay, LEG1), Some(437));
    assert_eq!(two.bind(&mut relay, 0x4001, LEG1), Some(437));
    let never = Client::new(&relay, call_id(77), 1, "198.51.100.9:1");
    assert_eq!(never.clone().allocate(&mut relay).map(|r| r.code), Some(403));
    assert_eq!(never.clone().refresh(&mut relay, 600), Some(437));
    // A relay that has never heard of the ended call says the same, once it has asked.
    relay.fail_over();
    assert_eq!(one.allocate(&mut relay).map(|r| r.code), Some(403));
    assert_eq!(two.refresh(&mut relay, 600), Some(437));
    assert_eq!(relay.engine.switch().allocations(), 0);
}

/// R14
#[test]
fn a_leg_that_is_not_in_the_call_or_has_left_opens_nothing() {
    let mut relay = Relay::new();
    let (one, mut two) = channel_pair(&mut relay);
    let mut third = Client::new(&relay, one.call, 3, "198.51.100.9:1");
    assert_eq!(third.allocate(&mut relay).map(|r| r.code), Some(403));
    relay.leave(one.call, 2);
    assert_eq!(two.allocate(&mut relay).map(|r| r.code), Some(403));
    assert!(matches!(two.refresh(&mut relay, 600), Some(403 | 437)));
    assert!(two.send(&mut relay, 0x4001, b"x").is_empty(), "it sends nothing");
    assert!(one.send(&mut relay, 0x4001, b"x").is_empty(), "and gets nothing");
    assert!(relay.is_attached(A) && !relay.is_attached(B));
}

/// R14, R39: a call is no tunnel for bulk data, however many allocations its legs have; and it takes nothing from others.
#[test]
fn a_call_sends_no_more_than_its_rate_and_others_lose_nothing() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let mut third = one.on_socket("198.51.100.7:42000");
    relay.pass(20);
    third.attach(&mut relay);
    let other = relay.create(9, 2);
    let [mut neighbour, mut friend] =
        [(1, "198.51.100.70:1"), (2, "198.51.100.80:1")].map(|(leg, at)| Client::new(&relay, other, leg, at));
    neighbour.attach(&mut relay);
    friend.attach(&mut relay);
    assert_eq!(neighbour.bind(&mut relay, 0x4001, LEG2), Some(0));
    relay.pass(2_000);
    let (rate, payload) = (CALL_BYTES_PER_SECOND as usize, vec![7; 1_000]);
    // Ten times the rate for five seconds, over three allocations; beside it a call within its own.
    let mut passed = 0;
    for ms in 0..5_000 {
        for n in 0..80 {
            passed += match n % 4 {
                0 | 1 => one.send(&mut relay, 0x4001, &payload).len(),
                2 => two.send(&mut relay, 0x4001, &payload).len(),
                _ => third.indicate(&mut relay, LEG2, &payload).len(),
            };
        }
        if ms % 5 == 0 {
            assert_eq!(neighbour.send(&mut relay, 0x4001, &payload).len(), 1, "others lose nothing");
        }
        relay.pass(1);
    }
    // What it may at once, and five seconds of its rate.
    let most = 6 * rate / payload.len();
    assert!((most - 10..=most).contains(&passed), "{passed} of {most}");
    let dropped = relay.engine.switch().counters.get(Counter::OverRate);
    assert_eq!(dropped, 5_000 * 80 - passed as u64, "and what is dropped is counted");
    // A moment later it goes on, and within its rate it loses nothing.
    relay.pass(1_000);
    for _ in 0..2_000 {
        for _ in 0..4 {
            assert_eq!(one.send(&mut relay, 0x4001, &payload).len() + two.send(&mut relay, 0x4001, &payload).len(), 2);
        }
        relay.pass(1);
    }
}

/// R38
#[test]
fn a_leg_has_24_allocations_and_then_none_more_until_one_ends() {
    let mut relay = Relay::new();
    let (one, mut two) = pair(&mut relay);
    let mut sockets: Vec<Client> = (1..ALLOCATIONS_PER_LEG as u16)
        .map(|n| {
            relay.pass(20);
            let mut socket = one.on_socket(&format!("198.51.100.7:{}", 42_000 + n));
            assert_eq!(socket.attach(&mut relay), format!("203.0.113.{}:1025", n + 1));
            socket
        })
        .collect();
    assert_eq!(ALLOCATIONS_PER_LEG, 24);
    let mut over = one.on_socket("198.51.100.7:43000");
    assert_eq!(over.allocate(&mut relay).map(|r| r.code), Some(486));
    assert!(!relay.is_attached("198.51.100.7:43000"));
    assert_eq!(sockets[5].allocate(&mut relay).map(|r| r.code), Some(0), "asking again is not one more");
    assert_eq!(relay.stored_allocations(&one), 24);
    // The other leg of the call, and other calls, still get theirs.
    assert_eq!(two.on_socket("198.51.100.8:43000").attach(&mut relay), "203.0.113.2:1026");
    assert_eq!(two.refresh(&mut relay, 600), Some(0));
    let other = relay.create(9, 2);
    assert_eq!(Client::new(&relay, other, 1, "198.51.100.7:44000").attach(&mut relay), LEG1);
    assert_eq!(sockets[0].refresh(&mut relay, 0), Some(0));
    assert_eq!(over.attach(&mut relay), "203.0.113.25:1025", "a number that nobody has had yet");
}

/// R21: a client that goes without a word and comes back from another port, a thousand times, is alive 24 times and no more. There is
/// no half-closed connection over UDP to escape by: what frees a place is the end of an allocation.
#[test]
fn of_a_thousand_allocations_under_one_ticket_as_many_are_alive_as_a_leg_may_have() {
    let mut relay = Relay::new();
    let (one, _) = pair(&mut relay);
    let mut codes = std::collections::BTreeMap::<u16, usize>::new();
    let mut attempt = |relay: &mut Relay, n: u16| {
        let at = format!("198.51.{}.{}:{}", 101 + n / 200, 1 + n % 200, 5_000 + n);
        relay.pass(20);
        *codes.entry(one.on_socket(&at).allocate(relay).map_or(0, |reply| reply.code)).or_default() += 1;
    };
    for n in 0..1_000 {
        if n == 500 {
            // Whoever takes over counts on.
            relay.fail_over();
        }
        attempt(&mut relay, n);
    }
    assert_eq!(codes, [(0, ALLOCATIONS_PER_LEG - 1), (486, 1_001 - ALLOCATIONS_PER_LEG)].into());
    assert_eq!((relay.stored_allocations(&one), relay.engine.switch().allocations()), (24, 25));
}

/// R37
#[test]
fn an_allocation_has_256_channels_and_the_next_one_is_refused() {
    let mut relay = Relay::new();
    let (mut one, mut two) = pair(&mut relay);
    for n in 0..CHANNELS_PER_ALLOCATION as u16 {
        assert_eq!(one.bind(&mut relay, 0x4000 + n, &format!("203.0.113.9:{}", 2_000 + n)), Some(0));
    }
    assert_eq!(one.bind(&mut relay, 0x5000, "203.0.113.9:9999"), Some(508));
    assert_eq!(one.bind(&mut relay, 0x4000, "203.0.113.9:2000"), Some(0), "a renewal is not one more");
    assert_eq!(two.bind(&mut relay, 0x5000, "203.0.113.9:9999"), Some(0), "others have their own");
}

/// R38: a relay that is full refuses new allocations, and serves those that it has.
#[test]
fn a_full_relay_answers_508_to_what_is_new_and_goes_on_with_what_it_has() {
    let mut relay = Relay::unrestored(&Make::default());
    let per_call = GROUP_LEGS * ALLOCATIONS_PER_LEG;
    let calls = ALLOCATIONS_PER_RELAY.div_ceil(per_call) as u32;
    for n in 1..=calls {
        let call = relay.create(n, GROUP_LEGS as u16);
        for leg_number in 1..=GROUP_LEGS as u8 {
            let allocations = (1..=ALLOCATIONS_PER_LEG as u8).map(|a| Allocation {
                a: AllocationId::new(a).unwrap(),
                transport: Transport::Udp,
                client: ClientAddr::new(([10, (n >> 8) as u8, n as u8, leg_number], 1_000 + u16::from(a)).into()),
                channels: Vec::new(),
            });
            let record = Attachment {
                last_allocation: ALLOCATIONS_PER_LEG as u8,
                allocations: allocations.collect(),
                ..Attachment::empty(RelayId(1))
            };
            relay.store.put_leg(call, leg(u16::from(leg_number)), &record);
        }
    }
    let call = relay.create(5_000, 2);
    relay.restore();
    assert_eq!(relay.engine.switch().allocations(), ALLOCATIONS_PER_RELAY);
    let mut new = Client::new(&relay, call, 1, A);
    assert_eq!(new.allocate(&mut relay).map(|r| r.code), Some(508));
    assert!(!relay.is_attached(A));
    let mut old = Client::new(&relay, call_id(1), 1, "10.0.1.1:1001");
    assert_eq!(old.attach(&mut relay), LEG1);
    assert_indication(&old.indicate(&mut relay, LEG2, b"x"), "10.0.1.2:1001", LEG1, b"x");
    assert_eq!(old.refresh(&mut relay, 0), Some(0));
    assert_eq!(new.attach(&mut relay), LEG1, "there is room again");
}

/// R41
#[test]
fn channel_numbers_lie_between_0x4000_and_0x7fff() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    for number in [0x0000, 0x0001, 0x3fff, 0x8000, 0xbfff, 0xffff] {
        assert_eq!(one.bind(&mut relay, number, LEG2), Some(400), "{number:#x}");
    }
    assert!(relay.stored_channels(&one).is_empty());
    for (number, peer) in [(0x4000, LEG2), (0x4fff, LEG1), (0x5000, "203.0.113.9:1"), (0x7fff, "203.0.113.9:2")] {
        assert_eq!(one.bind(&mut relay, number, peer), Some(0), "{number:#x}: RFC 5766 clients use them all");
    }
    assert_indication(&one.send(&mut relay, 0x4000, b"x"), B, LEG1, b"x");
    assert!(one.send(&mut relay, 0x3fff, b"x").is_empty() && one.send(&mut relay, 0x8000, b"x").is_empty());
}

/// R41
#[test]
fn a_channel_keeps_its_peer_and_a_peer_its_channel() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), Some(0));
    assert_eq!(one.bind(&mut relay, 0x4001, "203.0.113.2:1026"), Some(400), "another peer");
    assert_eq!(one.bind(&mut relay, 0x4002, LEG2), Some(400), "another channel");
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), Some(0), "the same again");
    assert_eq!(relay.stored_channels(&one), [0x4001]);
    assert_indication(&one.send(&mut relay, 0x4001, b"x"), B, LEG1, b"x");
    assert!(one.send(&mut relay, 0x4002, b"x").is_empty());
    // Each allocation has its own.
    let mut second = one.on_socket("198.51.100.7:41000");
    second.attach(&mut relay);
    assert_eq!(second.bind(&mut relay, 0x4001, "203.0.113.2:1026"), Some(0));
    assert_eq!(second.bind(&mut relay, 0x4002, LEG2), Some(0));
    // And with the allocation its channels end.
    assert_eq!(one.refresh(&mut relay, 0), Some(0));
    assert_eq!(one.attach(&mut relay), "203.0.113.3:1025");
    assert!(one.send(&mut relay, 0x4001, b"x").is_empty());
    assert_eq!(one.bind(&mut relay, 0x4001, "203.0.113.2:1026"), Some(0));
}

/// The errors that a server's form allows: 400, 420, 440, 442, 508. None of them leaves an allocation behind.
#[test]
fn what_cannot_be_had_here_is_refused_by_its_number() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut one = Client::new(&relay, call, 1, A);
    let raw = |kind, value: &[u8]| Part::Raw(kind, value.to_vec());
    let cases = [
        (400, vec![]),
        (400, vec![Part::lifetime(600)]),
        (442, vec![raw(attr::TRANSPORT, &[6, 0, 0, 0])]),
        (442, vec![raw(attr::TRANSPORT, &[0, 0, 0, 0])]),
        (440, vec![Part::udp(), raw(attr::FAMILY, &[2, 0, 0, 0])]),
        (440, vec![Part::udp(), raw(attr::FAMILY, &[0, 0, 0, 0])]),
        (508, vec![Part::udp(), raw(attr::EVEN_PORT, &[0x80])]),
        (508, vec![Part::udp(), raw(attr::RESERVATION, &[1; 8])]),
        (420, vec![Part::udp(), raw(attr::DONT_FRAGMENT, &[])]),
        (420, vec![Part::udp(), raw(0x7abc, &[1])]),
    ];
    for (code, asked) in &cases {
        assert_eq!(one.code(&mut relay, kind::ALLOCATE, asked), Some(*code), "{asked:?}");
        assert!(!relay.is_attached(A), "{asked:?}");
    }
    let dont_fragment = one.ask(&mut relay, kind::ALLOCATE, &cases[8].1).unwrap();
    assert_eq!(dont_fragment.unknown, [0, 0x1a]);
    for asked in [
        vec![Part::udp(), raw(attr::FAMILY, &[1, 0, 0, 0])],
        vec![Part::udp(), raw(attr::EVEN_PORT, &[0x00])],
        vec![Part::udp(), raw(attr::EVEN_PORT, &[0x7f])],
        vec![Part::udp(), raw(0xfabc, b"optional")],
    ] {
        assert_eq!(one.code(&mut relay, kind::ALLOCATE, &asked), Some(0), "{asked:?}");
    }
}

/// X05: no counter stops the relay when it comes to its end.
#[test]
fn counters_that_come_to_their_end_go_on() {
    let mut gate = Make::default().gate();
    let end = Total::at(u64::MAX - 8);
    gate.counters.bindings = end;
    gate.counters.unauthorized = end;
    gate.counters.stale_nonces = end;
    gate.counters.sha256 = end;
    gate.counters.proven = end;
    gate.counters.not_served = end;
    gate.counters.limited = end;
    let mut relay = Relay::new();
    relay.engine = Engine::new(RelayId(1), gate, 3);
    relay.restore();
    let (mut one, _) = pair(&mut relay);
    let sha256 = written(kind::REFRESH, [1; 12], &[Part::Raw(attr::INTEGRITY_SHA256, vec![1; 32])]);
    for _ in 0..20 {
        assert_eq!(one.refresh(&mut relay, 600), Some(0));
        relay.datagram(one.at, &written(kind::BINDING, [1; 12], &[]));
        relay.datagram(one.at, &written(kind::ALLOCATE, [1; 12], &[]));
        relay.datagram(one.at, &sha256);
        relay.datagram(one.at, &written(0x0002, [1; 12], &[]));
        let mut stale = Client { nonce: vec![b'A'; 24], ..one.clone() };
        assert_eq!(stale.refresh(&mut relay, 600), Some(0), "438, and then it knows");
    }
    for _ in 0..200 {
        relay.datagram(one.at, &written(kind::BINDING, [1; 12], &[]));
    }
    let counters = relay.engine.gate().counters;
    let wrapped = [counters.bindings, counters.unauthorized, counters.stale_nonces, counters.sha256, counters.limited];
    assert!(wrapped.iter().all(|total| total.get() < 1_000), "each of them went past its end: {counters:?}");
}

/// X05: the same of the forwarding path.
#[test]
fn a_switch_forwards_past_the_end_of_its_counters() {
    let mut switch = Switch::new(1);
    switch.counters = Counters::starting_at(u64::MAX - 8);
    let at = |port| ClientAddr::new(([198, 51, 100, 7], port).into());
    for n in 1..=2 {
        let allocation = Allocation {
            a: AllocationId::new(1).unwrap(),
            transport: Transport::Udp,
            client: at(n),
            channels: Vec::new(),
        };
        let attachment = Attachment { allocations: vec![allocation], ..Attachment::empty(RelayId(1)) };
        let (call, leg) = (call_id(1), leg(n));
        let input = SwitchInput::Attach { call, leg, attachment: &attachment, newness: Newness::Now };
        assert_eq!(switch.handle(Now::default(), input), Ok(()));
    }
    let packet = written(kind::SEND, [1; 12], &[Part::peer(LEG2), Part::data(b"four and more")]);
    for _ in 0..20 {
        for (port, bytes) in [(1, &packet), (9, &packet), (1, &vec![0xff]), (1, &vec![])] {
            let mut buffer = vec![0; 64 + bytes.len() + 64];
            buffer[64..64 + bytes.len()].copy_from_slice(bytes);
            let mut slot = Slot { buffer: &mut buffer, start: 64, len: bytes.len() };
            let source = Source { client: at(port), transport: Transport::Udp };
            let verdict = switch.datagram(Now::default(), source, &mut slot);
            assert_eq!(matches!(verdict, Verdict::Forward(_)), port == 1 && bytes.len() > 1);
        }
    }
    for counter in [Counter::IndicationToIndication, Counter::PayloadBytes, Counter::UnknownSource, Counter::Empty] {
        assert!(switch.counters.get(counter) < 1_000, "{counter:?}");
    }
}

/// X05: and of the clocks, both of them.
#[test]
fn a_relay_at_the_end_of_time_saturates() {
    let mut engine = Make::default().engine();
    let end = Now { mono: Mono::from_nanos(u64::MAX - 8), wall: Wall::from_millis(u64::MAX - 8) };
    let call = call_id(1);
    engine.store(end, Input::RestoreBegan);
    engine.store(end, Input::Restored);
    engine.store(end, Input::LoadFailed { call });
    let bare = written(kind::ALLOCATE, [1; 12], &[Part::udp()]);
    let mut buffer = vec![0; 512];
    buffer[64..64 + bare.len()].copy_from_slice(&bare);
    let mut slot = Slot { buffer: &mut buffer, start: 64, len: bare.len() };
    let source = Source { client: ClientAddr::new(addr(A)), transport: Transport::Udp };
    assert!(engine.datagram(end, source, &mut slot).is_some());
    engine.expire(Now { mono: end.mono.after(Span::from_secs(1)), ..end });
    assert!(engine.poll().is_none());
}
