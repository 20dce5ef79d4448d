//! Tokens that are not good, at every door.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tandem_auth::rate::Rate;
use tandem_auth::{AdminRole, Claims, Grant, TokenKey};
use tandem_signaling::policy::Policy;
use tandem_wire::party::Party;
use tandem_wire::units::Wall;

use super::world::*;

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token with any header and claims, signed as HS256 does.
fn forge(secret: &[u8], header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "alice", "dev": "dev_a1", "exp": now_secs() + 600, "aud": "tandem",
        "tandem": { "call": true }, "iat": now_secs(),
    })
}

fn but(field: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[field] = value.into();
    claims
}

fn without(field: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(field);
    claims
}

fn hs256() -> Value {
    json!({ "alg": "HS256", "typ": "JWT" })
}

/// Everything that looks like a token and is none.
fn bad_tokens() -> Vec<(&'static str, String)> {
    let sign = |claims: &Value| forge(SECRET, &hs256(), claims);
    let good = sign(&claims());
    let mut of_ed = claims();
    of_ed["iss"] = json!(ED_ISSUER);
    let party = Party { account: "alice".parse().unwrap(), device: "dev_a1".parse().unwrap() };
    let ed_claims = Claims {
        party,
        grant: Grant { call: true, admin: None },
        issued: None,
        expires: Wall::from_secs(now_secs() + 600),
    };
    let eddsa = TokenKey::ed25519_seed(&ED_SEED);
    let half = good.len() / 2;
    let jwk = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(b"an-attackers-own-secret-of-32-bytes!") });
    let own = b"an-attackers-own-secret-of-32-bytes!";
    vec![
        ("garbage", "garbage".to_owned()),
        ("empty", String::new()),
        ("three dots", "...".to_owned()),
        ("cut in half", good[..half].to_owned()),
        ("without a signature", good.rsplit_once('.').unwrap().0.to_owned() + "."),
        ("another signature", {
            let (signed, signature) = good.rsplit_once('.').unwrap();
            let first = if signature.starts_with('A') { 'B' } else { 'A' };
            format!("{signed}.{first}{}", &signature[1..])
        }),
        ("another secret", forge(own, &hs256(), &claims())),
        ("very long", "x".repeat(8_000)),
        ("alg none", format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims()))),
        ("alg None, signed", forge(SECRET, &json!({ "alg": "None" }), &claims())),
        ("no alg", forge(SECRET, &json!({ "typ": "JWT" }), &claims())),
        ("says HS512", forge(SECRET, &json!({ "alg": "HS512" }), &claims())),
        ("the public key as a secret", forge(&ED_PUBLIC, &hs256(), &of_ed)),
        ("says EdDSA but is HS256", forge(&ED_PUBLIC, &json!({ "alg": "EdDSA" }), &of_ed)),
        ("EdDSA under the other issuer", eddsa.mint(ISSUER, &ed_claims).unwrap()),
        ("brings its own key", forge(own, &json!({ "alg": "HS256", "jwk": jwk }), &claims())),
        (
            "says where its key is",
            forge(own, &json!({ "alg": "HS256", "jku": "http://192.0.2.1/k", "kid": "../../dev/null" }), &claims()),
        ),
        ("an issuer that nobody knows", sign(&but("iss", "app-xx"))),
        ("no issuer", sign(&without("iss"))),
        ("expired", sign(&but("exp", now_secs() - 5))),
        ("expires now", sign(&but("exp", now_secs()))),
        ("no exp", sign(&without("exp"))),
        ("exp as a string", sign(&but("exp", "9999999999"))),
        ("exp as a string that is near", sign(&but("exp", (now_secs() + 600).to_string()))),
        ("exp null", sign(&but("exp", Value::Null))),
        ("exp negative", sign(&but("exp", -1))),
        ("exp a fraction", sign(&but("exp", 1e300))),
        ("exp in the far future", sign(&but("exp", now_secs() + 7 * 3_600))),
        ("nbf as a string", sign(&but("nbf", "0"))),
        ("nbf later", sign(&but("nbf", now_secs() + 300))),
        ("iat as a string", sign(&but("iat", "0"))),
        ("another audience", sign(&but("aud", "tandem-admin"))),
        ("no audience", sign(&without("aud"))),
        ("aud null", sign(&but("aud", Value::Null))),
        ("no account", sign(&without("sub"))),
        ("no device", sign(&without("dev"))),
        ("an account that is none", sign(&but("sub", "a/b"))),
        ("the account ..", sign(&but("sub", ".."))),
        ("a device that is none", sign(&but("dev", "dev_a\u{0}"))),
        ("a device without its prefix", sign(&but("dev", "a1"))),
        ("no grant", sign(&without("tandem"))),
        ("the grant as a list", sign(&but("tandem", json!([true])))),
        ("the grant as a word", sign(&but("tandem", json!({ "call": "true" })))),
        ("a removed device's", mint("alice", "dev_gone", Some(now_secs() - 10), now_secs() + 600)),
        ("a removed device's that says no iat", mint("alice", "dev_gone", None, now_secs() + 600)),
    ]
}

