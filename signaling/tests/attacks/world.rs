//! Signaling nodes over one store and one directory in memory, behind the server that carries them for real, and devices
//! that ask them byte by byte.
//!
//! Decides nothing about what is right: that stands in the tests. The root package's tests of both services use it too.
#![allow(dead_code, reason = "each suite uses its part of this")]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tandem_auth::rate::Rate;
use tandem_auth::{Claims, Grant, TokenKey, TokenKeys};
use tandem_core::topology::{Blob, Transport};
use tandem_signaling::directory::account::Account;
use tandem_signaling::directory::{DeviceRecord, Devices, Directory, DirectoryError};
use tandem_signaling::policy::Policy;
use tandem_signaling::{Config, RelayPoint, Signaling, limits as bounds};
use tandem_state_client::memory::MemoryStore;
use tandem_state_client::{
    AllocationRef, BucketSet, Command, Entry, Key, Listing, Reports, Revision, SeenLoad, Store, StoreError, Watch,
};
use tandem_telemetry::http::{Limits, serve_within};
use tandem_wire::id::{CallId, PopId};
use tandem_wire::party::{AccountId, Party};
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::ticket::TicketKey;
use tandem_wire::units::Wall;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const POP: PopId = PopId(7);
/// The issuer whose tokens are HS256, and its secret.
pub(crate) const ISSUER: &str = "app-hs";
pub(crate) const SECRET: &[u8] = b"canary-token-secret-of-thirty-two-bytes-and-more";
/// The issuer whose tokens are `EdDSA`: RFC 8032 section 7.1, test 1.
pub(crate) const ED_ISSUER: &str = "app-ed";
pub(crate) const ED_SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5,
    0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
pub(crate) const ED_PUBLIC: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72,
    0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];
pub(crate) const GOOD_ORIGIN: &str = "https://app.example.org";

/// Much more of everything than a test asks for.
pub(crate) fn lavish() -> Policy {
    let lots = Rate { per_minute: 1_000_000, burst: 1_000_000 };
    Policy {
        calls_per_account: lots,
        calls_per_source: lots,
        rings_per_account: lots,
        lookups_per_account: lots,
        lookups_per_source: lots,
        signals_per_device: lots,
        registrations_per_account: lots,
        removals_per_device: lots,
        bad_tokens_per_source: lots,
        live_calls_per_account: 10_000,
        live_rings_per_account: 10_000,
        live_calls: 100_000,
        connections_per_source: 4_096,
    }
}

/// A directory in memory.
#[derive(Default)]
pub(crate) struct MemoryDirectory(Mutex<BTreeMap<AccountId, Account>>);

impl MemoryDirectory {
    /// Everything that stands in it.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(&*self.0.lock().unwrap()).unwrap()
    }
}

#[async_trait]
impl Directory for MemoryDirectory {
    async fn put(&self, party: &Party, device: DeviceRecord) -> Result<Devices, DirectoryError> {
        let mut accounts = self.0.lock().unwrap();
        let account = accounts.entry(party.account.clone()).or_default();
        account.put(party, device)?;
        Ok(account.clone().into_devices())
    }

    async fn endorse(&self, party: &Party, endorsement: String) -> Result<(), DirectoryError> {
        let mut accounts = self.0.lock().unwrap();
        accounts.get_mut(&party.account).ok_or(DirectoryError::Unknown)?.endorse(party, endorsement)
    }

    async fn remove(&self, party: &Party, at: Wall) -> Result<bool, DirectoryError> {
        let mut accounts = self.0.lock().unwrap();
        Ok(accounts.get_mut(&party.account).is_some_and(|account| account.remove(&party.device, at)))
    }

    async fn devices(&self, account: &AccountId) -> Result<Arc<Devices>, DirectoryError> {
        Ok(Arc::new(self.0.lock().unwrap().get(account).cloned().unwrap_or_default().into_devices()))
    }
}

/// The store in memory, and how often it was asked.
#[derive(Clone)]
pub(crate) struct CountingStore {
    pub(crate) store: MemoryStore,
    asked: Arc<AtomicUsize>,
    /// What a state server that is behind has of calls.
    behind: Arc<std::sync::Mutex<Option<Listing>>>,
}

impl CountingStore {
    pub(crate) fn new() -> Self {
        Self { store: MemoryStore::new(POP), asked: Arc::default(), behind: Arc::default() }
    }

    /// From now on calls are answered as they are now, except to who asks for the latest.
    pub(crate) async fn stays_behind(&self) {
        let now = self.everything().await;
        *self.behind.lock().unwrap() = Some(now);
    }

