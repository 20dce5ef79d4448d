//! The forwarding table from outside: golden bytes of all four conversions, and packets that go nowhere.

use core::net::SocketAddr;

use proptest::prelude::*;
use tandem_wire::id::RelayId;
use tandem_wire::stun::{Writer, attr};

use super::*;
use crate::topology::{Allocation, ChannelBinding, ChannelNumber};
use tandem_wire::stun::{Class, Method};

const CALL: u128 = 77;

fn source(text: &str) -> Source {
    Source { client: ClientAddr::new(text.parse().unwrap()), transport: Transport::Udp }
}

fn leg(n: u16) -> LegId {
    LegId::new(n).unwrap()
}

fn at(secs: u64) -> Now {
    Now { mono: Mono::default().after(Span::from_secs(secs)), ..Now::default() }
}

fn peer(text: &str) -> VirtualAddr {
    VirtualAddr::from_peer(text.parse().unwrap()).unwrap()
}

/// Allocation, client, and channels to peers.
type Shape<'a> = (u8, &'a str, &'a [(u16, &'a str)]);

fn attachment(allocations: &[Shape<'_>]) -> Attachment {
    let mut record = Attachment::empty(RelayId(1));
    for (a, client, channels) in allocations {
        record.allocations.push(Allocation {
            a: AllocationId::new(*a).unwrap(),
            transport: Transport::Udp,
            client: ClientAddr::new(client.parse().unwrap()),
            channels: channels
                .iter()
                .map(|(n, p)| ChannelBinding { channel: ChannelNumber::new(*n).unwrap(), peer: peer(p) })
                .collect(),
        });
    }
    record
}

fn attach(switch: &mut Switch, call: u128, n: u16, record: &Attachment) {
    let call = CallId::from_bits(call);
    switch.handle(at(0), Input::Attach { call, leg: leg(n), attachment: record, newness: Newness::Now }).unwrap();
}

const ALICE: &str = "192.0.2.1:1111";
const BOB: &str = "192.0.2.2:2222";

/// Alice has bound a channel to Bob if `alice`, Bob one to Alice if `bob`.
fn two_legs(alice: bool, bob: bool) -> Switch {
    let mut switch = Switch::new(1);
    let to_bob: &[(u16, &str)] = &[(0x4001, "203.0.113.1:1026")];
    let to_alice: &[(u16, &str)] = &[(0x4abc, "203.0.113.1:1025")];
    attach(&mut switch, CALL, 1, &attachment(&[(1, ALICE, if alice { to_bob } else { &[] })]));
    attach(&mut switch, CALL, 2, &attachment(&[(1, BOB, if bob { to_alice } else { &[] })]));
    switch
}

/// Runs one datagram through the switch: where it went, and as what.
fn send(switch: &mut Switch, from: &str, datagram: &[u8]) -> (Verdict, Vec<u8>) {
    let mut buffer = vec![0xaa; limits::HEADROOM + datagram.len() + limits::TAILROOM];
    buffer[limits::HEADROOM..limits::HEADROOM + datagram.len()].copy_from_slice(datagram);
    let mut slot = Slot { buffer: &mut buffer, start: limits::HEADROOM, len: datagram.len() };
    let verdict = switch.datagram(Now::default(), source(from), &mut slot);
    let sent = slot.datagram().to_vec();
    (verdict, sent)
}

fn to(client: &str) -> Verdict {
    Verdict::Forward(Attached { source: source(client), listener: None })
}

fn indication(peers: &[&str], data: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; data.len() + 128];
    let mut writer = Writer::new(&mut buffer, Class::Indication, Method::Send, [9; 12]);
    for peer in peers {
        writer = writer.address(attr::XOR_PEER_ADDRESS, peer.parse().unwrap());
    }
    let len = writer.attribute(attr::DATA, data).finish().unwrap();
    buffer.truncate(len);
    buffer
}

