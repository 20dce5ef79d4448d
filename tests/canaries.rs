//! Attacks X01 and X02, properties P8 and P9: what only some may know is nowhere else. A call of the SDK, with every role at
//! its most talkative, and then a search for words that were drawn for it (`e2e/src/canaries.test.ts` is a browser's call).
//!
//! Where each kind of word is by nature, and why, stands in [`KINDS`]; everywhere else it must not be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "support/detour.rs"]
mod detour;
#[path = "support/sdk.rs"]
mod sdk;
#[path = "support/search.rs"]
mod search;
mod support;
#[path = "support/wire.rs"]
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sdk::{World, open, party, pass, soon};
use search::{Search, Words};
use serde_json::Value;
use support::{free_tcp, get};
use tandem_client::{DevTokens, Device, Media};
use tandem_telemetry::http::{Limits, serve};
use tandem_telemetry::log::{self, Format};
use wire::{Port, Wire};

const ROLES: [&str; 4] = ["state-server", "relay", "signaling", "router"];

/// A kind of word.
struct Kind {
    name: &'static str,
    /// Where it is found: that the search finds what is there, and looks at what it says it looks at.
    is: &'static [&'static str],
    /// Where it may be too, for a while.
    may: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    // Control: what every log and every page of metrics says.
    Kind {
        name: "a name of ours",
        is: &["log", "metrics of state-server", "metrics of relay", "metrics of signaling", "metrics of router"],
        may: &[
            "memory of state-server",
            "memory of relay",
            "memory of signaling",
            "memory of router",
            "memory of dev",
            "wire to store",
            "kept/state-server.toml",
        ],
    },
    // Only devices know what they say under the seal, and what they seal with.
    Kind { name: "what devices say", is: &[], may: &[] },
    Kind { name: "what devices seal with", is: &[], may: &[] },
    // Rings have to reach somebody: the control plane knows who calls whom. The relay loads a call by its record, which names
    // its devices; no packet says them.
    Kind {
        name: "a name",
        is: &[
            "kept/state.redb",
            "kept/devices.redb",
            "memory of state-server",
            "memory of signaling",
            "memory of router",
            "wire to store",
            "wire to signaling",
            "wire to router",
        ],
        may: &["memory of relay"],
    },
    // A token goes from its device to those who ask for it, and no further: it is neither passed on nor kept.
    Kind {
        name: "a token",
        is: &["wire to signaling", "wire to router"],
        may: &["memory of signaling", "memory of router"],
    },
    // TURN says the user name in clear (RFC 8489 section 14.3). Signaling makes it, the relay reads it.
    Kind {
        name: "the user name of a ticket",
        is: &["wire to signaling", "wire to relay"],
        may: &["memory of signaling", "memory of relay"],
    },
    // The password is never said but to its device: both ends compute it.
    Kind {
        name: "the password of a ticket",
        is: &["wire to signaling"],
        may: &["memory of signaling", "memory of relay"],
    },
    // Requests and connections are counted by where they come from, in memory.
    Kind { name: "where requests come from", is: &[], may: &["memory of signaling"] },
    Kind { name: "where a connection comes from", is: &[], may: &["memory of router"] },
    // Where a leg is has to outlive the relay that serves it: it is a record, and signaling and router follow the store.
    Kind {
        name: "where packets come from",
        is: &["kept/state.redb", "memory of state-server", "wire to store"],
        may: &["memory of relay", "memory of signaling", "memory of router"],
    },
];

/// All secrets that a device keeps: whatever in its keyring is 28 bytes or more in base64.
fn secrets(kept: &Value) -> Vec<Vec<u8>> {
    match kept {
        Value::String(text) => STANDARD.decode(text).ok().filter(|bytes| bytes.len() >= 28).into_iter().collect(),
        Value::Array(values) => values.iter().flat_map(secrets).collect(),
        // Roots, by which others are known, are public.
        Value::Object(fields) => {
            fields.iter().filter(|(name, _)| *name != "pins").flat_map(|(_, v)| secrets(v)).collect()
        }
        _ => Vec::new(),
    }
}

/// A word that nobody has said before.
fn drawn(name: &str) -> String {
    let mut random = [0; 6];
    getrandom::fill(&mut random).unwrap();
    random.iter().fold(name.to_owned(), |word, byte| word + &format!("{byte:02x}"))
}

