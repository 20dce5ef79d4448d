//! Floods of good requests: how much anybody may ask for, and what is never counted.

use serde_json::{Value, json};
use tandem_auth::rate::Rate;
use tandem_signaling::policy::Policy;

use super::world::*;

const FEW: Rate = Rate { per_minute: 1, burst: 3 };

/// Devices of so many accounts.
async fn accounts(world: &World, name: &str, many: usize) -> Vec<Device> {
    let mut devices = Vec::new();
    for n in 0..many {
        devices.push(world.device(&format!("{name}{n}"), "dev_x").await);
    }
    devices
}

/// S18: one caller.
#[tokio::test]
async fn a_caller_who_calls_too_often_gets_429_nothing_rings_and_others_can_call() {
    let world = World::new(1, Policy { calls_per_account: FEW, ..lavish() }).await;
    let alice = world.device("alice", "dev_a1").await;
    let second = world.device("alice", "dev_a2").await;
    let callees = accounts(&world, "callee", 12).await;
    for (n, callee) in callees.iter().enumerate() {
        let before = world.store.snapshot().await;
        // Another device of the same account is no other account.
        let answer = world.place(0, if n % 2 == 0 { &alice } else { &second }, &[callee]).await;
        if n < 3 {
            assert_eq!(answer.status, 201, "{answer:?}");
        } else {
            answer.must_be(429, "rate_limited", "a flood");
            assert!(answer.json()["retry_after_ms"].as_u64().unwrap() > 1_000);
            assert_eq!(before, world.store.snapshot().await);
        }
    }
    let bob = world.device("bob", "dev_b1").await;
    assert_eq!(world.place(0, &bob, &[&callees[11]]).await.status, 201);
}

