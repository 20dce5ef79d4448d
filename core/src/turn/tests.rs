//! The gate from outside: what a source gets that has proved nothing, and what a proven request may ask.

use proptest::prelude::*;
use tandem_wire::id::{BucketId, CallId, LegId, VirtualAddr};
use tandem_wire::nonce::NONCE_LEN;
use tandem_wire::ticket::{TicketKey, long_term_key};
use tandem_wire::units::{Mono, Span, Wall};

use super::*;
use crate::limits;

const POP: PopId = PopId(1);
const TRANSACTION: TransactionId = [7; 12];
const NOW: Wall = Wall::from_secs(1_795_000_000);

fn secret(byte: u8) -> Secret {
    Secret::new(vec![byte; 32])
}

fn gate() -> Gate {
    Gate::new(POP, "tndm", &secret(1), [(0, &secret(2)), (3, &secret(3))], 9).unwrap()
}

fn at(secs: u64) -> Now {
    Now { mono: Mono::default().after(Span::from_secs(secs)), wall: NOW.after(Span::from_secs(secs)) }
}

fn client(n: u16) -> ClientAddr {
    ClientAddr::new(([192, 0, 2, 1], n).into())
}

/// Who signs, with what.
struct Signer {
    username: String,
    key: LongTermKey,
}

fn signer_of(kid: u8, key_secret: u8, expiry: Wall) -> Signer {
    let key = TicketKey::new(kid, &secret(key_secret)).unwrap();
    let username = key.mint(CallId::new(POP, BucketId(5), 77), LegId::new(2).unwrap(), expiry);
    let password = key.credential(&username);
    let key = long_term_key(username.as_bytes(), b"tndm", password.as_bytes());
    Signer { username, key }
}

fn signer() -> Signer {
    signer_of(0, 2, NOW.after(Span::from_secs(600)))
}

