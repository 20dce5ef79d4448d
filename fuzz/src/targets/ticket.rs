//! Tickets and nonces: bytes as they come, and tickets that were minted from a script.
//!
//! What must hold: nothing panics; a ticket has one spelling; what is minted is read as it was minted, by its own PoP's
//! keys only; no bytes are a nonce but those that were minted for this address.

use core::net::SocketAddr;

use tandem_wire::id::{BucketId, CallId, LegId, PopId};
use tandem_wire::nonce::NonceKey;
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::ticket::{TicketKey, TicketKeys};
use tandem_wire::units::Wall;

use crate::script::Script;

const POP: PopId = PopId(1);
const ELSEWHERE: PopId = PopId(2);
const REALM: &str = "tndm";
const NOW: Wall = Wall::from_secs(1_764_000_000);

/// Runs the target.
pub fn run(data: &[u8]) {
    let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
    let other = Secret::new(b"another secret of thirty-two bytes".to_vec());
    let made = TicketKey::new(0, &secret)
        .and_then(|key| Ok((key, TicketKeys::new(POP, [(0, &secret)])?, TicketKeys::new(ELSEWHERE, [(0, &secret)])?)));
    assert!(made.is_ok(), "the keys of this target");
    let Ok((key, keys, foreign)) = made else { return };

    // As it comes: if it reads as a ticket, it is spelt as we spell it.
    if let Ok((ticket, _)) = keys.open(data, REALM) {
        assert_eq!(key.mint(ticket.call, ticket.leg, ticket.expiry).as_bytes(), data, "a ticket has two spellings");
        let _ = ticket.check_expiry(NOW);
    }

    // As we mint it, and with one bit changed.
    let mut script = Script::new(data);
    let bucket = BucketId(script.word());
    let call = CallId::new(POP, bucket, u128::from_be_bytes(script.array()));
    let Ok(leg) = LegId::new(1 + script.word() % LegId::MAX) else {
        return;
    };
    let expiry = Wall::from_secs(u64::from(u32::from_be_bytes(script.array())));
    let name = key.mint(call, leg, expiry);
    let read = keys.open(name.as_bytes(), REALM).map(|(ticket, key)| (ticket.call, ticket.leg, ticket.expiry, key));
    let password = key.credential(&name);
    let long_term = tandem_wire::ticket::long_term_key(name.as_bytes(), REALM.as_bytes(), password.as_bytes());
    assert_eq!(read, Ok((call, leg, expiry, long_term)), "a minted ticket reads otherwise");
    assert!(foreign.open(name.as_bytes(), REALM).is_err(), "a ticket opens another PoP");
    let mut changed = name.clone().into_bytes();
    let flip = usize::from(script.word());
    let at = (flip >> 3) % changed.len();
    if let Some(byte) = changed.get_mut(at) {
        *byte ^= 1 << (flip & 7);
    }
    if let Ok((_, forged)) = keys.open(&changed, REALM) {
        assert_ne!(forged, long_term, "two tickets with one password");
    }

    // Nonces.
    let client = ClientAddr::new(SocketAddr::from((script.array::<4>(), script.word())));
    let neighbour = ClientAddr::new(SocketAddr::from((script.array::<16>(), script.word())));
    let (Some(nonces), Some(strangers)) = (NonceKey::new(&secret), NonceKey::new(&other)) else {
        return;
    };
    let nonce = nonces.mint(client, NOW);
    assert!(nonces.check(&nonce, client, NOW).is_ok(), "a fresh nonce is stale");
    if neighbour.key() != client.key() {
        assert!(nonces.check(&nonce, neighbour, NOW).is_err(), "a nonce is good for another address");
    }
    assert!(strangers.check(&nonce, client, NOW).is_err(), "a nonce is good for another PoP");
    assert!(nonces.check(data, client, NOW).is_err() || data == nonce, "a nonce out of nothing");
}
