//! Somebody else's calls, devices and accounts: they do not exist.

use serde_json::{Value, json};

use super::world::*;

/// An id of the same form that names nothing.
fn nobodys(call: &str) -> String {
    let (start, last) = call.split_at(call.len() - 1);
    format!("{start}{}", if last == "0" { "1" } else { "0" })
}

/// S16: every verb on a call of two others says, byte for byte, what it says of one that does not exist, and asks the
/// store no more often; ringing, running and ended.
#[tokio::test]
async fn a_call_of_others_is_no_call_whatever_is_asked_of_it_and_in_every_phase() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let bob = world.device("bob", "dev_b1").await;
    let mallory = world.device("mallory", "dev_m1").await;
    let unregistered = Device::new("mallory", "dev_b1");
    let call = world.call(0, &alice, &[&bob]).await;
    for phase in ["ringing", "active", "ended"] {
        let before = world.store.snapshot().await;
        for stranger in [&mallory, &unregistered] {
            for ((method, path, body), (_, nowhere, _)) in
                call_routes("dev_b1", &call).into_iter().zip(call_routes("dev_b1", &nobodys(&call)))
            {
                let start = world.store.asked();
                let others = world.ask(0, stranger, method, &path, &body).await;
                let asked_for_others = world.store.asked() - start;
                let nothing = world.ask(0, stranger, method, &nowhere, &body).await;
                let asked_for_nothing = world.store.asked() - start - asked_for_others;
                let what = format!("{method} {path} of a call that is {phase}");
                nothing.must_be(404, "not_found", &what);
                assert_eq!(others.without_request_id(), nothing.without_request_id(), "{what}");
                assert_eq!(others.shape(), nothing.shape(), "{what}");
                assert_eq!(asked_for_others, asked_for_nothing, "{what}: the store was asked differently");
            }
        }
        assert_eq!(world.store.snapshot().await, before);
        let (device, verb) = if phase == "ringing" { (&bob, "accept") } else { (&alice, "end") };
        let body = if phase == "ringing" { json!({ "sealed": base64(b"answer") }) } else { Value::Null };
        assert_eq!(world.verb(0, device, &call, verb, &body).await.status, 200);
    }
}

/// S16: a bad body does not tell either whether a call is there.
#[tokio::test]
async fn a_bad_body_gets_the_same_of_a_call_of_others_and_of_none() {
    let world = World::new(1, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let mallory = world.device("mallory", "dev_m1").await;
    let call = world.call(0, &alice, &[&bob]).await;
    let bodies = [
        ("accept", json!({ "sealed": "%" })),
        ("accept", json!({ "sealed": base64(&[0; 8_193]) })),
        ("accept", json!({})),
        ("signal", json!({ "sealed": {} })),
        ("signal", json!({ "sealed": { "dev_zz": base64(b"x") } })),
        ("signal", json!({ "sealed": { "dev_b1": "%" } })),
        ("reject", json!({ "reason": "hangup" })),
        ("end", json!({ "more": 1 })),
    ];
    for (verb, body) in bodies {
        let others = world.verb(0, &mallory, &call, verb, &body).await;
        let nothing = world.verb(0, &mallory, &nobodys(&call), verb, &body).await;
        assert_eq!(others.without_request_id(), nothing.without_request_id(), "{verb} {body}");
        assert!((400..500).contains(&others.status), "{others:?}");
    }
}

/// S16: a call of another PoP, and ids of other kinds, name nothing.
#[tokio::test]
async fn an_id_of_another_place_or_kind_is_not_found() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let call = world.call(0, &alice, &[&world.device("bob", "dev_b1").await]).await;
    let upper = call.to_uppercase();
    let no_prefix = call.trim_start_matches("call_").to_owned();
    let other_pop = tandem_wire::id::CallId::from_bits(u128::MAX).to_string();
    for id in ["call_", "dev_a1", &upper, &no_prefix, &other_pop, &format!("{call}0"), &call[..call.len() - 1]] {
        for (method, path, body) in call_routes("dev_b1", id) {
            world.ask(0, &alice, method, &path, &body).await.must_be(404, "not_found", &format!("{method} {path}"));
        }
    }
}

/// S16: devices of other accounts are not there, whether they are or not.
#[tokio::test]
async fn a_device_of_another_account_can_be_neither_changed_nor_removed_nor_told_from_none() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let mallory = world.device("mallory", "dev_m1").await;
    let before = world.directory.text();
    for (method, body) in [("DELETE", Value::Null), ("PUT", registration())] {
        let asked = world.store.asked();
        let others = world.ask(0, &mallory, method, "/v1/devices/dev_a1", &body).await;
        let asked_for_others = world.store.asked() - asked;
        let nothing = world.ask(0, &mallory, method, "/v1/devices/dev_nowhere", &body).await;
        assert_eq!(world.store.asked() - asked, 2 * asked_for_others, "{method}");
        assert!(matches!((method, others.status), (_, 404) | ("PUT", 403)), "{others:?}");
        assert_eq!(others.without_request_id(), nothing.without_request_id(), "{method}");
        assert_eq!(others.shape(), nothing.shape(), "{method}");
    }
    assert_eq!(before, world.directory.text());
    assert_eq!(world.get(0, &alice, "/v1/relays").await.status, 200, "her token is as good as before");
}

