//! The rows of the attack catalogue that are steering's: L01 to L04 and L06; and clocks that jump.

use std::collections::BTreeMap;

use super::super::*;
use super::world::{Fate, MEDIA, World, client, cookie, serving, stun, ticket};
use tandem_wire::stun::{Class, Method};
use tandem_wire::tunnel::{Head, Probe};

/// L01: ten million tuples that nobody knows, each with one of the packets that can be had without proof.
#[test]
fn ten_million_sources_without_proof_leave_the_table_of_flows_untouched() {
    let mut world = World::of(false, 3);
    // The flows of a few who have proved themselves.
    (0..100).for_each(|n| world.attach(1, n, 5));
    let flows = world.steering.flows();
    let packets = [
        ticket(77),
        stun(Class::Request, Method::Binding, None),
        stun(Class::Request, Method::Allocate, None),
        stun(Class::Indication, Method::Send, None),
        MEDIA.to_vec(),
    ];
    for n in 100..10_000_100_u32 {
        let _ = world.steering.datagram(world.now(), client(n), 0, &packets[n as usize % packets.len()]);
    }
    assert_eq!((world.steering.flows(), flows), ([100, 100, 0], [100, 100, 0]));
    for n in 0..100 {
        assert!(world.send(client(n), &MEDIA).is_ok(), "who has proved itself is known as before");
        assert_eq!(world.send(client(n + 777), &MEDIA), Err(Dropped::UnknownSource));
    }
    assert_eq!(world.back(2, client(777), 0, None), Back::To { flow: client(777), listener: 0 });
    assert_eq!(world.steering.flows(), [100, 100, 0], "an answer to somebody without proof teaches nothing");
}

/// L01: a full table keeps its cap, and only who has proved itself makes somebody else go.
#[test]
fn a_full_table_of_flows_keeps_its_cap_and_strangers_make_nobody_go() {
    let mut world = World::of(false, 3);
    world.steering = Steering::with_cap(9, 1_000);
    world.lines.clear();
    world.table = None;
    world.plan(serving(1, 1..=3));
    (0..1_000).for_each(|n| world.attach(1, n, 5));
    assert_eq!(world.steering.flows(), [1_000, 1_000, 0]);
    let question = stun(Class::Request, Method::Allocate, None);
    for n in 10_000..110_000 {
        let _ = world.steering.datagram(
            world.now(),
            client(n),
            0,
            [&question, &ticket(3), &MEDIA.to_vec()][n as usize % 3],
        );
    }
    assert!((0..1_000).all(|n| world.send(client(n), &MEDIA).is_ok()), "strangers make nobody go");
    (1_000..3_000).for_each(|n| world.attach(1, n, 5));
    let [flows, _, gone] = world.steering.flows();
    assert_eq!((flows, gone), (1_000, 2_000), "the cap is kept, and who went is counted");
}

