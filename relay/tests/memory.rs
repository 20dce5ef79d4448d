//! R19: what a relay keeps of sources that have proved nothing, counted to the byte: every allocation of this process goes
//! through the counters below, which is why this is a test binary of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

use tandem_core::limits::{HEADROOM, STRAYS};
use tandem_core::switch::{Slot, Source};
use tandem_core::topology::Transport;
use tandem_relay::engine::Engine;
use tandem_wire::nonce::NonceKey;
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::{Mono, Now, Span};

use common::*;

thread_local! {
    /// Bytes that this thread has allocated, less those that it has given back. The harness of the tests has threads of
    /// its own.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The most that it has been since it was last set.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

struct Counting;

#[allow(unsafe_code, reason = "the trait is unsafe; everything is passed on to the system as it came")]
// SAFETY: every call goes to `System` with what it was given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MIB: isize = 1 << 20;

/// How much `act` left allocated, and how much more than before it had at its worst.
fn measured(act: impl FnOnce()) -> (isize, isize) {
    let before = LIVE.get();
    PEAK.set(before);
    act();
    (LIVE.get() - before, PEAK.get() - before)
}

/// A relay and the buffer that its datagrams lie in; the loops below allocate nothing themselves.
struct Flood {
    engine: Engine,
    buffer: Vec<u8>,
    now: Now,
}

impl Flood {
    fn new(relay: Relay) -> Self {
        Self { now: relay.now(), engine: relay.engine, buffer: vec![0; 2_048] }
    }

    /// How many bytes are sent back.
    fn send(&mut self, from: SocketAddr, datagram: &[u8]) -> usize {
        self.buffer[HEADROOM..HEADROOM + datagram.len()].copy_from_slice(datagram);
        let mut slot = Slot { buffer: &mut self.buffer, start: HEADROOM, len: datagram.len() };
        let client = ClientAddr::new(from);
        let to = self.engine.datagram(self.now, Source { client, transport: Transport::Udp }, &mut slot);
        assert!(to.is_none_or(|to| to.client() == client));
        assert!(self.engine.poll().is_none(), "nobody is asked and nobody is told");
        if to.is_some() { slot.len } else { 0 }
    }

    fn pass(&mut self, span: Span) {
        self.now = Now { mono: self.now.mono.after(span), wall: self.now.wall.after(span) };
        if self.engine.next_deadline().is_some_and(|at: Mono| at <= self.now.mono) {
            self.engine.expire(self.now);
        }
    }
}

/// The n-th of four thousand million addresses, in no order; and a port.
fn spoofed(n: u32) -> SocketAddr {
    (n.wrapping_mul(0x9e37_79b9).to_be_bytes(), (n >> 7) as u16 | 1).into()
}

/// A relay with a call that runs, and requests of one of its legs: without integrity, and with one that is made up.
fn flooded() -> (Flood, [Vec<u8>; 2]) {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    let bare = written(kind::ALLOCATE, [2; 12], &[vec![Part::udp()], one.credentials()].concat());
    let made_up = [one.credentials(), vec![Part::udp(), Part::Raw(attr::INTEGRITY, vec![0x5a; 20])]].concat();
    let made_up = written(kind::ALLOCATE, [3; 12], &made_up);
    (Flood::new(relay), [bare, made_up])
}

/// R19
#[test]
fn two_million_allocates_without_proof_leave_nothing_behind() {
    let (mut flood, requests) = flooded();
    let held = (flood.engine.switch().allocations(), flood.engine.residency().calls());
    for request in &requests {
        let mut answered = 0_u32;
        let (left, peak) = measured(|| {
            for n in 0..1_000_000 {
                let len = flood.send(spoofed(n), request);
                assert!(len <= 64);
                answered += u32::from(len > 0);
                if n % 100 == 0 {
                    flood.pass(Span::from_millis(1));
                }
            }
        });
        assert!(answered > 990_000, "{answered}: they were looked at, not passed over");
        assert!(left < MIB && peak < MIB, "{left} bytes left, {peak} at its worst");
    }
    assert_eq!((flood.engine.switch().allocations(), flood.engine.residency().calls()), held);
}

/// R19: of a relay that has never served anyone.
#[test]
fn a_relay_that_only_strangers_have_asked_is_empty() {
    let (_, requests) = flooded();
    let mut flood = Flood::new(Relay::new());
    for n in 0..100_000 {
        requests.iter().for_each(|request| assert!(flood.send(spoofed(n), request) <= 64));
    }
    assert_eq!((flood.engine.switch().allocations(), flood.engine.residency().calls()), (0, 0));
    assert_eq!(flood.engine.gate().counters.proven, 0);
}

/// R19: sources that do receive their challenge, so that the nonce is good and the name is looked into.
#[test]
fn a_hundred_thousand_good_nonces_with_made_up_proofs_leave_nothing_behind() {
    let (mut flood, [_, mut request]) = flooded();
    let key = NonceKey::new(&secret(1)).unwrap();
    let nonce_at = model::attributes(&request).iter().find(|a| a.kind == attr::NONCE).unwrap().at + 4;
    let held = (flood.engine.switch().allocations(), flood.engine.residency().calls());
    let (left, peak) = measured(|| {
        for n in 0..100_000 {
            let nonce = key.mint(ClientAddr::new(spoofed(n)), flood.now.wall);
            request[nonce_at..nonce_at + nonce.len()].copy_from_slice(&nonce);
            let len = flood.send(spoofed(n), &request);
            assert!(len == 64 || len == 0);
            flood.pass(Span::from_nanos(10_000));
        }
    });
    assert!(flood.engine.gate().counters.unauthorized.get() > 99_000, "401, not 438: the nonces were good");
    assert!(left < MIB && peak < MIB, "{left} bytes left, {peak} at its worst");
    assert_eq!((flood.engine.switch().allocations(), flood.engine.residency().calls()), held);
}

/// R19, U01: media of strangers, to a relay that serves and to one that restores, which holds a bounded number of them
/// for 50 ms because one may be a client's.
#[test]
fn a_million_packets_of_strangers_are_held_within_bounds_or_not_at_all() {
    let packet = model::channel_data(0x4001, &[7; 1_100]);
    let (mut serving, ..) = flooded();
    let (left, peak) = measured(|| (0..500_000).for_each(|n| _ = serving.send(spoofed(n), &packet)));
    assert_eq!((left, peak), (0, 0), "a relay that serves holds nothing");
    let mut restoring = Flood::new(Relay::unrestored(&Make::default()));
    let (left, peak) = measured(|| {
        for n in 0..500_000 {
            restoring.send(spoofed(n), &packet);
            restoring.pass(Span::from_nanos(1_000));
        }
        restoring.pass(Span::from_millis(51));
    });
    assert!(peak > (STRAYS * packet.len()) as isize && peak < 2 * MIB, "{peak} bytes at its worst");
    assert!(left < MIB / 16, "{left} bytes left");
}

/// Invariant 1: no allocation a packet on the forwarding path, by any of the four ways.
#[test]
fn forwarding_allocates_nothing() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let mut third = two.on_socket("198.51.100.8:41000");
    let peer = third.attach(&mut relay);
    let indication = |peer: &str| written(kind::SEND, [1; 12], &[Part::peer(peer), Part::data(&[7; 172])]);
    let mut one = one;
    assert_eq!(one.bind(&mut relay, 0x4002, &peer), Some(0));
    let packets = [
        (one.at, model::channel_data(0x4001, &[7; 172])),
        (one.at, model::channel_data(0x4002, &[7; 172])),
        (one.at, indication(LEG2)),
        (one.at, indication(&peer)),
    ];
    let mut engine = relay.engine;
    let now = Now::default();
    let mut buffer = vec![0; 2_048];
    let mut forwarded = 0_u32;
    let (left, peak) = measured(|| {
        for (ms, (from, packet)) in (0..).zip(packets.iter().cycle().take(100_000)) {
            let now = Now { mono: now.mono.after(Span::from_millis(ms)), ..now };
            buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
            let mut slot = Slot { buffer: &mut buffer, start: HEADROOM, len: packet.len() };
            let source = Source { client: ClientAddr::new(*from), transport: Transport::Udp };
            forwarded += u32::from(engine.datagram(now, source, &mut slot).is_some());
        }
    });
    assert_eq!((forwarded, left, peak), (100_000, 0, 0));
}
