//! The seeds of what belongs to a fleet: the tunnel's heads, steering, and a relay's end of the tunnel.
//!
//! Decides what they are. Leaves writing and comparing them to the file above.

use tandem_wire::id::BucketId;
use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::{Cookie, Head, Probe};

use super::{Seed, hex};

pub(super) fn tunnel() -> Vec<Seed> {
    let client = ClientAddr::new("192.0.2.7:50000".parse().unwrap());
    let head = Head::to_relay(client, BucketId(0xabcd), 7, Cookie::from_bits(0x0102_0304_0506_0708));
    let behind = |head: Head, rest: &[u8]| [&head.to_bytes()[..], rest].concat();
    let probe = Probe { stamp: 1, incarnation: 2, load: 3 }.to_bytes();
    let back = Head { back: true, proven: true, ..head };
    let mut newer = behind(head, b"packet");
    newer[1] |= 128;
    vec![
        ("empty", Vec::new()),
        ("to-a-relay", behind(head, b"packet")),
        ("back-proven", behind(back, b"packet")),
        ("goodbye", behind(Head { back: true, leaving: true, ..head }, b"")),
        ("probe", behind(Head { probe: true, ..head }, &probe)),
        ("probe-alone", probe.to_vec()),
        ("a-probe-that-says-down", behind(Head { probe: true, down: true, ..head }, &probe)),
        ("passed-on", behind(Head { hops: 1, ..head }, &[0x40, 1, 0, 2, 7, 7])),
        ("a-flag-of-a-later-version", newer),
        ("half-a-head", head.to_bytes()[..35].to_vec()),
        ("a-clients-packet", hex("40010005 68656c6c6f000000")),
        // Read as a script: every flag, IPv6.
        (
            "script-every-flag",
            [&[0x7f, 1][..], &[0x20; 16], &[0, 80], &[1, 2], &[9; 8], b"xy", &[0; 4], b"rest"].concat(),
        ),
    ]
}

/// Steps of steering's script, in words.
mod steering_step {
    /// Table number `n`.
    pub(super) fn plan(n: u8) -> Vec<u8> {
        vec![1, n]
    }

    /// So many ms pass, under 250; the wall clock shows something.
    pub(super) fn wait(ms: u8) -> Vec<u8> {
        vec![0, ms, 0x12, 0x34]
    }

    /// A request with the ticket of a bucket.
    pub(super) fn ticket(client: u8, bucket: u16) -> Vec<u8> {
        let [high, low] = bucket.to_be_bytes();
        vec![3, client, high, low, 1, 0]
    }

    pub(super) fn media(client: u8) -> Vec<u8> {
        vec![4, client, 0]
    }

    /// A Binding request without a name.
    pub(super) fn question(client: u8) -> Vec<u8> {
        vec![5, client, 0, 0, 0]
    }

    /// The store names an address, or no longer does.
    pub(super) fn claim(client: u8, bucket: u8, taken: bool) -> Vec<u8> {
        vec![6, client, bucket, u8::from(!taken)]
    }

    /// A relay sends something to a client; flag 16: it has proved itself.
    pub(super) fn returned(line: u8, flags: u8, client: u8, bucket: u8) -> Vec<u8> {
        vec![7, line, flags, client, bucket, 0, 1, 2, b'h', b'i']
    }

    /// The oldest probe but `at` is echoed.
    pub(super) fn echo(at: u8, kind: u8) -> Vec<u8> {
        vec![8, at, kind]
    }

    pub(super) fn refused(line: u8) -> Vec<u8> {
        vec![9, line]
    }
}

