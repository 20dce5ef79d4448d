//! R31, R40, U01, U02, U03, U07, U08: media reaches its own call and nobody else, whatever it is and whoever sends it.

use proptest::prelude::*;
use tandem_core::limits::REREAD_AFTER;
use tandem_core::switch::Counter;

use crate::common::*;

/// What a stranger could send to be heard or to hear: every form of media, at every channel in use and around it.
fn sprays() -> Vec<Vec<u8>> {
    let rtp = [0x80, 96, 0, 1, 0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3];
    let mut sprays: Vec<Vec<u8>> =
        [0x4000, 0x4001, 0x4002, 0x7fff].iter().map(|channel| model::channel_data(*channel, &rtp)).collect();
    for peer in [LEG1, LEG2, "203.0.113.254:65535", "198.51.100.7:40001", "198.51.100.8:40002"] {
        sprays.push(written(kind::SEND, [4; 12], &[Part::peer(peer), Part::data(&rtp)]));
        sprays.push(written(kind::DATA, [4; 12], &[Part::peer(peer), Part::data(&rtp)]));
    }
    sprays.push(rtp.to_vec());
    sprays.push(vec![22, 0xfe, 0xfd, 0, 0]);
    sprays
}

/// U01: bleeding, that is being sent media for having asked.
#[test]
fn a_stranger_who_sprays_during_a_call_hears_nothing() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    for n in 0..500_u16 {
        for spray in sprays() {
            assert!(relay.datagram(([192, 0, 2, 66], 1_000 + n).into(), &spray).is_empty());
        }
        let payload = n.to_be_bytes();
        assert_eq!(one.send(&mut relay, 0x4001, &payload), on_channel(B, 0x4001, &payload));
        assert_eq!(two.send(&mut relay, 0x4001, &payload), on_channel(A, 0x4001, &payload));
    }
    assert_eq!(relay.engine.switch().allocations(), 2);
}

/// U02: everything right but the source.
#[test]
fn media_from_the_wrong_source_is_counted_and_goes_nowhere() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    let good = model::channel_data(0x4001, b"\x80\x60\x12\x34\0\0\0\x01\xde\xad\xbe\xef");
    assert_eq!(relay.datagram(one.at, &good).len(), 1);
    let before = relay.engine.switch().counters.get(Counter::UnknownSource);
    // The right address with another port, the right port with another address, the other family.
    let wrong = ["198.51.100.7:40002", "198.51.100.7:40000", "198.51.100.9:40001", "[2001:db8::7]:40001"];
    for from in wrong {
        assert!(relay.datagram(addr(from), &good).is_empty(), "{from}");
    }
    assert_eq!(relay.engine.switch().counters.get(Counter::UnknownSource), before + wrong.len() as u64);
    assert_eq!(relay.datagram(addr("[::ffff:198.51.100.7]:40001"), &good).len(), 1, "the same client, said otherwise");
}

/// U02: who has a ticket for one call has no way into another.
#[test]
fn a_leg_of_another_call_cannot_inject_either() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let call = relay.create(2, 2);
    let mut other = Client::new(&relay, call, 1, "198.51.100.9:1");
    other.attach(&mut relay);
    // The same virtual address stands for nobody in the other call.
    assert_eq!(other.bind(&mut relay, 0x4001, LEG2), Some(0));
    assert!(other.send(&mut relay, 0x4001, b"x").is_empty());
    assert!(other.indicate(&mut relay, LEG2, b"x").is_empty());
    assert_eq!(two.send(&mut relay, 0x4001, b"y"), on_channel(A, 0x4001, b"y"), "to leg 1 of its own call");
    assert_eq!(one.send(&mut relay, 0x4001, b"y"), on_channel(B, 0x4001, b"y"));
}

/// U03
#[test]
fn whoever_is_first_with_media_latches_onto_nothing() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let (mut one, mut two) = (Client::new(&relay, call, 1, A), Client::new(&relay, call, 2, B));
    for _ in 0..5 {
        for from in [STRANGER, A, B] {
            sprays().iter().for_each(|spray| assert!(relay.datagram(addr(from), spray).is_empty()));
        }
    }
    two.attach(&mut relay);
    for _ in 0..5 {
        sprays().iter().for_each(|spray| assert!(relay.datagram(addr(STRANGER), spray).is_empty()));
        sprays().iter().for_each(|spray| assert!(relay.datagram(one.at, spray).is_empty(), "not before it allocates"));
    }
    one.attach(&mut relay);
    assert_indication(&two.indicate(&mut relay, LEG1, b"x"), A, LEG2, b"x");
    assert_eq!(relay.engine.switch().allocations(), 2);
}

