//! Who becomes the root, whose endorsements count, and who is listed for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use tandem_wire::statement;

use super::*;
use crate::directory::Custody;

/// The keys of a device, drawn from a number.
pub(in crate::directory) struct Keys {
    sign: SigningKey,
    agree: [u8; 32],
}

impl Keys {
    pub(in crate::directory) fn new(n: u8) -> Self {
        Self { sign: SigningKey::from_bytes(&[n; 32]), agree: [n; 32] }
    }

    /// The public key, in base64.
    pub(in crate::directory) fn sign(&self) -> String {
        STANDARD.encode(self.sign.verifying_key().as_bytes())
    }

    /// What a device with these keys registers, without an endorsement.
    pub(in crate::directory) fn device(&self) -> DeviceRecord {
        DeviceRecord {
            sign: self.sign(),
            agree: STANDARD.encode(self.agree),
            prekey_id: 1,
            prekey: "p".to_owned(),
            prekey_signature: "x".to_owned(),
            capabilities: vec![],
            custody: Custody::Device,
            push_token: None,
            registered: Wall::from_millis(1),
            endorsement: None,
        }
    }

    /// The endorsement of a device by these keys.
    pub(in crate::directory) fn endorses(&self, party: &Party, device: &DeviceRecord) -> String {
        let bytes = |text: &str| STANDARD.decode(text).unwrap().try_into().unwrap();
        let hosted = device.custody == Custody::Hosted;
        let statement = statement::device(party, &bytes(&device.sign), &bytes(&device.agree), hosted);
        STANDARD.encode(self.sign.sign(&statement).to_bytes())
    }

    /// What a device with these keys registers, endorsed by others.
    pub(in crate::directory) fn registers(&self, party: &Party, by: &Self) -> DeviceRecord {
        let device = self.device();
        DeviceRecord { endorsement: Some(by.endorses(party, &device)), ..device }
    }
}

pub(in crate::directory) fn party(account: &str, device: &str) -> Party {
    Party { account: account.parse().unwrap(), device: device.parse().unwrap() }
}

fn bob(n: u8) -> Party {
    party("bob", &format!("dev_{n}"))
}

/// The numbers of the devices that are listed, and of those that are pending.
fn listed(account: &Account) -> (Vec<u8>, Vec<u8>) {
    let devices = account.clone().into_devices();
    let numbers = |list: Vec<(DeviceId, DeviceRecord)>| {
        list.iter().map(|(id, _)| id.as_str().strip_prefix("dev_").unwrap().parse().unwrap()).collect()
    };
    (numbers(devices.listed), numbers(devices.pending))
}

/// Device 1 is the root, and has endorsed 2.
fn of_two() -> (Account, Keys, Keys) {
    let (mut account, first, second) = (Account::default(), Keys::new(1), Keys::new(2));
    account.put(&bob(1), first.registers(&bob(1), &first)).unwrap();
    account.put(&bob(2), second.registers(&bob(2), &first)).unwrap();
    assert_eq!(listed(&account), (vec![1, 2], vec![]));
    (account, first, second)
}

#[test]
fn without_a_root_every_device_is_listed_and_nobody_can_endorse() {
    let mut account = Account::default();
    account.put(&bob(1), Keys::new(1).device()).unwrap();
    account.put(&bob(2), Keys::new(2).registers(&bob(2), &Keys::new(1))).unwrap();
    assert_eq!((listed(&account), &account.root), ((vec![1, 2], vec![]), &None));
    let endorsement = Keys::new(1).endorses(&bob(2), &Keys::new(2).device());
    assert_eq!(account.endorse(&bob(2), endorsement), Err(DirectoryError::NotEndorsed));
    assert!(account.devices.iter().all(|(_, device)| device.endorsement.is_none()), "nothing is kept unchecked");
}

#[test]
fn the_first_device_that_endorses_itself_is_the_root_and_the_others_are_pending() {
    let mut account = Account::default();
    account.put(&bob(1), Keys::new(1).device()).unwrap();
    account.put(&bob(2), Keys::new(2).registers(&bob(2), &Keys::new(2))).unwrap();
    assert_eq!(account.root, Some(Keys::new(2).sign()));
    assert_eq!(listed(&account), (vec![2], vec![1]));
    // A second one that does the same is not.
    account.put(&bob(3), Keys::new(3).registers(&bob(3), &Keys::new(3))).unwrap();
    assert_eq!(account.root, Some(Keys::new(2).sign()));
    assert_eq!(listed(&account), (vec![2], vec![1, 3]));
    account.endorse(&bob(1), Keys::new(2).endorses(&bob(1), &Keys::new(1).device())).unwrap();
    assert_eq!(listed(&account), (vec![1, 2], vec![3]));
}

#[test]
fn a_device_that_registers_anew_with_the_same_keys_keeps_its_endorsement_whatever_it_offers() {
    let (mut account, _, second) = of_two();
    let before = account.clone();
    let offers = [None, Some("%".to_owned()), Some(second.endorses(&bob(2), &second.device()))];
    for endorsement in offers {
        account.put(&bob(2), DeviceRecord { endorsement, ..second.device() }).unwrap();
        assert_eq!(account, before);
    }
    let renewed = DeviceRecord { prekey_id: 2, prekey: "p2".to_owned(), ..second.device() };
    account.put(&bob(2), renewed).unwrap();
    assert_eq!(listed(&account), (vec![1, 2], vec![]), "a prekey is renewed weekly");
}

