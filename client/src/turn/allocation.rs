//! An allocation: a session with a socket and a clock, in a task that lives as long as it does.
//!
//! Decides which socket, by which of TURN's two ways a packet goes out, and what happens to packets that nobody takes. A relay
//! that dies and comes back is not noticed here: what the socket says of it (ECONNREFUSED) is passed over, packets go on being
//! sent, and requests are repeated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use tandem_wire::id::VirtualAddr;
use tandem_wire::redact::ClientAddr;
use tandem_wire::stun::{Class, Method, Writer, attr};
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
/// Bytes of a Send indication around its payload (RFC 8656 section 11.1): header 20, XOR-PEER-ADDRESS 12, DATA 4, padding 3.
const INDICATION_BYTES: usize = 39;

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

/// The channels that there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Channels {
    /// To the one that is followed.
    pub(super) followed: Option<u16>,
    all: Vec<(VirtualAddr, u16)>,
}

impl Channels {
    fn to(&self, to: VirtualAddr) -> Option<u16> {
        self.all.iter().find(|(at, _)| *at == to).map(|(_, channel)| *channel)
    }
}

/// What the task is asked for.
enum Ask {
    /// A channel to this address.
    Reach(VirtualAddr),
    /// A channel to this address, and to no other.
    Follow(VirtualAddr),
}

/// A socket inside the call: it has a virtual address there, and sends to and hears from any other. For an app that brings a
/// transport of its own, as WebRTC is: its address is what such an app offers as its relayed candidate, and its packets are
/// never looked into. Packets are lost, doubled and reordered as UDP does it. The task that keeps it up ends with it.
///
/// ```no_run
/// # use tandem_client::{Call, Error, VirtualAddr};
/// # async fn example(call: Call) -> Result<(), Error> {
/// let allocation = call.allocation().await?;
/// if let Some(here) = *allocation.moves().borrow() {
///     // The other side's app is told, under the seal, where this one is.
///     call.say(format!(r#"{{"v":1,"t":"here","at":"{}"}}"#, here.socket_addr()).as_bytes()).await?;
/// }
/// let (packet, from) = allocation.recv_from().await?;
/// allocation.send_to(&packet, from).await?;
/// # Ok(())
/// # }
/// ```
pub struct Allocation {
    socket: Arc<UdpSocket>,
    at: watch::Receiver<Option<VirtualAddr>>,
    channels: watch::Receiver<Channels>,
    over: watch::Receiver<Option<TurnError>>,
    packets: Mutex<mpsc::Receiver<(Vec<u8>, VirtualAddr)>>,
    asks: mpsc::Sender<Ask>,
    sink: Arc<Lock<Option<Sink>>>,
    counters: Arc<Counters>,
    closing: Arc<Notify>,
    _task: JoinSet<()>,
}

impl std::fmt::Debug for Allocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allocation").field("counts", &self.counts()).finish_non_exhaustive()
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

impl Allocation {
    /// Allocates at a server, and waits until it is there. [`crate::Call::allocation`] does it for a call.
    ///
    /// # Errors
    /// [`TurnError::NoServer`], [`TurnError::Socket`], [`TurnError::Silent`] after 20 s, [`TurnError::Refused`] with 401
    /// (not the ticket's time), 403 (not in the call, or the call is over), 486 or 508 (too many allocations).
    pub async fn open(server: &TurnServer) -> Result<Self, TurnError> {
        Self::open_from(None, server).await
    }

    /// The same, from this address of the machine.
    pub(crate) async fn open_from(source: Option<IpAddr>, server: &TurnServer) -> Result<Self, TurnError> {
        let address = resolve(&server.urls).await?.socket_addr();
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((source.unwrap_or(any), 0)).await.map_err(|_| TurnError::Socket)?;
        socket.connect(address).await.map_err(|_| TurnError::Socket)?;
        let socket = Arc::new(socket);
        let ((at_in, at), (over_in, over)) = (watch::channel(None), watch::channel(None));
        let (channels_in, channels) = watch::channel(Channels::default());
        let (packets_in, packets) = mpsc::channel(limits::PACKETS_WAITING);
        let (asks, asked) = mpsc::channel(limits::ASKS_WAITING);
        let (counters, closing) = (Arc::<Counters>::default(), Arc::<Notify>::default());
        let sink = Arc::<Lock<Option<Sink>>>::default();
        let task = Task {
            session: Session::new(server.username.clone(), server.credential.clone()),
            socket: Arc::clone(&socket),
            at: at_in,
            channels: channels_in,
            over: over_in,
            asked,
            packets: packets_in,
            sink: Arc::clone(&sink),
            counters: Arc::clone(&counters),
            closing: Arc::clone(&closing),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run());
        let packets = Mutex::new(packets);
        let allocation = Self { socket, at, channels, over, packets, asks, sink, counters, closing, _task: tasks };
        allocation.until(allocation.at.clone(), |at| at.is_some()).await?;
        Ok(allocation)
    }

