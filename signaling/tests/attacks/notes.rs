//! What a caller leaves for those who miss the call: one missed call for each of them, with what was left, and nothing more.

use serde_json::{Value, json};
use tandem_core::topology::{Blob, BlobKind};
use tandem_state_client::key::{MISSED, NOTE};
use tandem_state_client::{Change, Command, Key, Op, Revision, Store as _};
use tandem_wire::id::CallId;

use crate::world::{Device, World, base64, lavish};

/// The number, the kind and the bytes of every blob that tells of a missed call or could.
async fn notes(world: &World) -> Vec<(u16, BlobKind, Option<String>)> {
    let blobs = world.store.all_blobs().await.into_iter();
    let notes = blobs.filter(|(_, blob)| matches!(blob.kind, BlobKind::Note | BlobKind::Missed));
    notes.map(|(key, Blob { kind, sealed, .. })| (number(key), kind, sealed)).collect()
}

fn number(key: Key) -> u16 {
    match key {
        Key::Blob(_, _, number) => number,
        _ => panic!("no blob"),
    }
}

fn left() -> Option<String> {
    Some(base64(b"a note"))
}

/// Moves every note to where a version before kept it.
async fn as_an_older_version_had_it(world: &World) {
    for (key, blob) in world.store.all_blobs().await {
        if blob.kind != BlobKind::Note {
            continue;
        }
        let Key::Blob(call, device, _) = key else { panic!("no blob") };
        let revision = world.store.read(key).await.unwrap().unwrap().revision;
        let ops = vec![
            Op { key, based_on: revision, change: Change::Delete },
            Op {
                key: Key::Blob(call, device, MISSED),
                based_on: Revision::ZERO,
                change: Change::Put(blob.to_json().unwrap()),
            },
        ];
        world.store.commit(Command { ops }).await.unwrap();
    }
}

#[tokio::test]
async fn ten_devices_that_miss_a_call_have_one_note_each_with_what_the_caller_left() {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let mut bobs: Vec<Device> = Vec::new();
    for n in 0..10 {
        bobs.push(world.device("bob", &format!("dev_b{n}")).await);
    }
    for older in [false, true] {
        let call = world.call(0, &alice, &bobs.iter().collect::<Vec<_>>()).await;
        assert_eq!(notes(&world).await, vec![(NOTE, BlobKind::Note, left()); 10], "nobody has missed it yet");
        if older {
            as_an_older_version_had_it(&world).await;
        }
        assert_eq!(world.verb(0, &alice, &call, "end", &Value::Null).await.status, 200);
        assert_eq!(notes(&world).await, vec![(MISSED, BlobKind::Missed, left()); 10], "older: {older}");
        // Taken by their devices, so that the next round starts with none.
        for (key, _) in world.store.all_blobs().await {
            let based_on = world.store.read(key).await.unwrap().unwrap().revision;
            world.store.commit(Command { ops: vec![Op { key, based_on, change: Change::Delete }] }).await.unwrap();
        }
    }
}

#[tokio::test]
async fn of_a_call_that_was_answered_no_note_stays() {
    let world = World::new(1, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let other = world.device("bob", "dev_b2").await;
    for older in [false, true] {
        let call = world.call(0, &alice, &[&bob, &other]).await;
        if older {
            as_an_older_version_had_it(&world).await;
        }
        let accept = json!({ "sealed": base64(b"answer") });
        assert_eq!(world.verb(0, &bob, &call, "accept", &accept).await.status, 200);
        assert_eq!(world.verb(0, &alice, &call, "end", &Value::Null).await.status, 200);
        assert_eq!(notes(&world).await, vec![], "older: {older}");
    }
}

#[tokio::test]
async fn a_conversation_that_goes_on_for_ever_never_takes_the_number_of_a_note() {
    let world = World::new(1, lavish()).await;
    let (alice, bob) = (world.device("alice", "dev_a1").await, world.device("bob", "dev_b1").await);
    let call = world.call(0, &alice, &[&bob]).await;
    assert_eq!(world.verb(0, &bob, &call, "accept", &json!({ "sealed": base64(b"answer") })).await.status, 200);
    let id: CallId = call.parse().unwrap();
    let mut highest = 0;
    // Each time all but the newest are acknowledged.
    for _ in 0..200 {
        let signal = json!({ "sealed": { "dev_b1": base64(b"candidate") } });
        assert_eq!(world.verb(0, &alice, &call, "signal", &signal).await.status, 200);
        let entries = world.store.load(id).await.unwrap().entries;
        let mut signals: Vec<_> = entries
            .iter()
            .filter(|entry| matches!(entry.key, Key::Blob(..)))
            .filter(|entry| Blob::from_json(&entry.value).unwrap().kind == BlobKind::Signal)
            .collect();
        signals.sort_by_key(|entry| entry.revision);
        let newest = signals.pop().unwrap();
        highest = highest.max(number(newest.key));
        for entry in signals {
            let op = Op { key: entry.key, based_on: entry.revision, change: Change::Delete };
            world.store.commit(Command { ops: vec![op] }).await.unwrap();
        }
    }
    assert!(highest < 40, "{highest}");
}
