//! The writer: one thread that makes commands durable, a batch at a time.
//!
//! Decides the batches: whatever waits when the last one is done, up to what the backend likes. So one command alone
//! waits for nobody, and a hundred share one fsync. Tells nobody of a command before it is durable.
//!
//! After a failed write it takes no commands until it has opened the backend again, which it tries by itself: what is
//! durable is only known then.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tandem_state_client::{Command, Revision, StoreError};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::backend::Backend;
use crate::cache::Durable;
use crate::limits;
use crate::shared::{AWAY, Cause, Shared};

/// A command and who waits for it.
pub(crate) struct Job {
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Result<Revision, StoreError>>,
    /// Its part of [`limits::COMMAND_BYTES_WAITING`].
    pub(crate) _bytes: OwnedSemaphorePermit,
}

impl Job {
    /// Answers it. Who no longer waits finds out when it reads.
    pub(crate) fn answer(self, result: Result<Revision, StoreError>) {
        let _ = self.answer.send(result);
    }
}

/// Everything that the thread owns.
pub(crate) struct Writer<B> {
    pub(crate) backend: B,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) shared: Arc<Shared>,
    /// Wakes those who follow; dropped with the thread, which ends them.
    pub(crate) latest: watch::Sender<Revision>,
    pub(crate) writable: watch::Sender<bool>,
}

impl<B: Backend> Writer<B> {
    /// Runs until nobody can send any more.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::new();
        let mut failures = 0;
        while let Some(first) = self.jobs.blocking_recv() {
            batch.push(first);
            while batch.len() < self.backend.batch_max() {
                let Ok(job) = self.jobs.try_recv() else { break };
                batch.push(job);
            }
            if self.commit(&mut batch) {
                failures = 0;
                continue;
            }
            self.writable.send_replace(false);
            while !self.reopen(failures) {
                failures += 1;
                if self.jobs.is_closed() {
                    return;
                }
            }
            failures += 1;
            self.writable.send_replace(true);
        }
    }

    /// Makes a batch durable and answers; `false` if the backend failed.
    fn commit(&mut self, batch: &mut Vec<Job>) -> bool {
        let mut waiting = Vec::with_capacity(batch.len());
        let mut commands = Vec::with_capacity(batch.len());
        for Job { command, answer, _bytes } in batch.drain(..) {
            commands.push(command);
            waiting.push((answer, _bytes));
        }
        let results = match self.backend.commit(&commands) {
            Ok(results) => results,
            Err(error) => {
                self.shared.counters.failures.fetch_add(1, Ordering::Relaxed);
                self.shared.counters.away.fetch_add(commands.len() as u64, Ordering::Relaxed);
                tracing::error!(%error, commands = commands.len(), "a batch could not be written");
                self.shared.unwritable(Cause::Away);
                // Said before they are told: who asks again at once is to find it so.
                self.writable.send_replace(false);
                for (answer, _) in waiting {
                    let _ = answer.send(Err(AWAY));
                }
                return false;
            }
        };
        let durable: Vec<Durable> = commands
            .into_iter()
            .zip(&results)
            .filter_map(|(command, result)| Some(Durable::new(command, *result.as_ref().ok()?)))
            .collect();
        let committed = durable.len() as u64;
        // Readers and followers see it first, then those who wait are answered: who has an answer finds what it says.
        if committed > 0 {
            let latest = self.shared.write(|cache| {
                durable.into_iter().for_each(|durable| cache.apply(durable));
                cache.revision()
            });
            self.latest.send_replace(latest);
        }
        let counters = &self.shared.counters;
        counters.committed.fetch_add(committed, Ordering::Relaxed);
        counters.stale.fetch_add(results.len() as u64 - committed, Ordering::Relaxed);
        counters.batches.fetch_add(u64::from(committed > 0), Ordering::Relaxed);
        for ((answer, _), result) in waiting.into_iter().zip(results) {
            // Who no longer waits finds out when it reads.
            let _ = answer.send(result);
        }
        true
    }

    /// Waits, longer after each failure in a row, and opens the backend again. There is no event to wait for: nobody says
    /// when a disk has room again.
    fn reopen(&mut self, failures: u32) -> bool {
        let wait = limits::REOPEN_AFTER.saturating_mul(1 << failures.min(10)).min(limits::REOPEN_AFTER_MAX);
        std::thread::sleep(wait);
        // Those who asked before they could know.
        while let Ok(job) = self.jobs.try_recv() {
            self.shared.counters.away.fetch_add(1, Ordering::Relaxed);
            let _ = job.answer.send(Err(AWAY));
        }
        match self.backend.read_all() {
            Ok(listing) => {
                let latest = self.shared.write(|cache| {
                    cache.replace(listing);
                    cache.revision()
                });
                self.latest.send_replace(latest);
                self.shared.unwritable(Cause::None);
                tracing::info!("the store takes commands again");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the store still cannot be opened");
                false
            }
        }
    }
}