    /// Waits until the value is so, or until it is over.
    async fn until<T>(&self, mut value: watch::Receiver<T>, so: impl FnMut(&T) -> bool) -> Result<(), TurnError> {
        let (mut over, why) = (self.over.clone(), self.over.clone());
        tokio::select! {
            there = value.wait_for(so) => there.map(drop).map_err(|_| why.borrow().unwrap_or(TurnError::Closed)),
            why = over.wait_for(Option::is_some) => Err(why.ok().and_then(|why| *why).unwrap_or(TurnError::Closed)),
        }
    }

    /// Where it is in the call, now and from now on: the relay gives another address if it has lost us. There is none only
    /// while another one is being asked for.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<Option<VirtualAddr>> {
        self.at.clone()
    }

    /// Sends one packet, of at most [`limits::DATAGRAM_PAYLOAD_BYTES`], to an address in the call. The first ones to an address
    /// go as Send indications, the others by the channel that is bound meanwhile. One for an address where nobody is, is
    /// dropped by the relay; one that the socket does not take is lost, and counted.
    ///
    /// # Errors
    /// [`TurnError::TooLarge`]; why it is over.
    pub async fn send_to(&self, payload: &[u8], to: VirtualAddr) -> Result<(), TurnError> {
        if payload.len() > limits::DATAGRAM_PAYLOAD_BYTES {
            return Err(TurnError::TooLarge(payload.len()));
        }
        self.is_on()?;
        let channel = self.channels.borrow().to(to);
        if let Some(channel) = channel {
            return self.send_on(channel, payload).await;
        }
        // One that does not fit is asked for with the next packet.
        let _ = self.asks.try_send(Ask::Reach(to));
        let mut out = [0; limits::DATAGRAM_PAYLOAD_BYTES + INDICATION_BYTES];
        let indication = random().ok().and_then(|transaction| {
            Writer::new(&mut out, Class::Indication, Method::Send, transaction)
                .address(attr::XOR_PEER_ADDRESS, to.socket_addr().into())
                .attribute(attr::DATA, payload)
                .finish()
                .ok()
        });
        match indication.and_then(|len| out.get(..len)) {
            Some(indication) => self.send_raw(indication).await,
            None => self.not_sent(),
        }
        Ok(())
    }

    /// Binds a channel to an address in the call, and waits until packets go there by it: 4 B around each, not 36.
    /// [`Allocation::send_to`] asks for one too, and does not wait.
    ///
    /// # Errors
    /// [`TurnError::Channels`] if there are [`limits::CHANNELS`] others; why it is over.
    pub async fn bind(&self, to: VirtualAddr) -> Result<(), TurnError> {
        let _ = self.asks.send(Ask::Reach(to)).await;
        let most = usize::from(limits::CHANNELS);
        self.until(self.channels.clone(), |channels| channels.to(to).is_some() || channels.all.len() == most).await?;
        self.channels.borrow().to(to).map(drop).ok_or(TurnError::Channels)
    }

    /// Why it is over, if it is.
    pub(super) fn is_on(&self) -> Result<(), TurnError> {
        (*self.over.borrow()).map_or(Ok(()), Err)
    }

    /// Sends by a channel.
    pub(super) async fn send_on(&self, channel: u16, payload: &[u8]) -> Result<(), TurnError> {
        let packet = Frame::new(channel, payload).ok_or(TurnError::TooLarge(payload.len()))?;
        self.send_raw(packet.bytes()).await;
        Ok(())
    }

    /// The same without waiting: a packet that the socket does not take at once is lost, and counted.
    pub(super) fn send_now_on(&self, channel: u16, payload: &[u8]) -> Result<(), TurnError> {
        let packet = Frame::new(channel, payload).ok_or(TurnError::TooLarge(payload.len()))?;
        if self.socket.try_send(packet.bytes()).is_err() {
            self.not_sent();
        }
        Ok(())
    }

    /// Has packets given to this where they come in, on the task that reads them, instead of keeping them.
    pub(super) fn hand_to(&self, sink: impl FnMut(&[u8]) + Send + 'static) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(sink));
    }

    async fn send_raw(&self, packet: &[u8]) {
        if self.socket.send(packet).await.is_err() {
            self.not_sent();
        }
    }

    fn not_sent(&self) {
        self.counters.not_sent.fetch_add(1, Ordering::Relaxed);
    }

    /// The next packet, and who sent it. Cancel-safe.
    ///
    /// # Errors
    /// Why it is over.
    pub async fn recv_from(&self) -> Result<(Vec<u8>, VirtualAddr), TurnError> {
        let packet = self.packets.lock().await.recv().await;
        packet.ok_or_else(|| self.over.borrow().unwrap_or(TurnError::Closed))
    }

    /// How many packets were lost on this machine.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { not_sent: count(&self.counters.not_sent), not_taken: count(&self.counters.not_taken) }
    }

    /// Gives it back. Dropped without, it ends after its lifetime, or with the call.
    pub async fn close(mut self) {
        self.closing.notify_one();
        let _ = timeout(limits::CLOSING, self.over.wait_for(Option::is_some)).await;
    }

    /// One other address is followed: nothing else of the channels is kept.
    pub(super) fn follower(&self) -> Follower {
        Follower(self.asks.clone())
    }

    /// Waits until the one that is followed can be sent to.
    pub(super) async fn followed(&self) -> Result<(), TurnError> {
        self.until(self.channels.clone(), |channels| channels.followed.is_some()).await
    }

    /// The channel to the one that is followed.
    pub(super) fn channel(&self) -> Option<u16> {
        self.channels.borrow().followed
    }
}

