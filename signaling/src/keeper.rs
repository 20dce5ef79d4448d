//! What happens to calls by itself: rings that nobody answers, legs that do not come back, records that are old.
//!
//! Decides nothing: `core::call` says what has run out, the record says what that means. Every node follows all calls of
//! the PoP and fires all timers; of two that fire, one compare-and-set wins, and the other finds nothing to change.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_core::call::{Input, Timers};
use tandem_core::topology::{CallCommand, Timer};
use tandem_state_client::{BucketSet, Change, Command, Entry, Followed, Key, Kinds, Op, Revision, StoreError, follow};
use tandem_telemetry::metric::signaling::LIVE;
use tandem_wire::id::CallId;
use tandem_wire::party::Party;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use crate::limits;
use crate::live;
use crate::node::Node;
use crate::refused::Refused;

/// Something that a task has dealt with.
enum Dealt {
    Timer(CallId, Timer, bool),
    Other,
}

/// Follows the store for as long as the process lives. `caught_up` turns true with the first list.
pub(crate) async fn keep(node: Arc<Node>, caught_up: watch::Sender<bool>) {
    let wanted = Kinds::CALLS.and(Kinds::NOTES).and(Kinds::REMOVALS);
    let mut followed = follow(Arc::clone(&node.store), BucketSet::all().only(wanted));
    let mut keeper = Keeper { node, timers: Timers::default(), at_work: BTreeMap::new(), tasks: JoinSet::new() };
    let mut sweep = tokio::time::interval(limits::SWEEP_EVERY.to_std());
    loop {
        let now = tandem_net::clock::now();
        let wait = keeper.timers.next_deadline().filter(|_| keeper.has_room()).map(|at| at.since(now.mono).to_std());
        tokio::select! {
            told = followed.recv() => match told {
                Some(Followed::Listed(listing)) => {
                    let changes = keeper.node.live.replace(&listing);
                    keeper.take(changes, false);
                    caught_up.send_replace(true);
                }
                Some(Followed::Changed(changes)) => {
                    let seen: Vec<_> = changes.events.into_iter().filter_map(|event| match event.value {
                        Some(value) => {
                            let entry = Entry { key: event.key, revision: event.revision, value };
                            keeper.node.live.put(&entry)
                        }
                        None => keeper.node.live.remove(event.key),
                    }).collect();
                    keeper.take(seen, true);
                }
                // Its task ends only with us.
                None => return,
            },
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                keeper.timers.handle(tandem_net::clock::now(), Input::Tick);
            }
            Some(dealt) = keeper.tasks.join_next() => match dealt {
                Ok(Dealt::Timer(call, timer, done)) => {
                    keeper.at_work.remove(&(call, timer));
                    if done {
                        keeper.timers.handle(tandem_net::clock::now(), Input::Done(call, timer));
                    }
                }
                Ok(Dealt::Other) => {}
                // It panicked, which was logged. The timer fires again.
                Err(error) => keeper.at_work.retain(|_, task| *task != error.id()),
            },
            _ = sweep.tick() => keeper.sweep(),
        }
        keeper.deal();
        #[allow(clippy::cast_precision_loss, reason = "calls are capped far below 2^53")]
        LIVE.set(keeper.node.live.count() as f64);
    }
}

struct Keeper {
    node: Arc<Node>,
    timers: Timers,
    /// What is dealt with, and by which task.
    at_work: BTreeMap<(CallId, Timer), Id>,
    tasks: JoinSet<Dealt>,
}

impl Keeper {
    fn take(&mut self, changes: Vec<live::Change>, fresh: bool) {
        let now = tandem_net::clock::now();
        for change in changes {
            match change {
                live::Change::Call(call) => {
                    self.timers.handle(now, Input::Seen { call: &call, fresh });
                    // One that was placed while its device was being removed.
                    for party in self.node.live.removed_of(&call) {
                        self.remove(party);
                    }
                }
                live::Change::Gone(call) => self.timers.handle(now, Input::Gone(call)),
                live::Change::Removed(party) => self.remove(party),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.at_work.len() < limits::EXPIRIES_AT_ONCE
    }

    /// Deals with what has run out, so much at once. What is left waits, the oldest first.
    fn deal(&mut self) {
        while self.has_room()
            && let Some((call, timer)) = self.timers.poll()
        {
            if self.at_work.contains_key(&(call, timer)) {
                continue;
            }
            let node = Arc::clone(&self.node);
            let task = self.tasks.spawn(async move {
                let result = match timer {
                    Timer::Purge => node.clear(call, false).await,
                    Timer::Forget => node.clear(call, true).await,
                    _ => node.happen(call, CallCommand::Expire(timer)).await,
                };
                let done = result.is_ok();
                if let Err(error) = result {
                    complain(&error);
                }
                Dealt::Timer(call, timer, done && timer == Timer::Purge)
            });
            self.at_work.insert((call, timer), task.id());
        }
    }

    /// Takes a removed device out of what it is in, and out of the directory, if whoever removed it did not come so far.
    fn remove(&mut self, party: Party) {
        if let Some(at) = self.node.live.removed_at(&party) {
            let (node, party) = (Arc::clone(&self.node), party.clone());
            self.tasks.spawn(async move {
                if let Err(error) = node.directory.remove(&party, at).await {
                    complain(&error.into());
                }
                Dealt::Other
            });
        }
        let kept = self.node.live.kept_for(&party);
        if !kept.is_empty() {
            let node = Arc::clone(&self.node);
            self.tasks.spawn(async move {
                delete(&node, kept).await;
                Dealt::Other
            });
        }
        for call in self.node.live.calls_of(&party) {
            let (node, party) = (Arc::clone(&self.node), party.clone());
            self.tasks.spawn(async move {
                let removed = async {
                    node.happen(call, CallCommand::Remove(party.clone())).await?;
                    node.clear_device(call, &party).await
                };
                if let Err(error) = removed.await {
                    complain(&error);
                }
                Dealt::Other
            });
        }
    }

    /// Deletes what is old. Another node that sweeps at the same time finds it gone.
    fn sweep(&mut self) {
        let now = tandem_net::clock::now().wall;
        let node = Arc::clone(&self.node);
        self.tasks.spawn(async move {
            loop {
                let aged = node.live.aged(now, limits::SWEPT_AT_ONCE);
                if aged.is_empty() {
                    break;
                }
                if !delete(&node, aged).await {
                    break;
                }
            }
            Dealt::Other
        });
    }
}

/// Deletes records that nobody changes any more; `false` if the store is away. Another node may have been faster.
async fn delete(node: &Node, records: Vec<(Key, Revision)>) -> bool {
    for (key, revision) in records {
        let ops = vec![Op { key, based_on: revision, change: Change::Delete }];
        match node.store.commit(Command { ops }).await {
            Ok(_) | Err(StoreError::Stale { .. }) => _ = node.live.remove(key),
            Err(error) => {
                complain(&error.into());
                return false;
            }
        }
    }
    true
}

fn complain(error: &Refused) {
    // It is tried again; that the store is away is said by those who follow it.
    tracing::debug!(?error, "something that had run out could not be dealt with now");
}
