//! The metrics of signaling.
//!
//! Decides names and meanings. Leaves counting to signaling.

use super::metrics;

metrics! {
    /// The metrics of signaling.
    SIGNALING:
    /// Calls placed.
    PLACED = Counter Count "tandem_signaling_calls_placed_total";
    /// Requests for a new call that were refused for a rate, a quota or a full node.
    SHED = Counter Count "tandem_signaling_calls_shed_total";
    /// Commands on calls that were decided anew because the record had changed.
    CONTENDED = Counter Count "tandem_signaling_commands_contended_total";
    /// Tokens that were not good.
    BAD_TOKENS = Counter Count "tandem_signaling_bad_tokens_total";
    /// Live calls, as this node sees them.
    LIVE = Gauge Count "tandem_signaling_calls_live";
}
