//! The trait's values to the wire's and back; errors to statuses and back.

use std::net::{Ipv6Addr, SocketAddr};

use tandem_core::topology::Transport;
use tandem_wire::id::{AllocationId, LegId, Revision};
use tandem_wire::redact::ClientAddr;
use tonic::{Code, Status};

use super::{RETRY_AFTER_MS, proto};
use crate::{AllocationRef, BucketSet, Change, Command, Entry, Event, Op, StoreError};

/// When the wire does not say when to come back.
const RETRY_AFTER_DEFAULT_MS: u64 = 100;

pub(super) fn to_status(error: &StoreError) -> Status {
    match error {
        StoreError::Away { retry_after_ms } => {
            let mut status = Status::unavailable("the store is away");
            if let Ok(value) = retry_after_ms.to_string().parse() {
                status.metadata_mut().insert(RETRY_AFTER_MS, value);
            }
            status
        }
        StoreError::Compacted => Status::out_of_range("the changes asked for are no longer kept"),
        StoreError::Invalid(why) => Status::invalid_argument(*why),
        StoreError::Unauthorized => Status::unauthenticated("the secret is not this store's"),
        // Stale is an answer, not a status; it comes here only from a store that breaks its contract.
        StoreError::Stale { .. } | StoreError::Garbled => Status::internal("the store broke its contract"),
    }
}

pub(super) fn from_status(status: &Status) -> StoreError {
    match status.code() {
        Code::OutOfRange => StoreError::Compacted,
        Code::InvalidArgument => StoreError::Invalid("the state server refuses it"),
        Code::Unauthenticated | Code::PermissionDenied => StoreError::Unauthorized,
        Code::Unimplemented | Code::DataLoss => StoreError::Garbled,
        // Everything that a lost or overloaded server, or a broken connection, looks like.
        _ => StoreError::Away {
            retry_after_ms: status
                .metadata()
                .get(RETRY_AFTER_MS)
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .unwrap_or(RETRY_AFTER_DEFAULT_MS),
        },
    }
}

pub(super) fn command_to(command: Command) -> proto::CommitRequest {
    let ops = command.ops.into_iter().map(|op| proto::Op {
        key: op.key.to_string(),
        based_on: op.based_on.0,
        change: Some(match op.change {
            Change::Put(value) => proto::op::Change::Put(value),
            Change::Delete => proto::op::Change::Delete(true),
        }),
    });
    proto::CommitRequest { ops: ops.collect() }
}

pub(super) fn command_from(request: proto::CommitRequest) -> Result<Command, StoreError> {
    let ops = request.ops.into_iter().map(|op| {
        let change = match op.change {
            Some(proto::op::Change::Put(value)) => Change::Put(value),
            Some(proto::op::Change::Delete(true)) => Change::Delete,
            _ => return Err(StoreError::Invalid("an operation puts or deletes")),
        };
        let key = op.key.parse().map_err(|_| StoreError::Invalid("not the path of a record"))?;
        Ok(Op { key, based_on: Revision(op.based_on), change })
    });
    Ok(Command { ops: ops.collect::<Result<_, _>>()? })
}

pub(super) fn entry_to(entry: Entry) -> proto::Entry {
    proto::Entry { key: entry.key.to_string(), revision: entry.revision.0, value: entry.value }
}

pub(super) fn entry_from(entry: proto::Entry) -> Result<Entry, StoreError> {
    let key = entry.key.parse().map_err(|_| StoreError::Garbled)?;
    Ok(Entry { key, revision: Revision(entry.revision), value: entry.value })
}

pub(super) fn event_to(event: Event) -> proto::Change {
    proto::Change {
        key: event.key.to_string(),
        revision: event.revision.0,
        now: Some(match event.value {
            Some(value) => proto::change::Now::Put(value),
            None => proto::change::Now::Deleted(true),
        }),
    }
}

pub(super) fn event_from(change: proto::Change) -> Result<Event, StoreError> {
    let value = match change.now {
        Some(proto::change::Now::Put(value)) => Some(value),
        Some(proto::change::Now::Deleted(true)) => None,
        _ => return Err(StoreError::Garbled),
    };
    let key = change.key.parse().map_err(|_| StoreError::Garbled)?;
    Ok(Event { key, revision: Revision(change.revision), value })
}

pub(super) fn buckets_to(buckets: &BucketSet) -> Vec<proto::Range> {
    buckets.ranges().into_iter().map(|(first, last)| proto::Range { first: first.into(), last: last.into() }).collect()
}

pub(super) fn buckets_from(ranges: &[proto::Range]) -> Result<BucketSet, StoreError> {
    let ranges: Option<Vec<(u16, u16)>> =
        ranges.iter().map(|range| Some((u16::try_from(range.first).ok()?, u16::try_from(range.last).ok()?))).collect();
    ranges.map(BucketSet::of_ranges).ok_or(StoreError::Invalid("a bucket has 16 bits"))
}

pub(super) fn client_to(transport: Transport, client: ClientAddr) -> proto::FindClientRequest {
    let transport = match transport {
        Transport::Udp => "u",
    };
    proto::FindClientRequest { transport: transport.to_owned(), client: client.key().to_vec() }
}

pub(super) fn client_from(request: &proto::FindClientRequest) -> Result<(Transport, ClientAddr), StoreError> {
    let invalid = StoreError::Invalid("not a client address");
    let ("u", Some((ip, port))) = (request.transport.as_str(), request.client.split_first_chunk::<16>()) else {
        return Err(invalid);
    };
    let port: [u8; 2] = port.try_into().map_err(|_| invalid)?;
    let address = SocketAddr::new(Ipv6Addr::from(*ip).into(), u16::from_be_bytes(port));
    Ok((Transport::Udp, ClientAddr::new(address)))
}

pub(super) fn owner_to(owner: AllocationRef) -> proto::Owner {
    proto::Owner {
        call: owner.call.to_string(),
        leg: owner.leg.get().into(),
        allocation: owner.allocation.get().into(),
    }
}

pub(super) fn owner_from(owner: &proto::Owner) -> Result<AllocationRef, StoreError> {
    let read = || {
        Some(AllocationRef {
            call: owner.call.parse().ok()?,
            leg: LegId::new(u16::try_from(owner.leg).ok()?).ok()?,
            allocation: AllocationId::new(u8::try_from(owner.allocation).ok()?).ok()?,
        })
    };
    read().ok_or(StoreError::Garbled)
}
