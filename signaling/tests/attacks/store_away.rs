//! The store is away, and comes back.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::world::*;

/// Nothing new without the store; docs/api.md, codes.
#[tokio::test]
async fn while_the_store_is_away_every_change_gets_503_and_afterwards_everything_works() {
    let world = World::new(2, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let carol = world.device("carol", "dev_c1").await;
    let call = world.call(0, &alice, &[&bob]).await;
    let before = world.store.snapshot().await;
    world.store.store.set_away(true);
    world.settle().await;
    world.place(0, &alice, &[&carol]).await.must_be(503, "store_away", "a new call");
    let answer = json!({ "sealed": base64(b"answer") });
    let asked = [
        (&bob, "accept", answer.clone()),
        (&bob, "ringing", Value::Null),
        (&bob, "reject", json!({ "reason": "busy" })),
        (&alice, "end", Value::Null),
        (&alice, "leave", Value::Null),
    ];
    for node in [0, 1] {
        for (device, verb, body) in &asked {
            world.verb(node, device, &call, verb, body).await.must_be(503, "store_away", verb);
        }
    }
    // A stranger learns no more than that.
    let mallory = Device::new("mallory", "dev_m1");
    let others = world.verb(0, &mallory, &call, "end", &Value::Null).await;
    let nothing = world.verb(0, &mallory, "call_00000000000000000000000000", "end", &Value::Null).await;
    assert!(matches!(others.status, 404 | 503) && matches!(nothing.status, 404 | 503), "{others:?} {nothing:?}");
    // What needs no store goes on.
    assert_eq!(world.get(0, &alice, "/v1/relays").await.status, 200);
    assert_eq!(world.get(0, &alice, "/v1/accounts/bob/devices").await.status, 200);
    let removed = world.ask(0, &carol, "DELETE", "/v1/devices/dev_c1", &Value::Null).await;
    let still = world.directory.text().contains("dev_c1");
    assert!(removed.status == 503 && still || removed.status == 204 && !still, "half done: {removed:?}");
    world.store.store.set_away(false);
    assert_eq!(before, world.store.snapshot().await);
    let accepted = world.verb(1, &bob, &call, "accept", &answer).await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    assert_eq!(world.verb(0, &alice, &call, "end", &Value::Null).await.status, 200);
    timeout(PATIENCE, async {
        while world.place(0, &alice, &[&bob]).await.status != 201 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("no call is possible any more");
}

/// A node that starts while the store is away is not ready, and is once it comes back.
#[tokio::test]
async fn a_node_that_starts_without_the_store_waits_for_it() {
    let mut world = World::new(1, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    world.store.store.set_away(true);
    let late = world.start(lavish(), role_limits()).await;
    assert!(timeout(Duration::from_millis(300), late.ready()).await.is_err(), "ready, and has seen nothing");
    world.store.store.set_away(false);
    assert!(timeout(PATIENCE, late.ready()).await.expect("never ready"));
    world.nodes.push(late);
    assert_eq!(world.place(1, &alice, &[&bob]).await.status, 201);
}

/// The longest test here: a ring lasts 45 s. The store is away when it ends, and still it ends, once.
#[tokio::test]
async fn a_ring_that_runs_out_while_the_store_is_away_ends_when_it_is_back_at_two_nodes_once() {
    let world = World::new(2, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let (through, cut) = (world.call(0, &alice, &[&bob]).await, world.device("carol", "dev_c1").await);
    let cut = world.call(1, &alice, &[&cut]).await;
    tokio::time::sleep(Duration::from_secs(43)).await;
    for call in [&through, &cut] {
        assert_eq!(world.get(0, &alice, &format!("/v1/calls/{call}")).await.text("phase"), "ringing");
    }
    world.store.store.set_away(true);
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.store.store.set_away(false);
    timeout(PATIENCE, async {
        for call in [&through, &cut] {
            loop {
                let view = world.get(0, &alice, &format!("/v1/calls/{call}")).await;
                if view.json()["phase"] == "ended" {
                    assert_eq!(view.json()["ended"]["reason"], "timeout", "{view:?}");
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    })
    .await
    .expect("the ring goes on for ever");
    let late = world.verb(0, &bob, &through, "accept", &json!({ "sealed": base64(b"answer") })).await;
    late.must_be(409, "call_ended", "an accept that comes too late");
}
