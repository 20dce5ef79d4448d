//! RFC 5769's vectors, golden answers, round trips, and bytes that are no messages.

use core::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::id::VirtualAddr;
use crate::ticket::{LongTermKey, long_term_key};

const TRANSACTION: TransactionId = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// RFC 5769 section 2.2.
const RESPONSE_V4: &str = "0101003c 2112a442 b7e7a701bc34d686fa87dfae
    8022000b 7465737420766563746f7220 00200008 0001a147e112a643
    00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96";
/// RFC 5769 section 2.3.
const RESPONSE_V6: &str = "01010048 2112a442 b7e7a701bc34d686fa87dfae
    8022000b 7465737420766563746f7220 00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9
    00080014 a382954e4be67bf11784c97c8292c275bfe3ed41 80280004 c8fb0b4c";
/// RFC 5769 section 2.4: long-term credentials, no fingerprint.
const REQUEST_LONG_TERM: &str = "00010060 2112a442 78ad3433c6ad72c029da412e
    00060012 e3839ee38388e383aae38383e382afe382b90000
    0015001c 662f2f3439396b3935346436 4f4c33346f4c3946535476793634 7341
    0014000b 6578616d706c652e6f726700
    00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666";

#[test]
fn the_long_term_request_of_rfc_5769_is_read_and_verified() {
    let packet = bytes(REQUEST_LONG_TERM);
    let message = Message::parse(&packet).unwrap();
    assert_eq!((message.class, message.method), (Class::Request, Method::Binding));
    let username = message.attributes.username.unwrap();
    assert_eq!(username, "マトリックス".as_bytes());
    assert_eq!(message.attributes.realm.unwrap(), b"example.org");
    assert_eq!(message.attributes.nonce.unwrap(), b"f//499k954d6OL34oL9FSTvy64sA");
    assert!(message.verify(&long_term_key(username, b"example.org", b"TheMatrIX")));
    assert!(!message.verify(&long_term_key(username, b"example.org", b"TheMatrix")));
}

#[test]
fn the_request_and_answers_of_rfc_5769_pass_their_fingerprints() {
    // Section 2.1. PRIORITY and ICE-CONTROLLED are another protocol's: PRIORITY is one that we do not understand.
    let request = bytes(
        "00010058 2112a442 b7e7a701bc34d686fa87dfae
         80220010 5354554e207465737420636c69656e74 00240004 6e0001ff 80290008 932ff9b151263b36
         00060009 6576746a3a68367659202020 00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004 e57a3bcf",
    );
    let message = Message::parse(&request).unwrap();
    assert!(message.attributes.fingerprint);
    assert_eq!(message.attributes.unknown(), [0x0024]);
    for text in [RESPONSE_V4, RESPONSE_V6] {
        let packet = bytes(text);
        assert!(Message::parse(&packet).unwrap().attributes.fingerprint);
        let mut wrong = packet.clone();
        wrong[30] ^= 1;
        assert_eq!(Message::parse(&wrong).unwrap_err(), StunError::Fingerprint);
    }
}

#[test]
fn addresses_are_written_as_in_rfc_5769() {
    for (address, vector) in
        [("192.0.2.1:32853", RESPONSE_V4), ("[2001:db8:1234:5678:11:2233:4455:6677]:32853", RESPONSE_V6)]
    {
        let golden = bytes(vector);
        let mut buffer = [0xaa; 128];
        let address: SocketAddr = address.parse().unwrap();
        let len = Writer::new(&mut buffer, Class::Success, Method::Binding, TRANSACTION)
            .address(attr::XOR_MAPPED_ADDRESS, address)
            .finish()
            .unwrap();
        // In the vectors it follows a SOFTWARE attribute of 16 bytes, which we do not send.
        assert_eq!(buffer[20..len], golden[36..36 + len - 20]);
    }
}

#[test]
fn a_binding_answer_is_32_bytes_for_ipv4_and_44_for_ipv6() {
    for (address, size) in [("192.0.2.1:1", 32), ("[2001:db8::1]:1", 44)] {
        let mut buffer = [0; 64];
        let len = Writer::new(&mut buffer, Class::Success, Method::Binding, TRANSACTION)
            .address(attr::XOR_MAPPED_ADDRESS, address.parse().unwrap())
            .finish();
        assert_eq!(len, Ok(size));
    }
}