type Build = fn(Writer<'_>) -> Writer<'_>;

fn bare(method: Method, build: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
    let mut buffer = [0; 512];
    let len = build(Writer::new(&mut buffer, Class::Request, method, TRANSACTION)).finish().unwrap();
    buffer[..len].to_vec()
}

/// A request of `signer` with a nonce of `nonce_of`, minted at `minted`.
fn signed(
    method: Method,
    signer: &Signer,
    nonce_of: ClientAddr,
    minted: Now,
    build: impl FnOnce(Writer<'_>) -> Writer<'_>,
) -> Vec<u8> {
    let nonce = NonceKey::new(&secret(1)).unwrap().mint(nonce_of, minted.wall);
    bare(method, |writer| {
        build(writer)
            .attribute(attr::USERNAME, signer.username.as_bytes())
            .attribute(attr::REALM, b"tndm")
            .attribute(attr::NONCE, &nonce)
            .integrity(&signer.key)
    })
}

fn decide(gate: &mut Gate, now: Now, from: ClientAddr, datagram: &[u8]) -> (Decision, Vec<u8>) {
    let mut out = [0xaa; limits::ANSWER_LEN_MAX];
    let decision = gate.decide(now, from, datagram, &mut out);
    let len = if let Decision::Answer(len) = decision { len } else { 0 };
    (decision, out[..len].to_vec())
}

fn code(answer: &[u8]) -> u16 {
    assert_eq!(answer[20..24], [0, 9, 0, 4], "ERROR-CODE first, and no reason text");
    u16::from(answer[26]) * 100 + u16::from(answer[27])
}

fn ask(method: Method, build: Build) -> Result<Ask, u16> {
    let datagram = signed(method, &signer(), client(1), at(0), build);
    match decide(&mut gate(), at(0), client(1), &datagram).0 {
        Decision::Proven(proven) => proven.ask.map_err(|problem| problem.code),
        other => panic!("{other:?}"),
    }
}

const PROVING: [Method; 4] = [Method::Allocate, Method::Refresh, Method::CreatePermission, Method::ChannelBind];

/// R28, R29: exactly these sizes, byte by byte what a second encoder makes of the same.
#[test]
fn every_answer_without_proof_has_its_exact_size() {
    let mut gate = gate();
    let v6 = ClientAddr::new("[2001:db8::7]:99".parse().unwrap());
    for (from, size) in [(client(1), 32), (v6, 44)] {
        assert_eq!(decide(&mut gate, at(0), from, &bare(Method::Binding, |w| w)).1.len(), size);
    }
    for method in PROVING {
        let (_, answer) = decide(&mut gate, at(0), client(1), &bare(method, |w| w));
        let nonce = NonceKey::new(&secret(1)).unwrap().mint(client(1), NOW);
        let kind = [&[0x01, (method.bits() as u8) | 0x10][..], &[0, 44], &MAGIC, &TRANSACTION].concat();
        let error = [0, 9, 0, 4, 0, 0, 4, 1];
        let realm = [&[0, 0x14, 0, 4][..], b"tndm"].concat();
        let nonce = [&[0, 0x15, 0, NONCE_LEN as u8][..], &nonce].concat();
        assert_eq!(answer, [kind, error.to_vec(), realm, nonce].concat());
        assert_eq!(answer.len(), 64);
        let stale = signed(method, &signer(), client(2), at(0), |w| w);
        let (_, answer) = decide(&mut gate, at(0), client(1), &stale);
        assert_eq!((answer.len(), code(&answer)), (64, 438));
        let sha256 = bare(method, |w| w.attribute(attr::MESSAGE_INTEGRITY_SHA256, &[1; 32]));
        let (_, answer) = decide(&mut gate, at(0), client(1), &sha256);
        assert_eq!((answer.len(), code(&answer)), (36, 420));
    }
}
const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// R28: by address, not by port; a whole /64 is one source.
#[test]
fn a_source_gets_a_hundred_answers_a_second_whatever_ports_it_uses() {
    let mut gate = gate();
    let request = bare(Method::Allocate, |w| w);
    let mut answered =
        |now: Now, from: ClientAddr| matches!(decide(&mut gate, now, from, &request).0, Decision::Answer(_));
    assert_eq!((0..500).filter(|n| answered(at(0), client(*n))).count(), 100);
    let v6 = |n: u16| ClientAddr::new((core::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, n, 5, 6, 7), n).into());
    assert_eq!((0..500).filter(|n| answered(at(0), v6(*n))).count(), 100);
    assert_eq!((0..500).filter(|n| answered(at(1), client(*n))).count(), 100, "and a hundred more in the next");
    assert!(!answered(at(1), client(1)));
    let others = (0..200_u8).filter(|n| answered(at(1), ClientAddr::new(([198, 51, 100, *n], 1).into()))).count();
    assert!(others >= 198, "others are not slowed, but for two that may share a counter: {others}");
}

/// R19: a million sources, each a good-looking request, half of them with an integrity made up. The gate's memory is one
/// table that was there before.
#[test]
fn a_million_requests_without_proof_leave_nothing_behind() {
    let mut gate = gate();
    let plain = bare(Method::Allocate, |w| w.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
    let made_up = bare(Method::Allocate, |w| {
        w.attribute(attr::USERNAME, signer().username.as_bytes())
            .attribute(attr::REALM, b"tndm")
            .attribute(attr::NONCE, &[b'A'; NONCE_LEN])
            .attribute(attr::MESSAGE_INTEGRITY, &[0x5a; 20])
    });
    let before = size_of_val(gate.limiter_table());
    for n in 0..1_000_000_u32 {
        let from = ClientAddr::new((n.wrapping_mul(0x9e37_79b9).to_be_bytes(), 4000).into());
        let request = if n % 2 == 0 { &plain } else { &made_up };
        let (decision, _) = decide(&mut gate, at(u64::from(n) / 50_000), from, request);
        assert!(!matches!(decision, Decision::Proven(_)));
    }
    assert_eq!(gate.counters.proven, 0);
    assert_eq!(size_of_val(gate.limiter_table()), before);
}

/// R15, R17, R25 and the ways of having no proof.
#[test]
fn whatever_is_no_proof_is_challenged() {
    let mut gate = gate();
    let signer = signer();
    let mut challenged = |datagram: &[u8]| code(&decide(&mut gate, at(0), client(1), datagram).1);
    for len in [0, 1, 19, 21] {
        let datagram = bare(Method::Allocate, |w| {
            w.attribute(attr::USERNAME, signer.username.as_bytes())
                .attribute(attr::REALM, b"tndm")
                .attribute(attr::NONCE, &NonceKey::new(&secret(1)).unwrap().mint(client(1), NOW))
                .attribute(attr::MESSAGE_INTEGRITY, &vec![0; len])
        });
        assert_eq!(challenged(&datagram), 401, "{len}");
    }
    for missing in [attr::USERNAME, attr::REALM, attr::NONCE] {
        let nonce = NonceKey::new(&secret(1)).unwrap().mint(client(1), NOW);
        let parts = [(attr::USERNAME, signer.username.as_bytes()), (attr::REALM, b"tndm"), (attr::NONCE, &nonce[..])];
        let datagram = bare(Method::Refresh, |mut w| {
            for (kind, value) in parts.iter().filter(|(kind, _)| *kind != missing) {
                w = w.attribute(*kind, value);
            }
            w.integrity(&signer.key)
        });
        assert_eq!(challenged(&datagram), 401, "{missing:#x}");
    }
    let wrong_key = Signer { username: signer.username.clone(), key: [9; 16] };
    assert_eq!(challenged(&signed(Method::Allocate, &wrong_key, client(1), at(0), |w| w)), 401);
    let unknown_kid = signer_of(5, 2, NOW.after(Span::from_secs(600)));
    assert_eq!(challenged(&signed(Method::Allocate, &unknown_kid, client(1), at(0), |w| w)), 401);
    let forged = Signer { username: signer.username.replace("0005", "0006"), key: signer.key };
    assert_eq!(challenged(&signed(Method::Allocate, &forged, client(1), at(0), |w| w)), 401, "another bucket");
}

/// R26: expired, and living longer than any ticket does; neither ends what runs.
#[test]
fn an_expired_ticket_opens_nothing_new_and_ends_nothing_that_runs() {
    for (expiry, opens) in [
        (NOW, false),
        (NOW.after(Span::from_secs(1)), true),
        (NOW.after(Span::from_secs(25 * 3_600)), true),
        (NOW.after(Span::from_secs(25 * 3_600 + 1)), false),
    ] {
        let signer = signer_of(3, 3, expiry);
        let proven = |method: Method| {
            let datagram = signed(method, &signer, client(1), at(0), |w| w);
            matches!(decide(&mut gate(), at(0), client(1), &datagram).0, Decision::Proven(_))
        };
        assert_eq!(proven(Method::Allocate), opens, "{expiry:?}");
        for method in [Method::Refresh, Method::CreatePermission, Method::ChannelBind] {
            assert!(proven(method), "{expiry:?} {method:?}");
        }
    }
}

/// R26: two keys live at once; both let in, and both say which leg it is.
#[test]
fn tickets_of_every_live_key_are_good() {
    for (kid, key_secret) in [(0, 2), (3, 3)] {
        let signer = signer_of(kid, key_secret, NOW.after(Span::from_secs(600)));
        let datagram = signed(Method::Refresh, &signer, client(1), at(0), |w| w);
        let Decision::Proven(proven) = decide(&mut gate(), at(0), client(1), &datagram).0 else { panic!() };
        assert_eq!((proven.ticket.call, proven.ticket.leg.get()), (CallId::new(POP, BucketId(5), 77), 2));
    }
}

/// A nonce is good for a day, for its own address and port, on every relay of the PoP.
#[test]
fn a_nonce_is_good_for_a_day_at_its_own_address() {
    let code_at = |now: Now, from: ClientAddr, minted: Now| {
        let datagram = signed(Method::Refresh, &signer(), client(1), minted, |w| w);
        match decide(&mut gate(), now, from, &datagram) {
            (Decision::Proven(_), _) => 0,
            (_, answer) => code(&answer),
        }
    };
    assert_eq!(code_at(at(24 * 3_600), client(1), at(0)), 0);
    assert_eq!(code_at(at(24 * 3_600 + 1), client(1), at(0)), 438);
    assert_eq!(code_at(at(0), client(2), at(0)), 438, "another port");
    assert_eq!(code_at(at(0), client(1), at(3_601)), 438, "from the future");
}

/// R30: what would have us answer elsewhere, or more.
#[test]
fn a_binding_with_what_we_do_not_understand_gets_silence() {
    for kind in [0x0003, 0x0026, 0x0027, 0x0024, 0x7777] {
        let datagram = bare(Method::Binding, |w| w.attribute(kind, &[0; 4]));
        assert_eq!(
            decide(&mut gate(), at(0), client(1), &datagram).0,
            Decision::Silence(Silence::NotServed),
            "{kind:#x}"
        );
    }
    let optional = bare(Method::Binding, |w| w.attribute(0x8022, b"some client").fingerprint());
    assert_eq!(decide(&mut gate(), at(0), client(1), &optional).1.len(), 32);
}

/// R31: our own answers, and every class and method there is.
#[test]
fn nothing_but_the_five_requests_is_ever_answered() {
    let mut gate = gate();
    let mut answers = vec![decide(&mut gate, at(0), client(1), &bare(Method::Binding, |w| w)).1];
    answers.push(decide(&mut gate, at(0), client(1), &bare(Method::Allocate, |w| w)).1);
    for answer in answers {
        assert_eq!(decide(&mut gate, at(0), client(1), &answer).0, Decision::Silence(Silence::NotServed));
    }
    for bits in 0..0x1000 {
        let method = Method::from_bits(bits);
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            let mut datagram = [0; 20];
            Writer::new(&mut datagram, class, method, TRANSACTION).finish().unwrap();
            let served = class == Class::Request && (PROVING.contains(&method) || method == Method::Binding);
            let decision = decide(&mut gate, at(u64::from(bits)), client(bits), &datagram).0;
            assert_eq!(matches!(decision, Decision::Answer(_)), served, "{class:?} {bits:#x} {decision:?}");
        }
    }
}

#[test]
fn an_allocate_asks_for_udp_over_ipv4_and_nothing_reserved() {
    const UDP: [u8; 4] = [17, 0, 0, 0];
    let granted = |secs| Ok(Ask::Allocate { lifetime: Span::from_secs(secs) });
    let cases: [(Build, Result<Ask, u16>); 14] = [
        (|w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP), granted(600)),
        (
            |w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::LIFETIME, &60_u32.to_be_bytes()),
            granted(600),
        ),
        (
            |w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::LIFETIME, &0_u32.to_be_bytes()),
            granted(600),
        ),
        (
            |w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::LIFETIME, &777_u32.to_be_bytes()),
            granted(777),
        ),
        (|w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::LIFETIME, &[0xff; 4]), granted(3_600)),
        (|w| w, Err(400)),
        (|w| w.attribute(attr::REQUESTED_TRANSPORT, &[6, 0, 0, 0]), Err(442)),
        (
            |w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]),
            granted(600),
        ),
        (
            |w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]),
            Err(440),
        ),
        (|w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::EVEN_PORT, &[0x00]), granted(600)),
        (|w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::EVEN_PORT, &[0x80]), Err(508)),
        (|w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::RESERVATION_TOKEN, &[0; 8]), Err(508)),
        (|w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::DONT_FRAGMENT, &[]), Err(420)),
        (
            |w| w.attribute(attr::REQUESTED_TRANSPORT, &UDP).attribute(attr::MESSAGE_INTEGRITY_SHA256, &[0; 32]),
            Err(420),
        ),
    ];
    for (number, (build, expected)) in cases.into_iter().enumerate() {
        assert_eq!(ask(Method::Allocate, build), expected, "case {number}");
    }
}

