//! Attacks where signaling and the router meet, from their contract (docs/api.md): both over one store in this process.
//!
//! Each test says in a sentence what holds, and names the attacks that it stands for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    dead_code,
    reason = "a test says what it expects"
)]

#[path = "../router/tests/attacks/socket.rs"]
mod socket;
#[path = "../signaling/tests/attacks/world.rs"]
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use socket::*;
use tandem_telemetry::http::{Limits, serve};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use world::*;

const QUIET: Duration = Duration::from_millis(300);

struct Place {
    world: World,
    router: tandem_router::Router,
    connect: SocketAddr,
}

async fn place() -> Place {
    let world = World::new(2, lavish()).await;
    let config = tandem_router::Config { tokens: token_keys(), origins: Vec::new() };
    let router = tandem_router::Router::start(config, Arc::new(world.store.clone()));
    assert!(router.ready().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router.routes(), std::future::pending(), Limits::new(1_000, 1_024)));
    Place { world, router, connect }
}

impl Place {
    /// Connects a device; gives what it is told before `ready`.
    async fn connect(&self, device: &Device) -> (Socket, Vec<Value>) {
        let mut socket = Socket::open(self.connect, &device.token).await;
        let pushes = socket.caught_up().await;
        (socket, pushes)
    }

    async fn must(&self, device: &Device, call: &str, verb: &str, body: Value) -> Answer {
        let answer = self.world.verb(0, device, call, verb, &body).await;
        assert_eq!(answer.status, 200, "{verb}: {answer:?}");
        answer
    }

