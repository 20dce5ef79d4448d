//! The metrics of a relay, and the order in which its parts publish them.
//!
//! Decides names and meanings. Leaves counting to the relay, whose tables of totals stand in the same order.

use super::{Series, label, metrics};

label! {
    /// What a packet came as and what it left as.
    Way = "way":
    /// Channel to channel.
    ChannelToChannel = "channel_to_channel",
    /// Channel to Data indication.
    ChannelToIndication = "channel_to_indication",
    /// Send indication to channel.
    IndicationToChannel = "indication_to_channel",
    /// Send indication to Data indication.
    IndicationToIndication = "indication_to_indication",
}

label! {
    /// Why a packet was dropped.
    Dropped = "cause":
    /// Media from an address that no allocation has.
    UnknownSource = "unknown_source",
    /// On a channel that the allocation has not bound.
    UnknownChannel = "unknown_channel",
    /// To an address where nobody is attached.
    NobodyThere = "nobody_there",
    /// To an address outside the virtual prefix.
    OutsidePrefix = "outside_prefix",
    /// An empty datagram.
    Empty = "empty",
    /// Cut short, or longer than it says.
    Malformed = "malformed",
    /// Of no protocol that is served.
    NotOurs = "not_ours",
    /// STUN that asks for nothing.
    NotRequest = "not_request",
    /// Its call sends more than a call may.
    OverRate = "over_rate",
    /// No room for a longer header.
    NoHeadroom = "no_headroom",
    /// A request that is not served.
    NotServed = "not_served",
    /// Over the answers that one source gets in a second.
    Limited = "limited",
    /// Longer than any datagram that is taken.
    Oversized = "oversized",
    /// The kernel's send buffer was full.
    SendFull = "send_full",
    /// The kernel refused to send it.
    SendRefused = "send_refused",
    /// Over the copies that one batch may make.
    CopiesOverCap = "copies_over_cap",
    /// Over what may wait for calls to be loaded.
    OverCap = "over_cap",
    /// It waited for its call in vain.
    HeldInVain = "held_in_vain",
    /// In the tunnel: without a head of this relay's.
    Foreign = "foreign",
    /// For a client, while no load balancer is known.
    NoWayOut = "no_way_out",
    /// A client's, taken from a load balancer on the same machine while a socket for direct return was made.
    Drained = "drained",
}

label! {
    /// How a packet goes to its client.
    Path = "path":
    /// Past the load balancer.
    Direct = "direct",
    /// Through it.
    Balancer = "balancer",
}

label! {
    /// What a source without proof was answered.
    Answer = "answer":
    /// Binding success.
    Binding = "binding",
    /// 401.
    Unauthorized = "unauthorized",
    /// 438.
    StaleNonce = "stale_nonce",
    /// 420 for MESSAGE-INTEGRITY-SHA256.
    Sha256 = "sha256",
}

metrics! {
    /// The metrics of a relay.
    RELAY:
    /// Datagrams received.
    RECEIVED = Counter Count "tandem_relay_received_packets_total";
    /// Datagrams sent.
    SENT = Counter Count "tandem_relay_sent_packets_total";
    /// Bytes of the datagrams received, as UDP carries them.
    RECEIVED_BYTES = Counter Bytes "tandem_relay_received_bytes_total";
    /// Bytes of the datagrams sent, likewise.
    SENT_BYTES = Counter Bytes "tandem_relay_sent_bytes_total";
    /// How long the packet thread has run on a core.
    PACKET_THREAD_CPU = Counter Microseconds "tandem_relay_packet_thread_cpu_microseconds_total";
    /// Receiving failed for another reason than that nothing was there.
    RECEIVE_ERRORS = Counter Count "tandem_relay_receive_errors_total";
    /// Packets forwarded from leg to leg.
    FORWARDED = Counter Count "tandem_relay_forwarded_packets_total";
    /// Payload forwarded from leg to leg.
    FORWARDED_BYTES = Counter Bytes "tandem_relay_forwarded_bytes_total";
    /// Packets dropped, by cause.
    DROPPED = Counter Count "tandem_relay_dropped_packets_total";
    /// Answers to sources without proof.
    ANSWERS = Counter Count "tandem_relay_unproven_answers_total";
    /// Requests whose sender proved to hold their ticket.
    PROVEN = Counter Count "tandem_relay_proven_requests_total";
    /// Allocations for which the table had no room.
    TABLE_FULL = Counter Count "tandem_relay_allocations_refused_total";
    /// Calls asked of the store.
    LOADS = Counter Count "tandem_relay_loads_total";
    /// Attachments written to the store.
    WRITES = Counter Count "tandem_relay_writes_total";
    /// Writes that somebody else was faster than.
    CONFLICTS = Counter Count "tandem_relay_write_conflicts_total";
    /// Answers given from memory because the store was away.
    UNDURABLE = Counter Count "tandem_relay_undurable_answers_total";
    /// Answers never given, because their call ended or their record was somebody else's.
    ABANDONED = Counter Count "tandem_relay_abandoned_answers_total";
    /// Requests to the store that found their queue full.
    REQUESTS_OVER_CAP = Counter Count "tandem_relay_store_requests_over_cap_total";
    /// Panics of the engine; each cost the one datagram or event that it happened on.
    ENGINE_PANICS = Counter Count "tandem_relay_engine_panics_total";
    /// Times that the packet thread stood still for so long that it answered nothing until it had read the table again.
    FENCES = Counter Count "tandem_relay_fences_total";
    /// Probes of load balancers that were echoed.
    PROBES = Counter Count "tandem_relay_probes_total";
    /// In a fleet: packets for clients, by how they went.
    RETURNED = Counter Count "tandem_relay_returned_packets_total";
    /// Packets passed on to the relay that has their bucket.
    PASSED_ON = Counter Count "tandem_relay_passed_on_packets_total";
    /// Lists of all calls read from the store.
    RESTORES = Counter Count "tandem_relay_restores_total";
    /// Requests to the store that found it away.
    STORE_AWAY = Counter Count "tandem_relay_store_away_total";
    /// Records that could not be read: malformed, or of a newer version.
    UNREADABLE = Counter Count "tandem_relay_unreadable_records_total";
    /// Calls in memory.
    CALLS = Gauge Count "tandem_relay_calls";
    /// Allocations in memory.
    ALLOCATIONS = Gauge Count "tandem_relay_allocations";
    /// 1 while the store's calls are being listed.
    RESTORING = Gauge Count "tandem_relay_restoring";
    /// 1 while the relay answers nothing because it stood still.
    FENCED = Gauge Count "tandem_relay_fenced";
}