/// S13, S14, S15.
#[tokio::test]
async fn every_route_refuses_every_token_that_is_not_good_with_401_and_does_nothing() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let bob = world.device("bob", "dev_b1").await;
    let gone = world.device("alice", "dev_gone").await;
    let call = world.call(0, &alice, &[&bob]).await;
    let removed = world.ask(0, &alice, "DELETE", "/v1/devices/dev_gone", &Value::Null).await;
    assert_eq!(removed.status, 204, "{removed:?}");
    drop(gone);
    let before = (world.store.snapshot().await, world.directory.text());
    let (good, mut wrong) = (&alice.token, Vec::new());
    for (method, path, body) in routes("dev_a1", "bob", &call) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let json = "content-type: application/json\r\n";
        let mut headers = vec![("no token".to_owned(), json.to_owned())];
        for (what, token) in bad_tokens() {
            headers.push((what.to_owned(), format!("{json}authorization: Bearer {token}\r\n")));
        }
        headers.push(("another scheme".to_owned(), format!("{json}authorization: Basic {good}\r\n")));
        headers.push(("no scheme".to_owned(), format!("{json}authorization: {good}\r\n")));
        headers.push(("bytes".to_owned(), format!("{json}authorization: Bearer {good}\u{e9}\r\n")));
        headers.push(("in a cookie".to_owned(), format!("{json}cookie: authorization={good}\r\n")));
        for (what, headers) in headers {
            let answer = world.raw(0, method, &path, &headers, body.as_bytes()).await;
            if !answer.is(401, "unauthorized") {
                wrong.push(format!("{method} {path}, {what}: {} {}", answer.status, answer.body));
            }
        }
        let in_query = world.raw(0, method, &format!("{path}?access_token={good}"), json, body.as_bytes()).await;
        if !in_query.is(401, "unauthorized") {
            wrong.push(format!("{method} {path}, in the query: {} {}", in_query.status, in_query.body));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(before, (world.store.snapshot().await, world.directory.text()));
}

/// S13: a token of the operator's opens no door of a device, and one that grants nothing none at all.
#[tokio::test]
async fn every_route_answers_403_to_a_good_token_that_lets_nobody_call() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let bob = world.device("bob", "dev_b1").await;
    let call = world.call(0, &alice, &[&bob]).await;
    let before = (world.store.snapshot().await, world.directory.text());
    for grant in [Grant { call: false, admin: Some(AdminRole::Operator) }, Grant { call: false, admin: None }] {
        let token = mint_with("alice", "dev_a1", grant, None, now_secs() + 600);
        let operator = Device { token, ..alice.clone() };
        for (method, path, body) in routes("dev_a1", "bob", &call) {
            let answer = world.ask(0, &operator, method, &path, &body).await;
            answer.must_be(403, "forbidden", &format!("{method} {path} {grant:?}"));
        }
    }
    assert_eq!(before, (world.store.snapshot().await, world.directory.text()));
}

/// S13: both kinds of keys make good tokens, in whatever case the scheme is written.
#[tokio::test]
async fn good_tokens_of_both_kinds_are_good() {
    let world = World::new(1, lavish()).await;
    let party = Party { account: "alice".parse().unwrap(), device: "dev_a1".parse().unwrap() };
    let expires = Wall::from_secs(now_secs() + 6 * 3_600);
    let claims = Claims { party, grant: Grant { call: true, admin: None }, issued: None, expires };
    let eddsa = TokenKey::ed25519_seed(&ED_SEED).mint(ED_ISSUER, &claims).unwrap();
    let forged = forge(SECRET, &hs256(), &self::claims());
    for header in
        [format!("Bearer {eddsa}"), format!("bearer {eddsa}"), format!("BEARER {forged}"), format!("Bearer {forged}")]
    {
        let answer = world.raw(0, "GET", "/v1/relays", &format!("authorization: {header}\r\n"), b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// S13: which of two would count is nobody's guess.
#[tokio::test]
async fn two_authorization_headers_are_not_both_believed() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let mallory = world.device("mallory", "dev_m1").await;
    let two = format!("authorization: Bearer {}\r\nauthorization: Bearer {}\r\n", alice.token, mallory.token);
    let answer = world.raw(0, "GET", "/v1/relays", &two, b"").await;
    assert!(matches!(answer.status, 400 | 401), "an ingress may have looked at the other one: {answer:?}");
}

/// Issue 3, "bad tokens in floods (429)".
#[tokio::test]
async fn a_flood_of_bad_tokens_gets_429_and_a_good_token_from_elsewhere_works() {
    let policy = Policy { bad_tokens_per_source: Rate { per_minute: 60, burst: 20 }, ..lavish() };
    let world = World::new(1, policy).await;
    let alice = world.device("alice", "dev_a1").await;
    let address = world.nodes[0].address;
    let bad = request("GET", "/v1/relays", "authorization: Bearer nonsense\r\n", b"");
    let flood = Some([127, 0, 0, 66].into());
    let mut statuses = Vec::new();
    for _ in 0..100 {
        let answer = exchange(address, flood, &bad).await;
        if answer.status == 429 {
            answer.must_be(429, "rate_limited", "a flood");
        }
        statuses.push(answer.status);
    }
    let (refused, late) =
        (statuses.iter().filter(|s| **s == 401).count(), statuses.iter().filter(|s| **s == 429).count());
    assert!((20..=30).contains(&refused) && refused + late == 100, "{statuses:?}");
    let good = request("GET", "/v1/relays", &format!("authorization: Bearer {}\r\n", alice.token), b"");
    let answer = exchange(address, None, &good).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// S13: a source that shares an address with a flood is one thing; good tokens are never counted.
#[tokio::test]
async fn good_tokens_are_never_counted_against_their_source() {
    let policy = Policy { bad_tokens_per_source: Rate { per_minute: 1, burst: 1 }, ..lavish() };
    let world = World::new(1, policy).await;
    let alice = world.device("alice", "dev_a1").await;
    for _ in 0..50 {
        assert_eq!(world.get(0, &alice, "/v1/relays").await.status, 200);
    }
}