#[test]
fn a_data_header_and_its_payload_are_a_data_indication() {
    let peer = VirtualAddr { octet: 2, port: 1026 };
    let mut packet = data_header(peer, TRANSACTION, 5).unwrap().to_vec();
    assert_eq!(
        packet,
        bytes("00170018 2112a442 b7e7a701bc34d686fa87dfae 00120008 0001 2510 ea12d540 00130005"),
        "golden bytes"
    );
    packet.extend_from_slice(b"hello\0\0\0");
    let message = Message::parse(&packet).unwrap();
    assert_eq!((message.class, message.method), (Class::Indication, Method::Data));
    assert_eq!(message.attributes.peer, Some(peer.socket_addr().into()));
    let (at, len) = message.attributes.data.unwrap();
    assert_eq!(&packet[at..at + len], b"hello");
}

#[test]
fn attributes_after_message_integrity_do_not_count() {
    let key: LongTermKey = [7; 16];
    let mut buffer = [0; 256];
    let len = Writer::new(&mut buffer, Class::Request, Method::Refresh, TRANSACTION)
        .attribute(attr::LIFETIME, &600_u32.to_be_bytes())
        .integrity(&key)
        .attribute(attr::LIFETIME, &0_u32.to_be_bytes())
        .address(attr::XOR_PEER_ADDRESS, "203.0.113.1:1025".parse().unwrap())
        .attribute(0x7f00, &[])
        .fingerprint()
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.attributes.lifetime, Some(600));
    assert_eq!(message.attributes.peer, None);
    assert_eq!(message.peers().count(), 0);
    assert!(message.attributes.unknown().is_empty());
    assert!(message.verify(&key), "and they do not spoil what stands before them");
}

#[test]
fn the_first_of_two_equal_attributes_counts() {
    let mut buffer = [0; 256];
    let len = Writer::new(&mut buffer, Class::Indication, Method::Send, TRANSACTION)
        .address(attr::XOR_PEER_ADDRESS, "203.0.113.1:1025".parse().unwrap())
        .address(attr::XOR_PEER_ADDRESS, "127.0.0.1:53".parse().unwrap())
        .attribute(attr::DATA, b"one")
        .attribute(attr::DATA, b"two!")
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.attributes.peer, Some("203.0.113.1:1025".parse().unwrap()));
    let (at, size) = message.attributes.data.unwrap();
    assert_eq!(&buffer[at..at + size], b"one");
    assert_eq!(message.peers().count(), 2, "CreatePermission looks at them all");
}

#[test]
fn an_integrity_of_any_other_length_than_20_never_verifies() {
    let key: LongTermKey = [7; 16];
    for len in [0_usize, 1, 16, 19, 21, 32] {
        let mut buffer = [0; 256];
        let end = Writer::new(&mut buffer, Class::Request, Method::Allocate, TRANSACTION)
            .attribute(attr::MESSAGE_INTEGRITY, &vec![0; len])
            .finish()
            .unwrap();
        let message = Message::parse(&buffer[..end]).unwrap();
        assert_eq!(message.attributes.integrity.map(<[u8]>::len), Some(len));
        assert!(!message.verify(&key), "{len}");
    }
}

#[test]
fn padding_is_zero_whatever_the_buffer_held() {
    for value in [&b"a"[..], b"ab", b"abc", b"abcd"] {
        let mut buffer = [0xaa; 64];
        let len = Writer::new(&mut buffer, Class::Error, Method::Allocate, TRANSACTION)
            .attribute(attr::REALM, value)
            .finish()
            .unwrap();
        assert_eq!(len, 28);
        assert!(buffer[24 + value.len()..28].iter().all(|b| *b == 0));
    }
}

#[test]
fn bytes_that_are_no_message_say_why() {
    let good = bytes(RESPONSE_V4);
    assert_eq!(Message::parse(&[]).unwrap_err(), StunError::Truncated);
    assert_eq!(Message::parse(&good[..19]).unwrap_err(), StunError::Truncated);
    assert_eq!(Message::parse(&good[..40]).unwrap_err(), StunError::Length);
    let with = |at: usize, byte: u8| {
        let mut copy = good.clone();
        copy[at] = byte;
        Message::parse(&copy).map(|_| ())
    };
    assert_eq!(with(0, 0x41), Err(StunError::NotStun));
    assert_eq!(with(4, 0x20), Err(StunError::NotStun));
    assert_eq!(with(3, 0x3d), Err(StunError::Length));
    assert_eq!(with(22, 0xff), Err(StunError::Attribute));
    let mut long = good.clone();
    long.extend_from_slice(&[0; 4]);
    assert_eq!(Message::parse(&long).map(|_| ()), Err(StunError::Length));
}

#[test]
fn a_fingerprint_that_is_not_last_is_refused() {
    let mut buffer = [0; 64];
    let len = Writer::new(&mut buffer, Class::Request, Method::Binding, TRANSACTION)
        .fingerprint()
        .attribute(attr::REALM, b"a")
        .finish()
        .unwrap();
    assert_eq!(Message::parse(&buffer[..len]).map(|_| ()), Err(StunError::Fingerprint));
}

