//! A relay as a member of its fleet: its entry in the store, and the table that it goes by.
//!
//! Decides nothing about calls. Writes the entry when the relay has its calls, beats while it lives, steps back before
//! another process of the same id, and gives each table to the packet thread (docs/fleet.md).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tandem_core::limits::MEMBER_BEAT;
use tandem_core::topology::{Incarnation, Member, Standing, Table, Wish};
use tandem_net::clock;
use tandem_net::socket::Waker;
use tandem_state_client::{BucketSet, Change, Command, Followed, Key, Listing, Op, Store, StoreError, follow};
use tandem_wire::id::{PopId, RelayId, Revision};
use tandem_wire::tunnel::Cookie;
use tandem_wire::units::{Mono, Span};
use tokio::sync::{mpsc, watch};

use crate::duty::Share;
use crate::limits;

/// A table for the packet thread, and when reading it began: what is newer than a fence lifts it.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) share: Arc<Share>,
    pub(crate) read: Mono,
}

/// What becomes of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is one, or is about to be.
    Member,
    /// Another process runs under this id, and came later.
    Superseded,
    /// It has left, as it was told to.
    Left,
}

/// Everything that the member task owns.
pub(crate) struct MemberTask {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pop: PopId,
    pub(crate) relay: RelayId,
    pub(crate) cookie: Cookie,
    pub(crate) tunnel: SocketAddr,
    pub(crate) given: watch::Sender<Option<Given>>,
    pub(crate) waker: Waker,
    /// The packet thread stood still: it asks for the table anew.
    pub(crate) fenced: mpsc::Receiver<()>,
    /// The turn by whose share the relay holds all of its calls.
    pub(crate) held: watch::Receiver<u32>,
    /// Becomes true when the relay is to leave.
    pub(crate) leave: watch::Receiver<bool>,
    pub(crate) state: watch::Sender<State>,
}

/// The entry as it was written last.
#[derive(Clone)]
struct Entry {
    member: Member,
    revision: Revision,
}

/// Another process has this id now.
struct Superseded;

impl MemberTask {
    /// Runs until the relay has left, or another process has its id. To be called when the relay has its calls.
    pub(crate) async fn run(mut self) {
        let end = match self.be_member().await {
            Ok(()) => State::Left,
            Err(Superseded) => State::Superseded,
        };
        self.state.send_replace(end);
    }

    async fn be_member(&mut self) -> Result<(), Superseded> {
        let mut entry = self.register(Incarnation::default()).await;
        let mut followed = follow(Arc::clone(&self.store), BucketSet::fleet());
        let mut beat = tokio::time::interval(MEMBER_BEAT.to_std());
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut table: Option<Table> = None;
        // When the last list of the fleet began to be read that was asked for because of a fence.
        let mut listed = Mono::default();
        loop {
            let before = entry.member.clone();
            tokio::select! {
                biased;
                Ok(()) = wants(&mut self.leave), if entry.member.wish == Wish::Serve => entry.member.wish = Wish::Drain,
                news = followed.recv() => {
                    let Some(news) = news else { return Ok(()) };
                    let (mine, new) = self.look(news, &table);
                    if let Some(mine) = mine {
                        entry = self.settle(entry, mine).await?;
                    }
                    let another_run = entry.member.incarnation != before.incarnation;
                    if new.is_some() || another_run {
                        table = new.or(table);
                        // It may have waited here for long: by itself it lifts no fence.
                        self.give(table.as_ref(), entry.member.incarnation, listed);
                    }
                }
                Some(()) = self.fenced.recv() => {
                    // Whoever was taken for down is taken for up again by a new table only: it asks for one.
                    entry.member.stops = entry.member.stops.wrapping_add(1);
                    let read = clock::now().mono;
                    let listing = self.listed().await;
                    let (mine, new) = self.look(Followed::Listed(listing), &None);
                    if let Some(mine) = mine {
                        entry = self.settle(entry, mine).await?;
                    }
                    table = new.or(table);
                    listed = read;
                    self.give(table.as_ref(), entry.member.incarnation, listed);
                }
                Ok(()) = self.held.changed() => {}
                _ = beat.tick() => entry.member.beat = entry.member.beat.wrapping_add(1),
            }
            let row = table.as_ref().and_then(|table| Some((table.row(self.relay)?, table)));
            let row = row.filter(|(row, _)| row.incarnation == entry.member.incarnation);
            let held = *self.held.borrow_and_update();
            if let Some((row, table)) = row
                && row.standing == Standing::Filling
                && held == self.turn()
            {
                entry.member.warm = table.epoch;
            }
            if before.wish == Wish::Drain && !row.is_some_and(|(row, _)| row.standing == Standing::Serving) {
                // The load balancers have the table as soon as we; what they had sent by then is on its way here.
                tokio::time::sleep(limits::LINGER.to_std()).await;
                self.remove(&entry).await;
                return Ok(());
            }
            if entry.member != before {
                match self.write(&entry).await? {
                    Some(written) => entry = written,
                    None => beat.reset_after(limits::BEAT_RETRY.to_std()),
                }
                if entry.member.incarnation != before.incarnation {
                    // It was gone when we wrote it.
                    self.give(table.as_ref(), entry.member.incarnation, listed);
                }
            }
        }
    }

