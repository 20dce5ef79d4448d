//! Tickets: the TURN user name and password that let one leg into one call, and prove it without a look-up.
//!
//! Decides what stands in a user name, how a relay reads it and how the password follows from it (the TURN REST
//! convention, draft-uberti-behave-turn-rest: any TURN client can use it). Leaves choosing keys and lives to
//! signaling, and what an expired ticket still allows to `tandem-core`.
//!
//! ```text
//! username   = v1<kid> . <expiry, 8 hex digits of seconds> . <bucket, 4 hex digits> . <26 digits>
//! 26 digits  = AES-128(call's 96 random bits ‖ leg ‖ PoP), in Crockford base32
//! credential = base64(HMAC-SHA1(key[kid], username))
//! ```
//!
//! The bucket is in clear so that a load balancer steers by it; nobody on the wire can tell which legs share a call.

use core::fmt;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::Sha256;

use crate::id::{BucketId, CallId, LegId, PopId};
use crate::redact::Secret;
use crate::units::{Span, Wall};

/// A relay holds up to this many keys: the one that signs, those that still verify, and one that is being brought in.
pub const KEYS_MAX: usize = 8;
/// Length of every user name: `v1` kid `.` 8 `.` 4 `.` 26.
pub const USERNAME_LEN: usize = 44;
/// The longest life of a ticket: that of a call.
pub const LIFE_MAX: Span = Span::from_secs(24 * 3_600);
/// How far apart the wall clocks of who gives tickets and who takes them may be. A ticket is given for a whole [`LIFE_MAX`]: a
/// relay whose clock is behind by a second would take none at all.
pub const CLOCKS_APART: Span = Span::from_secs(3_600);
/// A secret is at least this long (attack R27).
pub const SECRET_LEN_MIN: usize = 32;

const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SEALED_DIGITS: usize = 26;

/// Why a user name is no ticket of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not look like one.
    #[error("not a ticket")]
    Malformed,
    /// It names a key that we do not hold.
    #[error("the ticket names an unknown key")]
    UnknownKey,
    /// It decrypts to no leg, or to another PoP's call.
    #[error("the ticket is not for this PoP")]
    Foreign,
    /// It claims to live longer than any ticket does.
    #[error("the ticket claims too long a life")]
    TooLong,
    /// Its time is over.
    #[error("the ticket has expired")]
    Expired,
}

/// What a ticket says. It is worth nothing until the message that carried it has proved to know the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The call.
    pub call: CallId,
    /// The leg.
    pub leg: LegId,
    /// Until when it opens something new.
    pub expiry: Wall,
}

impl Ticket {
    /// Whether this ticket opens something new at `now`.
    ///
    /// # Errors
    /// [`TicketError::Expired`], or [`TicketError::TooLong`] for an expiry further off than [`LIFE_MAX`] and
    /// [`CLOCKS_APART`]: such a one was not made by us (attack R26).
    pub fn check_expiry(&self, now: Wall) -> Result<(), TicketError> {
        if self.expiry <= now {
            return Err(TicketError::Expired);
        }
        if self.expiry.since(now.after(CLOCKS_APART)) > LIFE_MAX { Err(TicketError::TooLong) } else { Ok(()) }
    }
}

/// The password of a user name, printed nowhere.
pub type Credential = zeroize::Zeroizing<String>;
/// MD5(username ‖ ":" ‖ realm ‖ ":" ‖ password): the key of MESSAGE-INTEGRITY (RFC 8489 section 9.2.2).
pub type LongTermKey = [u8; 16];

/// One key: signs or verifies. Made once from its secret, so that a ticket costs two SHA-1 blocks and one AES block.
#[derive(Clone)]
pub struct TicketKey {
    kid: u8,
    mac: Hmac<Sha1>,
    cipher: Aes128,
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey {{ kid: {} }}", self.kid)
    }
}

