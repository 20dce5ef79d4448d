//! A server that lies, against devices of the SDK: each lie ends in a refusal that has a name, and never in a call.
//!
//! The lies are those of docs/sealing.md, "What is refused", as a server in front of signaling and the directory tells them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/sdk.rs"]
mod sdk;
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy::{Exchange, Liar};
use sdk::{World, now, open, party, pass, soon};
use serde_json::{Value, json};
use tandem_client::{Device, Error, Media, Reason, SealError, Trust, Wall};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

const LIST_OF_BOB: &str = "GET /v1/accounts/bob/devices";
const LIST_OF_ALICE: &str = "GET /v1/accounts/alice/devices";

/// What a lie does to a list.
type Change = Box<dyn Fn(&mut Value) + Send>;

/// A world in which alice's device asks a server that lies, and bob's an honest one; or the other way round.
async fn deceived(who: &str) -> (World, Arc<Liar>, Device, Device) {
    let world = World::start();
    let liar = Liar::before(world.api()).await;
    let device = |account: &'static str, device: &'static str| {
        let api = if account == who { liar.api.clone() } else { world.api().to_owned() };
        let setup = world.setup_at(&api, account, device);
        async move {
            let device = Device::start(setup).await.unwrap();
            soon(device.ready()).await;
            device
        }
    };
    let (alice, bob) = (device("alice", "dev_a").await, device("bob", "dev_b").await);
    (world, liar, alice, bob)
}

async fn refused(trust: &mut Receiver<Trust>) -> SealError {
    loop {
        if let Trust::Refused { why, .. } = soon(trust.recv()).await.unwrap() {
            return why;
        }
    }
}

/// Nothing rings there.
async fn silent(device: &Device) {
    assert!(timeout(Duration::from_millis(300), device.incoming()).await.is_err());
}

/// The list of an account, with the hash of what stands in it now.
fn hashed(list: &mut Value) {
    use base64::Engine as _;
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    let mut text = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    text(list["root"].as_str().unwrap_or_default());
    for device in list["devices"].as_array().unwrap() {
        let (identity, prekey) = (&device["identity"], &device["signed_prekey"]);
        for value in [&device["device"], &identity["sign"], &identity["agree"]] {
            text(value.as_str().unwrap());
        }
        text(&prekey["id"].to_string());
        for value in [&prekey["key"], &prekey["signature"], &device["custody"], &device["endorsement"]] {
            text(value.as_str().unwrap_or_default());
        }
    }
    list["list_hash"] = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash.finalize()).into();
}

