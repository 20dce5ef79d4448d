//! A relay: forwards packets between the attached legs of a call, and can be killed and replaced without them noticing.
//!
//! Decides nothing: joins the deciders of `tandem-core` ([`engine`]) and gives them a socket, a store and a clock. Keeps
//! nothing on disk.

mod control;
mod direct;
pub mod duty;
pub mod engine;
pub mod limits;
mod load;
mod member;
mod metrics;
mod thread;
pub mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tandem_core::turn::{Gate, GateError};
use tandem_net::socket::{Socket, Waker};
use tandem_state_client::{BucketSet, Store};
use tandem_telemetry::metric::Series;
use tandem_telemetry::metric::relay::PACKET_THREAD;
use tandem_telemetry::registry::{CounterSet, Source};
use tandem_wire::id::{PopId, RelayId};
use tandem_wire::redact::Secret;
use tandem_wire::tunnel::Cookie;
use tokio::sync::{mpsc, watch};

use control::{Control, Wanted};
use direct::Direct;
pub use direct::DirectError;
use engine::Engine;
use load::Reporter;
use member::{MemberTask, State};
use thread::{Fleet, PacketThread, Shared};
use tunnel::Tunnel;

/// How packets come to a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// Straight from clients: TURN on this UDP address. A wildcard answers from whatever address the system routes by: name
    /// one.
    Clients(SocketAddr),
    /// Through load balancers.
    Tunnel {
        /// The UDP address of the fleet's own network that others send to: no wildcard.
        listen: SocketAddr,
        /// Direct return: the load balancers' public addresses in the order of their listeners, all of which this machine has
        /// too. Packets for clients leave from there, past the load balancer. Empty: all go through it.
        direct: Vec<SocketAddr>,
    },
}

impl Entrance {
    /// Whether it can stand, without binding anything.
    ///
    /// # Errors
    /// The [`DirectError`] that says what is wrong with the public addresses.
    pub fn check(&self) -> Result<(), DirectError> {
        match self {
            Self::Clients(_) => Ok(()),
            Self::Tunnel { listen, direct } => direct::check(direct, *listen),
        }
    }

    /// Whether this machine has the public addresses, without binding their ports.
    ///
    /// # Errors
    /// [`DirectError::NotHere`].
    pub fn check_here(&self) -> Result<(), DirectError> {
        match self {
            Self::Clients(_) => Ok(()),
            Self::Tunnel { direct, .. } => direct::are_here(direct),
        }
    }

    /// Where it takes packets.
    const fn listen(&self) -> SocketAddr {
        match self {
            Self::Clients(listen) | Self::Tunnel { listen, .. } => *listen,
        }
    }

    /// The public addresses that it sends from itself.
    fn direct(&self) -> &[SocketAddr] {
        match self {
            Self::Clients(_) => &[],
            Self::Tunnel { direct, .. } => direct,
        }
    }
}

