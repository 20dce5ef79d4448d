//! A fleet whose processes are each in a network namespace of their own, and calls through it that are timed.
//!
//! Decides nothing about faults: offers what cuts and mends a part's network, and what the processes say of themselves.
#![allow(dead_code, reason = "each test file uses its part of this")]
#![allow(clippy::print_stderr, reason = "says why a test did not run, and what was measured")]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tandem_core::topology::{Attachment, Call, CallCommand, CallKind, EndReason};
use tandem_net::clock;
use tandem_state_client::{Change, Command, Key, Op, RemoteStore, Revision, Store as _};
use tandem_wire::id::{BucketId, CallId, PopId};
use tandem_wire::redact::Secret;
use tandem_wire::units::Mono;

use crate::namespaces::{CORE, PARTS, PUBLIC, Topology, fed};
use crate::support::{Running, SECRETS, get, lb_toml, relay_toml, runs, state_toml, tandem, until};
use crate::turn::{Client, Said};

const POP: PopId = PopId(1);
/// Everybody's admin port: each has a loopback of its own.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9_000);
const STATE_PORT: u16 = 7_000;
/// Where relays take packets.
pub(crate) const TUNNEL_PORT: u16 = 7_100;
/// Where clients send to.
pub(crate) const TURN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(PUBLIC), 3_478);
/// The channel of either side of a call.
const CHANNEL: u16 = 0x4001;

pub(crate) fn address(part: &str) -> Ipv4Addr {
    PARTS.iter().find(|(known, _)| *known == part).expect("a part").1
}

pub(crate) fn relay(id: u64) -> String {
    format!("relay-{id}")
}

/// All processes, and the network that they are in.
pub(crate) struct Fleet {
    // The order in which they end.
    relays: BTreeMap<u64, Running>,
    lb: Mutex<Running>,
    _state: Running,
    folder: tempfile::TempDir,
    topology: Topology,
}

/// What the processes logged last is what one wants to know of a test that failed.
impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(80)..].join("\n"));
        }
    }
}

/// Why there can be no such network here.
fn lacking() -> Option<&'static str> {
    let has =
        |program: &str| ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|at| PathBuf::from(at).join(program).exists());
    match () {
        () if !rustix::process::geteuid().is_root() => Some("only root may make network namespaces"),
        () if !has("ip") || !has("nft") => Some("network namespaces need ip and nft (Debian: iproute2, nftables)"),
        () => None,
    }
}

/// The network alone; `None`: this machine has none.
pub(crate) fn built() -> Option<Topology> {
    if let Some(why) = lacking() {
        eprintln!("not run: {why}");
        return None;
    }
    Some(Topology::build().unwrap())
}

