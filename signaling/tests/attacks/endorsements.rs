//! Devices that nobody vouches for, and who says that somebody does (docs/sealing.md, "Who vouches for a device").

use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use tandem_auth::rate::Rate;
use tandem_signaling::policy::Policy;
use tandem_wire::party::Party;
use tandem_wire::statement;

use super::world::*;

/// The keys of a device, drawn from a number.
struct Keys {
    sign: SigningKey,
    agree: [u8; 32],
}

impl Keys {
    fn new(n: u8) -> Self {
        Self { sign: SigningKey::from_bytes(&[n; 32]), agree: [n; 32] }
    }

    fn public(&self) -> [u8; 32] {
        self.sign.verifying_key().to_bytes()
    }

    /// The endorsement of a device with `other` keys by these.
    fn endorses(&self, device: &Device, other: &Self) -> String {
        let party = Party { account: device.account.parse().unwrap(), device: device.device.parse().unwrap() };
        let statement = statement::device(&party, &other.public(), &other.agree, false);
        base64(&self.sign.sign(&statement).to_bytes())
    }

    fn registration(&self, endorsement: Option<String>) -> Value {
        let mut body = registration();
        body["identity"] = json!({ "sign": base64(&self.public()), "agree": base64(&self.agree) });
        if let Some(endorsement) = endorsement {
            body["endorsement"] = json!(endorsement);
        }
        body
    }
}

