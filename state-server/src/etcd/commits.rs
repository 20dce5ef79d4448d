//! Commands on their way into etcd.
//!
//! Decides the batches: whatever waits when one can be sent, so that a command alone waits for nobody, and a hundred share
//! a transaction. A few are under way at once. A command is answered when it is durable *and* the watch has brought it to
//! the cache: who has an answer finds what it says here. One whose fate is unknown is never sent again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tandem_state_client::{Key, Op, Revision, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::batch::{Batch, Outcome};
use super::engine::{Engine, Renew};
use crate::limits;
use crate::shared::AWAY;
use crate::writer::Job;

/// Takes commands until nobody can send any more.
pub(crate) struct Commits {
    pub(crate) engine: Arc<Engine>,
    pub(crate) jobs: mpsc::Receiver<Job>,
    /// Commands that could not go into the batch that was being filled when they came.
    pub(crate) aside: VecDeque<Job>,
}

impl Commits {
    pub(crate) async fn run(mut self) {
        let under_way = Arc::new(Semaphore::new(limits::ETCD_BATCHES));
        loop {
            let Ok(place) = Arc::clone(&under_way).acquire_owned().await else { return };
            let Some(batch) = self.next().await else { return };
            let engine = Arc::clone(&self.engine);
            tokio::spawn(commit(engine, batch, place));
        }
    }

    /// The next batch, of at least one command.
    async fn next(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        while batch.jobs.is_empty() {
            for _ in 0..self.aside.len() {
                let Some(job) = self.aside.pop_front() else { break };
                self.sort(&mut batch, job);
            }
            if batch.jobs.is_empty() {
                let job = self.jobs.recv().await?;
                self.sort(&mut batch, job);
            }
            while !batch.is_full() && self.aside.len() < limits::ETCD_ASIDE {
                let Ok(job) = self.jobs.try_recv() else { break };
                self.sort(&mut batch, job);
            }
        }
        Some(batch)
    }

    /// Puts a command into the batch or aside, or answers it at once.
    fn sort(&mut self, batch: &mut Batch, job: Job) {
        if !*self.engine.writable.borrow() {
            self.engine.shared.counters.away.fetch_add(1, Ordering::Relaxed);
            return job.answer(Err(AWAY));
        }
        if let Some(key) = self.outdated(&job.command.ops) {
            self.engine.shared.counters.stale.fetch_add(1, Ordering::Relaxed);
            return job.answer(Err(StoreError::Stale { key }));
        }
        if let Err(job) = batch.push(job) {
            self.aside.push_back(job);
        }
    }

    /// A record of which the cache knows a later revision than the command, or that it is gone: revisions only grow, so
    /// that etcd need not be asked. (That there is one where there was to be none may have changed since.)
    fn outdated(&self, ops: &[Op]) -> Option<Key> {
        self.engine.shared.read(|cache| {
            let stale = ops.iter().find(|op| match cache.revision_of(op.key) {
                Some(known) => op.based_on != Revision::ZERO && known > op.based_on,
                None => op.based_on != Revision::ZERO && cache.revision() >= op.based_on,
            });
            stale.map(|op| op.key)
        })
    }
}

async fn commit(engine: Arc<Engine>, batch: Batch, place: OwnedSemaphorePermit) {
    let node = engine.link.active();
    // Held until all is known: no list can put another store in its place meanwhile.
    let origin = engine.origin.read().await;
    let sent = engine.link.txn(node, batch.transaction(&origin, &engine.paths), limits::ETCD_TIMEOUT).await;
    let known = match sent {
        Ok(reply) if reply.succeeded() => batch.outcomes(&reply, &origin).ok_or("etcd's answer cannot be understood"),
        Ok(_) => {
            engine.renew(Renew::List);
            Err("the store is another one than it was")
        }
        Err(error) => {
            engine.stop_writing(node, &error);
            Err("it was not written, or it is not known whether")
        }
    };
    drop(origin);
    // Others may be sent while these wait for the watch.
    drop(place);
    let outcomes = match known {
        Ok(outcomes) => outcomes,
        Err(why) => {
            tracing::debug!(why, commands = batch.jobs.len(), "commands are put off");
            engine.shared.counters.away.fetch_add(batch.jobs.len() as u64, Ordering::Relaxed);
            return batch.jobs.into_iter().for_each(|job| job.answer(Err(AWAY)));
        }
    };
    answer(&engine, batch.jobs, outcomes).await;
}

/// Answers each when the cache has what it says.
async fn answer(engine: &Arc<Engine>, jobs: Vec<Job>, outcomes: Vec<Outcome>) {
    let counters = &engine.shared.counters;
    let mut done = None;
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Done(revision) => {
                counters.committed.fetch_add(1, Ordering::Relaxed);
                done.get_or_insert_with(|| (revision, Vec::new())).1.push(job);
            }
            Outcome::Stale(key, seen) => {
                counters.stale.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer_stale(Arc::clone(engine), job, (key, seen)));
            }
        }
    }
    let Some((revision, jobs)) = done else { return };
    counters.batches.fetch_add(1, Ordering::Relaxed);
    let answer = if engine.reaches(revision, limits::ETCD_ECHO).await {
        Ok(revision)
    } else {
        // It is durable, and cannot be seen here yet: to its writer that is as good as not knowing.
        engine.renew(Renew::Watch);
        counters.away.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        Err(AWAY)
    };
    jobs.into_iter().for_each(|job| job.answer(answer.clone()));
}

/// Who is told that a record has changed reads it again: by then it must be here.
async fn answer_stale(engine: Arc<Engine>, job: Job, (key, seen): (Key, Revision)) {
    let based_on = job.command.ops.iter().find(|op| op.key == key).map(|op| op.based_on);
    let known = || engine.shared.read(|cache| cache.revision_of(key)).unwrap_or_default();
    if engine.becomes(limits::ETCD_ECHO, |_| Some(known()) != based_on).await {
        return job.answer(Err(StoreError::Stale { key }));
    }
    // What etcd has is not what we have. If the watch has gone past it, it was lost on the way.
    engine.renew(if *engine.latest.borrow() >= seen { Renew::List } else { Renew::Watch });
    engine.shared.counters.away.fetch_add(1, Ordering::Relaxed);
    job.answer(Err(AWAY));
}
