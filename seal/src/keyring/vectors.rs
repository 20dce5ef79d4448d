//! Blobs that each side has sealed once, and that both sides open: `seal/vectors/`.
//!
//! `TANDEM_VECTORS=write cargo test -p tandem-seal vectors` seals ours anew, for when docs/sealing.md changes.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tandem_wire::statement;

use super::*;
use crate::MemoryStore;
use crate::keys::verify;

const CALL: &str = "call_0006nwt0938nkrkaydxw0128hk";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn now() -> Wall {
    Wall::from_secs(1_795_000_000)
}

fn text<'a>(vectors: &'a Value, pointer: &str) -> &'a str {
    vectors.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}"))
}

fn bytes(vectors: &Value, pointer: &str) -> Vec<u8> {
    STANDARD.decode(text(vectors, pointer)).unwrap()
}

fn fixed<const N: usize>(vectors: &Value, pointer: &str) -> [u8; N] {
    bytes(vectors, pointer).try_into().unwrap()
}

fn keyring(vectors: &Value, who: &str) -> Keyring {
    let at = |what: &str| format!("/{who}/{what}");
    let party = Party {
        account: text(vectors, &at("account")).parse().unwrap(),
        device: text(vectors, &at("device")).parse().unwrap(),
    };
    // The caller's prekey plays no part.
    let prekey = vectors
        .pointer(&at("prekey/id"))
        .map_or((1, [9; 32]), |id| (u32::try_from(id.as_u64().unwrap()).unwrap(), fixed(vectors, &at("prekey/key"))));
    let keys = DeviceKeys::of(fixed(vectors, &at("sign")), fixed(vectors, &at("agree")), prekey, now());
    let (pins, nonces, sessions) = Default::default();
    let kept = Kept { format: FORMAT, party, custody: Custody::Device, keys, pins, nonces, sessions };
    Keyring { kept, store: Box::new(MemoryStore) }
}

fn listed(keyring: &Keyring) -> ListedDevice {
    ListedDevice { party: keyring.party().clone(), keys: keyring.public().unwrap(), custody: Custody::Device }
}

/// The answer of a server about the account whose first and only device this is.
fn answer(keyring: &Keyring) -> Value {
    let mut device = serde_json::to_value(keyring.registration().unwrap()).unwrap();
    let root = device["identity"]["sign"].clone();
    device["device"] = keyring.party().device.as_str().into();
    device["capabilities"] = json!([]);
    let mut answer = json!({ "account": keyring.party().account, "root": root, "devices": [device], "list_hash": "" });
    let list: DeviceList = serde_json::from_value(answer.clone()).unwrap();
    answer["list_hash"] = list.hash().into();
    answer
}

fn ours() -> Value {
    let seed = |n: u8| STANDARD.encode([n; 32]);
    let mut vectors = json!({
        "caller": { "account": "alice", "device": "dev_alice1", "sign": seed(1), "agree": seed(2) },
        "callee": {
            "account": "bob@example.com", "device": "dev_bob1", "sign": seed(3), "agree": seed(4),
            "prekey": { "id": 258, "key": seed(5) },
        },
        "call": CALL,
    });
    let (mut caller, mut callee) = (keyring(&vectors, "caller"), keyring(&vectors, "callee"));
    let call: CallId = CALL.parse().unwrap();
    let (to, from) = (listed(&callee), listed(&caller));
    let said = b"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n".repeat(20);
    let (offer, opening) = caller.seal_offer(&to, &said).unwrap();
    caller.began(call, vec![opening]).unwrap();
    callee.open_offer(call, &from, &offer).unwrap();
    let mut session = Vec::new();
    for n in 0..2_u8 {
        for (name, by, other) in [("callee", &mut callee, &from.party), ("caller", &mut caller, &to.party)] {
            let said = [n, 0, 0xff];
            let blob = by.seal(call, other, &said).unwrap();
            session.push(json!({ "from": name, "blob": STANDARD.encode(blob), "clear": STANDARD.encode(said) }));
        }
    }
    for (who, device) in [("caller", &caller), ("callee", &callee)] {
        vectors["endorsements"][who] = answer(device)["devices"][0]["endorsement"].clone();
    }
    let list = answer(&callee);
    vectors["prekey_signature"] = list["devices"][0]["signed_prekey"]["signature"].clone();
    vectors["list_hash"] = json!({ "root": list["root"], "devices": list["devices"], "hash": list["list_hash"] });
    vectors["offer"] = json!({ "blob": STANDARD.encode(&offer), "clear": STANDARD.encode(&said) });
    vectors["session"] = session.into();
    let note = caller.seal_note(&to, b"audio").unwrap();
    vectors["note"] = json!({ "blob": STANDARD.encode(note), "clear": STANDARD.encode("audio") });
    let (from, to) = (&from, &to);
    vectors["safety"] =
        safety_number((&from.party.account, &from.keys.sign), (&to.party.account, &to.keys.sign)).into();
    vectors
}

