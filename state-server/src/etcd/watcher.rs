//! The watch: the only way by which anything reaches the cache.
//!
//! Decides when to begin anew, and from where. A watch that breaks off goes on from the last revision that the cache has,
//! at the next node; one that has lost something (etcd has compacted it, or a record differs from what we have) is
//! replaced by a list. Leaves noticing that it is late to the keeper.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use etcd_client::{Event, EventType, WatchOptions, WatchResponse};
use tandem_state_client::limits::VALUE_LEN_MAX;
use tandem_state_client::{Key, Revision};
use tokio::sync::mpsc;

use super::engine::{Engine, Renew};
use super::link::CallError;
use super::list::{Listed, key, list};
use super::origin::{Origin, Trouble};
use super::pause::Pause;
use crate::cache::{Cache, Durable};

/// Feeds the cache for as long as it runs.
pub(crate) struct Watcher {
    pub(crate) engine: Arc<Engine>,
    pub(crate) renew: mpsc::Receiver<Renew>,
}

/// Why a watch is over.
enum End {
    Late,
    Lost,
    Broken(CallError),
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Compacted | CallError::TooLarge => Self::Lost,
            error => Self::Broken(error),
        }
    }
}

impl Watcher {
    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut node = self.engine.link.active();
        let mut pause = Pause::new();
        loop {
            let before = *self.engine.latest.borrow();
            let end = self.follow(node).await;
            self.engine.shared.counters.renewed.fetch_add(1, Ordering::Relaxed);
            if *self.engine.latest.borrow() > before {
                pause = Pause::new();
            }
            match end {
                End::Lost => self.list_anew().await,
                End::Late => tracing::warn!("the watch of etcd is late: going on at another node"),
                End::Broken(error) => {
                    pause.because("the watch of etcd broke off", &error);
                    pause.wait().await;
                }
            }
            node = self.engine.link.after(node);
        }
    }

    /// Watches at one node, until that comes to an end.
    async fn follow(&mut self, node: usize) -> End {
        let origin = self.engine.origin.read().await.clone();
        let reached = *self.engine.latest.borrow();
        let Some(theirs) = origin.theirs(reached) else { return End::Lost };
        // What was asked for before this one began is done with it.
        if let Ok(Renew::List) = self.renew.try_recv() {
            return End::Lost;
        }
        let options = WatchOptions::new()
            .with_range(self.engine.paths.end.as_str())
            .with_start_revision(theirs.saturating_add(1));
        let mut stream = match self.engine.link.watch(node, self.engine.paths.prefix.as_str(), options).await {
            Ok(stream) => stream,
            Err(error) => return error.into(),
        };
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                Some(renew) = self.renew.recv() => match renew {
                    Renew::Watch => return End::Late,
                    Renew::List => return End::Lost,
                },
            };
            match message.map_err(CallError::from) {
                Ok(Some(message)) if message.compact_revision() > 0 => return End::Lost,
                Ok(Some(message)) if message.canceled() => {
                    return End::Broken(CallError::Away(message.cancel_reason().to_owned()));
                }
                Ok(Some(message)) => self.take_in(&origin, &message),
                Ok(None) => return End::Broken(CallError::Away("it ended".to_owned())),
                Err(error) => return error.into(),
            }
        }
    }

    /// Puts a message's changes into the cache, whole revisions at once (etcd never spreads one over two messages), and
    /// wakes those who follow.
    fn take_in(&self, origin: &Origin, message: &WatchResponse) {
        let reached = *self.engine.latest.borrow();
        let mut durable = Vec::new();
        for events in message.events().chunk_by(|one, other| revision(one) == revision(other)) {
            let revision = origin.ours(events.first().map_or(0, revision));
            // What we have already is not taken in twice.
            if revision > reached {
                durable.push(Durable::of(revision, events.iter().filter_map(|event| self.change(event))));
            }
        }
        let Some(latest) = durable.last().map(Durable::revision) else { return };
        self.engine.shared.write(|cache| durable.into_iter().for_each(|durable| cache.apply(durable)));
        self.engine.latest.send_replace(latest);
    }

    fn change(&self, event: &Event) -> Option<(Key, Option<Arc<[u8]>>)> {
        let record = event.kv()?;
        if self.engine.paths.is_own(record.key()) {
            return None;
        }
        let known = key(self.engine.pop, record.key());
        let fits = record.value().len() <= VALUE_LEN_MAX;
        if known.is_none() || !fits {
            self.engine.shared.counters.strangers.fetch_add(1, Ordering::Relaxed);
        }
        let there = event.event_type() == EventType::Put && fits;
        known.map(|key| (key, there.then(|| record.value().into())))
    }

    /// Puts a list in the cache's place. Only the majority's word will do: what one node has may be older than ours.
    async fn list_anew(&mut self) {
        let mut pause = Pause::new();
        let mut node = self.engine.link.active();
        loop {
            match self.read_all(node).await {
                Ok((origin, listed)) => {
                    // What was missed is in it.
                    while self.renew.try_recv().is_ok() {}
                    self.replace(origin, listed).await;
                    return;
                }
                Err(error) => pause.because("etcd cannot be listed now", &error),
            }
            node = self.engine.link.after(node);
            pause.wait().await;
        }
    }

    async fn read_all(&self, node: usize) -> Result<(Origin, Listed), Trouble> {
        let engine = &self.engine;
        let origin = Origin::read_or_make(&engine.link, node, &engine.paths, (engine.now)()).await?;
        let listed = list(&engine.link, node, (&engine.paths, &origin, engine.pop), false).await?;
        Ok((origin, listed))
    }

    async fn replace(&self, origin: Origin, listed: Listed) {
        let engine = &self.engine;
        let revision: Revision = listed.listing.revision;
        let mut stands = engine.origin.write().await;
        engine.shared.counters.strangers.fetch_add(listed.strangers, Ordering::Relaxed);
        engine.shared.counters.relisted.fetch_add(1, Ordering::Relaxed);
        let anew = Cache::new(engine.pop, listed.listing);
        engine.shared.write(|cache| cache.start_anew(anew));
        *stands = origin;
        engine.latest.send_replace(revision);
        tracing::warn!(revision = revision.0, "everything was listed anew from etcd: changes may have been missed");
    }
}

fn revision(event: &Event) -> i64 {
    event.kv().map_or(0, etcd_client::KeyValue::mod_revision)
}