/// Says whom an allocation follows.
pub(super) struct Follower(mpsc::Sender<Ask>);

impl Follower {
    /// The other device is there, from now on.
    pub(super) async fn follow(&self, at: VirtualAddr) {
        let _ = self.0.send(Ask::Follow(at)).await;
    }
}

/// A packet as it goes out by a channel (RFC 8656 section 12.4; over UDP there is no padding).
struct Frame {
    bytes: [u8; 4 + limits::DATAGRAM_PAYLOAD_BYTES],
    len: usize,
}

impl Frame {
    /// `None`: it is too large.
    fn new(channel: u16, payload: &[u8]) -> Option<Self> {
        let mut frame = Self { bytes: [0; 4 + limits::DATAGRAM_PAYLOAD_BYTES], len: 4 + payload.len() };
        let len = u16::try_from(payload.len()).ok()?;
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
    channels: watch::Sender<Channels>,
    over: watch::Sender<Option<TurnError>>,
    asked: mpsc::Receiver<Ask>,
    packets: mpsc::Sender<(Vec<u8>, VirtualAddr)>,
    sink: Arc<Lock<Option<Sink>>>,
    counters: Arc<Counters>,
    closing: Arc<Notify>,
}

impl Task {
    async fn run(mut self) {
        let mut buffer = vec![0; limits::DATAGRAM_BYTES];
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
                // Who asks has gone only when this task is aborted.
                Some(ask) = self.asked.recv() => self.do_as(ask),
                () = self.closing.notified() => self.session.close(),
                () = sleep_until(due) => {}
            }
        }
    }

    fn do_as(&mut self, ask: Ask) {
        match ask {
            // To one that gets no channel, indications go on.
            Ask::Reach(at) => drop(self.session.reach(at, Instant::now())),
            Ask::Follow(at) => self.session.follow(at, Instant::now()),
        }
    }

    /// Whether it was a packet for the app.
    fn hear(&mut self, datagram: &[u8]) -> bool {
        let Some((from, payload)) = self.session.handle(Instant::now(), datagram) else { return false };
        if let Some(sink) = &mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            sink(payload);
        } else if self.packets.try_send((payload.to_vec(), from)).is_err() {
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
        self.tell_channels();
        tell(&self.over, self.session.over());
    }

    /// Per packet: nothing is copied unless something has changed.
    fn tell_channels(&self) {
        let followed = self.session.channel();
        self.channels.send_if_modified(|old| {
            let changed = old.followed != followed || !self.session.channels().eq(old.all.iter().copied());
            if changed {
                *old = Channels { followed, all: self.session.channels().collect() };
            }
            changed
        });
    }
}