/// What a relay must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// How packets come to it.
    pub entrance: Entrance,
    /// The PoP whose calls it serves.
    pub pop: PopId,
    /// Which relay of the PoP it is.
    pub relay: RelayId,
    /// The TURN realm, 1 to 4 bytes.
    pub realm: String,
    /// The secret that all relays of the PoP share; nonces come from it.
    pub pop_secret: Secret,
    /// The keys that tickets are verified with: up to 8, by their id 0..=7.
    pub ticket_keys: Vec<(u8, Secret)>,
}

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config cannot stand.
    #[error("the config of the relay: {0}")]
    Config(#[from] GateError),
    /// What it is to return from cannot stand.
    #[error("the public addresses for direct return: {0}")]
    Direct(#[from] DirectError),
    /// A public address cannot be had: somebody who does not share it has its port, or has it as another user.
    #[error("a public address for direct return cannot be bound")]
    BindDirect(#[source] io::Error),
    /// The port cannot be had.
    #[error("the address of the relay cannot be bound")]
    Bind(#[source] io::Error),
    /// The system refuses a thread, a descriptor or random numbers.
    #[error("the system refuses what the relay needs")]
    System(#[source] io::Error),
}

impl Config {
    /// Whether the config can stand, without binding anything.
    ///
    /// # Errors
    /// The [`GateError`] that names what cannot.
    pub fn check(&self) -> Result<(), GateError> {
        self.gate(0).map(|_| ())
    }

    fn gate(&self, seed: u64) -> Result<Gate, GateError> {
        let keys = self.ticket_keys.iter().map(|(kid, secret)| (*kid, secret));
        Gate::new(self.pop, &self.realm, &self.pop_secret, keys, seed)
    }
}

/// A running relay. Dropping it stops it.
#[derive(Debug)]
pub struct Relay {
    local: SocketAddr,
    waker: Waker,
    shared: Arc<Shared>,
    control_counters: Arc<control::Counters>,
    serving: watch::Receiver<bool>,
    /// Of a relay in a fleet: what became of its membership, and the wish to end it.
    member: Option<(watch::Receiver<State>, watch::Sender<bool>)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    /// Binds the address and starts to restore from `store`. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs.
    pub fn start(config: &Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let seed = getrandom::u64().map_err(|error| StartError::System(io::Error::other(error)))?;
        let gate = config.gate(seed)?;
        config.entrance.check()?;
        let direct = Direct::open(config.entrance.direct()).map_err(StartError::BindDirect)?;
        let socket = Socket::bind(config.entrance.listen()).map_err(StartError::Bind)?;
        let waker = Waker::new().map_err(StartError::System)?;
        let local = socket.local_addr();
        let (event_sender, events) = mpsc::channel(limits::EVENTS);
        let (requests, request_receiver) = mpsc::channel(limits::REQUESTS);
        let (serving_sender, serving) = watch::channel(false);
        let all = match &config.entrance {
            Entrance::Clients(_) => BucketSet::all(),
            // What its table will give it.
            Entrance::Tunnel { .. } => BucketSet::none(),
        };
        let (wanted_sender, wanted) = watch::channel(Wanted::new(all, 0));
        let (held_sender, held) = watch::channel(0);
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), published: CounterSet::new(&PACKET_THREAD) });
        let (engine, fleet, member) = match &config.entrance {
            Entrance::Clients(_) => (Engine::new(config.relay, gate, seed), None, None),
            Entrance::Tunnel { .. } => {
                let bits = getrandom::u64().map_err(|error| StartError::System(io::Error::other(error)))?;
                let cookie = Cookie::from_bits(bits);
                let (given_sender, given) = watch::channel(None);
                let (fenced_sender, fenced) = mpsc::channel(limits::FENCES_WAITING);
                let (leave_sender, leave) = watch::channel(false);
                let (state_sender, state) = watch::channel(State::Member);
                let task = MemberTask {
                    store: Arc::clone(&store),
                    pop: config.pop,
                    relay: config.relay,
                    cookie,
                    tunnel: local,
                    given: given_sender,
                    waker: waker.clone(),
                    fenced,
                    held,
                    leave,
                    state: state_sender,
                };
                let reporter = Reporter {
                    store: Arc::clone(&store),
                    relay: config.relay,
                    shared: Arc::clone(&shared),
                    given: given.clone(),
                    serving: serving.clone(),
                };
                tokio::spawn(reporter.run());
                let mut serving = serving.clone();
                tokio::spawn(async move {
                    // Others send packets to a member: it is one when it has its calls.
                    if serving.wait_for(|serving| *serving).await.is_ok() {
                        task.run().await;
                    }
                });
                let tunnel = Tunnel::with_direct(cookie, direct);
                let fleet = Fleet { tunnel, given, fenced: fenced_sender, since: None, asked: false };
                (Engine::of_fleet(config.relay, gate, seed), Some(fleet), Some((state, leave_sender)))
            }
        };
        let packets = PacketThread {
            socket,
            waker: waker.clone(),
            engine,
            events,
            requests,
            wanted: wanted_sender,
            fleet,
            serving: serving_sender,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("packets".to_owned())
            .spawn(|| packets.run())
            .map_err(StartError::System)?;
        let control_counters = Arc::new(control::Counters::default());
        let control = Control {
            store,
            wanted,
            held: held_sender,
            events: event_sender,
            waker: waker.clone(),
            requests: request_receiver,
            counters: Arc::clone(&control_counters),
        };
        tokio::spawn(control.run());
        Ok(Self { local, waker, shared, control_counters, serving, member, thread: Some(thread) })
    }

    /// The address that it serves on, with the port that was given if it was 0.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits until it has restored and serves; `false` if it ended before that.
    pub async fn ready(&self) -> bool {
        self.serving.clone().wait_for(|serving| *serving).await.is_ok()
    }

    /// Waits until the packet thread is gone: it was told to end, or it broke.
    pub async fn ended(&self) {
        let mut serving = self.serving.clone();
        // Its sender goes when the thread does.
        while serving.changed().await.is_ok() {}
    }

    /// Waits until another process runs under this relay's id, and has come later: this one is to end.
    pub async fn superseded(&self) {
        if let Some((state, _)) = &self.member
            && state.clone().wait_for(|state| *state == State::Superseded).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Leaves the fleet: others take its share over, and then what is on its way here has come. Returns at once if it is in
    /// none, and after [`limits::LEAVE_MAX`] in any case.
    pub async fn leave(&self) {
        let Some((state, leave)) = &self.member else { return };
        leave.send_replace(true);
        let left = async { state.clone().wait_for(|state| *state != State::Member).await.is_ok() };
        if tokio::time::timeout(limits::LEAVE_MAX.to_std(), left).await.is_err() {
            tracing::warn!("nobody took this relay's share over in time");
        }
    }

    /// What it counts and holds, not older than [`limits::PUBLISH_EVERY`].
    #[must_use]
    pub fn sources(&self) -> [Arc<dyn Source>; 2] {
        [Arc::clone(&self.shared) as Arc<dyn Source>, Arc::clone(&self.control_counters) as Arc<dyn Source>]
    }
}

impl Source for Shared {
    fn collect(&self, emit: &mut dyn FnMut(Series, u64)) {
        self.published.collect(emit);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // It ends at its next turn; a panic of it was counted when it happened.
            let _ = thread.join();
        }
    }
}
