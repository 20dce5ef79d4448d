//! Tokens that are good, and every way in which one can be bad (attacks S13, S14).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"a secret of the tests that has 32 bytes and more";
const NOW: Wall = Wall::from_secs(1_800_000_000);

fn secret() -> Secret {
    Secret::new(SECRET.to_vec())
}

fn seed_key() -> TokenKey {
    TokenKey::ed25519_seed(&[7; 32])
}

fn public_key() -> [u8; 32] {
    ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes()
}

fn keys() -> TokenKeys {
    let keys = [("app", TokenKey::hs256(&secret()).unwrap()), ("edge", TokenKey::ed25519(&public_key()).unwrap())];
    TokenKeys::new(keys.map(|(id, key)| (id.to_owned(), key))).unwrap()
}

fn claims() -> Claims {
    Claims {
        party: Party { account: "alice".parse().unwrap(), device: "dev_1".parse().unwrap() },
        grant: Grant { call: true, admin: None },
        issued: Some(NOW.as_secs()),
        expires: NOW.after(Span::from_secs(3_600)),
    }
}

/// A token with this header and these claims, signed with HS256 and the secret, whatever the header says.
fn forged(header: &Value, claims: &Value) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(format!("{header}.{claims}").as_bytes());
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn good() -> Value {
    json!({
        "iss": "app", "sub": "alice", "dev": "dev_1", "exp": NOW.as_secs() + 60, "aud": "tandem", "tandem": { "call": true }
    })
}

fn header() -> Value {
    json!({ "typ": "JWT", "alg": "HS256" })
}

#[test]
fn a_token_of_either_algorithm_is_good_until_it_expires() {
    for (id, key) in [("app", TokenKey::hs256(&secret()).unwrap()), ("edge", seed_key())] {
        let token = key.mint(id, &claims()).unwrap();
        assert_eq!(keys().verify(&token, NOW), Ok(claims()));
        let last = Wall::from_secs(NOW.as_secs() + 3_599);
        assert!(keys().verify(&token, last).is_ok());
        assert_eq!(keys().verify(&token, last.after(Span::from_secs(1))), Err(TokenError::Expired));
    }
    assert_eq!(TokenKey::ed25519(&public_key()).unwrap().mint("edge", &claims()), None, "a public key signs nothing");
    assert!(keys().verify(&forged(&header(), &good()), NOW).is_ok(), "the control of what follows");
}

#[test]
fn a_token_that_was_found_good_is_judged_anew_at_every_moment() {
    let keys = keys();
    let mut early = good();
    early["nbf"] = json!(NOW.as_secs() - 10);
    let token = forged(&header(), &early);
    let at = |seconds: i64| keys.verify(&token, Wall::from_secs(NOW.as_secs().saturating_add_signed(seconds)));
    assert!(at(0).is_ok());
    assert_eq!([at(-11), at(60)], [Err(TokenError::Expired), Err(TokenError::Expired)]);
    assert_eq!(at(-7 * 3_600), Err(TokenError::Expired), "a clock that was set back");
    assert!(at(59).is_ok());
    // What looks like it is not it.
    let mut touched = token.clone();
    touched.pop();
    assert!(keys.verify(&touched, NOW).is_err());
    assert!(keys.verify(&format!("{token}="), NOW).is_err());
    assert_eq!(keys.verify(&forged(&header(), &good()), NOW).unwrap().issued, None);
}

#[test]
fn only_good_tokens_are_remembered_and_no_more_of_them_than_there_is_room_for() {
    let keys = keys();
    let remembered = || keys.good.lock().unwrap().len();
    let token = forged(&header(), &good());
    for n in 0..1_000 {
        assert!(keys.verify(&format!("{token}{n}"), NOW).is_err());
        assert!(keys.verify(&token.replace('.', &format!(".{n}")), NOW).is_err());
        let mut old = good();
        old["exp"] = json!(NOW.as_secs() - n);
        assert_eq!(keys.verify(&forged(&header(), &old), NOW), Err(TokenError::Expired));
    }
    assert_eq!(remembered(), 0);
    for n in 0..GOOD_TOKENS.get() + 10 {
        let mut claims = good();
        claims["dev"] = json!(format!("dev_{n}"));
        assert!(keys.verify(&forged(&header(), &claims), NOW).is_ok());
    }
    assert_eq!(remembered(), GOOD_TOKENS.get());
}

#[test]
fn a_token_that_claims_too_long_a_life_is_refused() {
    let mut long = claims();
    long.expires = NOW.after(LIFE_MAX).after(Span::from_secs(1));
    let token = TokenKey::hs256(&secret()).unwrap().mint("app", &long).unwrap();
    assert_eq!(keys().verify(&token, NOW), Err(TokenError::TooLong));
}

