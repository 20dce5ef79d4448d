//! A load balancer as a process, beside a state server: when it is ready, where it says that packets go, how it is replaced and
//! how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{Running, SECRETS, finished, free_tcp, free_udp, get, lb_toml, state_toml, tandem, until};
use tandem_core::topology::{Incarnation, Member, Standing, Table};
use tandem_state_client::{Change, Command, Key, Op, RemoteStore, Revision, Store as _};
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::redact::Secret;
use tandem_wire::stun::{Class, Method, Writer, attr};
use tandem_wire::ticket::TicketKey;
use tandem_wire::tunnel::{Cookie, Head, Probe};
use tandem_wire::units::Wall;

const POP: PopId = PopId(1);

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn role(name: &str, config: &Path, more: &[&str]) -> Running {
    let mut arguments = vec![name, "--config", config.to_str().unwrap()];
    arguments.extend(more);
    Running::start(tandem(&arguments), None)
}

/// Two relays, of which one echoes probes and answers each packet with its own bytes.
fn relays() -> (Table, Arc<AtomicBool>) {
    let stop = Arc::new(AtomicBool::new(false));
    let lives = UdpSocket::bind("127.0.0.1:0").unwrap();
    lives.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    let member = |address| Member::starting(Incarnation(7), Cookie::from_bits(77), address);
    let rows = [(1, lives.local_addr().unwrap()), (2, free_udp())]
        .map(|(id, address)| member(address).row(RelayId(id), Standing::Serving));
    let stopped = Arc::clone(&stop);
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while !stopped.load(Ordering::SeqCst) {
            let Ok((len, from)) = lives.recv_from(&mut buffer) else { continue };
            let (head, rest) = Head::read(&buffer[..len]).unwrap();
            let rest = match Probe::read(rest).filter(|_| head.probe) {
                Some(probe) => Probe { incarnation: 7, load: 12, ..probe }.to_bytes().to_vec(),
                None => rest.to_vec(),
            };
            let head = Head { back: true, acting: false, ..head };
            let _ = lives.send_to(&[&head.to_bytes()[..], &rest].concat(), from);
        }
    });
    (Table::new(3, rows.to_vec()), stop)
}

fn write_table(state: SocketAddr, table: &Table) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = RemoteStore::new(&format!("http://{state}"), &Secret::new(SECRETS[0].as_bytes().to_vec())).unwrap();
        let change = Change::Put(table.to_json().unwrap());
        let op = Op { key: Key::Table(POP), based_on: Revision::ZERO, change };
        store.commit(Command { ops: vec![op] }).await.unwrap();
    });
}

fn ticket(call: CallId) -> Vec<u8> {
    let key = TicketKey::new(0, &Secret::new(vec![7; 32])).unwrap();
    let name = key.mint(call, LegId::new(1).unwrap(), Wall::from_secs(9));
    let mut buffer = [0; 200];
    let writer = Writer::new(&mut buffer, Class::Request, Method::Refresh, [7; 12]);
    let len = writer.attribute(attr::USERNAME, name.as_bytes()).finish().unwrap();
    buffer[..len].to_vec()
}

/// Sends until an answer comes.
fn asks(client: &UdpSocket, packet: &[u8]) {
    until("an answer", || {
        client.send(packet).unwrap();
        client.recv(&mut [0; 200]).ok()
    });
}