/// Holds what was found against [`KINDS`].
fn hold(found: &BTreeMap<String, BTreeSet<String>>, looked: &BTreeMap<String, u64>) {
    let nowhere = BTreeSet::new();
    for Kind { name, is, may } in KINDS {
        let places = found.get(*name).unwrap_or(&nowhere);
        for place in is.iter().filter(|place| looked.contains_key(**place)) {
            assert!(places.contains(*place), "{name} is not found in {place}, where it is");
        }
        let leaked: Vec<_> = places.iter().filter(|place| !is.iter().chain(*may).any(|other| other == place)).collect();
        // Never with what was found: it might be a secret.
        assert!(leaked.is_empty(), "{name} is in {leaked:?}");
    }
}

fn address(url: &str) -> SocketAddr {
    url.split('/').nth(2).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_devices_say_under_the_seal_and_their_secrets_are_nowhere_but_with_them() {
    // Addresses of this machine that nobody else has.
    let mut random = [0; 2];
    getrandom::fill(&mut random).unwrap();
    let source = |last| IpAddr::V4(Ipv4Addr::new(127, 100 + random[0] % 100, 100 + random[1] % 100, last));
    let (of_requests, of_connections, of_packets) = (source(201), source(202), source(203));
    let packets = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let turn = packets.local_addr().unwrap();

    let admins: Vec<SocketAddr> = ROLES.iter().map(|_| free_tcp()).collect();
    let settings: Vec<String> = ROLES
        .iter()
        .zip(&admins)
        .flat_map(|(role, admin)| [format!("{role}.admin={admin}"), format!("{role}.log.filter=trace")])
        .chain([format!("signaling.relays=[{{turn=\"turn:{turn}?transport=udp\",stun=\"stun:{turn}\"}}]")])
        .flat_map(|setting| ["--set".to_owned(), setting])
        .collect();
    let mut world = World::start_with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let [api, connect] = ["api", "connect"].map(|name| address(world.said[name].as_str().unwrap()));
    let relay: SocketAddr = world.said["turn"].as_str().unwrap().parse().unwrap();
    let config: toml::Table =
        std::fs::read_to_string(world.folder.path().join("data/relay.toml")).unwrap().parse().unwrap();
    let store = address(config["state"]["endpoint"].as_str().unwrap());
    let ports = [
        (Port::Tcp(store.port()), "wire to store"),
        (Port::Tcp(api.port()), "wire to signaling"),
        (Port::Tcp(connect.port()), "wire to router"),
        (Port::Udp(relay.port()), "wire to relay"),
    ];
    let wire = Wire::listen(ports.map(|(port, name)| (port, name.to_owned())).into());
    assert!(wire.is_some() || !rustix::process::geteuid().is_root(), "root may listen");
    detour::udp(packets, relay, of_packets);
    let (requests, said) = detour::tcp(api, of_requests).await;
    let (connections, _) = detour::tcp(connect, of_connections).await;

    let (alice, bob) = (drawn("canary-alice-"), drawn("canary-bob-"));
    let (dev_a, dev_b) = (drawn("dev_canary_a"), drawn("dev_canary_b"));
    let device = async |account: &str, device: &str| {
        let mut setup = world.setup_at(&format!("http://{requests}"), account, device);
        setup.connect = format!("ws://{connections}/v1/connect");
        setup.tokens = Arc::new(DevTokens::new(&setup.api, party(account, device)).unwrap());
        let device = Device::start(setup).await.unwrap();
        soon(device.ready()).await;
        device
    };
    let (a, b) = (device(&alice, &dev_a).await, device(&bob, &dev_b).await);
    let missed = a.place(&b.party().account, Media::Audio).await.unwrap();
    missed.hang_up().await.unwrap();
    let call = a.place(&b.party().account, Media::Video).await.unwrap();
    let other = loop {
        let incoming = soon(b.incoming()).await.unwrap();
        if incoming.id() == call.id() {
            break incoming.accept().await.unwrap();
        }
    };
    // An SDP, more or less.
    let (canary, at) = (drawn("canary-"), format!("192.0.2.77 {}", 40_000 + u32::from(random[0])));
    let sdp = format!("v=0 o=- {canary} 2 IN IP4 a=ice-pwd:{canary} a=candidate:1 1 udp 1 {at} typ host");
    let (sent, received) = open(&call, &other).await;
    pass(&sent, &received, "hello").await;
    call.signal(sdp.as_bytes()).await.unwrap();
    assert_eq!(soon(other.message()).await.unwrap(), sdp.as_bytes());
    // One that nobody takes: it stays in the store.
    call.signal(sdp.as_bytes()).await.unwrap();

    let mut words = Words::default();
    words.add("a name of ours", b"tandem_panics_total");
    words.add("a name of ours", b"tandem::role");
    for said in [&canary, &at] {
        words.add("what devices say", said.as_bytes());
    }
    let mut kept = secrets(&world.kept(&alice, &dev_a));
    kept.extend(secrets(&world.kept(&bob, &dev_b)));
    assert!(kept.len() >= 2 * 3 + 2 * 2, "{}: sign, agree, prekey, and the session's two", kept.len());
    kept.iter().for_each(|secret| words.add("what devices seal with", secret));
    for name in [&alice, &bob, &dev_a, &dev_b] {
        words.add("a name", name.as_bytes());
    }
    let (tokens, users, passwords) = (said.field("token"), said.field("username"), said.field("credential"));
    assert!(
        tokens.len() >= 2 && users.len() >= 3 && passwords.len() == users.len(),
        "{} {}",
        tokens.len(),
        users.len()
    );
    for token in &tokens {
        // Whole, and its claims and its signature by themselves. Its first part is the same in every token.
        [&token[..]].into_iter().chain(token.split('.').skip(1)).for_each(|part| words.add("a token", part.as_bytes()));
    }
    for user in &users {
        // Its last part names the leg.
        for part in [user, user.rsplit('.').next().unwrap()] {
            words.add("the user name of a ticket", part.as_bytes());
        }
    }
    passwords.iter().for_each(|password| words.add("the password of a ticket", password.as_bytes()));
    let sources = [
        ("where requests come from", of_requests),
        ("where a connection comes from", of_connections),
        ("where packets come from", of_packets),
    ];
    for (kind, source) in sources {
        words.add(kind, source.to_string().as_bytes());
    }
    assert_eq!(words.kinds().len(), KINDS.len());

    let mut search = Search::of(words);
    let data = world.folder.path().join("data");
    search.files("kept", &data);
    for (role, admin) in ROLES.iter().zip(&admins) {
        search.text(&format!("metrics of {role}"), get(*admin, "/metrics").body.as_bytes());
    }
    for (name, pid) in world.pids() {
        search.memory(&format!("memory of {name}"), pid);
    }
    call.hang_up().await.unwrap();
    soon(other.ended()).await;
    drop((a, b, sent, received));
    if let Some(heard) = wire.map(Wire::stop) {
        heard.texts().for_each(|(place, text)| search.text(place, text));
        assert_eq!(heard.gaps, 0, "what was not heard was not searched");
        for (wire, source) in
            [("wire to signaling", of_requests), ("wire to router", of_connections), ("wire to relay", of_packets)]
        {
            assert!(heard.clients[wire].iter().any(|client| client.ip() == source), "{wire}");
        }
    }
    // What is said and kept at the end, too.
    assert!(world.end().success());
    search.files("log", &world.folder.path().join("log"));
    search.files("kept", &data);
    assert!(ROLES.iter().all(|role| search.looked[&format!("memory of {role}")] > 1_000_000), "{:?}", search.looked);
    assert!(search.looked["log"] > 100_000, "{:?}", search.looked);
    hold(&search.found, &search.looked);
}

/// A handler that says all that it was sent in its panic.
async fn worst(request: axum::extract::Request) -> StatusCode {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1_024).await.unwrap();
    assert!(body.is_empty(), "{head:?} {body:?}");
    StatusCode::OK
}

