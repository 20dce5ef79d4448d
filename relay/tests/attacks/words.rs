//! X02, X03: what may be printed, and what stands in names.

use tandem_core::switch::{Slot, Source};
use tandem_core::topology::Transport;
use tandem_core::turn::Decision;
use tandem_wire::redact::ClientAddr;
use tandem_wire::ticket::TicketKey;

use crate::common::*;

/// An address that stands for a real one in what is printed.
const CANARY: &str = "198.18.77.201:54321";

/// Everything about a client that may not be printed, in every form that `Debug` could give it.
fn canaries(client: &Client) -> Vec<(&'static str, String)> {
    let listed = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let password = TicketKey::new(0, &secret(2)).unwrap().credential(&client.username);
    vec![
        ("address", "198.18.77.201".to_owned()),
        ("address in numbers", "198, 18, 77, 201".to_owned()),
        ("port", "54321".to_owned()),
        ("ticket", client.username.clone()),
        ("ticket in numbers", listed(client.username.as_bytes())),
        ("password", password.to_string()),
        ("key of the client", listed(&client.key)),
        ("secret", listed(&[2; 32])),
        ("call", client.call.to_string()),
        ("call in numbers", client.call.bits().to_string()),
    ]
}

#[track_caller]
fn assert_says_nothing(what: &str, printed: &str, client: &Client) {
    for (name, canary) in canaries(client) {
        assert!(!printed.contains(&canary), "the {name} stands in what {what} prints");
    }
    assert!(!printed.is_empty());
}

/// X02
#[test]
fn a_relay_prints_no_address_no_ticket_and_no_key() {
    let mut relay = Relay::new();
    let (one, mut two) = channel_pair(&mut relay);
    let mut canary = one.on_socket(CANARY);
    canary.attach(&mut relay);
    assert_eq!(canary.bind(&mut relay, 0x4001, LEG2), Some(0));
    assert_eq!(two.bind(&mut relay, 0x4005, "203.0.113.2:1025"), Some(0));
    canary.send(&mut relay, 0x4001, b"x");
    assert_says_nothing("an engine", &format!("{:?}", relay.engine), &canary);
    assert_says_nothing("an engine, at length,", &format!("{:#?}", relay.engine).replace('\n', " "), &canary);
    for (_, _, attachment) in relay.store.legs() {
        assert_says_nothing("an attachment", &format!("{attachment:?}"), &canary);
    }
}

/// X02: while things wait for the store as well: requests, packets and answers.
#[test]
fn a_relay_with_requests_that_wait_prints_no_key() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    let mut canary = one.on_socket(CANARY);
    relay.store.mood = Mood::Slow;
    assert_eq!(canary.allocate(&mut relay), None);
    assert_says_nothing("an engine whose answers wait", &format!("{:?}", relay.engine), &canary);
    let mut relay = Relay::unrestored(&Make::default());
    relay.store.mood = Mood::Slow;
    let call = relay.create(1, 2);
    let mut canary = Client::new(&relay, call, 1, CANARY);
    assert_eq!(canary.allocate(&mut relay), None);
    canary.send(&mut relay, 0x4001, b"x");
    assert_says_nothing("an engine that restores", &format!("{:?}", relay.engine), &canary);
}

/// X02
#[test]
fn a_proven_request_prints_no_key() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut canary = Client::new(&relay, call, 1, CANARY);
    canary.learn_nonce(&mut relay);
    let request = canary.signed(kind::ALLOCATE, &[Part::udp()]);
    let mut answer = [0; 128];
    let from = ClientAddr::new(canary.at);
    let mut gate = Make::default().gate();
    let decision = gate.decide(relay.now(), from, &request, &mut answer);
    assert!(matches!(decision, Decision::Proven(_)));
    assert_says_nothing("a decision", &format!("{decision:?}"), &canary);
    assert_says_nothing("a gate", &format!("{gate:?}"), &canary);
    assert_says_nothing("a source", &format!("{:?}", Source { client: from, transport: Transport::Udp }), &canary);
}

/// X02
#[test]
fn a_config_and_its_errors_print_no_secret() {
    let canary = Client::new(&Relay::new(), call_id(1), 1, CANARY);
    let config = tandem_relay::Config {
        entrance: tandem_relay::Entrance::Clients(addr("127.0.0.1:0")),
        pop: POP,
        relay: tandem_wire::id::RelayId(1),
        realm: "tndm".to_owned(),
        pop_secret: secret(2),
        ticket_keys: vec![(0, secret(2)), (0, secret(2))],
    };
    let error = config.check().unwrap_err();
    assert_says_nothing("a config", &format!("{config:?} {error:?} {error}"), &canary);
}

/// X03: line ends, escapes, formats, quotes, bytes that are no text, and names as long as an attribute can be.
#[test]
fn names_that_are_meant_for_a_log_or_a_format_get_401_and_no_more() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut client = Client::new(&relay, call, 1, A);
    client.learn_nonce(&mut relay);
    let names: Vec<Vec<u8>> = vec![
        b"%s%n%p%x".to_vec(),
        b"\x1b[2J\x1b]0;owned\x07".to_vec(),
        b"a\r\n\r\nHTTP/1.1 200 OK".to_vec(),
        b"'; DROP TABLE calls; --".to_vec(),
        b"{0}{:?}{{}}".to_vec(),
        vec![0; 44],
        vec![0xff; 44],
        "ｖ10.ｆｆ".as_bytes().to_vec(),
        vec![b'a'; 513],
        vec![b'a'; 60_000],
    ];
    for name in names {
        for wanted in [attr::USERNAME, attr::REALM, attr::NONCE] {
            relay.pass(40);
            let mut parts = client.credentials();
            let place = parts.iter_mut().find(|part| matches!(part, Part::Raw(kind, _) if *kind == wanted)).unwrap();
            *place = Part::Raw(wanted, name.clone());
            parts.push(Part::Integrity([1; 16]));
            let sent = relay.datagram(client.at, &written(kind::ALLOCATE, [5; 12], &parts));
            assert_eq!(sent.iter().map(|sent| sent.bytes.len()).collect::<Vec<_>>(), [64]);
        }
    }
    let mut buffer = vec![0; 64 + 2];
    let mut slot = Slot { buffer: &mut buffer, start: 64, len: 2 };
    let from = Source { client: ClientAddr::new(client.at), transport: Transport::Udp };
    assert!(relay.engine.datagram(relay.now(), from, &mut slot).is_none(), "and a slot with no room is no trouble");
}
