//! The embedded backend: one redb file, one process, an fsync before every answer.
//!
//! Decides the format of the file. Leaves waiting for commands to the writer, which gives them here in batches.
//!
//! The revision of a new file starts at the microseconds since 1970, so that a store that was deleted and made anew is
//! later than everything that was ever read from the old one: who follows it is told to list everything anew.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition};
use tandem_state_client::{Change, Command, Entry, Key, Listing, Revision, StoreError};
use tandem_wire::id::PopId;
use tandem_wire::units::Wall;

use crate::backend::{Backend, OpenError, WriteError};
use crate::{file, limits};

/// The format that this code writes.
const FORMAT: u64 = 1;
/// Path of a record: its revision and its bytes.
const RECORDS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("records");
/// `format`, `pop`, `revision`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Opens the storage; again, after it has failed.
type Opener = Box<dyn FnMut() -> Result<Database, OpenError> + Send>;

/// One redb file.
pub struct Embedded {
    open: Opener,
    pop: PopId,
    now: fn() -> Wall,
    durability: redb::Durability,
    state: Option<State>,
}

struct State {
    database: Database,
    revision: Revision,
    /// What commands are compared with.
    revisions: HashMap<Key, Revision, foldhash::fast::RandomState>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("pop", &self.pop).field("open", &self.state.is_some()).finish_non_exhaustive()
    }
}

impl Embedded {
    /// The file at `path`, which is made if it is not there. `now` dates a new file.
    #[must_use]
    pub fn file(path: &Path, pop: PopId, now: fn() -> Wall) -> Self {
        let path: PathBuf = path.to_owned();
        Self::with_opener(Box::new(move || file::open(&path)), pop, now)
    }

    /// A storage of the caller's own: what tests put under it. It is made anew each time it is opened.
    pub fn storage<S: StorageBackend>(
        mut storage: impl FnMut() -> S + Send + 'static,
        pop: PopId,
        now: fn() -> Wall,
    ) -> Self {
        Self::with_opener(
            Box::new(move || file::builder().create_with_backend(storage()).map_err(open_error)),
            pop,
            now,
        )
    }

    fn with_opener(open: Opener, pop: PopId, now: fn() -> Wall) -> Self {
        Self { open, pop, now, durability: redb::Durability::Immediate, state: None }
    }

    /// Gives up the fsync. For the test that shows what it is good for, and for nothing else.
    #[cfg(test)]
    pub(crate) fn without_fsync(mut self) -> Self {
        self.durability = redb::Durability::None;
        self
    }
}

fn damaged(error: impl std::fmt::Display) -> OpenError {
    OpenError::Damaged(error.to_string())
}

fn write_error(error: impl std::fmt::Display) -> WriteError {
    WriteError(error.to_string())
}

/// What an error of redb means to who opens a store.
pub(crate) fn open_error(error: impl Into<redb::Error>) -> OpenError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => OpenError::InUse,
        redb::Error::Io(error) => match error.kind() {
            // What redb says of a file that is no database, or is cut short.
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => damaged(error),
            _ => OpenError::System(error),
        },
        other => damaged(other),
    }
}

impl Backend for Embedded {
    fn read_all(&mut self) -> Result<Listing, OpenError> {
        // The old one first: it holds the file's lock.
        self.state = None;
        let first = Revision((self.now)().as_millis().saturating_mul(1_000));
        // redb panics on some damage (seen with 4.6: flipped bits in the allocator's state); to us it is damage like any.
        let read = catch_unwind(AssertUnwindSafe(|| -> Result<_, OpenError> {
            let database = (self.open)()?;
            let revision = prepare(&database, self.pop, first, self.durability)?;
            let entries = read_entries(&database)?;
            Ok((database, revision, entries))
        }));
        let (database, revision, entries) = read.unwrap_or_else(|_| Err(damaged("it contradicts itself")))?;
        let revisions = entries.iter().map(|entry| (entry.key, entry.revision)).collect();
        self.state = Some(State { database, revision, revisions });
        Ok(Listing { revision, entries })
    }

    fn commit(&mut self, commands: &[Command]) -> Result<Vec<Result<Revision, StoreError>>, WriteError> {
        let state = self.state.as_mut().ok_or_else(|| write_error("not open"))?;
        let durability = self.durability;
        let committed = catch_unwind(AssertUnwindSafe(|| state.commit(commands, durability)));
        let error = match committed {
            Ok(Ok(results)) => return Ok(results),
            Ok(Err(error)) => write_error(error),
            Err(_) => write_error("it contradicts itself"),
        };
        // redb refuses everything after a failed write: what is durable is found out by opening it again.
        self.state = None;
        Err(error)
    }

