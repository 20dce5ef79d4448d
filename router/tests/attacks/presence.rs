//! What is written of a device that has come or gone: whoever is in a call with it must hear of it, whatever was seen when.

use std::time::Duration;

use tandem_core::topology::CallCommand;
use tandem_state_client::Revision;
use tandem_state_client::memory::MemoryStore;
use tandem_wire::id::CallId;
use tokio::time::timeout;

use super::calls::*;
use super::place::*;
use super::socket::*;

async fn says(store: &MemoryStore, id: CallId, away: bool) -> Revision {
    says_of(store, id, "alice", away).await
}

async fn alice(running: &Running) -> Socket {
    let mut socket = Socket::open(running.address, &token("alice", "dev_1")).await;
    socket.caught_up().await;
    socket
}

#[tokio::test]
async fn a_device_that_goes_is_away_in_its_calls_and_is_there_again_when_it_comes_back() {
    let running = Running::new().await;
    let id = answered(&running.store, 1, &[]).await;
    for _ in 0..5 {
        let socket = alice(&running).await;
        says(&running.store, id, false).await;
        drop(socket);
        says(&running.store, id, true).await;
    }
}

#[tokio::test]
async fn a_call_that_is_seen_after_its_device_has_gone_says_so_too() {
    let running = Running::new().await;
    let first = answered(&running.store, 1, &[]).await;
    drop(alice(&running).await);
    says(&running.store, first, true).await;
    // Its leg was being written when it went.
    let second = answered(&running.store, 2, &[]).await;
    says(&running.store, second, true).await;
    // And one whose record was still to say that it had come back.
    let third = answered(&running.store, 3, &[CallCommand::Disconnect(party("alice"))]).await;
    write(&running.store, third, vec![CallCommand::Rejoin(party("alice"))]).await;
    says(&running.store, third, true).await;
}

#[tokio::test]
async fn of_two_routers_the_one_that_has_the_device_is_right_and_they_agree_at_once() {
    let running = Running::new().await;
    let other = Running::over(running.store.clone(), role_limits()).await;
    assert!(other.ready().await);
    let first = answered(&running.store, 1, &[]).await;
    drop(alice(&running).await);
    says(&running.store, first, true).await;
    let _socket = alice(&other).await;
    says(&running.store, first, false).await;
    let second = answered(&running.store, 2, &[]).await;
    // The router that it has left may doubt it once; the other one knows better, and has the last word.
    let mut settled = says(&running.store, second, false).await;
    let still = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = says(&running.store, second, false).await;
            if std::mem::replace(&mut settled, now) == now {
                return;
            }
        }
    };
    timeout(LONG, still).await.expect("they write against each other");
}

#[tokio::test]
async fn a_device_that_goes_while_the_store_is_away_for_long_is_away_when_it_is_back() {
    let running = Running::new().await;
    let id = answered(&running.store, 1, &[]).await;
    let socket = alice(&running).await;
    says(&running.store, id, false).await;
    running.store.set_away(true);
    drop(socket);
    // Sixteen tries, half a second apart, and one more: as often as a write that meets others' is tried.
    tokio::time::sleep(Duration::from_secs(9)).await;
    running.store.set_away(false);
    says(&running.store, id, true).await;
}