    /// Questions and commands so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn count(&self) -> &MemoryStore {
        self.asked.fetch_add(1, Ordering::SeqCst);
        &self.store
    }

    /// The records of all calls, those too that nobody lists.
    async fn everything(&self) -> Listing {
        let Listing { revision, .. } = self.snapshot().await;
        let mut entries = Vec::new();
        for call in self.calls().await {
            entries.extend(self.store.load(call).await.unwrap().entries);
        }
        Listing { revision, entries }
    }

    /// Every record that is listed, and the revision: if both are as they were, nothing was written, of what is not listed neither.
    pub(crate) async fn snapshot(&self) -> Listing {
        self.store.restore(&BucketSet::all()).await.unwrap()
    }

    /// The calls that there are, ended ones too.
    pub(crate) async fn calls(&self) -> Vec<CallId> {
        let entries = self.snapshot().await.entries;
        entries.iter().filter_map(|entry| if let Key::Call(call) = entry.key { Some(call) } else { None }).collect()
    }

    /// The blobs of all calls, notes that nobody follows among them.
    pub(crate) async fn all_blobs(&self) -> Vec<(Key, Blob)> {
        let entries = self.everything().await.entries;
        let blobs = entries.iter().filter(|entry| matches!(entry.key, Key::Blob(..)));
        blobs.map(|entry| (entry.key, Blob::from_json(&entry.value).unwrap())).collect()
    }

    /// How many blobs wait.
    pub(crate) async fn blobs(&self) -> usize {
        self.all_blobs().await.len()
    }
}

#[async_trait]
impl Store for CountingStore {
    async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
        self.count().commit(command).await
    }
    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        let store = self.count();
        let behind = self.behind.lock().unwrap().clone();
        if let Some(Listing { revision, entries }) = behind {
            let entries = entries.into_iter().filter(|entry| entry.key.call() == Some(call)).collect();
            return Ok(Listing { revision, entries });
        }
        store.load(call).await
    }
    async fn load_latest(&self, call: CallId) -> Result<Listing, StoreError> {
        self.count().load(call).await
    }
    async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        self.count().read(key).await
    }
    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        self.store.restore(buckets).await
    }
    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        self.store.watch(buckets, after).await
    }
    async fn find_client(&self, transport: Transport, client: ClientAddr) -> Result<Option<AllocationRef>, StoreError> {
        self.count().find_client(transport, client).await
    }
    async fn report_load(&self, reports: Reports) {
        self.store.report_load(reports).await;
    }
    async fn loads(&self) -> Result<Vec<SeenLoad>, StoreError> {
        self.store.loads().await
    }
}

/// One signaling node.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
    signaling: Signaling,
}

