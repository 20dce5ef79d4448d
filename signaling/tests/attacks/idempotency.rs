//! Idempotency-Key: the same request again, also at once, also at another node.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::world::*;

async fn keyed(address: std::net::SocketAddr, who: &Device, keys: &[&str], body: &Value) -> Answer {
    let mut headers = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", who.token);
    for key in keys {
        headers += &format!("idempotency-key: {key}\r\n");
    }
    exchange(address, None, &request("POST", "/v1/calls", &headers, body.to_string().as_bytes())).await
}

struct Stage {
    world: World,
    alice: Device,
    bob: Device,
}

async fn stage() -> Stage {
    let world = World::new(2, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    Stage { world, alice, bob }
}

/// docs/api.md, `POST /v1/calls`.
#[tokio::test]
async fn the_same_key_gives_the_same_call_at_every_node_in_every_phase() {
    let Stage { world, alice, bob } = stage().await;
    let body = call_to(&[&bob]);
    let first = keyed(world.nodes[0].address, &alice, &["k-1"], &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    let call = first.text("call_id");
    for phase in 0..3 {
        for node in [0, 1] {
            let again = keyed(world.nodes[node].address, &alice, &["k-1"], &body).await;
            if phase == 0 {
                assert_eq!((again.status, again.text("call_id")), (201, call.clone()), "{again:?}");
                assert_eq!(again.json()["leg"], first.json()["leg"]);
                assert_eq!(again.json()["ring_expires_at"], first.json()["ring_expires_at"]);
            } else if again.status == 201 {
                assert_eq!(again.text("call_id"), call, "phase {phase}");
            } else {
                assert!(again.status == 409, "phase {phase}: {again:?}");
            }
            // The same in another order of fields.
            let mut text = String::from("{");
            for (index, (key, value)) in body.as_object().unwrap().iter().rev().enumerate() {
                text += &format!("{}{}: {value}", if index > 0 { " , " } else { "" }, json!(key));
            }
            let headers = format!(
                "authorization: Bearer {}\r\ncontent-type: application/json\r\nidempotency-key: k-1\r\n",
                alice.token
            );
            let text = text + "}";
            let reordered =
                exchange(world.nodes[node].address, None, &request("POST", "/v1/calls", &headers, text.as_bytes()))
                    .await;
            assert_eq!(reordered.status, again.status, "{reordered:?}");
        }
        assert_eq!(world.store.calls().await.len(), 1);
        match phase {
            0 => _ = world.verb(1, &bob, &call, "accept", &json!({ "sealed": base64(b"answer") })).await,
            _ => _ = world.verb(0, &bob, &call, "end", &Value::Null).await,
        }
    }
}

/// Twenty at once, half of them at another node.
#[tokio::test]
async fn twenty_at_once_at_two_nodes_make_one_call() {
    let Stage { world, alice, bob } = stage().await;
    for round in 0..10 {
        let before = world.store.calls().await.len();
        let body = call_to(&[&bob]);
        let mut tries = JoinSet::new();
        for n in 0..20 {
            let (alice, body, address) = (alice.clone(), body.clone(), world.nodes[n % 2].address);
            tries.spawn(async move { keyed(address, &alice, &[&format!("race-{round}")], &body).await });
        }
        let mut calls = std::collections::BTreeSet::new();
        while let Some(answer) = tries.join_next().await {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 201, "{answer:?}");
            calls.insert(answer.text("call_id"));
        }
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert_eq!(world.store.calls().await.len(), before + 1);
        assert_eq!(world.verb(0, &alice, calls.first().unwrap(), "end", &Value::Null).await.status, 200);
        world.settle().await;
    }
}

/// docs/api.md: the same key is for the same request.
#[tokio::test]
async fn the_same_key_with_another_request_gets_422_and_nothing_rings() {
    let Stage { world, alice, bob } = stage().await;
    let carol = world.device("carol", "dev_c1").await;
    let first = keyed(world.nodes[0].address, &alice, &["k"], &call_to(&[&bob])).await;
    assert_eq!(first.status, 201);
    let before = world.store.snapshot().await;
    let mut audio = call_to(&[&bob]);
    audio["media"] = json!("audio");
    for (what, body) in [("media", audio), ("to", call_to(&[&carol]))] {
        for node in [0, 1] {
            let answer = keyed(world.nodes[node].address, &alice, &["k"], &body).await;
            answer.must_be(422, "idempotency_key_reused", what);
        }
    }
    // A client that seals anew before it asks again asks for the same call, and what rings is what it sealed first.
    let mut sealed = call_to(&[&bob]);
    sealed["sealed"]["dev_b1"] = json!(base64(b"another offer"));
    let again = keyed(world.nodes[1].address, &alice, &["k"], &sealed).await;
    assert_eq!((again.status, again.text("call_id")), (201, first.text("call_id")));
    assert_eq!(before, world.store.snapshot().await);
}

/// S16: keys of others are others' keys, and say nothing of their calls.
#[tokio::test]
async fn a_key_of_somebody_else_is_another_key() {
    let Stage { world, alice, bob } = stage().await;
    let second = world.device("alice", "dev_a2").await;
    let mallory = world.device("mallory", "dev_a1").await;
    let first = keyed(world.nodes[0].address, &alice, &["k"], &call_to(&[&bob])).await.text("call_id");
    for other in [&mallory, &second] {
        let answer = keyed(world.nodes[0].address, other, &["k"], &call_to(&[&bob])).await;
        assert!(answer.status == 201 && answer.text("call_id") != first || answer.status == 409, "{answer:?}");
        assert!(!answer.is(422, "idempotency_key_reused"), "{answer:?}");
    }
}

/// docs/api.md: 1 to 64 visible characters.
#[tokio::test]
async fn a_key_that_is_none_gets_400_and_no_call() {
    let Stage { world, alice, bob } = stage().await;
    let before = world.store.snapshot().await;
    let long = "k".repeat(65);
    let body = call_to(&[&bob]);
    for keys in
        [&["" as &str] as &[&str], &[&long], &["a b"], &["a\tb"], &["\u{e9}"], &["k", "k"], &["k", "l"], &["", "k"]]
    {
        let answer = keyed(world.nodes[0].address, &alice, keys, &body).await;
        answer.must_be(400, "bad_header", &format!("{keys:?}"));
    }
    assert_eq!(before, world.store.snapshot().await);
    let just = "k".repeat(64);
    assert_eq!(keyed(world.nodes[0].address, &alice, &[&just], &body).await.status, 201);
}

/// A request that was refused used up no key: nothing is half done.
#[tokio::test]
async fn a_refused_request_does_not_use_up_its_key() {
    let Stage { world, alice, bob } = stage().await;
    let mut wrong = call_to(&[&bob]);
    wrong["sealed"] = json!({ "dev_zz": base64(b"x") });
    let refused = keyed(world.nodes[0].address, &alice, &["k"], &wrong).await;
    refused.must_be(409, "devices_changed", "another device");
    let answer = keyed(world.nodes[1].address, &alice, &["k"], &call_to(&[&bob])).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}