const DATA_FROM_ALICE: [u8; 36] = [
    0x00, 0x17, 0x00, 0x18, 0x21, 0x12, 0xa4, 0x42, // Data indication of 24 bytes
    b't', b'n', b'd', b'm', 0, 0, 0, 0, 0, 0, 0, 2, // its transaction: the second number after the seed
    0x00, 0x12, 0x00, 0x08, 0x00, 0x01, 0x25, 0x13, 0xea, 0x12, 0xd5, 0x43, // from 203.0.113.1:1025
    0x00, 0x13, 0x00, 0x05, // five bytes of data
];

#[test]
fn channel_to_channel_changes_two_bytes() {
    let mut switch = two_legs(true, true);
    let (verdict, sent) = send(&mut switch, ALICE, b"\x40\x01\x00\x05hello");
    assert_eq!((verdict, &sent[..]), (to(BOB), &b"\x4a\xbc\x00\x05hello"[..]));
    let (verdict, sent) = send(&mut switch, BOB, b"\x4a\xbc\x00\x02hi");
    assert_eq!((verdict, &sent[..]), (to(ALICE), &b"\x40\x01\x00\x02hi"[..]));
    assert_eq!(switch.counters.get(Counter::ChannelToChannel), 2);
    assert_eq!(switch.counters.get(Counter::PayloadBytes), 7);
}

#[test]
fn channel_to_indication_grows_into_the_headroom_and_pads_with_zeros() {
    let mut switch = two_legs(true, false);
    let (verdict, sent) = send(&mut switch, ALICE, b"\x40\x01\x00\x05hello");
    assert_eq!(verdict, to(BOB));
    assert_eq!(sent, [&DATA_FROM_ALICE[..], b"hello\0\0\0"].concat());
    assert_eq!(switch.counters.get(Counter::ChannelToIndication), 1);
}

#[test]
fn indication_to_channel_puts_four_bytes_before_the_data() {
    let mut switch = two_legs(false, true);
    let (verdict, sent) = send(&mut switch, ALICE, &indication(&["203.0.113.1:1026"], b"hello"));
    assert_eq!((verdict, &sent[..]), (to(BOB), &b"\x4a\xbc\x00\x05hello"[..]));
    assert_eq!(switch.counters.get(Counter::IndicationToChannel), 1);
}

#[test]
fn indication_to_indication_says_who_sent_it() {
    let mut switch = two_legs(false, false);
    let (verdict, sent) = send(&mut switch, ALICE, &indication(&["203.0.113.1:1026"], b"hello"));
    assert_eq!(verdict, to(BOB));
    assert_eq!(sent, [&DATA_FROM_ALICE[..], b"hello\0\0\0"].concat());
    assert_eq!(switch.counters.get(Counter::IndicationToIndication), 1);
}

#[test]
fn an_indication_with_its_data_first_is_forwarded_all_the_same() {
    let mut switch = two_legs(false, false);
    let mut buffer = [0; 128];
    let len = Writer::new(&mut buffer, Class::Indication, Method::Send, [9; 12])
        .attribute(attr::DATA, b"hello")
        .address(attr::XOR_PEER_ADDRESS, "203.0.113.1:1026".parse().unwrap())
        .finish()
        .unwrap();
    let (verdict, sent) = send(&mut switch, ALICE, &buffer[..len]);
    assert_eq!(verdict, to(BOB));
    assert_eq!(sent, [&DATA_FROM_ALICE[..], b"hello\0\0\0"].concat(), "no byte of the address behind it as padding");
}

#[test]
fn the_padding_of_what_was_received_does_not_travel_on() {
    let mut switch = two_legs(true, true);
    let (_, sent) = send(&mut switch, ALICE, b"\x40\x01\x00\x05hello\xee\xee\xee");
    assert_eq!(sent, b"\x4a\xbc\x00\x05hello");
    let mut padded = indication(&["203.0.113.1:1026"], b"hello");
    let end = padded.len();
    padded[end - 3..].fill(0xee);
    let mut switch = two_legs(false, false);
    let (_, sent) = send(&mut switch, ALICE, &padded);
    assert_eq!(sent[36..], *b"hello\0\0\0");
}

