//! R01 to R08, R10, R13, R16: nothing that is not a leg of the same call can be reached, by any path or spelling.
//!
//! The closed world has one rule for all of them: a peer lies in 203.0.113.0/24, said as IPv4, or it is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tandem_wire::id::VirtualAddr;

use crate::common::*;

/// The IANA IPv4 special-purpose registry, and multicast.
const SPECIAL_V4: [(&str, u32); 26] = [
    ("0.0.0.0", 8),
    ("0.0.0.0", 32),
    ("10.0.0.0", 8),
    ("100.64.0.0", 10),
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("172.16.0.0", 12),
    ("192.0.0.0", 24),
    ("192.0.0.0", 29),
    ("192.0.0.8", 32),
    ("192.0.0.9", 32),
    ("192.0.0.10", 32),
    ("192.0.0.170", 32),
    ("192.0.0.171", 32),
    ("192.0.2.0", 24),
    ("192.31.196.0", 24),
    ("192.52.193.0", 24),
    ("192.88.99.0", 24),
    ("192.168.0.0", 16),
    ("192.175.48.0", 24),
    ("198.18.0.0", 15),
    ("198.51.100.0", 24),
    ("203.0.113.0", 24),
    ("224.0.0.0", 4),
    ("240.0.0.0", 4),
    ("255.255.255.255", 32),
];

/// The IANA IPv6 special-purpose registry, site-local and multicast.
const SPECIAL_V6: [(&str, u32); 27] = [
    ("::", 128),
    ("::1", 128),
    ("::ffff:0:0", 96),
    ("64:ff9b::", 96),
    ("64:ff9b:1::", 48),
    ("100::", 64),
    ("100:0:0:1::", 64),
    ("2001::", 23),
    ("2001::", 32),
    ("2001:1::1", 128),
    ("2001:1::2", 128),
    ("2001:1::3", 128),
    ("2001:2::", 48),
    ("2001:3::", 32),
    ("2001:4:112::", 48),
    ("2001:10::", 28),
    ("2001:20::", 28),
    ("2001:30::", 28),
    ("2001:db8::", 32),
    ("2002::", 16),
    ("2620:4f:8000::", 48),
    ("3fff::", 20),
    ("5f00::", 16),
    ("fc00::", 7),
    ("fe80::", 10),
    ("fec0::", 10),
    ("ff00::", 8),
];

/// First, last and their neighbours of a range of `1 << size` numbers.
fn edges(first: u128, size: u32) -> [u128; 4] {
    let last = first | (1_u128.checked_shl(size).unwrap_or(0)).wrapping_sub(1);
    [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
}

fn special_v4() -> Vec<Ipv4Addr> {
    let edges = SPECIAL_V4.iter().flat_map(|(text, prefix)| {
        edges(u128::from(text.parse::<Ipv4Addr>().unwrap().to_bits()), 32 - prefix).map(|bits| bits as u32)
    });
    edges.map(Ipv4Addr::from_bits).collect()
}

fn special_v6() -> Vec<Ipv6Addr> {
    let edges = SPECIAL_V6.iter().flat_map(|(text, prefix)| {
        edges(text.parse::<Ipv6Addr>().unwrap().to_bits(), 128 - prefix).map(Ipv6Addr::from_bits)
    });
    edges.collect()
}

/// Every way in which an IPv4 address is hidden in an IPv6 one: mapped, compatible, 6to4, NAT64 (both prefixes), Teredo
/// (as server, and as client, which is inverted), ISATAP.
fn hidden(v4: Ipv4Addr) -> [Ipv6Addr; 8] {
    let bits = u128::from(v4.to_bits());
    let at = |prefix: &str, shift: u32, bits: u128| {
        Ipv6Addr::from_bits(prefix.parse::<Ipv6Addr>().unwrap().to_bits() | bits << shift)
    };
    [
        at("::ffff:0:0", 0, bits),
        at("::", 0, bits),
        at("2002::", 80, bits),
        at("64:ff9b::", 0, bits),
        at("64:ff9b:1::", 0, bits),
        at("2001::", 64, bits),
        at("2001::", 0, bits ^ 0xffff_ffff),
        at("fe80::5efe:0:0", 0, bits),
    ]
}

/// Whether the closed world has such an address, said in numbers.
fn inside(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.to_bits() >> 8 == 0x00cb_0071)
}

