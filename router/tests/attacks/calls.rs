//! Calls in the store: what signaling would have written there, and what the router has.

use std::time::Duration;

use tandem_core::topology::{Call, CallCommand, CallKind, Media, Placed};
use tandem_net::clock;
use tandem_state_client::memory::MemoryStore;
use tandem_state_client::{Change, Command, Key, Op, Revision, Store as _, StoreError};
use tandem_wire::id::{BucketId, CallId, PopId};
use tandem_wire::party::Party;
use tokio::time::timeout;

use super::socket::LONG;

pub(crate) fn party(account: &str) -> Party {
    Party { account: account.parse().unwrap(), device: "dev_1".parse().unwrap() }
}

/// Writes what comes of these commands over what is stored, whatever the router writes meanwhile.
pub(crate) async fn write(store: &MemoryStore, id: CallId, commands: Vec<CallCommand>) {
    loop {
        let stored = store.read(Key::Call(id)).await.unwrap();
        let mut call = stored.as_ref().map(|entry| Call::from_json(&entry.value).unwrap());
        for command in commands.clone() {
            call = Some(Call::apply(call.as_ref(), command, clock::now()).unwrap());
        }
        let based_on = stored.map_or(Revision::ZERO, |entry| entry.revision);
        let change = Change::Put(call.unwrap().to_json().unwrap());
        match store.commit(Command { ops: vec![Op { key: Key::Call(id), based_on, change }] }).await {
            Ok(_) => return,
            Err(StoreError::Stale { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A call of alice's that bob has answered, after these commands.
pub(crate) async fn answered(store: &MemoryStore, n: u128, more: &[CallCommand]) -> CallId {
    let id = CallId::new(PopId(7), BucketId(1), n);
    let (caller, callees) = (party("alice"), vec![party("bob")]);
    let placed = Placed { id, kind: CallKind::OneToOne, media: Media::Audio, caller, callees, request: None };
    write(store, id, [&[CallCommand::Place(placed), CallCommand::Accept(party("bob"))], more].concat()).await;
    id
}

/// Which revision the call is at, and whether the leg of this account is away in it.
async fn seen(store: &MemoryStore, id: CallId, account: &str) -> (Revision, bool) {
    let entry = store.read(Key::Call(id)).await.unwrap().unwrap();
    let call = Call::from_json(&entry.value).unwrap();
    (entry.revision, call.leg_of(&party(account)).unwrap().away.is_some())
}

pub(crate) async fn is_away(store: &MemoryStore, id: CallId, account: &str) -> bool {
    seen(store, id, account).await.1
}

/// Waits until the record says of the account's leg that it is away, or that it is not; which revision says so.
pub(crate) async fn says_of(store: &MemoryStore, id: CallId, account: &str, away: bool) -> Revision {
    let said = async {
        loop {
            let (revision, is) = seen(store, id, account).await;
            if is == away {
                return revision;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, said).await.unwrap_or_else(|_| panic!("it never says away: {away}"))
}
