//! Which buckets are this relay's, by the table and by what the load balancer says.
//!
//! Decides whether a packet is served here or passed on, and whether a refusal may be given (docs/fleet.md): only the
//! table's primary, and who is told that it acts for it, speak for a bucket. Leaves the rows to `core::steering` and the
//! table to the member task.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_core::steering::{Place, Rows};
use tandem_core::switch::Listener;
use tandem_core::topology::{Incarnation, Standing, Table};
use tandem_state_client::BucketSet;
use tandem_wire::id::{BucketId, RelayId};
use tandem_wire::tunnel::Cookie;

/// Another relay, as the table names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Where it takes packets.
    pub tunnel: SocketAddr,
    /// What it is to be shown.
    pub cookie: Cookie,
}

/// A table, as one relay needs it.
#[derive(Debug)]
pub struct Share {
    /// Of the table.
    pub epoch: u32,
    /// Which run of this relay it was made for.
    pub incarnation: Incarnation,
    /// Whether it is to go: its rows are others' now.
    pub draining: bool,
    /// Counts the shares of this process: an epoch comes again when the store was wiped.
    pub turn: u32,
    table: Table,
    rows: Rows,
    me: Option<Place>,
    peers: Vec<Peer>,
    /// What it is to hold by this table: what it has, first or second, and what it will have once it is warm.
    buckets: BucketSet,
}

impl Share {
    /// What `relay`, in this run of it, has by `table`.
    #[must_use]
    pub fn of(table: &Table, relay: RelayId, incarnation: Incarnation) -> Self {
        let mine = table.relays.iter().position(|row| row.id == relay && row.incarnation == incarnation);
        let standing = mine.and_then(|at| table.relays.get(at)).map(|row| row.standing);
        let me = mine.and_then(|at| u16::try_from(at).ok()).map(Place);
        let (rows, next) = (Rows::of(table), Rows::next(table));
        let buckets =
            me.map_or_else(BucketSet::none, |me| BucketSet::of(rows.buckets_of(me).chain(next.buckets_of(me))));
        Self {
            epoch: table.epoch,
            incarnation,
            draining: standing == Some(Standing::Draining),
            turn: 0,
            table: table.clone(),
            rows,
            me,
            peers: table.relays.iter().map(|row| Peer { tunnel: row.tunnel, cookie: row.cookie }).collect(),
            buckets,
        }
    }

    /// Whether it was made by the same table for the same run.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation && self.table == other.table
    }

    /// What the relay is to hold.
    #[must_use]
    pub const fn buckets(&self) -> &BucketSet {
        &self.buckets
    }

    /// The buckets that are ours if the two relays that have `bucket` are both down, which is what it means to act for it
    /// as neither of them.
    fn inherited_with(&self, bucket: BucketId) -> Vec<BucketId> {
        let pair = |bucket| (self.rows.primary(bucket), self.rows.secondary(bucket));
        let (one, other) = pair(bucket);
        let down = |place| Some(place) == one || Some(place) == other;
        let theirs = (0..=u16::MAX).map(BucketId).filter(|bucket| {
            let (primary, secondary) = pair(*bucket);
            primary.is_some_and(down) && secondary.is_none_or(down)
        });
        theirs.filter(|bucket| self.rows.first(*bucket, |place| !down(place)) == self.me).collect()
    }

    /// Whether the table names this run of the relay.
    #[must_use]
    pub const fn names_me(&self) -> bool {
        self.me.is_some()
    }

    fn primary(&self, bucket: BucketId) -> Option<Place> {
        self.rows.primary(bucket)
    }
}

/// What the head of a packet says of how it came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// The bucket that it was steered by.
    pub bucket: BucketId,
    /// The load balancer takes us for the owner.
    pub acting: bool,
    /// The table that the sender went by.
    pub epoch: u32,
    /// How often it was passed on.
    pub hops: u8,
    /// Which of the load balancer's addresses it came to.
    pub listener: Option<Listener>,
}

/// What a relay does with a packet of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// Serves it. `speaks`: and may refuse.
    Serve {
        /// Whether a refusal may be given.
        speaks: bool,
    },
    /// Passes it on.
    PassOn(Peer),
}

