//! The rows of the attack catalogue that are steering's: L01 to L04 and L06.

use std::collections::BTreeMap;

use super::super::*;
use super::world::{Fate, MEDIA, World, client, cookie, serving, stun, ticket};
use tandem_wire::stun::{Class, Method};
use tandem_wire::tunnel::{Head, Probe};

/// A million at a time: the catalogue's 1e7 takes too long for each run, and the table cannot tell them apart.
#[test]
fn a_million_sources_without_proof_leave_the_table_of_flows_untouched() {
    let mut world = World::of(false, 3);
    world.attach(1, 0, 5);
    let flows = world.steering.flows();
    let packets = [
        ticket(77),
        stun(Class::Request, Method::Binding, None),
        stun(Class::Request, Method::Allocate, None),
        stun(Class::Indication, Method::Send, None),
        MEDIA.to_vec(),
    ];
    for n in 1..1_000_000 {
        let _ = world.steering.datagram(world.now(), client(n), 0, &packets[n as usize % packets.len()]);
    }
    assert_eq!((world.steering.flows(), flows), ([1, 1, 0], [1, 1, 0]));
    assert_eq!(world.back(2, client(7), 0, None), Back::To { flow: client(7), listener: 0 });
    assert_eq!(world.steering.flows(), [1, 1, 0], "an answer to somebody without proof teaches nothing");
}

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

#[test]
fn a_relay_that_goes_moves_what_was_its_own_and_nothing_else() {
    for by_table in [false, true] {
        let mut world = World::of(false, 30);
        let before: Vec<(u16, bool)> = (0..4_000).map(|bucket| world.goes(bucket * 16)).collect();
        if by_table {
            world.plan(serving(2, (1..=30).filter(|relay| *relay != 7)));
        } else {
            world.fates.insert(7, Fate::Gone);
            world.run(30);
        }
        let after: Vec<(u16, bool)> = (0..4_000).map(|bucket| world.goes(bucket * 16)).collect();
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.0 == 7, before.0 != after.0);
            assert_eq!(after.1, before.0 == 7 && !by_table, "who acts is told so, and nobody else");
        }
    }
}

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

#[test]
fn when_all_lose_the_fault_is_ours_and_nobody_is_taken_for_down() {
    let mut world = World::of(false, 4);
    world.fates = (1..=4).map(|relay| (relay, Fate::Loses(40))).collect();
    world.run(10_000);
    let downs: Vec<u64> = world.steering.counters().downs.iter().map(|total| total.get()).collect();
    assert_eq!(downs[4], 0, "{downs:?}");
}