/// L01, L04: bytes that mean nothing, from clients and on the tunnel.
#[test]
fn random_packets_panic_nothing_and_leave_nothing() {
    let mut world = World::of(false, 3);
    let line = world.line_of(1).unwrap();
    let states = world.steering.relays();
    for n in 0..1_000_000_u32 {
        let len = world.roll(120) as usize;
        let mut packet: Vec<u8> = (0..len).map(|_| world.roll(256) as u8).collect();
        if let [first, ..] = &mut packet[..] {
            *first = [0, 1, 0x40, tandem_wire::tunnel::MAGIC, *first][n as usize % 5];
        }
        if n % 3 == 0 && packet.len() > 8 {
            packet[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            packet[2..4].copy_from_slice(&(len.saturating_sub(20) as u16).to_be_bytes());
        }
        let _ = world.steering.datagram(world.now(), client(n), 0, &packet);
        if packet.len() > 1 && n % 2 == 0 {
            packet[1] &= 0x3f;
        }
        assert!(matches!(world.steering.returned(world.now(), line, &packet), Back::Drop(_)));
    }
    assert_eq!((world.steering.flows(), world.steering.relays()), ([0, 0, 0], states));
}

/// How many of some new clients each relay gets.
fn shares(seed: u64, relays: u16, clients: impl Iterator<Item = u32>) -> BTreeMap<u16, f64> {
    let mut world = World::new(false, seed);
    world.fates = (1..=relays).map(|relay| (relay, Fate::Lives(1))).collect();
    world.plan(serving(1, 1..=relays));
    world.run(40);
    let question = stun(Class::Request, Method::Binding, None);
    let mut shares = BTreeMap::new();
    for n in clients {
        *shares.entry(world.send(client(n), &question).unwrap().relay).or_insert(0.0) += 1.0;
    }
    shares
}

/// L02, for those of whom nothing is known: a hash with a key of its own for each process.
#[test]
fn addresses_cannot_be_chosen_so_that_they_hit_one_relay() {
    // Somebody has found 8,000 addresses that all go to one relay: with another seed they are spread.
    let mut world = World::new(false, 1);
    world.fates = (1..=4).map(|relay| (relay, Fate::Lives(1))).collect();
    world.plan(serving(1, 1..=4));
    world.run(40);
    let question = stun(Class::Request, Method::Binding, None);
    let aimed: Vec<u32> = (0..).filter(|n| world.send(client(*n), &question).unwrap().relay == 3).take(8_000).collect();
    let shares = shares(2, 4, aimed.iter().copied());
    let most = shares.values().fold(0.0_f64, |most, share| most.max(*share));
    assert!(shares.len() == 4 && most / 2_000.0 <= 1.25, "{shares:?}");
}

/// L02, for those who have a ticket: signaling has drawn its bucket, so nobody chooses where a call goes. Whatever their
/// addresses are, calls are spread over all relays.
#[test]
fn calls_in_random_buckets_are_spread_over_all_relays_wherever_they_come_from() {
    for relays in [4, 30, 300] {
        let mut world = World::new(false, 3);
        world.fates = (1..=relays).map(|relay| (relay, Fate::Lives(1))).collect();
        world.plan(serving(1, 1..=relays));
        world.run(40);
        let mut shares = BTreeMap::new();
        let calls = 150_000_u32;
        for n in 0..calls {
            let bucket = world.roll(1 << 16) as u16;
            // Addresses that somebody has picked: one host, port by port.
            let [_, _, high, low] = n.to_be_bytes();
            let source =
                FlowKey::udp(ClientAddr::new(SocketAddr::from(([198, 51, 100, 7], u16::from_be_bytes([high, low])))));
            *shares.entry(world.send(source, &ticket(bucket)).unwrap().relay).or_insert(0.0) += 1.0;
        }
        let most = shares.values().fold(0.0_f64, |most, share| most.max(*share)) * f64::from(relays) / f64::from(calls);
        assert_eq!(shares.len(), usize::from(relays));
        assert!(most <= 1.25, "of {relays} relays the fullest has {most:.3} of the mean");
    }
}

/// L03: of N relays one goes, by a table or by dying. What was its own moves, which is 1/N and 2 % at the most; a live flow that
/// was not on it stays where it is.
#[test]
fn a_relay_that_goes_moves_what_was_its_own_and_nothing_else() {
    for (relays, by_table) in [4, 30, 300].into_iter().flat_map(|relays| [(relays, false), (relays, true)]) {
        let mut world = World::of(false, relays);
        // Live flows: each of a call in a bucket of its own, known by its address alone.
        let flows = 4_000_u32;
        (0..flows).for_each(|n| world.attach(1, n, (n * 16) as u16));
        let places = |world: &mut World| -> Vec<[(u16, bool); 2]> {
            let by_flow =
                |world: &mut World, n| world.send(client(n), &MEDIA).map(|went| (went.relay, went.acting)).unwrap();
            (0..flows).map(|n| [world.goes((n * 16) as u16), by_flow(world, n)]).collect()
        };
        let before = places(&mut world);
        if by_table {
            world.plan(serving(2, (1..=relays).filter(|relay| *relay != 3)));
        } else {
            world.fates.insert(3, Fate::Gone);
            world.run(30);
        }
        let after = places(&mut world);
        for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
            assert_eq!(before.0 == 3, before.0 != after.0);
            assert_eq!(after.1, before.0 == 3 && !by_table, "who acts is told so, and nobody else");
        }
        let moved = before.iter().zip(&after).filter(|(before, after)| before[1].0 != after[1].0).count();
        let share = moved as f64 / f64::from(flows);
        assert!(
            share > 0.0 && share <= 1.0 / f64::from(relays) + 0.02,
            "{share:.4} of the flows of {relays} relays moved"
        );
    }
}

