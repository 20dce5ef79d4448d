//! The streams: one thread that sends every packet of every leg when it is due.
//!
//! Decides when. Each leg has a schedule of its own that never moves: a packet that went out late makes no later one late.
//! The thread looks once a millisecond and sends all that is due, so that a hundred legs cost no more wake-ups than one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use tandem_client::{TurnError, TurnTransport};
use tandem_wire::units::{Mono, Span};

use crate::clock::now;
use crate::limits;
use crate::meter::Sent;
use crate::packet::{self, Head, Side};
use crate::stall::Stalls;

/// Where packets go.
pub trait Way: Send + Sync + 'static {
    /// Sends one without waiting.
    ///
    /// # Errors
    /// There is no way, for now or for good.
    fn send_now(&self, payload: &[u8]) -> Result<(), TurnError>;
}

impl Way for TurnTransport {
    fn send_now(&self, payload: &[u8]) -> Result<(), TurnError> {
        Self::send_now(self, payload)
    }
}

/// What a leg sends.
pub struct Leg {
    /// Its way to the other one.
    pub way: Arc<dyn Way>,
    /// The call's.
    pub stamp: u128,
    /// Which side of the call it is.
    pub side: Side,
    /// One packet; only head and checksum change.
    pub bytes: Vec<u8>,
}

/// A leg that sends until it is stopped.
#[derive(Debug, Default)]
pub struct Stream {
    stop: AtomicBool,
    packets: AtomicU32,
    first: AtomicU64,
    last: AtomicU64,
}

impl Stream {
    /// Nothing more is sent; what is just being sent is.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What has been sent so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        let packets = self.packets.load(Ordering::Acquire);
        let time = |time: &AtomicU64| (packets > 0).then(|| Mono::from_nanos(time.load(Ordering::Relaxed)));
        Sent { packets, first: time(&self.first), last: time(&self.last) }
    }
}

struct Row {
    leg: Leg,
    stream: Arc<Stream>,
}

/// Sends what legs have to send. Its thread ends with it.
#[derive(Debug)]
pub struct Streams {
    orders: mpsc::Sender<Row>,
    total: Arc<AtomicU64>,
}

impl Streams {
    /// Starts the thread. A leg sends a packet each `interval`.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(interval: Span, stalls: Arc<Stalls>) -> io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        let total = Arc::<AtomicU64>::default();
        let wheel = Wheel::new(interval, stalls, ordered, Arc::clone(&total));
        thread::Builder::new().name("streams".to_owned()).spawn(move || wheel.run())?;
        Ok(Self { orders, total })
    }

    /// Begins to send.
    pub fn add(&self, leg: Leg) -> Arc<Stream> {
        let stream = Arc::<Stream>::default();
        // Its thread lives as long as we do.
        let _ = self.orders.send(Row { leg, stream: Arc::clone(&stream) });
        stream
    }

    /// How many packets all legs have sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

struct Wheel {
    interval: Span,
    stalls: Arc<Stalls>,
    ordered: mpsc::Receiver<Row>,
    total: Arc<AtomicU64>,
    rows: Vec<Option<Row>>,
    free: Vec<usize>,
    due: BinaryHeap<Reverse<(Mono, usize)>>,
}

impl Wheel {
    fn new(interval: Span, stalls: Arc<Stalls>, ordered: mpsc::Receiver<Row>, total: Arc<AtomicU64>) -> Self {
        Self { interval, stalls, ordered, total, rows: Vec::new(), free: Vec::new(), due: BinaryHeap::new() }
    }

    fn run(mut self) {
        let tick = Span::from_nanos(u64::try_from(limits::TICK.as_nanos()).unwrap_or(u64::MAX));
        let mut next = now();
        let mut added = 0_u64;
        loop {
            let begun = now();
            self.stalls.ran(next, begun);
            loop {
                match self.ordered.try_recv() {
                    Ok(row) => {
                        self.enter(row, begun.after(self.phase(added)));
                        added += 1;
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.send_due(begun);
            let after = now();
            next = self.next_tick(next.after(tick), after);
            thread::sleep(next.since(after).to_std());
        }
    }

    /// When to look next: at `due`, or at once and with a note if it is later. Ticks that were missed are not made up for: what
    /// is due is sent with the next one.
    fn next_tick(&self, due: Mono, now: Mono) -> Mono {
        if now > due {
            self.stalls.ran(due, now);
        }
        due.max(now)
    }

    /// Spreads legs over the interval: each falls into the largest hole (the golden ratio's multiples).
    fn phase(&self, nth: u64) -> Span {
        let fraction = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Span::from_nanos(((u128::from(self.interval.as_nanos()) * u128::from(fraction)) >> 32) as u64)
    }

    fn enter(&mut self, row: Row, first: Mono) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            self.rows.len() - 1
        });
        if let Some(place) = self.rows.get_mut(index) {
            *place = Some(row);
            self.due.push(Reverse((first, index)));
        }
    }

    fn send_due(&mut self, tick: Mono) {
        while let Some(Reverse((due, index))) = self.due.peek().copied()
            && due <= tick
        {
            self.due.pop();
            self.total.fetch_add(1, Ordering::Relaxed);
            let Some(place) = self.rows.get_mut(index) else { continue };
            if place.as_mut().is_some_and(send) {
                self.due.push(Reverse((due.after(self.interval), index)));
            } else {
                *place = None;
                self.free.push(index);
            }
        }
    }
}

