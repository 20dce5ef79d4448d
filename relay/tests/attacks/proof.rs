//! R15, R17, R18, R20, R24, R25, R26: what counts as proof, and what a proof is good for.

use tandem_core::residency::Input;
use tandem_wire::id::{BucketId, CallId, PopId};
use tandem_wire::nonce::NonceKey;
use tandem_wire::redact::ClientAddr;
use tandem_wire::ticket::{TicketKey, long_term_key};
use tandem_wire::units::Span;

use crate::common::*;

const DAY: u64 = 24 * 3_600;

/// A request of `client` whose parts the caller puts together; the client has its nonce already.
fn sign(client: &mut Client, kind: u16, make: impl FnOnce(&Client) -> Vec<Part>) -> Vec<u8> {
    // Counts the transaction on.
    let _ = client.signed(kind, &[]);
    written(kind, client.transaction(), &make(client))
}

fn code(relay: &mut Relay, client: &mut Client, kind: u16, make: impl FnOnce(&Client) -> Vec<Part>) -> Option<u16> {
    let request = sign(client, kind, make);
    client.exchange(relay, &request).map(|reply| reply.code)
}

/// A signed request with more behind its integrity.
fn with_tail(client: &Client, asked: &[Part], tail: &[Part]) -> Vec<Part> {
    [client.signed_parts(asked), tail.to_vec()].concat()
}

/// R15
#[test]
fn a_lifetime_behind_the_integrity_has_no_effect() {
    let mut relay = Relay::new();
    let (mut one, mut two) = pair(&mut relay);
    let tails = [vec![Part::lifetime(3_600)], vec![Part::lifetime(3_600), Part::Fingerprint]];
    for (n, tail) in tails.iter().enumerate() {
        let mut new = one.on_socket(&format!("198.51.100.7:4100{n}"));
        new.learn_nonce(&mut relay);
        let request = sign(&mut new, kind::ALLOCATE, |c| with_tail(c, &[Part::udp()], tail));
        let reply = new.exchange(&mut relay, &request).unwrap();
        assert_eq!((reply.code, reply.lifetime), (0, Some(600)));
    }
    let ends = |c: &Client| with_tail(c, &[], &[Part::lifetime(0)]);
    assert_eq!(code(&mut relay, &mut two, kind::REFRESH, ends), Some(0));
    assert!(relay.is_attached(B), "it was not ended");
    assert_eq!(one.refresh(&mut relay, 0), Some(0), "as it is when it is asked for in front");
    assert!(!relay.is_attached(A));
}

/// R15
#[test]
fn an_address_or_a_channel_behind_the_integrity_has_no_effect() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    let permit = |c: &Client| with_tail(c, &[Part::peer(LEG2)], &[Part::peer("127.0.0.1:80")]);
    assert_eq!(code(&mut relay, &mut one, kind::PERMIT, permit), Some(0));
    let nothing_in_front = |c: &Client| with_tail(c, &[], &[Part::peer(LEG2)]);
    assert_eq!(code(&mut relay, &mut one, kind::PERMIT, nothing_in_front), Some(400));
    let peer_behind = |c: &Client| with_tail(c, &[Part::channel(0x4001)], &[Part::peer(LEG2)]);
    assert_eq!(code(&mut relay, &mut one, kind::BIND, peer_behind), Some(400));
    let number_behind = |c: &Client| with_tail(c, &[Part::peer(LEG2)], &[Part::channel(0x4001)]);
    assert_eq!(code(&mut relay, &mut one, kind::BIND, number_behind), Some(400));
    assert!(relay.stored_channels(&one).is_empty());
    let other_behind = |c: &Client| {
        with_tail(c, &[Part::channel(0x4001), Part::peer(LEG2)], &[Part::channel(0x4002), Part::peer(LEG1)])
    };
    assert_eq!(code(&mut relay, &mut one, kind::BIND, other_behind), Some(0));
    assert_eq!(relay.stored_channels(&one), [0x4001]);
    assert_indication(&one.send(&mut relay, 0x4001, b"x"), B, LEG1, b"x");
}