/// U03, U05: an allocation moves by an authenticated request alone, and then it is another one.
#[test]
fn media_from_a_new_address_moves_nothing() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let moved = one.on_socket("198.51.100.77:50000");
    for _ in 0..10 {
        assert!(moved.send(&mut relay, 0x4001, b"from my new address").is_empty());
        assert!(moved.indicate(&mut relay, LEG2, b"from my new address").is_empty());
        assert_eq!(two.send(&mut relay, 0x4001, b"x"), on_channel(A, 0x4001, b"x"), "it stays on the old path");
    }
}

/// U07: payload is not looked at, so that nothing in it can be wrong.
#[test]
fn rtp_and_rtcp_of_every_length_and_lie_arrive_as_they_were_sent() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let mut third = two.on_socket("198.51.100.8:41000");
    let third_addr = third.attach(&mut relay);
    for len in 0..=64_usize {
        // CSRC count, extension and padding bits, payload types, RTCP lengths: all that first bytes can claim.
        for first in (0..=255_u8).step_by(7) {
            for second in [0, 72, 96, 200, 201, 207, 255] {
                let mut payload = vec![0xff; len];
                payload.iter_mut().zip([first, second]).for_each(|(to, from)| *to = from);
                assert_eq!(one.send(&mut relay, 0x4001, &payload), on_channel(B, 0x4001, &payload));
                let sent = one.indicate(&mut relay, &third_addr, &payload);
                assert_indication(&sent, "198.51.100.8:41000", LEG1, &payload);
            }
        }
    }
}

/// U07, R36: a packet that lies about its own length.
#[test]
fn channel_data_that_is_shorter_than_it_says_is_dropped() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    for len in 0..=64_u16 {
        for claim in (0..=80_u16).chain([0xfffc, 0xfffd, 0xfffe, 0xffff]) {
            let packet = [&0x4001_u16.to_be_bytes()[..], &claim.to_be_bytes(), &vec![7; usize::from(len)]].concat();
            let sent = relay.datagram(one.at, &packet);
            if claim <= len {
                assert_eq!(sent, on_channel(B, 0x4001, &vec![7; usize::from(claim)]), "{claim} of {len}");
            } else {
                assert!(sent.is_empty(), "{claim} of {len}");
            }
        }
    }
    for cut in 1..4 {
        assert!(relay.datagram(one.at, &[0x40, 1, 0][..cut]).is_empty());
    }
}

/// U08
#[test]
fn empty_datagrams_are_counted_and_slow_nobody() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    for n in 0..100_000_u32 {
        let from = if n % 3 == 0 { one.at } else { ([192, 0, 2, (n >> 8) as u8], n as u16 | 1).into() };
        assert!(relay.datagram(from, &[]).is_empty());
    }
    assert_eq!(relay.engine.switch().counters.get(Counter::Empty), 100_000);
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
}

/// U08: the longest datagram that UDP has, as media and as every other thing.
#[test]
fn a_datagram_of_65507_bytes_is_forwarded_whole_or_dropped() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let payload = vec![0x5a; 65_507 - 4];
    assert_eq!(one.send(&mut relay, 0x4001, &payload), on_channel(B, 0x4001, &payload));
    assert!(relay.datagram(addr(STRANGER), &model::channel_data(0x4001, &payload)).is_empty());
    let mut third = two.on_socket("198.51.100.8:41000");
    let third_addr = third.attach(&mut relay);
    let fits = vec![0x5a; 65_507 - 36];
    // A Send indication is as long as the Data indication that it becomes.
    let sent = one.indicate(&mut relay, &third_addr, &fits[..fits.len() - 3]);
    assert_indication(&sent, "198.51.100.8:41000", LEG1, &fits[..fits.len() - 3]);
    let big = written(kind::ALLOCATE, [1; 12], &[Part::udp(), Part::Raw(attr::SOFTWARE, vec![b's'; 65_000])]);
    let answer = relay.datagram(addr(STRANGER), &big);
    assert_eq!(answer.iter().map(|sent| sent.bytes.len()).collect::<Vec<_>>(), [64]);
    for first in [0, 3, 20, 64, 127, 128, 255] {
        assert!(relay.datagram(one.at, &vec![first; 65_507]).len() <= 1);
    }
}