/// Registers a device with these keys; whether it is endorsed then.
async fn register(world: &World, device: &Device, keys: &Keys, endorsement: Option<String>) -> bool {
    let path = format!("/v1/devices/{}", device.device);
    let answer = world.ask(0, device, "PUT", &path, &keys.registration(endorsement)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Who comes from elsewhere reads the very list that the device was told of.
    let list = world.get(0, device, &format!("/v1/accounts/{}/devices", device.account)).await;
    assert_eq!(list.text("list_hash"), answer.text("list_hash"));
    answer.json()["endorsed"].as_bool().unwrap()
}

async fn endorse(world: &World, by: &Device, device: &str, endorsement: &str) -> Answer {
    let path = format!("/v1/devices/{device}/endorsement");
    world.ask(0, by, "POST", &path, &json!({ "endorsement": endorsement })).await
}

/// The ids of an account's devices in the field of its list, as `asker` sees it; `None` if the field is not there.
async fn ids(world: &World, asker: &Device, account: &str, field: &str) -> Option<Vec<String>> {
    let list = world.get(0, asker, &format!("/v1/accounts/{account}/devices")).await.json();
    let devices = list.get(field)?.as_array().unwrap();
    Some(devices.iter().map(|device| device["device"].as_str().unwrap().to_owned()).collect())
}

async fn listed(world: &World, asker: &Device) -> Vec<String> {
    ids(world, asker, "bob", "devices").await.unwrap()
}

/// Alice, whom nobody vouches for and who needs nobody to; and bob's first device, the root, with keys 1.
async fn stage() -> (World, Device, Device, Keys) {
    let world = World::new(1, lavish()).await;
    let alice = world.device("alice", "dev_a1").await;
    let (bob, root) = (Device::new("bob", "dev_b1"), Keys::new(1));
    assert!(register(&world, &bob, &root, Some(root.endorses(&bob, &root))).await);
    (world, alice, bob, root)
}

/// A token opens the door of the server only: without the root's signature a device neither rings nor calls.
#[tokio::test]
async fn a_device_with_a_forged_endorsement_is_pending_does_not_ring_and_calls_nobody() {
    let (world, alice, bob, root) = stage().await;
    let (evil, keys) = (Device::new("bob", "dev_b2"), Keys::new(2));
    let other_device = root.endorses(&Device::new("bob", "dev_b3"), &keys);
    let other_account = root.endorses(&Device::new("alice", "dev_b2"), &keys);
    let forged = [None, Some(keys.endorses(&evil, &keys)), Some(root.endorses(&evil, &root)), Some(other_device)];
    for endorsement in forged.into_iter().chain([Some(other_account), Some(base64(&[0; 64]))]) {
        assert!(!register(&world, &evil, &keys, endorsement.clone()).await);
        if let Some(endorsement) = endorsement {
            endorse(&world, &evil, "dev_b2", &endorsement).await.must_be(409, "not_endorsed", "the same once more");
        }
    }
    assert_eq!(listed(&world, &alice).await, ["dev_b1"]);
    // Not needed in `sealed`, and not possible there.
    let both = world.place(0, &alice, &[&bob, &evil]).await;
    both.must_be(409, "devices_changed", "sealed for a pending device");
    assert_eq!(both.json()["extra"], json!(["dev_b2"]));
    let call = world.call(0, &alice, &[&bob]).await;
    for (method, path, body) in call_routes("dev_a1", &call) {
        let answer = world.ask(0, &evil, method, &path, &body).await;
        answer.must_be(404, "not_found", &format!("{method} {path} of a call that does not ring there"));
    }
    world.place(0, &evil, &[&alice]).await.must_be(403, "device_not_registered", "a call by a pending device");
    assert_eq!(world.store.calls().await.len(), 1);
    // The right one makes it a device like any other.
    assert_eq!(endorse(&world, &bob, "dev_b2", &root.endorses(&evil, &keys)).await.status, 204);
    assert_eq!(listed(&world, &alice).await, ["dev_b1", "dev_b2"]);
    assert_eq!(world.verb(0, &alice, &call, "end", &Value::Null).await.status, 200);
    let call = world.call(0, &alice, &[&bob, &evil]).await;
    let accepted = world.verb(0, &evil, &call, "accept", &json!({ "sealed": base64(b"answer") })).await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
}

/// Nobody's devices are another account's to vouch for, and it cannot tell whether they are there.
#[tokio::test]
async fn somebody_elses_account_cannot_endorse_a_device_not_even_with_the_roots_own_signature() {
    let (world, alice, bob, root) = stage().await;
    let (second, keys) = (Device::new("bob", "dev_b2"), Keys::new(2));
    assert!(!register(&world, &second, &keys, None).await);
    let (before, good) = (world.directory.text(), root.endorses(&second, &keys));
    let others = endorse(&world, &alice, "dev_b2", &good).await;
    let nothing = endorse(&world, &alice, "dev_nowhere", &good).await;
    others.must_be(404, "not_found", "a device of another account");
    assert_eq!(others.without_request_id(), nothing.without_request_id());
    assert_eq!(others.shape(), nothing.shape());
    // Of her own account, which has no root, it vouches for nobody.
    endorse(&world, &alice, "dev_a1", &good).await.must_be(409, "not_endorsed", "an account without a root");
    endorse(&world, &bob, "dev_nowhere", &good).await.must_be(404, "not_found", "no device of bob's");
    endorse(&world, &bob, "..%2Fdev_b2", &good).await.must_be(404, "not_found", "no id at all");
    assert_eq!(before, world.directory.text());
    for _ in 0..2 {
        assert_eq!(
            endorse(&world, &second, "dev_b2", &good).await.status,
            204,
            "any token of the account passes it on"
        );
    }
    let list = world.get(0, &alice, "/v1/accounts/bob/devices").await.json();
    assert_eq!(list["root"], json!(base64(&root.public())));
    assert_eq!(list["devices"][1]["endorsement"], json!(good));
}

/// The list of what is pending is for the person who has to decide about it.
#[tokio::test]
async fn pending_devices_are_told_to_their_own_account_only() {
    let (world, alice, bob, _) = stage().await;
    let second = Device::new("bob", "dev_b2");
    let before = world.get(0, &alice, "/v1/accounts/bob/devices").await;
    assert!(!register(&world, &second, &Keys::new(2), None).await);
    let after = world.get(0, &alice, "/v1/accounts/bob/devices").await;
    assert_eq!(before.body, after.body, "not even the list's hash may tell");
    assert_eq!(ids(&world, &alice, "bob", "pending").await, None);
    for own in [&bob, &second] {
        assert_eq!(listed(&world, own).await, ["dev_b1"]);
        assert_eq!(ids(&world, own, "bob", "pending").await.unwrap(), ["dev_b2"]);
    }
    let list = world.get(0, &alice, "/v1/accounts/alice/devices").await.json();
    assert_eq!((list.get("root"), &list["pending"]), (None, &json!([])));
    assert_eq!(list["devices"][0].get("endorsement"), None);
}

/// Whoever gets hold of a device's id and a token does not get its place.
#[tokio::test]
async fn a_device_that_comes_back_with_other_keys_is_pending_whether_it_was_removed_or_not() {
    let (world, alice, bob, root) = stage().await;
    let (second, keys) = (Device::new("bob", "dev_b2").issued(now_secs() - 60), Keys::new(2));
    let good = root.endorses(&second, &keys);
    assert!(register(&world, &second, &keys, Some(good.clone())).await);
    assert!(register(&world, &second, &keys, None).await, "the same keys keep it");
    assert!(!register(&world, &second, &Keys::new(3), Some(good.clone())).await);
    assert!(!register(&world, &second, &keys, None).await, "it was given up with the keys");
    assert!(register(&world, &second, &keys, Some(good.clone())).await);
    assert_eq!(world.ask(0, &bob, "DELETE", "/v1/devices/dev_b2", &Value::Null).await.status, 204);
    assert_eq!(listed(&world, &alice).await, ["dev_b1"]);
    // A later token, of a second that cannot be the removal's own.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let second = second.issued(now_secs());
    assert!(!register(&world, &second, &Keys::new(3), Some(good)).await);
    assert_eq!(listed(&world, &alice).await, ["dev_b1"]);
    assert_eq!(
        world.ask(0, &bob, "DELETE", "/v1/devices/dev_b2", &Value::Null).await.status,
        204,
        "pending ones go too"
    );
    assert_eq!(ids(&world, &bob, "bob", "pending").await.unwrap(), [""; 0]);
}

/// The person who lost the first device begins anew; what the lost one signed, or its thief signs, counts no more.
#[tokio::test]
async fn after_the_roots_device_was_removed_the_next_that_endorses_itself_is_the_root() {
    let (world, alice, bob, root) = stage().await;
    let (second, two) = (Device::new("bob", "dev_b2"), Keys::new(2));
    let (third, three) = (Device::new("bob", "dev_b3"), Keys::new(3));
    assert!(register(&world, &second, &two, Some(root.endorses(&second, &two))).await);
    assert!(!register(&world, &third, &three, Some(three.endorses(&third, &three))).await, "there is a root");
    assert_eq!(world.ask(0, &second, "DELETE", "/v1/devices/dev_b1", &Value::Null).await.status, 204);
    assert_eq!(listed(&world, &alice).await, ["dev_b2"]);
    endorse(&world, &third, "dev_b3", &three.endorses(&third, &three)).await.must_be(409, "not_endorsed", "a root");
    assert!(register(&world, &third, &three, Some(three.endorses(&third, &three))).await);
    assert_eq!(listed(&world, &alice).await, ["dev_b3"]);
    let list = world.get(0, &alice, "/v1/accounts/bob/devices").await.json();
    assert_eq!(list["root"], json!(base64(&three.public())));
    // Of the old root, nothing holds any more.
    let old = root.endorses(&second, &two);
    assert!(!register(&world, &second, &two, Some(old.clone())).await);
    endorse(&world, &second, "dev_b2", &old).await.must_be(409, "not_endorsed", "the old root's");
    world.place(0, &second, &[&alice]).await.must_be(403, "device_not_registered", "endorsed by who is gone");
    assert_eq!(endorse(&world, &third, "dev_b2", &three.endorses(&second, &two)).await.status, 204);
    assert_eq!(listed(&world, &alice).await, ["dev_b2", "dev_b3"]);
    drop(bob);
}

/// A ring that has begun is not answered by who lost the root's word meanwhile; the others answer it.
#[tokio::test]
async fn a_device_that_becomes_pending_while_it_rings_cannot_accept() {
    let (world, alice, bob, root) = stage().await;
    let (second, keys) = (Device::new("bob", "dev_b2"), Keys::new(2));
    assert!(register(&world, &second, &keys, Some(root.endorses(&second, &keys))).await);
    let call = world.call(0, &alice, &[&bob, &second]).await;
    assert!(!register(&world, &second, &Keys::new(3), None).await);
    let (before, answer) = (world.store.snapshot().await, json!({ "sealed": base64(b"answer") }));
    let refused = world.verb(0, &second, &call, "accept", &answer).await;
    refused.must_be(403, "device_not_registered", "an accept by a pending device");
    assert_eq!(before, world.store.snapshot().await);
    assert_eq!(world.verb(0, &bob, &call, "accept", &answer).await.status, 200);
    // What runs goes on: whoever has the leg keeps it.
    assert!(!register(&world, &bob, &Keys::new(4), None).await);
    for verb in ["rejoin", "end"] {
        assert_eq!(world.verb(0, &bob, &call, verb, &Value::Null).await.status, 200, "{verb}");
    }
}

/// They are durable writes, and each costs a signature's check.
#[tokio::test]
async fn endorsements_are_counted_with_the_registrations() {
    let few = Rate { per_minute: 1, burst: 3 };
    let world = World::new(1, Policy { registrations_per_account: few, ..lavish() }).await;
    let bob = world.device("bob", "dev_b1").await;
    for n in 1..6 {
        let answer = endorse(&world, &bob, "dev_b1", &base64(&[5; 64])).await;
        if n < 3 {
            answer.must_be(409, "not_endorsed", "an account without a root");
        } else {
            answer.must_be(429, "rate_limited", "a flood");
        }
    }
}
