//! A session with a socket and a clock: a task that lives as long as the transport does.
//!
//! Decides which socket, and what happens to packets that nobody takes. A relay that dies and comes back is not noticed here:
//! what the socket says of it (ECONNREFUSED) is passed over, packets go on being sent, and requests are repeated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use tandem_wire::id::VirtualAddr;
use tandem_wire::redact::ClientAddr;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::TurnError;
use super::session::Session;
use crate::api::TurnServer;
use crate::limits;
use crate::random::random;

/// How long to wait after the socket has said that something is wrong: it may say so for every packet.
const AFTER_ERROR: Duration = Duration::from_millis(5);

/// How many packets were lost on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// The socket did not take them: while a relay is being replaced, for one.
    pub not_sent: u64,
    /// The app did not take them: more than [`limits::PACKETS_WAITING`] waited.
    pub not_taken: u64,
}

/// Takes packets where they come in.
type Sink = Box<dyn FnMut(&[u8]) + Send>;

#[derive(Default)]
struct Counters {
    not_sent: AtomicU64,
    not_taken: AtomicU64,
}

/// A way for packets to one other device. Packets are lost, doubled and reordered as UDP does it. The task that keeps it up
/// ends with it.
pub struct TurnTransport {
    socket: Arc<UdpSocket>,
    at: watch::Receiver<Option<VirtualAddr>>,
    channel: watch::Receiver<Option<u16>>,
    over: watch::Receiver<Option<TurnError>>,
    packets: Mutex<mpsc::Receiver<Vec<u8>>>,
    sink: Arc<Lock<Option<Sink>>>,
    counters: Arc<Counters>,
    closing: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for TurnTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnTransport").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// The server's address: of the first URL that is `turn:host:port` over UDP (RFC 7065).
async fn resolve(urls: &[String]) -> Result<ClientAddr, TurnError> {
    for url in urls {
        let Some(rest) = url.strip_prefix("turn:") else { continue };
        let (place, query) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
        if query != "transport=udp" {
            continue;
        }
        let has_port = place
            .rsplit_once(':')
            .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
        let place = if has_port { place.to_owned() } else { format!("{place}:3478") };
        if let Some(address) = lookup_host(place).await.ok().and_then(|mut addresses| addresses.next()) {
            return Ok(ClientAddr::new(address));
        }
    }
    Err(TurnError::NoServer)
}

impl TurnTransport {
    /// Allocates at a server, and follows the other device's address: `None` while it is not known. Gives the transport once
    /// the allocation is there; [`TurnTransport::connected`] waits for the rest.
    ///
    /// # Errors
    /// [`TurnError::NoServer`], [`TurnError::Socket`], [`TurnError::Silent`] after 20 s, [`TurnError::Refused`] with 401
    /// (not the ticket's time), 403 (not in the call, or the call is over), 486 or 508 (too many allocations).
    pub async fn open(server: &TurnServer, peer: watch::Receiver<Option<VirtualAddr>>) -> Result<Self, TurnError> {
        Self::open_from(None, server, peer).await
    }

    /// The same, from this address of the machine.
    pub(crate) async fn open_from(
        source: Option<IpAddr>,
        server: &TurnServer,
        peer: watch::Receiver<Option<VirtualAddr>>,
    ) -> Result<Self, TurnError> {
        let address = resolve(&server.urls).await?.socket_addr();
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((source.unwrap_or(any), 0)).await.map_err(|_| TurnError::Socket)?;
        socket.connect(address).await.map_err(|_| TurnError::Socket)?;
        let socket = Arc::new(socket);
        let ((at_in, at), (channel_in, channel), (over_in, over)) =
            (watch::channel(None), watch::channel(None), watch::channel(None));
        let (packets_in, packets) = mpsc::channel(limits::PACKETS_WAITING);
        let (counters, closing) = (Arc::<Counters>::default(), Arc::<Notify>::default());
        let sink = Arc::<Lock<Option<Sink>>>::default();
        let task = Task {
            session: Session::new(server.username.clone(), server.credential.clone()),
            socket: Arc::clone(&socket),
            at: at_in,
            channel: channel_in,
            over: over_in,
            peer,
            packets: packets_in,
            sink: Arc::clone(&sink),
            counters: Arc::clone(&counters),
            closing: Arc::clone(&closing),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run());
        let packets = Mutex::new(packets);
        let transport = Self { socket, at, channel, over, packets, sink, counters, closing, tasks };
        transport.until(transport.at.clone()).await?;
        Ok(transport)
    }

