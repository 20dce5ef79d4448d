//! The trait's values to the wire's and back.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use tandem_core::load::{Load, Report};
use tandem_core::topology::{Incarnation, Transport};
use tandem_wire::id::{AllocationId, LegId, RelayId, Revision};
use tandem_wire::redact::ClientAddr;

use super::proto;
use crate::{AllocationRef, BucketSet, Change, Changes, Command, Entry, Event, Fault, Kinds, Op, SeenLoad, StoreError};

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
            _ => return Err(StoreError::Invalid(Fault::Unreadable)),
        };
        let key = op.key.parse().map_err(|_| StoreError::Invalid(Fault::Unreadable))?;
        Ok(Op { key, based_on: Revision(op.based_on), change })
    });
    Ok(Command { ops: ops.collect::<Result<_, _>>()? })
}

pub(super) fn entry_to(entry: Entry) -> proto::Entry {
    proto::Entry { key: entry.key.to_string(), revision: entry.revision.0, value: entry.value.to_vec() }
}

pub(super) fn entry_from(entry: proto::Entry) -> Result<Entry, StoreError> {
    let key = entry.key.parse().map_err(|_| StoreError::Garbled)?;
    Ok(Entry { key, revision: Revision(entry.revision), value: entry.value.into() })
}

pub(super) fn changes_to(changes: Changes) -> proto::Changes {
    let events = changes.events.into_iter().map(|event| proto::Event {
        key: event.key.to_string(),
        revision: event.revision.0,
        now: Some(match event.value {
            Some(value) => proto::event::Now::Put(value.to_vec()),
            None => proto::event::Now::Deleted(true),
        }),
    });
    proto::Changes { events: events.collect(), reached: changes.reached.0 }
}

pub(super) fn changes_from(changes: proto::Changes) -> Result<Changes, StoreError> {
    let events = changes.events.into_iter().map(|event| {
        let value = match event.now {
            Some(proto::event::Now::Put(value)) => Some(value.into()),
            Some(proto::event::Now::Deleted(true)) => None,
            _ => return Err(StoreError::Garbled),
        };
        let key = event.key.parse().map_err(|_| StoreError::Garbled)?;
        Ok(Event { key, revision: Revision(event.revision), value })
    });
    Ok(Changes { events: events.collect::<Result<_, _>>()?, reached: Revision(changes.reached) })
}

pub(super) fn buckets_to(buckets: &BucketSet) -> Vec<proto::Range> {
    buckets.ranges().into_iter().map(|(first, last)| proto::Range { first: first.into(), last: last.into() }).collect()
}

/// What a follower wants.
pub(super) fn wanted_from(ranges: &[proto::Range], left_out: u32) -> Result<BucketSet, StoreError> {
    let kinds = Kinds::without(left_out).ok_or(StoreError::Invalid(Fault::Unreadable))?;
    Ok(buckets_from(ranges)?.only(kinds))
}

/// Ranges must ascend and not touch what came before: so however many there are, no bucket is looked at twice.
fn buckets_from(ranges: &[proto::Range]) -> Result<BucketSet, StoreError> {
    let mut free = 0;
    let mut read = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (Ok(first), Ok(last)) = (u16::try_from(range.first), u16::try_from(range.last)) else {
            return Err(StoreError::Invalid(Fault::Unreadable));
        };
        if range.first < free || last < first {
            return Err(StoreError::Invalid(Fault::Unreadable));
        }
        free = u32::from(last) + 1;
        read.push((first, last));
    }
    Ok(BucketSet::of_ranges(read))
}

pub(super) fn client_to(transport: Transport, client: ClientAddr) -> proto::FindClientRequest {
    let transport = match transport {
        Transport::Udp => "u",
    };
    proto::FindClientRequest { transport: transport.to_owned(), client: client.key().to_vec() }
}