/// Why a key cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key id is one digit, 0..=7.
    #[error("a ticket key id is 0 to 7")]
    Id,
    /// Two keys have this id.
    #[error("two ticket keys have the same id")]
    Duplicate,
    /// Shorter than [`SECRET_LEN_MIN`].
    #[error("a ticket key has at least 32 bytes")]
    Short,
    /// A relay without keys would refuse everyone.
    #[error("at least one ticket key is needed")]
    None,
}

impl TicketKey {
    /// Makes key `kid` (0..=7) from `secret` (at least 32 bytes).
    ///
    /// # Errors
    /// [`KeyError::Id`] or [`KeyError::Short`].
    pub fn new(kid: u8, secret: &Secret) -> Result<Self, KeyError> {
        if usize::from(kid) >= KEYS_MAX {
            return Err(KeyError::Id);
        }
        if secret.expose().len() < SECRET_LEN_MIN {
            return Err(KeyError::Short);
        }
        let mac = Hmac::<Sha1>::new_from_slice(secret.expose()).map_err(|_| KeyError::Short)?;
        // One secret, two uses: the AES key is derived, so that neither use says anything about the other.
        let derived = derive(secret, b"tandem ticket aes v1");
        let (aes_key, _) = derived.split_first_chunk::<16>().ok_or(KeyError::Short)?;
        Ok(Self { kid, mac, cipher: Aes128::new(&Array(*aes_key)) })
    }

    /// Mints the user name for `leg` of `call`, good until `expiry` (whole seconds).
    #[must_use]
    pub fn mint(&self, call: CallId, leg: LegId, expiry: Wall) -> String {
        let mut plain = [0_u8; 16];
        let parts = call.random_bytes().into_iter().chain(leg.get().to_be_bytes()).chain(call.pop().0.to_be_bytes());
        for (to, from) in plain.iter_mut().zip(parts) {
            *to = from;
        }
        let mut block = Array(plain);
        self.cipher.encrypt_block(&mut block);
        let bits = u128::from_be_bytes(block.0);
        let expiry = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
        let mut name = format!("v1{}.{expiry:08x}.{:04x}.", self.kid, call.bucket().0);
        for group in (0..SEALED_DIGITS).rev() {
            let index = ((bits >> (group * 5)) & 31) as usize;
            name.push(char::from(CROCKFORD.get(index).copied().unwrap_or(b'0')));
        }
        name
    }

    /// The password that goes with `username`: derived, never stored.
    #[must_use]
    pub fn credential(&self, username: &str) -> Credential {
        Credential::new(STANDARD.encode(self.sign(username.as_bytes())))
    }

    fn sign(&self, username: &[u8]) -> [u8; 20] {
        let mut mac = self.mac.clone();
        mac.update(username);
        mac.finalize().into_bytes().0
    }
}

/// Derives 32 bytes for `purpose` from a secret: HMAC-SHA256(secret, purpose).
#[must_use]
pub fn derive(secret: &Secret, purpose: &[u8]) -> [u8; 32] {
    match Hmac::<Sha256>::new_from_slice(secret.expose()) {
        Ok(mut mac) => {
            mac.update(purpose);
            mac.finalize().into_bytes().0
        }
        // HMAC takes keys of every length (RFC 2104): this arm is only there because the type says so.
        Err(_) => [0; 32],
    }
}

/// The keys that a relay verifies with, by their id.
#[derive(Debug, Clone)]
pub struct TicketKeys {
    pop: PopId,
    keys: [Option<TicketKey>; KEYS_MAX],
}