#[test]
fn a_refresh_of_zero_ends_and_every_other_is_granted_between_ten_minutes_and_an_hour() {
    let refresh = |secs| Ok(Ask::Refresh { lifetime: Span::from_secs(secs) });
    assert_eq!(ask(Method::Refresh, |w| w), refresh(600));
    assert_eq!(ask(Method::Refresh, |w| w.attribute(attr::LIFETIME, &[0; 4])), refresh(0));
    assert_eq!(ask(Method::Refresh, |w| w.attribute(attr::LIFETIME, &1_u32.to_be_bytes())), refresh(600));
    assert_eq!(ask(Method::Refresh, |w| w.attribute(attr::LIFETIME, &[0xff; 4])), refresh(3_600));
    assert_eq!(ask(Method::Refresh, |w| w.attribute(attr::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])), Err(443));
}

/// R41, and channels in general.
#[test]
fn a_channel_needs_a_number_in_range_and_a_peer_inside_the_prefix() {
    let cases: [(Build, Result<(), u16>); 8] = [
        (|w| channel(w, 0x4000, "203.0.113.1:1026"), Ok(())),
        (|w| channel(w, 0x7fff, "203.0.113.254:65535"), Ok(())),
        (|w| channel(w, 0x3fff, "203.0.113.1:1026"), Err(400)),
        (|w| channel(w, 0x8000, "203.0.113.1:1026"), Err(400)),
        (|w| channel(w, 0x4000, "203.0.112.255:1026"), Err(403)),
        (|w| channel(w, 0x4000, "[::ffff:203.0.113.1]:1026"), Err(403)),
        (|w| w.attribute(attr::CHANNEL_NUMBER, &[0x40, 0, 0, 0]), Err(400)),
        (|w| w.address(attr::XOR_PEER_ADDRESS, "203.0.113.1:1026".parse().unwrap()), Err(400)),
    ];
    for (number, (build, expected)) in cases.into_iter().enumerate() {
        assert_eq!(ask(Method::ChannelBind, build).map(|_| ()), expected, "case {number}");
    }
}