/// R15
#[test]
fn what_a_request_needs_or_may_not_have_does_not_count_behind_the_integrity() {
    let mut relay = Relay::new();
    let (one, _) = pair(&mut relay);
    let mut new = one.on_socket("198.51.100.7:41000");
    new.learn_nonce(&mut relay);
    let late = |c: &Client| with_tail(c, &[], &[Part::udp()]);
    assert_eq!(code(&mut relay, &mut new, kind::ALLOCATE, late), Some(400), "no REQUESTED-TRANSPORT");
    assert!(!relay.is_attached("198.51.100.7:41000"));
    let late_credentials = |c: &Client| [vec![Part::udp(), Part::Integrity(c.key)], c.credentials()].concat();
    assert_eq!(code(&mut relay, &mut new, kind::ALLOCATE, late_credentials), Some(401));
    let tcp = Part::Raw(attr::TRANSPORT, vec![6, 0, 0, 0]);
    let unheard_of = Part::Raw(0x7abc, vec![1, 2, 3, 4]);
    let harmless =
        |c: &Client| with_tail(c, &[Part::udp()], &[tcp, unheard_of, Part::Raw(attr::DONT_FRAGMENT, vec![])]);
    assert_eq!(code(&mut relay, &mut new, kind::ALLOCATE, harmless), Some(0));
}

/// R15: an indication carries no proof, and one that claims to still has its end there.
#[test]
fn media_behind_an_integrity_is_not_sent() {
    let mut relay = Relay::new();
    let (one, _) = pair(&mut relay);
    let behind = [Part::Integrity(one.key), Part::peer(LEG2), Part::data(b"x")];
    assert!(relay.datagram(one.at, &written(kind::SEND, [1; 12], &behind)).is_empty());
    let data_behind = [Part::peer(LEG2), Part::Integrity(one.key), Part::data(b"x")];
    assert!(relay.datagram(one.at, &written(kind::SEND, [1; 12], &data_behind)).is_empty());
}

/// R16: the credentials that are used are those that were signed for: the first.
#[test]
fn of_two_names_or_nonces_or_integrities_the_first_counts() {
    let mut relay = Relay::new();
    let (mut one, two) = pair(&mut relay);
    let name = |c: &Client| Part::Raw(attr::USERNAME, c.username.clone().into_bytes());
    let other = name(&two);
    let second_name = |c: &Client| c.signed_parts(&[name(c), other.clone()]);
    assert_eq!(code(&mut relay, &mut one, kind::REFRESH, second_name), Some(0));
    let first_name = |c: &Client| c.signed_parts(std::slice::from_ref(&other));
    assert_eq!(code(&mut relay, &mut one, kind::REFRESH, first_name), Some(401), "another's name with our key");
    let stale = |c: &Client| c.signed_parts(&[Part::Raw(attr::NONCE, vec![b'A'; 24])]);
    assert_eq!(code(&mut relay, &mut one, kind::REFRESH, stale), Some(438));
    let made_up = Part::Raw(attr::INTEGRITY, vec![7; 20]);
    let wrong_first = |c: &Client| [c.credentials(), vec![made_up.clone(), Part::Integrity(c.key)]].concat();
    assert_eq!(code(&mut relay, &mut one, kind::REFRESH, wrong_first), Some(401));
    let wrong_second = |c: &Client| with_tail(c, &[], std::slice::from_ref(&made_up));
    assert_eq!(code(&mut relay, &mut one, kind::REFRESH, wrong_second), Some(0));
}

/// A request that would be good, but for what `change` does to the 20 bytes of its integrity.
fn with_tag(client: &Client, kind: u16, change: &dyn Fn(&mut Vec<u8>)) -> Vec<Part> {
    let parts = [vec![Part::udp(), Part::channel(0x4001), Part::peer(LEG2)], client.credentials()].concat();
    let good = written(kind, client.transaction(), &[parts.clone(), vec![Part::Integrity(client.key)]].concat());
    let mut tag = good[good.len() - 20..].to_vec();
    change(&mut tag);
    [parts, vec![Part::Raw(attr::INTEGRITY, tag)]].concat()
}