/// L04: on the public port.
#[test]
fn a_head_of_the_tunnel_that_comes_from_outside_is_a_client_s_packet_and_no_protocol_of_ours() {
    let mut world = World::of(false, 3);
    world.attach(1, 0, 5);
    let head = Head::to_relay(client(9).client, BucketId(5), 1, cookie(1, 1));
    for head in [head, Head { back: true, proven: true, ..head }, Head { probe: true, ..head }] {
        let bytes = [&head.to_bytes()[..], &MEDIA].concat();
        assert_eq!(world.send(client(1), &bytes), Err(Dropped::NotOurs));
        assert_eq!(world.send(client(0), &bytes), Err(Dropped::NotOurs));
    }
    assert_eq!(world.steering.counters().dropped(Dropped::NotOurs), 6);
}

/// L04: borrowed addresses.
#[test]
fn what_comes_from_a_relay_s_address_or_our_own_is_no_client_s() {
    let mut world = World::new(false, 5);
    let own: SocketAddr = "192.0.2.1:3478".parse().unwrap();
    world.steering.listens_at(&[own]);
    world.fates.insert(1, Fate::Lives(1));
    world.plan(serving(1, [1]));
    let relay = FlowKey::udp(ClientAddr::new(world.table.as_ref().unwrap().relays[0].tunnel));
    for source in [relay, FlowKey::udp(ClientAddr::new(own))] {
        for packet in
            [ticket(5), stun(Class::Request, Method::Binding, None), stun(Class::Request, Method::Allocate, None)]
        {
            assert_eq!(world.send(source, &packet), Err(Dropped::OurOwnSource));
        }
        assert_eq!(world.back(1, source, 0, Some(5)), Back::Drop(Dropped::OurOwnSource));
        let claim = Claim::Taken { flow: source, bucket: BucketId(5) };
        world.steering.handle(world.now(), Input::Claim(claim));
        assert_eq!(world.send(source, &MEDIA), Err(Dropped::UnknownSource));
    }
    assert_eq!(world.steering.flows(), [0, 0, 0]);
    // A client whose address a relay takes over is none any more.
    let later = super::world::row(2, 1, Standing::Serving).tunnel;
    let flow = FlowKey::udp(ClientAddr::new(later));
    assert_eq!(world.back(1, flow, 0, Some(5)), Back::To { flow, listener: 0 });
    world.plan(serving(2, [1, 2]));
    assert_eq!((world.send(flow, &MEDIA), world.steering.flows()), (Err(Dropped::UnknownSource), [0, 0, 0]));
}