fn channel<'a>(writer: Writer<'a>, number: u16, peer: &str) -> Writer<'a> {
    writer
        .attribute(attr::CHANNEL_NUMBER, &[number.to_be_bytes(), [0, 0]].concat())
        .address(attr::XOR_PEER_ADDRESS, peer.parse().unwrap())
}

/// All peers of a CreatePermission count, not only the first (attack R16).
#[test]
fn one_peer_outside_the_prefix_refuses_a_whole_permission() {
    assert_eq!(ask(Method::CreatePermission, |w| w), Err(400));
    let with = |peers: &'static [&str]| -> Result<Ask, u16> {
        let datagram = signed(Method::CreatePermission, &signer(), client(1), at(0), |mut w| {
            for peer in peers {
                w = w.address(attr::XOR_PEER_ADDRESS, peer.parse().unwrap());
            }
            w
        });
        let Decision::Proven(proven) = decide(&mut gate(), at(0), client(1), &datagram).0 else { panic!() };
        proven.ask.map_err(|problem| problem.code)
    };
    assert_eq!(with(&["203.0.113.1:1026", "203.0.113.9:80"]), Ok(Ask::CreatePermission));
    assert_eq!(with(&["203.0.113.1:1026", "127.0.0.1:80"]), Err(403));
    assert_eq!(with(&["127.0.0.1:80", "203.0.113.1:1026"]), Err(403));
}

