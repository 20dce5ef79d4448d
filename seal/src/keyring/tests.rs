//! Two devices and a server between them that does as it likes.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::{FileStore, MemoryStore};

const CALL: CallId = CallId::from_bits(7);
const OTHER_CALL: CallId = CallId::from_bits(8);

fn now() -> Wall {
    Wall::from_secs(1_795_000_000)
}

fn days(days: u64) -> Wall {
    Wall::from_secs(1_795_000_000 + days * 24 * 3_600)
}

fn party(account: &str, device: &str) -> Party {
    Party { account: account.parse().unwrap(), device: format!("dev_{device}").parse().unwrap() }
}

fn keyring(account: &str, device: &str) -> Keyring {
    Keyring::open(party(account, device), Custody::Device, Box::new(MemoryStore), now()).unwrap()
}

fn text(keyring: &Keyring, pointer: &str) -> Value {
    serde_json::to_value(keyring.registration().unwrap()).unwrap().pointer(pointer).unwrap().clone()
}

/// What an honest server answers: the first device is the account's first, the others were endorsed by it.
fn answer(devices: &[&Keyring]) -> Value {
    use base64::Engine as _;
    let first = devices[0];
    let entry = |keyring: &&Keyring| {
        let mut entry = serde_json::to_value(keyring.registration().unwrap()).unwrap();
        let listed = ListedDevice {
            party: keyring.party().clone(),
            keys: keyring.public().unwrap(),
            custody: keyring.kept.custody,
        };
        let endorsement = first.endorse(&listed).unwrap();
        entry["endorsement"] = base64::engine::general_purpose::STANDARD.encode(endorsement).into();
        entry["device"] = keyring.party().device.as_str().into();
        entry
    };
    let mut entries: Vec<Value> = devices.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry["device"].as_str().unwrap().to_owned());
    hashed(json!({ "account": first.party().account, "root": text(first, "/identity/sign"), "devices": entries }))
}

/// With the hash of what stands in it.
fn hashed(mut answer: Value) -> Value {
    answer["list_hash"] = "".into();
    let list: DeviceList = serde_json::from_value(answer.clone()).unwrap();
    answer["list_hash"] = list.hash().into();
    answer
}

fn list(answer: &Value) -> DeviceList {
    serde_json::from_value(answer.clone()).unwrap()
}

/// The one device of an account, as `by` believes it.
fn device(by: &mut Keyring, other: &Keyring) -> ListedDevice {
    let checked = by.check(&other.party().account, &list(&answer(&[other]))).unwrap();
    checked.find(&other.party().device).unwrap().clone()
}

/// A caller and a callee with a session in a call.
fn in_call() -> (Keyring, Keyring) {
    let (mut caller, mut callee) = (keyring("al", "a"), keyring("bo", "b"));
    let (to, from) = (device(&mut caller, &callee), device(&mut callee, &caller));
    let (offer, opening) = caller.seal_offer(&to, b"offer").unwrap();
    caller.began(CALL, vec![opening]).unwrap();
    assert_eq!(callee.open_offer(CALL, &from, &offer).unwrap(), b"offer");
    (caller, callee)
}

#[test]
fn what_one_seals_the_other_opens_in_both_directions() {
    let (mut caller, mut callee) = in_call();
    let (al, bo) = (caller.party().clone(), callee.party().clone());
    for n in 0..200_u8 {
        let blob = callee.seal(CALL, &al, &[n; 300]).unwrap();
        assert_eq!(caller.open_blob(CALL, &bo, &blob).unwrap(), [n; 300]);
        let blob = caller.seal(CALL, &bo, &[n]).unwrap();
        assert_eq!(callee.open_blob(CALL, &al, &blob).unwrap(), [n]);
    }
    let from = device(&mut callee, &caller);
    let note = caller.seal_note(&device(&mut caller.clone_for_test(), &callee), b"note").unwrap();
    assert_eq!(callee.open_note(&from, &note).unwrap(), b"note");
}

