//! Heads of the tunnel and probes: bytes as they come, and heads that were written from a script.
//!
//! What must hold: nothing panics; what reads as a head is written again byte for byte; what was written reads as it was; a
//! probe keeps what it carries; a head of ours is never taken for a client's packet.

use std::net::SocketAddr;

use tandem_wire::id::BucketId;
use tandem_wire::redact::ClientAddr;
use tandem_wire::stun::Message;
use tandem_wire::tunnel::{Cookie, HEAD_LEN, Head, PROBE_LEN, Probe};

use crate::script::Script;

/// Runs the target.
pub fn run(data: &[u8]) {
    received(data);
    written(Script::new(data));
}

/// Bytes as they come from the network.
fn received(data: &[u8]) {
    if let Ok((head, rest)) = Head::read(data) {
        assert_eq!(rest.len() + HEAD_LEN, data.len(), "what stands behind a head is the rest");
        assert_eq!(data.get(..HEAD_LEN), Some(&head.to_bytes()[..]), "a head has two spellings");
        // RFC 7983: STUN and ChannelData begin otherwise.
        assert!(!matches!(data.first(), Some(0..=3 | 64..=127)) && Message::parse(data).is_err(), "a client's packet");
        let said = format!("{head:?}");
        assert!(said.contains("cookie[…]"), "a cookie prints itself");
    }
    if let Some(probe) = Probe::read(data) {
        // The last six bytes are for later versions.
        let known = PROBE_LEN - 6;
        assert_eq!(data.get(..known), probe.to_bytes().get(..known), "a probe has two spellings");
    }
}

/// A head made of a script, and a packet behind it.
fn written(mut script: Script<'_>) {
    let flags = script.byte();
    let has = |bit: u8| flags >> bit & 1 == 1;
    let address = match script.byte() % 2 {
        0 => SocketAddr::from((script.array::<4>(), script.word())),
        _ => SocketAddr::from((script.array::<16>(), script.word())),
    };
    let (client, bucket) = (ClientAddr::new(address), BucketId(script.word()));
    let cookie = Cookie::from_bits(u64::from_be_bytes(script.array()));
    let head = Head {
        back: has(0),
        acting: has(1),
        tcp: has(2),
        probe: has(3),
        leaving: has(4),
        proven: has(5),
        down: has(6),
        listener: script.byte(),
        hops: script.byte(),
        ..Head::to_relay(client, bucket, u32::from_be_bytes(script.array()), cookie)
    };
    let packet = script.bytes(usize::MAX);
    let bytes = [&head.to_bytes()[..], packet].concat();
    assert_eq!(Head::read(&bytes), Ok((head, packet)), "a head reads otherwise than it was written");
    for len in 0..HEAD_LEN {
        assert!(bytes.get(..len).is_some_and(|short| Head::read(short).is_err()), "half a head");
    }
    let stamp = u64::from_be_bytes(Script::new(packet).array());
    let probe = Probe { stamp, incarnation: stamp.rotate_left(17), load: head.bucket.0 };
    assert_eq!(Probe::read(&probe.to_bytes()), Some(probe), "a probe reads otherwise than it was written");
}