/// S18: from one source, by many accounts.
#[tokio::test]
async fn many_accounts_behind_one_source_share_its_rate_and_another_source_has_its_own() {
    let world = World::new(1, Policy { calls_per_source: FEW, ..lavish() }).await;
    let callers = accounts(&world, "caller", 8).await;
    let bob = world.device("bob", "dev_b1").await;
    let mut placed = 0;
    for caller in &callers {
        let answer = world.place(0, caller, &[&bob]).await;
        if answer.status == 201 {
            placed += 1;
        } else {
            answer.must_be(429, "rate_limited", "a source");
        }
    }
    assert_eq!(placed, 3);
    let headers = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", callers[7].token);
    let call = request("POST", "/v1/calls", &headers, call_to(&[&bob]).to_string().as_bytes());
    let answer = exchange(world.nodes[0].address, Some([127, 0, 0, 77].into()), &call).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// S18: a thousand callers, one callee.
#[tokio::test]
async fn a_callee_is_rung_by_strangers_no_more_often_than_allowed_and_its_own_calls_work() {
    let world = World::new(1, Policy { rings_per_account: FEW, ..lavish() }).await;
    let callers = accounts(&world, "caller", 20).await;
    let bob = world.device("bob", "dev_b1").await;
    let mut rings = Vec::new();
    for caller in &callers {
        let before = world.store.snapshot().await;
        let answer = world.place(0, caller, &[&bob]).await;
        match answer.status {
            201 => rings.push(answer.text("call_id")),
            _ => {
                assert!(answer.status == 429 && answer.unlike_a_problem().is_none(), "{answer:?}");
                assert_eq!(before, world.store.snapshot().await, "and nothing rings");
            }
        }
    }
    assert_eq!(rings.len(), 3);
    for (n, call) in rings.iter().enumerate() {
        let (verb, body) = match n {
            0 => ("accept", json!({ "sealed": base64(b"answer") })),
            1 => ("reject", json!({ "reason": "busy" })),
            _ => ("ringing", Value::Null),
        };
        assert_eq!(world.verb(0, &bob, call, verb, &body).await.status, 200, "{verb}");
    }
    assert_eq!(world.place(0, &bob, &[&callers[19]]).await.status, 201, "bob calls out");
    assert_eq!(world.place(0, &callers[18], &[&callers[17]]).await.status, 201, "others call others");
}

/// S18: calls that are live at once, of one account, at one callee, and in all.
#[tokio::test]
async fn live_calls_are_capped_for_an_account_a_callee_and_the_node() {
    let caps = [
        (Policy { live_calls_per_account: 2, ..lavish() }, 429, "call_quota"),
        (Policy { live_rings_per_account: 2, ..lavish() }, 429, "ring_quota"),
        (Policy { live_calls: 2, ..lavish() }, 503, "overloaded"),
    ];
    for (policy, status, code) in caps {
        let world = World::new(1, policy).await;
        let ring = code == "ring_quota";
        let others = accounts(&world, "other", 4).await;
        let bob = world.device("bob", "dev_b1").await;
        let pair = |n: usize| if ring { (&others[n], &bob) } else { (&bob, &others[n]) };
        let mut calls = Vec::new();
        for n in 0..2 {
            let (from, to) = pair(n);
            calls.push(world.call(0, from, &[to]).await);
            world.settle().await;
        }
        let before = world.store.snapshot().await;
        let (from, to) = pair(2);
        world.place(0, from, &[to]).await.must_be(status, code, "one too many");
        assert_eq!(before, world.store.snapshot().await);
        // One that ends makes room again.
        assert_eq!(
            world
                .verb(
                    0,
                    &bob,
                    &calls[0],
                    if ring { "reject" } else { "end" },
                    &if ring { json!({ "reason": "declined" }) } else { Value::Null }
                )
                .await
                .status,
            200
        );
        world.settle().await;
        assert_eq!(world.place(0, from, &[to]).await.status, 201, "{code}");
    }
}

/// S18: twenty at once are counted as twenty.
#[tokio::test]
async fn calls_placed_at_the_same_moment_do_not_slip_through_the_cap_of_live_ones() {
    let world = World::new(1, Policy { live_calls_per_account: 2, ..lavish() }).await;
    let alice = world.device("alice", "dev_a1").await;
    let callees = accounts(&world, "callee", 20).await;
    let mut tries = tokio::task::JoinSet::new();
    for callee in callees {
        let headers = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", alice.token);
        let (address, body) = (world.nodes[0].address, call_to(&[&callee]).to_string());
        tries.spawn(async move {
            exchange(address, None, &request("POST", "/v1/calls", &headers, body.as_bytes())).await.status
        });
    }
    let mut placed = 0;
    while let Some(status) = tries.join_next().await {
        placed += usize::from(status.unwrap() == 201);
    }
    assert!(placed <= 2, "{placed} calls of an account that may have 2");
}

/// S21: lists of devices.
#[tokio::test]
async fn lookups_are_counted_for_an_account_and_for_a_source_whoever_they_are_about() {
    for policy in [Policy { lookups_per_account: FEW, ..lavish() }, Policy { lookups_per_source: FEW, ..lavish() }] {
        let world = World::new(1, policy).await;
        let askers = accounts(&world, "asker", 2).await;
        let mut answered = 0;
        for n in 0..20 {
            let path = format!("/v1/accounts/{}/devices", if n % 2 == 0 { "asker1" } else { "never" });
            let answer = world.get(0, &askers[0], &path).await;
            if answer.status == 200 {
                answered += 1;
            } else {
                answer.must_be(429, "rate_limited", &path);
            }
        }
        assert_eq!(answered, 3);
        let other = world.get(0, &askers[1], "/v1/accounts/asker0/devices").await;
        assert_eq!(other.status == 200, policy.lookups_per_source != FEW, "{other:?}");
    }
}

/// S21: a call that is refused for its devices is a lookup too: its answer names all devices of the callee.
#[tokio::test]
async fn devices_cannot_be_listed_without_limit_by_calls_that_are_refused() {
    let policy = Policy { lookups_per_account: FEW, calls_per_account: FEW, ..lavish() };
    let world = World::new(1, policy).await;
    let mallory = world.device("mallory", "dev_m1").await;
    accounts(&world, "victim", 40).await;
    let mut told = 0;
    for n in 0..40 {
        let body = json!({
            "to": [format!("victim{n}")], "kind": "one_to_one", "media": "audio",
            "sealed": { "dev_unknown": base64(b"x") },
        });
        let answer = world.ask(0, &mallory, "POST", "/v1/calls", &body).await;
        told += usize::from(answer.body.contains("dev_x"));
    }
    assert!(told <= 6, "{told} of 40 accounts gave their devices away");
}

/// Registrations are durable writes.
#[tokio::test]
async fn registrations_are_counted_and_refused_ones_write_nothing() {
    let world = World::new(1, Policy { registrations_per_account: FEW, ..lavish() }).await;
    let devices: Vec<Device> = (0..8).map(|n| Device::new("alice", &format!("dev_{n}"))).collect();
    for (n, device) in devices.iter().enumerate() {
        let before = world.directory.text();
        let answer = world.put(device).await;
        if n < 3 {
            assert_eq!(answer.status, 200, "{answer:?}");
        } else {
            answer.must_be(429, "rate_limited", "a flood");
            assert_eq!(before, world.directory.text());
        }
    }
}

/// Signals are durable writes, and what waits for a device is bounded.
#[tokio::test]
async fn signals_are_counted_and_what_waits_for_a_device_is_bounded() {
    let answer = json!({ "sealed": base64(b"answer") });
    let signal = json!({ "sealed": { "dev_b1": base64(b"candidate") } });
    let world = World::new(1, Policy { signals_per_device: FEW, ..lavish() }).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let call = world.call(0, &alice, &[&bob]).await;
    assert_eq!(world.verb(0, &bob, &call, "accept", &answer).await.status, 200);
    let mut sent = 0;
    for _ in 0..10 {
        let answer = world.verb(0, &alice, &call, "signal", &signal).await;
        if answer.status == 200 {
            sent += 1;
        } else {
            answer.must_be(429, "rate_limited", "signals");
        }
    }
    assert_eq!(sent, 3);
    let world = World::new(1, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let call = world.call(0, &alice, &[&bob]).await;
    assert_eq!(world.verb(0, &bob, &call, "accept", &answer).await.status, 200);
    for n in 0..100 {
        let before = world.store.snapshot().await;
        let answer = world.verb(0, &alice, &call, "signal", &signal).await;
        if answer.status != 200 {
            answer.must_be(429, "mailbox_full", "signals to a device that takes none");
            assert_eq!(before, world.store.snapshot().await);
            assert!(n >= 8, "{n}");
        }
    }
    let bound = tandem_signaling::limits::BLOBS_PER_DEVICE + 4;
    assert!(world.store.blobs().await <= bound, "{} blobs wait", world.store.blobs().await);
    assert_eq!(world.verb(0, &alice, &call, "end", &Value::Null).await.status, 200, "and it still can hang up");
}

/// Issue 3: "rejoin and answering exempt".
#[tokio::test]
async fn answering_rejecting_rejoining_and_hanging_up_are_never_limited() {
    let policy = Policy {
        calls_per_account: FEW,
        calls_per_source: FEW,
        rings_per_account: FEW,
        lookups_per_account: FEW,
        lookups_per_source: FEW,
        signals_per_device: FEW,
        registrations_per_account: Rate { per_minute: 1, burst: 2 },
        live_calls_per_account: 2,
        live_rings_per_account: 2,
        live_calls: 3,
        ..lavish()
    };
    let world = World::new(1, policy).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let carol = world.device("carol", "dev_c1").await;
    let (first, second) = (world.call(0, &alice, &[&bob]).await, world.call(0, &carol, &[&bob]).await);
    // Everybody is over everything that is counted.
    for device in [&alice, &bob, &carol] {
        for _ in 0..8 {
            world.place(0, device, &[&alice]).await;
            world.get(0, device, "/v1/accounts/bob/devices").await;
            world.put(device).await;
        }
        assert_eq!(world.get(0, device, "/v1/accounts/bob/devices").await.status, 429);
        assert_eq!(world.put(device).await.status, 429);
    }
    let answer = json!({ "sealed": base64(b"answer") });
    for _ in 0..200 {
        for (device, call, verb, body) in [
            (&bob, &first, "ringing", Value::Null),
            (&bob, &first, "accept", answer.clone()),
            (&bob, &first, "rejoin", Value::Null),
            (&alice, &first, "ticket", Value::Null),
            (&bob, &second, "reject", json!({ "reason": "declined" })),
        ] {
            let answer = world.verb(0, device, call, verb, &body).await;
            assert!(answer.status != 429 && answer.status != 503, "{verb}: {answer:?}");
        }
        assert_eq!(world.get(0, &alice, &format!("/v1/calls/{first}")).await.status, 200);
    }
    assert_eq!(world.verb(0, &alice, &first, "end", &Value::Null).await.status, 200);
    let removed = world.ask(0, &alice, "DELETE", "/v1/devices/dev_a1", &Value::Null).await;
    assert_eq!(removed.status, 204, "removing a lost device is not limited: {removed:?}");
}
