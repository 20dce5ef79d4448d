//! Commands as a transaction of etcd, and its answer as theirs.
//!
//! Decides what a batch may hold: so many commands, so many bytes, and no record twice (etcd takes no two changes of one,
//! and what is compared is what was there before all of it). One transaction around, on the condition that the store is
//! the one that we have read; within it one for each command, with its own conditions, so that a stale one fails alone.
//! All commands of a batch have one revision: they happened at the same moment, on different records.

use std::collections::HashSet;

use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};
use tandem_state_client::{Change, Command, Key, Revision};

use super::origin::{Origin, Paths};
use crate::limits;
use crate::writer::Job;

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Durable at this revision.
    Done(Revision),
    /// This record was not at the revision that the command is based on, as who has seen this revision knows.
    Stale(Key, Revision),
}

/// Commands that go together.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) jobs: Vec<Job>,
    keys: HashSet<Key>,
    bytes: usize,
}

impl Batch {
    /// Whether there is no room for another command, however small.
    pub(crate) fn is_full(&self) -> bool {
        self.jobs.len() >= limits::ETCD_COMMANDS || self.bytes >= limits::ETCD_BATCH_BYTES
    }

    /// Takes a command in, or gives it back.
    #[allow(clippy::result_large_err, reason = "it is moved on either way")]
    pub(crate) fn push(&mut self, job: Job) -> Result<(), Job> {
        let bytes = bytes(&job.command);
        let fits = self.jobs.is_empty() || self.bytes.saturating_add(bytes) <= limits::ETCD_BATCH_BYTES;
        if self.is_full() || !fits || job.command.ops.iter().any(|op| self.keys.contains(&op.key)) {
            return Err(job);
        }
        self.keys.extend(job.command.ops.iter().map(|op| op.key));
        self.bytes += bytes;
        self.jobs.push(job);
        Ok(())
    }

    /// The transaction. Each command must be of the store that `origin` is of (see [`Origin::theirs`]).
    pub(crate) fn transaction(&self, origin: &Origin, paths: &Paths) -> Txn {
        let commands: Vec<TxnOp> = self.jobs.iter().map(|job| TxnOp::txn(nested(&job.command, origin))).collect();
        // etcd 3.4 counts only what stands directly in a transaction against its quota, and takes one that counts for
        // nothing even under the alarm NOSPACE. So there is something that counts, where it is not done.
        let counts = TxnOp::put(paths.beat(), "", None::<PutOptions>);
        Txn::new().when([origin.unchanged(paths)]).and_then(commands).or_else([counts])
    }

    /// What became of each command; `None`: nothing is known of them.
    pub(crate) fn outcomes(&self, reply: &TxnResponse, origin: &Origin) -> Option<Vec<Outcome>> {
        let revision = origin.ours(reply.header()?.revision());
        let replies = reply.op_responses();
        if replies.len() != self.jobs.len() {
            return None;
        }
        let each = self.jobs.iter().zip(&replies).map(|(job, reply)| {
            let TxnOpResponse::Txn(reply) = reply else { return None };
            if reply.succeeded() {
                return Some(Outcome::Done(revision));
            }
            let (key, now) = stale(&job.command, reply, origin)?;
            // Of one that was removed it is not known when.
            Some(Outcome::Stale(key, if now == Revision::ZERO { revision } else { now }))
        });
        each.collect()
    }
}

fn bytes(command: &Command) -> usize {
    let values = command.ops.iter().map(|op| match &op.change {
        Change::Put(value) => value.len(),
        Change::Delete => 0,
    });
    values.fold(0, |sum: usize, value| sum.saturating_add(value).saturating_add(limits::ETCD_OP_OVERHEAD))
}

/// One command: its conditions, its changes, and what to look up if the conditions do not hold.
fn nested(command: &Command, origin: &Origin) -> Txn {
    let (mut when, mut then, mut or) = (Vec::new(), Vec::new(), Vec::new());
    for op in &command.ops {
        let path = op.key.to_string();
        let at = origin.theirs(op.based_on).unwrap_or(i64::MAX);
        when.push(Compare::mod_revision(path.clone(), CompareOp::Equal, at));
        then.push(match &op.change {
            Change::Put(value) => TxnOp::put(path.clone(), value.clone(), None::<PutOptions>),
            Change::Delete => TxnOp::delete(path.clone(), None::<DeleteOptions>),
        });
        or.push(TxnOp::get(path, Some(GetOptions::new().with_keys_only())));
    }
    Txn::new().when(when).and_then(then).or_else(or)
}

/// The first record that is not as the command says, and how it is.
fn stale(command: &Command, reply: &TxnResponse, origin: &Origin) -> Option<(Key, Revision)> {
    let found = reply.op_responses();
    command.ops.iter().zip(&found).find_map(|(op, reply)| {
        let TxnOpResponse::Get(reply) = reply else { return None };
        let now = reply.kvs().first().map_or(Revision::ZERO, |record| origin.ours(record.mod_revision()));
        (now != op.based_on).then_some((op.key, now))
    })
}