#[test]
fn what_is_sealed_is_not_in_the_blob_and_its_length_says_little() {
    let (mut caller, callee) = in_call();
    let bo = callee.party().clone();
    let canary = b"candidate:1 1 udp 2113937151 192.0.2.77 54321 typ host";
    let blob = caller.seal(CALL, &bo, canary).unwrap();
    assert!(!blob.windows(8).any(|window| canary.windows(8).any(|part| part == window)));
    assert_eq!(blob.len(), caller.seal(CALL, &bo, b"x").unwrap().len());
}

#[test]
fn every_changed_byte_and_every_cut_is_refused() {
    let (mut caller, mut callee) = (keyring("al", "a"), keyring("bo", "b"));
    let (to, from) = (device(&mut caller, &callee), device(&mut callee, &caller));
    let (offer, opening) = caller.seal_offer(&to, b"offer").unwrap();
    caller.began(CALL, vec![opening]).unwrap();
    for at in 0..offer.len() {
        let mut bad = offer.clone();
        bad[at] ^= 1;
        let refused = callee.open_offer(CALL, &from, &bad).unwrap_err();
        let expected = match at {
            0 | 1 => SealError::Malformed,
            2..6 => SealError::UnknownPrekey,
            _ => SealError::Forged,
        };
        assert_eq!(refused, expected, "byte {at}");
        assert!(callee.open_offer(CALL, &from, &offer[..at]).is_err(), "{at} bytes");
    }
    assert_eq!(callee.session_with(CALL, &from.party), None);
    callee.open_offer(CALL, &from, &offer).unwrap();
    let answer = callee.seal(CALL, &from.party, b"answer").unwrap();
    for at in 0..answer.len() {
        let mut bad = answer.clone();
        bad[at] ^= 1;
        let expected = if at < 2 { SealError::Malformed } else { SealError::Forged };
        assert_eq!(caller.open_blob(CALL, &to.party, &bad).unwrap_err(), expected, "byte {at}");
        assert!(caller.open_blob(CALL, &to.party, &answer[..at]).is_err(), "{at} bytes");
    }
    caller.open_blob(CALL, &to.party, &answer).unwrap();
}

#[test]
fn what_is_over_8_kib_is_neither_sealed_nor_opened() {
    let (mut caller, mut callee) = in_call();
    let (al, bo) = (caller.party().clone(), callee.party().clone());
    // Nothing of it can be packed.
    let said = crate::random::<8_192>().unwrap();
    assert_eq!(caller.seal(CALL, &bo, &said), Err(SealError::Malformed));
    let mut blob = caller.seal(CALL, &bo, &said[..7_900]).unwrap();
    blob.resize(8_193, 0);
    assert_eq!(callee.open_blob(CALL, &al, &blob), Err(SealError::Malformed));
    let to = device(&mut caller, &callee);
    assert_eq!(caller.seal_offer(&to, &said).unwrap_err(), SealError::Malformed);
    let (mut offer, _) = caller.seal_offer(&to, b"offer").unwrap();
    offer.resize(8_193, 0);
    let from = device(&mut callee, &caller);
    assert_eq!(callee.open_offer(CALL, &from, &offer), Err(SealError::Malformed));
}

#[test]
fn an_old_offer_opens_in_no_other_call() {
    let (mut caller, mut callee) = (keyring("al", "a"), keyring("bo", "b"));
    let (to, from) = (device(&mut caller, &callee), device(&mut callee, &caller));
    let (offer, _) = caller.seal_offer(&to, b"offer").unwrap();
    callee.open_offer(CALL, &from, &offer).unwrap();
    // Pushes repeat.
    let first = callee.seal(CALL, &from.party, b"1").unwrap();
    callee.open_offer(CALL, &from, &offer).unwrap();
    assert_ne!(callee.seal(CALL, &from.party, b"2").unwrap()[..6], first[..6], "the session went on");
    assert_eq!(callee.open_offer(OTHER_CALL, &from, &offer), Err(SealError::Replayed));
    assert_eq!(callee.session_with(OTHER_CALL, &from.party), None);
}

