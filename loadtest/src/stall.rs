//! The generator's own stalls: when its threads did not run though they should have.
//!
//! Decides what is a stall. So a gap that this process made can be told from one that what is tested made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tandem_wire::units::{Mono, Span};

use crate::clock::now;
use crate::limits;

/// A thread ran so much later than it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// When it ran at last.
    pub end: Mono,
    /// How late that was.
    pub length: Span,
}

/// All stalls of this process.
#[derive(Debug, Default)]
pub struct Stalls(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    longest: Option<Stall>,
    noted: Vec<Stall>,
    dropped: u64,
}

impl Stalls {
    /// A thread that should have run at `due` runs `now`.
    pub fn ran(&self, due: Mono, now: Mono) {
        let stall = Stall { end: now, length: now.since(due) };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.longest.is_none_or(|longest| stall.length > longest.length) {
            kept.longest = Some(stall);
        }
        if stall.length > limits::STALL_NOTED {
            if kept.noted.len() < limits::STALLS {
                kept.noted.push(stall);
            } else {
                kept.dropped += 1;
            }
        }
    }

    /// Forgets what was: from now on it counts.
    pub fn begin(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }

    /// The longest so far.
    #[must_use]
    pub fn longest(&self) -> Option<Stall> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).longest
    }

    /// The longest that lies in part between these two; zero if none does.
    #[must_use]
    pub fn beside(&self, from: Mono, to: Mono) -> Span {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = |stall: &Stall| Mono::from_nanos(stall.end.as_nanos().saturating_sub(stall.length.as_nanos()));
        let beside = kept.noted.iter().filter(|stall| stall.end >= from && begin(stall) <= to);
        beside.map(|stall| stall.length).max().unwrap_or(Span::ZERO)
    }

    /// How many were longer than [`limits::STALL_NOTED`].
    #[must_use]
    pub fn noted(&self) -> u64 {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.noted.len() as u64 + kept.dropped
    }
}

/// A thread that wants to run each millisecond and notes when it could not. It ends with this.
#[derive(Debug)]
pub struct Lookout {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lookout {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(stalls: Arc<Stalls>) -> std::io::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let tick = Span::from_nanos(u64::try_from(limits::TICK.as_nanos()).unwrap_or(u64::MAX));
        let look = move || {
            while !stopped.load(Ordering::Relaxed) {
                let due = now().after(tick);
                thread::sleep(limits::TICK);
                stalls.ran(due, now());
            }
        };
        let thread = thread::Builder::new().name("lookout".to_owned()).spawn(look)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::default().after(Span::from_millis(ms))
    }

    #[test]
    fn a_stall_is_beside_what_it_overlaps_and_nothing_else() {
        let stalls = Stalls::default();
        stalls.ran(at(100), at(101));
        stalls.ran(at(100), at(130));
        stalls.ran(at(200), at(220));
        let beside = |from, to| stalls.beside(at(from), at(to)).as_millis();
        assert_eq!([beside(90, 110), beside(110, 120), beside(129, 180), beside(131, 180)], [30, 30, 30, 0]);
        assert_eq!([beside(0, 99), beside(150, 199), beside(50, 300)], [0, 0, 30]);
        assert_eq!((stalls.noted(), stalls.longest().unwrap().end), (2, at(130)));
        stalls.begin();
        assert_eq!((stalls.noted(), stalls.longest(), beside(0, 300)), (0, None, 0));
        stalls.ran(at(400), at(401));
        assert_eq!((stalls.noted(), stalls.longest().unwrap().end), (0, at(401)));
    }

    #[test]
    fn a_process_that_is_always_on_time_knows_its_longest_delay_too() {
        let stalls = Arc::<Stalls>::default();
        let lookout = Lookout::start(Arc::clone(&stalls)).unwrap();
        let mut seen = None;
        while seen.is_none() {
            thread::yield_now();
            seen = stalls.longest();
        }
        drop(lookout);
    }
}