#[test]
fn a_root_that_registers_anew_founds_nothing_and_the_others_stay_listed() {
    let (mut account, first, _) = of_two();
    let offers = [Some(first.endorses(&bob(1), &first.device())), None];
    for endorsement in offers {
        account.put(&bob(1), DeviceRecord { prekey_id: 2, endorsement, ..first.device() }).unwrap();
        assert_eq!((listed(&account), &account.root), ((vec![1, 2], vec![]), &Some(first.sign())));
    }
    // Its keys under another id, which it signs for, are no other root either.
    account.remove(&bob(1).device, Wall::from_millis(1));
    account.put(&bob(3), first.registers(&bob(3), &first)).unwrap();
    assert_eq!(listed(&account), (vec![2, 3], vec![]));
}

#[test]
fn a_device_with_other_keys_or_custody_loses_its_endorsement_and_gets_it_with_a_new_one() {
    let (account, first, second) = of_two();
    let others = [
        DeviceRecord { sign: Keys::new(3).sign(), ..second.device() },
        DeviceRecord { agree: Keys::new(3).device().agree, ..second.device() },
        DeviceRecord { custody: Custody::Hosted, ..second.device() },
    ];
    let old = first.endorses(&bob(2), &second.device());
    for other in others {
        for endorsement in [None, Some(old.clone())] {
            let mut account = account.clone();
            account.put(&bob(2), DeviceRecord { endorsement, ..other.clone() }).unwrap();
            assert_eq!(listed(&account), (vec![1], vec![2]));
            // What it had does not come back with the old keys either.
            account.put(&bob(2), second.device()).unwrap();
            assert_eq!(listed(&account), (vec![1], vec![2]));
        }
        let mut account = account.clone();
        let endorsement = Some(first.endorses(&bob(2), &other));
        account.put(&bob(2), DeviceRecord { endorsement, ..other }).unwrap();
        assert_eq!(listed(&account), (vec![1, 2], vec![]));
    }
}

#[test]
fn a_forged_endorsement_changes_nothing_of_one_that_holds() {
    let (mut account, _, second) = of_two();
    let before = account.clone();
    let forged = second.endorses(&bob(2), &second.device());
    assert_eq!(account.endorse(&bob(2), forged), Err(DirectoryError::NotEndorsed));
    assert_eq!(account.endorse(&bob(9), String::new()), Err(DirectoryError::Unknown));
    assert_eq!(account, before);
}

#[test]
fn after_the_roots_device_is_gone_its_endorsements_count_until_there_is_another_root() {
    let (mut account, first, second) = of_two();
    assert!(account.remove(&bob(1).device, Wall::from_millis(1)));
    assert_eq!((listed(&account), &account.root), ((vec![2], vec![]), &Some(first.sign())));
    // A prekey is renewed, and a device comes that the root had signed in time: neither founds anything.
    account.put(&bob(2), second.registers(&bob(2), &first)).unwrap();
    account.put(&bob(3), Keys::new(3).registers(&bob(3), &first)).unwrap();
    assert_eq!((listed(&account), &account.root), ((vec![2, 3], vec![]), &Some(first.sign())));
    account.put(&bob(4), Keys::new(4).registers(&bob(4), &Keys::new(4))).unwrap();
    assert_eq!((listed(&account), &account.root), ((vec![4], vec![2, 3]), &Some(Keys::new(4).sign())));
    // What the old root signed does not count any more, neither offered nor sent.
    account.put(&bob(2), second.registers(&bob(2), &first)).unwrap();
    let old = account.endorse(&bob(2), first.endorses(&bob(2), &second.device()));
    assert_eq!(old, Err(DirectoryError::NotEndorsed));
    assert_eq!(listed(&account), (vec![4], vec![2, 3]));
}

#[test]
fn a_roots_device_with_other_keys_is_gone_with_that_very_registration() {
    let (mut account, first, _) = of_two();
    // With the same key for statements it is the root still, and pending until it says so.
    let moved = DeviceRecord { agree: Keys::new(5).device().agree, ..first.device() };
    account.put(&bob(1), moved.clone()).unwrap();
    account.put(&bob(3), Keys::new(3).registers(&bob(3), &Keys::new(3))).unwrap();
    assert_eq!((listed(&account), &account.root), ((vec![2], vec![1, 3]), &Some(first.sign())));
    account.endorse(&bob(1), first.endorses(&bob(1), &moved)).unwrap();
    assert_eq!(listed(&account), (vec![1, 2], vec![3]));
    let anew = Keys::new(6);
    account.put(&bob(1), anew.registers(&bob(1), &anew)).unwrap();
    assert_eq!((listed(&account), &account.root), ((vec![1], vec![2, 3]), &Some(anew.sign())));
}

#[test]
fn an_account_without_devices_has_no_root() {
    let (mut account, ..) = of_two();
    assert!(account.remove(&bob(1).device, Wall::from_millis(1)));
    assert!(!account.remove(&bob(2).device, Wall::from_millis(0)), "it registered after that");
    assert!(account.remove(&bob(2).device, Wall::from_millis(1)));
    assert_eq!(account, Account::default());
    account.put(&bob(3), Keys::new(3).device()).unwrap();
    assert_eq!(listed(&account), (vec![3], vec![]));
}
