//! What stock clients send, in their own shapes (measured: which attributes, which timers, channels or indications), is
//! served; and every way from a channel or an indication to the other has these bytes.

use proptest::prelude::*;

use crate::common::*;

/// How a stock client asks.
struct Stock {
    name: &'static str,
    allocate: Vec<Part>,
    fingerprint: bool,
    permits: bool,
    binds: bool,
    /// How often it refreshes what it was granted, and what it asks for then.
    refresh_every_secs: u64,
    refresh: Vec<Part>,
}

fn stock() -> Vec<Stock> {
    let software = |name: &str| Part::Raw(attr::SOFTWARE, name.as_bytes().to_vec());
    let plain = |name, lifetime: Option<u32>, fingerprint, permits, binds, refresh_every_secs| Stock {
        name,
        allocate: [Some(Part::udp()), lifetime.map(Part::lifetime)].into_iter().flatten().collect(),
        fingerprint,
        permits,
        binds,
        refresh_every_secs,
        refresh: lifetime.map(Part::lifetime).into_iter().collect(),
    };
    vec![
        plain("Firefox", Some(3_600), true, true, false, 3_590),
        plain("Chromium", None, false, true, true, 540),
        plain("aioice", Some(600), true, false, true, 500),
        plain("werift", Some(600), true, false, true, 500),
        plain("rtc-turn", None, true, true, true, 300),
        Stock { allocate: vec![software("libnice"), Part::udp()], ..plain("libnice", None, false, true, true, 540) },
        Stock {
            allocate: vec![
                software("coturn"),
                Part::lifetime(777),
                Part::udp(),
                Part::Raw(attr::EVEN_PORT, vec![0]),
                Part::Raw(attr::FAMILY, vec![1, 0, 0, 0]),
            ],
            ..plain("uclient", Some(777), true, true, true, 700)
        },
    ]
}

/// Every stock client calls every stock client, and both live through their own timers and the death of a relay.
#[test]
fn every_stock_client_reaches_every_other_and_outlives_the_relay() {
    let stock = stock();
    let mut call_number = 0;
    for credentials_first in [false, true] {
        for (left, right) in stock.iter().flat_map(|left| stock.iter().map(move |right| (left, right))) {
            call_number += 1;
            let mut relay = Relay::new();
            let call = relay.create(call_number, 2);
            let mut clients = [(left, 1, A, LEG2, B), (right, 2, B, LEG1, A)].map(|(stock, n, at, peer, other)| {
                let shape = Client::new(&relay, call, n, at);
                (stock, Client { fingerprint: stock.fingerprint, credentials_first, ..shape }, peer, other)
            });
            let names = format!("{} and {}", left.name, right.name);
            for (stock, client, peer, _) in &mut clients {
                let reply = client.ask(&mut relay, kind::ALLOCATE, &stock.allocate).expect(stock.name);
                assert_eq!((reply.code, reply.mapped, reply.fingerprint), (0, Some(client.at), stock.fingerprint));
                assert!(reply.relayed.unwrap().port() >= 1024, "Chromium never tries a lower one");
                if stock.permits {
                    assert_eq!(client.permit(&mut relay, peer), Some(0), "{names}");
                }
                if stock.binds {
                    assert_eq!(client.bind(&mut relay, 0x4000, peer), Some(0), "{names}");
                }
            }
            media(&mut relay, &clients, &names);
            for secs in (10..=3_600).step_by(10) {
                relay.pass(10_000);
                for (stock, client, ..) in clients.iter_mut().filter(|(stock, ..)| secs % stock.refresh_every_secs == 0)
                {
                    assert_eq!(client.code(&mut relay, kind::REFRESH, &stock.refresh), Some(0), "{names} {secs}");
                }
                if secs == 1_700 {
                    relay.fail_over();
                    media(&mut relay, &clients, &names);
                }
            }
            media(&mut relay, &clients, &names);
            for (stock, client, peer, _) in &mut clients {
                if stock.binds {
                    assert_eq!(client.bind(&mut relay, 0x4000, peer), Some(0), "{names}");
                }
                assert_eq!(client.code(&mut relay, kind::REFRESH, &[Part::lifetime(0)]), Some(0), "{names}");
            }
            assert_eq!(relay.engine.switch().allocations(), 0);
        }
    }
}

/// Each sends as it does, and hears as it has asked to.
fn media(relay: &mut Relay, clients: &[(&Stock, Client, &str, &str); 2], names: &str) {
    for (from, to) in [(0, 1), (1, 0)] {
        let (stock, client, peer, other) = &clients[from];
        let (hearing, _, own, _) = &clients[to];
        for payload in [&b""[..], b"x", b"some", &[0x80; 172], &[0x80; 1_100]] {
            let mut sent = vec![client.indicate(relay, peer, payload)];
            if stock.binds {
                sent.push(client.send(relay, 0x4000, payload));
            }
            for sent in sent {
                if hearing.binds {
                    assert_eq!(sent, on_channel(other, 0x4000, payload), "{names}");
                } else {
                    assert_indication(&sent, other, own, payload);
                }
            }
        }
    }
}