fn check(vectors: &Value) {
    let (caller, mut callee) = (keyring(vectors, "caller"), keyring(vectors, "callee"));
    let call: CallId = text(vectors, "/call").parse().unwrap();
    let (from, to) = (listed(&caller), listed(&callee));
    let offer = bytes(vectors, "/offer/blob");
    assert_eq!(callee.open_offer(call, &from, &offer).unwrap(), bytes(vectors, "/offer/clear"));
    assert_eq!(callee.open_offer(CallId::from_bits(1), &from, &offer), Err(SealError::Replayed));
    let mut opened = 0;
    for blob in vectors["session"].as_array().unwrap() {
        let sealed = bytes(blob, "/blob");
        if text(blob, "/from") == "caller" {
            assert_eq!(callee.open_blob(call, &from.party, &sealed).unwrap(), bytes(blob, "/clear"));
            opened += 1;
        } else {
            // Its own direction: the same key seals the same bytes, since nothing of it is random.
            let own = callee.seal(call, &from.party, &bytes(blob, "/clear")).unwrap();
            assert_eq!(own[..6], sealed[..6]);
        }
    }
    assert!(opened >= 2);
    assert_eq!(callee.open_note(&from, &bytes(vectors, "/note/blob")).unwrap(), bytes(vectors, "/note/clear"));
    let prekey = to.keys.prekey;
    let said = statement::prekey(&to.party, prekey.id, &prekey.key);
    verify(&to.keys.sign, &said, &fixed(vectors, "/prekey_signature")).unwrap();
    for (who, ListedDevice { party, keys, .. }) in [("caller", &from), ("callee", &to)] {
        let said = statement::device(party, &keys.sign, &keys.agree, false);
        verify(&keys.sign, &said, &fixed(vectors, &format!("/endorsements/{who}"))).unwrap();
    }
    let list = json!({
        "account": to.party.account, "root": vectors["list_hash"]["root"],
        "devices": vectors["list_hash"]["devices"], "list_hash": vectors["list_hash"]["hash"],
    });
    let list: DeviceList = serde_json::from_value(list).unwrap();
    assert_eq!(list.hash(), text(vectors, "/list_hash/hash"));
    let number = safety_number((&from.party.account, &from.keys.sign), (&to.party.account, &to.keys.sign));
    assert_eq!(number, text(vectors, "/safety"));
}

#[test]
fn both_sides_open_the_golden_vectors() {
    let path = folder().join("rust.json");
    if std::env::var_os("TANDEM_VECTORS").is_some_and(|what| what == "write") {
        std::fs::write(&path, serde_json::to_string_pretty(&ours()).unwrap() + "\n").unwrap();
    }
    let mut files: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.contains(&path));
    for file in files {
        check(&serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap());
    }
}

#[test]
fn what_is_sealed_today_is_as_good_as_the_golden_vectors() {
    check(&ours());
}