/// R03 to R08: first, last and their neighbours of every special range, in IPv4 and hidden in IPv6: one rule decides them
/// all, which is that they are not 203.0.113.0/24.
#[test]
fn no_special_address_is_a_peer_in_any_form() {
    let ranges: [(u32, u32); 16] = [
        (0x0000_0000, 8),
        (0x0a00_0000, 8),
        (0x6440_0000, 10),
        (0x7f00_0000, 8),
        (0xa9fe_0000, 16),
        (0xac10_0000, 12),
        (0xc000_0000, 24),
        (0xc000_0200, 24),
        (0xc058_6300, 24),
        (0xc0a8_0000, 16),
        (0xc612_0000, 15),
        (0xc633_6400, 24),
        (0xe000_0000, 4),
        (0xf000_0000, 4),
        (0xffff_ffff, 32),
        (0xcb00_7000, 24),
    ];
    let mut looked_at = 0;
    for (first, prefix) in ranges {
        let last = first | u32::MAX.checked_shr(prefix).unwrap_or(0);
        for bits in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
            let v4 = core::net::Ipv4Addr::from_bits(bits);
            let v6 = |head: u128, shift: u32| core::net::Ipv6Addr::from_bits(head | u128::from(bits) << shift);
            let forms = [
                v6(0xffff_0000_0000, 0),
                v6(0, 0),
                v6(0x2002 << 112, 80),
                v6(0x0064_ff9b << 96, 0),
                v6(0x0064_ff9b_0001 << 80, 0),
                v6(0x2001_0000 << 96, 0),
                v6(0xfe80 << 112, 0),
                v6(0xfc00 << 112, 0),
            ];
            for form in forms {
                assert_eq!(VirtualAddr::from_peer((form, 1026).into()), None, "{form}");
            }
            let inside = v4.octets()[..3] == [203, 0, 113];
            assert_eq!(VirtualAddr::from_peer((v4, 1026).into()).is_some(), inside, "{v4}");
            looked_at += 9;
        }
    }
    assert_eq!(looked_at, 16 * 4 * 9);
}

#[test]
fn a_config_that_cannot_stand_makes_no_gate() {
    let new = |realm: &str, pop_secret: &Secret, keys: Vec<(u8, Secret)>| {
        Gate::new(POP, realm, pop_secret, keys.iter().map(|(kid, key)| (*kid, key)), 1).map(|_| ()).unwrap_err()
    };
    let good = || vec![(0, secret(2))];
    for realm in ["", "five5", "äöü"] {
        assert_eq!(new(realm, &secret(1), good()), GateError::Realm);
    }
    assert_eq!(new("tndm", &Secret::new(vec![1; 31]), good()), GateError::Secret);
    assert_eq!(new("tndm", &secret(1), vec![]), GateError::Key(KeyError::None));
}