/// Leg 1, attached and known, with somebody at leg 2 who would receive what got through.
struct Probe {
    relay: Relay,
    one: Client,
    channel: u16,
}

impl Probe {
    fn new() -> Self {
        let mut relay = Relay::new();
        let (one, _) = channel_pair(&mut relay);
        Self { relay, one, channel: 0x4100 }
    }

    /// Names `peer` by every path, each of them separately: what permission and channel are answered, and whether a
    /// Send indication or data on the channel got anywhere.
    fn try_all(&mut self, peer: SocketAddr) -> (u16, u16, usize) {
        let Self { relay, one, channel } = self;
        let part = Part::Addr(attr::PEER, peer);
        let permit = one.code(relay, kind::PERMIT, std::slice::from_ref(&part)).expect("an answer");
        let mut sent = one.indicate(relay, &peer.to_string(), b"canary").len();
        *channel += 1;
        let bind = one.code(relay, kind::BIND, &[Part::channel(*channel), part]).expect("an answer");
        if bind != 0 {
            // What was refused leaves no channel behind.
            sent += one.send(relay, *channel, b"canary").len();
        }
        (permit, bind, sent)
    }

    #[track_caller]
    fn refuses(&mut self, text: &str) {
        assert_eq!(self.try_all(text.parse().unwrap()), (403, 403, 0), "{text}");
    }
}

/// R01
#[test]
fn loopback_is_refused_by_every_path() {
    let mut probe = Probe::new();
    ["127.0.0.1:1025", "127.255.255.254:1025", "127.0.0.1:80"].iter().for_each(|peer| probe.refuses(peer));
}

/// R02
#[test]
fn the_unspecified_address_is_no_way_to_loopback() {
    let mut probe = Probe::new();
    ["0.0.0.0:1025", "0.1.2.3:1025", "[::]:1025", "[::1]:1025"].iter().for_each(|peer| probe.refuses(peer));
}

/// R03: and the address that one check's order once let through, whose last byte is 1.
#[test]
fn ipv4_mapped_into_ipv6_is_refused_even_if_it_maps_a_leg() {
    let mut probe = Probe::new();
    for v4 in ["127.0.0.1", "0.0.0.0", "10.0.0.5", "10.0.0.1", "203.0.113.1"] {
        probe.refuses(&format!("[::ffff:{v4}]:1026"));
    }
}

/// R04
#[test]
fn ipv4_hidden_in_ipv6_is_refused_whatever_it_hides() {
    let mut probe = Probe::new();
    for v4 in ["127.0.0.1", "169.254.169.254", "10.0.0.5", "198.51.100.8", "203.0.113.1"] {
        for form in hidden(v4.parse().unwrap()) {
            probe.refuses(&SocketAddr::from((form, 1026)).to_string());
        }
    }
}