#[test]
fn a_message_that_does_not_fit_is_not_written() {
    for size in 0..64 {
        let mut buffer = vec![0; size];
        let written = Writer::new(&mut buffer, Class::Error, Method::Allocate, TRANSACTION)
            .error_code(401)
            .attribute(attr::REALM, b"tndm")
            .attribute(attr::NONCE, &[b'n'; 24])
            .finish();
        assert_eq!(written, Err(StunError::Space), "{size}");
    }
}

#[test]
fn channel_data_is_as_long_as_it_says() {
    assert_eq!(channel_data(&[0x40, 1, 0, 2, 7, 7]), Some((0x4001, 2)));
    assert_eq!(channel_data(&[0x40, 1, 0, 2, 7, 7, 0, 0]), Some((0x4001, 2)), "padded");
    assert_eq!(channel_data(&[0x40, 1, 0, 3, 7, 7]), None);
    assert_eq!(channel_data(&[0x40, 1, 0]), None);
    assert_eq!(channel_data(&[0x40, 1, 0, 0]), Some((0x4001, 0)));
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(SocketAddr::from),
    ]
}

proptest! {
    #[test]
    fn class_and_method_survive_their_16_bits(bits in 0_u16..0x4000) {
        let (class, method) = split_type(bits);
        prop_assert_eq!(join_type(class, method), bits);
    }

    #[test]
    fn what_is_written_is_what_is_read(
        transaction: TransactionId,
        username in prop::collection::vec(any::<u8>(), 0..60),
        nonce in prop::collection::vec(any::<u8>(), 0..40),
        lifetime: u32,
        channel: u16,
        peers in prop::collection::vec(any_address(), 0..4),
        data in prop::collection::vec(any::<u8>(), 0..200),
        key: LongTermKey,
        fingerprint: bool,
    ) {
        let mut buffer = [0xaa; 600];
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::ChannelBind, transaction)
            .attribute(attr::USERNAME, &username)
            .attribute(attr::NONCE, &nonce)
            .attribute(attr::LIFETIME, &lifetime.to_be_bytes())
            .attribute(attr::CHANNEL_NUMBER, &[channel.to_be_bytes(), [0, 0]].concat());
        for peer in &peers {
            writer = writer.address(attr::XOR_PEER_ADDRESS, *peer);
        }
        writer = writer.attribute(attr::DATA, &data).integrity(&key);
        let len = if fingerprint { writer.fingerprint() } else { writer }.finish().unwrap();
        let message = Message::parse(&buffer[..len]).unwrap();
        let a = message.attributes;
        prop_assert_eq!((message.class, message.method, message.transaction), (Class::Request, Method::ChannelBind, transaction));
        prop_assert_eq!((a.username, a.nonce, a.lifetime, a.channel), (Some(&username[..]), Some(&nonce[..]), Some(lifetime), Some(channel)));
        prop_assert_eq!(message.peers().collect::<Vec<_>>(), peers);
        let (at, size) = a.data.unwrap();
        prop_assert_eq!(&buffer[at..at + size], &data[..]);
        prop_assert_eq!(a.fingerprint, fingerprint);
        prop_assert!(message.verify(&key));
    }

    #[test]
    fn a_changed_bit_before_the_integrity_is_noticed(bit in 0_usize..(20 + 8 + 12) * 8) {
        let key: LongTermKey = [7; 16];
        let mut buffer = [0; 128];
        let len = Writer::new(&mut buffer, Class::Request, Method::Refresh, TRANSACTION)
            .attribute(attr::LIFETIME, &600_u32.to_be_bytes())
            .address(attr::XOR_PEER_ADDRESS, "203.0.113.1:1025".parse().unwrap())
            .integrity(&key)
            .finish()
            .unwrap();
        buffer[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!Message::parse(&buffer[..len]).is_ok_and(|message| message.verify(&key)));
    }

    #[test]
    fn no_bytes_panic_the_reader(mut packet in prop::collection::vec(any::<u8>(), 0..200), shape: bool) {
        // Half of them look like STUN, so that the walk over the attributes is reached.
        if shape && packet.len() >= HEADER_LEN {
            packet.truncate(packet.len() / 4 * 4);
            packet[0] &= 0x3f;
            let body = u16::try_from(packet.len() - HEADER_LEN).unwrap();
            packet[2..4].copy_from_slice(&body.to_be_bytes());
            packet[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        }
        if let Ok(message) = Message::parse(&packet) {
            let _ = message.peers().count();
            let _ = message.verify(&[0; 16]);
        }
        let _ = channel_data(&packet);
    }
}
