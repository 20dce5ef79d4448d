//! The metrics of a state server.
//!
//! Decides names and meanings. Leaves counting to the state server.

use super::{Series, metrics};

metrics! {
    /// The metrics of a state server.
    STATE:
    /// Commands made durable.
    COMMITTED = Counter Count "tandem_state_commands_total";
    /// Commands refused because their record had changed.
    STALE = Counter Count "tandem_state_stale_commands_total";
    /// Durable writes, each of one or more commands.
    BATCHES = Counter Count "tandem_state_writes_total";
    /// Commands told to come back, because the file could not be written or too many were waiting.
    AWAY = Counter Count "tandem_state_commands_put_off_total";
    /// Times that writing the file failed.
    FAILURES = Counter Count "tandem_state_write_failures_total";
    /// Followers that were told to list everything anew.
    COMPACTED = Counter Count "tandem_state_followers_lost_total";
    /// Records in the store.
    RECORDS = Gauge Count "tandem_state_records";
    /// The revision of the last change.
    REVISION = Gauge Count "tandem_state_revision";
}

/// What the writer counts: committed, stale, batches, away, failures, compacted.
pub static WRITER: [Series; 6] =
    [COMMITTED.plain(), STALE.plain(), BATCHES.plain(), AWAY.plain(), FAILURES.plain(), COMPACTED.plain()];

/// What the cache holds: records, revision.
pub static CACHE: [Series; 2] = [RECORDS.plain(), REVISION.plain()];
