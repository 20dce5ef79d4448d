//! Two nodes over one store, and everybody at once.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::world::*;

async fn verb(address: std::net::SocketAddr, who: Device, call: String, verb: &'static str) -> Answer {
    let body = match verb {
        "accept" => json!({ "sealed": base64(who.device.as_bytes()) }).to_string(),
        "decline" => json!({ "reason": "declined" }).to_string(),
        "busy" => json!({ "reason": "busy" }).to_string(),
        _ => String::new(),
    };
    let path = match verb {
        "decline" | "busy" => "reject",
        verb => verb,
    };
    let headers = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", who.token);
    let request = request("POST", &format!("/v1/calls/{call}/{path}"), &headers, body.as_bytes());
    exchange(address, None, &request).await
}

/// Two state servers over one etcd are some milliseconds apart, on a busy machine more.
#[tokio::test]
async fn a_call_that_our_state_server_has_not_heard_of_yet_is_neither_missing_nor_as_it_was() {
    let world = World::new(2, lavish()).await;
    let (alice, bob, other) =
        (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await, world.device("bob", "dev_c").await);
    world.store.stays_behind().await;
    let call = world.call(0, &alice, &[&bob, &other]).await;
    let (accept, nothing) = (json!({ "sealed": base64(b"x") }), Value::Null);
    assert_eq!(world.verb(1, &bob, &call, "ringing", &nothing).await.status, 200, "it is there");
    // From now on it rings, for who looks no further.
    world.store.stays_behind().await;
    assert_eq!(world.verb(1, &bob, &call, "accept", &accept).await.status, 200);
    let late = world.verb(1, &other, &call, "accept", &accept).await;
    late.must_be(409, "answered_elsewhere", "an accept that was first decided on a call that rings");
    assert_eq!(world.verb(1, &bob, &call, "leave", &nothing).await.status, 200, "by one who is not in it as it was");
    let strange = world.device("mallory", "dev_m").await;
    assert_eq!(world.verb(1, &strange, &call, "end", &nothing).await.status, 404);
}

