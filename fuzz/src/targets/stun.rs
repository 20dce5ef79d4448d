//! The STUN codec: bytes as they come, and messages that were written from a script.
//!
//! What must hold: nothing panics; what is read lies inside the datagram; a message that was written and signed is read
//! as it was written, whatever stands behind its signature; a signed message with one bit changed proves nothing.

use tandem_wire::id::VirtualAddr;
use tandem_wire::stun::{
    Attributes, CHANNEL_HEADER_LEN, Class, Message, Method, Writer, attr, channel_data, data_header,
};
use tandem_wire::ticket::LongTermKey;

use crate::script::Script;

const KEY: LongTermKey = *b"a key of stun's.";
const OTHER_KEY: LongTermKey = *b"not that one key";
/// Longer than a datagram that we take in.
const BUFFER_LEN: usize = 2_048;
/// Attributes with rules of their own; the rest come by number.
const KINDS: &[u16] = &[
    attr::USERNAME,
    attr::REALM,
    attr::NONCE,
    attr::LIFETIME,
    attr::CHANNEL_NUMBER,
    attr::REQUESTED_TRANSPORT,
    attr::REQUESTED_ADDRESS_FAMILY,
    attr::EVEN_PORT,
    attr::RESERVATION_TOKEN,
    attr::DONT_FRAGMENT,
    attr::XOR_PEER_ADDRESS,
    attr::DATA,
];

/// Runs the target.
pub fn run(data: &[u8]) {
    received(data);
    written(Script::new(data));
    indicated(Script::new(data));
}

/// Bytes as they come from the network.
fn received(data: &[u8]) {
    if let Some((_, len)) = channel_data(data) {
        assert!(CHANNEL_HEADER_LEN + len <= data.len(), "ChannelData reaches over its datagram");
    }
    let Ok(message) = Message::parse(data) else { return };
    let a = &message.attributes;
    assert_eq!(a.peer, message.peers().next(), "the peer that is checked is the peer that is used");
    if let Some((at, len)) = a.data {
        assert!(data.get(at..at + len).is_some(), "DATA reaches over its datagram");
    }
    assert!(message.peers().count() <= data.len() / 12, "more peers than there is room for");
    // Nothing that comes from a fuzzer was made with this key.
    assert!(!message.verify(&OTHER_KEY), "a signature out of nothing");
}

/// A message written from a script, read back.
fn written(mut script: Script<'_>) {
    let method = Method::from_bits(script.word() & 0x0fff);
    let class = script.pick(Class::Request, &[Class::Indication, Class::Success, Class::Error]);
    let (transaction, flip, behind) = (script.array(), script.word(), script.byte() % 4);
    let body = script;

    let mut buffer = [0xaa; BUFFER_LEN];
    let Some(signed) = write(&mut buffer, class, method, transaction, body, 0) else {
        return;
    };
    // A message whose attributes have the wrong sizes for their types is refused: that is all right.
    let Some(message) = buffer.get(..signed).and_then(|bytes| Message::parse(bytes).ok()) else {
        return;
    };
    assert_eq!((message.class, message.method, message.transaction), (class, method, transaction));
    assert!(message.attributes.fingerprint && message.verify(&KEY) && !message.verify(&OTHER_KEY));

    // Whatever is put behind the signature has no effect (attack R15).
    let mut longer = [0xaa; BUFFER_LEN];
    let extended = write(&mut longer, class, method, transaction, body, behind);
    if let Some(extended) = extended.and_then(|len| longer.get(..len)).and_then(|bytes| Message::parse(bytes).ok()) {
        assert!(extended.verify(&KEY), "the signature covers what stands before it");
        assert_eq!(said(&message.attributes), said(&extended.attributes), "something behind the signature counts");
    }

    // One bit changed before the end of the signature (the FINGERPRINT behind it is eight bytes).
    let Some(mut changed) = buffer.get(..signed).map(<[u8]>::to_vec) else {
        return;
    };
    let at = usize::from(flip >> 3) % (signed - 8);
    if let Some(byte) = changed.get_mut(at) {
        *byte ^= 1 << (flip & 7);
    }
    let proves = Message::parse(&changed).is_ok_and(|message| message.verify(&KEY));
    assert!(!proves, "a message with a changed bit proves itself");
}

/// What of the attributes anybody acts on.
fn said<'a>(a: &Attributes<'a>) -> impl PartialEq + core::fmt::Debug + use<'a> {
    let texts = (a.username, a.realm, a.nonce);
    let numbers = (a.lifetime, a.channel, a.transport, a.family, a.even_port, a.reservation_token);
    (texts, numbers, a.peer, a.data, a.unknown().to_vec())
}

/// Writes the script's attributes, MESSAGE-INTEGRITY, `behind` attributes that must not count, and FINGERPRINT.
fn write(
    buffer: &mut [u8],
    class: Class,
    method: Method,
    transaction: [u8; 12],
    mut body: Script<'_>,
    behind: u8,
) -> Option<usize> {
    let mut writer = Writer::new(buffer, class, method, transaction);
    while !body.is_empty() {
        let kind = match body.byte() {
            by_number @ 0xf0.. => u16::from_be_bytes([by_number & 0x81, body.byte()]),
            index => KINDS.get(usize::from(index) % KINDS.len()).copied()?,
        };
        let len = usize::from(body.byte() % 24);
        let value = body.bytes(len);
        // These three are put in by the writer itself.
        if ![attr::MESSAGE_INTEGRITY, attr::MESSAGE_INTEGRITY_SHA256, attr::FINGERPRINT].contains(&kind) {
            writer = writer.attribute(kind, value);
        }
    }
    writer = writer.integrity(&KEY);
    for kind in [attr::LIFETIME, attr::CHANNEL_NUMBER, attr::MESSAGE_INTEGRITY].into_iter().take(usize::from(behind)) {
        writer = writer.attribute(kind, &[0x70, 0, 0, 0]);
    }
    writer.fingerprint().finish().ok()
}

/// The head of a Data indication is the head of a message that reads back.
fn indicated(mut script: Script<'_>) {
    let (port, octet) = (script.word(), script.byte());
    let peer = VirtualAddr { octet, port };
    let transaction = script.array();
    let payload = script.bytes(1_200);
    let Some(header) = data_header(peer, transaction, payload.len()) else {
        return;
    };
    let mut datagram = [&header[..], payload].concat();
    let start = header.len();
    datagram.resize(datagram.len().next_multiple_of(4), 0);
    let read = Message::parse(&datagram).map(|message| (message.attributes.peer, message.attributes.data));
    assert_eq!(read, Ok((Some(peer.socket_addr().into()), Some((start, payload.len())))));
}