#[test]
fn a_token_is_good_though_the_clock_of_who_issued_it_is_ahead_by_a_minute() {
    let issued_at = |ahead: u64| {
        let mut token = claims();
        token.issued = Some(NOW.as_secs() + ahead);
        token.expires = NOW.after(Span::from_secs(ahead)).after(LIFE_MAX);
        keys().verify(&TokenKey::hs256(&secret()).unwrap().mint("app", &token).unwrap(), NOW).map(|_| ())
    };
    assert_eq!([0, 1, 60, 61].map(issued_at), [Ok(()), Ok(()), Ok(()), Err(TokenError::Expired)]);
    // Nor does it help to live for a short time: it would outlive the device's removal.
    let mut ahead = claims();
    ahead.issued = Some(NOW.as_secs() + 61);
    let token = TokenKey::hs256(&secret()).unwrap().mint("app", &ahead).unwrap();
    assert_eq!(keys().verify(&token, NOW), Err(TokenError::Expired));
    // Who says that it was issued earlier lives for as long as it says.
    let mut long = claims();
    long.issued = Some(NOW.as_secs() + 10);
    long.expires = NOW.after(LIFE_MAX).after(Span::from_secs(11));
    let token = TokenKey::hs256(&secret()).unwrap().mint("app", &long).unwrap();
    assert_eq!(keys().verify(&token, NOW), Err(TokenError::TooLong));
}

#[test]
fn every_claim_is_required_and_of_its_type() {
    for claim in ["iss", "sub", "dev", "exp", "aud", "tandem"] {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(claim);
        assert_eq!(keys().verify(&forged(&header(), &claims), NOW), Err(TokenError::Malformed), "without {claim}");
        for wrong in [json!(null), json!([]), json!(7.5), json!("9999999999"), json!({ "call": "yes" })] {
            if claim == "iss" && wrong.is_string() {
                continue;
            }
            let mut claims = good();
            claims[claim] = wrong.clone();
            let result = keys().verify(&forged(&header(), &claims), NOW);
            let as_account = claim == "sub" && wrong.is_string();
            assert!(result.is_err() || as_account, "{claim} = {wrong}");
        }
    }
    for claim in ["nbf", "iat"] {
        let mut claims = good();
        claims[claim] = json!("0");
        assert_eq!(keys().verify(&forged(&header(), &claims), NOW), Err(TokenError::Malformed), "{claim} as a string");
    }
    let mut claims = good();
    claims["nbf"] = json!(NOW.as_secs() + 1);
    assert_eq!(keys().verify(&forged(&header(), &claims), NOW), Err(TokenError::Expired));
    for (claim, wrong) in [("aud", "other"), ("iss", "nobody"), ("sub", "a/b"), ("dev", "../1")] {
        let mut claims = good();
        claims[claim] = json!(wrong);
        assert!(keys().verify(&forged(&header(), &claims), NOW).is_err(), "{claim} = {wrong}");
    }
}

#[test]
fn no_algorithm_is_taken_for_another() {
    let none = |alg: &str| {
        let [head, body] = [json!({ "alg": alg }), good()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{head}.{body}.")
    };
    for token in [none("none"), none("None"), none("HS256")] {
        assert!(keys().verify(&token, NOW).is_err());
    }
    // The public key as a shared secret, which anybody could know.
    let confused = TokenKey::hs256(&Secret::new(public_key().to_vec())).unwrap();
    let token = confused.mint("edge", &claims()).unwrap();
    assert_eq!(keys().verify(&token, NOW), Err(TokenError::Signature));
    // A key of one issuer, under another's name.
    let token = seed_key().mint("app", &claims()).unwrap();
    assert_eq!(keys().verify(&token, NOW), Err(TokenError::Signature));
    for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA", "none"] {
        let header = json!({ "typ": "JWT", "alg": alg, "jwk": { "kty": "oct", "k": "AAAA" }, "jku": "http://x", "kid": "../../dev/null" });
        assert!(keys().verify(&forged(&header, &good()), NOW).is_err(), "{alg}");
    }
}

#[test]
fn a_token_that_was_touched_anywhere_is_refused() {
    let token = TokenKey::hs256(&secret()).unwrap().mint("app", &claims()).unwrap();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let touched = String::from_utf8(bytes).unwrap();
        // The last character of a part has bits that stand for nothing.
        let same = touched
            .split('.')
            .zip(token.split('.'))
            .all(|(a, b)| URL_SAFE_NO_PAD.decode(a).is_ok_and(|a| URL_SAFE_NO_PAD.decode(b).is_ok_and(|b| a == b)));
        assert!(same || keys().verify(&touched, NOW).is_err(), "character {at}");
    }
    for text in ["", ".", "..", "a.b.c", &"a".repeat(100_000), &format!("{token}.x"), &format!(" {token}")] {
        assert!(keys().verify(text, NOW).is_err());
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    assert_eq!(TokenKey::hs256(&Secret::new(vec![1; 31])).unwrap_err(), TokenKeyError::Short);
    assert_eq!(TokenKey::ed25519(&[1; 31]).unwrap_err(), TokenKeyError::PublicKey);
    assert_eq!(TokenKey::ed25519(&[0; 32]).unwrap_err(), TokenKeyError::PublicKey, "a point of small order");
    assert_eq!(TokenKeys::new([]).unwrap_err(), TokenKeyError::None);
    let twice = [("a".to_owned(), seed_key()), ("a".to_owned(), seed_key())];
    assert_eq!(TokenKeys::new(twice).unwrap_err(), TokenKeyError::Duplicate);
}