    /// What a list or a change says of our own entry (if anything), and the table if it is another one.
    fn look(&self, news: Followed, table: &Option<Table>) -> (Option<Option<(Member, Revision)>>, Option<Table>) {
        let (mut mine, mut new) = (None, None);
        let mut take = |key: Key, value: Option<(&[u8], Revision)>| match key {
            Key::Relay(_, relay) if relay == self.relay => {
                mine = Some(value.and_then(|(value, at)| Some((Member::from_json(value).ok()?, at))));
            }
            Key::Table(_) => new = value.and_then(|(value, _)| Table::from_json(value).ok()),
            _ => {}
        };
        match news {
            Followed::Listed(listing) => {
                take(Key::Relay(self.pop, self.relay), None);
                listing.entries.iter().for_each(|entry| take(entry.key, Some((&entry.value, entry.revision))));
            }
            Followed::Changed(changes) => {
                let events = changes.events.iter();
                events.for_each(|event| take(event.key, event.value.as_deref().map(|value| (value, event.revision))));
            }
        }
        (mine, new.filter(|new| Some(new) != table.as_ref()))
    }

    /// What our own entry is now, against what we wrote: ours, a later process's, or gone.
    async fn settle(&self, entry: Entry, stored: Option<(Member, Revision)>) -> Result<Entry, Superseded> {
        match stored {
            Some((member, _)) if member.incarnation > entry.member.incarnation => Err(Superseded),
            Some((member, revision)) if member.incarnation == entry.member.incarnation => {
                Ok(Entry { revision: revision.max(entry.revision), ..entry })
            }
            // An older one: the news is older than our entry.
            Some(_) => Ok(entry),
            None => match self.store.read(Key::Relay(self.pop, self.relay)).await {
                // Removed: we were away for too long. What we were is over.
                Ok(None) => Ok(self.register(entry.member.incarnation).await),
                _ => Ok(entry),
            },
        }
    }

    /// Gives the packet thread its share; without a table it has none.
    fn give(&self, table: Option<&Table>, incarnation: Incarnation, read: Mono) {
        let mut share = match table {
            Some(table) => Share::of(table, self.relay, incarnation),
            None => Share::of(&Table::new(0, Vec::new()), self.relay, incarnation),
        };
        let same = self.given.borrow().as_ref().is_some_and(|given| given.share.is(&share));
        share.turn = if same { self.turn() } else { self.turn().wrapping_add(1) };
        let share = Arc::new(share);
        tracing::info!(
            epoch = share.epoch,
            named = share.names_me(),
            draining = share.draining,
            "a new table of buckets"
        );
        self.given.send_replace(Some(Given { share, read }));
        self.waker.wake();
    }

