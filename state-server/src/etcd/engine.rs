//! What the parts of the engine share: the nodes, the store that was read, whether it takes commands, and what the cache
//! has reached.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::GetOptions;
use tandem_state_client::{Key, Revision};
use tandem_wire::id::{CallId, PopId};
use tandem_wire::units::Wall;
use tokio::sync::{RwLock, mpsc, watch};

use super::link::{CallError, Link};
use super::origin::{Origin, Paths};
use crate::limits;
use crate::shared::{Cause, Shared};

/// What the watch is told by those who notice that something is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renew {
    /// It is late: go on from where it is, at another node.
    Watch,
    /// It has lost something, or the store is another one: list everything.
    List,
}

/// Shared by all parts.
pub(crate) struct Engine {
    pub(crate) link: Link,
    pub(crate) pop: PopId,
    pub(crate) paths: Paths,
    pub(crate) now: fn() -> Wall,
    pub(crate) shared: Arc<Shared>,
    /// The store that the cache is of. Changes only when a list replaces the cache.
    pub(crate) origin: RwLock<Origin>,
    /// What the cache has reached.
    pub(crate) latest: watch::Sender<Revision>,
    pub(crate) writable: watch::Sender<bool>,
    pub(crate) renew: mpsc::Sender<Renew>,
}

impl Engine {
    /// Waits until the cache has `revision`; `false` if it does not within `patience`.
    pub(crate) async fn reaches(&self, revision: Revision, patience: Duration) -> bool {
        self.becomes(patience, |latest| latest >= revision).await
    }

    /// Waits until the cache has every record of this call as the majority of etcd has it now; for
    /// [`limits::LATEST_WITHIN`] in all, which is less than anybody waits for us. If that cannot be found out, the cache is all there is.
    pub(crate) async fn settle(&self, call: CallId) {
        // A full etcd can be read as ever.
        if !*self.writable.borrow() && self.shared.cause() != Cause::Full {
            return;
        }
        if tokio::time::timeout(limits::LATEST_WITHIN, self.settled(call)).await.is_err() {
            tracing::debug!("whether the cache has the latest of a call was not found out in time");
        }
    }

    async fn settled(&self, call: CallId) {
        let origin = self.origin.read().await.clone();
        let options = GetOptions::new().with_prefix().with_keys_only();
        let node = self.link.active();
        match self.link.get(node, Key::Call(call).to_string(), Some(options)).await {
            Ok(reply) => {
                let newest = reply.kvs().iter().map(etcd_client::KeyValue::mod_revision).max();
                if let Some(newest) = newest {
                    self.reaches(origin.ours(newest), limits::ETCD_BEHIND).await;
                }
            }
            Err(error) => {
                if matches!(error, CallError::Away(_)) {
                    self.link.failed(node);
                }
                tracing::debug!(%error, "whether the cache has the latest of a call cannot be found out now");
            }
        }
    }

    /// Waits until, after some change, `holds`.
    pub(crate) async fn becomes(&self, patience: Duration, mut holds: impl FnMut(Revision) -> bool) -> bool {
        let mut latest = self.latest.subscribe();
        let reached = latest.wait_for(|latest| holds(*latest));
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }

    /// No commands from now on, until the keeper finds that they can be written again.
    pub(crate) fn stop_writing(&self, node: usize, error: &CallError) {
        let cause = if *error == CallError::Full { Cause::Full } else { Cause::Away };
        if cause == Cause::Away {
            self.link.failed(node);
        }
        self.shared.unwritable(cause);
        let was = self.writable.send_replace(false);
        if was {
            self.shared.counters.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "the store takes no commands");
        }
    }

    pub(crate) fn write_again(&self) {
        self.shared.unwritable(Cause::None);
        if !self.writable.send_replace(true) {
            tracing::info!("the store takes commands again");
        }
    }

    /// Has the watch renewed. If that was asked for already, once is enough.
    pub(crate) fn renew(&self, what: Renew) {
        let _ = self.renew.try_send(what);
    }
}