/// Golden bytes: from a channel or an indication, to a channel or an indication.
#[test]
fn the_four_conversions_have_these_bytes() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let mut firefox = two.on_socket("198.51.100.8:41000");
    assert_eq!(firefox.attach(&mut relay), "203.0.113.2:1026");
    let mut chromium = one;
    assert_eq!(chromium.bind(&mut relay, 0x7fff, "203.0.113.2:1026"), Some(0));
    let channel_in = b"\x40\x01\x00\x05hello";
    assert_eq!(relay.datagram(chromium.at, channel_in)[0].bytes, b"\x40\x01\x00\x05hello");
    // XOR-PEER-ADDRESS of 203.0.113.1:1025: port ^ 0x2112, address ^ 0x2112a442.
    let from_chromium = b"\0\x01\x25\x13\xea\x12\xd5\x43";
    let to_firefox = relay.datagram(chromium.at, b"\x7f\xff\x00\x05hello")[0].bytes.clone();
    let (header, body) = to_firefox.split_at(20);
    assert_eq!((&header[..8], header.len()), (&b"\0\x17\0\x18\x21\x12\xa4\x42"[..], 20));
    assert_eq!(body, [b"\0\x12\0\x08", &from_chromium[..], b"\0\x13\0\x05hello\0\0\0"].concat());
    // From 203.0.113.2:1026.
    let send =
        [&b"\0\x16\0\x18\x21\x12\xa4\x42abcdefghijkl\0\x12\0\x08"[..], from_chromium, b"\0\x13\0\x05hello\0\0\0"];
    assert_eq!(relay.datagram(firefox.at, &send.concat())[0].bytes, b"\x7f\xff\x00\x05hello");
    let mut other_firefox = firefox.on_socket("198.51.100.8:42000");
    assert_eq!(other_firefox.attach(&mut relay), "203.0.113.3:1026");
    let sent = relay.datagram(other_firefox.at, &send.concat());
    // The third allocation of leg 2 has no channel to it: 203.0.113.3:1026.
    assert_eq!(
        sent[0].bytes[20..],
        [b"\0\x12\0\x08", &b"\0\x01\x25\x10\xea\x12\xd5\x41"[..], b"\0\x13\0\x05hello\0\0\0"].concat()
    );
}

/// A client that writes its channel data padded, as over TCP, or an indication with attributes that it may have.
#[test]
fn padding_software_and_fingerprints_of_senders_stay_with_them() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    for padding in 0..4 {
        let packet = [&b"\x40\x01\0\x01x"[..], &vec![0; padding]].concat();
        assert_eq!(relay.datagram(one.at, &packet), on_channel(B, 0x4001, b"x"));
    }
    let software = Part::Raw(attr::SOFTWARE, b"canary".to_vec());
    for parts in [
        vec![software.clone(), Part::peer(LEG2), Part::data(b"x")],
        vec![Part::data(b"x"), Part::peer(LEG2), software, Part::Fingerprint],
    ] {
        let sent = relay.datagram(one.at, &written(kind::SEND, [1; 12], &parts));
        assert_eq!(sent, on_channel(B, 0x4001, b"x"), "in whatever order");
    }
    let unheard_of = [Part::peer(LEG2), Part::Raw(0x7abc, vec![]), Part::data(b"x")];
    assert!(relay.datagram(one.at, &written(kind::SEND, [1; 12], &unheard_of)).is_empty(), "it must be understood");
    let no_data = [Part::peer(LEG2)];
    assert!(relay.datagram(one.at, &written(kind::SEND, [1; 12], &no_data)).is_empty());
}

/// A fingerprint that is wrong is not a message of ours.
#[test]
fn a_wrong_fingerprint_gets_silence() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    one.fingerprint = true;
    let mut request = one.signed(kind::REFRESH, &[Part::lifetime(600)]);
    *request.last_mut().unwrap() ^= 1;
    assert!(relay.datagram(one.at, &request).is_empty());
    assert_eq!(one.refresh(&mut relay, 600), Some(0));
}

fn part() -> impl Strategy<Value = Part> {
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        (any::<u16>(), bytes).prop_map(|(kind, value)| Part::Raw(kind, value)),
        any::<(u16, [u8; 4], u16)>().prop_map(|(kind, ip, port)| Part::Addr(kind, (ip, port).into())),
        any::<(u16, [u8; 16], u16)>().prop_map(|(kind, ip, port)| Part::Addr(kind, (ip, port).into())),
        any::<[u8; 16]>().prop_map(Part::Integrity),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]
    /// The writer that the product uses and the one that these tests compare with were made apart.
    #[test]
    fn two_encoders_of_the_same_message_write_the_same_bytes(
        class in prop_oneof![Just(0x0000_u16), Just(0x0010), Just(0x0100), Just(0x0110)],
        method in 0_u16..16,
        transaction: [u8; 12],
        mut parts in prop::collection::vec(part(), 0..8),
        fingerprint: bool,
    ) {
        parts.extend(fingerprint.then_some(Part::Fingerprint));
        let kind = class | method;
        prop_assert_eq!(written(kind, transaction, &parts), model::encode(kind, transaction, &parts));
    }
}
