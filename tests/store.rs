//! A store that does not work as it should while calls run: a state server that is slow and not dead, and a disk that is full.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stderr, reason = "says why a test did not run, and what was measured")]

#[path = "support/sdk.rs"]
mod sdk;
#[path = "support/slow.rs"]
mod slow;
mod support;
#[path = "support/turn.rs"]
mod turn;

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command as Program;
use std::time::Duration;

use sdk::World;
use slow::Slow;
use support::{
    Running, SECRETS, free_tcp, free_udp, get, lb_toml, relay_toml, state_toml, tandem, until, where_time_goes_on,
};
use tandem_client::{Code, Error, Media};
use tandem_core::topology::{Attachment, Call, CallCommand, CallKind};
use tandem_net::clock;
use tandem_state_client::{Change, Command, Key, Op, RemoteStore, Revision, Store, StoreError};
use tandem_wire::id::{BucketId, CallId, LegId, PopId};
use tandem_wire::redact::Secret;
use turn::{Client, Said};

const POP: PopId = PopId(1);

fn put(key: Key, value: Vec<u8>) -> Command {
    Command { ops: vec![Op { key, based_on: Revision::ZERO, change: Change::Put(value) }] }
}

fn metric(admin: SocketAddr, name: &str) -> u64 {
    let text = get(admin, "/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
}

/// An address in the call where nobody is.
fn elsewhere(n: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 2_000 + n))
}

/// Sends both ways for so long; the longest time in which either side heard nothing, in milliseconds.
fn longest_gap(clients: &[Client; 2], how_long: Duration) -> u64 {
    let began = clock::now().mono;
    let (mut heard, mut longest) = ([began; 2], 0);
    for client in clients {
        client.socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    }
    while clock::now().mono.since(began).to_std() < how_long {
        for (at, client) in clients.iter().enumerate() {
            client.send(0x4001, b"media");
            let mut buffer = [0; 100];
            while client.socket.recv(&mut buffer).is_ok() {
                let now = clock::now().mono;
                longest = longest.max(now.since(heard[at]).as_millis());
                heard[at] = now;
            }
        }
    }
    let now = clock::now().mono;
    heard.iter().fold(longest, |longest, heard| longest.max(now.since(*heard).as_millis()))
}

/// Everybody's answers from the state server come one to three seconds late.
#[test]
fn with_a_state_server_that_is_slow_and_not_dead_media_goes_on_and_what_is_new_is_let_in_from_memory() {
    // Whatever a relay that stood still has to ask of the store before it serves again takes longer than this waits.
    where_time_goes_on(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(with_a_slow_state_server());
    });
}

async fn with_a_slow_state_server() {
    let folder = tempfile::tempdir().unwrap();
    let start = |role: &str, name: &str, text: &str| {
        let path = folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        Running::start(tandem(&[role, "--config", path.to_str().unwrap()]), Some(&folder.path().join("log")))
    };
    let (state, public, lb_admin) = (free_tcp(), free_udp(), free_tcp());
    let mut server = start("state-server", "state", &state_toml(state, &folder.path().join("state.redb")));
    server.ready();
    let slow = Slow::before(state);
    let admins = [free_tcp(), free_tcp()];
    let relays = [1, 2].map(|id| {
        let text = relay_toml(free_udp(), admins[id - 1], slow.address).replacen("listen", "tunnel", 1);
        start("relay", &format!("relay-{id}"), &text.replace("relay_id = 1", &format!("relay_id = {id}")))
    });
    let mut lb = start("lb", "lb", &lb_toml(public, lb_admin, slow.address));
    lb.ready();
    let fleet = || get(lb_admin, "/where?bucket=0007").json();
    let serve = || {
        let place = fleet();
        let all = place["relays"].as_array().unwrap();
        all.len() == 2 && all.iter().all(|one| one["standing"] == "serving" && one["state"] == "up")
    };
    until("both relays serve", || serve().then_some(()));

    let store = RemoteStore::new(&format!("http://{state}"), &Secret::new(SECRETS[0].as_bytes().to_vec())).unwrap();
    let [call, later] = [1, 2].map(|n| CallId::new(POP, BucketId(7), n));
    for id in [call, later] {
        let record = Call::apply(None, CallCommand::Create { id, kind: CallKind::OneToOne, legs: 2 }, clock::now());
        store.commit(put(Key::Call(id), record.unwrap().to_json().unwrap())).await.unwrap();
    }
    let client = |call, leg| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(public).unwrap();
        Client::new(socket, call, leg, &Secret::new(SECRETS[2].as_bytes().to_vec()))
    };
    let mut clients = [1, 2].map(|leg| client(call, leg));
    let places = clients.each_mut().map(Client::allocate);
    for (client, peer) in clients.iter_mut().zip([places[1], places[0]]) {
        assert!(matches!(client.bind(0x4001, peer), Said::Yes(_)));
    }
    let before = fleet();

    // Late, and in time for those who ask; then later than anybody waits.
    slow.delays(500..1_500);
    let gap = longest_gap(&clients, Duration::from_secs(6));
    slow.delays(4_000..5_000);
    let gap = longest_gap(&clients, Duration::from_secs(3)).max(gap);
    // A leg that comes now, and a channel: the answer waits for the store for three seconds, and comes from memory then.
    let began = clock::now().mono;
    let mut late = client(call, 1);
    assert!(matches!(late.try_allocate(Duration::from_secs(6)), Some(Said::Yes(_))));
    let took = clock::now().mono.since(began).as_millis();
    assert!((900..4_500).contains(&took), "an allocation takes {took} ms");
    let bound = clock::now().mono;
    assert!(matches!(clients[0].try_bind(0x4002, elsewhere(2), Duration::from_secs(20)), Some(Said::Yes(_))));
    let bound = clock::now().mono.since(bound).as_millis();
    // What only renews is answered at once.
    let began = clock::now().mono;
    assert!(matches!(clients[1].try_refresh(600, Duration::from_secs(1)), Some(Said::Yes(_))));
    assert!(clock::now().mono.since(began).as_millis() < 500);
    // For longer than it takes to be removed for silence, from the last beat that got through: nobody is.
    let longest = longest_gap(&clients, Duration::from_secs(22)).max(gap);
    eprintln!("a slow store: an allocation took {took} ms, a channel {bound} ms, the longest gap was {longest} ms");
    assert!(longest < 1_000);
    let after = fleet();
    assert_eq!((&before["epoch"], &before["now"]), (&after["epoch"], &after["now"]), "{after}");
    assert!(serve());
    // A call that the relays have not loaded yet is answered once it is, and by nobody wrongly before.
    let mut other = client(later, 1);
    assert!(matches!(other.try_allocate(Duration::from_secs(12)), Some(Said::Yes(_))));
    let undurable: u64 = admins.iter().map(|admin| metric(*admin, "tandem_relay_undurable_answers_total")).sum();
    eprintln!("{undurable} answers were given from memory");

    slow.delays(0..0);
    until("all that was promised is written", || {
        let entries = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async { store.load(call).await.unwrap().entries })
        });
        let one = entries.iter().find(|entry| entry.key == Key::Attachment(call, LegId::new(1).unwrap()))?;
        let record = Attachment::from_json(&one.value).unwrap();
        let channels = record.allocations.iter().map(|allocation| allocation.channels.len()).max();
        (record.allocations.len() == 2 && channels == Some(2)).then_some(())
    });
    assert!(matches!(clients[0].bind(0x4003, elsewhere(3)), Said::Yes(_)));
    drop(relays);
}