pub(super) fn steering() -> Vec<Seed> {
    use steering_step::*;
    let tickets = |client: u8| (0..24_u16).flat_map(move |n| ticket(client, n * 2_731)).collect::<Vec<u8>>();
    let echoes = |kind: u8| (0..6).flat_map(|_| echo(0, kind)).collect::<Vec<u8>>();
    let beats = |rounds: u8| (0..rounds).flat_map(|_| [wait(10), echoes(2)].concat()).collect::<Vec<u8>>();
    let start = [plan(0), wait(0), echoes(2), beats(3)].concat();
    let crowd: Vec<u8> = (6..24).flat_map(|n| claim(n, n % 4, true)).collect();
    vec![
        ("empty", Vec::new()),
        (
            "a-relay-dies",
            [
                &start[..],
                &returned(0, 0x14, 10, 1),
                &media(10),
                &tickets(11),
                &refused(0),
                &wait(3),
                &tickets(11),
                &media(10),
            ]
            .concat(),
        ),
        ("silence-and-a-frost", [&start[..], &wait(40), &wait(70), &tickets(11), &wait(100), &echoes(2)].concat()),
        ("another-run-and-a-stranger", [&start[..], &wait(10), &echo(0, 0), &echo(0, 0x1a), &echo(0, 1)].concat()),
        ("tables-come-and-go", (0..40).flat_map(|n| [plan(n), wait(11), media(10), ticket(5, 9)].concat()).collect()),
        ("an-older-table", [plan(30), plan(3), wait(10), ticket(9, 1)].concat()),
        ("the-table-of-flows-is-full", [&start[..], &crowd, &media(10), &claim(10, 2, false), &media(10)].concat()),
        ("a-wrong-cookie", [&start[..], &returned(0, 0x10, 10, 1), &media(10), &returned(9, 0x14, 10, 1)].concat()),
        ("strangers", [&start[..], &question(10), &question(254), &ticket(251, 3), &media(254)].concat()),
        ("before-any-table", [ticket(10, 3), question(10), media(10), returned(0, 0x14, 10, 1), wait(20)].concat()),
        ("a-relay-where-a-client-was", (0..40).flat_map(|n| [claim(5, 1, true), plan(n), media(5)].concat()).collect()),
        ("raw", vec![2, 10, 0, 4, 0x40, 1, 0, 0, 10, 0, 3, 0xf5, 3, 0, 2, 11, 1, 0]),
    ]
}

/// Steps of the entrance's script, in words. A head is flags (64: acting, 7: another cookie), hops, client, bucket, epoch.
mod entrance_step {
    pub(super) const ACTING: u8 = 64;
    pub(super) const RESTORED: &[u8] = &[9, 3, 0];
    pub(super) const WRITTEN: &[u8] = &[9, 1, 2];
    pub(super) const TOLD: &[u8] = &[9, 2, 0, 0, 0, 4];

    pub(super) fn table(n: u8) -> Vec<u8> {
        vec![1, n]
    }

    pub(super) fn probe(flags: u8) -> Vec<u8> {
        vec![5, flags, 0, 0, 0, 1, 0, 0, 9]
    }

    /// Leg 1 + `leg` of call 0 asks; `kind` says for what.
    pub(super) fn request(flags: u8, client: u8, leg: u8, kind: u8) -> Vec<u8> {
        vec![6, flags, 0, client, 0, 1, 0, 0, leg, kind]
    }

    pub(super) fn media(flags: u8, hops: u8, client: u8, bucket: u8) -> Vec<u8> {
        vec![8, flags, hops, client, bucket, 1, 0, 2, b'h', b'i', 1]
    }
}

pub(super) fn entrance() -> Vec<Seed> {
    use entrance_step::*;
    let leg = |client, leg, bind| {
        let asks = |kind| [&request(ACTING, client, leg, kind)[..], WRITTEN, TOLD].concat();
        [asks(0), asks(bind)].concat()
    };
    // Channel 0x4001 to the other leg: 21 and 5.
    let call = [&table(0)[..], RESTORED, &leg(0, 0, 21), &leg(1, 1, 5)].concat();
    let talk = [media(ACTING, 0, 0, 0), media(ACTING, 0, 1, 0)].concat();
    let strays: Vec<u8> = (0..3).flat_map(|bucket| [media(0, 0, 4, bucket), media(0, 1, 4, bucket)].concat()).collect();
    let foreign = [media(7, 0, 0, 0), media(0x38, 0, 0, 0), probe(7), request(7, 0, 0, 0)].concat();
    vec![
        ("empty", Vec::new()),
        ("a-call", [&call[..], &talk, &probe(0), &strays].concat()),
        ("strangers", [&call[..], &foreign, &talk].concat()),
        ("fenced", [&call[..], &[2, 0], &talk, &request(ACTING, 2, 0, 0), &[2, 1], &request(ACTING, 2, 0, 0)].concat()),
        ("taken-for-down", [&table(0)[..], &probe(128), &table(1), &probe(128)].concat()),
        ("tables-come-and-go", (0..12).flat_map(|n| [table(n), strays.clone(), probe(0)].concat()).collect()),
        ("drained", [&call[..], &table(3), &talk, &probe(0), &request(0, 0, 0, 0)].concat()),
        (
            "the-store-is-late",
            [&table(0)[..], RESTORED, &request(ACTING, 0, 0, 0), &[0, 100], &[0, 100], WRITTEN].concat(),
        ),
        ("raw", vec![3, 1, 6, 0xf5, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 2, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
    ]
}