impl TicketKeys {
    /// Puts up to 8 keys together, for tickets of `pop`.
    ///
    /// # Errors
    /// The [`KeyError`] of the first key that cannot stand.
    pub fn new<'a>(pop: PopId, secrets: impl IntoIterator<Item = (u8, &'a Secret)>) -> Result<Self, KeyError> {
        let mut keys = [const { None }; KEYS_MAX];
        for (kid, secret) in secrets {
            let slot = keys.get_mut(usize::from(kid)).ok_or(KeyError::Id)?;
            if slot.replace(TicketKey::new(kid, secret)?).is_some() {
                return Err(KeyError::Duplicate);
            }
        }
        if keys.iter().all(Option::is_none) { Err(KeyError::None) } else { Ok(Self { pop, keys }) }
    }

    /// Reads a user name and computes the key that proves it. Nothing is proved yet: check the message's
    /// integrity with the key, and the ticket's expiry where it matters.
    ///
    /// # Errors
    /// [`TicketError`]; expiry is not looked at here.
    pub fn open(&self, username: &[u8], realm: &str) -> Result<(Ticket, LongTermKey), TicketError> {
        let parts = Parts::split(username)?;
        let key = self.keys.get(usize::from(parts.kid)).and_then(Option::as_ref).ok_or(TicketError::UnknownKey)?;
        let mut block = Array(parts.sealed.to_be_bytes());
        key.cipher.decrypt_block(&mut block);
        // 96 bits of the call, 16 of the leg, 16 of the PoP.
        let plain = u128::from_be_bytes(block.0);
        let pop = PopId((plain & 0xffff) as u16);
        let leg = LegId::new(((plain >> 16) & 0xffff) as u16).map_err(|_| TicketError::Foreign)?;
        if pop != self.pop {
            return Err(TicketError::Foreign);
        }
        let call = CallId::new(pop, parts.bucket, plain >> 32);
        let mut password = [0_u8; 28];
        let encoded = STANDARD.encode_slice(key.sign(username), &mut password).map_err(|_| TicketError::Malformed)?;
        let long_term =
            long_term_key(username, realm.as_bytes(), password.get(..encoded).ok_or(TicketError::Malformed)?);
        Ok((Ticket { call, leg, expiry: parts.expiry }, long_term))
    }
}

/// The bucket that stands in a user name: what a load balancer steers by. Reads and computes nothing secret, and proves
/// nothing: whoever has seen one ticket can write another with the same bucket.
///
/// # Errors
/// [`TicketError::Malformed`], for exactly those that [`TicketKeys::open`] says this of.
pub fn bucket_of(username: &[u8]) -> Result<BucketId, TicketError> {
    Parts::split(username).map(|parts| parts.bucket)
}

/// MD5(username ‖ ":" ‖ realm ‖ ":" ‖ password) (RFC 8489 section 9.2.2).
#[must_use]
pub fn long_term_key(username: &[u8], realm: &[u8], password: &[u8]) -> LongTermKey {
    let mut md5 = Md5::new();
    for part in [username, b":", realm, b":", password] {
        md5.update(part);
    }
    md5.finalize().0
}

struct Parts {
    kid: u8,
    expiry: Wall,
    bucket: BucketId,
    sealed: u128,
}

impl Parts {
    fn split(username: &[u8]) -> Result<Self, TicketError> {
        let [b'v', b'1', kid @ b'0'..=b'7', b'.', rest @ ..] = username else { return Err(TicketError::Malformed) };
        let (expiry, rest) = rest.split_first_chunk::<8>().ok_or(TicketError::Malformed)?;
        let [b'.', rest @ ..] = rest else { return Err(TicketError::Malformed) };
        let (bucket, rest) = rest.split_first_chunk::<4>().ok_or(TicketError::Malformed)?;
        let [b'.', sealed @ ..] = rest else { return Err(TicketError::Malformed) };
        if sealed.len() != SEALED_DIGITS {
            return Err(TicketError::Malformed);
        }
        let mut bits = 0_u128;
        for (position, digit) in sealed.iter().enumerate() {
            let value = CROCKFORD.iter().position(|d| d == digit).ok_or(TicketError::Malformed)?;
            if position == 0 && value > 7 {
                return Err(TicketError::Malformed);
            }
            bits = (bits << 5) | value as u128;
        }
        let bucket = u16::try_from(hex(bucket)?).map_err(|_| TicketError::Malformed)?;
        Ok(Self { kid: kid - b'0', expiry: Wall::from_secs(hex(expiry)?), bucket: BucketId(bucket), sealed: bits })
    }
}