#[test]
fn an_empty_payload_is_forwarded_in_all_four_forms() {
    for (alice, bob) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut switch = two_legs(alice, bob);
        let datagram = if alice { vec![0x40, 1, 0, 0] } else { indication(&["203.0.113.1:1026"], b"") };
        let (verdict, sent) = send(&mut switch, ALICE, &datagram);
        assert_eq!((verdict, sent.len()), (to(BOB), if bob { 4 } else { 36 }));
    }
}

#[test]
fn two_allocations_of_one_leg_reach_each_other() {
    let mut switch = Switch::new(1);
    let record = attachment(&[(1, ALICE, &[(0x4000, "203.0.113.2:1025")]), (2, BOB, &[(0x4000, "203.0.113.1:1025")])]);
    attach(&mut switch, CALL, 1, &record);
    let (verdict, sent) = send(&mut switch, ALICE, b"\x40\x00\x00\x01x");
    assert_eq!((verdict, &sent[..]), (to(BOB), &b"\x40\x00\x00\x01x"[..]));
}

#[test]
fn nothing_crosses_from_one_call_to_another() {
    let mut switch = two_legs(true, true);
    let mallory = "192.0.2.66:666";
    let record = attachment(&[(1, mallory, &[(0x4000, "203.0.113.1:1025"), (0x4001, "203.0.113.1:1026")])]);
    attach(&mut switch, CALL + 1, 3, &record);
    for channel in [0x00, 0x01] {
        assert_eq!(send(&mut switch, mallory, &[0x40, channel, 0, 1, 7]).0, Verdict::Drop);
    }
    assert_eq!(send(&mut switch, mallory, &indication(&["203.0.113.1:1025"], b"x")).0, Verdict::Drop);
    assert_eq!(switch.counters.get(Counter::NobodyThere), 3);
}

#[test]
fn media_from_a_stranger_moves_and_opens_nothing() {
    let mut switch = two_legs(true, true);
    for datagram in [b"\x40\x01\x00\x05hello".to_vec(), indication(&["203.0.113.1:1026"], b"hello")] {
        assert_eq!(send(&mut switch, "192.0.2.9:9", &datagram).0, Verdict::UnknownSource);
    }
    assert_eq!(send(&mut switch, "192.0.2.1:1112", b"\x40\x01\x00\x01x").0, Verdict::UnknownSource, "another port");
    assert_eq!(switch.counters.get(Counter::UnknownSource), 3);
    assert_eq!(send(&mut switch, ALICE, b"\x40\x01\x00\x01x").0, to(BOB), "and the call goes on");
}

#[test]
fn addresses_outside_the_prefix_get_nothing_by_any_form() {
    let mut switch = two_legs(true, true);
    for outside in ["127.0.0.1:1026", "0.0.0.0:1026", "[::1]:1026", "[::ffff:203.0.113.1]:1026", "203.0.112.1:1026"] {
        assert_eq!(send(&mut switch, ALICE, &indication(&[outside], b"x")).0, Verdict::Drop, "{outside}");
    }
    assert_eq!(switch.counters.get(Counter::OutsidePrefix), 5);
}

#[test]
fn of_two_peer_addresses_the_first_is_the_one_that_is_checked_and_used() {
    let mut switch = two_legs(false, true);
    let (good, bad) = ("203.0.113.1:1026", "127.0.0.1:1026");
    assert_eq!(send(&mut switch, ALICE, &indication(&[good, bad], b"x")).0, to(BOB));
    assert_eq!(send(&mut switch, ALICE, &indication(&[bad, good], b"x")).0, Verdict::Drop);
}

#[test]
fn a_channel_to_a_leg_that_is_not_there_yet_works_once_it_is() {
    let mut switch = Switch::new(1);
    attach(&mut switch, CALL, 1, &attachment(&[(1, ALICE, &[(0x4001, "203.0.113.1:1026")])]));
    assert_eq!(send(&mut switch, ALICE, b"\x40\x01\x00\x01x").0, Verdict::Drop);
    attach(&mut switch, CALL, 2, &attachment(&[(1, BOB, &[])]));
    assert_eq!(send(&mut switch, ALICE, b"\x40\x01\x00\x01x").0, to(BOB));
    switch.handle(at(0), Input::Detach { call: CallId::from_bits(CALL), leg: leg(2) }).unwrap();
    assert_eq!(send(&mut switch, ALICE, b"\x40\x01\x00\x01x").0, Verdict::Drop);
    assert_eq!(switch.allocations(), 1);
}