/// What a relay has to do, now.
#[derive(Debug, Clone)]
pub enum Duty {
    /// Everything: it is alone, without a load balancer.
    All,
    /// Its part of a fleet.
    Part(Box<Part>),
}

/// The part of one relay in a fleet.
#[derive(Debug, Clone)]
pub struct Part {
    /// By this table; none yet: nothing.
    share: Option<Arc<Share>>,
    /// Buckets that it was told to act for under this table.
    acting: BucketSet,
    /// What it holds, or is about to: by the table, and what it acts for beside.
    held: BucketSet,
    /// What it holds has changed since it was last asked.
    changed: bool,
}

impl Duty {
    /// A relay of a fleet whose table is not known yet.
    #[must_use]
    pub fn part() -> Self {
        let [acting, held] = [BucketSet::none(), BucketSet::none()];
        Self::Part(Box::new(Part { share: None, acting, held, changed: false }))
    }

    /// A new table, whatever its epoch: who acts for whom begins anew. What others have now is given up, unless this relay is
    /// to go: then it goes on with what it has. Gives whether it is another one than it had.
    pub fn take(&mut self, new: Arc<Share>) -> bool {
        let Self::Part(part) = self else { return false };
        let Part { share, acting, held, changed } = &mut **part;
        let another = share.as_ref().is_none_or(|share| !share.is(&new));
        if another {
            *acting = BucketSet::none();
            if new.draining {
                new.buckets.iter().for_each(|bucket| held.insert(bucket));
            } else {
                held.clone_from(&new.buckets);
            }
            *changed = true;
        }
        *share = Some(new);
        another
    }

    /// Whether what is to be held has changed since it was last asked for.
    #[must_use]
    pub fn is_to_hold_more(&self) -> bool {
        matches!(self, Self::Part(part) if part.changed)
    }

    /// What is to be held, if that has changed since this was last asked; and the turn that it is by.
    pub fn take_change(&mut self) -> Option<(BucketSet, u32)> {
        let Self::Part(part) = self else { return None };
        let turn = part.share.as_ref().map_or(0, |share| share.turn);
        std::mem::take(&mut part.changed).then(|| (part.held.clone(), turn))
    }

    /// What to do with a packet of `bucket` that came with `hint`.
    pub fn stance(&mut self, bucket: BucketId, hint: Hint) -> Stance {
        let Self::Part(part) = self else { return Stance::Serve { speaks: true } };
        if hint.acting {
            part.act_for(bucket);
            return Stance::Serve { speaks: true };
        }
        let Some(share) = &part.share else { return Stance::Serve { speaks: hint.hops == 0 } };
        let primary = share.primary(bucket);
        if share.me.is_some() && primary == share.me {
            return Stance::Serve { speaks: true };
        }
        if hint.hops > 0 {
            // Another relay takes us for the owner, and we do not: it is served, and refused by nobody.
            return Stance::Serve { speaks: false };
        }
        if hint.epoch > share.epoch {
            // The load balancer has a newer table, in which it is ours; or one from before the store was wiped. Then it has ours
            // in a moment, and what we refuse meanwhile, the store that we read does not have.
            return Stance::Serve { speaks: true };
        }
        let peer = primary.and_then(|place| share.peers.get(usize::from(place.0)));
        peer.map_or(Stance::Serve { speaks: false }, |peer| Stance::PassOn(*peer))
    }

    /// Whether this relay writes what time does to the calls of `bucket`: one does, not each that holds them.
    #[must_use]
    pub fn tends(&self, bucket: BucketId) -> bool {
        let Self::Part(part) = self else { return true };
        let owns = |share: &Arc<Share>| share.me.is_some() && share.primary(bucket) == share.me;
        part.share.as_ref().is_some_and(owns) || part.acting.contains(bucket)
    }
}

