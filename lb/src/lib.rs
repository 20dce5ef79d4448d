//! A load balancer: takes the packets of a PoP's clients at one address, and carries each to the relay that has its call.
//!
//! Decides nothing: joins `tandem_core::steering` with sockets, a clock and the store. Keeps nothing on disk, and needs nothing
//! that it has learned: one that is killed is replaced by one that knows as much within a list of the store.

mod control;
pub mod limits;
mod lines;
mod metrics;
mod thread;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tandem_core::steering::{Location, Steering};
use tandem_net::poll::Poll;
use tandem_net::socket::Waker;
use tandem_state_client::Store;
use tandem_telemetry::metric::lb::PACKET_THREAD;
use tandem_telemetry::registry::{CounterSet, Source};
use tandem_wire::id::{BucketId, PopId};
use tokio::sync::{mpsc, oneshot, watch};

use control::{Event, Events};
use thread::{PacketThread, Serving, Shared, Stop};

/// What a load balancer must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The UDP addresses that clients speak to. A wildcard answers from whatever address the system routes by, and cannot be
    /// handed to the next process without loss: name them.
    pub listen: Vec<SocketAddr>,
    /// The PoP whose calls it carries.
    pub pop: PopId,
}

/// Why a load balancer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is to listen nowhere, or at more addresses than [`limits::LISTENERS`].
    #[error("a load balancer listens at 1 to {} addresses", limits::LISTENERS)]
    Listeners,
    /// An address cannot be had.
    #[error("an address of the load balancer cannot be bound")]
    Bind(#[source] io::Error),
    /// The system refuses a thread, a descriptor or random numbers.
    #[error("the system refuses what the load balancer needs")]
    System(#[source] io::Error),
}

impl Config {
    /// Whether the config can stand, without binding anything.
    ///
    /// # Errors
    /// [`StartError::Listeners`].
    pub fn check(&self) -> Result<(), StartError> {
        if (1..=limits::LISTENERS).contains(&self.listen.len()) { Ok(()) } else { Err(StartError::Listeners) }
    }
}

/// A running load balancer. Dropping it stops it at once; [`Lb::close`] lets what is under way come to its end.
#[derive(Debug)]
pub struct Lb {
    waker: Waker,
    shared: Arc<Shared>,
    control_counters: Arc<control::Counters>,
    serving: watch::Receiver<Serving>,
    asker: Asker,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Asks a running load balancer where it sends what.
#[derive(Debug, Clone)]
pub struct Asker(Events);

impl Asker {
    /// Where the packets of a bucket go now, by the code that sends them; `None`: the load balancer has ended, or does not
    /// answer.
    pub async fn locate(&self, bucket: BucketId) -> Option<Location> {
        let (answer, location) = oneshot::channel();
        let asked = async {
            self.0.tell(Event::Where(bucket, answer)).await.ok()?;
            location.await.ok()
        };
        tokio::time::timeout(limits::ANSWER_WITHIN, asked).await.ok().flatten()
    }
}

impl Lb {
    /// Begins to follow `store`. Must be called in a tokio runtime.
    ///
    /// Its addresses are bound once it knows what to do with packets, together with a load balancer that is there already:
    /// from then on each has a part of the clients, and none may waste them.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs.
    pub fn start(config: &Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        config.check()?;
        let random = || getrandom::u64().map_err(|error| StartError::System(io::Error::other(error)));
        let poll = Poll::new().map_err(StartError::System)?;
        let waker = Waker::new().map_err(StartError::System)?;
        let (events, received) = mpsc::channel(limits::EVENTS);
        let events = Events { queue: events, waker: waker.clone() };
        let (serving_sender, serving) = watch::channel(Serving::NotYet);
        let shared =
            Arc::new(Shared { stop: AtomicU8::new(Stop::No as u8), published: CounterSet::new(&PACKET_THREAD) });
        let packets = PacketThread {
            listen: config.listen.clone(),
            publics: Vec::new(),
            lines: lines::Lines::new(poll),
            waker: waker.clone(),
            steering: Steering::new(random()?),
            events: received,
            serving: serving_sender,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("packets".to_owned())
            .spawn(|| packets.run())
            .map_err(StartError::System)?;
        let control_counters = Arc::new(control::Counters::default());
        control::start(store, config.pop, random()?, &events, &control_counters);
        Ok(Self { waker, shared, control_counters, serving, asker: Asker(events), thread: Some(thread) })
    }

    /// Waits until it has read the table and the index once, and listens; gives its addresses, with the ports that were given
    /// for 0. `None`: it ended before that.
    ///
    /// # Errors
    /// [`StartError::Bind`]: an address cannot be had, and it has ended.
    pub async fn ready(&self) -> Result<Option<Vec<SocketAddr>>, StartError> {
        let mut serving = self.serving.clone();
        match serving.wait_for(|serving| !matches!(serving, Serving::NotYet)).await.as_deref() {
            Ok(Serving::At(addresses)) => Ok(Some(addresses.clone())),
            Ok(Serving::Nowhere(error)) => Err(StartError::Bind(io::Error::new(error.kind(), error.to_string()))),
            Ok(Serving::NotYet) | Err(_) => Ok(None),
        }
    }

    /// Waits until the packet thread is gone: it was told to end, or it broke.
    pub async fn ended(&self) {
        let mut serving = self.serving.clone();
        // Its sender goes when the thread does.
        while serving.changed().await.is_ok() {}
    }

    /// Asks it where it sends what.
    #[must_use]
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Ends it without losing a packet, if another one listens at its addresses: takes no new ones, carries those that have
    /// come, and what relays answer to them for [`limits::CLOSE_FOR`].
    pub async fn close(&self) {
        self.shared.stop.fetch_max(Stop::Close as u8, Ordering::Relaxed);
        self.waker.wake();
        self.ended().await;
    }

    /// What it counts and holds, not older than [`limits::PUBLISH_EVERY`].
    #[must_use]
    pub fn sources(&self) -> [Arc<dyn Source>; 2] {
        [Arc::clone(&self.shared) as Arc<dyn Source>, Arc::clone(&self.control_counters) as Arc<dyn Source>]
    }
}

impl Drop for Lb {
    fn drop(&mut self) {
        self.shared.stop.store(Stop::Now as u8, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // It ends at its next turn; a panic of it was counted when it happened.
            let _ = thread.join();
        }
    }
}
