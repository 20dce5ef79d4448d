//! The metrics of a state server.
//!
//! Decides names and meanings. Leaves counting to the state server.

use super::{Series, label, metrics};

metrics! {
    /// The metrics of a state server.
    STATE:
    /// Commands made durable.
    COMMITTED = Counter Count "tandem_state_commands_total";
    /// Commands refused because their record had changed.
    STALE = Counter Count "tandem_state_stale_commands_total";
    /// Durable writes, each of one or more commands.
    BATCHES = Counter Count "tandem_state_writes_total";
    /// Commands told to come back, because they could not be written or too many were waiting.
    AWAY = Counter Count "tandem_state_commands_put_off_total";
    /// Times that the backend failed to write: the file, or etcd.
    FAILURES = Counter Count "tandem_state_write_failures_total";
    /// Followers that were told to list everything anew.
    COMPACTED = Counter Count "tandem_state_followers_lost_total";
    /// Watches of etcd that were begun anew, because they broke off or were late.
    RENEWED = Counter Count "tandem_state_watches_renewed_total";
    /// Lists of everything that were made anew from etcd, because changes were lost.
    RELISTED = Counter Count "tandem_state_relists_total";
    /// What was found among our records in etcd and is none of ours.
    STRANGERS = Counter Count "tandem_state_strangers_total";
    /// How old what is answered from memory may be; 0 while etcd can be reached.
    AGE = Gauge Milliseconds "tandem_state_age_milliseconds";
    /// 1 while no commands are taken, by cause.
    UNWRITABLE = Gauge Count "tandem_state_unwritable";
    /// What relays said of their load, and was taken.
    LOADS_TAKEN = Counter Count "tandem_state_relay_load_reports_total";
    /// What relays said of their load, and was ignored, by cause.
    LOADS_IGNORED = Counter Count "tandem_state_relay_load_reports_ignored_total";
    /// Relays that have said within 5 s how loaded they are.
    LOAD_RELAYS = Gauge Count "tandem_state_relay_load_relays";
    /// Calls in the memory of these relays, all together; a call that two hold counts twice.
    LOAD_CALLS = Gauge Count "tandem_state_relay_load_calls";
    /// Allocations in their memory, likewise.
    LOAD_ALLOCATIONS = Gauge Count "tandem_state_relay_load_allocations";
    /// The most allocations that one of them has in memory.
    LOAD_ALLOCATIONS_MAX = Gauge Count "tandem_state_relay_load_allocations_max";
    /// Datagrams that they receive in a second, all together.
    LOAD_RECEIVED = Gauge CountPerSecond "tandem_state_relay_load_received_packets_per_second";
    /// Datagrams that they send in a second, all together.
    LOAD_SENT = Gauge CountPerSecond "tandem_state_relay_load_sent_packets_per_second";
    /// Packets that they drop in a second, all together.
    LOAD_DROPPED = Gauge CountPerSecond "tandem_state_relay_load_dropped_packets_per_second";
    /// The largest share of a core that a packet thread of theirs takes, in thousandths.
    LOAD_CPU_MAX = Gauge Count "tandem_state_relay_load_cpu_permille_max";
    /// Records in the store.
    RECORDS = Gauge Count "tandem_state_records";
    /// The revision of the last change.
    REVISION = Gauge Count "tandem_state_revision";
}

/// What the writer counts: committed, stale, batches, away, failures, compacted.
pub static WRITER: [Series; 6] =
    [COMMITTED.plain(), STALE.plain(), BATCHES.plain(), AWAY.plain(), FAILURES.plain(), COMPACTED.plain()];

label! {
    /// Why no commands are taken.
    Unwritable = "cause":
    /// The backend cannot be reached, or fails.
    Away = "away",
    /// It has no room: etcd's alarm NOSPACE.
    Full = "full",
}

/// What is counted on etcd: watches renewed, lists made anew, strangers.
pub static ETCD: [Series; 3] = [RENEWED.plain(), RELISTED.plain(), STRANGERS.plain()];

/// What the cache holds: records, revision, and its age.
pub static CACHE: [Series; 3] = [RECORDS.plain(), REVISION.plain(), AGE.plain()];

/// Whether commands are not taken: away, full.
pub static UNWRITABLE_BY_CAUSE: [Series; 2] =
    [UNWRITABLE.of(Unwritable::Away.label()), UNWRITABLE.of(Unwritable::Full.label())];

label! {
    /// Why a report of a relay's load does not count.
    LoadIgnored = "cause":
    /// Nobody has registered so.
    Unknown = "unknown_relay",
    /// The relay has been started again since.
    Older = "older_incarnation",
    /// No relay can be loaded so.
    Impossible = "impossible",
    /// Too many relays report.
    OverCap = "over_cap",
}

/// What was done with reports of load: taken; ignored as unknown, older, impossible, over the cap.
pub static LOAD_REPORTS: [Series; 5] = [
    LOADS_TAKEN.plain(),
    LOADS_IGNORED.of(LoadIgnored::Unknown.label()),
    LOADS_IGNORED.of(LoadIgnored::Older.label()),
    LOADS_IGNORED.of(LoadIgnored::Impossible.label()),
    LOADS_IGNORED.of(LoadIgnored::OverCap.label()),
];

/// How loaded the relays are: how many say so, calls, allocations and the most of one, packets received, sent and dropped,
/// and the largest share of a core.
pub static LOADS: [Series; 8] = [
    LOAD_RELAYS.plain(),
    LOAD_CALLS.plain(),
    LOAD_ALLOCATIONS.plain(),
    LOAD_ALLOCATIONS_MAX.plain(),
    LOAD_RECEIVED.plain(),
    LOAD_SENT.plain(),
    LOAD_DROPPED.plain(),
    LOAD_CPU_MAX.plain(),
];