impl Node {
    pub(crate) async fn ready(&self) -> bool {
        self.signaling.ready().await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Some nodes, and what they share.
pub(crate) struct World {
    pub(crate) store: CountingStore,
    pub(crate) directory: Arc<MemoryDirectory>,
    pub(crate) nodes: Vec<Node>,
}

pub(crate) fn token_keys() -> TokenKeys {
    let hs256 = TokenKey::hs256(&Secret::new(SECRET.to_vec())).unwrap();
    let ed25519 = TokenKey::ed25519(&ED_PUBLIC).unwrap();
    TokenKeys::new([(ISSUER.to_owned(), hs256), (ED_ISSUER.to_owned(), ed25519)]).unwrap()
}

/// As `tandem signaling` serves it.
pub(crate) fn role_limits() -> Limits {
    Limits { drain: bounds::DRAIN, ..Limits::new(bounds::CONNECTIONS, bounds::BODY_BYTES) }
}

impl World {
    pub(crate) async fn new(nodes: usize, policy: Policy) -> Self {
        Self::with_limits(nodes, policy, role_limits()).await
    }

    pub(crate) async fn with_limits(nodes: usize, policy: Policy, limits: Limits) -> Self {
        let mut world = Self { store: CountingStore::new(), directory: Arc::default(), nodes: Vec::new() };
        for _ in 0..nodes {
            let node = world.start(policy, limits.clone()).await;
            assert!(node.ready().await);
            world.nodes.push(node);
        }
        world
    }

    /// One more node, perhaps not ready yet.
    pub(crate) async fn start(&self, policy: Policy, limits: Limits) -> Node {
        let config = Config {
            pop: POP,
            tokens: token_keys(),
            tickets: TicketKey::new(0, &Secret::new(vec![3; 32])).unwrap(),
            pop_secret: Secret::new(vec![4; 32]),
            relays: vec![RelayPoint {
                turn: "turn:192.0.2.7:3478?transport=udp".into(),
                stun: "stun:192.0.2.7:3478".into(),
            }],
            origins: vec![HeaderValue::from_static(GOOD_ORIGIN)],
            policy,
            dev: None,
        };
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        let signaling = Signaling::start(config, store, Arc::clone(&self.directory) as Arc<dyn Directory>).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cors = signaling.cors();
        let outer = |router: axum::Router| router.layer(cors);
        let task = tokio::spawn(serve_within(listener, signaling.router(), outer, std::future::pending(), limits));
        Node { address, task, signaling }
    }

    /// A device that is registered.
    pub(crate) async fn device(&self, account: &str, device: &str) -> Device {
        let device = Device::new(account, device);
        let answer = self.put(&device).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        device
    }

    /// Registers it, perhaps anew.
    pub(crate) async fn put(&self, device: &Device) -> Answer {
        let path = format!("/v1/devices/{}", device.device);
        self.ask(0, device, "PUT", &path, &registration()).await
    }

    pub(crate) async fn ask(&self, node: usize, device: &Device, method: &str, path: &str, body: &Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let headers = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", device.token);
        self.raw(node, method, path, &headers, text.as_bytes()).await
    }

    pub(crate) async fn get(&self, node: usize, device: &Device, path: &str) -> Answer {
        self.ask(node, device, "GET", path, &Value::Null).await
    }

    /// A verb of a call; without a body if that is null.
    pub(crate) async fn verb(&self, node: usize, device: &Device, call: &str, verb: &str, body: &Value) -> Answer {
        self.ask(node, device, "POST", &format!("/v1/calls/{call}/{verb}"), body).await
    }

    pub(crate) async fn raw(&self, node: usize, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        exchange(self.nodes[node].address, None, &request(method, path, headers, body)).await
    }

    /// Places a call to these devices of one account, who need not be registered.
    pub(crate) async fn place(&self, node: usize, from: &Device, to: &[&Device]) -> Answer {
        self.ask(node, from, "POST", "/v1/calls", &call_to(to)).await
    }

    /// Places a call that must come to be; gives its id.
    pub(crate) async fn call(&self, node: usize, from: &Device, to: &[&Device]) -> String {
        let answer = self.place(node, from, to).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text("call_id")
    }

    /// Two nodes follow the store: waits until `node` sees what has been written.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A body of `POST /v1/calls`.
pub(crate) fn call_to(to: &[&Device]) -> Value {
    let mut sealed = serde_json::Map::new();
    let mut missed = serde_json::Map::new();
    for device in to {
        sealed.insert(device.device.clone(), json!(base64(b"an offer that nobody here can read")));
        missed.insert(device.device.clone(), json!(base64(b"a note")));
    }
    json!({ "to": [to[0].account], "kind": "one_to_one", "media": "video", "sealed": sealed, "missed": missed })
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A body of `PUT /v1/devices/{device}`.
pub(crate) fn registration() -> Value {
    json!({
        "identity": { "sign": base64(&[1; 32]), "agree": base64(&[2; 32]) },
        "signed_prekey": { "id": 5, "key": base64(&[3; 32]), "signature": base64(&[4; 64]) },
    })
}

/// A device of an account, and its token.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) account: String,
    pub(crate) device: String,
    pub(crate) token: String,
}

impl Device {
    pub(crate) fn new(account: &str, device: &str) -> Self {
        let now = now_secs();
        Self {
            account: account.to_owned(),
            device: device.to_owned(),
            token: mint(account, device, Some(now), now + 3_600),
        }
    }

    /// The same device with a token that was issued at another time.
    pub(crate) fn issued(&self, at: u64) -> Self {
        Self { token: mint(&self.account, &self.device, Some(at), now_secs() + 3_600), ..self.clone() }
    }
}

pub(crate) fn now_secs() -> u64 {
    tandem_net::clock::now().wall.as_secs()
}

pub(crate) fn mint(account: &str, device: &str, issued: Option<u64>, expires: u64) -> String {
    mint_with(account, device, Grant { call: true, admin: None }, issued, expires)
}

pub(crate) fn mint_with(account: &str, device: &str, grant: Grant, issued: Option<u64>, expires: u64) -> String {
    let party = Party { account: account.parse().unwrap(), device: device.parse().unwrap() };
    let claims = Claims { party, grant, issued, expires: Wall::from_secs(expires) };
    TokenKey::hs256(&Secret::new(SECRET.to_vec())).unwrap().mint(ISSUER, &claims).unwrap()
}

/// An answer of the server.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let all = String::from_utf8_lossy(bytes).into_owned();
        let Some((head, body)) = all.split_once("\r\n\r\n") else {
            return Self { status: 0, head: all, body: String::new() };
        };
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or_else(|| panic!("no {field}: {self:?}")).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn code(&self) -> String {
        if self.body.is_empty() { String::new() } else { self.json()["code"].as_str().unwrap_or_default().to_owned() }
    }

    /// Says what is wrong with it as a problem; `None` if nothing is (docs/api.md, "Conventions").
    pub(crate) fn unlike_a_problem(&self) -> Option<&'static str> {
        if self.header("content-type") != Some("application/problem+json") {
            return Some("content-type");
        }
        let body = self.json();
        if ["type", "title", "code", "request_id"].iter().any(|field| !body[*field].is_string()) {
            return Some("a field is missing");
        }
        if body["status"] != self.status {
            return Some("status");
        }
        if self.header("x-request-id") != body["request_id"].as_str() {
            return Some("request_id");
        }
        let retry = self.header("retry-after").and_then(|after| after.parse::<u64>().ok());
        if matches!(self.status, 429 | 503) && (retry.is_none() || !body["retry_after_ms"].is_u64()) {
            return Some("Retry-After");
        }
        None
    }

    /// Whether it is the problem with this status and code.
    pub(crate) fn is(&self, status: u16, code: &str) -> bool {
        self.status == status && self.unlike_a_problem().is_none() && self.code() == code
    }

    #[track_caller]
    pub(crate) fn must_be(&self, status: u16, code: &str, what: &str) {
        assert!(self.is(status, code), "{what}: wanted {status} {code}, {:?}: {self:?}", self.unlike_a_problem());
    }

    /// The body without the one thing that differs each time.
    pub(crate) fn without_request_id(&self) -> String {
        let id = self.header("x-request-id").unwrap_or("none");
        self.body.replace(id, "ID")
    }

    /// The names of its headers, and the values of those that say something.
    pub(crate) fn shape(&self) -> Vec<String> {
        let lines = self.head.split("\r\n").map(str::to_lowercase);
        lines
            .map(|line| match line.split_once(": ") {
                Some((name @ ("date" | "x-request-id"), _)) => name.to_owned(),
                _ => line,
            })
            .collect()
    }
}

/// A request on a connection of its own.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}{length}\r\n");
    [head.as_bytes(), body].concat()
}