/// Lower-case hexadecimal only: one ticket has one spelling.
fn hex(digits: &[u8]) -> Result<u64, TicketError> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(TicketError::Malformed),
        };
        Ok((value << 4) | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POP: PopId = PopId(1);

    fn secret(byte: u8) -> Secret {
        Secret::new(vec![byte; 32])
    }

    fn call() -> CallId {
        CallId::new(POP, BucketId(0x0abc), 0xfeed_0000_beef)
    }

    fn leg(n: u16) -> LegId {
        LegId::new(n).unwrap()
    }

    fn keys() -> TicketKeys {
        TicketKeys::new(POP, [(0, &secret(7)), (5, &secret(9))]).unwrap()
    }

    #[test]
    fn a_ticket_has_these_golden_characters() {
        let key = TicketKey::new(5, &secret(9)).unwrap();
        let name = key.mint(call(), leg(2), Wall::from_secs(0x6925_0000));
        assert_eq!(name, GOLDEN_USERNAME);
        assert_eq!(*key.credential(&name), GOLDEN_CREDENTIAL);
        assert_eq!(name.len(), USERNAME_LEN);
    }
    /// Computed with another implementation (Python's hmac, openssl's AES).
    const GOLDEN_USERNAME: &str = "v15.69250000.0abc.61ar0c1zw33sbacmy1xpdgj5mc";
    const GOLDEN_CREDENTIAL: &str = "LTTsIkcQyv08rYXiPkxgD3ROUHI=";

    #[test]
    fn two_legs_of_one_call_share_nothing_but_the_bucket() {
        let key = TicketKey::new(0, &secret(7)).unwrap();
        let one = key.mint(call(), leg(1), Wall::from_secs(0x6925_0000));
        let two = key.mint(call(), leg(2), Wall::from_secs(0x6925_0000));
        assert_eq!(one[..18], two[..18]);
        let same = one[18..].bytes().zip(two[18..].bytes()).filter(|(a, b)| a == b).count();
        assert!(same < 10, "{one} {two}");
    }

    #[test]
    fn a_ticket_of_another_region_is_foreign_and_one_of_another_key_unknown() {
        let name = TicketKey::new(0, &secret(7)).unwrap().mint(call(), leg(1), Wall::from_secs(9));
        let other_pop = TicketKeys::new(PopId(2), [(0, &secret(7))]).unwrap();
        assert_eq!(other_pop.open(name.as_bytes(), "tndm").unwrap_err(), TicketError::Foreign);
        let no_such_key = TicketKeys::new(POP, [(1, &secret(7))]).unwrap();
        assert_eq!(no_such_key.open(name.as_bytes(), "tndm").unwrap_err(), TicketError::UnknownKey);
    }

    #[test]
    fn a_ticket_under_the_wrong_secret_yields_another_password() {
        let name = TicketKey::new(0, &secret(7)).unwrap().mint(call(), leg(1), Wall::from_secs(9));
        let wrong = TicketKeys::new(POP, [(0, &secret(8))]).unwrap();
        // The AES key differs too, so that it does not even name the same leg, whatever it decrypts to.
        if let Ok((ticket, key)) = wrong.open(name.as_bytes(), "tndm") {
            assert_ne!((ticket.call, key), (call(), keys().open(name.as_bytes(), "tndm").unwrap().1));
        }
    }

    #[test]
    fn expiry_is_checked_at_both_ends() {
        let now = Wall::from_secs(1_000_000);
        let ticket = |expiry| Ticket { call: call(), leg: leg(1), expiry };
        assert_eq!(ticket(now).check_expiry(now), Err(TicketError::Expired));
        assert_eq!(ticket(now.after(Span::from_secs(1))).check_expiry(now), Ok(()));
        assert_eq!(ticket(now.after(LIFE_MAX)).check_expiry(now), Ok(()));
        // Given by somebody whose clock is ahead by an hour, and no more than that.
        assert_eq!(ticket(now.after(Span::from_secs(25 * 3600))).check_expiry(now), Ok(()));
        assert_eq!(ticket(now.after(Span::from_secs(25 * 3600 + 1))).check_expiry(now), Err(TicketError::TooLong));
    }

    #[test]
    fn keys_that_cannot_stand_are_refused() {
        assert_eq!(TicketKeys::new(POP, [(8, &secret(1))]).unwrap_err(), KeyError::Id);
        assert_eq!(TicketKeys::new(POP, [(1, &Secret::new(vec![1; 31]))]).unwrap_err(), KeyError::Short);
        assert_eq!(TicketKeys::new(POP, [(1, &secret(1)), (1, &secret(2))]).unwrap_err(), KeyError::Duplicate);
        assert_eq!(TicketKeys::new(POP, []).unwrap_err(), KeyError::None);
        assert!(!format!("{:?}", keys()).contains("secret"));
    }

    proptest! {
        #[test]
        fn what_was_minted_is_what_is_opened(random: u128, bucket: u16, n in 1..=LegId::MAX, expiry: u32) {
            let key = TicketKey::new(5, &secret(9)).unwrap();
            let call = CallId::new(POP, BucketId(bucket), random);
            let name = key.mint(call, leg(n), Wall::from_secs(u64::from(expiry)));
            let (ticket, long_term) = keys().open(name.as_bytes(), "tndm").unwrap();
            prop_assert_eq!(ticket, Ticket { call, leg: leg(n), expiry: Wall::from_secs(u64::from(expiry)) });
            let password = key.credential(&name);
            prop_assert_eq!(long_term, long_term_key(name.as_bytes(), b"tndm", password.as_bytes()));
        }

        #[test]
        fn a_changed_character_never_opens_as_the_same_ticket_with_the_same_key(at in 0..USERNAME_LEN, to: u8) {
            let name = TicketKey::new(5, &secret(9)).unwrap().mint(call(), leg(1), Wall::from_secs(0x6925_0000));
            let (ticket, key) = keys().open(name.as_bytes(), "tndm").unwrap();
            let mut forged = name.into_bytes();
            prop_assume!(forged[at] != to);
            forged[at] = to;
            if let Ok(opened) = keys().open(&forged, "tndm") {
                prop_assert_ne!(opened, (ticket, key));
            }
        }

        #[test]
        fn the_bucket_is_read_without_a_key_from_whatever_could_be_opened_and_from_nothing_else(
            bucket: u16,
            at in 0..USERNAME_LEN,
            to: u8,
            cut in 0..=USERNAME_LEN,
        ) {
            let call = CallId::new(POP, BucketId(bucket), 5);
            let mut name = TicketKey::new(5, &secret(9)).unwrap().mint(call, leg(1), Wall::from_secs(9)).into_bytes();
            prop_assert_eq!(bucket_of(&name), Ok(BucketId(bucket)));
            name[at] = to;
            let opened = keys().open(&name, "tndm").map(|(ticket, _)| ticket.call.bucket());
            match opened {
                Ok(opened) => prop_assert_eq!(bucket_of(&name), Ok(opened)),
                Err(error) => prop_assert_eq!(bucket_of(&name).is_err(), error == TicketError::Malformed),
            }
            if cut < USERNAME_LEN {
                prop_assert_eq!(bucket_of(&name[..cut]), Err(TicketError::Malformed));
            }
        }

        #[test]
        fn no_bytes_panic_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (keys().open(&bytes, "tndm"), bucket_of(&bytes));
        }
    }
}