impl Fleet {
    /// A state server, a load balancer and four relays, all of which serve. `None`: this machine has no namespaces.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(built()?, "")
    }

    /// The same, whose relays send to clients past the load balancer.
    pub(crate) fn start_direct() -> Option<Self> {
        let topology = built()?;
        (1..=4).for_each(|id| topology.share_public(&relay(id)).unwrap());
        Self::start_with(topology, &format!("[return]\ndirect = [\"{TURN}\"]\n"))
    }

    fn start_with(topology: Topology, of_relays: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let store = SocketAddr::from((address("state"), STATE_PORT));
        let state = state_toml(store, &folder.path().join("state.redb")) + "allow_plaintext = true\n";
        let start = |role: &str, part: &str, text: &str| {
            let config = folder.path().join(format!("{part}.toml"));
            std::fs::write(&config, text).unwrap();
            role_in(&topology, &folder.path().join("log"), role, part, &config)
        };
        let mut state = start("state-server", "state", &state);
        state.ready();
        let relays = (1..=4).map(|id| {
            let listen = SocketAddr::from((address(&relay(id)), TUNNEL_PORT));
            let text = relay_toml(listen, ADMIN, store).replacen("listen", "tunnel", 1) + of_relays;
            (id, start("relay", &relay(id), &text.replace("relay_id = 1", &format!("relay_id = {id}"))))
        });
        let relays = relays.collect();
        let mut lb = start("lb", "lb", &lb_toml(TURN, ADMIN, store));
        lb.ready();
        let fleet = Self { relays, lb: Mutex::new(lb), _state: state, folder, topology };
        until("all relays serve", || [1, 2, 3, 4].iter().all(|id| fleet.serves(*id)).then_some(()));
        Some(fleet)
    }

    /// Whether a relay was not killed for good.
    pub(crate) fn runs(&self, id: u64) -> bool {
        runs(self.relays[&id].pid())
    }

    /// Kills a relay for good.
    pub(crate) fn kill(&self, id: u64) {
        self.relays[&id].signal(Signal::KILL);
    }

    /// Kills the load balancer and starts another one, which has learned nothing; back when that serves.
    pub(crate) fn restart_lb(&self) {
        let mut lb = self.lb.lock().unwrap();
        lb.killed();
        let config = self.folder.path().join("lb.toml");
        *lb = role_in(&self.topology, &self.folder.path().join("log"), "lb", "lb", &config);
        lb.ready();
    }

    /// Begins to count what leaves a part and is `matched`.
    pub(crate) fn watch(&self, part: &str, matched: &str) {
        let text = format!(
            "table ip watch {{\n counter seen {{ }}\n chain out {{\n type filter hook output priority 0;\n \
             {matched} counter name seen\n }}\n}}\n"
        );
        fed("ip", &["netns", "exec", &self.topology.namespace(part), "nft", "-f", "-"], &text).unwrap();
    }

    /// How much of it there was.
    pub(crate) fn watched(&self, part: &str) -> u64 {
        let namespace = self.topology.namespace(part);
        let arguments = ["netns", "exec", &namespace, "nft", "list", "counter", "ip", "watch", "seen"];
        let output = std::process::Command::new("ip").args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    }

    /// Kills a relay and starts it again, and waits until all serve by a table that knows the new run.
    pub(crate) fn restart(&mut self, id: u64) {
        self.restart_under(id, &[]);
    }

    /// The same, as what another program runs.
    pub(crate) fn restart_under(&mut self, id: u64, program: &[&str]) {
        let before = self.seen(id)["incarnation"].clone();
        self.relays.remove(&id).expect("it runs").killed();
        let (part, log) = (relay(id), self.folder.path().join("log"));
        let config = self.folder.path().join(format!("{part}.toml"));
        self.relays.insert(id, role_under(program, &self.topology, &log, "relay", &part, &config));
        let again = || self.seen(id)["incarnation"] != before && [1, 2, 3, 4].iter().all(|id| self.serves(*id));
        until("all relays serve again", || again().then_some(()));
    }

    /// Runs `act` in a part's network.
    pub(crate) fn within<T: Send>(&self, part: &str, act: impl FnOnce() -> T + Send) -> T {
        within(&self.topology.namespace(part), act)
    }

    /// The name of a part's namespace.
    pub(crate) fn namespace(&self, part: &str) -> String {
        self.topology.namespace(part)
    }

    /// Pulls a part's cable, or plugs it in again.
    pub(crate) fn plug(&self, part: &str, up: bool) {
        let state = if up { "up" } else { "down" };
        fed("ip", &["-n", &self.topology.namespace(CORE), "link", "set", "dev", part, state], "").unwrap();
    }

    /// Has a part drop what comes in and is `matched`, without a word to who sent it; empty: nothing any more.
    pub(crate) fn drops(&self, part: &str, matched: &[String]) {
        let rules: String = matched.iter().map(|what| format!("{what} drop;")).collect();
        let text = format!(
            "flush ruleset\ntable ip fault {{\n chain in {{\n type filter hook input priority 0;\n {rules}\n }}\n}}\n"
        );
        let namespace = self.topology.namespace(part);
        fed("ip", &["netns", "exec", &namespace, "nft", "-f", "-"], &text).unwrap();
    }

    /// What the load balancer says of a bucket.
    pub(crate) fn place(&self, bucket: BucketId) -> Value {
        self.within("lb", || get(ADMIN, &format!("/where?bucket={:04x}", bucket.0)).json())
    }

    /// What the load balancer says of a relay; null: its table does not name it.
    pub(crate) fn seen(&self, id: u64) -> Value {
        let place = self.place(BucketId(0));
        let relays = place["relays"].as_array().expect("an array");
        relays.iter().find(|one| one["relay"] == id).cloned().unwrap_or_default()
    }

    /// Whether a relay has its share and is heard.
    pub(crate) fn serves(&self, id: u64) -> bool {
        let seen = self.seen(id);
        seen["standing"] == "serving" && seen["state"] == "up"
    }

    pub(crate) fn is_down(&self, id: u64) -> bool {
        self.seen(id)["state"].as_str().is_some_and(|state| state.starts_with("down"))
    }

    /// A metric of a part's process, by its whole name with labels.
    pub(crate) fn metric(&self, part: &str, name: &str) -> u64 {
        let text = self.within(part, || get(ADMIN, "/metrics").body);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }

    /// What the kernel of a part counts of IP: `FragCreates`, `ReasmReqds` and so on.
    pub(crate) fn ip_counter(&self, part: &str, name: &str) -> u64 {
        self.kernel_counter(part, "Ip: ", name)
    }

    /// The same of ICMP.
    pub(crate) fn icmp_counter(&self, part: &str, name: &str) -> u64 {
        self.kernel_counter(part, "Icmp: ", name)
    }

    fn kernel_counter(&self, part: &str, group: &str, name: &str) -> u64 {
        let text = self.within(part, || std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        let mut rows = text.lines().filter_map(|line| line.strip_prefix(group)).map(|line| line.split(' '));
        let (mut names, mut values) = (rows.next().unwrap(), rows.next().unwrap());
        let at = names.position(|known| known == name).expect("a counter");
        values.nth(at).unwrap().parse().unwrap()
    }

    /// Asks or tells the store something.
    pub(crate) fn store<T: Send>(&self, act: impl AsyncFnOnce(&RemoteStore) -> T + Send) -> T {
        let store = format!("http://{}:{STATE_PORT}", address("state"));
        self.within("state", || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = RemoteStore::new(&store, &Secret::new(SECRETS[0].as_bytes().to_vec())).unwrap();
                act(&store).await
            })
        })
    }

    fn put_call(&self, id: CallId, change: impl FnOnce(Option<&Call>) -> Call + Send) {
        self.store(async |store| {
            let stored = store.read(Key::Call(id)).await.unwrap();
            let (record, based_on) = match stored {
                Some(entry) => (Some(Call::from_json(&entry.value).unwrap()), entry.revision),
                None => (None, Revision::ZERO),
            };
            let change = Change::Put(change(record.as_ref()).to_json().unwrap());
            store.commit(Command { ops: vec![Op { key: Key::Call(id), based_on, change }] }).await.unwrap();
        });
    }

    /// Signaling ends a call.
    pub(crate) fn end(&self, call: CallId) {
        let command = CallCommand::End { reason: EndReason::Hangup };
        self.put_call(call, |record| Call::apply(record, command, clock::now()).unwrap());
    }

    /// The records of a call's legs, in their order, with their revisions.
    pub(crate) fn attachments(&self, call: CallId) -> Vec<(Attachment, Revision)> {
        let entries = self.store(async |store| store.load(call).await.unwrap().entries);
        let legs = entries.into_iter().filter(|entry| matches!(entry.key, Key::Attachment(..)));
        legs.map(|entry| (Attachment::from_json(&entry.value).unwrap(), entry.revision)).collect()
    }

    /// A client of a leg of a call, on a socket of its own at an address of the clients' and a port, 0 for any.
    pub(crate) fn client_at(&self, from: (Ipv4Addr, u16), call: CallId, leg: u16) -> Client {
        let socket = self.within("clients", || {
            let socket = UdpSocket::bind(from).unwrap();
            socket.connect(TURN).unwrap();
            socket
        });
        Client::new(socket, call, leg, &Secret::new(SECRETS[2].as_bytes().to_vec()))
    }

    /// Signals a relay's process.
    pub(crate) fn signal(&self, id: u64, signal: Signal) {
        self.relays[&id].signal(signal);
    }

    /// Starts a relay's config once more, in the place of another relay; gives the process that had run under its id.
    pub(crate) fn start_twin(&mut self, id: u64, place: u64) -> Running {
        let [config, other] = [id, place].map(|id| self.folder.path().join(format!("{}.toml", relay(id))));
        let text = std::fs::read_to_string(config).unwrap();
        let moved = text.replace(&address(&relay(id)).to_string(), &address(&relay(place)).to_string());
        std::fs::write(&other, moved).unwrap();
        let log = self.folder.path().join("log");
        let twin = role_in(&self.topology, &log, "relay", &relay(place), &other);
        self.relays.insert(id, twin).expect("it runs")
    }

    /// A call of two clients that have channels to each other, wherever it may be.
    pub(crate) fn pair(&self) -> Pair {
        let bucket = BucketId(getrandom::u32().unwrap() as u16);
        let id = CallId::new(POP, bucket, u128::from(getrandom::u64().unwrap()));
        let command = CallCommand::Create { id, kind: CallKind::OneToOne, legs: 2 };
        self.put_call(id, |_| Call::apply(None, command, clock::now()).unwrap());
        let mut clients = [1, 2].map(|leg| self.client_at((address("clients"), 0), id, leg));
        let [alice, bob] = &mut clients;
        let (at_alice, at_bob) = (alice.allocate(), bob.allocate());
        assert!(matches!((alice.bind(CHANNEL, at_bob), bob.bind(CHANNEL, at_alice)), (Said::Yes(_), Said::Yes(_))));
        Pair { bucket, call: id, places: [at_alice, at_bob], clients }
    }

    /// A call that a relay has now.
    pub(crate) fn pair_on(&self, id: u64) -> Pair {
        until("a call on that relay", || Some(self.pair()).filter(|pair| self.relay_of(pair.bucket) == id))
    }

    /// The relay that has a bucket now.
    pub(crate) fn relay_of(&self, bucket: BucketId) -> u64 {
        self.place(bucket)["now"].as_u64().expect("a relay has it")
    }

    /// Does what disturbs a call, waits until it is `done` and packets go both ways after that; gives the longest gap in
    /// milliseconds, and holds that it is short.
    pub(crate) fn gap(&self, talk: &Talk, what: &str, fault: impl FnOnce(), done: impl Fn() -> bool) -> u64 {
        talk.heard.lock().unwrap().iter_mut().for_each(|heard| heard.longest = 0);
        talk.paused.store(0, Ordering::Relaxed);
        fault();
        until(what, || done().then_some(()));
        let since = clock::now().mono;
        until("packets go both ways", || {
            talk.heard.lock().unwrap().iter().all(|heard| heard.sent > since).then_some(())
        });
        let heard = talk.heard.lock().unwrap().map(|heard| heard.longest);
        let paused = talk.paused.load(Ordering::Relaxed);
        eprintln!("{what}: longest gap {} and {} ms (clients stood still for {paused})", heard[0], heard[1]);
        let longest = heard[0].max(heard[1]);
        assert!(longest < 2_000, "{what}: packets go on within 2 s");
        longest
    }
}