#[test]
fn a_channel_that_is_not_bound_says_whose_record_to_look_at() {
    let mut switch = two_legs(true, true);
    let verdict = send(&mut switch, ALICE, b"\x40\x02\x00\x01x").0;
    assert!(matches!(verdict, Verdict::UnknownChannel(owner) if owner.leg == leg(1)), "{verdict:?}");
}

#[test]
fn odd_datagrams_are_dropped_and_counted() {
    let mut switch = two_legs(true, true);
    for (datagram, why) in [
        (&b""[..], Counter::Empty),
        (b"\x40", Counter::Malformed),
        (b"\x40\x01\x00\x02x", Counter::Malformed),
        (b"\x40\x01\xff\xffx", Counter::Malformed),
        (b"\x16\xfe\xff", Counter::NotOurs),
        (b"\x80\x60\x00\x01", Counter::NotOurs),
        (b"\x00\x01\x00\x00", Counter::Malformed),
    ] {
        let before = switch.counters.get(why);
        assert_eq!(send(&mut switch, ALICE, datagram).0, Verdict::Drop, "{datagram:?}");
        assert_eq!(switch.counters.get(why), before + 1, "{datagram:?} {why:?}");
    }
}

#[test]
fn only_requests_ever_ask_for_an_answer() {
    let mut switch = two_legs(true, true);
    let mut requests = 0;
    for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
        for method in 0..0x1000 {
            let mut buffer = [0; 20];
            Writer::new(&mut buffer, class, Method::from_bits(method), [1; 12]).finish().unwrap();
            let verdict = send(&mut switch, "192.0.2.9:9", &buffer).0;
            requests += u32::from(verdict == Verdict::Request);
            assert!(class == Class::Request || verdict != Verdict::Request, "{class:?} {method:#x}");
        }
    }
    // Methods from 0x100 on start with a byte over 3, which RFC 7983 gives to others.
    assert_eq!(requests, 0x100);
}

#[test]
fn a_send_indication_without_peer_or_data_or_with_an_unknown_attribute_is_dropped() {
    let mut switch = two_legs(true, true);
    let build = |f: &dyn Fn(Writer<'_>) -> Result<usize, tandem_wire::stun::StunError>| {
        let mut buffer = vec![0; 128];
        let len = f(Writer::new(&mut buffer, Class::Indication, Method::Send, [9; 12])).unwrap();
        buffer.truncate(len);
        buffer
    };
    let bob: SocketAddr = "203.0.113.1:1026".parse().unwrap();
    let shapes = [
        build(&|w| w.attribute(attr::DATA, b"x").finish()),
        build(&|w| w.address(attr::XOR_PEER_ADDRESS, bob).finish()),
        build(&|w| w.address(attr::XOR_PEER_ADDRESS, bob).attribute(0x7777, b"").attribute(attr::DATA, b"x").finish()),
    ];
    for shape in shapes {
        assert_eq!(send(&mut switch, ALICE, &shape).0, Verdict::Drop);
    }
}

#[test]
fn a_new_allocation_on_an_address_evicts_the_older_one() {
    let mut switch = two_legs(true, true);
    attach(&mut switch, CALL + 1, 5, &attachment(&[(1, ALICE, &[])]));
    let older = Owner { call: CallId::from_bits(CALL), leg: leg(1), allocation: AllocationId::new(1).unwrap() };
    assert_eq!(switch.poll(), Some(Output::Evicted { owner: older, source: source(ALICE) }));
    assert_eq!(switch.poll(), None);
    assert_eq!(switch.owner(source(ALICE)).unwrap().leg, leg(5));
    assert_eq!(send(&mut switch, BOB, b"\x4a\xbc\x00\x01x").0, Verdict::Drop, "the old call cannot reach it any more");
    assert_eq!(switch.allocations(), 2);
}