/// What the packet thread publishes, in the order of `relay::metrics`: the counters of `core::switch`, `core::turn`,
/// `core::residency`, `net::batch`, the thread's own, the tunnel's, its time on a core, and four gauges.
pub static PACKET_THREAD: [Series; 54] = [
    FORWARDED.of(Way::ChannelToChannel.label()),
    FORWARDED.of(Way::ChannelToIndication.label()),
    FORWARDED.of(Way::IndicationToChannel.label()),
    FORWARDED.of(Way::IndicationToIndication.label()),
    FORWARDED_BYTES.plain(),
    DROPPED.of(Dropped::UnknownSource.label()),
    DROPPED.of(Dropped::UnknownChannel.label()),
    DROPPED.of(Dropped::NobodyThere.label()),
    DROPPED.of(Dropped::OutsidePrefix.label()),
    DROPPED.of(Dropped::Empty.label()),
    DROPPED.of(Dropped::Malformed.label()),
    DROPPED.of(Dropped::NotOurs.label()),
    DROPPED.of(Dropped::NotRequest.label()),
    DROPPED.of(Dropped::OverRate.label()),
    DROPPED.of(Dropped::NoHeadroom.label()),
    TABLE_FULL.plain(),
    ANSWERS.of(Answer::Binding.label()),
    ANSWERS.of(Answer::Unauthorized.label()),
    ANSWERS.of(Answer::StaleNonce.label()),
    ANSWERS.of(Answer::Sha256.label()),
    PROVEN.plain(),
    DROPPED.of(Dropped::NotServed.label()),
    DROPPED.of(Dropped::Limited.label()),
    LOADS.plain(),
    WRITES.plain(),
    CONFLICTS.plain(),
    UNDURABLE.plain(),
    ABANDONED.plain(),
    DROPPED.of(Dropped::OverCap.label()),
    DROPPED.of(Dropped::HeldInVain.label()),
    RECEIVED.plain(),
    RECEIVED_BYTES.plain(),
    SENT.plain(),
    SENT_BYTES.plain(),
    DROPPED.of(Dropped::Oversized.label()),
    DROPPED.of(Dropped::SendFull.label()),
    DROPPED.of(Dropped::SendRefused.label()),
    DROPPED.of(Dropped::CopiesOverCap.label()),
    RECEIVE_ERRORS.plain(),
    REQUESTS_OVER_CAP.plain(),
    ENGINE_PANICS.plain(),
    FENCES.plain(),
    PROBES.plain(),
    PASSED_ON.plain(),
    DROPPED.of(Dropped::Foreign.label()),
    DROPPED.of(Dropped::NoWayOut.label()),
    PACKET_THREAD_CPU.plain(),
    RETURNED.of(Path::Direct.label()),
    RETURNED.of(Path::Balancer.label()),
    DROPPED.of(Dropped::Drained.label()),
    ALLOCATIONS.plain(),
    CALLS.plain(),
    RESTORING.plain(),
    FENCED.plain(),
];

/// What the control task counts: restores, store away, unreadable records.
pub static CONTROL: [Series; 3] = [RESTORES.plain(), STORE_AWAY.plain(), UNREADABLE.plain()];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_totals_of_a_relay_are_shown_under_one_name() {
        let mut seen = BTreeSet::new();
        for series in PACKET_THREAD.iter().chain(&CONTROL) {
            assert!(seen.insert(format!("{:?}", series.key())), "{series:?}");
        }
    }
}