fn role_in(topology: &Topology, log: &std::path::Path, role: &str, part: &str, config: &std::path::Path) -> Running {
    role_under(&[], topology, log, role, part, config)
}

fn role_under(
    program: &[&str],
    topology: &Topology,
    log: &std::path::Path,
    role: &str,
    part: &str,
    config: &std::path::Path,
) -> Running {
    let mut command = tandem(&[role, "--config", config.to_str().unwrap()]);
    if let Some((program, arguments)) = program.split_first() {
        let inner = command;
        command = std::process::Command::new(program);
        command.args(arguments).arg(inner.get_program()).args(inner.get_args()).stdin(std::process::Stdio::null());
    }
    // A child is where the thread was that started it.
    within(&topology.namespace(part), || Running::start(command, Some(log)))
}

fn within<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{namespace}")).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The two clients of a call.
pub(crate) struct Pair {
    pub(crate) bucket: BucketId,
    pub(crate) call: CallId,
    /// Their virtual addresses.
    pub(crate) places: [SocketAddr; 2],
    pub(crate) clients: [Client; 2],
}

impl Pair {
    /// Whether a packet of this length arrives as it was, each way.
    pub(crate) fn carries(&self, len: usize) -> bool {
        [(0, 1), (1, 0)].iter().all(|(from, to)| {
            let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            self.clients[*from].send(CHANNEL, &payload);
            self.hears(*to).is_some_and(|heard| heard == payload)
        })
    }