#[test]
fn blobs_repeated_reordered_reflected_or_of_another_call_or_device_are_refused() {
    let (mut caller, mut callee) = in_call();
    let (al, bo) = (caller.party().clone(), callee.party().clone());
    let blobs: Vec<_> = (0..3_u8).map(|n| callee.seal(CALL, &al, &[n]).unwrap()).collect();
    caller.open_blob(CALL, &bo, &blobs[1]).unwrap();
    for late in &blobs[..2] {
        assert_eq!(caller.open_blob(CALL, &bo, late), Err(SealError::Replayed));
    }
    assert_eq!(callee.open_blob(CALL, &al, &blobs[2]), Err(SealError::Forged), "its own, sent back");
    assert_eq!(caller.open_blob(OTHER_CALL, &bo, &blobs[2]), Err(SealError::NoSession));
    assert_eq!(caller.open_blob(CALL, &party("bo", "b2"), &blobs[2]), Err(SealError::NoSession));
    assert_eq!(caller.open_blob(CALL, &bo, &blobs[2]).unwrap(), [2]);

    // Another call of the same two: its session is another one.
    let (to, from) = (device(&mut caller, &callee), device(&mut callee, &caller));
    let (offer, opening) = caller.seal_offer(&to, b"offer").unwrap();
    caller.began(OTHER_CALL, vec![opening]).unwrap();
    callee.open_offer(OTHER_CALL, &from, &offer).unwrap();
    let blob = callee.seal(CALL, &al, b"for the first").unwrap();
    assert_eq!(caller.open_blob(OTHER_CALL, &bo, &blob), Err(SealError::Forged));
    // The same session under another id: the call's name is sealed in.
    let spliced = callee.kept.sessions.iter().find(|open| open.call == CALL).unwrap().session.clone();
    callee.kept.sessions.push_back(Open {
        call: CallId::from_bits(9),
        peer: al.clone(),
        session: spliced,
        proven: true,
    });
    let blob = callee.seal(CallId::from_bits(9), &al, b"for the third").unwrap();
    assert_eq!(caller.open_blob(CALL, &bo, &blob), Err(SealError::Forged));
}

#[test]
fn an_offer_is_for_one_device_from_one_device() {
    let (mut caller, mut callee, mut second) = (keyring("al", "a"), keyring("bo", "b"), keyring("bo", "c"));
    let mallory = keyring("ma", "m");
    let both = list(&answer(&[&callee, &second]));
    let checked = caller.check(&"bo".parse().unwrap(), &both).unwrap();
    let (offer, _) = caller.seal_offer(checked.find(&callee.party().device).unwrap(), b"offer").unwrap();
    let from = device(&mut second, &caller);
    assert_eq!(second.open_offer(CALL, &from, &offer), Err(SealError::Forged));
    let other = device(&mut callee, &mallory);
    assert_eq!(callee.open_offer(CALL, &other, &offer), Err(SealError::Forged));
    // A server that says that mallory's keys are alice's is found out by the list; if it is believed, by the seal.
    let from = ListedDevice { party: caller.party().clone(), ..other };
    assert_eq!(callee.open_offer(CALL, &from, &offer), Err(SealError::Forged));
}

#[test]
fn a_ring_in_flight_opens_after_the_prekey_was_renewed_and_not_when_it_is_gone() {
    let (mut caller, mut callee) = (keyring("al", "a"), keyring("bo", "b"));
    let (to, from) = (device(&mut caller, &callee), device(&mut callee, &caller));
    let (offer, _) = caller.seal_offer(&to, b"offer").unwrap();
    let (late, _) = caller.seal_offer(&to, b"late").unwrap();
    assert!(callee.renew(days(7)).unwrap());
    assert_ne!(callee.public().unwrap().prekey.id, to.keys.prekey.id);
    assert_eq!(callee.open_offer(CALL, &from, &offer).unwrap(), b"offer");
    assert!(callee.renew(days(14)).unwrap());
    assert_eq!(callee.open_offer(OTHER_CALL, &from, &late), Err(SealError::UnknownPrekey));
    assert!(callee.kept.nonces.is_empty(), "what cannot be opened need not be remembered");
}

