//! Every bound of this crate, with its reason and its arithmetic. What is over a bound is refused, and counted.

use std::num::NonZeroUsize;
use std::time::Duration;

use tandem_auth::rate::Rate;
use tandem_wire::units::Span;

/// Devices of one account, which is what one call rings at.
pub const DEVICES_PER_ACCOUNT: usize = tandem_core::limits::RUNG_DEVICES;
/// Bytes of one sealed blob (protocol.md, "State"). In base64 they are 10,924 characters; a record has up to 16 KiB.
pub const SEALED_BYTES: usize = 8 << 10;
/// Blobs that wait for one device of one call; one more is refused.
pub const BLOBS_PER_DEVICE: usize = 32;
/// Bytes of a body. The largest is a call to ten devices: 10 x (offer + note) x 10,924 = 218 KB.
pub const BODY_BYTES: usize = 256 << 10;
/// Characters of an Idempotency-Key.
pub const IDEMPOTENCY_KEY_CHARS: usize = 64;
/// Bytes of a push token. APNs' have 64 characters, FCM's under 200, Web Push's under 1 KiB.
pub const PUSH_TOKEN_BYTES: usize = 1024;
/// Capabilities of a device, each a short word.
pub const CAPABILITIES: usize = 16;
/// Characters of one.
pub const CAPABILITY_CHARS: usize = 32;
/// PoPs for which a device may tell its round-trip time.
pub const RELAY_RTTS: usize = 16;

/// Connections of clients. Requests are short; 4,096 x about 20 KiB of buffers = 80 MiB.
pub const CONNECTIONS: usize = 4_096;

/// How often an account is believed that a call which is not known here, or stands otherwise, is newer elsewhere: each time is a
/// read of the majority of etcd. Over it, what is known here is the answer. Two state servers are apart by milliseconds.
pub const LATEST_PER_ACCOUNT: Rate = Rate { per_minute: 120, burst: 60 };

/// How often a command is decided anew because its record changed meanwhile. Each time somebody else's got through: ten
/// devices and two timers cannot make it fail so often.
pub const DECISIONS: usize = 16;
/// What runs out at once is dealt with by so many at once: some thousands a second, and a call that is placed meanwhile waits
/// behind so many in the store, at most.
pub const EXPIRIES_AT_ONCE: usize = 16;
/// How often old notes and removals are looked for. They live for days and hours.
pub const SWEEP_EVERY: Span = Span::from_secs(600);
/// Records deleted by one sweep's command.
pub const SWEPT_AT_ONCE: usize = 16;
/// How long the record of a removal stays: no token that was good before it is good any longer. The longest token, and an
/// hour for clocks that differ.
pub const REMOVAL_LIFE: Span = Span::from_secs(7 * 3_600);
/// How long a token of `POST /v1/dev/tokens` is good: as long as any may be.
pub const DEV_TOKEN_LIFE: Span = tandem_auth::LIFE_MAX;

/// When to come back after a cap that is not a rate: how long a call rings.
pub const QUOTA_RETRY_MS: u64 = 10_000;
/// When to come back when the store is away, where it does not say so itself.
pub const STORE_RETRY_MS: u64 = 1_000;
/// Bytes that the directory may keep of its file in memory.
pub const DIRECTORY_CACHE: usize = 64 << 20;
/// Accounts that the directory keeps as it read them: 2,048 x 1 KiB, as accounts are; 50 MiB if each has ten devices with the
/// longest of everything. Those that nobody knows too, so that the time of an answer does not tell them apart (attack S21).
pub const DIRECTORY_ACCOUNTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2_047);
/// How long requests that run may go on once the process is being stopped.
pub const DRAIN: Duration = Duration::from_secs(2);
/// How often a change of an account is tried again because another one was made meanwhile. Ten devices of an account that
/// register at once are done after ten.
pub const DIRECTORY_TRIES: usize = 32;