/// R05
#[test]
fn metadata_link_local_and_unique_local_addresses_are_refused() {
    let mut probe = Probe::new();
    for ip in ["169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "[fe80::1]", "[fc00::1]", "[fec0::1]"]
    {
        probe.refuses(&format!("{ip}:80"));
    }
}

/// R06: first, last and both neighbours of every row of both registries, as IPv4 and hidden in IPv6.
#[test]
fn every_special_range_is_refused_at_its_edges_and_only_the_virtual_prefix_is_a_peer() {
    let mut probe = Probe::new();
    let v4 = special_v4();
    let hidden_too = v4.iter().flat_map(|v4| hidden(*v4)).map(IpAddr::from);
    let all = v4.iter().copied().map(IpAddr::from).chain(hidden_too).chain(special_v6().into_iter().map(IpAddr::from));
    let mut accepted = std::collections::BTreeSet::new();
    for address in all {
        // Nobody is attached at this port, so that whatever is allowed still reaches no one.
        let (permit, bind, sent) = probe.try_all((address, 7777).into());
        assert_eq!(sent, 0, "{address}");
        if inside(address) {
            assert_eq!((permit, bind), (0, if accepted.insert(address) { 0 } else { 400 }), "{address}");
        } else {
            assert_eq!((permit, bind), (403, 403), "{address}");
        }
    }
    assert_eq!(accepted, ["203.0.113.0", "203.0.113.255"].map(|ip| ip.parse().unwrap()).into());
}

/// R07
#[test]
fn multicast_and_broadcast_are_refused() {
    let mut probe = Probe::new();
    ["224.0.0.1:5004", "239.255.255.255:5004", "255.255.255.255:9", "[ff02::1]:5004", "[ff0e::1]:5004"]
        .iter()
        .for_each(|peer| probe.refuses(peer));
}

/// R08: a million addresses of each family against plain numbers, half of them within a few of an edge.
#[test]
fn a_million_random_addresses_agree_with_plain_arithmetic() {
    let edges_v4: Vec<u32> = special_v4().iter().map(|v4| v4.to_bits()).collect();
    let edges_v6: Vec<u128> = special_v6().iter().map(|v6| v6.to_bits()).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut met, mut missed) = (0, 0);
    for n in 0..1_000_000_usize {
        let (one, two) = (draw(), draw());
        let (near_v4, near_v6) = (edges_v4[n % edges_v4.len()], edges_v6[n % edges_v6.len()]);
        let v4 = if n % 2 == 0 { one as u32 } else { near_v4.wrapping_add(one as u32 % 700).wrapping_sub(350) };
        let any = u128::from(one) << 64 | u128::from(two);
        let v6 = if n % 2 == 0 { any } else { near_v6.wrapping_add(any % 700).wrapping_sub(350) };
        for ip in [IpAddr::from(Ipv4Addr::from_bits(v4)), IpAddr::from(Ipv6Addr::from_bits(v6))] {
            let peer = VirtualAddr::from_peer((ip, one as u16).into());
            assert_eq!(peer.is_some(), inside(ip), "{ip}");
            met += u32::from(peer.is_some());
            missed += u32::from(peer.is_none());
        }
    }
    assert!(met > 1_000 && missed > 1_000_000, "{met} inside, {missed} outside: both sides were tried");
}

/// R04, R08: the same at the relay, for whatever address comes to mind.
#[test]
fn no_random_address_outside_the_prefix_is_ever_a_peer() {
    let mut probe = Probe::new();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(500) });
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))),
        (any::<u32>(), 0_usize..8).prop_map(|(bits, form)| IpAddr::from(hidden(Ipv4Addr::from_bits(bits))[form])),
        (any::<u8>(), 0_usize..8).prop_map(|(octet, form)| hidden(Ipv4Addr::new(203, 0, 113, octet))[form].into()),
    ];
    let probe = std::cell::RefCell::new(&mut probe);
    runner
        .run(&(address, any::<u16>()), |(address, port)| {
            prop_assume!(!inside(address));
            prop_assert_eq!(probe.borrow_mut().try_all((address, port).into()), (403, 403, 0));
            Ok(())
        })
        .unwrap();
}

/// R10: with an empty deny list, as there is none: the store, our metrics, our own public address.
#[test]
fn our_own_control_plane_and_our_own_address_are_refused() {
    let mut probe = Probe::new();
    for peer in ["127.0.0.1:2379", "10.0.0.2:4100", "10.0.0.2:9090", "192.0.2.1:3478", "198.51.100.8:40002"] {
        probe.refuses(peer);
    }
}

/// R11
#[test]
fn there_is_no_tcp_to_relay_to() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    let mut new = one.on_socket("198.51.100.7:41000");
    let tcp = Part::Raw(attr::TRANSPORT, vec![6, 0, 0, 0]);
    assert_eq!(new.code(&mut relay, kind::ALLOCATE, &[tcp]), Some(442));
    assert!(!relay.is_attached("198.51.100.7:41000"));
    for connect in [0x000a, 0x000b, 0x000c] {
        assert_eq!(one.code(&mut relay, connect, &[Part::peer(LEG2)]), None, "{connect:#x}: silence");
    }
}

/// R06, R42: inside the prefix everything may be noted, and nothing leaves for where no leg is.
#[test]
fn an_address_inside_with_no_leg_is_noted_and_nothing_leaves_for_it() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    let mut channel = 0x4100;
    for octet in [0, 1, 2, 24, 250, 251, 253, 254, 255] {
        for port in [0, 1, 80, 1023, 1024, 1027, 3000, 65_024, 65_025, 65_535] {
            let peer = format!("203.0.113.{octet}:{port}");
            channel += 1;
            assert_eq!(one.permit(&mut relay, &peer), Some(0), "{peer}");
            assert_eq!(one.bind(&mut relay, channel, &peer), Some(0), "{peer}");
            assert!(one.indicate(&mut relay, &peer, b"canary").is_empty(), "{peer}");
            assert!(one.send(&mut relay, channel, b"canary").is_empty(), "{peer}");
        }
    }
}