#[test]
fn a_load_balancer_is_ready_with_its_table_tells_where_packets_go_and_hands_its_port_over() {
    let folder = tempfile::tempdir().unwrap();
    let (turn, admin, state) = (free_udp(), free_tcp(), free_tcp());
    let config = written(folder.path(), "lb.toml", &lb_toml(turn, admin, state));
    let mut lb = role("lb", &config, &[]);
    until("its admin port", || std::net::TcpStream::connect(admin).ok());
    assert_eq!((get(admin, "/healthz").status, get(admin, "/readyz").status), (200, 503));
    assert!(UdpSocket::bind(turn).is_ok(), "it takes no packets that it would waste");

    let data = folder.path().join("state.redb");
    let mut server = role("state-server", &written(folder.path(), "state.toml", &state_toml(state, &data)), &[]);
    server.ready();
    let (table, stop) = relays();
    write_table(state, &table);
    let ready = lb.ready();
    assert_eq!((ready["role"].as_str(), ready["turn"].as_str()), (Some("lb"), Some(turn.to_string().as_str())));
    assert_eq!(get(admin, "/readyz").status, 200);

    // One relay echoes, and nobody is at the other's address: everything goes to the first.
    let down = until("the second relay is down", || {
        let answer = get(admin, "/where?bucket=0abc").json();
        (answer["relays"][1]["state"] == "down (refused)" && answer["relays"][0]["state"] == "up").then_some(answer)
    });
    assert_eq!((&down["epoch"], &down["now"], &down["bucket"]), (&3.into(), &1.into(), &"0abc".into()));
    assert_eq!(down["relays"][0]["load_permille"], 12);
    let of_second = (0..).find(|bucket| get(admin, &format!("/where?bucket={bucket:04x}")).json()["primary"] == 2);
    let call = CallId::new(POP, BucketId(of_second.unwrap()), 9);
    let asked = finished(tandem(&["admin", "where", "--call", &call.to_string(), "--lb", &format!("http://{admin}")]));
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    let told: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!((&told["primary"], &told["now"], &told["acting"]), (&2.into(), &1.into(), &true.into()));
    assert_eq!(told, get(admin, &format!("/where?call={call}")).json());
    for bad in ["/where", "/where?bucket=abc", "/where?call=call_1", &format!("/where?bucket=0abc&call={call}")] {
        assert_eq!(get(admin, bad).status, 400, "{bad}");
    }

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    client.connect(turn).unwrap();
    asks(&client, &ticket(call));
    until("it is counted", || {
        let scraped = get(admin, "/metrics").body;
        let lines = ["tandem_lb_failovers_total{cause=\"refused\"} 1\n", "tandem_lb_relays{state=\"down\"} 1\n"];
        (lines.iter().all(|line| scraped.contains(line)) && !scraped.contains("tandem_lb_acting_packets_total 0\n"))
            .then_some(())
    });

    // The next one has the same port, and the first one goes.
    let other = free_tcp();
    let mut next = role("lb", &config, &["--set", &format!("admin=0.0.0.0:{}", other.port())]);
    next.ready();
    assert_eq!(get(other, "/where?bucket=0abc").status, 404, "an admin port on a network does not tell");
    assert_eq!(lb.end().code(), Some(0));
    asks(&client, &ticket(call));
    // Its store is away, and it goes on.
    assert_eq!(server.end().code(), Some(0));
    asks(&client, &ticket(call));
    assert_eq!((get(other, "/readyz").status, next.end().code()), (200, Some(0)));
    assert!(UdpSocket::bind(turn).is_ok(), "its port is free again");
    stop.store(true, Ordering::SeqCst);
}

#[test]
fn a_load_balancer_with_a_bad_config_ends_with_64_and_one_that_cannot_listen_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let (turn, admin, state) = (UdpSocket::bind("127.0.0.1:0").unwrap(), free_tcp(), free_tcp());
    let config = written(folder.path(), "lb.toml", &lb_toml(turn.local_addr().unwrap(), admin, state));
    for (setting, key) in [("listen=[]", "listen"), ("lisent=1", "lisent"), ("state.secret=short", "state.secret")] {
        let output = finished(tandem(&["lb", "--config", config.to_str().unwrap(), "--set", setting]));
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("tandem: config: {key}")), "{said}");
    }
    let data = folder.path().join("state.redb");
    let mut server = role("state-server", &written(folder.path(), "state.toml", &state_toml(state, &data)), &[]);
    server.ready();
    let (table, stop) = relays();
    write_table(state, &table);
    let output = finished(tandem(&["lb", "--config", config.to_str().unwrap()]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot be bound"), "somebody else has the port");
    stop.store(true, Ordering::SeqCst);
    // A question to nobody.
    let output = finished(tandem(&["admin", "where", "--bucket", "0abc", "--lb", &format!("http://{admin}")]));
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{output:?}");
}