/// Sends the next packet; whether there are more to come.
fn send(Row { leg, stream }: &mut Row) -> bool {
    if stream.stop.load(Ordering::Relaxed) {
        return false;
    }
    let number = stream.packets.load(Ordering::Relaxed);
    if number == limits::NUMBERS {
        return false;
    }
    let sent = now();
    packet::write(&mut leg.bytes, &Head { stamp: leg.stamp, side: leg.side, number, sent });
    // For a moment there is no way while the other one moves: that packet is lost, as it would be for a person.
    let gone = leg.way.send_now(&leg.bytes).is_err_and(|error| error != TurnError::NotConnected);
    if number == 0 {
        stream.first.store(sent.as_nanos(), Ordering::Relaxed);
    }
    stream.last.store(sent.as_nanos(), Ordering::Relaxed);
    stream.packets.store(number + 1, Ordering::Release);
    !gone
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps what was sent, and says what it is told to.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Head>>, Mutex<Option<TurnError>>);

    impl Way for Kept {
        fn send_now(&self, payload: &[u8]) -> Result<(), TurnError> {
            self.0.lock().unwrap().push(packet::read(payload).unwrap());
            self.1.lock().unwrap().map_or(Ok(()), Err)
        }
    }

    /// A wheel with one leg, whose first packet is due at 1 s and then each 20 ms.
    fn wheel() -> (Wheel, Arc<Kept>, Arc<Stream>) {
        let (_orders, ordered) = mpsc::channel();
        let mut wheel = Wheel::new(Span::from_millis(20), Arc::default(), ordered, Arc::default());
        let (kept, stream) = (Arc::<Kept>::default(), Arc::<Stream>::default());
        let way = Arc::clone(&kept) as Arc<dyn Way>;
        let leg = Leg { way, stamp: 9, side: Side::Callee, bytes: packet::filled(60, 1) };
        wheel.enter(Row { leg, stream: Arc::clone(&stream) }, at(1_000));
        (wheel, kept, stream)
    }

    fn at(ms: u64) -> Mono {
        Mono::default().after(Span::from_millis(ms))
    }

    #[test]
    fn a_schedule_does_not_move_when_the_thread_was_late_and_what_was_missed_is_sent_at_once() {
        let (mut wheel, kept, stream) = wheel();
        let mut sent_at = |ms: u64| {
            wheel.send_due(at(ms));
            kept.0.lock().unwrap().len()
        };
        assert_eq!([sent_at(999), sent_at(1_000), sent_at(1_019), sent_at(1_020)], [0, 1, 1, 2]);
        // 70 ms later than it should: three more were due by then, and the fourth is due when it always was.
        assert_eq!([sent_at(1_090), sent_at(1_099), sent_at(1_100)], [5, 5, 6]);
        let heads = kept.0.lock().unwrap();
        assert!(heads.iter().enumerate().all(|(index, head)| head.number as usize == index));
        assert!(heads.iter().all(|head| (head.stamp, head.side) == (9, Side::Callee)));
        let sent = stream.sent();
        assert_eq!((sent.packets, sent.first, sent.last), (6, Some(heads[0].sent), Some(heads[5].sent)));
    }

    #[test]
    fn a_leg_sends_until_it_is_stopped_or_its_way_is_gone_and_not_only_for_a_moment() {
        let (mut wheel, kept, stream) = wheel();
        *kept.1.lock().unwrap() = Some(TurnError::NotConnected);
        wheel.send_due(at(1_040));
        assert_eq!(stream.sent().packets, 3);
        *kept.1.lock().unwrap() = Some(TurnError::Closed);
        wheel.send_due(at(1_100));
        assert_eq!((stream.sent().packets, wheel.due.len(), wheel.rows.len()), (4, 0, 1));
        let (mut wheel, _, stream) = self::wheel();
        wheel.send_due(at(1_000));
        stream.stop();
        wheel.send_due(at(2_000));
        assert_eq!((stream.sent().packets, wheel.due.len()), (1, 0));
    }

    #[test]
    fn a_tick_that_is_late_is_a_stall_and_the_next_one_is_counted_from_there() {
        let (wheel, ..) = wheel();
        assert_eq!(wheel.next_tick(at(10), at(9)), at(10));
        assert_eq!((wheel.stalls.longest(), wheel.next_tick(at(10), at(40))), (None, at(40)));
        assert_eq!(wheel.stalls.beside(at(0), at(50)), Span::from_millis(30));
    }

    #[test]
    fn the_thread_sends_what_legs_have_to_send() {
        let (streams, kept) = (Streams::start(Span::from_millis(1), Arc::default()).unwrap(), Arc::<Kept>::default());
        let way = Arc::clone(&kept) as Arc<dyn Way>;
        let stream = streams.add(Leg { way, stamp: 1, side: Side::Caller, bytes: packet::filled(60, 1) });
        while stream.sent().packets < 10 {
            thread::yield_now();
        }
        assert!(streams.sent() >= 9 && kept.0.lock().unwrap().len() >= 10);
    }

    #[test]
    fn legs_are_spread_over_the_interval() {
        let (_orders, ordered) = mpsc::channel();
        let interval = Span::from_millis(20);
        let stalls = Arc::default();
        let wheel = Wheel::new(interval, stalls, ordered, Arc::default());
        let mut slots = [0; 20];
        for nth in 0..400 {
            slots[wheel.phase(nth).as_millis() as usize] += 1;
        }
        assert!(slots.iter().all(|legs| (17..=23).contains(legs)), "{slots:?}");
    }
}