    /// The turn of the share that was given last.
    fn turn(&self) -> u32 {
        self.given.borrow().as_ref().map_or(0, |given| given.share.turn)
    }

    /// The fleet as it is, as soon as the store says.
    async fn listed(&self) -> Listing {
        let mut wait = limits::RESTORE_RETRY;
        loop {
            if let Ok(listing) = self.store.restore(&BucketSet::fleet()).await {
                return listing;
            }
            tokio::time::sleep(wait.to_std()).await;
            wait = longer(wait);
        }
    }

    /// Writes a new entry, with an incarnation above all that there were. Tries until it is there.
    async fn register(&self, at_least: Incarnation) -> Entry {
        let mut wait = limits::RESTORE_RETRY;
        loop {
            let listing = self.listed().await;
            let key = Key::Relay(self.pop, self.relay);
            let before = listing.entries.iter().find(|entry| entry.key == key);
            let based_on = before.map_or(Revision::ZERO, |entry| entry.revision);
            let before = before.and_then(|entry| Member::from_json(&entry.value).ok());
            let incarnation = Incarnation::next(before.as_ref(), listing.revision.max(Revision(at_least.0)));
            let member = Member::starting(incarnation, self.cookie, self.tunnel);
            if let Ok(entry) = self.put(member, based_on).await {
                tracing::info!(relay = self.relay.0, incarnation = incarnation.0, "a member of the fleet");
                return entry;
            }
            tokio::time::sleep(wait.to_std()).await;
            wait = longer(wait);
        }
    }

    /// Writes our entry again. Gives none if that is not known to have been done: then it is tried again soon. A slow
    /// store may have written what it was asked for, and its answer be late: then what we write next is refused as stale,
    /// and that is no reason to be silent.
    async fn write(&self, entry: &Entry) -> Result<Option<Entry>, Superseded> {
        let Entry { member, mut revision } = entry.clone();
        for _ in 0..limits::BEAT_WRITES {
            match self.put(member.clone(), revision).await {
                Ok(entry) => return Ok(Some(entry)),
                Err(StoreError::Stale { .. }) => {}
                Err(_) => return Ok(None),
            }
            let Ok(stored) = self.store.read(Key::Relay(self.pop, self.relay)).await else { return Ok(None) };
            match stored.and_then(|entry| Some((Member::from_json(&entry.value).ok()?, entry.revision))) {
                // Ours, or of a run before ours: the store has gone back. It is written over.
                Some((before, at)) if before.incarnation <= member.incarnation => revision = at,
                stored => return self.settle(Entry { member, revision }, stored).await.map(Some),
            }
        }
        Ok(None)
    }

    async fn put(&self, member: Member, based_on: Revision) -> Result<Entry, StoreError> {
        let value = member.to_json().map_err(|_| StoreError::Garbled)?;
        let op = Op { key: Key::Relay(self.pop, self.relay), based_on, change: Change::Put(value) };
        let revision = self.store.commit(Command { ops: vec![op] }).await?;
        Ok(Entry { member, revision })
    }

    async fn remove(&self, entry: &Entry) {
        let op = Op { key: Key::Relay(self.pop, self.relay), based_on: entry.revision, change: Change::Delete };
        // If it cannot be, who keeps the fleet does it.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.store.commit(Command { ops: vec![op] })).await;
    }
}

/// The next wait, after one in vain.
fn longer(wait: Span) -> Span {
    Span::from_nanos(wait.as_nanos().saturating_mul(2)).min(limits::RESTORE_RETRY_MAX)
}

/// Ready when the relay is to leave.
async fn wants(leave: &mut watch::Receiver<bool>) -> Result<(), watch::error::RecvError> {
    leave.wait_for(|leave| *leave).await.map(|_| ())
}
