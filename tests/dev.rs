//! `tandem dev` as a process, with its children: what it says, what its endpoints do, and what is left when it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Running, ask, finished, free_tcp, get, in_time, post, runs, tandem, until};
use tandem_wire::stun::{Class, Message, Method, Writer, attr};
use tandem_wire::ticket::long_term_key;

struct Dev {
    folder: tempfile::TempDir,
    process: Running,
    said: Value,
    http: SocketAddr,
}

impl Dev {
    fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut words = vec!["dev", "--json", "--http", "127.0.0.1:0", "--turn", "127.0.0.1:0", "--data-dir"];
        words.push(data.to_str().unwrap());
        words.extend(more);
        let mut process = Running::start(tandem(&words), Some(&folder.path().join("log")));
        let line = process.line();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let page = said["page"].as_str().unwrap();
        let http = page.strip_prefix("http://").unwrap().strip_suffix('/').unwrap().parse().unwrap();
        Self { folder, process, said, http }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn child(&self, name: &str) -> Value {
        let processes = get(self.http, "/v1/dev/processes").json();
        let items = processes["items"].as_array().unwrap();
        items.iter().find(|item| item["name"] == name).unwrap().clone()
    }

    fn pid(&self, name: &str) -> u32 {
        self.child(name)["pid"].as_u64().unwrap().try_into().unwrap()
    }

