//! The seeds: inputs made by hand that reach the depths at once. `fuzz/corpus` holds them, and what fuzzing found since.
//!
//! Decides what they are. The test here fails when one of them is not in the corpus as it is made here; with
//! `TANDEM_WRITE_SEEDS=1` in the environment it writes them instead.

mod fleet;

use std::path::Path;

use tandem_wire::id::{BucketId, CallId, LegId, PopId};
use tandem_wire::redact::Secret;
use tandem_wire::stun::{Class, Method, Writer, attr};
use tandem_wire::ticket::TicketKey;
use tandem_wire::units::Wall;

/// A file of the corpus: its name says what it is.
type Seed = (&'static str, Vec<u8>);

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn message(class: Class, method: Method, fill: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 1_500];
    let len = fill(Writer::new(&mut buffer, class, method, *b"transaction.")).finish().unwrap();
    buffer.truncate(len);
    buffer
}

fn stun() -> Vec<Seed> {
    // RFC 5769 sections 2.1 to 2.4.
    let request =
        hex("00010058 2112a442 b7e7a701bc34d686fa87dfae 80220010 5354554e207465737420636c69656e74 00240004 6e0001ff
         80290008 932ff9b151263b36 00060009 6576746a3a68367659202020
         00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004 e57a3bcf");
    let response_v4 =
        hex("0101003c 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220 00200008 0001a147e112a643
         00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96");
    let response_v6 = hex("01010048 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220
         00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9
         00080014 a382954e4be67bf11784c97c8292c275bfe3ed41 80280004 c8fb0b4c");
    let long_term = hex("00010060 2112a442 78ad3433c6ad72c029da412e 00060012 e3839ee38388e383aae38383e382afe382b90000
         0015001c 662f2f3439396b3935346436 4f4c33346f4c3946535476793634 7341 0014000b 6578616d706c652e6f726700
         00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666");
    let allocate =
        message(Class::Request, Method::Allocate, |writer| writer.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
    let signed = message(Class::Request, Method::Allocate, |writer| {
        writer
            .attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .attribute(attr::LIFETIME, &600_u32.to_be_bytes())
            .attribute(attr::USERNAME, b"v10.69250000.beef.01234567890123456789012345")
            .attribute(attr::REALM, b"tndm")
            .attribute(attr::NONCE, &[b'n'; 24])
            .integrity(b"sixteen bytes ok")
            .fingerprint()
    });
    // Attributes behind MESSAGE-INTEGRITY (attack R15), and twice the same before it (R16).
    let trailing = message(Class::Request, Method::Refresh, |writer| {
        writer
            .attribute(attr::LIFETIME, &600_u32.to_be_bytes())
            .integrity(b"sixteen bytes ok")
            .attribute(attr::LIFETIME, &[0; 4])
            .fingerprint()
    });
    let peers = message(Class::Indication, Method::Send, |writer| {
        writer
            .address(attr::XOR_PEER_ADDRESS, "203.0.113.1:1026".parse().unwrap())
            .address(attr::XOR_PEER_ADDRESS, "127.0.0.1:22".parse().unwrap())
            .address(attr::XOR_PEER_ADDRESS, "[2001:db8::1]:443".parse().unwrap())
            .attribute(attr::DATA, b"hello")
    });
    let bind = message(Class::Request, Method::ChannelBind, |writer| {
        writer
            .attribute(attr::CHANNEL_NUMBER, &[0x40, 1, 0, 0])
            .address(attr::XOR_PEER_ADDRESS, "203.0.113.1:1026".parse().unwrap())
    });
    let odd = message(Class::Request, Method::Allocate, |writer| {
        writer
            .attribute(attr::EVEN_PORT, &[0x80])
            .attribute(attr::RESERVATION_TOKEN, &[1; 8])
            .attribute(attr::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])
            .attribute(attr::DONT_FRAGMENT, &[])
            .attribute(attr::MESSAGE_INTEGRITY_SHA256, &[2; 32])
            .attribute(0x7f00, b"unknown")
    });
    let shortened = |bytes: &[u8], by: usize| bytes[..bytes.len() - by].to_vec();
    vec![
        ("empty", Vec::new()),
        ("binding", message(Class::Request, Method::Binding, |writer| writer)),
        ("rfc5769-request", request),
        ("rfc5769-response-v4", response_v4),
        ("rfc5769-response-v6", response_v6),
        ("rfc5769-long-term", long_term),
        ("allocate-cut", shortened(&allocate, 3)),
        ("allocate", allocate),
        ("allocate-signed-cut", shortened(&signed, 8)),
        ("allocate-signed", signed),
        ("allocate-odd", odd),
        ("refresh-trailing", trailing),
        ("send-three-peers", peers),
        ("channel-bind", bind),
        ("header-only-half", hex("00010000 2112a442")),
        ("length-of-a-lie", hex("0001fffc 2112a442 b7e7a701bc34d686fa87dfae")),
        ("attribute-over-the-end", hex("00010004 2112a442 b7e7a701bc34d686fa87dfae 0006ffff")),
        ("channel-data", hex("40010005 68656c6c6f000000")),
        ("channel-data-empty", hex("7fff0000")),
        ("channel-data-cut", hex("4001ffff 6865")),
        // Read as a script: an Allocate of every kind of attribute, four bytes each.
        ("script-every-kind", [&hex("0003 00 aabbccddeeff001122334455 0123 03")[..], &every_kind()].concat()),
    ]
}

fn every_kind() -> Vec<u8> {
    (0..12_u8).flat_map(|kind| [kind, 4, 0, 1, 2, 3]).collect()
}

fn ticket() -> Vec<Seed> {
    let key = TicketKey::new(0, &Secret::new(b"0123456789abcdef0123456789abcdef".to_vec())).unwrap();
    let mint = |pop, expiry| {
        let call = CallId::new(PopId(pop), BucketId(0xbeef), 0x0123_4567_89ab_cdef_0123_4567);
        key.mint(call, LegId::new(2).unwrap(), Wall::from_secs(expiry)).into_bytes()
    };
    let (good, expired, foreign) = (mint(1, 1_764_003_600), mint(1, 1), mint(2, 1_764_003_600));
    let upper = good.to_ascii_uppercase();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    vec![
        ("empty", Vec::new()),
        ("expired", expired),
        ("foreign", foreign),
        ("upper-case", upper),
        ("unknown-key", changed(2, b'7')),
        ("no-key", changed(2, b'8')),
        ("first-digit-too-high", changed(18, b'z')),
        ("not-crockford", changed(30, b'u')),
        ("too-short", good[..43].to_vec()),
        ("too-long", [&good[..], b"0"].concat()),
        ("turn-rest", b"1764003600:somebody".to_vec()),
        ("nonce-shaped", b"aSUAAAAAAAAAAAAAAAAAAAAA".to_vec()),
        ("good", good),
    ]
}

/// Steps of the switch's script, in words.
mod switch_step {
    /// Leg 1 + `leg` of `call` on one address, with a channel to leg 1 + `peer`.
    pub(super) fn attach(call: u8, leg: u8, client: u8, channel: u8, peer: u8) -> Vec<u8> {
        vec![0, call, leg, 1, 0, client, 1, channel, 0, peer]
    }

    pub(super) fn channel_data(client: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
        [&[7, client, channel, 0, payload.len() as u8][..], payload].concat()
    }

    pub(super) fn indication(client: u8, peer: u8, payload: &[u8]) -> Vec<u8> {
        [&[6, client, 1, 0, peer, payload.len() as u8][..], payload, b"transaction."].concat()
    }
}

fn switch() -> Vec<Seed> {
    use switch_step::{attach, channel_data, indication};
    let two = [attach(0, 0, 4, 0, 1), attach(0, 1, 5, 1, 0)].concat();
    let others = [attach(1, 0, 6, 0, 1), attach(1, 1, 7, 1, 0)].concat();
    let talk = [channel_data(4, 0, b"hello"), channel_data(5, 1, b"hi"), indication(4, 1, b"hey")].concat();
    vec![
        ("empty", Vec::new()),
        ("two-legs-on-channels", [&two[..], &talk].concat()),
        ("two-calls-side-by-side", [&two[..], &others, &talk, &channel_data(6, 0, b"other")].concat()),
        // Nobody has bound a channel back.
        (
            "channel-to-indication",
            [attach(0, 0, 4, 0, 1), attach(0, 1, 5, 1, 2), channel_data(4, 0, b"hello")].concat(),
        ),
        (
            "indication-to-indication",
            [attach(0, 0, 4, 0, 2), attach(0, 1, 5, 1, 2), indication(4, 1, b"hello")].concat(),
        ),
        ("unknown-source-and-channel", [&two[..], &channel_data(9, 0, b"x"), &channel_data(4, 3, b"x")].concat()),
        ("an-address-changes-hands", [&two[..], &attach(1, 0, 5, 0, 1), &talk].concat()),
        ("a-leg-moves", [&two[..], &attach(0, 1, 8, 1, 0), &talk, &channel_data(8, 1, b"x")].concat()),
        ("a-leg-leaves", [&two[..], &[2, 0, 1, 0], &talk].concat()),
        ("a-call-ends", [&two[..], &[2, 0, 0, 1], &talk].concat()),
        ("an-hour-passes", [&two[..], &[3, 0x0e, 0x11, 4, 0, 60], &talk].concat()),
        ("raw-datagrams", [&two[..], &[4, 4, 3, 0xff, 0, 0, 5, 5, 4, 0, 2, 7, 7, 4, 4, 0]].concat()),
        ("outside-the-prefix", [&two[..], &[6, 4, 0, 127, 0, 0, 1, 0, 22, 1, b'x'], b"transaction."].concat()),
    ]
}

/// Steps of the engine's script, in words.
mod engine_step {
    /// The store lists everything.
    pub(super) const RESTORED: &[u8] = &[11, 0];
    /// It answers the oldest question, the oldest write; it tells the oldest change.
    pub(super) const LOADED: &[u8] = &[8, 1];
    pub(super) const WRITTEN: &[u8] = &[9, 2];
    pub(super) const TOLD: &[u8] = &[10, 0, 0, 0, 4];
    /// It does not.
    pub(super) const LOAD_FAILED: &[u8] = &[8, 0];
    pub(super) const AWAY_BEFORE: &[u8] = &[9, 0];
    pub(super) const AWAY_AFTER: &[u8] = &[9, 1];

    /// Leg 1 + `leg` of `call` asks for an allocation.
    pub(super) fn allocate(client: u8, call: u8, leg: u8) -> Vec<u8> {
        vec![2, client, call, leg, 1, 34]
    }

    /// … for a channel to 203.0.113.1, the port of leg 1 + `peer`.
    pub(super) fn bind(client: u8, call: u8, leg: u8, channel: u8, peer: u8) -> Vec<u8> {
        vec![3, client, call, leg, 1, channel, if peer == 0 { 3 } else { peer }]
    }

    /// … to keep its allocation for so many seconds.
    pub(super) fn refresh(client: u8, call: u8, leg: u8, seconds: u16) -> Vec<u8> {
        let [high, low] = seconds.to_be_bytes();
        vec![4, client, call, leg, 1, high, low]
    }

    pub(super) fn channel_data(client: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
        [&[6, client, channel, payload.len() as u8][..], payload].concat()
    }

    /// So many times 40 ms.
    pub(super) fn wait(ticks: u8) -> Vec<u8> {
        vec![0, ticks]
    }
}

fn engine() -> Vec<Seed> {
    use engine_step::*;
    let leg = |client, leg, channel, peer| {
        [&allocate(client, 0, leg)[..], WRITTEN, TOLD, &bind(client, 0, leg, channel, peer), WRITTEN, TOLD].concat()
    };
    let call = [RESTORED, &leg(0, 0, 0, 1), &leg(1, 1, 1, 0)].concat();
    let talk = [channel_data(0, 0, b"hello"), channel_data(1, 1, b"hi")].concat();
    let end = [10, 0, 0, 0, 0];
    vec![
        ("empty", Vec::new()),
        ("a-call", [&call[..], &talk, &refresh(0, 0, 0, 600), &talk, &refresh(1, 0, 1, 0), WRITTEN, &talk].concat()),
        ("asked-while-restoring", [&allocate(0, 0, 0)[..], &channel_data(0, 0, b"x"), RESTORED, WRITTEN].concat()),
        ("a-call-that-never-was", [RESTORED, &allocate(0, 2, 0)[..], LOADED, &allocate(0, 2, 0)].concat()),
        ("a-leg-that-is-not-in-the-call", [RESTORED, &allocate(0, 0, 2)[..], WRITTEN].concat()),
        (
            "the-store-goes-away",
            [RESTORED, &allocate(0, 0, 0)[..], AWAY_BEFORE, &wait(100), &wait(100), WRITTEN].concat(),
        ),
        (
            "the-store-goes-away-after-the-write",
            [RESTORED, &allocate(0, 0, 0)[..], AWAY_AFTER, &wait(7), TOLD].concat(),
        ),
        ("a-load-fails", [RESTORED, &allocate(0, 2, 0)[..], LOAD_FAILED, &wait(7), LOADED].concat()),
        (
            "another-relay-was-faster",
            [RESTORED, &[10, 0, 0, 3, 1], &allocate(0, 0, 0)[..], WRITTEN, LOADED, TOLD].concat(),
        ),
        ("the-call-ends", [&call[..], &end, TOLD, &talk, &allocate(0, 0, 0)].concat()),
        ("an-address-changes-hands", [&call[..], &allocate(1, 1, 0), WRITTEN, WRITTEN, TOLD, TOLD, &talk].concat()),
        ("an-unknown-channel-is-looked-up", [&call[..], &channel_data(0, 3, b"x"), LOADED, TOLD].concat()),
        ("restored-once-more", [&call[..], RESTORED, &talk].concat()),
    ]
}

#[test]
fn the_seeds_are_in_the_corpus_as_they_are_made_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let write = std::env::var_os("TANDEM_WRITE_SEEDS").is_some();
    let targets = [
        ("stun", stun()),
        ("ticket", ticket()),
        ("switch", switch()),
        ("engine", engine()),
        ("tunnel", fleet::tunnel()),
        ("steering", fleet::steering()),
        ("entrance", fleet::entrance()),
    ];
    for (target, seeds) in targets {
        let corpus = root.join(target);
        if write {
            std::fs::create_dir_all(&corpus).unwrap();
        }
        for (name, bytes) in seeds {
            let file = corpus.join(name);
            if write {
                std::fs::write(&file, &bytes).unwrap();
            }
            assert_eq!(std::fs::read(&file).ok(), Some(bytes), "{target}/{name}");
        }
    }
}
