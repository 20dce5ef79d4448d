//! Every bound of the binary, with its reason and its arithmetic. What is over a bound is refused or dropped, and counted.

use std::time::Duration;

/// A config file. Ours have some hundred bytes; a directory or a disk image given by mistake is not read to its end.
pub(crate) const CONFIG_BYTES: u64 = 256 * 1024;
/// A secret in a file of its own.
pub(crate) const SECRET_FILE_BYTES: u64 = 4 * 1024;
/// Threads of a role's runtime, beside the packet thread or the store's writer: one that answers while one waits.
pub(crate) const WORKERS: usize = 2;

/// How long requests to a state server may go on once it is being stopped. Each takes a few milliseconds.
pub(crate) const STATE_SERVER_DRAIN: Duration = Duration::from_millis(500);

/// `tandem dev` kills a child that has not ended itself after this long.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// A child that dies sooner after its start than this died of its start.
pub(crate) const QUICK_DEATH: Duration = Duration::from_secs(1);
/// So many quick deaths in a row are restarted at once; then restarts wait.
pub(crate) const QUICK_DEATHS: u32 = 3;
/// The first wait; it doubles.
pub(crate) const RESTART_WAIT: Duration = Duration::from_millis(250);
/// The longest wait.
pub(crate) const RESTART_WAIT_MAX: Duration = Duration::from_secs(5);
/// The longest outage that can be asked for.
pub(crate) const OUTAGE_MS_MAX: u64 = 600_000;
/// The line with which a child says that it is ready. Ours have about 100 bytes.
pub(crate) const READY_LINE_BYTES: u64 = 4 * 1024;
/// How often `tandem dev` looks whether a program that is not ours takes connections.
pub(crate) const KNOCK_EVERY: Duration = Duration::from_millis(20);
/// Connections through a door of `tandem dev --fleet` at once: 200 calls of a load test, both devices with a socket and some
/// requests each, and as much again. Two descriptors a connection.
pub(crate) const DOOR_CONNECTIONS: usize = 2_048;
/// Orders that wait for a child's keeper: a page, a harness and a person with curl.
pub(crate) const ORDERS: usize = 16;

/// Connections to the page at once: 2 tabs x 6 connections of a browser, a harness with as many, and some.
pub(crate) const DEV_CONNECTIONS: usize = 128;
/// A signal message, and so any body (the contract of `tandem dev`). The largest SDP of a browser is about 15 KiB.
pub(crate) const SIGNAL_BYTES: usize = 64 * 1024;
/// Messages that wait for one leg; then the oldest is dropped. An offer and 24 allocations' candidates are about 50.
pub(crate) const SIGNALS_PER_LEG: usize = 256;
/// Bytes of them; then the oldest is dropped. 64 calls x 2 legs x 1 MiB = 128 MiB at the very most.
pub(crate) const SIGNAL_BYTES_PER_LEG: usize = 1024 * 1024;
/// Demo calls that `tandem dev` remembers; then the oldest is forgotten.
pub(crate) const DEMO_CALLS: usize = 64;
/// Longest name of a tab's session. A UUID has 36 characters.
pub(crate) const SESSION_CHARS: usize = 64;
/// The longest that a long poll waits.
pub(crate) const POLL_WAIT_MS_MAX: u64 = 30_000;
/// How long a demo ticket opens something new.
pub(crate) const DEMO_TICKET_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// When to come back when the store is away.
pub(crate) const STORE_RETRY_MS: u64 = 1_000;
/// Ports that are tried before we give up finding a free one.
pub(crate) const PORT_TRIES: u32 = 100;
/// Bytes that are read of a file in PEM: a chain of some certificates.
pub(crate) const PEM_FILE_BYTES: u64 = 256 << 10;

/// How long `tandem admin` waits for a process: it answers within a second, or not at all.
pub(crate) const ADMIN_PATIENCE: Duration = Duration::from_secs(3);
/// What it reads of an answer. The longest one names 300 relays with their load in 600 bytes each.
pub(crate) const ADMIN_ANSWER_BYTES: u64 = 512 * 1024;