/// R17: also cut short with the right bytes in front, and one bit off.
#[test]
fn an_integrity_of_another_length_or_value_is_no_proof_for_any_request() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    for kind in kind::PROVING {
        assert_eq!(code(&mut relay, &mut one, kind, |c| with_tag(c, kind, &|_| ())), Some(0), "{kind:#x} unchanged");
        for len in [0, 1, 4, 10, 19, 21, 24, 32, 64] {
            let wrong = |c: &Client| with_tag(c, kind, &|tag| tag.resize(len, 0));
            assert_eq!(code(&mut relay, &mut one, kind, wrong), Some(401), "{kind:#x}: {len} bytes");
        }
        for bit in 0..160 {
            relay.pass(20);
            let wrong = |c: &Client| with_tag(c, kind, &|tag| tag[bit / 8] ^= 1 << (bit % 8));
            assert_eq!(code(&mut relay, &mut one, kind, wrong), Some(401), "{kind:#x}: bit {bit}");
        }
    }
    assert_eq!(one.refresh(&mut relay, 600), Some(0), "and nothing has happened to the allocation");
}

/// R17: every byte in front of the integrity is under it.
#[test]
fn a_signed_request_that_was_changed_anywhere_changes_nothing() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    let request = one.signed(kind::REFRESH, &[Part::lifetime(600)]);
    for at in 0..request.len() {
        relay.pass(20);
        let mut changed = request.clone();
        // The value of LIFETIME becomes zero: were this let through, it would end the allocation.
        changed[24..28].fill(0);
        changed[at] ^= 0x10;
        let sent = relay.datagram(one.at, &changed);
        assert!(sent.iter().all(|sent| sent.bytes.len() == 64 || sent.bytes.len() == 36), "byte {at}");
        assert!(relay.is_attached(A), "byte {at}");
    }
}

/// R18
#[test]
fn a_nonce_is_good_for_its_own_address_and_port_and_for_a_day() {
    let mut relay = Relay::new();
    let (mut one, two) = pair(&mut relay);
    let with_nonce = |relay: &mut Relay, one: &mut Client, nonce: &[u8]| {
        let mut other = Client { nonce: nonce.to_vec(), ..one.clone() };
        let request = other.signed(kind::REFRESH, &[]);
        other.exchange(relay, &request).map(|reply| reply.code)
    };
    assert_eq!(with_nonce(&mut relay, &mut one, &two.nonce), Some(438), "another address");
    let mut neighbour = one.on_socket("198.51.100.7:40009");
    neighbour.learn_nonce(&mut relay);
    assert_eq!(with_nonce(&mut relay, &mut one, &neighbour.nonce), Some(438), "another port");
    let key = NonceKey::new(&secret(1)).unwrap();
    let at = ClientAddr::new(one.at);
    let now = relay.now().wall;
    let later = |secs| key.mint(at, now.after(Span::from_secs(secs)));
    assert_eq!(with_nonce(&mut relay, &mut one, &later(3_600)), Some(0), "a relay's clock may be ahead");
    assert_eq!(with_nonce(&mut relay, &mut one, &later(3_602)), Some(438), "from the future");
    let other_pop = NonceKey::new(&secret(9)).unwrap().mint(at, now);
    assert_eq!(with_nonce(&mut relay, &mut one, &other_pop), Some(438), "another PoP's");
    for odd in [&b""[..], b"A", &[b'A'; 24], &[0xff; 24], &[b'='; 24], &[b'A'; 200]] {
        assert_eq!(with_nonce(&mut relay, &mut one, odd), Some(438));
    }
    let nonce = one.nonce.clone();
    assert_eq!(one.refresh(&mut relay, 3_600), Some(0));
    for _ in 0..23 {
        relay.pass(60 * MINUTE - 1_000);
        assert_eq!(one.refresh(&mut relay, 3_600), Some(0));
        assert_eq!(one.nonce, nonce, "the same one all day");
    }
    relay.pass(60 * MINUTE + 24_000);
    assert_eq!(with_nonce(&mut relay, &mut one, &nonce), Some(438), "a day later");
}