    fn order(&self, name: &str, verb: &str, body: &Value) -> Value {
        let answer = post(self.http, &format!("/v1/dev/processes/{name}/{verb}"), body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The child that took the place of the one with this pid, once it is ready.
    fn replaced(&self, name: &str, pid: u32) -> Value {
        until(&format!("{name} is replaced"), || {
            let child = self.child(name);
            (child["state"] == "ready" && child["pid"] != pid).then_some(child)
        })
    }

    fn join(&self, session: &str) -> Value {
        let answer = post(self.http, "/v1/dev/demo/join", &json!({ "session": session }));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    fn turn(&self) -> SocketAddr {
        self.said["turn"].as_str().unwrap().parse().unwrap()
    }
}

/// A TURN client at `from`; what answers its Allocate: a success (true), or a refusal. `None`: nothing did.
fn allocate(turn: SocketAddr, from: &str, server: &Value) -> Option<bool> {
    let socket = UdpSocket::bind(from).unwrap();
    socket.connect(turn).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (username, credential) = (server["username"].as_str().unwrap(), server["credential"].as_str().unwrap());
    let key = long_term_key(username.as_bytes(), b"tndm", credential.as_bytes());
    let mut nonce: Vec<u8> = Vec::new();
    for attempt in 1..=3_u8 {
        let mut request = [0; 512];
        let writer = Writer::new(&mut request, Class::Request, Method::Allocate, [attempt; 12]);
        let mut writer = writer.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        if !nonce.is_empty() {
            writer = writer
                .attribute(attr::USERNAME, username.as_bytes())
                .attribute(attr::REALM, b"tndm")
                .attribute(attr::NONCE, &nonce)
                .integrity(&key);
        }
        let len = writer.finish().unwrap();
        socket.send(&request[..len]).unwrap();
        let mut buffer = [0; 2_048];
        let len = socket.recv(&mut buffer).ok()?;
        let answer = Message::parse(&buffer[..len]).unwrap();
        if answer.class == Class::Success {
            return Some(true);
        }
        match answer.attributes.nonce {
            Some(fresh) => nonce = fresh.to_vec(),
            None => return Some(false),
        }
    }
    Some(false)
}

#[test]
fn one_line_of_json_says_where_everything_is_soon_and_once_it_is_there() {
    // Within a second, also on a machine that has other things to do at times.
    let mut slow = Vec::new();
    let dev = loop {
        let began = SystemTime::now();
        let dev = Dev::start(&[]);
        let took = began.elapsed().unwrap();
        if took < Duration::from_secs(1) {
            break dev;
        }
        slow.push(took);
        assert!(slow.len() < 5, "{slow:?}");
    };
    let processes = dev.said["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 4);
    for process in processes {
        assert_eq!((process["state"].as_str(), process["starts"].as_u64()), (Some("ready"), Some(1)), "{process}");
        assert!(process["outage_ms"].is_null() && runs(process["pid"].as_u64().unwrap().try_into().unwrap()));
    }
    let legs = dev.said["demo"]["legs"].as_array().unwrap();
    assert_eq!(legs.iter().map(|leg| leg["leg"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    for leg in legs {
        let server = &leg["ice_servers"][0];
        assert_eq!(server["urls"][0], format!("turn:{}?transport=udp", dev.turn()));
        assert_eq!(allocate(dev.turn(), "127.0.0.1:0", server), Some(true));
    }
    assert_eq!(get(dev.http, "/").status, 200);
}

#[test]
fn tabs_meet_two_in_a_call_and_a_tab_that_comes_back_has_its_leg() {
    let dev = Dev::start(&[]);
    let places: Vec<Value> = ["a", "b", "a", "c", "d", "b"].iter().map(|session| dev.join(session)).collect();
    let place = |n: usize| (places[n]["call_id"].as_str().unwrap(), places[n]["leg"].as_u64().unwrap());
    let (first, second) = (place(0).0, place(3).0);
    assert_ne!(first, second);
    assert_eq!([place(1), place(2), place(5)], [(first, 2), (first, 1), (first, 2)]);
    assert_eq!([place(3), place(4)], [(second, 1), (second, 2)]);
    // A call made for other clients is nobody's to join, and does not part two tabs.
    let third = dev.join("e");
    let made = post(dev.http, "/v1/dev/demo", &json!({}));
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")));
    let met = dev.join("f");
    assert_eq!((&met["call_id"], met["leg"].as_u64()), (&third["call_id"], Some(2)));
    for place in &places {
        assert_eq!(allocate(dev.turn(), "127.0.0.1:0", &place["ice_servers"][0]), Some(true));
    }
    for (body, code) in [
        (json!({}), "missing_field"),
        (json!({ "session": 7 }), "wrong_type"),
        (json!({ "session": "" }), "bad_session"),
        (json!({ "session": "x".repeat(65) }), "bad_session"),
        (json!({ "session": "a", "more": 1 }), "unknown_field"),
    ] {
        let answer = post(dev.http, "/v1/dev/demo/join", &body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some(code)), "{answer:?}");
    }
}

#[test]
fn what_one_leg_says_the_other_hears_at_once_and_in_order() {
    let dev = Dev::start(&[]);
    let call = dev.join("a")["call_id"].as_str().unwrap().to_owned();
    let path = |leg: u8| format!("/v1/dev/demo/{call}/legs/{leg}/signal");
    let (http, waiting) = (dev.http, format!("{}?after=0&wait_ms=20000", path(2)));
    let heard = std::thread::spawn(move || get(http, &waiting).json());
    assert_eq!(post(dev.http, &path(1), &json!({ "sdp": "first" })).json(), json!({ "seq": 1 }));
    let heard = in_time(|| heard.join().unwrap());
    assert_eq!(heard, json!({ "items": [{ "seq": 1, "message": { "sdp": "first" } }] }));
    assert_eq!(post(dev.http, &path(1), &json!({ "sdp": "second" })).json()["seq"], 2);
    let answer = get(dev.http, &format!("{}?after=1&wait_ms=0", path(2))).json();
    assert_eq!(answer["items"][0]["message"]["sdp"], "second");
    assert_eq!(get(dev.http, &format!("{}?after=2&wait_ms=10", path(2))).json(), json!({ "items": [] }));
    assert_eq!(get(dev.http, &path(1)).json(), json!({ "items": [] }));

    let large = json!({ "sdp": "x".repeat(64 * 1024) });
    let other = dev.said["demo"]["call_id"].as_str().unwrap().replace("call_", "call_7");
    for (answer, status, code) in [
        (post(dev.http, &path(1), &large), 413, "body_too_large"),
        (post(dev.http, &path(1), &json!([1])), 400, "wrong_type"),
        (ask(dev.http, "POST", &path(1), "content-type: application/json\r\n", "{\"a\":"), 400, "malformed_json"),
        (ask(dev.http, "POST", &path(1), "content-type: text/plain\r\n", "{}"), 415, "unsupported_media_type"),
        (post(dev.http, &path(3), &json!({})), 404, "not_found"),
        (get(dev.http, &path(0)), 404, "not_found"),
        (get(dev.http, &format!("{}?after=-1", path(1))), 400, "bad_query"),
        (get(dev.http, &format!("/v1/dev/demo/{other}/legs/1/signal")), 404, "not_found"),
        (ask(dev.http, "DELETE", &path(1), "", ""), 405, "method_not_allowed"),
    ] {
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
}

#[test]
fn a_killed_relay_is_replaced_by_another_process_on_the_same_port() {
    let dev = Dev::start(&[]);
    let server = dev.join("a")["ice_servers"][0].clone();
    for starts in 2..=4 {
        let pid = dev.pid("relay");
        assert_eq!(dev.order("relay", "kill", &json!({})), json!({ "pid": pid }));
        let relay = dev.replaced("relay", pid);
        assert_eq!(relay["starts"], starts);
        let (down, ready) = (relay["down_at_ms"].as_u64().unwrap(), relay["ready_at_ms"].as_u64().unwrap());
        assert_eq!(relay["outage_ms"].as_u64().unwrap(), ready - down);
        assert!(!runs(pid));
        let admin = relay["serves"]["admin"].as_str().unwrap().parse().unwrap();
        assert_eq!(get(admin, "/healthz").status, 200, "it serves where it says");
        assert_eq!(allocate(dev.turn(), "127.0.0.1:0", &server), Some(true));
    }
    // Killed by somebody else, it comes back too.
    let pid = dev.pid("relay");
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(dev.replaced("relay", pid)["starts"], 5);
    assert_eq!(dev.child("state-server")["starts"], 1);
}

#[test]
fn a_killed_process_stays_away_as_long_as_it_was_told_to() {
    let dev = Dev::start(&[]);
    let pid = dev.pid("state-server");
    dev.order("state-server", "kill", &json!({ "restart_after_ms": 700 }));
    until("it is down", || (dev.child("state-server")["pid"].is_null()).then_some(()));
    assert_eq!(dev.child("state-server")["state"], "down");
    let answer = post(dev.http, "/v1/dev/demo/join", &json!({ "session": "a" }));
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["code"], "store_away");
    let answer = post(dev.http, "/v1/dev/processes/state-server/pause", &json!({}));
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("not_running")));
    let server = dev.replaced("state-server", pid);
    let outage = server["outage_ms"].as_u64().unwrap();
    assert!((700..5_000).contains(&outage), "{outage}");
    until("the store is back", || {
        (post(dev.http, "/v1/dev/demo/join", &json!({ "session": "a" })).status == 200).then_some(())
    });
    // One that is ordered again while it is down comes back by the later order.
    let pid = dev.pid("relay");
    dev.order("relay", "kill", &json!({ "restart_after_ms": 600_000 }));
    until("it is down", || (dev.child("relay")["pid"].is_null()).then_some(()));
    assert_eq!(dev.order("relay", "kill", &json!({})), json!({ "pid": null }));
    dev.replaced("relay", pid);
    let answer = post(dev.http, "/v1/dev/processes/relay/kill", &json!({ "restart_after_ms": 600_001 }));
    assert_eq!(answer.status, 400);
}

#[test]
fn calls_live_in_the_store_and_end_with_it() {
    let dev = Dev::start(&[]);
    let place = dev.join("a");
    let server = place["ice_servers"][0].clone();
    assert_eq!(allocate(dev.turn(), "127.0.0.1:0", &server), Some(true));

    let (relay, state_server) = (dev.pid("relay"), dev.pid("state-server"));
    assert_eq!(dev.order("all", "kill", &json!({})), json!({ "pid": relay }));
    let (relay, state_server) = (dev.replaced("relay", relay), dev.replaced("state-server", state_server));
    assert!(relay["started_at_ms"].as_u64() >= state_server["ready_at_ms"].as_u64(), "{relay} {state_server}");
    assert_eq!(allocate(dev.turn(), "127.0.0.1:0", &server), Some(true), "it was in the store");
    assert_eq!(dev.join("a")["call_id"], place["call_id"]);

    let relay = dev.pid("relay");
    dev.order("all", "kill", &json!({ "wipe": true }));
    dev.replaced("relay", relay);
    assert_eq!(allocate(dev.turn(), "127.0.0.1:0", &server), Some(false), "the store is another one");
    let fresh = dev.join("a");
    assert_ne!(fresh["call_id"], place["call_id"]);
    assert_eq!(allocate(dev.turn(), "127.0.0.1:0", &fresh["ice_servers"][0]), Some(true));
    let answer = post(dev.http, "/v1/dev/processes/relay/kill", &json!({ "wipe": true }));
    assert_eq!(answer.status, 400, "a relay has no store");
    assert_eq!(post(dev.http, "/v1/dev/processes/postgres/kill", &json!({})).status, 404);
}

#[test]
fn a_paused_process_is_down_until_it_is_resumed() {
    let dev = Dev::start(&[]);
    let server = dev.join("a")["ice_servers"][0].clone();
    let pid = dev.pid("relay");
    dev.order("relay", "pause", &json!({}));
    dev.order("relay", "pause", &json!({}));
    let relay = dev.child("relay");
    assert_eq!((relay["state"].as_str(), relay["pid"].as_u64()), (Some("paused"), Some(pid.into())));
    assert_eq!(allocate(dev.turn(), "127.0.0.1:0", &server), None);
    dev.order("relay", "resume", &json!({}));
    let relay = dev.child("relay");
    assert_eq!((relay["state"].as_str(), relay["pid"].as_u64()), (Some("ready"), Some(pid.into())));
    assert!(relay["outage_ms"].as_u64().unwrap() >= 2_000, "{relay}");
    assert_eq!(allocate(dev.turn(), "127.0.0.1:0", &server), Some(true));
    // A process that is stopped can be killed all the same.
    dev.order("relay", "pause", &json!({}));
    dev.order("relay", "kill", &json!({}));
    assert_eq!(dev.replaced("relay", pid)["starts"], 2);
}

#[test]
fn its_end_is_its_childrens_end_whether_it_was_asked_or_killed() {
    let mut dev = Dev::start(&[]);
    let pids = [dev.pid("relay"), dev.pid("state-server")];
    let call = dev.join("a")["call_id"].as_str().unwrap().to_owned();
    let (http, path) = (dev.http, format!("/v1/dev/demo/{call}/legs/1/signal?wait_ms=20000"));
    let waiting = std::thread::spawn(move || get(http, &path));
    dev.order("state-server", "pause", &json!({}));
    let began = SystemTime::now();
    assert_eq!(dev.process.end().code(), Some(0), "{}", dev.log());
    assert!(began.elapsed().unwrap() < Duration::from_secs(5), "neither a long poll nor a stopped child holds it up");
    assert!(pids.iter().all(|pid| !runs(*pid)));
    // It heard the end or was cut off; either way it did not hang.
    let _ = in_time(|| waiting.join());

    let mut dev = Dev::start(&[]);
    let pids = [dev.pid("relay"), dev.pid("state-server")];
    assert!(pids.iter().all(|pid| runs(*pid)));
    dev.process.killed();
    until("the children end", || pids.iter().all(|pid| !runs(*pid)).then_some(()));
}

#[test]
fn a_port_that_is_taken_ends_it_with_its_name_and_leaves_nobody_behind() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let turn = taken.local_addr().unwrap().to_string();
    let output = finished(tandem(&["dev", "--json", "--http", "127.0.0.1:0", "--turn", &turn, "--data-dir", data]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot be bound") && said.ends_with("tandem: the relay does not start\n"), "{said}");
    assert!(output.stdout.is_empty());
    // Its state server has let go of the store.
    let dev = Running::start(
        tandem(&["dev", "--json", "--http", "127.0.0.1:0", "--turn", "127.0.0.1:0", "--data-dir", data]),
        Some(&folder.path().join("log")),
    )
    .line();
    assert!(dev.starts_with('{'), "{dev}");
}

#[test]
fn the_page_is_served_with_a_strict_policy_and_only_to_this_machine() {
    let dev = Dev::start(&[]);
    let page = get(dev.http, "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    for path in ["/assets/none.js", "/../Cargo.toml", "/index.html/", "/v1/dev/none"] {
        assert_eq!(get(dev.http, path).status, 404, "{path}");
    }
    let pid = dev.pid("relay");
    for headers in ["origin: https://evil.example\r\n", "origin: null\r\n", "host: evil.example:8080\r\n"] {
        let headers = format!("{headers}content-type: application/json\r\n");
        let answer = ask(dev.http, "POST", "/v1/dev/processes/relay/kill", &headers, "{}");
        assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("foreign_origin")));
    }
    assert_eq!(dev.pid("relay"), pid);
}

/// Whether `line` holds `word`, and not as digits of a longer number: a port may also be part of a time of day.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let longer = |end: Option<char>, next: Option<char>| {
            end.is_some_and(|end| end.is_ascii_digit()) && next.is_some_and(|next| next.is_ascii_digit())
        };
        !longer(word.chars().next(), before) && !longer(word.chars().next_back(), after)
    })
}