#[test]
fn of_two_stored_records_on_one_address_the_newer_one_has_it_in_either_order() {
    let record = attachment(&[(1, ALICE, &[])]);
    let stored = |call: u128, revision| Input::Attach {
        call: CallId::from_bits(call),
        leg: leg(1),
        attachment: &record,
        newness: Newness::Stored(Revision(revision)),
    };
    for (first, second) in [((1, 10), (2, 20)), ((2, 20), (1, 10))] {
        let mut switch = Switch::new(1);
        switch.handle(at(0), stored(first.0, first.1)).unwrap();
        switch.handle(at(0), stored(second.0, second.1)).unwrap();
        assert_eq!(switch.owner(source(ALICE)).unwrap().call, CallId::from_bits(2));
        let Some(Output::Evicted { owner, .. }) = switch.poll() else { panic!("the older one is told") };
        assert_eq!((owner.call, switch.poll(), switch.allocations()), (CallId::from_bits(1), None, 1));
    }
}

#[test]
fn an_allocation_that_moved_is_reached_only_where_it_is_now() {
    let mut switch = two_legs(true, true);
    attach(&mut switch, CALL, 2, &attachment(&[(1, "192.0.2.2:9999", &[(0x4abc, "203.0.113.1:1025")])]));
    assert_eq!(send(&mut switch, ALICE, b"\x40\x01\x00\x01x").0, to("192.0.2.2:9999"));
    assert_eq!(send(&mut switch, BOB, b"\x4a\xbc\x00\x01x").0, Verdict::UnknownSource);
    assert_eq!(switch.allocations(), 2);
}

#[test]
fn a_lifetime_that_is_over_is_said_once_and_a_refreshed_one_is_not() {
    let mut switch = two_legs(true, true);
    assert_eq!(switch.next_deadline(), Some(at(3_600).mono), "restored: the longest that could have been granted");
    switch.handle(at(0), Input::Refresh { source: source(ALICE), lifetime: Span::from_secs(600) }).unwrap();
    switch.handle(at(500), Input::Refresh { source: source(ALICE), lifetime: Span::from_secs(600) }).unwrap();
    switch.expire(at(1_099));
    assert_eq!(switch.poll(), None);
    switch.expire(at(1_100));
    assert!(matches!(switch.poll(), Some(Output::Expired { source: s, .. }) if s == source(ALICE)));
    switch.expire(at(1_101));
    assert_eq!(switch.poll(), None);
    let unknown = Input::Refresh { source: source("192.0.2.9:9"), lifetime: Span::ZERO };
    assert_eq!(switch.handle(at(0), unknown), Err(Refusal::Unknown));
}

#[test]
fn a_forgotten_call_leaves_nothing_behind() {
    let mut switch = two_legs(true, true);
    switch.handle(at(0), Input::Forget { call: CallId::from_bits(CALL) }).unwrap();
    assert_eq!((switch.allocations(), switch.next_deadline()), (0, None));
    assert!(switch.calls.is_empty() && switch.flows.is_empty());
}

#[test]
fn counters_that_reach_their_end_go_on() {
    let mut switch = two_legs(true, true);
    switch.counters = Counters::starting_at(u64::MAX - 8);
    switch.indications = u64::MAX - 1;
    for _ in 0..20 {
        assert_eq!(send(&mut switch, ALICE, b"\x40\x01\x00\x05hello").0, to(BOB));
    }
    let mut switch = two_legs(true, false);
    switch.indications = u64::MAX - 1;
    for _ in 0..4 {
        assert_eq!(send(&mut switch, ALICE, b"\x40\x01\x00\x05hello").0, to(BOB));
    }
}