/// R18: no two sources and no two seconds have the same.
#[test]
fn a_million_nonces_and_no_two_alike() {
    let key = NonceKey::new(&secret(1)).unwrap();
    let mut nonces = std::collections::HashSet::new();
    for n in 0..1_000_000_u32 {
        let at = ClientAddr::new(([10, 0, (n >> 18) as u8, (n >> 10) as u8], (n & 1023) as u16 + 1).into());
        nonces.insert(key.mint(at, tandem_wire::units::Wall::from_secs(1_795_521_600)));
    }
    assert_eq!(nonces.len(), 1_000_000);
}

/// R20
#[test]
fn another_legs_ticket_does_nothing_to_an_allocation() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    let call = relay.create(2, 2);
    for mut thief in [Client::new(&relay, one.call, 2, A), Client::new(&relay, call, 1, A)] {
        assert_eq!(thief.refresh(&mut relay, 0), Some(441));
        assert_eq!(thief.refresh(&mut relay, 600), Some(441));
        assert_eq!(thief.permit(&mut relay, LEG1), Some(441));
        assert_eq!(thief.bind(&mut relay, 0x4002, LEG1), Some(441));
    }
    assert!(relay.is_attached(A));
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"), "it goes on as it was");
    assert_eq!(relay.stored_channels(&one), [0x4001]);
}

/// R24
#[test]
fn a_forged_first_packet_does_not_decide_whose_the_allocation_is() {
    let mut relay = Relay::unrestored(&Make::default());
    let (call, other) = (relay.create(1, 2), relay.create(2, 2));
    relay.tell(Input::RestoreBegan);
    relay.tell(Input::Restored);
    let (mut one, mut victim) = (Client::new(&relay, call, 1, A), Client::new(&relay, other, 2, A));
    victim.learn_nonce(&mut relay);
    let loads = relay.store.loads.len();
    for made_up in [vec![Part::Raw(attr::INTEGRITY, vec![3; 20])], vec![Part::Integrity([3; 16])], vec![]] {
        let forged = |c: &Client| [vec![Part::udp()], c.credentials(), made_up].concat();
        assert_eq!(code(&mut relay, &mut victim, kind::ALLOCATE, forged), Some(401));
    }
    assert_eq!(relay.store.loads.len(), loads, "and nobody has asked the store about the other's call");
    assert_eq!(one.attach(&mut relay), LEG1);
    assert_eq!(relay.owner(one.at).map(|owner| owner.call), Some(call));
}

/// R25
#[test]
fn there_is_nothing_to_bid_down() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut one = Client::new(&relay, call, 1, A);
    let bare = written(kind::ALLOCATE, one.transaction(), &[Part::udp()]);
    let challenge = one.exchange(&mut relay, &bare).unwrap();
    let offered: Vec<u16> = model::attributes(&challenge.bytes).iter().map(|a| a.kind).collect();
    assert_eq!(offered, [attr::ERROR_CODE, attr::REALM, attr::NONCE], "no PASSWORD-ALGORITHMS");
    assert!(!challenge.nonce.starts_with(b"obMatJos2"), "and no security bits in the nonce");
    one.nonce = challenge.nonce;
    let sha256 = Part::Raw(attr::INTEGRITY_SHA256, vec![5; 32]);
    let alone = |c: &Client| [vec![Part::udp()], c.credentials(), vec![sha256.clone()]].concat();
    assert_eq!(code(&mut relay, &mut one, kind::ALLOCATE, alone), Some(420));
    let before = |c: &Client| c.signed_parts(&[Part::udp(), sha256.clone()]);
    assert_eq!(code(&mut relay, &mut one, kind::ALLOCATE, before), Some(420));
    let behind = |c: &Client| with_tail(c, &[Part::udp()], std::slice::from_ref(&sha256));
    assert_eq!(code(&mut relay, &mut one, kind::ALLOCATE, behind), Some(420));
    let chosen = Part::Raw(attr::PASSWORD_ALGORITHM, vec![0, 2, 0, 0]);
    let choice = |c: &Client| c.signed_parts(&[Part::udp(), chosen]);
    assert_eq!(code(&mut relay, &mut one, kind::ALLOCATE, choice), Some(420));
    let hashed_name = |c: &Client| {
        let rest = c.credentials().split_off(1);
        [vec![Part::udp(), Part::Raw(attr::USERHASH, vec![1; 32])], rest, vec![Part::Integrity(c.key)]].concat()
    };
    assert_eq!(code(&mut relay, &mut one, kind::ALLOCATE, hashed_name), Some(401));
    assert!(!relay.is_attached(A));
    let offer = Part::Raw(attr::PASSWORD_ALGORITHMS, vec![0, 2, 0, 0, 0, 1, 0, 0]);
    let echoed = |c: &Client| c.signed_parts(&[Part::udp(), offer]);
    assert_eq!(code(&mut relay, &mut one, kind::ALLOCATE, echoed), Some(0), "an optional attribute is passed over");
}