    /// The payload that comes next.
    pub(crate) fn hears(&self, side: usize) -> Option<Vec<u8>> {
        let mut buffer = [0; 2_048];
        let len = self.clients[side].socket.recv(&mut buffer).ok()?;
        let data = buffer[..len].strip_prefix(&CHANNEL.to_be_bytes())?;
        let (len, data) = data.split_first_chunk()?;
        data.get(..usize::from(u16::from_be_bytes(*len))).map(<[u8]>::to_vec)
    }

    /// From now on both send all the time.
    pub(crate) fn talk(self) -> Talk {
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new([Heard::default(); 2])));
        let began = clock::now().mono;
        heard.lock().unwrap().iter_mut().for_each(|heard| heard.at = began);
        let paused = Arc::new(AtomicU64::new(0));
        let (bucket, call) = (self.bucket, self.call);
        let (stopped, hears, pauses) = (Arc::clone(&stop), Arc::clone(&heard), Arc::clone(&paused));
        let thread = std::thread::spawn(move || self.run(&stopped, &hears, &pauses));
        Talk { bucket, call, stop, heard, paused, thread: Some(thread) }
    }

    fn run(&self, stop: &AtomicBool, heard: &Mutex<[Heard; 2]>, paused: &AtomicU64) {
        self.clients.iter().for_each(|client| client.socket.set_nonblocking(true).unwrap());
        let (mut sent, mut turn) = (Mono::default(), clock::now().mono);
        while !stop.load(Ordering::Relaxed) {
            let now = clock::now().mono;
            paused.fetch_max(now.since(turn).as_millis(), Ordering::Relaxed);
            turn = now;
            if now.since(sent).as_millis() >= 5 {
                sent = now;
                for client in &self.clients {
                    let _ =
                        client.socket.send(&channel_data(&[&self.tag(), &now.as_nanos().to_be_bytes()[..]].concat()));
                }
            }
            for side in [0, 1] {
                while let Some(payload) = self.hears(side) {
                    let sent = payload.strip_prefix(&self.tag()).and_then(|rest| <[u8; 8]>::try_from(rest).ok());
                    heard.lock().unwrap()[side].take(clock::now().mono, sent);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What no other call says.
    fn tag(&self) -> [u8; 8] {
        let name = self.clients[0].username.as_bytes();
        tag_of(name)
    }
}

fn tag_of(name: &[u8]) -> [u8; 8] {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish().to_be_bytes()
}

/// A packet for the other side.
pub(crate) fn channel_data(payload: &[u8]) -> Vec<u8> {
    [&CHANNEL.to_be_bytes()[..], &(payload.len() as u16).to_be_bytes(), payload].concat()
}

/// What one side of a call has heard.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Heard {
    /// When the latest packet came.
    at: Mono,
    /// When the latest of those that came was sent.
    sent: Mono,
    /// The longest time without one, in milliseconds.
    longest: u64,
    /// Packets that nobody in this call has sent.
    pub(crate) strange: u32,
}

impl Heard {
    fn take(&mut self, now: Mono, sent: Option<[u8; 8]>) {
        match sent {
            None => self.strange += 1,
            Some(sent) => {
                self.longest = self.longest.max(now.since(self.at).as_millis());
                self.at = now;
                self.sent = self.sent.max(Mono::from_nanos(u64::from_be_bytes(sent)));
            }
        }
    }
}

/// A call in which both sides send 200 packets a second.
pub(crate) struct Talk {
    pub(crate) bucket: BucketId,
    pub(crate) call: CallId,
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<[Heard; 2]>>,
    /// The longest time that this machine gave the clients no turn, in milliseconds.
    paused: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Talk {
    /// For how long neither side has heard anything, in milliseconds.
    pub(crate) fn silent_ms(&self) -> u64 {
        let now = clock::now().mono;
        self.heard.lock().unwrap().iter().map(|heard| now.since(heard.at).as_millis()).min().unwrap()
    }

    pub(crate) fn strange(&self) -> u32 {
        self.heard.lock().unwrap().iter().map(|heard| heard.strange).sum()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