#[test]
fn a_list_with_anything_wrong_in_it_is_not_believed_at_all() {
    let (first, second, mallory) = (keyring("bo", "b"), keyring("bo", "c"), keyring("bo", "m"));
    let good = answer(&[&first, &second]);
    let bo: AccountId = "bo".parse().unwrap();
    let refused = |bad: Value, what: &str| {
        let mut caller = keyring("al", "a");
        assert_eq!(caller.check(&bo, &list(&bad)).unwrap_err(), SealError::BadDeviceList, "{what}");
        assert!(caller.kept.pins.is_empty(), "{what}: nothing is remembered");
    };
    assert_eq!(keyring("al", "a").check(&bo, &list(&good)).unwrap().devices.len(), 2);
    let mut bad = good.clone();
    bad["list_hash"] = "x".into();
    refused(bad, "a wrong hash");
    let key = || text(&mallory, "/identity/agree");
    for (pointer, value) in [
        ("/root", text(&mallory, "/identity/sign")),
        ("/root", Value::Null),
        ("/devices/1/identity/agree", key()),
        ("/devices/1/identity/sign", key()),
        ("/devices/1/signed_prekey/key", key()),
        ("/devices/1/signed_prekey/id", 2.into()),
        ("/devices/1/custody", "hosted".into()),
        ("/devices/1/device", "dev_d".into()),
        ("/devices/1/endorsement", good["devices"][0]["endorsement"].clone()),
        ("/devices/1/endorsement", Value::Null),
        ("/devices/1/endorsement", "AAAA".into()),
        ("/devices/1", good["devices"][0].clone()),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        refused(hashed(bad), pointer);
    }
    // A device that the server adds with keys and an endorsement of its own.
    let mut bad = good.clone();
    let added = answer(&[&mallory])["devices"][0].clone();
    bad["devices"].as_array_mut().unwrap().push(added);
    refused(hashed(bad), "a device that nobody vouched for");
    // Another account's list.
    let al: AccountId = "al".parse().unwrap();
    assert_eq!(keyring("al", "x").check(&al, &list(&good)).unwrap_err(), SealError::BadDeviceList);
}

#[test]
fn a_changed_identity_waits_for_the_person_and_a_new_device_is_announced() {
    let mut caller = keyring("al", "a");
    let (first, second, other) = (keyring("bo", "b"), keyring("bo", "c"), keyring("bo", "b"));
    let bo: AccountId = "bo".parse().unwrap();
    caller.check(&"al".parse().unwrap(), &list(&answer(&[&caller]))).unwrap();
    assert!(caller.check(&bo, &list(&answer(&[&first]))).unwrap().new.is_empty());
    let number = caller.safety_number(&bo).unwrap();
    let both = list(&answer(&[&first, &second]));
    assert_eq!(caller.check(&bo, &both).unwrap().new, [second.party().device.clone()]);
    assert!(caller.check(&bo, &both).unwrap().new.is_empty(), "once");
    assert_eq!(caller.safety_number(&bo).unwrap(), number, "a device more changes nothing about who it is");

    let changed = list(&answer(&[&other]));
    assert_eq!(caller.check(&bo, &changed).unwrap_err(), SealError::IdentityChanged);
    assert_ne!(caller.safety_number(&bo).unwrap(), number, "what is to be compared now");
    let root = other.public().unwrap().sign;
    assert_eq!(caller.changed(&bo), Some(root));
    assert_eq!(caller.confirm(&bo, &first.public().unwrap().sign), Err(SealError::IdentityChanged));
    // The old one comes back: the call goes on as before, and the change is still to be confirmed.
    caller.check(&bo, &both).unwrap();
    caller.confirm(&bo, &root).unwrap();
    assert_eq!(caller.check(&bo, &changed).unwrap().new, [other.party().device.clone()]);
    assert_eq!(caller.check(&bo, &both).unwrap_err(), SealError::IdentityChanged);
}

#[test]
fn both_see_the_same_number_and_a_man_in_the_middle_makes_them_differ() {
    let (mut alice, mut bob, mallory) = (keyring("al", "a"), keyring("bo", "b"), keyring("bo", "b"));
    let mut deceived = keyring("al", "z");
    for keyring in [&mut alice, &mut bob, &mut deceived] {
        let own = list(&answer(&[keyring]));
        keyring.check(&keyring.party().account.clone(), &own).unwrap();
    }
    device(&mut alice, &bob);
    device(&mut bob, &alice);
    device(&mut deceived, &mallory);
    let (al, bo) = ("al".parse().unwrap(), "bo".parse().unwrap());
    assert_eq!(alice.safety_number(&bo), bob.safety_number(&al));
    assert_ne!(deceived.safety_number(&bo), bob.safety_number(&al));
}