/// R25: 420 names what is not served, for every request, with and without proof.
#[test]
fn message_integrity_sha256_gets_420_that_names_it() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    for kind in kind::PROVING {
        let sha256 = Part::Raw(attr::INTEGRITY_SHA256, vec![5; 32]);
        let bare = written(kind, one.transaction(), std::slice::from_ref(&sha256));
        let signed = one.signed(kind, &[sha256]);
        let unsigned_reply = relay.datagram(one.at, &bare);
        let read = |sent: &[Sent]| {
            let found = model::attributes(&sent[0].bytes);
            let value = |wanted| found.iter().find(|a| a.kind == wanted).map(|a| a.value.to_vec());
            (value(attr::ERROR_CODE), value(attr::UNKNOWN), value(attr::INTEGRITY).is_some())
        };
        let (code, unknown) = (Some(vec![0, 0, 4, 20]), Some(vec![0, 0x1c]));
        assert_eq!(read(&unsigned_reply), (code.clone(), unknown.clone(), false));
        assert!(unsigned_reply[0].bytes.len() <= 64);
        assert_eq!(read(&relay.datagram(one.at, &signed)), (code, unknown, true));
    }
}

/// R26
#[test]
fn a_ticket_that_is_expired_or_lives_too_long_opens_nothing_new() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut allocate = |secs: u64| {
        let mut client = Client::with_ticket(&relay, call, 1, A, (0, 2), secs);
        let code = client.allocate(&mut relay).map(|reply| reply.code);
        let attached = relay.is_attached(A);
        if attached {
            assert_eq!(client.refresh(&mut relay, 0), Some(0));
        }
        assert_eq!(code == Some(0), attached);
        code
    };
    assert_eq!(allocate(0), Some(401), "expired this very second");
    assert_eq!(allocate(1), Some(0));
    assert_eq!(allocate(DAY - 60), Some(0));
    assert_eq!(allocate(DAY + 3_600), Some(0), "given for a day, by somebody whose clock is an hour ahead");
    assert_eq!(allocate(DAY + 3_601), Some(401), "no ticket of ours lives longer than a day");
    assert_eq!(allocate(u64::from(u32::MAX) - 1_795_521_605), Some(401), "as long as can be written down");
}

/// R26
#[test]
fn an_expired_ticket_ends_nothing_that_runs() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut one = Client::with_ticket(&relay, call, 1, A, (0, 2), 30);
    let mut two = Client::new(&relay, call, 2, B);
    one.attach(&mut relay);
    two.attach(&mut relay);
    relay.pass(MINUTE);
    assert_eq!(one.refresh(&mut relay, 600), Some(0));
    assert_eq!(one.permit(&mut relay, LEG2), Some(0));
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), Some(0));
    assert_indication(&one.send(&mut relay, 0x4001, b"x"), B, LEG1, b"x");
    let mut new = one.on_socket("198.51.100.7:41000");
    assert_eq!(new.allocate(&mut relay).map(|reply| reply.code), Some(401), "but it opens nothing new");
    relay.fail_over();
    assert_indication(&one.send(&mut relay, 0x4001, b"x"), B, LEG1, b"x");
    assert_eq!(one.refresh(&mut relay, 600), Some(0), "nor does it, on the next relay");
}