/// L04, and the wrong cookie: on the tunnel's own port.
#[test]
fn who_does_not_know_a_relay_s_cookie_can_neither_send_to_clients_nor_echo_nor_teach() {
    let mut world = World::of(false, 2);
    let line = world.line_of(1).unwrap();
    let right = Head { back: true, proven: true, ..Head::to_relay(client(1).client, BucketId(5), 1, cookie(1, 1)) };
    let probe = Probe { stamp: 12_345, incarnation: 1, load: 0 };
    for (head, rest, why) in [
        (Head { cookie: cookie(2, 1), ..right }, &b"x"[..], Dropped::WrongCookie),
        (Head { cookie: cookie(1, 2), ..right }, &b"x"[..], Dropped::WrongCookie),
        (Head { back: false, ..right }, &b"x"[..], Dropped::NotBack),
        (right, &b""[..], Dropped::NotBack),
        (Head { probe: true, ..right }, &probe.to_bytes()[..], Dropped::NotBack),
        (Head { probe: true, ..right }, &b"x"[..], Dropped::NotBack),
    ] {
        let bytes = [&head.to_bytes()[..], rest].concat();
        assert_eq!(world.steering.returned(world.now(), line, &bytes), Back::Drop(why), "{head:?}");
        // A line that leads nowhere has nobody's cookie.
        assert!(matches!(world.steering.returned(world.now(), Line(9), &bytes), Back::Drop(_)));
    }
    assert_eq!(world.steering.returned(world.now(), line, &[0x40; 60]), Back::Drop(Dropped::NoHead));
    assert_eq!((world.steering.flows(), world.send(client(1), &MEDIA)), ([0, 0, 0], Err(Dropped::UnknownSource)));
    let _ = world.steering.returned(world.now(), line, &[&right.to_bytes()[..], b"x"].concat());
    assert_eq!(world.steering.flows(), [1, 0, 0], "with it, it can");
}

/// L06.
#[test]
fn a_relay_that_loses_three_of_ten_probes_is_down_within_ten_seconds_and_others_act_for_it() {
    for seed in 1..20 {
        let mut world = World::new(false, seed * 7_919);
        world.fates = (1..=4).map(|relay| (relay, Fate::Lives(1))).collect();
        world.plan(serving(1, 1..=4));
        world.run(100);
        let bucket = world.bucket_of(2, 3);
        world.fates.insert(2, Fate::Loses(30));
        world.fates.insert(3, Fate::Loses(10));
        world.run(10_000);
        assert!(matches!(world.state(2), State::Down(Cause::Lossy | Cause::Silent)), "seed {seed}");
        assert_eq!(world.goes(bucket), (3, true), "one that loses a tenth stays");
    }
}

/// L06: everybody is unhealthy at once.
#[test]
fn when_all_lose_the_fault_is_ours_and_nobody_is_taken_for_down() {
    let mut world = World::of(false, 4);
    world.fates = (1..=4).map(|relay| (relay, Fate::Loses(40))).collect();
    world.run(10_000);
    let downs: Vec<u64> = world.steering.counters().downs.iter().map(|total| total.get()).collect();
    assert_eq!(downs[4], 0, "{downs:?}");
}

/// A wall clock that jumps by an hour, either way and again and again, changes nothing: where packets go, whom they are
/// learned of and who is down are decided by the monotonic clock alone.
#[test]
fn a_wall_clock_that_jumps_changes_nothing() {
    let history = |jumps: bool| {
        let mut world = World::of(false, 4);
        (0..200).for_each(|n| world.attach(1, n, (n * 300) as u16));
        let mut said = Vec::new();
        for round in 0..40_i64 {
            if jumps {
                world.wall = [3_600, -3_600, 0, -86_400, 7_200][round as usize % 5];
            }
            match round {
                5 => _ = world.fates.insert(2, Fate::Silent),
                12 => _ = world.fates.insert(2, Fate::Lives(1)),
                14 => world.plan(serving(2, 1..=4)),
                20 => _ = world.fates.insert(3, Fate::Loses(40)),
                _ => {}
            }
            world.run(250);
            let places: Vec<_> = (0..200).map(|n| world.send(client(n), &MEDIA)).collect();
            said.push((world.steering.flows(), world.steering.relays(), places));
        }
        (said, world.turns)
    };
    assert_eq!(history(true), history(false));
}