/// In a process of its own, as every process of ours begins: what it says when something panics over a request.
fn panics(format: Format) {
    log::init(format, &"trace".parse().unwrap()).unwrap();
    log::install_panic_hook();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().route("/{any}", post(worst));
        tokio::spawn(serve(listener, router, std::future::pending(), Limits::new(10, 1_024)));
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let request = "POST /canary?canary HTTP/1.1\r\nhost: a\r\nauthorization: Bearer canary\r\ncontent-length: 6\r\n\r\ncanary";
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        });
        assert_eq!(asked.await.unwrap(), "", "it costs its connection");
        let canary = String::from("canary");
        assert!(tokio::spawn(async move { panic!("{canary}") }).await.is_err());
    });
    let number = || "canary".parse::<u32>().map_err(|_| "canary").unwrap();
    assert!(std::thread::spawn(number).join().is_err());
}

#[test]
fn what_a_panic_says_of_a_request_is_not_logged_and_that_it_happened_is() {
    const AS: &str = "PANICS_IN_FORMAT";
    match std::env::var(AS).as_deref() {
        Ok("json") => return panics(Format::Json),
        Ok(_) => return panics(Format::Text),
        Err(_) => {}
    }
    for format in ["text", "json"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_a_panic_says_of_a_request_is_not_logged_and_that_it_happened_is", "--nocapture"])
            .env(AS, format)
            .env("RUST_BACKTRACE", "full")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [child.stdout, child.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(child.status.success(), "{said}");
        assert_eq!(said.matches("panicked").count(), 3, "{said}");
        assert!(said.contains("tests/canaries.rs"), "{said}");
        assert!(!said.replace("tests/canaries.rs", "").contains("canary"), "{said}");
    }
}