/// A store that several keyrings can be opened from, one after the other, and that can fail.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<(Option<Vec<u8>>, bool)>>);

impl Store for Shelf {
    fn load(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().0.clone())
    }

    fn save(&mut self, bytes: &[u8], _: bool) -> io::Result<()> {
        let mut shelf = self.0.lock().unwrap();
        if shelf.1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        shelf.0 = Some(bytes.to_vec());
        Ok(())
    }
}

#[test]
fn a_device_that_comes_back_goes_on_and_uses_no_number_twice() {
    let shelf = Shelf::default();
    let open = || Keyring::open(party("al", "a"), Custody::Device, Box::new(shelf.clone()), now()).unwrap();
    let (mut caller, mut callee) = (open(), keyring("bo", "b"));
    let (to, from) = (device(&mut caller, &callee), device(&mut callee, &caller));
    let (offer, opening) = caller.seal_offer(&to, b"offer").unwrap();
    caller.began(CALL, vec![opening]).unwrap();
    callee.open_offer(CALL, &from, &offer).unwrap();
    let answer = callee.seal(CALL, &from.party, b"answer").unwrap();
    caller.open_blob(CALL, &to.party, &answer).unwrap();
    let mut numbers = BTreeSet::new();
    for _ in 0..3 {
        for n in 0..70 {
            let blob = caller.seal(CALL, &to.party, &[n]).unwrap();
            assert!(numbers.insert(blob[..6].to_vec()));
            assert_eq!(callee.open_blob(CALL, &from.party, &blob).unwrap(), [n]);
        }
        // It is killed.
        caller = open();
        assert_eq!(caller.open_blob(CALL, &to.party, &answer), Err(SealError::Replayed));
    }
    caller.over(CALL).unwrap();
    assert_eq!(open().seal(CALL, &to.party, b""), Err(SealError::NoSession));
    assert_eq!(open().public().unwrap(), caller.public().unwrap());
}

#[test]
fn what_cannot_be_kept_is_not_done() {
    let shelf = Shelf::default();
    let mut caller = Keyring::open(party("al", "a"), Custody::Device, Box::new(shelf.clone()), now()).unwrap();
    let mut callee = keyring("bo", "b");
    let to = device(&mut caller, &callee);
    device(&mut callee, &caller);
    let (_, opening) = caller.seal_offer(&to, b"offer").unwrap();
    caller.began(CALL, vec![opening]).unwrap();
    shelf.0.lock().unwrap().1 = true;
    for _ in 0..2 {
        assert_eq!(caller.seal(CALL, &to.party, b"x"), Err(SealError::NotKept));
    }
    assert_eq!(caller.renew(days(7)), Err(SealError::NotKept));
    shelf.0.lock().unwrap().1 = false;
    caller.seal(CALL, &to.party, b"x").unwrap();
    assert!(caller.renew(days(7)).unwrap());
}

#[test]
fn a_file_that_is_none_is_damaged_newer_or_of_another_device_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let open = |device: &str| {
        let store = Box::new(FileStore::open(&path).unwrap());
        Keyring::open(party("al", device), Custody::Device, store, now())
    };
    open("a").unwrap();
    assert!(matches!(open("b").unwrap_err(), KeyringError::OtherDevice));
    let whole = std::fs::read(&path).unwrap();
    for (content, newer) in [(&whole[..whole.len() / 2], false), (b"", false), (br#"{"format":2}"#, true)] {
        std::fs::write(&path, content).unwrap();
        let error = open("a").unwrap_err();
        assert_eq!(matches!(error, KeyringError::Newer(2)), newer, "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[test]
fn nothing_of_a_keyring_prints_itself() {
    let (caller, callee) = in_call();
    let shown = format!("{caller:?} {:?} {:?}", callee.public().unwrap(), callee.registration().unwrap());
    assert!(shown.len() < 80, "{shown}");
}

impl Keyring {
    fn clone_for_test(&self) -> Self {
        let kept = serde_json::from_value(serde_json::to_value(&self.kept).unwrap()).unwrap();
        Self { kept, store: Box::new(MemoryStore) }
    }
}