    /// Waits until so many blobs are in the store.
    async fn blobs(&self, many: usize) {
        let there = async {
            while self.world.store.blobs().await != many {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let there = timeout(Duration::from_secs(5), there).await;
        assert!(there.is_ok(), "{} blobs instead of {many}", self.world.store.blobs().await);
    }
}

fn answer() -> Value {
    json!({ "sealed": base64(b"answer") })
}

fn kinds(pushes: &[Value]) -> Vec<&str> {
    pushes.iter().map(|push| push["type"].as_str().unwrap()).collect()
}

/// docs/api.md, "The device's connection": a device that connects in any phase is told how it stands, then `ready`.
#[tokio::test]
async fn a_device_that_connects_in_any_phase_of_a_call_is_told_how_it_stands() {
    let place = place().await;
    let world = &place.world;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let second = world.device("bob", "dev_b2").await;
    let call = world.call(0, &alice, &[&bob, &second]).await;
    for device in [&bob, &second] {
        let (_, told) = place.connect(device).await;
        assert_eq!(kinds(&told), ["call.offer"]);
        let offer = &told[0];
        assert_eq!(offer["call_id"], call);
        assert_eq!(offer["sealed"], base64(b"an offer that nobody here can read"));
        assert!(offer["ring_remaining_ms"].as_u64().is_some_and(|ms| ms <= 45_000), "{offer}");
        assert_eq!(offer["from"], json!({ "account": "alice", "device": "dev_a1" }));
    }
    let (_, told) = place.connect(&alice).await;
    assert!(told.iter().all(|push| push["type"] != "call.offer"), "{told:?}");
    place.must(&bob, &call, "accept", answer()).await;
    let (_, told) = place.connect(&alice).await;
    let accepted = told.iter().find(|push| push["type"] == "call.accepted").expect("the caller learns who answered");
    assert_eq!((&accepted["device"], &accepted["sealed"]), (&json!("dev_b1"), &json!(base64(b"answer"))));
    let (_, told) = place.connect(&second).await;
    assert!(!kinds(&told).contains(&"call.offer"), "it rings no more: {told:?}");
    place.must(&alice, &call, "end", Value::Null).await;
    let (_, told) = place.connect(&bob).await;
    assert!(!kinds(&told).iter().any(|kind| matches!(*kind, "call.offer" | "call.accepted")), "{told:?}");
}

/// M01: acknowledgements that delete nothing.
#[tokio::test]
async fn only_the_devices_own_blob_at_its_own_revision_is_deleted_by_an_acknowledgement() {
    let place = place().await;
    let world = &place.world;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let (second, mallory) = (world.device("bob", "dev_b2").await, world.device("mallory", "dev_m1").await);
    world.call(0, &alice, &[&bob, &second]).await;
    let before = world.store.blobs().await;
    let (mut of_bob, told) = place.connect(&bob).await;
    let id = told[0]["id"].as_str().unwrap().to_owned();
    let (mut of_second, _) = place.connect(&second).await;
    let (mut of_mallory, _) = place.connect(&mallory).await;
    let (mut of_alice, _) = place.connect(&alice).await;
    let (start, revision) = id.rsplit_once('.').unwrap();
    let old = format!("{start}.{}", revision.parse::<u64>().unwrap() - 1);
    let next = format!("{start}.{}", revision.parse::<u64>().unwrap() + 1);
    let max = format!("{start}.{}", u64::MAX);
    for socket in [&mut of_mallory, &mut of_alice] {
        socket.ack(&[&id]).await;
    }
    for bad in [&old, &next, &max, &id.to_uppercase(), &format!("{id}.0"), &format!(" {id}"), "", "../..", "\u{0}"] {
        of_bob.ack(&[bad]).await;
        of_second.ack(&[bad]).await;
    }
    tokio::time::sleep(QUIET).await;
    assert_eq!(world.store.blobs().await, before);
    of_bob.ack(&[&id, &id]).await;
    of_bob.ack(&[&id]).await;
    place.blobs(before - 1).await;
    let (_, told) = place.connect(&bob).await;
    assert!(told.iter().all(|push| push["id"] != id), "acknowledged, and delivered again: {told:?}");
    let (_, told) = place.connect(&second).await;
    assert_eq!(kinds(&told), ["call.offer"], "the other device still has its own");
}

/// M13: two sockets for one device.
#[tokio::test]
async fn a_blob_is_told_to_the_newer_socket_until_it_is_acknowledged_and_nothing_is_lost_between_two() {
    let place = place().await;
    let world = &place.world;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let (mut older, _) = place.connect(&bob).await;
    let call = world.call(0, &alice, &[&bob]).await;
    let offer = older.until("call.offer").await;
    let (mut newer, told) = place.connect(&bob).await;
    assert_eq!(told[0]["id"], offer["id"]);
    assert_eq!(older.end().await, Some(4409));
    place.must(&bob, &call, "accept", answer()).await;
    let signals: Vec<String> = (0..20).map(|n| base64(format!("candidate {n}").as_bytes())).collect();
    for sealed in &signals {
        place.must(&alice, &call, "signal", json!({ "sealed": { "dev_b1": sealed } })).await;
        let (next, _) = (Socket::open(place.connect, &bob.token).await, ());
        newer = next;
    }
    let mut seen = Vec::new();
    for push in newer.all(QUIET).await {
        if push["type"] == "call.signal" {
            seen.push(push["sealed"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(seen, signals, "each once, in their order");
}

/// docs/api.md: "Pushes of one call come in the order of their revisions".
#[tokio::test]
async fn pushes_of_a_call_come_in_the_order_of_its_revisions_through_a_hundred_random_transitions() {
    let place = place().await;
    let world = &place.world;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let (mut of_alice, _) = place.connect(&alice).await;
    let (mut of_bob, _) = place.connect(&bob).await;
    let mut dice = Dice(0x0dd5_eed5);
    let mut transitions = 0;
    while transitions < 100 {
        let call = world.call(0, &alice, &[&bob]).await;
        place.must(&bob, &call, "ringing", Value::Null).await;
        place.must(&bob, &call, "accept", answer()).await;
        for _ in 0..dice.below(12) {
            let (who, to) = if dice.below(2) == 0 { (&alice, "dev_b1") } else { (&bob, "dev_a1") };
            match dice.below(3) {
                0 => _ = place.must(who, &call, "rejoin", Value::Null).await,
                _ => _ = place.must(who, &call, "signal", json!({ "sealed": { to: base64(b"x") } })).await,
            }
            transitions += 1;
        }
        place.must(if dice.below(2) == 0 { &alice } else { &bob }, &call, "end", Value::Null).await;
        transitions += 4;
        for socket in [&mut of_alice, &mut of_bob] {
            let mut last = 0;
            loop {
                let push = socket.push().await;
                if push["call_id"] != call {
                    continue;
                }
                let revision = push["revision"].as_u64().unwrap();
                assert!(revision >= last, "{revision} after {last}: {push}");
                last = revision;
                if let Some(id) = push["id"].as_str() {
                    socket.ack(&[id]).await;
                }
                if push["type"] == "call.ended" {
                    break;
                }
            }
        }
    }
}

/// S15: a removed device's open socket.
#[tokio::test]
async fn a_removed_devices_open_socket_is_closed_within_five_seconds_and_coming_back_it_finds_nothing() {
    let place = place().await;
    let world = &place.world;
    let alice = world.device("alice", "dev_a1").await;
    let (bob, second) =
        (world.device("bob", "dev_b1").await.issued(now_secs() - 60), world.device("bob", "dev_b2").await);
    let call = world.call(0, &alice, &[&bob, &second]).await;
    let (mut socket, told) = place.connect(&bob).await;
    assert_eq!(kinds(&told), ["call.offer"]);
    let began = Instant::now();
    assert_eq!(world.ask(0, &second, "DELETE", "/v1/devices/dev_b1", &Value::Null).await.status, 204);
    assert_eq!(socket.end().await, Some(4401));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let headers = format!("{}sec-websocket-protocol: tandem.v1, bearer.{}\r\n", upgrade(), bob.token);
    if let Ok(mut again) = knock(place.connect, "/v1/connect", &headers).await {
        assert_eq!(again.next().await, Seen::Close(4401), "nothing may be told to it");
    }
    let (_, told) = place.connect(&second).await;
    assert_eq!(kinds(&told), ["call.offer"], "it rings on elsewhere");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let later = bob.issued(now_secs());
    assert_eq!(world.put(&later).await.status, 200);
    let (_, told) = place.connect(&later).await;
    assert!(told.is_empty(), "what was the old one's is not the new one's: {told:?}");
    place.must(&alice, &call, "end", Value::Null).await;
}

/// S09: a socket that never reads, as far as signals go. That it is closed is shown in router/tests/attacks/sessions.rs.
#[tokio::test]
async fn a_device_that_never_reads_finds_every_signal_when_it_comes_back() {
    let place = place().await;
    let world = &place.world;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let mut deaf = Socket::open_narrow(place.connect, &bob.token).await;
    let call = world.call(0, &alice, &[&bob]).await;
    place.must(&bob, &call, "accept", answer()).await;
    let blob = base64(&[7; 8_192]);
    let mut sent = 0;
    for _ in 0..40 {
        let signal = json!({ "sealed": { "dev_b1": blob } });
        sent += usize::from(world.verb(0, &alice, &call, "signal", &signal).await.status == 200);
    }
    assert!(sent >= 20, "{sent}");
    // A newer one has everything.
    let (_, told) = place.connect(&bob).await;
    assert_eq!(kinds(&told).iter().filter(|kind| **kind == "call.signal").count(), sent);
    deaf.end().await;
    assert_eq!(world.verb(0, &alice, &call, "end", &Value::Null).await.status, 200);
    drop(place.router);
}