impl Part {
    /// The load balancer says that both before us are down, or the one. If we do not hold the bucket, it is the first of
    /// many: all that are ours then are asked for at once.
    fn act_for(&mut self, bucket: BucketId) {
        self.acting.insert(bucket);
        if self.held.contains(bucket) {
            return;
        }
        self.held.insert(bucket);
        self.changed = true;
        if let Some(share) = &self.share {
            share.inherited_with(bucket).into_iter().for_each(|bucket| self.held.insert(bucket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_core::topology::Member;

    fn table(epoch: u32, relays: &[u16]) -> Table {
        let row = |id: &u16| {
            let tunnel = format!("127.0.0.1:{}", 7_000 + id).parse().unwrap();
            Member::starting(Incarnation(1), Cookie::from_bits(u64::from(*id)), tunnel)
                .row(RelayId(*id), Standing::Serving)
        };
        Table::new(epoch, relays.iter().map(row).collect())
    }

    fn duty(epoch: u32, relays: &[u16], me: u16) -> Duty {
        let mut duty = Duty::part();
        duty.take(Arc::new(Share::of(&table(epoch, relays), RelayId(me), Incarnation(1))));
        duty
    }

    fn hint(bucket: BucketId) -> Hint {
        Hint { bucket, acting: false, epoch: 5, hops: 0, listener: None }
    }

    const SPEAKS: Stance = Stance::Serve { speaks: true };
    const SERVES: Stance = Stance::Serve { speaks: false };

    #[test]
    fn a_bucket_is_served_by_its_primary_and_passed_on_to_it_by_all_others() {
        let mut duties: Vec<Duty> = [1, 2, 3].iter().map(|me| duty(5, &[1, 2, 3], *me)).collect();
        for bucket in (0..2_000).map(BucketId) {
            let stances: Vec<Stance> = duties.iter_mut().map(|duty| duty.stance(bucket, hint(bucket))).collect();
            let owner = stances.iter().position(|stance| *stance == SPEAKS).unwrap();
            let tunnel = format!("127.0.0.1:{}", 7_001 + owner).parse().unwrap();
            for (at, stance) in stances.iter().enumerate().filter(|(at, _)| *at != owner) {
                let Stance::PassOn(peer) = stance else { panic!("{stance:?}") };
                assert_eq!((peer.tunnel, duties[at].tends(bucket)), (tunnel, false));
            }
            assert!(duties[owner].tends(bucket));
        }
    }

    #[test]
    fn what_was_passed_on_once_is_served_and_not_refused_by_who_does_not_own_it() {
        let mut other = duty(5, &[1, 2], 1);
        let bucket = (0..).map(BucketId).find(|bucket| other.stance(*bucket, hint(*bucket)) != SPEAKS).unwrap();
        assert_eq!(other.stance(bucket, Hint { hops: 1, ..hint(bucket) }), SERVES);
    }

    #[test]
    fn who_acts_speaks_and_tends_until_the_next_table() {
        let mut duty = duty(5, &[1, 2], 1);
        let bucket = (0..).map(BucketId).find(|bucket| duty.stance(*bucket, hint(*bucket)) != SPEAKS).unwrap();
        assert_eq!(duty.stance(bucket, Hint { acting: true, ..hint(bucket) }), SPEAKS);
        assert!(duty.tends(bucket));
        duty.take(Arc::new(Share::of(&table(5, &[1, 2]), RelayId(1), Incarnation(1))));
        assert!(duty.tends(bucket), "the same table, read again");
        duty.take(Arc::new(Share::of(&table(6, &[1, 2]), RelayId(1), Incarnation(1))));
        assert!(!duty.tends(bucket) && duty.stance(bucket, hint(bucket)) != SPEAKS);
    }

    #[test]
    fn what_a_relay_holds_is_what_the_table_gives_it_and_what_it_acts_for_with_all_that_comes_with_it() {
        let mut duty = duty(5, &[1, 2, 3, 4], 1);
        let (held, turn) = duty.take_change().unwrap();
        assert_eq!((turn, duty.take_change()), (0, None));
        let share = Share::of(&table(5, &[1, 2, 3, 4]), RelayId(1), Incarnation(1));
        assert_eq!(&held, share.buckets());
        let half = held.iter().count();
        assert!((30_000..36_000).contains(&half), "two of four have each bucket: {half}");
        let acting = |bucket| Hint { acting: true, ..hint(bucket) };
        let own = held.iter().next().unwrap();
        assert_eq!(duty.stance(own, acting(own)), SPEAKS);
        assert!(duty.take_change().is_none(), "as a secondary it has it already");
        // A bucket of two others: they are both down.
        let others = |held: &BucketSet| (0..=u16::MAX).map(BucketId).find(|bucket| !held.contains(*bucket)).unwrap();
        let bucket = others(&held);
        assert_eq!(duty.stance(bucket, acting(bucket)), SPEAKS);
        let (more, _) = duty.take_change().unwrap();
        assert!(held.iter().all(|bucket| more.contains(bucket)) && more.contains(bucket));
        // Of the sixth that those two have, half are ours and half the fourth relay's.
        let added = more.iter().count() - half;
        assert!((4_500..6_500).contains(&added), "{added}");
        let next = Share { turn: 7, ..Share::of(&table(6, &[1, 2, 3, 4]), RelayId(1), Incarnation(1)) };
        assert!(duty.take(Arc::new(next)));
        assert_eq!(duty.take_change().unwrap(), (held, 7));
    }

    #[test]
    fn a_relay_that_is_to_go_keeps_what_it_has() {
        let mut duty = duty(5, &[1, 2, 3], 1);
        let (held, _) = duty.take_change().unwrap();
        let mut drained = table(6, &[1, 2, 3]);
        drained.relays[0].standing = Standing::Draining;
        duty.take(Arc::new(Share::of(&drained, RelayId(1), Incarnation(1))));
        assert_eq!(duty.take_change().unwrap(), (held, 0));
    }

    #[test]
    fn a_newer_table_of_the_load_balancer_is_believed_and_an_older_one_is_not() {
        let mut duty = duty(5, &[1, 2], 1);
        let bucket = (0..).map(BucketId).find(|bucket| duty.stance(*bucket, hint(*bucket)) != SPEAKS).unwrap();
        assert_eq!(duty.stance(bucket, Hint { epoch: 6, ..hint(bucket) }), SPEAKS);
        assert!(matches!(duty.stance(bucket, Hint { epoch: 4, ..hint(bucket) }), Stance::PassOn(_)));
    }

    #[test]
    fn another_table_of_the_same_or_a_lower_epoch_is_another_table() {
        let mut duty = duty(5, &[1, 2], 1);
        let of = |bucket| hint(bucket);
        let bucket = (0..).map(BucketId).find(|bucket| duty.stance(*bucket, of(*bucket)) != SPEAKS).unwrap();
        assert_eq!(duty.stance(bucket, Hint { acting: true, ..of(bucket) }), SPEAKS);
        duty.take_change();
        for (turn, epoch, relays) in [(1, 5, &[1, 3][..]), (2, 1, &[1])] {
            let share = Share { turn, ..Share::of(&table(epoch, relays), RelayId(1), Incarnation(1)) };
            assert!(duty.take(Arc::new(share)), "{epoch}");
            assert_eq!(duty.take_change().unwrap().1, turn, "what it acted for is over");
        }
        assert!(duty.tends(bucket), "it is alone");
        let again = Share::of(&table(1, &[1]), RelayId(1), Incarnation(1));
        assert!(!duty.take(Arc::new(again)) && duty.take_change().is_none());
    }

    #[test]
    fn another_run_of_this_relay_is_another_relay() {
        let mut duty = Duty::part();
        duty.take(Arc::new(Share::of(&table(5, &[1, 2]), RelayId(1), Incarnation(2))));
        for bucket in (0..500).map(BucketId) {
            assert!(matches!(duty.stance(bucket, hint(bucket)), Stance::PassOn(_)));
            assert!(!duty.tends(bucket));
        }
    }

    #[test]
    fn a_relay_alone_does_everything() {
        let mut duty = Duty::All;
        assert_eq!(duty.stance(BucketId(7), hint(BucketId(7))), SPEAKS);
        assert!(duty.tends(BucketId(7)));
    }
}