/// Issue 3, part 2: "every transition is a compare-and-set"; S17.
#[tokio::test]
async fn of_accepts_rejects_cancels_and_hang_ups_at_once_through_two_nodes_exactly_one_outcome_comes() {
    let world = World::new(2, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let mut bobs = Vec::new();
    for n in 0..3 {
        bobs.push(world.device("bob", &format!("dev_b{n}")).await);
    }
    let mut dice = Dice(0x5eed_0001);
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for round in 0..200 {
        let call = world.call(round % 2, &alice, &[&bobs[0], &bobs[1], &bobs[2]]).await;
        let mut acts = JoinSet::new();
        for _ in 0..4 + dice.below(5) {
            let (who, what) = match dice.below(8) {
                0 => (alice.clone(), "end"),
                1 => (alice.clone(), "leave"),
                n => (
                    bobs[usize::try_from(dice.below(3)).unwrap()].clone(),
                    ["accept", "accept", "accept", "decline", "busy", "ringing"][usize::try_from(n - 2).unwrap()],
                ),
            };
            let node = usize::try_from(dice.below(2)).unwrap();
            let (address, call) = (world.nodes[node].address, call.clone());
            acts.spawn(async move { (who.clone(), what, verb(address, who, call, what).await) });
        }
        let mut winners = std::collections::BTreeSet::new();
        let mut done = Vec::new();
        while let Some(act) = acts.join_next().await {
            let (who, what, answer) = act.unwrap();
            let good = match answer.status {
                200 => true,
                409 => {
                    ["answered_elsewhere", "call_ended", "already_answered", "not_in_call"].contains(&&*answer.code())
                }
                _ => false,
            };
            assert!(good && (answer.status == 200 || answer.unlike_a_problem().is_none()), "{what}: {answer:?}");
            if what == "accept" && answer.status == 200 {
                winners.insert(who.device.clone());
                assert!(answer.json()["leg"].as_u64().is_some() && answer.text("phase") == "active", "{answer:?}");
            }
            done.push((who.device, what, answer.status, answer.code()));
        }
        assert!(winners.len() <= 1, "{done:?}");
        // Both nodes say the same of it, and it is what the answers were.
        let seen = [0, 1].map(|node| (node, format!("/v1/calls/{call}")));
        let mut views = Vec::new();
        for (node, path) in seen {
            let mut view = world.get(node, &alice, &path).await.json();
            view.as_object_mut().unwrap().remove("request_id");
            views.push(view);
        }
        assert_eq!(views[0], views[1]);
        let view = &views[0];
        let joined: Vec<&Value> =
            view["legs"].as_array().unwrap().iter().filter(|leg| leg["account"] == "bob").collect();
        let phase = view["phase"].as_str().unwrap();
        assert_eq!(joined.len(), winners.len(), "{done:?} {view}");
        if let (Some(leg), Some(winner)) = (joined.first(), winners.first()) {
            assert_eq!(leg["device"], json!(winner), "{done:?} {view}");
        }
        let hung_up = done.iter().any(|(device, what, status, _)| {
            (*what == "end" || *what == "leave") && *status == 200 && device == "dev_a1"
        });
        let reason = view["ended"]["reason"].as_str().unwrap_or("none");
        match phase {
            "active" => assert!(!hung_up && winners.len() == 1, "{done:?} {view}"),
            "ringing" => assert!(!hung_up && winners.is_empty(), "{done:?} {view}"),
            _ => {
                let fits = match reason {
                    "hangup" => hung_up && winners.len() == 1,
                    "cancelled" => hung_up && winners.is_empty(),
                    "declined" | "rejected_elsewhere" => done.iter().any(|d| d.1 == "decline" && d.2 == 200),
                    "busy" => done.iter().any(|d| d.1 == "busy" && d.2 == 200),
                    _ => false,
                };
                assert!(fits, "{reason}: {done:?} {view}");
            }
        }
        *outcomes.entry(format!("{phase} {reason}")).or_default() += 1;
        // Asked again, a winner's accept gives the same; a loser's does not.
        if phase == "active" {
            for bob in &bobs {
                let again = verb(world.nodes[0].address, bob.clone(), call.clone(), "accept").await;
                assert_eq!(again.status == 200, winners.contains(&bob.device), "{again:?}");
            }
        }
        verb(world.nodes[0].address, alice.clone(), call, "end").await;
        world.settle().await;
    }
    assert!(outcomes.len() >= 4, "the dice fell on one side: {outcomes:?}");
}

/// docs/api.md: "one request wins, the other gets 409 `glare` with `call_id`".
#[tokio::test]
async fn two_who_call_each_other_at_once_through_two_nodes_get_one_call_a_hundred_times() {
    let world = World::new(2, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let bob = world.device("bob", "dev_b1").await;
    let place = |node: usize, from: &Device, to: &Device| {
        let headers = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", from.token);
        let request = request("POST", "/v1/calls", &headers, call_to(&[to]).to_string().as_bytes());
        let address = world.nodes[node].address;
        async move { exchange(address, None, &request).await }
    };
    for round in 0..100 {
        let before = world.store.calls().await.len();
        let (one, other) = tokio::join!(place(round % 2, &alice, &bob), place((round + 1) % 2, &bob, &alice));
        let (won, lost, loser) = if one.status == 201 { (&one, &other, &bob) } else { (&other, &one, &alice) };
        assert_eq!(won.status, 201, "{one:?} {other:?}");
        lost.must_be(409, "glare", "the other one");
        let call = won.text("call_id");
        assert_eq!(lost.text("call_id"), call);
        assert_eq!(world.store.calls().await.len(), before + 1);
        let accepted = verb(world.nodes[round % 2].address, loser.clone(), call.clone(), "accept").await;
        assert_eq!(accepted.status, 200, "it rings at the one that lost, which accepts it: {accepted:?}");
        let again = place(round % 2, loser, if loser.account == "bob" { &alice } else { &bob }).await;
        again.must_be(409, "call_exists", "in a call with each other");
        assert_eq!(again.text("call_id"), call);
        assert_eq!(verb(world.nodes[0].address, loser.clone(), call, "end").await.status, 200);
    }
}

/// The same two, each with a call that has been ended at the very moment: nobody is locked out of the pair.
#[tokio::test]
async fn who_hangs_up_and_calls_again_at_once_at_the_other_node_gets_a_call() {
    let world = World::new(2, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    for round in 0..50 {
        let call = world.call(round % 2, &alice, &[&bob]).await;
        assert_eq!(world.verb(round % 2, &alice, &call, "end", &Value::Null).await.status, 200);
        let again = world.place((round + 1) % 2, &bob, &[&alice]).await;
        assert_eq!(again.status, 201, "{again:?}");
        assert_eq!(world.verb(round % 2, &bob, &again.text("call_id"), "end", &Value::Null).await.status, 200);
    }
}
