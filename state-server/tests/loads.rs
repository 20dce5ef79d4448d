//! What relays say of their load, at several state servers: who is away misses it, and who comes back has it again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tandem_core::load::{Load, Report};
use tandem_core::topology::{Incarnation, Member};
use tandem_state_client::conformance::POP;
use tandem_state_client::{Change, Command, Key, Op, RemoteStore, Revision, SeenLoad, Store, grpc};
use tandem_state_server::StateServer;
use tandem_wire::id::RelayId;
use tandem_wire::redact::Secret;
use tandem_wire::tunnel::Cookie;
use tandem_wire::units::Wall;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

fn secret() -> Secret {
    Secret::new(vec![7; 32])
}

/// A state server with a store of its own, in which the relays 1 and 2 have registered as their fifth run.
struct Server {
    store: Arc<StateServer>,
    address: SocketAddr,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = || Wall::from_secs(1_795_000_000);
        let store = StateServer::open(&folder.path().join("state.redb"), POP, now).unwrap();
        let tunnel = "127.0.0.1:7000".parse().unwrap();
        let entry = Member::starting(Incarnation(5), Cookie::from_bits(1), tunnel).to_json().unwrap();
        for relay in [1, 2] {
            let change = Change::Put(entry.clone());
            let op = Op { key: Key::Relay(POP, RelayId(relay)), based_on: Revision::ZERO, change };
            store.commit(Command { ops: vec![op] }).await.unwrap();
        }
        let (address, serving) = serve(&store, ([127, 0, 0, 1], 0).into()).await;
        Self { store, address, serving, _folder: folder }
    }

    /// It ends; the store that it had is kept for the next one.
    async fn end(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }

    async fn back(&mut self) {
        (_, self.serving) = serve(&self.store, self.address).await;
    }

    async fn calls_of(&self, relay: u16) -> Option<u32> {
        let loads = self.store.loads().await.unwrap();
        loads.iter().find(|seen| seen.report.relay.0 == relay).map(|seen| seen.report.load.calls)
    }

    async fn until(&self, what: &str, good: impl AsyncFn() -> bool) {
        let wait = async {
            while !good().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
    }
}

async fn serve(store: &Arc<StateServer>, address: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let (address, store) = (listener.local_addr().unwrap(), Arc::clone(store));
    let serving = async move { grpc::serve(listener, store, &secret(), std::future::pending()).await.unwrap() };
    (address, tokio::spawn(serving))
}

fn report(relay: u16, calls: u32) -> Report {
    let load = Load { calls, allocations: 2 * calls, cpu_permille: 10 * relay, ..Load::default() };
    Report { relay: RelayId(relay), incarnation: Incarnation(5), epoch: 1, load }
}

fn of(addresses: &[SocketAddr]) -> RemoteStore {
    let endpoints: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    RemoteStore::of_several(&endpoints, &secret()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_server_knows_the_load_of_every_relay_and_one_that_comes_back_learns_it_again() {
    let mut servers = [Server::start().await, Server::start().await];
    let addresses = [servers[0].address, servers[1].address];
    // A third one takes connections and says nothing: it holds nobody up.
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let all = [hung.local_addr().unwrap(), addresses[0], addresses[1]];
    let relays: Vec<_> = [1, 2]
        .map(|relay| {
            let (latest, reports) = watch::channel(Some(report(relay, 1)));
            let remote = of(&all);
            (latest, tokio::spawn(async move { remote.report_load(reports).await }))
        })
        .into();
    for server in &servers {
        server.until("both are heard", async || server.store.loads().await.unwrap().len() == 2).await;
    }
    // Whichever is asked has the whole.
    for address in addresses {
        let loads: Vec<SeenLoad> = of(&[address]).loads().await.unwrap();
        assert_eq!(loads.iter().map(|seen| seen.report).collect::<Vec<_>>(), [report(1, 1), report(2, 1)]);
    }
    servers[0].end().await;
    relays[0].0.send_replace(Some(report(1, 2)));
    servers[1].until("the other one hears on", async || servers[1].calls_of(1).await == Some(2)).await;
    let asked = of(&addresses).loads().await.unwrap();
    assert_eq!(asked[0].report, report(1, 2), "who asks goes on to the other one too");
    assert_eq!(servers[0].calls_of(1).await, Some(1));
    servers[0].back().await;
    // Without a word of the relay's: the latest that it said is said again.
    servers[0].until("it learns what it missed", async || servers[0].calls_of(1).await == Some(2)).await;
    for (latest, reporting) in relays {
        drop(latest);
        timeout(PATIENCE, reporting).await.expect("it ends with who reports").unwrap();
    }
    drop(hung);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_unknown_five_seconds_after_it_was_said() {
    let server = Server::start().await;
    let (latest, reports) = watch::channel(Some(report(1, 3)));
    let remote = of(&[server.address]);
    let reporting = tokio::spawn({
        let remote = remote.clone();
        async move { remote.report_load(reports).await }
    });
    server.until("it is heard", async || server.calls_of(1).await == Some(3)).await;
    let said = tokio::time::Instant::now();
    server
        .until("it is unknown at last", async || {
            let loads = remote.loads().await.unwrap();
            assert!(loads.iter().all(|seen| seen.age <= Duration::from_secs(5)));
            loads.is_empty()
        })
        .await;
    let age = said.elapsed();
    assert!((Duration::from_millis(4_900)..Duration::from_secs(7)).contains(&age), "{age:?}");
    drop(latest);
    timeout(PATIENCE, reporting).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_shows_the_fleet_s_load_and_names_no_relay() {
    let server = Server::start().await;
    let mut reporters = Vec::new();
    for (relay, calls) in [(1, 100), (2, 50), (3, 7)] {
        let (latest, reports) = watch::channel(Some(report(relay, calls)));
        let remote = of(&[server.address]);
        reporters.push((latest, tokio::spawn(async move { remote.report_load(reports).await })));
    }
    server.until("all are heard", async || server.store.loads().await.unwrap().len() == 2).await;
    let shown = |name: &str, label: &str| {
        let mut shown = None;
        server.store.source().collect(&mut |series, total| {
            let labels: Vec<_> = series.labels.iter().map(|label| label.value().to_owned()).collect();
            if series.metric.name == name && labels.iter().all(|value| value == label) {
                shown = Some(total);
            }
        });
        shown.expect("it is shown")
    };
    server
        .until("the one that nobody knows is counted", async || {
            shown("tandem_state_relay_load_reports_ignored_total", "unknown_relay") == 1
        })
        .await;
    for (name, expected) in [
        ("tandem_state_relay_load_reports_total", 2),
        ("tandem_state_relay_load_relays", 2),
        ("tandem_state_relay_load_calls", 150),
        ("tandem_state_relay_load_allocations", 300),
        ("tandem_state_relay_load_allocations_max", 200),
        ("tandem_state_relay_load_cpu_permille_max", 20),
    ] {
        assert_eq!(shown(name, ""), expected, "{name}");
    }
    assert_eq!(server.store.counters().committed.load(Ordering::Relaxed), 2, "the two entries, and no load");
}
