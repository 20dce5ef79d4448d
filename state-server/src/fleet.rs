//! Keeping the fleet: follows the relays' entries and the table, and writes what the keeper of `core::membership` decides.
//!
//! Decides nothing. Every state server of a PoP runs one; of two that write the same, one wins.

use std::sync::Arc;

use tandem_core::membership::{Input, Keeper, Output};
use tandem_core::topology::{Member, Table};
use tandem_state_client::{BucketSet, Change, Command, Followed, Key, Op, Revision, Store, StoreError, follow};
use tandem_wire::id::{PopId, RelayId};
use tandem_wire::units::Now;

/// Keeps the fleet of `pop` in `store` for as long as it is polled. `now` is the clock.
pub async fn keep(store: Arc<dyn Store>, pop: PopId, now: fn() -> Now) {
    let mut followed = follow(Arc::clone(&store), BucketSet::fleet());
    let mut keeper = Keeper::default();
    loop {
        let due = keeper.next_deadline().map(|at| at.since(now().mono).to_std());
        let input = tokio::select! {
            followed = followed.recv() => match followed {
                Some(followed) => followed,
                // The runtime ends.
                None => return,
            },
            () = wait(due) => {
                keeper.handle(now(), Input::Tick);
                carry_out(&*store, pop, &mut keeper, now).await;
                continue;
            }
        };
        match input {
            Followed::Listed(listing) => {
                let mut members = Vec::new();
                let mut table = None;
                for entry in listing.entries {
                    match read(entry.key, Some((&entry.value, entry.revision))) {
                        Some(Input::Member { id, entry: Some((entry, revision)) }) => {
                            members.push((id, entry, revision))
                        }
                        Some(Input::Table(stored)) => table = stored,
                        _ => {}
                    }
                }
                keeper.handle(now(), Input::Listed { members, table });
            }
            Followed::Changed(changes) => {
                for event in changes.events {
                    let value = event.value.as_deref().map(|value| (value, event.revision));
                    if let Some(input) = read(event.key, value) {
                        keeper.handle(now(), input);
                    }
                }
            }
        }
        carry_out(&*store, pop, &mut keeper, now).await;
    }
}

async fn wait(due: Option<std::time::Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}

/// A record as the keeper takes it. One that cannot be read is of a newer version, or damaged: it is left as it is, and
/// whoever wrote it is not in our tables.
fn read(key: Key, value: Option<(&[u8], Revision)>) -> Option<Input> {
    let unreadable = |what| tracing::warn!(what, "a record of the fleet cannot be read");
    match (key, value) {
        (Key::Relay(_, id), None) => Some(Input::Member { id, entry: None }),
        (Key::Relay(_, id), Some((value, revision))) => match Member::from_json(value) {
            Ok(entry) => Some(Input::Member { id, entry: Some((entry, revision)) }),
            Err(_) => {
                unreadable("relay");
                Some(Input::Member { id, entry: None })
            }
        },
        (Key::Table(_), None) => Some(Input::Table(None)),
        (Key::Table(_), Some((value, revision))) => match Table::from_json(value) {
            Ok(table) => Some(Input::Table(Some((table, revision)))),
            Err(_) => {
                // To write over it would be to undo what a newer version decided.
                unreadable("table");
                None
            }
        },
        _ => None,
    }
}

async fn carry_out(store: &dyn Store, pop: PopId, keeper: &mut Keeper, now: fn() -> Now) {
    while let Some(output) = keeper.poll() {
        let op = match output {
            Output::WriteTable { table, based_on } => match table.to_json() {
                Ok(value) => Op { key: Key::Table(pop), based_on, change: Change::Put(value) },
                Err(_) => continue,
            },
            Output::Remove { id, based_on } => Op { key: Key::Relay(pop, id), based_on, change: Change::Delete },
        };
        let what = op.key;
        match store.commit(Command { ops: vec![op] }).await {
            Ok(_) => match what {
                Key::Relay(_, RelayId(relay)) => tracing::info!(relay, "an entry that no longer changed was removed"),
                _ => tracing::info!("a new table of buckets is written"),
            },
            // Another keeper was first, or the relay lives: its change is on the way.
            Err(StoreError::Stale { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, "the fleet could not be kept");
                keeper.handle(now(), Input::Away);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tandem_core::topology::{Incarnation, Standing};
    use tandem_state_client::memory::MemoryStore;
    use tandem_wire::tunnel::Cookie;
    use tandem_wire::units::{Mono, Wall};

    use super::*;

    const POP: PopId = PopId(1);

    fn clock() -> Now {
        static START: std::sync::LazyLock<tokio::time::Instant> = std::sync::LazyLock::new(tokio::time::Instant::now);
        let nanos = u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Now { mono: Mono::from_nanos(nanos), wall: Wall::default() }
    }

    async fn put(store: &MemoryStore, key: Key, value: Vec<u8>) {
        let based_on = store.read(key).await.unwrap().map_or(Revision::ZERO, |entry| entry.revision);
        let op = Op { key, based_on, change: Change::Put(value) };
        store.commit(Command { ops: vec![op] }).await.unwrap();
    }

    #[tokio::test]
    async fn two_keepers_write_one_table_of_the_relays_that_come() {
        let store = Arc::new(MemoryStore::new(POP));
        let keepers: Vec<_> =
            (0..2).map(|_| tokio::spawn(keep(Arc::clone(&store) as Arc<dyn Store>, POP, clock))).collect();
        let mut followed = follow(Arc::clone(&store) as Arc<dyn Store>, BucketSet::fleet());
        for id in [2, 1] {
            let tunnel = format!("127.0.0.1:{}", 7_000 + id).parse().unwrap();
            let entry = Member::starting(Incarnation(1), Cookie::from_bits(u64::from(id)), tunnel);
            put(&store, Key::Relay(POP, RelayId(id)), entry.to_json().unwrap()).await;
        }
        put(&store, Key::Relay(POP, RelayId(3)), b"{\"v\":9}".to_vec()).await;
        let mut tables = Vec::new();
        let until = tokio::time::sleep(Duration::from_millis(2_500));
        tokio::pin!(until);
        loop {
            tokio::select! {
                followed = followed.recv() => {
                    let Followed::Changed(changes) = followed.expect("the store is there") else { continue };
                    let of_table = changes.events.iter().filter(|event| matches!(event.key, Key::Table(_)));
                    tables.extend(of_table.map(|event| Table::from_json(event.value.as_deref().unwrap()).unwrap()));
                }
                () = &mut until => break,
            }
        }
        assert_eq!(tables.len(), 1, "{tables:?}");
        let rows: Vec<_> = tables[0].relays.iter().map(|row| (row.id.0, row.standing)).collect();
        assert_eq!(rows, [(1, Standing::Serving), (2, Standing::Serving)]);
        keepers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
