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
