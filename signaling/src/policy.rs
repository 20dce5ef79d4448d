//! How much one account, one source and one node may ask for. An operator may set each of these.
//!
//! Decides the numbers. Leaves counting to [`tandem_auth::rate`].

use tandem_auth::rate::Rate;

/// What is allowed. Answering, rejoining and hanging up are never counted: what runs goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Calls that an account places.
    pub calls_per_account: Rate,
    /// Calls that come from one source.
    pub calls_per_source: Rate,
    /// Calls that ring at an account.
    pub rings_per_account: Rate,
    /// Device lists that an account asks for.
    pub lookups_per_account: Rate,
    /// Device lists that one source asks for.
    pub lookups_per_source: Rate,
    /// Signals of one device, each a durable write.
    pub signals_per_device: Rate,
    /// Registrations of an account's devices, each a durable write.
    pub registrations_per_account: Rate,
    /// Removals that one device asks for: a stolen one must not use up what its owner needs to be rid of it.
    pub removals_per_device: Rate,
    /// Tokens that are not good, of one source. Good ones are not counted.
    pub bad_tokens_per_source: Rate,
    /// Calls of one account that are live at once.
    pub live_calls_per_account: usize,
    /// Calls that ring at one account at once.
    pub live_rings_per_account: usize,
    /// Calls that are live at once in all, as this node sees it.
    pub live_calls: usize,
    /// Connections of one source.
    pub connections_per_source: usize,
}

impl Default for Policy {
    fn default() -> Self {
        let rate = |per_minute, burst| Rate { per_minute, burst };
        Self {
            // Somebody who redials as fast as they can: one every two seconds.
            calls_per_account: rate(30, 10),
            // An office behind one address.
            calls_per_source: rate(600, 200),
            // A shop's phone on a busy day; a thousand callers at once get through at this rate (attack S18).
            rings_per_account: rate(60, 20),
            // Before each call, and a contact list now and then (attack S21).
            lookups_per_account: rate(120, 60),
            lookups_per_source: rate(1_200, 600),
            // A call that renegotiates every second, on both ends.
            signals_per_device: rate(600, 120),
            registrations_per_account: rate(60, 20),
            removals_per_device: rate(30, 20),
            bad_tokens_per_source: rate(60, 60),
            live_calls_per_account: 8,
            live_rings_per_account: 16,
            // 50,000 x about 2 KiB of record in memory = 100 MiB.
            live_calls: 50_000,
            connections_per_source: 512,
        }
    }
}