pub(crate) async fn connect(to: SocketAddr, from: Option<Ipv4Addr>) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(from) = from {
        socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
    }
    socket.connect(to).await.unwrap()
}

pub(crate) async fn exchange(to: SocketAddr, from: Option<Ipv4Addr>, request: &[u8]) -> Answer {
    let mut stream = connect(to, from).await;
    // The server may answer and close before it has taken everything.
    let _ = stream.write_all(request).await;
    Answer::parse(&rest(&mut stream).await)
}

/// Everything until the other side closes.
pub(crate) async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let read = tokio::time::timeout(PATIENCE, read).await.expect("the connection was not closed");
    // A reset is a close, too.
    assert!(read.is_ok() || read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
    bytes
}

/// Every route that needs a token, with a body that is good as such.
pub(crate) fn routes(device: &str, account: &str, call: &str) -> Vec<(&'static str, String, Value)> {
    let sealed = base64(b"sealed");
    let mut routes = vec![
        ("PUT", format!("/v1/devices/{device}"), registration()),
        ("DELETE", format!("/v1/devices/{device}"), Value::Null),
        ("POST", format!("/v1/devices/{device}/endorsement"), json!({ "endorsement": base64(&[5; 64]) })),
        ("GET", format!("/v1/accounts/{account}/devices"), Value::Null),
        ("GET", "/v1/relays".to_owned(), Value::Null),
        (
            "POST",
            "/v1/calls".to_owned(),
            json!({ "to": [account], "kind": "one_to_one", "media": "audio", "sealed": { device: sealed } }),
        ),
    ];
    routes.extend(call_routes(device, call));
    routes
}

/// Every route that names a call.
pub(crate) fn call_routes(device: &str, call: &str) -> Vec<(&'static str, String, Value)> {
    let sealed = base64(b"sealed");
    let verb = |verb: &str| format!("/v1/calls/{call}/{verb}");
    vec![
        ("GET", format!("/v1/calls/{call}"), Value::Null),
        ("POST", verb("ringing"), Value::Null),
        ("POST", verb("accept"), json!({ "sealed": sealed })),
        ("POST", verb("reject"), json!({ "reason": "declined" })),
        ("POST", verb("signal"), json!({ "sealed": { device: sealed } })),
        ("POST", verb("leave"), Value::Null),
        ("POST", verb("end"), Value::Null),
        ("POST", verb("rejoin"), Value::Null),
        ("POST", verb("ticket"), Value::Null),
    ]
}

/// Random numbers that are the same each time (xorshift64*).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}
