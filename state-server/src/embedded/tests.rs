//! What the embedded store promises when the power goes, the disk is full, or the file is not ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tandem_state_client::{Op, Store as _};
use tandem_wire::id::{BucketId, CallId};

use super::*;
use crate::StateServer;

const POP: PopId = PopId(1);

fn now() -> Wall {
    Wall::from_secs(1_795_000_000)
}

/// A disk that keeps what was not synced apart, and loses it when the power goes.
#[derive(Debug, Default)]
struct Disk {
    synced: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    /// Operations until everything fails, if it is to.
    fails_in: Option<u64>,
    syncs: u64,
    /// Nothing may grow.
    full: bool,
}

impl Disk {
    /// One operation more, unless the power is off.
    fn tick(&mut self) -> Result<(), std::io::Error> {
        match &mut self.fails_in {
            Some(0) => Err(std::io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The power goes and comes back. Of what was not synced, each write is there or not, as the disk pleases, and one
    /// may be there by half.
    fn power_cut(&mut self, random: &mut impl FnMut(u64) -> u64) {
        self.fails_in = None;
        let mut survived = self.synced.clone();
        for (offset, bytes) in &self.unsynced {
            let keep = match random(3) {
                0 => 0,
                1 => bytes.len(),
                _ => random(bytes.len() as u64 + 1) as usize,
            };
            let (start, end) = (*offset as usize, *offset as usize + keep);
            if survived.len() < end {
                survived.resize(end, 0);
            }
            survived[start..end].copy_from_slice(&bytes[..keep]);
        }
        // The file's length was set before its bytes were written: it survives at its longest or its shortest.
        survived.resize(survived.len().max(if random(2) == 0 { 0 } else { self.current.len() }), 0);
        self.current = survived.clone();
        self.synced = survived;
        self.unsynced.clear();
    }
}

#[derive(Debug, Clone, Default)]
struct Storage(Arc<Mutex<Disk>>);

impl Storage {
    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    fn embedded(&self) -> Embedded {
        let storage = self.clone();
        Embedded::storage(move || storage.clone(), POP, now)
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.disk().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let disk = self.disk();
        let start = offset as usize;
        let bytes = disk.current.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        let mut disk = self.disk();
        disk.tick()?;
        if disk.full && len as usize > disk.current.len() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        disk.current.resize(len as usize, 0);
        if disk.synced.len() > len as usize {
            disk.synced.truncate(len as usize);
        }
        disk.unsynced.retain(|(offset, bytes)| *offset as usize + bytes.len() <= len as usize);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut disk = self.disk();
        disk.tick()?;
        disk.synced = disk.current.clone();
        disk.unsynced.clear();
        disk.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        let mut disk = self.disk();
        disk.tick()?;
        let start = offset as usize;
        disk.current[start..start + data.len()].copy_from_slice(data);
        disk.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}

/// A generator of our own, so that a failing seed repeats.
fn generator(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    }
}

fn key(n: u64) -> Key {
    Key::Call(CallId::new(POP, BucketId(n as u16), u128::from(n)))
}

type Records = BTreeMap<Key, Entry>;

fn records(listing: Listing) -> Records {
    listing.entries.into_iter().map(|entry| (entry.key, entry)).collect()
}

/// A command at random on what is there: mostly one that fits, sometimes a stale one, of one record or of several.
fn command(random: &mut impl FnMut(u64) -> u64, known: &Records, mark: &mut u64) -> Command {
    let first = random(8);
    let ops = (0..=random(3)).map(|n| {
        let key = key((first + n) % 8);
        let current = known.get(&key).map_or(Revision::ZERO, |entry| entry.revision);
        let based_on = if random(8) == 0 { Revision(current.0 + 1) } else { current };
        *mark += 1;
        let mut value = mark.to_be_bytes().to_vec();
        value.resize(8 + random(2_000) as usize, 0);
        let change = if current > Revision::ZERO && random(5) == 0 { Change::Delete } else { Change::Put(value) };
        Op { key, based_on, change }
    });
    Command { ops: ops.collect() }
}

fn apply(records: &mut Records, command: Command, revision: Revision) {
    for Op { key, change, .. } in command.ops {
        match change {
            Change::Put(value) => _ = records.insert(key, Entry { key, revision, value: value.into() }),
            Change::Delete => _ = records.remove(&key),
        }
    }
}

/// What a store has to answer for.
#[derive(Default)]
struct Told {
    records: Records,
    revision: Revision,
}

impl Told {
    /// Commits batches until the power is gone or `batches` are done; gives the batch that got no answer.
    fn commit(
        &mut self,
        store: &mut Embedded,
        random: &mut impl FnMut(u64) -> u64,
        mark: &mut u64,
        batches: usize,
    ) -> Option<Vec<Command>> {
        for _ in 0..batches {
            // One record once a batch, so that what a batch does can be told from its commands alone.
            let mut taken = std::collections::BTreeSet::new();
            let mut batch: Vec<Command> = (0..=random(4)).map(|_| command(random, &self.records, mark)).collect();
            batch.retain(|command| command.ops.iter().all(|op| taken.insert(op.key)));
            let Ok(results) = store.commit(&batch) else { return Some(batch) };
            for (command, result) in batch.into_iter().zip(results) {
                let fits = self.fits(&command);
                match result {
                    Ok(revision) => {
                        assert!(fits && revision > self.revision);
                        self.revision = revision;
                        apply(&mut self.records, command, revision);
                    }
                    Err(error) => assert!(!fits && matches!(error, StoreError::Stale { .. })),
                }
            }
        }
        None
    }

    fn fits(&self, command: &Command) -> bool {
        let current = |key| self.records.get(key).map_or(Revision::ZERO, |entry: &Entry| entry.revision);
        command.ops.iter().all(|op| op.based_on == current(&op.key))
    }

    /// Whether `found` is what was told, or that and all of the batch that got no answer.
    fn is_kept(&self, found: &Listing, in_doubt: Option<&Vec<Command>>) -> bool {
        let mut with_doubt = self.records.clone();
        let mut revision = self.revision;
        for command in in_doubt.into_iter().flatten().filter(|command| self.fits(command)) {
            revision = Revision(revision.0 + 1);
            apply(&mut with_doubt, command.clone(), revision);
        }
        let expected = if found.revision == self.revision { &self.records } else { &with_doubt };
        (found.revision == self.revision || found.revision == revision) && records(found.clone()) == *expected
    }
}

/// Runs the same commits each time, cuts the power at operation `cut` of the disk, and looks at what is there then.
/// Gives whether it is what was told, and whether the power was cut at all.
fn survives(seed: u64, cut: u64, embedded: &impl Fn(&Storage) -> Embedded) -> (bool, bool) {
    let (mut random, mut mark) = (generator(seed), 0);
    let storage = Storage::default();
    // A new store is made in peace: `file` sees to that. What is tested is what happens to it then.
    let first = storage.embedded().read_all().unwrap();
    let mut told = Told { records: Records::new(), revision: first.revision };
    storage.disk().fails_in = Some(cut);
    let mut store = embedded(&storage);
    let in_doubt = match store.read_all() {
        Ok(_) => told.commit(&mut store, &mut random, &mut mark, 12),
        Err(_) => Some(Vec::new()),
    };
    drop(store);
    let was_cut = storage.disk().fails_in == Some(0);
    let mut luck = generator(seed ^ cut << 32);
    storage.disk().power_cut(&mut luck);
    let mut store = storage.embedded();
    let Ok(found) = store.read_all() else { return (false, was_cut) };
    if !told.is_kept(&found, in_doubt.as_ref()) {
        return (false, was_cut);
    }
    // It goes on from there, and what it does then is there too.
    told = Told { revision: found.revision, records: records(found) };
    assert!(told.commit(&mut store, &mut random, &mut mark, 2).is_none());
    drop(store);
    storage.disk().power_cut(&mut luck);
    let found = storage.embedded().read_all().unwrap();
    (told.is_kept(&found, None), was_cut)
}

/// At how many of the disk's operations a power cut loses something, and how many there are.
fn lost_at_any_point(seed: u64, embedded: impl Fn(&Storage) -> Embedded) -> (usize, u64) {
    let mut lost = 0;
    for cut in 0.. {
        let (kept, was_cut) = survives(seed, cut, &embedded);
        lost += usize::from(!kept);
        if !was_cut {
            return (lost, cut);
        }
    }
    unreachable!("the commits come to an end")
}

#[test]
fn what_was_accepted_survives_every_power_cut() {
    for seed in 1..=12 {
        let (lost, points) = lost_at_any_point(seed, Storage::embedded);
        assert_eq!(lost, 0, "seed {seed}");
        assert!(points > 50, "there must be something to cut: {points}");
    }
}

#[test]
fn without_the_fsync_the_same_test_loses_what_was_accepted() {
    let (lost, points) = lost_at_any_point(1, |storage| storage.embedded().without_fsync());
    assert!(lost > 10, "the test must be able to fail: {lost} of {points}");
}

#[test]
fn a_batch_costs_one_sync_of_the_disk_not_one_a_command() {
    let storage = Storage::default();
    let mut store = storage.embedded();
    store.read_all().unwrap();
    let before = storage.disk().syncs;
    let commands: Vec<Command> = (0..500)
        .map(|n| Command { ops: vec![Op { key: key(n), based_on: Revision::ZERO, change: Change::Put(vec![1; 100]) }] })
        .collect();
    assert!(store.commit(&commands).unwrap().iter().all(Result::is_ok));
    let syncs = storage.disk().syncs - before;
    assert!((1..=3).contains(&syncs), "{syncs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_answers_reads_and_heals_when_there_is_room() {
    let storage = Storage::default();
    let server = StateServer::open_with_backend(storage.embedded(), POP).unwrap();
    let put =
        |n: u64, based_on| Command { ops: vec![Op { key: key(n), based_on, change: Change::Put(vec![n as u8; 100]) }] };
    let first = server.commit(put(1, Revision::ZERO)).await.unwrap();
    let mut watch = server.watch(&tandem_state_client::BucketSet::all(), first).await.unwrap();
    storage.disk().fails_in = Some(0);
    for n in 2..5 {
        let refused = server.commit(put(n, Revision::ZERO)).await;
        assert!(refused.is_err_and(|error| error.is_away()));
    }
    let call = key(1).call();
    assert_eq!(server.load(call.unwrap()).await.unwrap().entries.len(), 1, "reads go on");
    assert!(!server.is_writable());
    storage.disk().fails_in = None;
    server.writable().await;
    let later = server.commit(put(9, Revision::ZERO)).await.unwrap();
    assert!(later > first);
    assert_eq!(server.load(key(2).call().unwrap()).await.unwrap().entries.len(), 0, "what was refused is not there");
    assert!(server.commit(put(1, first)).await.unwrap() > later, "revisions are as they were");
    let event = tokio_stream::StreamExt::next(&mut watch).await.unwrap().unwrap();
    assert_eq!((event.key, event.revision), (key(9), later), "who follows goes on");
}

#[test]
fn a_disk_without_room_does_not_keep_a_store_from_being_opened_after_a_crash() {
    for seed in 0..20 {
        let storage = Storage::default();
        let mut store = storage.embedded();
        let mut told = Told { revision: store.read_all().unwrap().revision, ..Told::default() };
        assert!(told.commit(&mut store, &mut generator(seed), &mut 0, 20).is_none());
        storage.disk().fails_in = Some(0);
        drop(store);
        storage.disk().power_cut(&mut generator(seed));
        storage.disk().full = true;
        let found = storage.embedded().read_all().unwrap();
        assert!(told.is_kept(&found, None));
    }
}

#[test]
fn a_file_in_use_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let mut first = Embedded::file(&path, POP, now);
    first.read_all().unwrap();
    let error = Embedded::file(&path, POP, now).read_all().unwrap_err();
    assert!(matches!(error, OpenError::InUse), "{error}");
    assert!(error.to_string().contains("another process"));
    drop(first);
    Embedded::file(&path, POP, now).read_all().unwrap();
}

#[test]
fn a_file_of_a_newer_format_or_another_pop_is_refused() {
    let storage = Storage::default();
    storage.embedded().read_all().unwrap();
    let other = storage.clone();
    let error = Embedded::storage(move || other.clone(), PopId(2), now).read_all().unwrap_err();
    assert!(matches!(error, OpenError::OtherPop { found: 1 }), "{error}");
    let database = Database::builder().create_with_backend(storage.clone()).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = storage.embedded().read_all().unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, known: 1 }), "{error}");
    assert!(error.to_string().contains("upgrade"));
}

