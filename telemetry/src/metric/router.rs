//! The metrics of a router.
//!
//! Decides names and meanings. Leaves counting to the router.

use super::{label, metrics};

label! {
    /// Why a router closed a connection.
    Cause = "cause":
    /// The process ends.
    GoingAway = "going_away",
    /// Silent for too long.
    Idle = "idle",
    /// Takes too little of what it is sent.
    Slow = "slow",
    /// Says too much.
    Flood = "flood",
    /// A frame that is too large.
    TooLarge = "too_large",
    /// Something that is not understood.
    NotUnderstood = "not_understood",
    /// Its token is no longer good.
    Unauthorized = "unauthorized",
    /// The device has connected anew.
    Elsewhere = "elsewhere",
    /// Its account has too many connections.
    Overloaded = "overloaded",
}

label! {
    /// Why a device was not let in.
    NotLetIn = "cause":
    /// No good token.
    Token = "token",
    /// A page of a site that is not on the list.
    Origin = "origin",
    /// Too many bad tokens.
    TooOften = "too_often",
    /// Too many connections.
    Full = "full",
    /// Not a request for a device's connection.
    Malformed = "malformed",
}

metrics! {
    /// The metrics of a router.
    ROUTER:
    /// Devices that are connected.
    CONNECTIONS = Gauge Count "tandem_router_connections";
    /// Connections that the router closed, by cause.
    CLOSED = Counter Count "tandem_router_connections_closed_total";
    /// Devices that were not let in, by cause.
    REFUSED = Counter Count "tandem_router_connections_refused_total";
    /// Pushes handed to connections.
    PUSHED = Counter Count "tandem_router_pushes_total";
    /// Blobs acknowledged by their devices.
    ACKED = Counter Count "tandem_router_acknowledged_total";
    /// Acknowledged blobs that could not be deleted now; they are delivered again.
    KEPT = Counter Count "tandem_router_acknowledged_kept_total";
    /// Calls that the router follows.
    CALLS = Gauge Count "tandem_router_calls";
    /// Blobs that wait for their devices.
    BLOBS = Gauge Count "tandem_router_blobs";
}