/// Attack X02: a client at a canary address, tickets, SDP; then logs and metrics of every process are searched.
#[test]
fn no_address_ticket_call_or_signal_of_anyone_stands_in_logs_or_metrics() {
    const CANARY_ADDRESS: &str = "127.113.77.201";
    let (relay_admin, state_admin) = (free_tcp(), free_tcp());
    let settings: Vec<String> = [
        format!("relay.admin={relay_admin}"),
        format!("state-server.admin={state_admin}"),
        "relay.log.filter=trace".to_owned(),
        "state-server.log.filter=trace".to_owned(),
    ]
    .iter()
    .flat_map(|setting| ["--set".to_owned(), setting.clone()])
    .collect();
    let dev = Dev::start(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let place = dev.join("canary-session");
    let server = place["ice_servers"][0].clone();
    let from = format!("{CANARY_ADDRESS}:40321");
    assert_eq!(allocate(dev.turn(), &from, &server), Some(true));
    let call = place["call_id"].as_str().unwrap();
    let signal = format!("/v1/dev/demo/{call}/legs/1/signal");
    post(dev.http, &signal, &json!({ "sdp": "a=candidate:canary-sdp" }));
    post(dev.http, &signal, &json!(["canary-sdp"]));
    get(dev.http, &format!("{signal}?canary-query=1"));
    // A replacement restores the record that holds the address; a store that is away and back adds its own words.
    let pid = dev.pid("relay");
    dev.order("relay", "kill", &json!({}));
    dev.replaced("relay", pid);
    let pid = dev.pid("state-server");
    dev.order("state-server", "kill", &json!({ "restart_after_ms": 300 }));
    assert_eq!(allocate(dev.turn(), &from, &server), Some(true), "its allocation is in memory");
    dev.replaced("state-server", pid);
    until("the allocation is counted", || {
        get(relay_admin, "/metrics").body.contains("\ntandem_relay_allocations 1\n").then_some(())
    });

    let config = |name: &str| -> toml::Table {
        let path: PathBuf = dev.folder.path().join("data").join(name);
        std::fs::read_to_string(path).unwrap().parse().unwrap()
    };
    let relay = config("relay.toml");
    let mut canaries = vec![CANARY_ADDRESS, "40321", call, "canary-s", "canary-q"];
    canaries.extend([server["username"].as_str().unwrap(), server["credential"].as_str().unwrap()]);
    canaries.extend([relay["pop_secret"].as_str().unwrap(), relay["state"]["secret"].as_str().unwrap()]);
    canaries.push(relay["ticket_keys"][0]["secret"].as_str().unwrap());
    // On the wire to the store its secret stands in hexadecimal.
    let secret = relay["state"]["secret"].as_str().unwrap();
    let in_hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    canaries.push(&in_hex);
    // The last part of a ticket is what names its leg.
    canaries.push(server["username"].as_str().unwrap().rsplit('.').next().unwrap());
    let shown = [dev.log(), get(relay_admin, "/metrics").body, get(state_admin, "/metrics").body];
    for (text, at_least) in shown.iter().zip([1_000, 1_000, 500]) {
        assert!(text.len() > at_least, "{text}");
        for canary in &canaries {
            // Never with the canary in the message: it might be a secret.
            let line = text.lines().find(|line| has_word(line, canary));
            assert!(line.is_none(), "{:?}", line.map(|line| line.replace(canary, "<canary>")));
        }
    }
}

/// Attacks X02 and M11: a whole call between canary accounts, with every process at its most talkative.
#[test]
fn no_account_device_token_or_sealed_word_stands_in_logs_or_metrics_of_any_process() {
    let roles = ["state-server", "relay", "signaling", "router"];
    let admins: Vec<SocketAddr> = roles.iter().map(|_| free_tcp()).collect();
    let settings: Vec<String> = roles
        .iter()
        .zip(&admins)
        .flat_map(|(role, admin)| [format!("{role}.admin={admin}"), format!("{role}.log.filter=trace")])
        .flat_map(|setting| ["--set".to_owned(), setting])
        .collect();
    let dev = Dev::start(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let address = |name: &str| -> SocketAddr {
        let url = dev.said[name].as_str().unwrap();
        url.split('/').nth(2).unwrap().parse().unwrap()
    };
    let (api, connect) = (address("api"), address("connect"));
    let mut tokens = Vec::new();
    for (account, device) in [("canary.caller", "dev_canary1"), ("canary.callee", "dev_canary2")] {
        let minted = post(api, "/v1/dev/tokens", &json!({ "account": account, "device": device }));
        let token = minted.json()["token"].as_str().unwrap().to_owned();
        let (key, signature) = ("QUNBTkFSWS1LRVktQUNBTkFSWS1LRVktQUNBTkFSWS0=", "Q".repeat(86) + "==");
        let body = json!({
            "identity": { "sign": key, "agree": key }, "push_token": "canary-push",
            "signed_prekey": { "id": 1, "key": key, "signature": signature },
        });
        let headers = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
        let answer = ask(api, "PUT", &format!("/v1/devices/{device}"), &headers, &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        tokens.push((token, headers));
    }
    // The callee's socket, for as long as the call lasts.
    let mut socket = TcpStream::connect(connect).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let upgrade = format!(
        "GET /v1/connect HTTP/1.1\r\nhost: {connect}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: tandem.v1, bearer.{}\r\n\r\n",
        tokens[1].0
    );
    socket.write_all(upgrade.as_bytes()).unwrap();
    let sealed = "Y2FuYXJ5LXNlYWxlZC1vZmZlcg==";
    let body = json!({
        "to": ["canary.callee"], "kind": "one_to_one", "media": "audio",
        "sealed": { "dev_canary2": sealed }, "missed": { "dev_canary2": sealed },
    });
    let placed = ask(api, "POST", "/v1/calls", &tokens[0].1, &body.to_string());
    assert_eq!(placed.status, 201, "{}", placed.body);
    let (call, ticket) = (placed.json()["call_id"].clone(), placed.json()["ice_servers"][0].clone());
    let call = call.as_str().unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("call.offer") {
        let mut buffer = [0; 4_096];
        let read = socket.read(&mut buffer).unwrap();
        assert!(read > 0, "the socket was closed");
        heard.extend_from_slice(&buffer[..read]);
    }
    for (device, verb, body) in [
        (1, "ringing", json!({})),
        (1, "accept", json!({ "sealed": sealed })),
        (0, "signal", json!({ "sealed": { "dev_canary2": sealed } })),
        (0, "signal", json!({ "canary-field": "canary-value" })),
        (0, "end", json!({})),
        (0, "accept", json!({ "sealed": sealed })),
    ] {
        ask(api, "POST", &format!("/v1/calls/{call}/{verb}"), &tokens[device].1, &body.to_string());
    }
    ask(api, "GET", "/v1/relays?canary-query", &format!("authorization: Bearer {}x\r\n", tokens[0].0), "");
    ask(api, "DELETE", "/v1/devices/dev_canary2", &tokens[1].1, "");

    let mut canaries = vec!["canary", "QUNBTkFSWS1LRVkt", sealed, call];
    canaries.extend([ticket["username"].as_str().unwrap(), ticket["credential"].as_str().unwrap()]);
    canaries.extend(tokens.iter().map(|(token, _)| token.as_str()));
    let mut shown = vec![dev.log()];
    shown.extend(admins.iter().map(|admin| get(*admin, "/metrics").body));
    for text in &shown {
        assert!(text.len() > 500, "{text}");
        for canary in &canaries {
            let line = text.lines().find(|line| line.contains(canary));
            assert!(line.is_none(), "{:?}", line.map(|line| line.replace(canary, "<canary>")));
        }
    }
}