    fn batch_max(&self) -> usize {
        limits::COMMANDS_PER_BATCH
    }
}

/// Checks format and PoP, or writes them into a new file; gives the store's revision.
///
/// An existing file is only read, so that it can be opened where there is no room to write.
fn prepare(
    database: &Database,
    pop: PopId,
    first: Revision,
    durability: redb::Durability,
) -> Result<Revision, OpenError> {
    match database.begin_read().map_err(open_error)?.open_table(META) {
        Ok(meta) => return check(&meta, pop),
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(open_error(error)),
    }
    let mut write = database.begin_write().map_err(open_error)?;
    write.set_durability(durability).map_err(damaged)?;
    {
        write.open_table(RECORDS).map_err(open_error)?;
        let mut meta = write.open_table(META).map_err(open_error)?;
        for (name, value) in [("format", FORMAT), ("pop", u64::from(pop.0)), ("revision", first.0)] {
            meta.insert(name, value).map_err(open_error)?;
        }
    }
    write.commit().map_err(open_error)?;
    Ok(first)
}

fn check(meta: &impl redb::ReadableTable<&'static str, u64>, pop: PopId) -> Result<Revision, OpenError> {
    let get = |name: &str| {
        let value = meta.get(name).map_err(open_error)?.map(|value| value.value());
        value.ok_or_else(|| damaged(format!("it has no {name}")))
    };
    let format = get("format")?;
    if format > FORMAT {
        return Err(OpenError::Newer { found: format, known: FORMAT });
    }
    let found = get("pop")?;
    if found != u64::from(pop.0) {
        return Err(OpenError::OtherPop { found });
    }
    Ok(Revision(get("revision")?))
}

fn read_entries(database: &Database) -> Result<Vec<Entry>, OpenError> {
    let read = database.begin_read().map_err(open_error)?;
    let records = read.open_table(RECORDS).map_err(open_error)?;
    let mut entries = Vec::new();
    for record in records.iter().map_err(open_error)? {
        let (path, value) = record.map_err(open_error)?;
        let (revision, bytes) = value.value();
        let key = path.value().parse().map_err(damaged)?;
        entries.push(Entry { key, revision: Revision(revision), value: bytes.into() });
    }
    Ok(entries)
}

impl State {
    fn commit(
        &mut self,
        commands: &[Command],
        durability: redb::Durability,
    ) -> Result<Vec<Result<Revision, StoreError>>, redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(durability)?;
        let mut revision = self.revision;
        // What this batch has changed so far; `None`: removed.
        let mut changed: HashMap<Key, Option<Revision>, foldhash::fast::RandomState> = HashMap::default();
        let mut results = Vec::with_capacity(commands.len());
        {
            let mut records = write.open_table(RECORDS)?;
            for command in commands {
                let current = |key: &Key| match changed.get(key) {
                    Some(revision) => revision.unwrap_or_default(),
                    None => self.revisions.get(key).copied().unwrap_or_default(),
                };
                if let Some(stale) = command.ops.iter().find(|op| current(&op.key) != op.based_on) {
                    results.push(Err(StoreError::Stale { key: stale.key }));
                    continue;
                }
                revision = Revision(revision.0.saturating_add(1));
                for op in &command.ops {
                    let path = op.key.path();
                    match &op.change {
                        Change::Put(value) => {
                            records.insert(path.as_str(), (revision.0, value.as_slice()))?;
                            changed.insert(op.key, Some(revision));
                        }
                        Change::Delete => {
                            records.remove(path.as_str())?;
                            changed.insert(op.key, None);
                        }
                    }
                }
                results.push(Ok(revision));
            }
            let mut meta = write.open_table(META)?;
            meta.insert("revision", revision.0)?;
        }
        if revision == self.revision {
            // Everything was stale: there is nothing to write.
            write.abort()?;
            return Ok(results);
        }
        write.commit()?;
        self.revision = revision;
        for (key, revision) in changed {
            match revision {
                Some(revision) => _ = self.revisions.insert(key, revision),
                None => _ = self.revisions.remove(&key),
            }
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests;
