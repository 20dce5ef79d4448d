//! Nonces that need no memory: a time, and a tag over it and the source address.
//!
//! Decides their form: 24 characters = base64(4 B seconds ‖ 14 B of HMAC-SHA256(key, seconds ‖ address ‖ port)). Leaves
//! the key to the config (one per PoP, so that a dead relay's nonce verifies on its successor).
//!
//! A nonce is good for 24 h: some stock clients never recover from a 438 (research/interop.md).

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::redact::{ClientAddr, Secret};
use crate::ticket::{CLOCKS_APART, derive};
use crate::units::{Span, Wall};

/// How many characters a nonce has.
pub const NONCE_LEN: usize = 24;
/// How long a nonce is good for.
pub const NONCE_LIFE: Span = Span::from_secs(24 * 3_600);

const TIME_LEN: usize = 4;
const TAG_LEN: usize = 14;

/// Makes and checks nonces.
#[derive(Clone)]
pub struct NonceKey(Hmac<Sha256>);

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey")
    }
}

/// A nonce that was not made by this PoP for this address, or not lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the nonce is stale")]
pub struct Stale;

impl NonceKey {
    /// From the PoP's secret.
    #[must_use]
    pub fn new(pop_secret: &Secret) -> Option<Self> {
        Hmac::<Sha256>::new_from_slice(&derive(pop_secret, b"tandem nonce v1")).ok().map(Self)
    }

    /// A nonce for `client`, as of `now`.
    #[must_use]
    pub fn mint(&self, client: ClientAddr, now: Wall) -> [u8; NONCE_LEN] {
        let time = u32::try_from(now.as_secs()).unwrap_or(u32::MAX).to_be_bytes();
        let mut bytes = [0_u8; TIME_LEN + TAG_LEN];
        let tag = self.tag(client, time).finalize().into_bytes();
        bytes.iter_mut().zip(time.into_iter().chain(tag)).for_each(|(to, from)| *to = from);
        let mut text = [0; NONCE_LEN];
        // 18 bytes are 24 characters exactly: this cannot fail.
        let _ = STANDARD.encode_slice(bytes, &mut text);
        text
    }

    /// Checks a nonce that `client` sent. The tag is compared in constant time.
    ///
    /// # Errors
    /// [`Stale`], whatever is wrong with it: the client's way out is the same.
    pub fn check(&self, nonce: &[u8], client: ClientAddr, now: Wall) -> Result<(), Stale> {
        let mut bytes = [0_u8; TIME_LEN + TAG_LEN];
        if nonce.len() != NONCE_LEN || STANDARD.decode_slice(nonce, &mut bytes).is_err() {
            return Err(Stale);
        }
        let (time, tag) = bytes.split_first_chunk::<TIME_LEN>().ok_or(Stale)?;
        let made = Wall::from_secs(u64::from(u32::from_be_bytes(*time)));
        if made.since(now) > CLOCKS_APART || now.since(made) > NONCE_LIFE {
            return Err(Stale);
        }
        self.tag(client, *time).verify_truncated_left(tag).map_err(|_| Stale)
    }

    fn tag(&self, client: ClientAddr, time: [u8; TIME_LEN]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&time);
        mac.update(&client.key());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> NonceKey {
        NonceKey::new(&Secret::new(vec![3; 32])).unwrap()
    }

    fn client(port: u16) -> ClientAddr {
        ClientAddr::new(([192, 0, 2, 1], port).into())
    }

    const NOW: Wall = Wall::from_secs(0x6925_0000);

    #[test]
    fn a_nonce_is_good_for_its_own_address_only() {
        let nonce = key().mint(client(1), NOW);
        assert_eq!(key().check(&nonce, client(1), NOW), Ok(()));
        assert_eq!(key().check(&nonce, client(2), NOW), Err(Stale));
        let other = NonceKey::new(&Secret::new(vec![4; 32])).unwrap();
        assert_eq!(other.check(&nonce, client(1), NOW), Err(Stale));
    }

    #[test]
    fn a_nonce_lives_a_day_and_may_be_an_hour_early() {
        let nonce = key().mint(client(1), NOW);
        let at = |secs: i64| Wall::from_secs(NOW.as_secs().saturating_add_signed(secs));
        for (secs, good) in [(24 * 3600, true), (24 * 3600 + 1, false), (-3_600, true), (-3_601, false)] {
            assert_eq!(key().check(&nonce, client(1), at(secs)).is_ok(), good, "{secs}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_nonce_is_stale(at in 0..NONCE_LEN, to: u8) {
            let mut nonce = key().mint(client(1), NOW);
            prop_assume!(nonce[at] != to);
            nonce[at] = to;
            prop_assert_eq!(key().check(&nonce, client(1), NOW), Err(Stale));
        }

        #[test]
        fn no_bytes_panic_the_check(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(key().check(&bytes, client(1), NOW), Err(Stale));
        }
    }
}