/// R16: the first is the one that is used, and the one that is used is the one that is checked.
#[test]
fn of_two_peers_in_one_indication_the_first_is_both_checked_and_used() {
    let mut relay = Relay::new();
    let (one, _) = pair(&mut relay);
    let denied = "198.51.100.8:40002";
    let send = |relay: &mut Relay, parts: &[Part]| relay.datagram(one.at, &written(kind::SEND, [1; 12], parts));
    let first = send(&mut relay, &[Part::peer(LEG2), Part::peer(denied), Part::data(b"x")]);
    assert_indication(&first, B, LEG1, b"x");
    assert!(send(&mut relay, &[Part::peer(denied), Part::peer(LEG2), Part::data(b"x")]).is_empty());
    let data = send(&mut relay, &[Part::peer(LEG2), Part::data(b"used"), Part::data(b"not used")]);
    assert_indication(&data, B, LEG1, b"used");
}

/// R16: a permission is for all the peers that it names; one outside refuses it, wherever it stands.
#[test]
fn one_peer_outside_refuses_a_whole_permission_wherever_it_stands() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    let good = ["203.0.113.1:1026", "203.0.113.9:99", "203.0.113.2:1026"].map(Part::peer);
    assert_eq!(one.code(&mut relay, kind::PERMIT, &good), Some(0));
    for bad in ["127.0.0.1:80", "[::ffff:203.0.113.1]:1026"] {
        for at in 0..=good.len() {
            let mut peers = good.to_vec();
            peers.insert(at, Part::peer(bad));
            assert_eq!(one.code(&mut relay, kind::PERMIT, &peers), Some(403), "{bad} at {at}");
        }
    }
}

/// R16: of two channel numbers, or two peers, in one ChannelBind the first ones are bound.
#[test]
fn of_two_peers_or_numbers_in_one_binding_the_first_are_bound() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    let twice = [Part::channel(0x4001), Part::channel(0x4002), Part::peer(LEG2), Part::peer("127.0.0.1:80")];
    assert_eq!(one.code(&mut relay, kind::BIND, &twice), Some(0));
    assert_eq!(relay.stored_channels(&one), [0x4001]);
    assert_indication(&one.send(&mut relay, 0x4001, b"x"), B, LEG1, b"x");
    let denied_first = [Part::channel(0x4003), Part::peer("127.0.0.1:80"), Part::peer(LEG1)];
    assert_eq!(one.code(&mut relay, kind::BIND, &denied_first), Some(403));
    let bad_number_first = [Part::channel(0x8000), Part::channel(0x4003), Part::peer(LEG1)];
    assert_eq!(one.code(&mut relay, kind::BIND, &bad_number_first), Some(400));
    assert_eq!(relay.stored_channels(&one), [0x4001]);
}

/// R13: allocations that name each other, or themselves, cannot make one packet two, nor keep it going round.
#[test]
fn one_packet_in_is_at_most_one_packet_out_and_then_nothing() {
    let mut relay = Relay::new();
    let (mut one, mut two) = channel_pair(&mut relay);
    assert_eq!(one.bind(&mut relay, 0x4002, LEG1), Some(0), "itself");
    assert_eq!(two.bind(&mut relay, 0x4002, LEG2), Some(0), "itself");
    assert_eq!(one.permit(&mut relay, "192.0.2.1:3478"), Some(403), "our own listening address");
    let before = relay.traffic;
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
    assert_eq!(one.send(&mut relay, 0x4002, b"x"), on_channel(A, 0x4002, b"x"));
    assert_eq!(two.indicate(&mut relay, LEG2, b"x"), on_channel(B, 0x4002, b"x"));
    assert_eq!(relay.traffic, (before.0 + 3, before.1 + 3));
    assert!(relay.pass(1_000).is_empty(), "flat after a second");
    assert_eq!(relay.traffic, (before.0 + 3, before.1 + 3));
}