/// X05.
#[test]
fn counters_that_reach_their_end_go_on() {
    let mut gate = gate();
    gate.counters.bindings = Total::at(u64::MAX - 8);
    for n in 0..20 {
        decide(&mut gate, at(n), client(1), &bare(Method::Binding, |w| w));
    }
    assert_eq!(gate.counters.bindings, 11);
}

/// Clients put their credentials before or behind what they ask for, and add what we may pass over.
#[test]
fn a_request_is_proven_in_whatever_order_it_is_written() {
    let signer = signer();
    let nonce = NonceKey::new(&secret(1)).unwrap().mint(client(1), NOW);
    let part = |kind: u16, value: &'static [u8]| (kind, value.to_vec());
    let udp = part(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let (realm, software) = (part(attr::REALM, b"tndm"), part(0x8022, b"some client 1.0"));
    let (name, nonce) = ((attr::USERNAME, signer.username.clone().into_bytes()), (attr::NONCE, nonce.to_vec()));
    let orders = [
        vec![&udp, &name, &realm, &nonce],
        vec![&name, &realm, &nonce, &udp],
        vec![&nonce, &realm, &name, &udp],
        vec![&software, &udp, &realm, &name, &nonce],
        vec![&name, &udp, &realm, &software, &nonce],
    ];
    for (order, fingerprint) in orders.iter().flat_map(|order| [(order, false), (order, true)]) {
        let datagram = bare(Method::Allocate, |mut w| {
            for (kind, value) in order {
                w = w.attribute(*kind, value);
            }
            let w = w.integrity(&signer.key);
            if fingerprint { w.fingerprint() } else { w }
        });
        let Decision::Proven(proven) = decide(&mut gate(), at(0), client(1), &datagram).0 else { panic!("{order:?}") };
        assert_eq!(proven.ask, Ok(Ask::Allocate { lifetime: Span::from_secs(600) }));
    }
}

/// R15, R16: what is used is the first of its kind, and stands in front of the integrity.
#[test]
fn the_first_attribute_of_a_kind_counts_and_none_behind_the_integrity() {
    let twice = |first: u32, second: u32| {
        signed(Method::Refresh, &signer(), client(1), at(0), |w| {
            w.attribute(attr::LIFETIME, &first.to_be_bytes()).attribute(attr::LIFETIME, &second.to_be_bytes())
        })
    };
    let asked = |datagram: &[u8]| match decide(&mut gate(), at(0), client(1), datagram).0 {
        Decision::Proven(proven) => proven.ask,
        other => panic!("{other:?}"),
    };
    let refresh = |secs| Ok(Ask::Refresh { lifetime: Span::from_secs(secs) });
    assert_eq!(asked(&twice(900, 0)), refresh(900));
    assert_eq!(asked(&twice(0, 900)), refresh(0));
    let mut with_tail = signed(Method::Refresh, &signer(), client(1), at(0), |w| w);
    for tail in [&[0, 0x0d, 0, 4, 0, 0, 0, 0][..], &[0x7a, 0xbc, 0, 1, 9, 0, 0, 0], &[0, 0x14, 0, 0]] {
        with_tail.extend(tail);
        let length = u16::try_from(with_tail.len() - 20).unwrap().to_be_bytes();
        with_tail[2..4].copy_from_slice(&length);
        assert_eq!(asked(&with_tail), refresh(600), "{tail:?}");
    }
}

/// R28: what is answered without proof comes out of one purse, and what is proven costs nothing of it.
#[test]
fn all_unproven_answers_share_one_hundred_and_proven_requests_need_none() {
    let mut gate = gate();
    let shapes = [
        bare(Method::Binding, |w| w),
        bare(Method::Allocate, |w| w),
        signed(Method::Refresh, &signer(), client(2), at(0), |w| w),
        bare(Method::ChannelBind, |w| w.attribute(attr::MESSAGE_INTEGRITY_SHA256, &[1; 32])),
        signed(Method::Allocate, &signer_of(0, 2, NOW), client(1), at(0), |w| w),
    ];
    let answered = shapes.iter().cycle().take(1_000);
    let answered = answered.filter(|shape| matches!(decide(&mut gate, at(0), client(1), shape).0, Decision::Answer(_)));
    assert_eq!(answered.count(), 100);
    let counters = gate.counters;
    let each = [counters.bindings, counters.unauthorized, counters.stale_nonces, counters.sha256].map(Total::get);
    assert_eq!((each, counters.limited.get()), ([20, 40, 20, 20], 900));
    let proven = signed(Method::Refresh, &signer(), client(1), at(0), |w| w);
    for _ in 0..1_000 {
        assert!(matches!(decide(&mut gate, at(0), client(1), &proven).0, Decision::Proven(_)));
    }
    let mapped = ClientAddr::new("[::ffff:192.0.2.1]:9".parse().unwrap());
    assert_eq!(decide(&mut gate, at(0), mapped, &shapes[0]).0, Decision::Silence(Silence::Limited));
}

/// A relay dies; its successor has another seed and the same secrets.
#[test]
fn a_nonce_is_good_on_every_gate_of_the_pop_and_on_no_other() {
    let gate_of =
        |pop_secret: u8, seed: u64| Gate::new(POP, "tndm", &secret(pop_secret), [(0, &secret(2))], seed).unwrap();
    let (_, challenge) = decide(&mut gate_of(1, 5), at(0), client(1), &bare(Method::Allocate, |w| w));
    let nonce = Message::parse(&challenge).unwrap().attributes.nonce.unwrap();
    let signer = signer();
    let request = bare(Method::Refresh, |w| {
        w.attribute(attr::USERNAME, signer.username.as_bytes())
            .attribute(attr::REALM, b"tndm")
            .attribute(attr::NONCE, nonce)
            .integrity(&signer.key)
    });
    for hours in [0, 1, 23] {
        let (decision, _) = decide(&mut gate_of(1, 6), at(hours * 3_600), client(1), &request);
        assert!(matches!(decision, Decision::Proven(_)), "{hours} h later");
    }
    assert_eq!(code(&decide(&mut gate_of(8, 5), at(0), client(1), &request).1), 438, "another PoP's secret");
}

/// Sizes of what is signed: none is longer than its buffer, whatever is in it.
#[test]
fn signed_answers_have_these_sizes() {
    let sizes = |from: ClientAddr, fingerprint: bool| {
        let signer = signer();
        let datagram = bare(Method::Allocate, |w| {
            let w = w
                .attribute(attr::USERNAME, signer.username.as_bytes())
                .attribute(attr::REALM, b"tndm")
                .attribute(attr::NONCE, &NonceKey::new(&secret(1)).unwrap().mint(from, NOW))
                .integrity(&signer.key);
            if fingerprint { w.fingerprint() } else { w }
        });
        let Decision::Proven(proven) = decide(&mut gate(), at(0), from, &datagram).0 else { panic!() };
        let (lifetime, relayed) = (Span::from_secs(600), VirtualAddr { octet: 1, port: 1025 });
        let all = [
            Answer::Allocated { relayed, lifetime },
            Answer::Refreshed { lifetime },
            Answer::Done,
            Answer::Refused(Problem::new(437)),
        ];
        all.map(|answer| proven.answer(from, answer, &mut [0; limits::ANSWER_LEN_MAX]).unwrap())
    };
    let v6 = ClientAddr::new("[2001:db8::7]:99".parse().unwrap());
    assert_eq!(sizes(client(1), false), [76, 52, 44, 52]);
    assert_eq!(sizes(client(1), true), [84, 60, 52, 60]);
    assert_eq!(sizes(v6, true), [96, 60, 52, 60]);
}

/// What is no message of a form that we know is not answered, however good its credentials are.
#[test]
fn a_request_with_an_attribute_of_the_wrong_size_gets_silence() {
    let odd: [(u16, &[u8]); 9] = [
        (attr::LIFETIME, &[0; 3]),
        (attr::LIFETIME, &[0; 8]),
        (attr::CHANNEL_NUMBER, &[0x40]),
        (attr::REQUESTED_TRANSPORT, &[17]),
        (attr::REQUESTED_ADDRESS_FAMILY, &[1]),
        (attr::EVEN_PORT, &[0; 4]),
        (attr::XOR_PEER_ADDRESS, &[0, 1, 0, 0, 1, 2, 3]),
        (attr::XOR_PEER_ADDRESS, &[0, 3, 0, 0, 1, 2, 3, 4]),
        (attr::XOR_PEER_ADDRESS, &[]),
    ];
    for (kind, value) in odd {
        let datagram = signed(Method::Refresh, &signer(), client(1), at(0), |w| w.attribute(kind, value));
        let decision = decide(&mut gate(), at(0), client(1), &datagram).0;
        assert_eq!(decision, Decision::Silence(Silence::NotServed), "{kind:#x} of {} bytes", value.len());
    }
}

fn sum(counters: Counters) -> u64 {
    let Counters { bindings, unauthorized, stale_nonces, sha256, proven, not_served, limited } = counters;
    [bindings, unauthorized, stale_nonces, sha256, proven, not_served, limited].map(Total::get).iter().sum()
}

proptest! {
    #[test]
    fn a_signed_answer_verifies_and_fits(which in 0..4_usize, fingerprint: bool, v6: bool, relayed: (u8, u16), code in 300_u16..700) {
        let method = PROVING[which];
        let nonce = NonceKey::new(&secret(1)).unwrap();
        let from = if v6 { ClientAddr::new("[2001:db8::7]:99".parse().unwrap()) } else { client(1) };
        let signer = signer();
        let datagram = bare(method, |w| {
            let w = w.attribute(attr::USERNAME, signer.username.as_bytes()).attribute(attr::REALM, b"tndm")
                .attribute(attr::NONCE, &nonce.mint(from, NOW)).integrity(&signer.key);
            if fingerprint { w.fingerprint() } else { w }
        });
        let Decision::Proven(proven) = decide(&mut gate(), at(0), from, &datagram).0 else { panic!() };
        let relayed = VirtualAddr { octet: relayed.0, port: relayed.1 };
        let lifetime = Span::from_secs(600);
        for answer in [Answer::Allocated { relayed, lifetime }, Answer::Refreshed { lifetime }, Answer::Done, Answer::Refused(Problem::new(code))] {
            let mut out = [0xaa; limits::ANSWER_LEN_MAX];
            let len = proven.answer(from, answer, &mut out).unwrap();
            let message = Message::parse(&out[..len]).unwrap();
            prop_assert!(message.verify(&signer.key));
            prop_assert_eq!((message.method, message.transaction, message.attributes.fingerprint), (method, TRANSACTION, fingerprint));
        }
    }

    #[test]
    fn no_bytes_panic_the_gate(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
        decide(&mut gate(), at(0), client(1), &datagram);
    }
    /// R17: a signed request that was changed in front of its integrity, or in it, proves nothing.
    #[test]
    fn a_proof_is_for_every_bit_in_front_of_it(which in 0..4_usize, bit in 0..4_096_usize) {
        let datagram = signed(PROVING[which], &signer(), client(1), at(0), |w| {
            w.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]).attribute(attr::LIFETIME, &600_u32.to_be_bytes())
        });
        let mut changed = datagram.clone();
        let bit = bit % (datagram.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        let proven = |datagram: &[u8]| matches!(decide(&mut gate(), at(0), client(1), datagram).0, Decision::Proven(_));
        prop_assert!(proven(&datagram) && !proven(&changed));
    }

    #[test]
    fn a_request_that_is_cut_short_or_has_a_tail_gets_silence(which in 0..4_usize, cut in 1..200_usize, tail in 1..9_usize) {
        let datagram = signed(PROVING[which], &signer(), client(1), at(0), |w| w);
        let longer = [&datagram[..], &vec![0; tail]].concat();
        for odd in [&datagram[..datagram.len().saturating_sub(cut)], &longer] {
            let decision = decide(&mut gate(), at(0), client(1), odd).0;
            prop_assert_eq!(decision, Decision::Silence(Silence::NotServed));
        }
    }

    /// Every request is counted once, as what became of it.
    #[test]
    fn every_datagram_is_counted_once(which in 0..5_usize, shape in 0..5_usize, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let method = [Method::Binding, PROVING[0], PROVING[1], PROVING[2], PROVING[3]][which];
        let datagram = match shape {
            0 => bytes,
            1 => bare(method, |w| w),
            2 => bare(method, |w| w.attribute(0x7000, &bytes)),
            3 => bare(method, |w| w.attribute(attr::MESSAGE_INTEGRITY_SHA256, &bytes)),
            _ => signed(method, &signer(), client(1), at(0), |w| w),
        };
        let mut gate = gate();
        for n in 1..=150 {
            let (decision, answer) = decide(&mut gate, at(0), client(1), &datagram);
            prop_assert_eq!(sum(gate.counters), n);
            prop_assert!(answer.len() <= 64 && matches!(decision, Decision::Answer(_)) != answer.is_empty());
        }
    }
}