#[test]
fn a_file_that_is_no_store_or_is_damaged_is_refused_not_fatal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let mut store = Embedded::file(&path, POP, now);
    store.read_all().unwrap();
    let commands: Vec<Command> = (0..200)
        .map(|n| Command { ops: vec![Op { key: key(n), based_on: Revision::ZERO, change: Change::Put(vec![7; 900]) }] })
        .collect();
    store.commit(&commands).unwrap();
    drop(store);
    let mut random = generator(5);
    let whole = Embedded::file(&path, POP, now).read_all().unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for round in 0..300 {
        let mut bad = good.clone();
        match round % 3 {
            0 => bad.truncate(1 + random(good.len() as u64 - 1) as usize),
            1 => (0..40).for_each(|_| bad[random(good.len() as u64) as usize] ^= 1 << random(8)),
            _ => bad[..64].fill(random(256) as u8),
        }
        std::fs::write(&path, &bad).unwrap();
        // What it must not do is panic. Damage where nothing is stored is no damage.
        match Embedded::file(&path, POP, now).read_all() {
            Ok(listing) => assert_eq!(listing, whole, "what is not refused is whole"),
            Err(_) => refused += 1,
        }
    }
    std::fs::write(&path, b"this is a diary, not a database").unwrap();
    assert!(matches!(Embedded::file(&path, POP, now).read_all(), Err(OpenError::Damaged(_))));
    assert!(refused >= 100, "{refused}");
}

#[test]
fn a_store_made_anew_is_later_than_the_one_that_was_deleted() {
    let old = Storage::default().embedded().read_all().unwrap().revision;
    let later: fn() -> Wall = || Wall::from_millis(now().as_millis() + 60_000);
    let storage = Storage::default();
    let new = Embedded::storage(move || storage.clone(), POP, later).read_all().unwrap().revision;
    // A minute's worth of a million commits a second.
    assert!(new.0 >= old.0 + 60_000_000);
}