/// S16: the token names one device, and it registers no other one, not even of its own account.
#[tokio::test]
async fn a_token_registers_its_own_device_only() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let answer = world.ask(0, &alice, "PUT", "/v1/devices/dev_a2", &registration()).await;
    assert!(matches!(answer.status, 403 | 404) && answer.unlike_a_problem().is_none(), "{answer:?}");
    assert!(!world.directory.text().contains("dev_a2"));
}

/// S21: who asks for an account's devices learns nothing from the form of the answer, and a push token is told to nobody.
#[tokio::test]
async fn an_account_that_nobody_knows_looks_like_one_whose_devices_are_gone() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let carol = world.device("carol", "dev_c1").await;
    assert_eq!(world.ask(0, &carol, "DELETE", "/v1/devices/dev_c1", &Value::Null).await.status, 204);
    let gone = world.get(0, &alice, "/v1/accounts/carol/devices").await;
    let never = world.get(0, &alice, "/v1/accounts/never/devices").await;
    assert_eq!((gone.status, never.status), (200, 200));
    assert_eq!(gone.body.replace("carol", "never"), never.body);
    assert_eq!(gone.shape(), never.shape());
    let mut body = registration();
    body["push_token"] = json!("canary-push-token");
    body["capabilities"] = json!(["video"]);
    let bob = Device::new("bob", "dev_b1");
    assert_eq!(world.ask(0, &bob, "PUT", "/v1/devices/dev_b1", &body).await.status, 200);
    for asks in [&alice, &bob] {
        let list = world.get(0, asks, "/v1/accounts/bob/devices").await;
        assert!(list.status == 200 && !list.body.contains("canary") && list.body.contains("dev_b1"), "{list:?}");
    }
}

/// S23: a credential for the relay is given to legs of a call that is not over, and to nobody else.
#[tokio::test]
async fn no_credential_is_vended_to_who_has_not_answered_or_whose_call_is_over() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let (bob, other) = (world.device("bob", "dev_b1").await, world.device("bob", "dev_b2").await);
    let call = world.call(0, &alice, &[&bob, &other]).await;
    let none = |answer: &Answer, what: &str| {
        assert!(
            answer.status >= 400 && answer.status < 500 && answer.unlike_a_problem().is_none(),
            "{what}: {answer:?}"
        );
        assert!(!answer.body.contains("credential") && !answer.body.contains("ice_servers"), "{what}: {answer:?}");
    };
    for verb in ["ticket", "rejoin"] {
        none(&world.verb(0, &bob, &call, verb, &Value::Null).await, "a callee before it has accepted");
    }
    let accepted = world.verb(0, &bob, &call, "accept", &json!({ "sealed": base64(b"answer") })).await;
    assert!(accepted.status == 200 && accepted.body.contains("credential"), "{accepted:?}");
    for verb in ["ticket", "rejoin"] {
        none(&world.verb(0, &other, &call, verb, &Value::Null).await, "the device that did not answer");
        let leg = world.verb(0, &bob, &call, verb, &Value::Null).await;
        assert_eq!(leg.json()["leg"], accepted.json()["leg"], "{verb}");
    }
    none(&world.verb(0, &other, &call, "accept", &json!({ "sealed": base64(b"answer") })).await, "a late accept");
    assert_eq!(world.verb(0, &alice, &call, "end", &Value::Null).await.status, 200);
    for device in [&alice, &bob, &other] {
        for verb in ["ticket", "rejoin"] {
            none(&world.verb(0, device, &call, verb, &Value::Null).await, "after the end");
        }
    }
    let looked = world.get(0, &bob, &format!("/v1/calls/{call}")).await;
    assert!(!looked.body.contains("credential"), "{looked:?}");
}

/// S17: before the callee has answered nothing reaches it but the ring, and nothing the caller's legs.
#[tokio::test]
async fn signals_go_between_legs_only_and_to_nobody_before_they_have_accepted() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let (bob, other) = (world.device("bob", "dev_b1").await, world.device("bob", "dev_b2").await);
    let call = world.call(0, &alice, &[&bob, &other]).await;
    let blobs = world.store.blobs().await;
    let to = |device: &str| json!({ "sealed": { device: base64(b"candidate") } });
    for (from, device) in [(&alice, "dev_b1"), (&bob, "dev_a1"), (&bob, "dev_b2")] {
        let answer = world.verb(0, from, &call, "signal", &to(device)).await;
        assert!((400..500).contains(&answer.status), "{device}: {answer:?}");
    }
    assert_eq!(world.store.blobs().await, blobs, "nothing may wait for anybody");
    world.verb(0, &bob, &call, "accept", &json!({ "sealed": base64(b"answer") })).await;
    let blobs = world.store.blobs().await;
    for (from, device) in [(&alice, "dev_b2"), (&other, "dev_a1"), (&other, "dev_b1"), (&alice, "dev_zz")] {
        let answer = world.verb(0, from, &call, "signal", &to(device)).await;
        assert!((400..500).contains(&answer.status), "{device}: {answer:?}");
    }
    assert_eq!(world.store.blobs().await, blobs);
    for (from, device) in [(&alice, "dev_b1"), (&bob, "dev_a1")] {
        assert_eq!(world.verb(0, from, &call, "signal", &to(device)).await.status, 200);
    }
    assert_eq!(world.store.blobs().await, blobs + 2);
}