pub(super) fn client_from(request: &proto::FindClientRequest) -> Result<(Transport, ClientAddr), StoreError> {
    let invalid = StoreError::Invalid(Fault::Unreadable);
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

pub(super) fn report_to(report: Report) -> proto::LoadReport {
    let Report { relay, incarnation, epoch, load } = report;
    proto::LoadReport {
        relay: relay.0.into(),
        incarnation: incarnation.0,
        epoch,
        calls: load.calls,
        allocations: load.allocations,
        received_packets_per_s: load.received_packets_per_s,
        sent_packets_per_s: load.sent_packets_per_s,
        received_bytes_per_s: load.received_bytes_per_s,
        sent_bytes_per_s: load.sent_bytes_per_s,
        dropped_packets_per_s: load.dropped_packets_per_s,
        cpu_permille: load.cpu_permille.into(),
    }
}

pub(super) fn report_from(report: &proto::LoadReport) -> Result<Report, StoreError> {
    let invalid = |_| StoreError::Invalid(Fault::Unreadable);
    let load = Load {
        calls: report.calls,
        allocations: report.allocations,
        received_packets_per_s: report.received_packets_per_s,
        sent_packets_per_s: report.sent_packets_per_s,
        received_bytes_per_s: report.received_bytes_per_s,
        sent_bytes_per_s: report.sent_bytes_per_s,
        dropped_packets_per_s: report.dropped_packets_per_s,
        cpu_permille: u16::try_from(report.cpu_permille).map_err(invalid)?,
    };
    let relay = RelayId(u16::try_from(report.relay).map_err(invalid)?);
    Ok(Report { relay, incarnation: Incarnation(report.incarnation), epoch: report.epoch, load })
}

pub(super) fn loads_to(loads: Vec<SeenLoad>) -> proto::LoadsReply {
    let loads = loads.into_iter().map(|SeenLoad { report, age }| proto::SeenLoad {
        report: Some(report_to(report)),
        age_ms: u32::try_from(age.as_millis()).unwrap_or(u32::MAX),
    });
    proto::LoadsReply { loads: loads.collect() }
}

pub(super) fn loads_from(reply: &proto::LoadsReply) -> Result<Vec<SeenLoad>, StoreError> {
    let loads = reply.loads.iter().map(|seen| {
        let report = seen.report.as_ref().and_then(|report| report_from(report).ok()).ok_or(StoreError::Garbled)?;
        Ok(SeenLoad { report, age: Duration::from_millis(seen.age_ms.into()) })
    });
    loads.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;
    use tandem_wire::id::CallId;

    use crate::Key;

    const UNREADABLE: StoreError = StoreError::Invalid(Fault::Unreadable);

    fn range(first: u32, last: u32) -> proto::Range {
        proto::Range { first, last }
    }

    #[test]
    fn a_path_that_is_no_key_reaches_no_store() {
        let good = Key::Call(CallId::from_bits(7)).to_string();
        let over = format!("{good}/../x");
        for key in [
            "",
            "/",
            "tandem/v1",
            "..",
            "\0",
            &good[..good.len() - 1],
            &format!("{good}/"),
            &format!("{good}\0"),
            &over,
        ] {
            let change = Some(proto::op::Change::Delete(true));
            let op = proto::Op { key: key.to_owned(), based_on: 1, change };
            assert_eq!(command_from(proto::CommitRequest { ops: vec![op] }), Err(UNREADABLE), "{key}");
        }
    }

    #[test]
    fn an_operation_puts_or_deletes() {
        for change in [None, Some(proto::op::Change::Delete(false))] {
            let op = proto::Op { key: Key::Call(CallId::from_bits(7)).to_string(), based_on: 1, change };
            assert_eq!(command_from(proto::CommitRequest { ops: vec![op] }), Err(UNREADABLE));
        }
    }

    #[test]
    fn ranges_of_buckets_ascend_and_have_16_bits() {
        assert_eq!(buckets_from(&[range(0, 5), range(6, 65_535)]), Ok(BucketSet::all()));
        for bad in [
            &[range(0, 65_536)][..],
            &[range(65_536, 65_537)],
            &[range(5, 4)],
            &[range(0, 5), range(5, 6)],
            &[range(7, 9), range(0, 1)],
            &[range(0, 65_535), range(0, 65_535)],
        ] {
            assert_eq!(buckets_from(bad), Err(UNREADABLE), "{bad:?}");
        }
    }

    #[test]
    fn the_id_and_the_share_of_a_core_in_a_report_have_16_bits() {
        let good = proto::LoadReport { relay: 65_535, cpu_permille: 65_535, ..proto::LoadReport::default() };
        assert!(report_from(&good).is_ok());
        for bad in [
            proto::LoadReport { relay: 65_536, ..proto::LoadReport::default() },
            proto::LoadReport { cpu_permille: 65_536, ..proto::LoadReport::default() },
        ] {
            assert_eq!(report_from(&bad), Err(UNREADABLE));
            let seen = proto::SeenLoad { report: Some(bad), age_ms: 0 };
            assert_eq!(loads_from(&proto::LoadsReply { loads: vec![seen] }), Err(StoreError::Garbled));
        }
    }

    #[test]
    fn a_client_is_18_bytes() {
        for client in [vec![], vec![0; 17], vec![0; 19]] {
            let request = proto::FindClientRequest { transport: "u".to_owned(), client };
            assert_eq!(client_from(&request), Err(UNREADABLE));
        }
        let request = proto::FindClientRequest { transport: "x".to_owned(), client: vec![0; 18] };
        assert_eq!(client_from(&request), Err(UNREADABLE));
    }

    fn key() -> impl Strategy<Value = Key> {
        (any::<u128>(), 0..=LegId::MAX).prop_map(|(bits, leg)| match LegId::new(leg) {
            Ok(leg) => Key::Attachment(CallId::from_bits(bits), leg),
            Err(_) => Key::Call(CallId::from_bits(bits)),
        })
    }

    proptest! {
        #[test]
        fn a_command_survives_the_wire(
            ops in prop::collection::vec((key(), any::<u64>(), prop::option::of(any::<Vec<u8>>())), 0..5),
        ) {
            let ops = ops.into_iter().map(|(key, based_on, value)| {
                Op { key, based_on: Revision(based_on), change: value.map_or(Change::Delete, Change::Put) }
            });
            let command = Command { ops: ops.collect() };
            prop_assert_eq!(command_from(command_to(command.clone())), Ok(command));
        }

        #[test]
        fn changes_survive_the_wire(
            events in prop::collection::vec((key(), any::<u64>(), prop::option::of(any::<Vec<u8>>())), 0..5),
            reached: u64,
        ) {
            let events = events.into_iter().map(|(key, revision, value)| {
                Event { key, revision: Revision(revision), value: value.map(Into::into) }
            });
            let changes = Changes { events: events.collect(), reached: Revision(reached) };
            prop_assert_eq!(changes_from(changes_to(changes.clone())), Ok(changes));
        }

        #[test]
        fn a_client_survives_the_wire(ip: u128, v4: bool, port: u16) {
            let ip = if v4 { std::net::Ipv4Addr::from(ip as u32).into() } else { Ipv6Addr::from(ip).into() };
            let client = ClientAddr::new(SocketAddr::new(ip, port));
            prop_assert_eq!(client_from(&client_to(Transport::Udp, client)), Ok((Transport::Udp, client)));
        }

        #[test]
        fn loads_survive_the_wire(
            seen in prop::collection::vec((any::<(u16, u64, u32, u32, u32)>(), any::<(u32, u32, u64, u64, u32, u16)>(), any::<u32>()), 0..5),
        ) {
            let seen: Vec<SeenLoad> = seen.into_iter().map(|((relay, incarnation, epoch, calls, allocations), rates, age_ms)| {
                let (received_packets_per_s, sent_packets_per_s, received_bytes_per_s, sent_bytes_per_s, dropped_packets_per_s, cpu_permille) = rates;
                let load = Load { calls, allocations, received_packets_per_s, sent_packets_per_s, received_bytes_per_s, sent_bytes_per_s, dropped_packets_per_s, cpu_permille };
                let report = Report { relay: RelayId(relay), incarnation: Incarnation(incarnation), epoch, load };
                SeenLoad { report, age: Duration::from_millis(age_ms.into()) }
            }).collect();
            prop_assert_eq!(loads_from(&loads_to(seen.clone())), Ok(seen));
        }

        #[test]
        fn no_bytes_panic_the_reader_of_a_message(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = proto::CommitRequest::decode(&bytes[..]).map(command_from);
            let _ = proto::Changes::decode(&bytes[..]).map(changes_from);
            let _ = proto::RestoreRequest::decode(&bytes[..]).map(|request| buckets_from(&request.buckets));
            let _ = proto::FindClientRequest::decode(&bytes[..]).map(|request| client_from(&request));
            let _ = proto::Owner::decode(&bytes[..]).map(|owner| owner_from(&owner));
            let _ = proto::Entry::decode(&bytes[..]).map(entry_from);
            let _ = proto::LoadReport::decode(&bytes[..]).map(|report| report_from(&report));
            let _ = proto::LoadsReply::decode(&bytes[..]).map(|reply| loads_from(&reply));
        }
    }
}
