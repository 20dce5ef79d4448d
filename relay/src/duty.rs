//! Which buckets are this relay's, by the table and by what the load balancer says.
//!
//! Decides whether a packet is served here or passed on, and whether a refusal may be given (docs/fleet.md): only the
//! table's primary, and who is told that it acts for it, speak for a bucket. Leaves the rows to `core::steering` and the
//! table to the member task.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_core::steering::{Place, Rows};
use tandem_core::topology::{Incarnation, Standing, Table};
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
    rows: Rows,
    me: Option<Place>,
    peers: Vec<Peer>,
}

impl Share {
    /// What `relay`, in this run of it, has by `table`.
    #[must_use]
    pub fn of(table: &Table, relay: RelayId, incarnation: Incarnation) -> Self {
        let mine = table.relays.iter().position(|row| row.id == relay && row.incarnation == incarnation);
        let standing = mine.and_then(|at| table.relays.get(at)).map(|row| row.standing);
        Self {
            epoch: table.epoch,
            incarnation,
            draining: standing == Some(Standing::Draining),
            rows: Rows::of(table),
            me: mine.and_then(|at| u16::try_from(at).ok()).map(Place),
            peers: table.relays.iter().map(|row| Peer { tunnel: row.tunnel, cookie: row.cookie }).collect(),
        }
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

/// Buckets, a bit each.
#[derive(Debug, Clone)]
struct Buckets(Box<[u64; 1_024]>);

impl Buckets {
    fn none() -> Self {
        Self(Box::new([0; 1_024]))
    }

    fn insert(&mut self, bucket: BucketId) {
        if let Some(word) = self.0.get_mut(usize::from(bucket.0 >> 6)) {
            *word |= 1 << (bucket.0 & 63);
        }
    }

    fn has(&self, bucket: BucketId) -> bool {
        self.0.get(usize::from(bucket.0 >> 6)).is_some_and(|word| word & (1 << (bucket.0 & 63)) != 0)
    }
}

/// What a relay has to do, now.
#[derive(Debug, Clone)]
pub enum Duty {
    /// Everything: it is alone, without a load balancer.
    All,
    /// Its part of a fleet.
    Part {
        /// By this table; none yet: nothing.
        share: Option<Arc<Share>>,
        /// Buckets for which it acts under this table.
        acting: ActingFor,
    },
}

/// Buckets that a relay was told to act for, under the table that it has.
#[derive(Debug, Clone)]
pub struct ActingFor(Buckets);

impl Duty {
    /// A relay of a fleet whose table is not known yet.
    #[must_use]
    pub fn part() -> Self {
        Self::Part { share: None, acting: ActingFor(Buckets::none()) }
    }

    /// A new table: who acts for whom begins anew.
    pub fn take(&mut self, new: Arc<Share>) {
        if let Self::Part { share, acting } = self {
            if share.as_ref().is_none_or(|share| share.epoch != new.epoch) {
                *acting = ActingFor(Buckets::none());
            }
            *share = Some(new);
        }
    }

    /// What to do with a packet of `bucket` that came with `hint`.
    pub fn stance(&mut self, bucket: BucketId, hint: Hint) -> Stance {
        let Self::Part { share, acting } = self else { return Stance::Serve { speaks: true } };
        if hint.acting {
            acting.0.insert(bucket);
            return Stance::Serve { speaks: true };
        }
        let Some(share) = share else { return Stance::Serve { speaks: hint.hops == 0 } };
        let primary = share.primary(bucket);
        if share.me.is_some() && primary == share.me {
            return Stance::Serve { speaks: true };
        }
        if hint.hops > 0 {
            // Another relay takes us for the owner, and we do not: it is served, and refused by nobody.
            return Stance::Serve { speaks: false };
        }
        if hint.epoch > share.epoch {
            // The load balancer has a newer table, in which it is ours.
            return Stance::Serve { speaks: true };
        }
        let peer = primary.and_then(|place| share.peers.get(usize::from(place.0)));
        peer.map_or(Stance::Serve { speaks: false }, |peer| Stance::PassOn(*peer))
    }

    /// Whether this relay writes what time does to the calls of `bucket`: one does, not each that holds them.
    #[must_use]
    pub fn tends(&self, bucket: BucketId) -> bool {
        match self {
            Self::All => true,
            Self::Part { share, acting } => {
                let primary =
                    share.as_ref().is_some_and(|share| share.me.is_some() && share.primary(bucket) == share.me);
                primary || acting.0.has(bucket)
            }
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
        Hint { bucket, acting: false, epoch: 5, hops: 0 }
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
    fn a_newer_table_of_the_load_balancer_is_believed_and_an_older_one_is_not() {
        let mut duty = duty(5, &[1, 2], 1);
        let bucket = (0..).map(BucketId).find(|bucket| duty.stance(*bucket, hint(*bucket)) != SPEAKS).unwrap();
        assert_eq!(duty.stance(bucket, Hint { epoch: 6, ..hint(bucket) }), SPEAKS);
        assert!(matches!(duty.stance(bucket, Hint { epoch: 4, ..hint(bucket) }), Stance::PassOn(_)));
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
