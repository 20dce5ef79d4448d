//! The calls of the benchmark: their ids, their records, the tickets of their legs.
//!
//! Decides the numbering: legs 2k and 2k+1 of the benchmark are legs 1 and 2 of call k, so that whoever knows the number
//! knows the ticket.

use std::ops::Range;
use std::sync::Arc;

use tandem_core::topology::{Call, CallCommand, CallKind};
use tandem_state_client::{Change, Command, Key, Op, Revision, Store};
use tandem_wire::id::{BucketId, CallId, LegId, PopId};
use tandem_wire::ticket::TicketKey;
use tandem_wire::units::{Mono, Now, Span, Wall};
use tokio::task::JoinSet;

use crate::turn::Allocation;
use crate::{Failure, sys};

pub(crate) const POP: PopId = PopId(1);
/// Commits at once: as many as a relay has under way.
const AT_ONCE: usize = tandem_relay::limits::REQUESTS_UNDER_WAY;
/// How long a ticket is good for.
const TICKET_LIFE: Span = Span::from_secs(3_600);

fn id(call: usize) -> CallId {
    // Spread over buckets as random ids are.
    let bucket = (call as u32).wrapping_mul(0x9e37_79b1) >> 16;
    CallId::new(POP, BucketId(bucket as u16), call as u128)
}

fn now() -> Now {
    Now { mono: Mono::from_nanos(sys::monotonic()), wall: Wall::from_millis(sys::realtime() / 1_000_000) }
}

/// Writes the records of these calls, and gives the time that it took in nanoseconds.
pub(crate) async fn create(store: &Arc<dyn Store>, calls: Range<usize>) -> Result<u64, Failure> {
    let start = sys::monotonic();
    let mut under_way = JoinSet::new();
    for call in calls {
        if under_way.len() >= AT_ONCE
            && let Some(done) = under_way.join_next().await
        {
            done??;
        }
        let create = CallCommand::Create { id: id(call), kind: CallKind::OneToOne, legs: 2 };
        let value = Call::apply(None, create, now())?.to_json()?;
        let op = Op { key: Key::Call(id(call)), based_on: Revision::ZERO, change: Change::Put(value) };
        let store = Arc::clone(store);
        under_way.spawn(async move { store.commit(Command { ops: vec![op] }).await });
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(sys::monotonic() - start)
}

/// The clients that hold the tickets of these legs, ready to allocate.
pub(crate) fn allocations(key: &TicketKey, legs: Range<usize>) -> Result<Vec<Allocation>, Failure> {
    let expiry = now().wall.after(TICKET_LIFE);
    legs.map(|n| {
        let username = key.mint(id(n / 2), LegId::new((n % 2) as u16 + 1)?, expiry);
        let password = key.credential(&username).to_string();
        Ok(Allocation::new(username, password))
    })
    .collect()
}