/// R40: as the packet thread does it: many datagrams that lie in one memory, each rewritten where it lies.
#[test]
fn every_call_hears_its_own_canary_only() {
    const PAIRS: u32 = 64;
    let mut relay = Relay::new();
    let mut pairs = Vec::new();
    for n in 1..=PAIRS {
        let call = relay.create(n, 2);
        let mut one = Client::new(&relay, call, 1, &format!("198.51.100.{n}:4001"));
        let mut two = Client::new(&relay, call, 2, &format!("198.51.100.{n}:4002"));
        // The same virtual addresses in every call.
        assert_eq!((one.attach(&mut relay), two.attach(&mut relay)), (LEG1.to_owned(), LEG2.to_owned()));
        // All four conversions are in use.
        if n % 4 < 2 {
            assert_eq!(one.bind(&mut relay, 0x4001, LEG2), Some(0));
        }
        if n % 2 == 0 {
            assert_eq!(two.bind(&mut relay, 0x4002, LEG1), Some(0));
        }
        pairs.push((one, two));
    }
    let mut state = 88_172_645_463_325_252_u64;
    for _ in 0..200_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (n, len) = (state as usize % pairs.len(), (state >> 20) as usize % 60 + 8);
        let (one, two) = &pairs[n];
        let canary: Vec<u8> =
            [n as u64 ^ 0xca11, state].iter().flat_map(|w| w.to_be_bytes()).cycle().take(len).collect();
        let on_a_channel = ((n + 1) & 3) < 2;
        let sent = if on_a_channel && state & (1 << 40) != 0 {
            one.send(&mut relay, 0x4001, &canary)
        } else {
            one.indicate(&mut relay, LEG2, &canary)
        };
        if (n + 1) % 2 == 0 {
            assert_eq!(sent, [Sent { to: two.at, bytes: model::channel_data(0x4002, &canary) }]);
        } else {
            assert_indication(&sent, &two.at.to_string(), LEG1, &canary);
        }
    }
}

/// A leg that makes channels up makes the store work once a second, not once a packet.
#[test]
fn channels_that_were_never_bound_cost_one_question_a_second() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    relay.store.loads.clear();
    for n in 0..3_000_u16 {
        assert!(one.send(&mut relay, 0x5000 + n, b"x").is_empty());
        if n % 3 == 0 {
            relay.pass(1);
        }
    }
    assert_eq!(REREAD_AFTER.as_millis(), 1_000);
    assert!((1..=2).contains(&relay.store.loads.len()), "{} in a second", relay.store.loads.len());
    assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]
    /// Whatever bytes come from wherever: the harness holds that nothing leaves for who is not attached or did not ask.
    #[test]
    fn no_bytes_from_anywhere_make_the_relay_say_more_than_it_may(
        datagrams in prop::collection::vec((0_usize..4, 0_usize..6, prop::collection::vec(any::<u8>(), 0..120)), 1..12)
    ) {
        let mut relay = Relay::new();
        let (mut one, two) = channel_pair(&mut relay);
        let from = [one.at, two.at, addr(STRANGER), addr("[2001:db8::9]:9")];
        for (who, shape, bytes) in datagrams {
            let datagram = match shape {
                0 => bytes,
                1 => model::channel_data(0x4001, &bytes),
                2 => [&[0x40, 1][..], &bytes].concat(),
                3 => written(kind::SEND, [1; 12], &[Part::Raw(attr::PEER, bytes.iter().copied().take(8).collect()), Part::data(&bytes)]),
                4 => [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &bytes].concat(),
                _ => one.signed(kind::PROVING[bytes.len() % 4], &[Part::Raw(u16::from(bytes.first().copied().unwrap_or(0)), bytes)]),
            };
            relay.datagram(from[who], &datagram);
        }
    }
}