/// R26
#[test]
fn a_ticket_that_was_changed_or_made_elsewhere_is_no_ticket() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let good = Client::new(&relay, call, 1, A);
    let mut challenged = |client: Client| {
        let mut client = client;
        relay.pass(20);
        assert_eq!(client.allocate(&mut relay).map(|reply| reply.code), Some(401), "{}", client.username);
    };
    // The name is under the password: each changed character asks for another one.
    for at in 0..good.username.len() {
        let mut name = good.username.clone().into_bytes();
        name[at] = if name[at] == b'1' { b'0' } else { b'1' };
        challenged(Client { username: String::from_utf8(name).unwrap(), ..good.clone() });
    }
    for odd in ["", "x", "1795525200:user", "v10", "v1", &good.username[..43], &format!("{}0", good.username)] {
        challenged(Client { username: odd.to_owned(), ..good.clone() });
    }
    challenged(Client { username: good.username.to_uppercase(), ..good.clone() });
    let expiry = relay.now().wall.after(Span::from_secs(3_600));
    let minted = |kid: u8, byte: u8, call: CallId| {
        let key = TicketKey::new(kid, &secret(byte)).unwrap();
        let username = key.mint(call, leg(1), expiry);
        let long_term = long_term_key(username.as_bytes(), REALM, key.credential(&username).as_bytes());
        Client { username, key: long_term, ..good.clone() }
    };
    let mut challenged = |client: Client| {
        let mut client = client;
        assert_eq!(client.allocate(&mut relay).map(|reply| reply.code), Some(401), "{}", client.username);
    };
    challenged(minted(0, 3, call));
    challenged(minted(1, 2, call));
    challenged(minted(0, 2, CallId::new(PopId(8), BucketId(3), 9)));
    let empty_password = long_term_key(good.username.as_bytes(), REALM, b"");
    challenged(Client { key: empty_password, ..good.clone() });
    challenged(Client { key: long_term_key(good.username.as_bytes(), b"other", b"x"), ..good.clone() });
    assert_eq!(good.clone().allocate(&mut relay).map(|reply| reply.code), Some(0), "the ticket itself is good");
}

/// R26
#[test]
fn rotating_a_key_loses_no_call() {
    let mut relay = Relay::new();
    let (mut one, mut two) = channel_pair(&mut relay);
    // A new key signs, the old one still verifies.
    let both = Make { keys: vec![(0, 2), (1, 3)], seed: 5, ..Make::default() };
    relay.replace(&both);
    relay.restore();
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
    assert_eq!((one.refresh(&mut relay, 600), two.refresh(&mut relay, 600)), (Some(0), Some(0)));
    assert_eq!(one.on_socket("198.51.100.7:41000").attach(&mut relay), "203.0.113.2:1025", "old ticket, new socket");
    let mut renewed = Client::with_ticket(&relay, one.call, 1, A, (1, 3), 3_600);
    assert_eq!(renewed.refresh(&mut relay, 600), Some(0), "the same leg under its new ticket");
    assert_eq!(renewed.on_socket("198.51.100.7:42000").attach(&mut relay), "203.0.113.3:1025");
    // The old key goes: who has a new ticket goes on, the old one is worth nothing.
    relay.replace(&Make { keys: vec![(1, 3)], seed: 6, ..Make::default() });
    relay.restore();
    assert_eq!(renewed.refresh(&mut relay, 600), Some(0));
    assert_eq!(two.refresh(&mut relay, 600), Some(401));
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"), "media asks for no ticket");
}
