//! The metrics of a load balancer, and the order in which its parts publish them.
//!
//! Decides names and meanings. Leaves counting to the load balancer, whose tables of totals stand in the same order.

use super::{Series, label, metrics};

label! {
    /// Why a packet was dropped.
    Dropped = "cause":
    /// An empty datagram.
    Empty = "empty",
    /// Cut short, longer than it says, or an attribute is wrong.
    Malformed = "malformed",
    /// Of no protocol that is served.
    NotOurs = "not_ours",
    /// STUN that asks for nothing.
    NotRequest = "not_request",
    /// Nothing says where it belongs.
    UnknownSource = "unknown_source",
    /// It pretends to come from a relay or from ourselves.
    OurOwnSource = "our_own_source",
    /// Too long to go through the tunnel.
    TooLong = "too_long",
    /// There is no table yet, or nobody in it.
    NoTable = "no_table",
    /// From a relay's address, and not of the tunnel.
    NoHead = "no_head",
    /// From a relay's address, with a wrong cookie.
    WrongCookie = "wrong_cookie",
    /// From a relay, and neither for a client nor an echo.
    NotBack = "not_back",
    /// For a client that none of our sockets reaches.
    NoWay = "no_way",
    /// Longer than any datagram that is taken.
    Oversized = "oversized",
    /// The kernel's send buffer was full.
    SendFull = "send_full",
    /// The kernel refused to send it.
    SendRefused = "send_refused",
}

label! {
    /// Why a relay was taken for down.
    Down = "cause":
    /// It was silent.
    Silent = "silent",
    /// The network said that nobody is there.
    Refused = "refused",
    /// It said that it ends.
    Leaving = "leaving",
    /// Another run answered in its place.
    Replaced = "replaced",
    /// It lost too many probes.
    Lossy = "lossy",
}

label! {
    /// How a relay stands.
    State = "state":
    /// Not heard often enough yet.
    Probing = "probing",
    /// Up.
    Up = "up",
    /// Silent for a moment.
    Suspect = "suspect",
    /// Down.
    IsDown = "down",
}

metrics! {
    /// The metrics of a load balancer.
    LB:
    /// Datagrams received, of clients and relays.
    RECEIVED = Counter Count "tandem_lb_received_packets_total";
    /// Datagrams sent.
    SENT = Counter Count "tandem_lb_sent_packets_total";
    /// Receiving failed for another reason than that nothing was there or a relay was gone.
    RECEIVE_ERRORS = Counter Count "tandem_lb_receive_errors_total";
    /// Packets of clients that went to a relay.
    FORWARDED = Counter Count "tandem_lb_forwarded_packets_total";
    /// Those of them that went to a relay which acts for another.
    ACTING = Counter Count "tandem_lb_acting_packets_total";
    /// Packets of relays that went to a client.
    RETURNED = Counter Count "tandem_lb_returned_packets_total";
    /// Packets dropped, by cause.
    DROPPED = Counter Count "tandem_lb_dropped_packets_total";
    /// Probes sent to relays.
    PROBES = Counter Count "tandem_lb_probes_total";
    /// Echoes of them.
    ECHOES = Counter Count "tandem_lb_echoes_total";
    /// Relays taken for down, by cause: each is a failover.
    DOWNS = Counter Count "tandem_lb_failovers_total";
    /// Times that relays fell silent through a fault of this machine.
    FREEZES = Counter Count "tandem_lb_freezes_total";
    /// Pauses of this process that were too long to judge relays by.
    PAUSES = Counter Count "tandem_lb_pauses_total";
    /// Flows that had to go for lack of room.
    EVICTED = Counter Count "tandem_lb_evicted_flows_total";
    /// Panics of the packet thread; each cost the one datagram or event that it happened on.
    PACKET_PANICS = Counter Count "tandem_lb_packet_panics_total";
    /// Tables that were read from the store and taken over.
    TABLES = Counter Count "tandem_lb_tables_total";
    /// Records that could not be read: malformed, or of a newer version.
    UNREADABLE = Counter Count "tandem_lb_unreadable_records_total";
    /// Flows that are remembered.
    FLOWS = Gauge Count "tandem_lb_flows";
    /// Those of them that the store names.
    FLOWS_INDEXED = Gauge Count "tandem_lb_flows_indexed";
    /// Relays of the table, by how they stand.
    RELAYS = Gauge Count "tandem_lb_relays";
    /// 1 while the silence of relays counts for nothing.
    FROZEN = Gauge Count "tandem_lb_frozen";
    /// The epoch of the table that is gone by; it differs between processes for as long as a new one takes to arrive.
    EPOCH = Gauge Count "tandem_lb_epoch";
    /// Addresses that the store names.
    CLAIMS = Gauge Count "tandem_lb_claims";
}

/// What the packet thread publishes: the counters of `core::steering`, the thread's own, those of `net::batch`, and gauges.
pub static PACKET_THREAD: [Series; 41] = [
    FORWARDED.plain(),
    ACTING.plain(),
    RETURNED.plain(),
    PROBES.plain(),
    ECHOES.plain(),
    DOWNS.of(Down::Silent.label()),
    DOWNS.of(Down::Refused.label()),
    DOWNS.of(Down::Leaving.label()),
    DOWNS.of(Down::Replaced.label()),
    DOWNS.of(Down::Lossy.label()),
    FREEZES.plain(),
    PAUSES.plain(),
    DROPPED.of(Dropped::Empty.label()),
    DROPPED.of(Dropped::Malformed.label()),
    DROPPED.of(Dropped::NotOurs.label()),
    DROPPED.of(Dropped::NotRequest.label()),
    DROPPED.of(Dropped::UnknownSource.label()),
    DROPPED.of(Dropped::OurOwnSource.label()),
    DROPPED.of(Dropped::TooLong.label()),
    DROPPED.of(Dropped::NoTable.label()),
    DROPPED.of(Dropped::NoHead.label()),
    DROPPED.of(Dropped::WrongCookie.label()),
    DROPPED.of(Dropped::NotBack.label()),
    DROPPED.of(Dropped::NoWay.label()),
    PACKET_PANICS.plain(),
    TABLES.plain(),
    RECEIVED.plain(),
    SENT.plain(),
    DROPPED.of(Dropped::Oversized.label()),
    DROPPED.of(Dropped::SendFull.label()),
    DROPPED.of(Dropped::SendRefused.label()),
    RECEIVE_ERRORS.plain(),
    FLOWS.plain(),
    FLOWS_INDEXED.plain(),
    EVICTED.plain(),
    RELAYS.of(State::Probing.label()),
    RELAYS.of(State::Up.label()),
    RELAYS.of(State::Suspect.label()),
    RELAYS.of(State::IsDown.label()),
    FROZEN.plain(),
    EPOCH.plain(),
];

/// What the control task counts: unreadable records, and addresses that the store names.
pub static CONTROL: [Series; 2] = [UNREADABLE.plain(), CLAIMS.plain()];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_totals_of_a_load_balancer_are_shown_under_one_name() {
        let mut seen = BTreeSet::new();
        for series in PACKET_THREAD.iter().chain(&CONTROL) {
            assert!(seen.insert(format!("{:?}", series.key())), "{series:?}");
        }
    }
}