/// A file system of a few megabytes that is filled to its last byte while a call runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_a_call_goes_on_and_new_ones_are_refused_until_there_is_room() {
    let mount = "mount -t tmpfs -o size=8m tmpfs \"$0\" && exec \"$@\"";
    let private = ["unshare", "--mount", "sh", "-c"];
    let tried = Program::new(private[0]).args(&private[1..]).args([mount, "/mnt", "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("not run: only root may mount a small file system (unshare --mount)");
        return;
    }
    let make = "mkdir -p \"$0\" && ";
    let world = World::start_under(&[&private[..], &[&format!("{make}{mount}"), "{data}"]].concat(), &[]);
    let pair = world.pair().await;
    let places = pair.places();
    let (carol, dave) = tokio::join!(world.device("carol", "dev_c"), world.device("dave", "dev_d"));

    // Everything that is left goes to something else.
    let path = world.data().join("something-else");
    let mut file = File::create(&path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    // The store's file has room of its own for a little more; it is filled by what it is for.
    let config = std::fs::read_to_string(world.data().join("state-server.toml")).unwrap();
    let value = |name: &str| {
        let line = config.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.unwrap().trim_matches('"').to_owned()
    };
    let secret = Secret::new(value("secret").into_bytes());
    let store = RemoteStore::new(&format!("http://{}", value("listen")), &secret).unwrap();
    let mut n = 0;
    for size in [16 << 10, 1 << 10, 16] {
        // What was refused is tried again once: the store opens its file anew, and finds pages that are free.
        let mut refused = 0;
        while refused < 3 {
            n += 1;
            assert!(n < 2_000, "the disk is not full");
            let leg = Key::Attachment(CallId::new(POP, BucketId(1), n), LegId::new(1).unwrap());
            match store.commit(put(leg, vec![7; size])).await {
                Ok(_) => refused = 0,
                Err(StoreError::Away { retry_after_ms }) => {
                    assert!(retry_after_ms > 0);
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    eprintln!("full after {n} records");

    pair.talk("on a full disk").await;
    let placed = carol.place(&dave.party().account, Media::Audio).await;
    let Err(Error::Refused(problem)) = placed else { panic!("a call on a full disk: {:?}", placed.err()) };
    assert_eq!((problem.status, problem.code), (503, Code::StoreAway));
    assert!(problem.retry_after_ms.is_some_and(|ms| ms > 0), "{problem:?}");
    for n in 0..20 {
        pair.talk(&format!("on a full disk, {n}")).await;
    }
    assert_eq!(pair.places(), places);
    assert!(world.pids().iter().all(|(_, pid)| *pid > 0), "nobody has ended");

    drop(file);
    std::fs::remove_file(path).unwrap();
    // Of two others: what was asked for meanwhile may have been done since.
    let (erin, frank) = tokio::join!(world.device("erin", "dev_e"), world.device("frank", "dev_f"));
    let call = erin.place(&frank.party().account, Media::Audio).await.unwrap();
    sdk::soon(frank.incoming()).await.unwrap();
    call.hang_up().await.unwrap();
    pair.talk("there is room again").await;
    pair.hung_up().await;
}
