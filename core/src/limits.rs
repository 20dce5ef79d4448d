//! Every bound of this crate, with its reason and its arithmetic. What is over a bound is refused or dropped, and counted.

use tandem_wire::units::Span;

/// Legs of a one-to-one call: two devices.
pub const ONE_TO_ONE_LEGS: usize = 2;
/// Legs of a group call. 32 legs of about 30 B keep the record under 4 KiB.
pub const GROUP_LEGS: usize = 32;
/// The longest call (protocol.md, "Ticket"): a ticket key must outlive every call that could name it.
pub const CALL_LIFE: Span = Span::from_secs(24 * 3_600);
/// How long a call rings (api.md). WhatsApp and Signal ring 45 to 60 s.
pub const RING: Span = Span::from_secs(45);
/// How long we wait for others to ring once those who said anything are busy: twice what a device on a slow mobile network
/// takes to say that it rings.
pub const BUSY_SETTLE: Span = Span::from_secs(2);
/// How long a leg's device may be without a connection. Long enough for a reload, a lift, a change of network.
pub const REJOIN: Span = Span::from_secs(30);
/// How long what was sealed for an ended call stays, so that latecomers are told (protocol.md, "State").
pub const ENDED_BLOB_LIFE: Span = Span::from_secs(60);
/// How long the record of an ended call stays: its Idempotency-Key is good for the life of the call and ten minutes more.
pub const ENDED_CALL_LIFE: Span = Span::from_secs(600);
/// How soon a call's timer that ran out is tried again, while the store is away.
pub const TIMER_RETRY: Span = Span::from_secs(1);
/// How long the entries of a fleet must have been the same before a new table is written: relays that come or go together,
/// as a rack does, cost one table.
pub const FLEET_STABLE: Span = Span::from_secs(1);
/// How often a relay writes its entry again.
pub const MEMBER_BEAT: Span = Span::from_secs(5);
/// An entry that has not changed for so long is of a relay that is gone: two beats may be lost, and a third be late.
pub const MEMBER_SILENT: Span = Span::from_secs(15);
/// Somebody who was heard so lately shows that the store can be written: one beat, and half of one for being late. Without,
/// nobody is taken for gone.
pub const MEMBER_HEARD: Span = Span::from_millis(7_500);
/// How often a relay says how loaded it is.
pub const LOAD_EVERY: Span = Span::from_secs(1);
/// For how long that counts: four reports may be lost on the way, or with a state server.
pub const LOAD_COUNTS: Span = Span::from_secs(5);
/// Relays whose load is kept. A PoP has up to 300; 4,096 x about 100 B = 400 KiB, which one message has room for.
pub const LOADS_KEPT: usize = 4_096;
/// The most that a packet thread can take of a core, in thousandths.
pub const CPU_PERMILLE_MAX: u16 = 1_000;
/// How long a relay remembers that a call has ended, so that latecomers are told without a look at the store.
pub const ENDED_IN_RELAY: Span = Span::from_secs(60);
/// How long a missed-call note waits for its device (protocol.md, "State").
pub const MISSED_LIFE: Span = Span::from_secs(30 * 24 * 3_600);
/// Devices that one call rings at. Ten of an account: phones, tablets, computers; at under 200 B each the record stays
/// under 4 KiB.
pub const RUNG_DEVICES: usize = 10;

/// Allocations of one leg. libwebrtc makes one per URL, interface and peer connection: 2 URLs x 3 interfaces x 4
/// peer connections (the old and the new one of an ICE restart, of two pages) = 24.
pub const ALLOCATIONS_PER_LEG: usize = 24;
/// Channels of one allocation. A peer has up to 24 candidates; ten peers of a mesh with all of theirs is 240.
/// 256 x 8 B = 2 KiB of record an allocation at most.
pub const CHANNELS_PER_ALLOCATION: usize = 256;

/// Payload that one call may send in a second, over all its legs; what is over is dropped (attack R14: a call is no tunnel for
/// bulk data). 64 Mbit/s: two legs with 32 Mbit/s each, four times what a browser sends of a shared screen; or a mesh of
/// eight with 1.1 Mbit/s from each to each; or of 32 with sound alone.
pub const CALL_BYTES_PER_SECOND: u64 = 8_000_000;
/// For how long a call may send at any rate, when it was quiet before: key frames of everybody at once.
pub const CALL_BURST: Span = Span::from_secs(1);

/// Public addresses of one load balancer. Each has a number of one byte in a head, of which the last means "unknown"; IPv4 and
/// IPv6 of a few providers are eight.
pub const LISTENERS: usize = 8;
/// Allocations of one relay process. 200,000 x under 1 KiB = under 200 MiB.
pub const ALLOCATIONS_PER_RELAY: usize = 200_000;
/// Calls that one relay process keeps in memory: as many as could have one allocation each.
pub const CALLS_PER_RELAY: usize = ALLOCATIONS_PER_RELAY;

/// The lifetime of an allocation whose client asked for none (RFC 8656 section 7.2).
pub const LIFETIME_DEFAULT: Span = Span::from_secs(600);
/// The longest lifetime that is granted: Firefox asks for it. It is also what a restored allocation gets, since what it
/// was granted is not stored: a shorter one would end a Firefox allocation that is refreshed once an hour.
pub const LIFETIME_MAX: Span = Span::from_secs(3_600);