    /// Waits until there is a value, or until it is over.
    async fn until<T: Clone>(&self, mut value: watch::Receiver<Option<T>>) -> Result<T, TurnError> {
        let (mut over, why) = (self.over.clone(), self.over.clone());
        tokio::select! {
            there = value.wait_for(Option::is_some) => {
                let there = there.ok().and_then(|value| value.clone());
                there.ok_or_else(|| why.borrow().unwrap_or(TurnError::Closed))
            }
            why = over.wait_for(Option::is_some) => Err(why.ok().and_then(|why| *why).unwrap_or(TurnError::Closed)),
        }
    }

    /// Runs something for as long as the transport lives.
    pub(crate) fn run(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Our address in the call, now and from now on: the relay gives another one if it has lost us.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<Option<VirtualAddr>> {
        self.at.clone()
    }

    /// Waits until packets go out: the other device's address is known and bound. Cancel-safe.
    ///
    /// # Errors
    /// Why it is over.
    pub async fn connected(&self) -> Result<(), TurnError> {
        self.until(self.channel.clone()).await.map(drop)
    }

    /// Sends one packet, of at most [`limits::PAYLOAD_BYTES`]. One that the socket does not take is lost, and counted.
    ///
    /// # Errors
    /// [`TurnError::TooLarge`], [`TurnError::NotConnected`] (for a moment also while the other device moves); why it is over.
    pub async fn send(&self, payload: &[u8]) -> Result<(), TurnError> {
        let packet = self.frame(payload)?;
        if self.socket.send(packet.bytes()).await.is_err() {
            self.counters.not_sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The same without waiting, from any thread: a packet that the socket does not take at once is lost, and counted.
    ///
    /// # Errors
    /// Those of [`TurnTransport::send`].
    pub fn send_now(&self, payload: &[u8]) -> Result<(), TurnError> {
        let packet = self.frame(payload)?;
        if self.socket.try_send(packet.bytes()).is_err() {
            self.counters.not_sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn frame(&self, payload: &[u8]) -> Result<Frame, TurnError> {
        if payload.len() > limits::PAYLOAD_BYTES {
            return Err(TurnError::TooLarge(payload.len()));
        }
        if let Some(why) = *self.over.borrow() {
            return Err(why);
        }
        let channel = (*self.channel.borrow()).ok_or(TurnError::NotConnected)?;
        let len = u16::try_from(payload.len()).map_err(|_| TurnError::TooLarge(payload.len()))?;
        Frame::new(channel, len, payload).ok_or(TurnError::TooLarge(payload.len()))
    }

    /// Has packets given to this where they come in, on the task that reads them, instead of keeping them for
    /// [`TurnTransport::recv`]. It must not wait.
    pub fn hand_to(&self, sink: impl FnMut(&[u8]) + Send + 'static) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(sink));
    }

    /// The next packet. Cancel-safe.
    ///
    /// # Errors
    /// Why it is over.
    pub async fn recv(&self) -> Result<Vec<u8>, TurnError> {
        let packet = self.packets.lock().await.recv().await;
        packet.ok_or_else(|| self.over.borrow().unwrap_or(TurnError::Closed))
    }

    /// How many packets were lost on this machine.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { not_sent: count(&self.counters.not_sent), not_taken: count(&self.counters.not_taken) }
    }

    /// Gives the allocation back. Dropped without, it ends after its lifetime, or with the call.
    pub async fn close(mut self) {
        self.closing.notify_one();
        let _ = timeout(limits::CLOSING, self.over.wait_for(Option::is_some)).await;
    }
}

/// A packet as it goes out (RFC 8656 section 12.4; over UDP there is no padding).
struct Frame {
    bytes: [u8; 4 + limits::PAYLOAD_BYTES],
    len: usize,
}

impl Frame {
    fn new(channel: u16, len: u16, payload: &[u8]) -> Option<Self> {
        let mut frame = Self { bytes: [0; 4 + limits::PAYLOAD_BYTES], len: 4 + payload.len() };
        frame.bytes.get_mut(..2)?.copy_from_slice(&channel.to_be_bytes());
        frame.bytes.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
        frame.bytes.get_mut(4..frame.len)?.copy_from_slice(payload);
        Some(frame)
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

struct Task {
    session: Session,
    socket: Arc<UdpSocket>,
    at: watch::Sender<Option<VirtualAddr>>,
    channel: watch::Sender<Option<u16>>,
    over: watch::Sender<Option<TurnError>>,
    peer: watch::Receiver<Option<VirtualAddr>>,
    packets: mpsc::Sender<Vec<u8>>,
    sink: Arc<Lock<Option<Sink>>>,
    counters: Arc<Counters>,
    closing: Arc<Notify>,
}

impl Task {
    async fn run(mut self) {
        let mut buffer = vec![0; limits::DATAGRAM_BYTES];
        let mut follows = true;
        let peer = *self.peer.borrow_and_update();
        self.moved(peer);
        // A packet of the app's changes nothing that there would be to say: fifty times a second that counts.
        let mut quiet = false;
        loop {
            if !quiet {
                self.say().await;
            }
            if self.session.over().is_some() {
                return;
            }
            quiet = false;
            let due = self.session.next_deadline().unwrap_or_else(|| Instant::now() + limits::KEEPALIVE);
            tokio::select! {
                came = self.socket.recv(&mut buffer) => match came {
                    Ok(len) => quiet = self.hear(buffer.get(..len).unwrap_or_default()),
                    Err(_) => sleep(AFTER_ERROR).await,
                },
                changed = self.peer.changed(), if follows => match changed {
                    Ok(()) => {
                        let peer = *self.peer.borrow_and_update();
                        self.moved(peer);
                    }
                    Err(_) => follows = false,
                },
                () = self.closing.notified() => self.session.close(),
                () = sleep_until(due) => {}
            }
        }
    }

    fn moved(&mut self, peer: Option<VirtualAddr>) {
        if let Some(peer) = peer {
            self.session.set_peer(peer, Instant::now());
        }
    }

    /// Whether it was a packet for the app.
    fn hear(&mut self, datagram: &[u8]) -> bool {
        let Some(payload) = self.session.handle(Instant::now(), datagram) else { return false };
        if let Some(sink) = &mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            sink(payload);
        } else if self.packets.try_send(payload.to_vec()).is_err() {
            self.counters.not_taken.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Sends what is due, and tells what has changed.
    async fn say(&mut self) {
        let mut out = [0; 512];
        // Without randomness nothing is asked now; what runs goes on.
        while let Ok(transaction) = random()
            && let Some(len) = self.session.poll(Instant::now(), transaction, &mut out)
        {
            let _ = self.socket.send(out.get(..len).unwrap_or_default()).await;
        }
        tell(&self.at, self.session.relayed());
        tell(&self.channel, self.session.channel());
        tell(&self.over, self.session.over());
    }
}

fn tell<T: PartialEq>(to: &watch::Sender<Option<T>>, value: Option<T>) {
    to.send_if_modified(|old| {
        let changed = *old != value;
        *old = value;
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_url_over_udp_is_taken() {
        let resolve = async |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            resolve(&urls).await.map(ClientAddr::socket_addr)
        };
        let urls = ["turns:127.0.0.1:443", "turn:127.0.0.1:1?transport=tcp", "turn:127.0.0.1:7?transport=udp"];
        assert_eq!(resolve(&urls).await, Ok("127.0.0.1:7".parse().unwrap()));
        assert_eq!(resolve(&["turn:127.0.0.1"]).await, Ok("127.0.0.1:3478".parse().unwrap()));
        assert_eq!(resolve(&["turn:[::1]:7"]).await, Ok("[::1]:7".parse().unwrap()));
        assert_eq!(resolve(&["turn:[::1]"]).await, Ok("[::1]:3478".parse().unwrap()));
        for urls in [&[][..], &["stun:127.0.0.1:7"], &["turn:127.0.0.1:7?transport=tcp"]] {
            assert_eq!(resolve(urls).await, Err(TurnError::NoServer));
        }
    }

    #[tokio::test]
    async fn what_has_a_source_comes_from_there() {
        let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let url = format!("turn:{}", relay.local_addr().unwrap());
        let server = TurnServer::new(vec![url], "user", "password");
        let source = "127.8.0.9".parse().unwrap();
        tokio::spawn(async move {
            let (_peer, follow) = watch::channel(None);
            let _ = TurnTransport::open_from(Some(source), &server, follow).await;
        });
        let (_, from) = relay.recv_from(&mut [0; 512]).await.unwrap();
        assert_eq!(from.ip(), source);
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_is_not_there_is_given_up_after_20_seconds_and_not_before() {
        let server = TurnServer::new(vec!["turn:127.0.0.1:9".to_owned()], "user", "password");
        let (_peer, follow) = watch::channel(None);
        let began = Instant::now();
        assert_eq!(TurnTransport::open(&server, follow).await.unwrap_err(), TurnError::Silent);
        assert!((19..25).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
}
