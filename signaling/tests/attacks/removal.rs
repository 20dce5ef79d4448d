//! A device that was removed: its tokens, its calls, its notes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::world::*;

/// S15: at once at this node, within 5 s at another; and a later token works after the device has come back.
#[tokio::test]
async fn a_removed_devices_token_is_void_at_once_here_within_five_seconds_elsewhere_and_only_a_later_one_works() {
    let world = World::new(2, lavish()).await;
    let alice = world.device("alice", "dev_a1").await.issued(now_secs() - 60);
    let second = world.device("alice", "dev_a2").await;
    let odd = Device { token: mint("alice", "dev_a1", None, now_secs() + 600), ..alice.clone() };
    assert_eq!(world.get(1, &odd, "/v1/relays").await.status, 200);
    assert_eq!(world.ask(0, &second, "DELETE", "/v1/devices/dev_a1", &Value::Null).await.status, 204);
    let began = Instant::now();
    for token in [&alice, &odd] {
        world.get(0, token, "/v1/relays").await.must_be(401, "unauthorized", "at once");
        world.put(token).await.must_be(401, "unauthorized", "it cannot bring itself back");
    }
    while world.get(1, &alice, "/v1/relays").await.status != 401 {
        assert!(began.elapsed() < Duration::from_secs(5), "a void token still opens another node");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.get(1, &second, "/v1/relays").await.status, 200);
    // A later token, of a second that cannot be the removal's own.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let later = alice.issued(now_secs());
    let back = world.put(&later).await;
    assert_eq!(back.status, 200, "{back:?}");
    for node in [0, 1] {
        timeout(Duration::from_secs(5), async {
            while world.get(node, &later, "/v1/relays").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the device came back and its token is void");
        for old in [&alice, &odd] {
            world.get(node, old, "/v1/relays").await.must_be(401, "unauthorized", "a token from before");
        }
    }
}

/// S15: a node that starts after the removal knows of it before it answers anybody.
#[tokio::test]
async fn a_node_that_starts_later_knows_who_was_removed() {
    let mut world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await.issued(now_secs() - 60);
    assert_eq!(world.ask(0, &alice, "DELETE", "/v1/devices/dev_a1", &Value::Null).await.status, 204);
    let late = world.start(lavish(), role_limits()).await;
    assert!(late.ready().await);
    world.nodes.push(late);
    world.get(1, &alice, "/v1/relays").await.must_be(401, "unauthorized", "removed before this node was there");
}

/// docs/api.md: "Its tokens, sockets, mailbox and legs end".
#[tokio::test]
async fn removing_a_device_ends_its_calls_as_kicked_and_its_rings() {
    let world = World::new(2, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let (one, two) = (world.device("bob", "dev_b1").await, world.device("bob", "dev_b2").await);
    let carol = world.device("carol", "dev_c1").await;
    // It is in a call with carol, and alice's call rings at both.
    let running = world.call(0, &carol, &[&one, &two]).await;
    let accepted = world.verb(0, &one, &running, "accept", &json!({ "sealed": base64(b"answer") })).await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    let ringing = world.call(1, &alice, &[&one, &two]).await;
    assert_eq!(world.ask(1, &two, "DELETE", "/v1/devices/dev_b1", &Value::Null).await.status, 204);
    timeout(Duration::from_secs(5), async {
        loop {
            let view = world.get(0, &carol, &format!("/v1/calls/{running}")).await.json();
            if view["phase"] == "ended" {
                assert_eq!(view["ended"]["reason"], "kicked", "{view}");
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("five seconds later it still has a leg");
    // The ring goes on at the other one.
    assert_eq!(world.get(0, &alice, &format!("/v1/calls/{ringing}")).await.text("phase"), "ringing");
    let answer = world.verb(0, &two, &ringing, "accept", &json!({ "sealed": base64(b"answer") })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // The one that stays can be removed by itself, twice.
    assert_eq!(world.ask(0, &two, "DELETE", "/v1/devices/dev_b2", &Value::Null).await.status, 204);
    let view = world.get(0, &alice, &format!("/v1/calls/{ringing}")).await.json();
    assert!(view["phase"] == "ended" && view["ended"]["reason"] == "kicked", "{view}");
}

/// A call whose last device is removed while it rings ends, and its caller's own removal cancels it.
#[tokio::test]
async fn a_ring_at_a_removed_device_ends_and_so_does_a_ring_of_one() {
    let world = World::new(1, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let second = world.device("alice", "dev_a2").await;
    let call = world.call(0, &alice, &[&bob]).await;
    assert_eq!(world.ask(0, &bob, "DELETE", "/v1/devices/dev_b1", &Value::Null).await.status, 204);
    let view = world.get(0, &alice, &format!("/v1/calls/{call}")).await.json();
    assert_eq!(view["phase"], "ended", "nobody is left to answer: {view}");
    let carol = world.device("carol", "dev_c1").await;
    let call = world.call(0, &alice, &[&carol]).await;
    assert_eq!(world.ask(0, &second, "DELETE", "/v1/devices/dev_a1", &Value::Null).await.status, 204);
    let view = world.get(0, &carol, &format!("/v1/calls/{call}")).await.json();
    assert_eq!(view["phase"], "ended", "its caller is gone: {view}");
    let late = world.verb(0, &carol, &call, "accept", &json!({ "sealed": base64(b"answer") })).await;
    late.must_be(409, "call_ended", "a ring whose caller was removed");
}
