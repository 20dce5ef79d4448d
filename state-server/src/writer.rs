//! The writer: one thread that makes commands durable, a batch at a time.
//!
//! Decides the batches: whatever waits when the last one is done, up to what the backend likes. So one command alone
//! waits for nobody, and a hundred share one fsync. Tells nobody of a command before it is durable.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use tandem_state_client::{Command, Revision, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::Backend;
use crate::cache::Cache;
use crate::limits;

/// What the writer counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commands made durable.
    pub committed: AtomicU64,
    /// Commands refused because their record had changed.
    pub stale: AtomicU64,
    /// Durable writes, each of one or more commands.
    pub batches: AtomicU64,
    /// Commands told to come back: the backend could not write, or too many were waiting.
    pub away: AtomicU64,
    /// Times the backend failed.
    pub failures: AtomicU64,
    /// Followers that were told to list everything anew.
    pub compacted: AtomicU64,
}

/// A command and who waits for it.
pub(crate) struct Job {
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Result<Revision, StoreError>>,
}

/// What the writer shares with readers.
pub(crate) struct Shared {
    pub(crate) cache: RwLock<Cache>,
    pub(crate) latest: watch::Sender<Revision>,
    pub(crate) counters: Counters,
}

impl Shared {
    /// The cache, to read. A reader that panicked has changed nothing; a writer that panicked ends with its thread.
    pub(crate) fn read<T>(&self, act: impl FnOnce(&Cache) -> T) -> T {
        match self.cache.read() {
            Ok(cache) => act(&cache),
            Err(poisoned) => act(&poisoned.into_inner()),
        }
    }

    fn write<T>(&self, act: impl FnOnce(&mut Cache) -> T) -> T {
        match self.cache.write() {
            Ok(mut cache) => act(&mut cache),
            Err(poisoned) => act(&mut poisoned.into_inner()),
        }
    }
}

pub(crate) const AWAY: StoreError = StoreError::Away { retry_after_ms: limits::RETRY_AFTER_MS };

/// Runs until nobody can send any more.
pub(crate) fn run<B: Backend>(mut backend: B, mut jobs: mpsc::Receiver<Job>, shared: &Arc<Shared>) {
    let mut failed = false;
    let mut batch = Vec::new();
    while let Some(first) = jobs.blocking_recv() {
        batch.push(first);
        while batch.len() < backend.batch_max() {
            let Ok(job) = jobs.try_recv() else { break };
            batch.push(job);
        }
        if failed {
            match backend.read_all() {
                Ok(listing) => {
                    failed = false;
                    let latest = shared.write(|cache| {
                        cache.replace(listing);
                        cache.revision()
                    });
                    shared.latest.send_replace(latest);
                    tracing::info!("the store writes again");
                }
                Err(error) => {
                    tracing::warn!(%error, "the store still cannot be opened");
                    refuse(&mut batch, shared);
                    continue;
                }
            }
        }
        let (commands, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|job| (job.command, job.answer)).unzip();
        match backend.commit(&commands) {
            Ok(results) => tell(commands, answers, results, shared),
            Err(error) => {
                failed = true;
                shared.counters.failures.fetch_add(1, Ordering::Relaxed);
                shared.counters.away.fetch_add(commands.len() as u64, Ordering::Relaxed);
                tracing::error!(%error, commands = commands.len(), "a batch could not be written");
                for answer in answers {
                    let _ = answer.send(Err(AWAY));
                }
            }
        }
    }
}

fn refuse(batch: &mut Vec<Job>, shared: &Shared) {
    shared.counters.away.fetch_add(batch.len() as u64, Ordering::Relaxed);
    for job in batch.drain(..) {
        let _ = job.answer.send(Err(AWAY));
    }
}

/// Everything of this batch is durable: readers and followers see it first, then those who wait are answered, so that who
/// has an answer finds what it says.
fn tell(
    commands: Vec<Command>,
    answers: Vec<oneshot::Sender<Result<Revision, StoreError>>>,
    results: Vec<Result<Revision, StoreError>>,
    shared: &Shared,
) {
    let latest = shared.write(|cache| {
        for (command, result) in commands.into_iter().zip(&results) {
            if let Ok(revision) = result {
                cache.apply(command, *revision);
            }
        }
        cache.revision()
    });
    shared.latest.send_replace(latest);
    let committed = results.iter().filter(|result| result.is_ok()).count() as u64;
    shared.counters.committed.fetch_add(committed, Ordering::Relaxed);
    shared.counters.stale.fetch_add(results.len() as u64 - committed, Ordering::Relaxed);
    shared.counters.batches.fetch_add(u64::from(committed > 0), Ordering::Relaxed);
    for (answer, result) in answers.into_iter().zip(results) {
        // Who no longer waits finds out when it reads.
        let _ = answer.send(result);
    }
}