/// Room that must be free in front of a received datagram, so that a channel's header (4 B) can grow to the head of a
/// Data indication (36 B) where the packet lies: 32 B, rounded up to a cache line.
pub const HEADROOM: usize = 64;
/// Room that must be free behind it, for the padding of an indication.
pub const TAILROOM: usize = 4;

/// Unauthenticated answers to one IPv4 address or one IPv6 /64 in a second (protocol.md, "Transport 1").
pub const ANSWERS_PER_SOURCE: u16 = 100;
/// Counters that all sources share: 65,536 x 4 B = 256 KiB, whoever sends what. Two sources on one counter share its
/// hundred.
pub const ANSWER_COUNTERS: usize = 65_536;
/// The longest answer to a request: an Allocate success to IPv6 with FINGERPRINT is 96 B, a 420 with eight attributes
/// 80 B; rounded up.
pub const ANSWER_LEN_MAX: usize = 128;

/// Packets that wait for one call to be loaded. Eight legs that retransmit, with their candidates, are about 30.
pub const HELD_PER_CALL: usize = 32;
/// How long they wait: libwebrtc asks again after 250 ms, and media that is older than this is of no use to anyone.
pub const HELD_FOR: Span = Span::from_millis(50);
/// Packets from unknown addresses that wait for the relay's first restore: 1,024 x 2 KiB = 2 MiB.
pub const STRAYS: usize = 1_024;
/// How long an answer waits for a store that is away, before it is given from memory (protocol.md, "When the store is
/// away").
pub const DURABLE_WITHIN: Span = Span::from_secs(3);
/// Answers of one leg that wait for writes: 24 allocations that each retransmit twice, and some.
pub const WAITING_PER_LEG: usize = 64;
/// How soon a load or a write that found the store away is tried again.
pub const STORE_RETRY: Span = Span::from_millis(250);
/// How soon a call's record is read again because of a channel that it does not have.
pub const REREAD_AFTER: Span = Span::from_secs(1);

/// Flows that a load balancer remembers: seven eighths of 2^20, which is what a table of 2^20 places of 33 B takes: 35 MiB,
/// 40 B a flow. One thread passes on some 500,000 packets a second: at 50 packets a second that is 10,000 flows that talk,
/// and with the 24 allocations of a leg 240,000.
pub const FLOWS: usize = (1 << 20) / 8 * 7;
/// Of how many flows the one that was idle longest goes, when a new one comes and there is no room. Of eight at random it is
/// among the idlest quarter nine times of ten (1 - 0.75^8).
pub const FLOWS_LOOKED_AT: usize = 8;
/// How long a flow stays that the store does not name and that says nothing: no allocation lives longer without a word.
pub const FLOW_IDLE: Span = LIFETIME_MAX;
/// Places of the flow table that are looked at with each round of probes: 2^20 / 64 x 10 ms is all of them in 3 minutes.
pub const FLOWS_SWEPT: usize = 64;

/// How often a load balancer asks each relay whether it is there (protocol.md, "LB and relay").
pub const PROBE_EVERY: Span = Span::from_millis(10);
/// Silence after which a relay gets no new calls: three probes. On a starved host an echo takes up to 4 ms (p99.9).
pub const SUSPECT_AFTER: Span = Span::from_millis(30);
/// Silence after which a relay is taken for down. Its packet thread stood still for 79 ms at the most where 16 processes
/// shared a processor.
pub const DOWN_AFTER: Span = Span::from_millis(100);
/// A relay that is down, and has echoed without a gap for so long, is told that it is: a cable that was pulled and put back.
pub const WELL_AFTER: Span = Span::from_secs(1);
/// The same of one that lost too much: three times what it took to see that.
pub const WELL_AFTER_LOSS: Span = Span::from_secs(10);
/// How long a probe may take after a refusal: refusals can be forged, and an echo on the same link takes a fifth of this.
pub const REFUSAL_CONFIRMED: Span = Span::from_millis(2);
/// Echoes in a row after which a relay is up.
pub const ECHOES_IN_A_ROW: u8 = 3;
/// So many relays that fall silent together are our own fault, if they are also more than [`FREEZE_TENTHS`] of all.
pub const FREEZE_RELAYS: usize = 3;
/// Tenths of all relays.
pub const FREEZE_TENTHS: usize = 3;
/// What "together" is.
pub const FREEZE_WITHIN: Span = Span::from_millis(200);
/// A turn of ours that comes later than this: the relays could not have been heard meanwhile, and are forgiven the time.
pub const OWN_PAUSE: Span = Span::from_millis(20);
/// Probes by which loss is judged: one second of them.
pub const LOSS_PROBES: u32 = 100;
/// The youngest probes, which may still be under way: those of [`DOWN_AFTER`].
pub const LOSS_UNDER_WAY: u32 = 10;
/// Of [`LOSS_PROBES`], so many at least are echoed by a relay that is well. One that loses 30 % has 70, give or take 4.6: it
/// is found out 98 times of 100. One that loses 10 % has 90, give or take 3: it is suspected 3 times in 10,000.
pub const LOSS_ECHOED_MIN: u32 = 80;
/// Judgements in a row after which a relay is taken for down: 3 s, and once in 10^10 by chance.
pub const LOSS_JUDGEMENTS: u8 = 3;
