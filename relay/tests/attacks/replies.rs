//! R28 to R31, R35: what is said to whom, how long it is, how often, and that it answers nothing but requests.

use tandem_wire::nonce::NonceKey;
use tandem_wire::redact::ClientAddr;

use crate::common::*;

/// Every shape of a request that proves nothing, by name. None of them may cost more than it is allowed to.
fn unproven(client: &Client) -> Vec<(String, Vec<u8>)> {
    let name = Part::Raw(attr::USERNAME, client.username.clone().into_bytes());
    let realm = Part::Raw(attr::REALM, REALM.to_vec());
    let nonce = Part::Raw(attr::NONCE, client.nonce.clone());
    let stale = Part::Raw(attr::NONCE, vec![b'A'; 24]);
    let made_up = Part::Raw(attr::INTEGRITY, vec![9; 20]);
    let shapes: Vec<(&str, Vec<Part>)> = vec![
        ("nothing", vec![]),
        ("what an Allocate has", vec![Part::udp(), Part::lifetime(600)]),
        ("a fingerprint", vec![Part::udp(), Part::Fingerprint]),
        ("a name only", vec![name.clone()]),
        ("all but the integrity", vec![name.clone(), realm.clone(), nonce.clone()]),
        ("an integrity only", vec![made_up.clone()]),
        ("no nonce", vec![name.clone(), realm.clone(), Part::Integrity(client.key)]),
        ("no realm", vec![name.clone(), nonce.clone(), Part::Integrity(client.key)]),
        ("no name", vec![realm.clone(), nonce.clone(), Part::Integrity(client.key)]),
        ("an integrity made up", vec![name.clone(), realm.clone(), nonce.clone(), made_up.clone()]),
        (
            "an integrity made up, and a fingerprint",
            vec![name.clone(), realm.clone(), nonce, made_up, Part::Fingerprint],
        ),
        ("a stale nonce", vec![name, realm, stale, Part::Integrity(client.key)]),
        ("SHA-256", vec![Part::Raw(attr::INTEGRITY_SHA256, vec![1; 32])]),
        ("a long name", vec![Part::Raw(attr::USERNAME, vec![b'x'; 512]), Part::Integrity([0; 16])]),
        ("attributes unheard of", (0..40).map(|n| Part::Raw(0x7000 + n, vec![0; 8])).collect()),
        ("software", vec![Part::Raw(attr::SOFTWARE, vec![b's'; 700])]),
    ];
    let requests = kind::PROVING.into_iter().chain([kind::BINDING]);
    requests
        .flat_map(|kind| {
            let written = |parts: &Vec<Part>| written(kind, client.transaction(), parts);
            shapes
                .iter()
                .map(move |(name, parts)| (format!("{kind:#x} with {name}"), written(parts)))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn known_client(relay: &mut Relay, at: &str) -> Client {
    let call = relay.create(50, 2);
    let mut client = Client::new(relay, call, 1, at);
    client.learn_nonce(relay);
    client
}

/// R28
#[test]
fn nobody_without_proof_gets_more_than_64_bytes() {
    for at in [A, "[2001:db8:7::1]:4000"] {
        let mut relay = Relay::new();
        let client = known_client(&mut relay, at);
        let mut answered = 0;
        for (shape, request) in unproven(&client) {
            relay.pass(20);
            let sent = relay.datagram(client.at, &request);
            assert!(sent.iter().all(|sent| sent.bytes.len() <= 64 && sent.to == client.at), "{shape}");
            answered += sent.len();
        }
        assert!(answered > 60, "most of them are answered: {answered}");
    }
}

/// R28, R35: byte for byte what a second encoder makes of it, in a buffer that was full of something else.
#[test]
fn a_401_and_a_438_are_64_bytes_and_these() {
    for at in [A, "[2001:db8:7::1]:4000"] {
        let mut relay = Relay::new();
        let client = known_client(&mut relay, at);
        let nonce = NonceKey::new(&secret(1)).unwrap().mint(ClientAddr::new(client.at), relay.now().wall).to_vec();
        let expected = |kind: u16, code: u16| {
            let parts =
                [Part::error(code), Part::Raw(attr::REALM, REALM.to_vec()), Part::Raw(attr::NONCE, nonce.clone())];
            model::encode(kind | kind::ERROR, client.transaction(), &parts)
        };
        for kind in kind::PROVING {
            let bare = written(kind, client.transaction(), &[Part::udp()]);
            assert_eq!(expected(kind, 401).len(), 64);
            assert_eq!(relay.datagram(client.at, &bare), [Sent { to: client.at, bytes: expected(kind, 401) }]);
            let mut stale = Client { nonce: vec![b'A'; 24], ..client.clone() };
            let _ = stale.signed(kind, &[]);
            let request = written(kind, client.transaction(), &stale.signed_parts(&[Part::udp()]));
            assert_eq!(relay.datagram(client.at, &request), [Sent { to: client.at, bytes: expected(kind, 438) }]);
        }
    }
}

/// R28: by address, not by port; whatever is asked.
#[test]
fn a_source_gets_a_hundred_answers_a_second_whatever_it_asks_from_whatever_port() {
    let mut relay = Relay::new();
    let client = known_client(&mut relay, A);
    relay.pass(2_000);
    let shapes = unproven(&client);
    let flood = |relay: &mut Relay, source: &dyn Fn(u16) -> String| {
        let shapes = shapes.iter().cycle().take(2_000).enumerate();
        shapes.map(|(n, (_, request))| relay.datagram(addr(&source(n as u16)), request).len()).sum::<usize>()
    };
    assert_eq!(flood(&mut relay, &|n| format!("192.0.2.5:{}", 1_000 + n)), 100);
    assert_eq!(flood(&mut relay, &|n| format!("[::ffff:192.0.2.5]:{}", 9_000 + n)), 0, "the same, said otherwise");
    assert_eq!(
        flood(&mut relay, &|n| format!("[2001:db8:1:2:{n:x}::{n:x}]:{}", 1_000 + n)),
        100,
        "a /64 is one source"
    );
    assert_eq!(flood(&mut relay, &|n| format!("[2001:db8:1:3::{n:x}]:{}", 1_000 + n)), 100, "the next /64 another");
    relay.pass(1_000);
    assert_eq!(flood(&mut relay, &|n| format!("192.0.2.5:{}", 1_000 + n)), 100, "and again in the next second");
}

/// R28
#[test]
fn a_flood_that_goes_on_gets_a_hundred_answers_in_each_second() {
    let mut relay = Relay::new();
    let bare = written(kind::ALLOCATE, [1; 12], &[Part::udp()]);
    let mut answers = 0;
    for n in 0..20_000_u32 {
        answers += relay.datagram(([192, 0, 2, 5], (n % 60_000) as u16 + 1).into(), &bare).len();
        if n % 2 == 1 {
            relay.pass(1);
        }
    }
    // Ten seconds that begin anywhere touch eleven on the clock.
    assert!((1_000..=1_100).contains(&answers), "{answers} in 10 s");
}

/// R28: somebody floods in the name of a client that is in a call.
#[test]
fn a_client_that_has_its_proof_is_served_while_its_address_is_flooded() {
    let mut relay = Relay::new();
    let (mut one, _) = channel_pair(&mut relay);
    let bare = written(kind::ALLOCATE, [1; 12], &[Part::udp()]);
    for port in 1..2_000 {
        relay.datagram(([198, 51, 100, 7], port).into(), &bare);
    }
    assert!(relay.datagram(one.at, &bare).is_empty(), "its hundred answers are used up");
    assert_eq!(one.refresh(&mut relay, 600), Some(0));
    assert_eq!(one.bind(&mut relay, 0x4002, LEG1), Some(0));
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
}

/// R29
#[test]
fn a_binding_is_answered_with_the_address_that_it_came_from_and_nothing_else() {
    let mut relay = Relay::new();
    for (at, size) in [(A, 32), ("[2001:db8:7::1]:4000", 44)] {
        for parts in [vec![], vec![Part::Fingerprint], vec![Part::Raw(attr::SOFTWARE, b"a browser".to_vec())]] {
            let sent = relay.datagram(addr(at), &written(kind::BINDING, [0xb1; 12], &parts));
            let mapped = [Part::Addr(attr::MAPPED, addr(at))];
            let bytes = model::encode(kind::BINDING | kind::SUCCESS, [0xb1; 12], &mapped);
            assert_eq!(bytes.len(), size);
            assert_eq!(sent, [Sent { to: addr(at), bytes }]);
        }
    }
}

/// R30
#[test]
fn nothing_can_ask_for_an_answer_elsewhere_or_a_longer_one() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    let asks = [
        Part::Raw(attr::CHANGE_REQUEST, vec![0, 0, 0, 6]),
        Part::Raw(attr::RESPONSE_PORT, vec![0x1f, 0x90, 0, 0]),
        Part::Raw(attr::PADDING, vec![0; 1_000]),
        Part::Addr(0x0002, addr("192.0.2.66:80")),
        Part::Addr(0x0004, addr("192.0.2.66:80")),
    ];
    for ask in asks {
        let binding = written(kind::BINDING, [1; 12], std::slice::from_ref(&ask));
        for from in [A, STRANGER] {
            assert!(relay.datagram(addr(from), &binding).is_empty(), "{ask:?}");
        }
        // With proof it is an attribute unheard of. The harness sees to it that the answer goes where it came from.
        assert_eq!(one.code(&mut relay, kind::REFRESH, std::slice::from_ref(&ask)), Some(420), "{ask:?}");
    }
}

/// R31: every class and every method that can be written, from a stranger and from an attached leg.
#[test]
fn only_the_five_requests_are_ever_answered() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    for method in 0..0x1000_u16 {
        for class in [0x0000, 0x0010, 0x0100, 0x0110] {
            let kind = (method & 0xf) | ((method & 0x70) << 1) | ((method & 0xf80) << 2) | class;
            let served = kind::PROVING.contains(&kind) || kind == kind::BINDING;
            for from in [addr(STRANGER), one.at] {
                relay.pass(40);
                let sent = relay.datagram(from, &written(kind, [2; 12], &[]));
                assert_eq!(sent.len(), usize::from(served), "{kind:#06x}");
            }
        }
    }
    assert!(relay.datagram(two.at, &written(kind::DATA, [2; 12], &[Part::peer(LEG1), Part::data(b"x")])).is_empty());
}

/// R31: whatever we say, somebody may say to us.
#[test]
fn our_own_answers_and_packets_are_answered_with_nothing_and_forwarded_to_no_one() {
    let mut relay = Relay::new();
    let (mut one, two) = channel_pair(&mut relay);
    let mut said = Vec::new();
    for (_, request) in unproven(&one) {
        relay.pass(20);
        said.extend(relay.datagram(one.at, &request));
    }
    let requests = [
        (kind::ALLOCATE, vec![Part::udp()]),
        (kind::ALLOCATE, vec![Part::udp(), Part::Raw(attr::DONT_FRAGMENT, vec![])]),
        (kind::ALLOCATE, vec![Part::Raw(attr::TRANSPORT, vec![6, 0, 0, 0])]),
        (kind::REFRESH, vec![]),
        (kind::PERMIT, vec![Part::peer(LEG2)]),
        (kind::PERMIT, vec![Part::peer("127.0.0.1:1")]),
        (kind::BIND, vec![Part::channel(0x4001), Part::peer(LEG2)]),
        (kind::BIND, vec![]),
    ];
    for fingerprint in [false, true] {
        one.fingerprint = fingerprint;
        said.extend(requests.iter().map(|(kind, parts)| {
            let reply = one.ask(&mut relay, *kind, parts).unwrap();
            Sent { to: one.at, bytes: reply.bytes }
        }));
    }
    said.extend(two.indicate(&mut relay, LEG1, b"abc").into_iter().filter(|sent| !sent.is_answer()));
    let mut third = one.on_socket("198.51.100.7:41000");
    third.attach(&mut relay);
    let indication = two.indicate(&mut relay, "203.0.113.2:1025", b"abc");
    assert!(model::is_stun(&indication[0].bytes), "it has no channel: a Data indication");
    said.extend(indication);
    assert!(said.len() > 90);
    for sent in said {
        for from in [A, B, STRANGER, "[2001:db8::9]:1"] {
            let again = relay.datagram(addr(from), &sent.bytes);
            if model::is_stun(&sent.bytes) {
                assert!(again.is_empty(), "{:#06x}", model::type_of(&sent.bytes));
            } else {
                assert!(again.len() <= 1 && again.iter().all(|sent| !sent.is_answer()), "media stays media");
            }
        }
    }
}

/// R35
#[test]
fn every_answer_is_byte_for_byte_what_a_second_encoder_writes() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    for (n, at, fingerprint) in [(1, A, false), (1, "[2001:db8:7::1]:4000", true), (2, B, true)] {
        let mut client = Client { fingerprint, ..Client::new(&relay, call, n, at) };
        client.learn_nonce(&mut relay);
        let mut expect = |client: &mut Client, kind: u16, asked: &[Part], class: u16, said: &[Part]| {
            let request = client.signed(kind, asked);
            let mut parts = [said, &[Part::Integrity(client.key)]].concat();
            parts.extend(fingerprint.then_some(Part::Fingerprint));
            let bytes = model::encode(kind | class, client.transaction(), &parts);
            assert_eq!(relay.datagram(client.at, &request), [Sent { to: client.at, bytes }], "{asked:?}");
        };
        let unheard = |kinds: &[u16]| {
            let bytes = kinds.iter().flat_map(|kind| kind.to_be_bytes()).collect();
            [Part::error(420), Part::Raw(attr::UNKNOWN, bytes)]
        };
        let client = &mut client;
        expect(client, kind::REFRESH, &[], kind::ERROR, &[Part::error(437)]);
        let relayed = format!("203.0.113.{}:{}", if at.starts_with('[') { 2 } else { 1 }, 1024 + n);
        let allocated =
            [Part::Addr(attr::RELAYED, addr(&relayed)), Part::lifetime(600), Part::Addr(attr::MAPPED, client.at)];
        expect(client, kind::ALLOCATE, &[Part::udp()], kind::SUCCESS, &allocated);
        expect(client, kind::REFRESH, &[Part::lifetime(777)], kind::SUCCESS, &[Part::lifetime(777)]);
        expect(client, kind::PERMIT, &[Part::peer(LEG2)], kind::SUCCESS, &[]);
        expect(client, kind::BIND, &[Part::channel(0x4001), Part::peer(LEG2)], kind::SUCCESS, &[]);
        expect(client, kind::BIND, &[Part::channel(0x4001), Part::peer(LEG1)], kind::ERROR, &[Part::error(400)]);
        expect(client, kind::PERMIT, &[Part::peer("10.0.0.1:1")], kind::ERROR, &[Part::error(403)]);
        expect(client, kind::PERMIT, &[], kind::ERROR, &[Part::error(400)]);
        let dont_fragment = Part::Raw(attr::DONT_FRAGMENT, vec![]);
        expect(client, kind::ALLOCATE, &[Part::udp(), dont_fragment], kind::ERROR, &unheard(&[0x001a]));
        for many in 1..=7_u16 {
            let kinds: Vec<u16> = (0..many).map(|n| 0x7100 + n).collect();
            let asked: Vec<Part> = kinds.iter().map(|kind| Part::Raw(*kind, vec![0xee; 3])).collect();
            expect(client, kind::REFRESH, &asked, kind::ERROR, &unheard(&kinds));
        }
    }
}

/// R35: payloads of every length that wants padding, by every way out.
#[test]
fn no_byte_of_another_packet_leaves_in_the_padding() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let mut third = one.on_socket("198.51.100.7:41000");
    let third_addr = third.attach(&mut relay);
    let mut canaries = 0;
    for len in 0..40 {
        let payload: Vec<u8> = (0..len).map(|n| n as u8 | 1).collect();
        // The harness compares every byte of padding with zero; the buffer was full of 0xaa.
        assert_eq!(one.send(&mut relay, 0x4001, &payload), on_channel(B, 0x4001, &payload));
        assert_eq!(one.indicate(&mut relay, LEG2, &payload), on_channel(B, 0x4001, &payload));
        assert_indication(&two.indicate(&mut relay, &third_addr, &payload), "198.51.100.7:41000", LEG2, &payload);
        // A sender's own padding is dropped, whatever stands in it.
        let padded = [model::channel_data(0x4001, &payload), vec![0xcc; 4 - len % 4]].concat();
        assert_eq!(relay.datagram(one.at, &padded), on_channel(B, 0x4001, &payload));
        canaries += 1;
    }
    assert_eq!(canaries, 40);
}