/// A million random packets, from attached addresses and from strangers: what leaves, leaves for an attached leg of the
/// same call. The generator is a fixed one, so that a failure repeats.
#[test]
fn a_million_random_packets_reach_no_address_that_is_not_attached() {
    let mut switch = Switch::new(7);
    let everyone: Vec<String> = (0..16).map(|n| format!("192.0.2.{n}:{}", 1000 + n)).collect();
    for (n, client) in everyone.iter().enumerate() {
        let (call, n) = (n as u128 / 4, n as u16 % 4 + 1);
        let channels: Vec<(u16, String)> =
            (1..=4).map(|other| (0x4000 + other, format!("203.0.113.1:{}", 1024 + other))).collect();
        let channels: Vec<(u16, &str)> = channels.iter().map(|(c, p)| (*c, p.as_str())).collect();
        attach(&mut switch, call, n, &attachment(&[(1, client, &channels[..n as usize])]));
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut forwarded, mut elsewhere) = (0_u32, 0_u32);
    for _ in 0..1_000_000 {
        let who = (random() % 20) as usize;
        let from = everyone.get(who).cloned().unwrap_or_else(|| format!("198.51.100.{who}:7"));
        let datagram = match random() % 4 {
            0 => (0..random() % 64).map(|_| random() as u8).collect(),
            1 => {
                let mut packet = vec![0x40, (random() % 8) as u8, 0, (random() % 12) as u8];
                packet.extend((0..random() % 12).map(|_| random() as u8));
                packet
            }
            2 => {
                let address = format!("203.0.113.{}:{}", random() % 3, 1024 + random() % 7);
                indication(&[&address], &random().to_be_bytes()[..(random() % 9) as usize])
            }
            _ => {
                let address = SocketAddr::from(((random() as u32).to_be_bytes(), random() as u16));
                let mut packet = indication(&[&address.to_string()], b"payload");
                let at = (random() % packet.len() as u64) as usize;
                packet[at] ^= (random() % 3) as u8;
                packet
            }
        };
        if let (Verdict::Forward(Attached { source: to, .. }), _) = send(&mut switch, &from, &datagram) {
            forwarded += 1;
            let same_call = everyone.iter().position(|c| source(c) == to).is_some_and(|n| n / 4 == who / 4);
            elsewhere += u32::from(!same_call);
        }
    }
    assert!(forwarded > 50_000, "the test must reach the forwarding path: {forwarded}");
    assert_eq!(elsewhere, 0);
}

proptest! {
    #[test]
    fn the_payload_is_never_changed(
        data in prop::collection::vec(any::<u8>(), 0..1500),
        alice: bool,
        bob: bool,
    ) {
        let mut switch = two_legs(alice, bob);
        let datagram = if alice {
            let len = u16::try_from(data.len()).unwrap();
            [&[0x40, 1][..], &len.to_be_bytes(), &data].concat()
        } else {
            indication(&["203.0.113.1:1026"], &data)
        };
        let (verdict, sent) = send(&mut switch, ALICE, &datagram);
        prop_assert_eq!(verdict, to(BOB));
        if bob {
            prop_assert_eq!(&sent[4..], &data[..]);
        } else {
            let message = tandem_wire::stun::Message::parse(&sent).unwrap();
            let (at, len) = message.attributes.data.unwrap();
            prop_assert_eq!(&sent[at..at + len], &data[..]);
            prop_assert!(sent[at + len..].iter().all(|b| *b == 0));
        }
    }

    /// Any order of attaching and detaching: what the table holds is exactly what was attached last.
    #[test]
    fn the_table_holds_what_was_attached_last(
        steps in prop::collection::vec((0_u128..3, 1_u16..4, prop::collection::btree_set(0_u8..6, 0..4), 0..8), 1..40)
    ) {
        let mut switch = Switch::new(3);
        let mut model = std::collections::BTreeMap::<(u128, u16), std::collections::BTreeSet<u8>>::new();
        for (call, n, clients, what) in steps {
            if what == 0 {
                switch.handle(at(0), Input::Forget { call: CallId::from_bits(call) }).unwrap();
                model.retain(|(c, _), _| *c != call);
                continue;
            }
            let clients: Vec<(u8, String)> = clients.iter().map(|c| (*c, format!("192.0.2.1:{}", 100 + c))).collect();
            let record: Vec<Shape<'_>> =
                clients.iter().map(|(c, text)| (c + 1, text.as_str(), &[][..])).collect();
            attach(&mut switch, call, n, &attachment(&record));
            for (key, others) in &mut model {
                if *key != (call, n) {
                    others.retain(|c| clients.iter().all(|(mine, _)| mine != c));
                }
            }
            model.insert((call, n), clients.iter().map(|(c, _)| *c).collect());
            let attached: usize = model.values().map(std::collections::BTreeSet::len).sum();
            prop_assert_eq!(switch.allocations(), attached);
            for ((call, n), clients) in &model {
                for c in clients {
                    let owner = switch.owner(source(&format!("192.0.2.1:{}", 100 + c))).unwrap();
                    prop_assert_eq!((owner.call.bits(), owner.leg.get(), owner.allocation.get()), (*call, *n, c + 1));
                }
            }
        }
    }
}

