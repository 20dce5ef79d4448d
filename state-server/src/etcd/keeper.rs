//! The keeper: looks every second whether the cache has what etcd has, and whether commands can be written.
//!
//! Decides by etcd's own word, not by the watch's (whose progress notices are not to be relied on in 3.4): it asks for the
//! latest revision, and the cache must reach it. If it does not, others may have written elsewhere in the cluster; then it
//! writes a record of its own and waits for that to come back. What does not come back says that the watch is late.

use std::sync::Arc;

use etcd_client::{PutOptions, Txn, TxnOp};
use tandem_state_client::Revision;
use tokio::time::Instant;

use super::engine::{Engine, Renew};
use super::link::CallError;
use super::origin::{Origin, Trouble};
use super::pause::{Pause, jittered};
use crate::limits;

/// Looks for as long as it runs.
pub(crate) struct Keeper {
    pub(crate) engine: Arc<Engine>,
}

impl Keeper {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut writable = self.engine.writable.subscribe();
        loop {
            // Told at once when a command could not be written.
            let stopped = writable.wait_for(|writable| !*writable);
            let _ = tokio::time::timeout(jittered(limits::ETCD_LOOK), stopped).await;
            if !*self.engine.writable.borrow() {
                self.come_back().await;
            }
            let node = self.engine.link.active();
            if let Err(error) = self.look(node).await {
                self.engine.stop_writing(node, &error);
            }
        }
    }

    /// Tries, one node after another, until a record can be written.
    async fn come_back(&self) {
        let mut pause = Pause::new();
        loop {
            let node = self.engine.link.active();
            match self.beat(node).await {
                Ok(_) => return self.engine.write_again(),
                Err(error) => {
                    self.engine.stop_writing(node, &error);
                    if error == CallError::Full {
                        // It can be read all the same.
                        let _ = self.look(node).await;
                    }
                }
            }
            pause.wait().await;
        }
    }

    /// Whether the cache has what etcd has.
    async fn look(&self, node: usize) -> Result<(), CallError> {
        let engine = &self.engine;
        let (asked, before) = (Instant::now(), *engine.latest.borrow());
        let found = match Origin::read(&engine.link, node, &engine.paths, false).await {
            Ok(found) => found,
            Err(Trouble::Call(error)) => return Err(error),
            Err(Trouble::Open(error)) => return Err(CallError::Away(error.to_string())),
        };
        let same = found.origin.as_ref() == Some(&*engine.origin.read().await);
        let there = found.origin.map(|origin| origin.ours(found.revision));
        // Another store; or an older state of this one, as when a snapshot was restored.
        let Some(there) = there.filter(|there| same && *there >= before) else {
            engine.renew(Renew::List);
            return Ok(());
        };
        if self.catches_up(there, asked).await {
            return Ok(());
        }
        let written = match self.beat(node).await {
            Ok(written) => written,
            // It cannot be found out now.
            Err(CallError::Full) => return Ok(()),
            Err(error) => return Err(error),
        };
        if !self.catches_up(written, asked).await {
            engine.renew(Renew::Watch);
        }
        Ok(())
    }

    async fn catches_up(&self, revision: Revision, asked: Instant) -> bool {
        let reached = self.engine.reaches(revision, limits::ETCD_BEHIND).await;
        if reached {
            self.engine.shared.was_current(asked);
        }
        reached
    }

    /// Writes a record that says nothing, and gives its revision.
    async fn beat(&self, node: usize) -> Result<Revision, CallError> {
        let engine = &self.engine;
        let origin = engine.origin.read().await;
        let put = TxnOp::put(engine.paths.beat(), "", None::<PutOptions>);
        let txn = Txn::new().when([origin.unchanged(&engine.paths)]).and_then([put]);
        let reply = engine.link.txn(node, txn, limits::ETCD_TIMEOUT).await?;
        if !reply.succeeded() {
            engine.renew(Renew::List);
            return Err(CallError::Away("the store is another one than it was".to_owned()));
        }
        Ok(origin.ours(reply.header().map_or(0, etcd_client::ResponseHeader::revision)))
    }
}