/// The list of mallory's account, as the server has it.
async fn mallorys(world: &World, account: &str) -> Value {
    let mallory = world.device("mallory", "dev_m").await;
    let seen: Arc<Mutex<Value>> = Arc::default();
    let liar = Liar::before(world.api()).await;
    let saw = Arc::clone(&seen);
    liar.lies(move |exchange| {
        if exchange.answers("GET /v1/accounts/mallory/devices") {
            *saw.lock().unwrap() = exchange.body.clone();
        }
    });
    let asker = Device::start(world.setup_at(&liar.api, "eve", "dev_e")).await.unwrap();
    asker.devices(&mallory.party().account).await.unwrap();
    let mut list = seen.lock().unwrap().clone();
    list["account"] = account.into();
    list
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_server_that_does_not_lie_a_call_works_and_it_learns_nothing() {
    let (_world, liar, alice, bob) = deceived("alice").await;
    let seen: Arc<Mutex<String>> = Arc::default();
    let saw = Arc::clone(&seen);
    liar.lies(move |exchange| saw.lock().unwrap().push_str(&exchange.body.to_string()));
    let call = alice.place(&bob.party().account, Media::Video).await.unwrap();
    let other = soon(bob.incoming()).await.unwrap().accept().await.unwrap();
    let (a, b) = open(&call, &other).await;
    pass(&a, &b, "hello").await;
    call.signal(b"canary-that-only-bob-may-read").await.unwrap();
    assert_eq!(soon(other.message()).await.unwrap(), b"canary-that-only-bob-may-read");
    let seen = seen.lock().unwrap();
    assert!(seen.contains("sealed"));
    for canary in ["canary", "Y2FuYXJ5", "FuYXJ5", "YW5hcnk", "203.0.113.1:"] {
        assert!(!seen.contains(canary), "{canary}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_changes_in_a_list_nothing_is_sealed_and_nothing_rings() {
    let (world, liar, alice, bob) = deceived("alice").await;
    let forged = mallorys(&world, "bob").await;
    let added = forged["devices"][0].clone();
    let lies: Vec<(&str, Change)> = vec![
        (
            "a device more",
            Box::new(move |list| {
                list["devices"].as_array_mut().unwrap().push(added.clone());
                hashed(list);
            }),
        ),
        (
            "another key to agree with",
            Box::new(|list| {
                list["devices"][0]["identity"]["agree"] = ("A".repeat(43) + "=").into();
                hashed(list);
            }),
        ),
        (
            "another prekey",
            Box::new(|list| {
                list["devices"][0]["signed_prekey"]["key"] = ("A".repeat(43) + "=").into();
                hashed(list);
            }),
        ),
        (
            "an operator's device said to be none, or the other way round",
            Box::new(|list| {
                list["devices"][0]["custody"] = "hosted".into();
                hashed(list);
            }),
        ),
        (
            "no root",
            Box::new(|list| {
                list.as_object_mut().unwrap().remove("root");
                hashed(list);
            }),
        ),
        ("a wrong hash", Box::new(|list| list["list_hash"] = "x".into())),
        ("another account's list", Box::new(|list| list["account"] = "mallory".into())),
    ];
    for (what, lie) in lies {
        let placed = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&placed);
        liar.lies(move |exchange| {
            if exchange.answers(LIST_OF_BOB) {
                lie(&mut exchange.body);
            }
            *counted.lock().unwrap() += u32::from(exchange.asks("POST /v1/calls", ""));
        });
        let error = alice.place(&bob.party().account, Media::Audio).await.unwrap_err();
        assert!(matches!(error, Error::Sealing(SealError::BadDeviceList)), "{what}: {error}");
        assert_eq!(*placed.lock().unwrap(), 0, "{what}: nothing was sealed");
    }
    silent(&bob).await;
    // And honest again, it works.
    liar.lies(|_| {});
    alice.place(&bob.party().account, Media::Audio).await.unwrap();
    soon(bob.incoming()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_another_one_now_is_announced_and_calls_wait_for_the_person() {
    let (world, liar, alice, bob) = deceived("alice").await;
    let bobs = &bob.party().account;
    alice.devices(bobs).await.unwrap();
    let number = alice.safety_number(bobs).unwrap();
    bob.devices(&alice.party().account).await.unwrap();
    assert_eq!(bob.safety_number(&alice.party().account).unwrap(), number);

    let forged = mallorys(&world, "bob").await;
    let mut list = forged;
    // The endorsement names the account: it cannot be moved to another one.
    hashed(&mut list);
    liar.lies(move |exchange| {
        if exchange.answers(LIST_OF_BOB) {
            exchange.body = list.clone();
        }
    });
    let error = alice.place(bobs, Media::Audio).await.unwrap_err();
    assert!(matches!(error, Error::Sealing(SealError::BadDeviceList)), "{error}");

    // Keys of its own, made for bob's name: a list that holds, of somebody else.
    let middle = World::start();
    let false_bob = middle.device("bob", "dev_b").await;
    let false_list = taken(&middle, "bob").await;
    liar.lies(move |exchange| {
        if exchange.answers(LIST_OF_BOB) {
            exchange.body = false_list.clone();
        }
    });
    let mut trust = alice.trust();
    let error = alice.place(bobs, Media::Audio).await.unwrap_err();
    assert!(matches!(error, Error::Sealing(SealError::IdentityChanged)), "{error}");
    assert_eq!(soon(trust.recv()).await.unwrap(), Trust::IdentityChanged(bobs.clone()));
    assert_ne!(alice.safety_number(bobs).unwrap(), number, "the one to compare");
    silent(&bob).await;
    alice.confirm(bobs).unwrap();
    assert_ne!(alice.safety_number(bobs), bob.safety_number(&alice.party().account), "a man in the middle shows");
    drop(false_bob);
}

/// The list of an account, as an honest server has it.
async fn taken(world: &World, account: &'static str) -> Value {
    let liar = Liar::before(world.api()).await;
    let seen: Arc<Mutex<Value>> = Arc::default();
    let saw = Arc::clone(&seen);
    liar.lies(move |exchange| {
        if exchange.answers(&format!("GET /v1/accounts/{account}/devices")) {
            *saw.lock().unwrap() = exchange.body.clone();
        }
    });
    let asker = Device::start(world.setup_at(&liar.api, "eve", "dev_e")).await.unwrap();
    asker.devices(&account.parse().unwrap()).await.unwrap();
    let list = seen.lock().unwrap().clone();
    assert!(!list.is_null());
    list
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_whose_caller_is_another_one_now_hears_it_when_the_person_has_confirmed() {
    let (world, _liar, alice, bob) = deceived("bob").await;
    bob.devices(&alice.party().account).await.unwrap();
    alice.remove().await.unwrap();
    // A token of the second of the removal is void.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    world.forget("alice", "dev_a");
    let alice = world.device("alice", "dev_a").await;
    let mut trust = bob.trust();
    let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
    let waits = async {
        assert_eq!(soon(trust.recv()).await.unwrap(), Trust::IdentityChanged(alice.party().account.clone()));
        silent(&bob).await;
        bob.confirm(&alice.party().account).unwrap();
        soon(bob.incoming()).await.unwrap()
    };
    let (incoming, ()) = tokio::join!(waits, async {
        // Somebody has to wait for it, so that it is looked at.
        silent(&bob).await;
    });
    assert_eq!(incoming.id(), call.id());
    let other = incoming.accept().await.unwrap();
    open(&call, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_offer_in_a_new_call_is_refused() {
    let (_world, liar, alice, bob) = deceived("alice").await;
    let old: Arc<Mutex<Option<Value>>> = Arc::default();
    liar.lies(move |exchange| {
        if exchange.asks("POST /v1/calls", "calls") {
            let mut old = old.lock().unwrap();
            match &*old {
                None => *old = Some(exchange.body["sealed"].clone()),
                Some(old) => exchange.body["sealed"] = old.clone(),
            }
        }
    });
    let mut trust = bob.trust();
    let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
    soon(bob.incoming()).await.unwrap();
    call.hang_up().await.unwrap();
    alice.place(&bob.party().account, Media::Audio).await.unwrap();
    silent(&bob).await;
    assert_eq!(refused(&mut trust).await, SealError::Replayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_was_changed_cut_or_meant_for_another_device_is_refused() {
    let (world, liar, alice, bob) = deceived("alice").await;
    let other = world.second(&bob, "dev_c").await;
    type Lie = fn(&mut Value);
    let flip: Lie = |sealed| {
        let text = sealed["dev_b"].as_str().unwrap();
        let middle = text.len() / 2;
        let other = if &text[middle..=middle] == "A" { "B" } else { "A" };
        sealed["dev_b"] = format!("{}{other}{}", &text[..middle], &text[middle + 1..]).into();
    };
    let cut: Lie = |sealed| sealed["dev_b"] = sealed["dev_b"].as_str().unwrap()[..40].into();
    let splice: Lie = |sealed| sealed["dev_b"] = sealed["dev_c"].clone();
    for (what, lie, whys) in [
        ("flipped", flip, vec![SealError::Forged]),
        ("cut", cut, vec![SealError::Malformed]),
        ("another device's", splice, vec![SealError::Forged, SealError::UnknownPrekey]),
    ] {
        liar.lies(move |exchange| {
            if exchange.asks("POST /v1/calls", "calls") {
                lie(&mut exchange.body["sealed"]);
            }
        });
        let mut trust = bob.trust();
        let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
        silent(&bob).await;
        let why = refused(&mut trust).await;
        assert!(whys.contains(&why), "{what}: {why}");
        // The other device, whose offer was left alone, rings all the same.
        assert_eq!(soon(other.incoming()).await.unwrap().id(), call.id(), "{what}");
        call.hang_up().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_server_made_up_ends_the_call() {
    let (_world, liar, alice, bob) = deceived("bob").await;
    let mut trust = alice.trust();
    for sealed in ["AQIAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AQI=", "AA=="] {
        liar.lies(move |exchange| {
            if exchange.asks("POST /v1/calls/", "/accept") {
                exchange.body["sealed"] = sealed.into();
            }
        });
        let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
        let other = soon(bob.incoming()).await.unwrap().accept().await.unwrap();
        assert!(matches!(soon(call.transport()).await, Err(Error::Ended(Reason::Untrusted))));
        let why = refused(&mut trust).await;
        assert!(matches!(why, SealError::Forged | SealError::Malformed), "{why}");
        // Nothing is half open: the other side is told that it is over.
        soon(other.ended()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_repeated_or_reordered_in_a_call_is_refused_and_the_rest_is_heard() {
    let (_world, liar, alice, bob) = deceived("alice").await;
    let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
    let other = soon(bob.incoming()).await.unwrap().accept().await.unwrap();
    soon(call.accepted()).await.unwrap();
    let first: Arc<Mutex<Option<Value>>> = Arc::default();
    // The first is kept back and sent instead of the third, the second goes through.
    let mut n = 0;
    liar.lies(move |exchange: &mut Exchange| {
        if exchange.asks("POST /v1/calls/", "/signal") {
            n += 1;
            let mut first = first.lock().unwrap();
            match n {
                1 => *first = Some(std::mem::replace(&mut exchange.body["sealed"], json!({ "dev_b": "AA==" }))),
                3 => exchange.body["sealed"] = first.clone().unwrap(),
                _ => {}
            }
        }
    });
    let mut trust = bob.trust();
    for said in [b"1", b"2", b"3", b"4"] {
        call.signal(said).await.unwrap();
    }
    assert_eq!(soon(other.message()).await.unwrap(), b"2");
    assert_eq!(soon(other.message()).await.unwrap(), b"4");
    assert_eq!(refused(&mut trust).await, SealError::Malformed);
    assert_eq!(refused(&mut trust).await, SealError::Replayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_in_flight_is_answered_after_the_callee_renewed_its_key() {
    let world = World::start();
    let (alice, bob) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await);
    let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
    let week = Wall::from_millis(now().as_millis() + 7 * 24 * 3_600_000);
    assert!(bob.renew(week).await.unwrap());
    let other = soon(bob.incoming()).await.unwrap().accept().await.unwrap();
    let (a, b) = open(&call, &other).await;
    pass(&a, &b, "hello").await;
    other.hang_up().await.unwrap();
    soon(call.ended()).await;
    // The next one is sealed to the new key.
    let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
    assert_eq!(soon(bob.incoming()).await.unwrap().id(), call.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_nobody_vouches_for_does_not_ring_and_is_announced_once_it_does() {
    let world = World::start();
    let (alice, one) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await);
    alice.devices(&one.party().account).await.unwrap();
    let two = world.device("bob", "dev_c").await;
    let call = alice.place(&one.party().account, Media::Audio).await.unwrap();
    soon(one.incoming()).await.unwrap();
    silent(&two).await;
    assert!(two.place(&alice.party().account, Media::Audio).await.is_err());
    call.hang_up().await.unwrap();
    let pending = one.pending().await.unwrap();
    assert_eq!(pending.iter().map(|device| &device.party).collect::<Vec<_>>(), [two.party()]);
    assert_eq!(pending[0].join_code(), two.join_code().unwrap());
    one.endorse(&pending[0]).await.unwrap();
    let mut trust = alice.trust();
    let call = alice.place(&one.party().account, Media::Audio).await.unwrap();
    assert_eq!(soon(trust.recv()).await.unwrap(), Trust::NewDevice(party("bob", "dev_c")));
    assert_eq!(soon(two.incoming()).await.unwrap().id(), call.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_sealed_anew_for_a_device_that_came_meanwhile() {
    let (world, liar, alice, one) = deceived("alice").await;
    let two = world.device("bob", "dev_c").await;
    let one = Arc::new(one);
    let (vouching, handle) = (Arc::clone(&one), tokio::runtime::Handle::current());
    let mut done = false;
    liar.lies(move |exchange| {
        // After the list was read and before the call is placed.
        if exchange.answers(LIST_OF_BOB) && !std::mem::replace(&mut done, true) {
            handle.block_on(async {
                let pending = vouching.pending().await.unwrap();
                vouching.endorse(&pending[0]).await.unwrap();
            });
        }
    });
    let call = alice.place(&one.party().account, Media::Audio).await.unwrap();
    for bob in [&*one, &two] {
        assert_eq!(soon(bob.incoming()).await.unwrap().id(), call.id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_believes_no_list_of_its_caller_that_the_server_made() {
    let (world, liar, alice, bob) = deceived("bob").await;
    let mut forged = mallorys(&world, "alice").await;
    hashed(&mut forged);
    liar.lies(move |exchange| {
        if exchange.answers(LIST_OF_ALICE) {
            exchange.body = forged.clone();
        }
    });
    let mut trust = bob.trust();
    alice.place(&bob.party().account, Media::Audio).await.unwrap();
    silent(&bob).await;
    assert_eq!(refused(&mut trust).await, SealError::BadDeviceList);
}