/// Where a packet of `from` went, and from which listener, if it came to the listener `by`.
fn by(
    switch: &mut Switch,
    from: &str,
    by: Option<Listener>,
    datagram: &[u8],
) -> Option<(ClientAddr, Option<Listener>)> {
    let mut buffer = vec![0; limits::HEADROOM + datagram.len() + limits::TAILROOM];
    buffer[limits::HEADROOM..limits::HEADROOM + datagram.len()].copy_from_slice(datagram);
    let mut slot = Slot { buffer: &mut buffer, start: limits::HEADROOM, len: datagram.len() };
    let Verdict::Forward(to) = switch.tunneled(Now::default(), source(from), by, &mut slot) else { return None };
    Some((Egress::from(to).client(), Egress::from(to).listener()))
}

#[test]
fn a_packet_leaves_by_the_listener_that_its_receiver_was_heard_at_last_and_by_none_before_that() {
    let mut switch = two_legs(true, true);
    let (alice, bob) = (source(ALICE).client, source(BOB).client);
    let [first, second] = [0, 1].map(|number| Some(Listener { number, epoch: 3 }));
    let (to_bob, to_alice) = (b"\x40\x01\x00\x01x", b"\x4a\xbc\x00\x01x");
    assert_eq!(by(&mut switch, ALICE, first, to_bob), Some((bob, None)));
    assert_eq!(by(&mut switch, BOB, second, to_alice), Some((alice, first)));
    assert_eq!(by(&mut switch, ALICE, first, to_bob), Some((bob, second)));
    // An indication counts as much as a channel.
    let said = indication(&["203.0.113.1:1026"], b"hello");
    assert_eq!(by(&mut switch, ALICE, second, &said), Some((bob, second)));
    assert_eq!(by(&mut switch, BOB, second, to_alice), Some((alice, second)));
    // What no allocation may send moves nothing: whoever borrows an address does not know its channels.
    let outside = indication(&["198.51.100.1:9"], b"x");
    for forged in [&b"\x40\x02\x00\x01x"[..], b"\x40\x01\x00\x09x", &outside, &[0; 20]] {
        assert_eq!(by(&mut switch, ALICE, first, forged), None);
    }
    assert_eq!(by(&mut switch, BOB, second, to_alice), Some((alice, second)));
    let spoke = |text, listener| Input::SpokeTo { source: source(text), listener };
    switch.handle(at(1), spoke(ALICE, first)).unwrap();
    assert_eq!(by(&mut switch, BOB, second, to_alice), Some((alice, first)));
    assert_eq!(switch.handle(at(1), spoke("192.0.2.3:3333", first)), Err(Refusal::Unknown));
    // Its record is written again, and it is where it was; attached anew, it is not known yet.
    attach(&mut switch, CALL, 1, &attachment(&[(1, ALICE, &[(0x4001, "203.0.113.1:1026")])]));
    assert_eq!(by(&mut switch, BOB, second, to_alice), Some((alice, first)));
    switch.handle(at(1), Input::Detach { call: CallId::from_bits(CALL), leg: leg(1) }).unwrap();
    attach(&mut switch, CALL, 1, &attachment(&[(1, ALICE, &[(0x4001, "203.0.113.1:1026")])]));
    assert_eq!(by(&mut switch, BOB, second, to_alice), Some((alice, None)));
    // To one that we were not told of: the one before is no longer right.
    assert_eq!(by(&mut switch, BOB, None, to_alice), Some((alice, None)));
    assert_eq!(by(&mut switch, ALICE, None, to_bob), Some((bob, None)));
}