fn tell<T: PartialEq>(to: &watch::Sender<T>, value: T) {
    to.send_if_modified(|old| {
        let changed = *old != value;
        *old = value;
        changed
    });
}

#[cfg(test)]
mod tests {
    use tandem_wire::stun::Message;

    use super::super::session::tests::Relay;
    use super::*;

    /// A relay on a socket; what it hears that asks for nothing.
    async fn relay() -> (TurnServer, mpsc::Receiver<Vec<u8>>, JoinSet<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let url = format!("turn:{}", socket.local_addr().unwrap());
        let ((heard, hears), mut tasks) = (mpsc::channel(100), JoinSet::new());
        tasks.spawn(async move {
            let (mut relay, mut buffer) = (Relay::new(), [0; limits::DATAGRAM_BYTES]);
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                let bytes = &buffer[..len];
                match bytes[0] {
                    0..64 if let Some(answer) = relay.answer(bytes) => {
                        socket.send_to(&answer, from).await.unwrap();
                    }
                    _ => heard.send(bytes.to_vec()).await.unwrap(),
                }
            }
        });
        (TurnServer::new(vec![url], "user", "password"), hears, tasks)
    }

    #[tokio::test]
    async fn the_first_packet_to_an_address_is_an_indication_and_later_ones_go_by_its_channel() {
        let (server, mut hears, _relay) = relay().await;
        let allocation = Allocation::open(&server).await.unwrap();
        for (octet, channel) in [(1, [0x40, 0]), (7, [0x40, 1])] {
            let there = VirtualAddr { octet, port: 1_026 };
            let largest = [octet; limits::DATAGRAM_PAYLOAD_BYTES];
            allocation.send_to(&largest, there).await.unwrap();
            let first = hears.recv().await.unwrap();
            let message = Message::parse(&first).unwrap();
            assert_eq!((message.class, message.method), (Class::Indication, Method::Send));
            assert_eq!(message.attributes.peer, Some(there.socket_addr().into()));
            let (at, len) = message.attributes.data.unwrap();
            assert_eq!(first[at..at + len], largest);
            allocation.bind(there).await.unwrap();
            allocation.send_to(b"hi", there).await.unwrap();
            assert_eq!(hears.recv().await.unwrap(), [&channel[..], &[0, 2], b"hi"].concat());
        }
    }

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
        tokio::spawn(async move { drop(Allocation::open_from(Some(source), &server).await) });
        let (_, from) = relay.recv_from(&mut [0; 512]).await.unwrap();
        assert_eq!(from.ip(), source);
    }

    #[tokio::test]
    async fn who_binds_one_channel_too_many_is_told_and_can_send_there_all_the_same() {
        let (server, mut hears, _relay) = relay().await;
        let allocation = Allocation::open(&server).await.unwrap();
        for port in 0..limits::CHANNELS {
            allocation.bind(VirtualAddr { octet: 1, port }).await.unwrap();
        }
        let there = VirtualAddr { octet: 2, port: 1 };
        assert_eq!(allocation.bind(there).await, Err(TurnError::Channels));
        allocation.send_to(b"hi", there).await.unwrap();
        assert_eq!(
            Message::parse(&hears.recv().await.unwrap()).unwrap().attributes.peer,
            Some(there.socket_addr().into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_is_not_there_is_given_up_after_20_seconds_and_not_before() {
        let server = TurnServer::new(vec!["turn:127.0.0.1:9".to_owned()], "user", "password");
        let began = Instant::now();
        assert_eq!(Allocation::open(&server).await.unwrap_err(), TurnError::Silent);
        assert!((19..25).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
}
