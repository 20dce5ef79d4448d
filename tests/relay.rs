//! A whole relay over real sockets and a real store: it is replaced under running calls, and stock clients use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "support/turn.rs"]
mod turn;

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tandem_core::topology::{Call, CallCommand, CallKind};
use tandem_net::clock;
use tandem_relay::{Config, Entrance, Relay};
use tandem_state_client::{Change, Command, Key, Op, Revision, Store};
use tandem_state_server::StateServer;
use tandem_wire::id::{BucketId, CallId, PopId, RelayId, VirtualAddr};
use tandem_wire::redact::Secret;
use tandem_wire::stun::{Class, Message, Method, Writer, attr};
use turn::{Client, REALM, Said};

const POP: PopId = PopId(1);

fn secret(byte: u8) -> Secret {
    Secret::new(vec![byte; 32])
}

/// A store, and the relay that runs on it.
struct Site {
    _folder: tempfile::TempDir,
    store: Arc<StateServer>,
    config: Config,
    relay: Option<Relay>,
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = StateServer::open(&folder.path().join("state.redb"), POP, || clock::now().wall).unwrap();
        let config = Config {
            entrance: Entrance::Clients("127.0.0.1:0".parse().unwrap()),
            pop: POP,
            relay: RelayId(1),
            realm: REALM.to_owned(),
            pop_secret: secret(1),
            ticket_keys: vec![(0, secret(2))],
        };
        let mut site = Self { _folder: folder, store, config, relay: None };
        site.start_relay().await;
        site
    }

    fn address(&self) -> SocketAddr {
        self.relay.as_ref().expect("it runs").local_addr()
    }

    async fn start_relay(&mut self) {
        let relay = Relay::start(&self.config, Arc::clone(&self.store) as Arc<dyn Store>).unwrap();
        assert!(relay.ready().await);
        self.config.entrance = Entrance::Clients(relay.local_addr());
        self.relay = Some(relay);
    }

    /// Ends the relay, with everything that it had in memory, and starts another on the same port.
    async fn replace_relay(&mut self) {
        self.relay = None;
        self.start_relay().await;
    }

    async fn call(&self, legs: u16, kind: CallKind) -> CallId {
        let id = CallId::new(POP, BucketId(getrandom::u32().unwrap() as u16), u128::from(getrandom::u64().unwrap()));
        let record = Call::apply(None, CallCommand::Create { id, kind, legs }, clock::now()).unwrap();
        let op = Op { key: Key::Call(id), based_on: Revision::ZERO, change: Change::Put(record.to_json().unwrap()) };
        self.store.commit(Command { ops: vec![op] }).await.unwrap();
        id
    }

    fn client(&self, call: CallId, leg: u16) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address()).unwrap();
        Client::new(socket, call, leg, &secret(2))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_replaced_goes_on_without_a_word_from_its_clients() {
    let mut site = Site::start().await;
    let call = site.call(2, CallKind::OneToOne).await;
    let (mut alice, mut bob) = (site.client(call, 1), site.client(call, 2));
    let (at_alice, at_bob) = (alice.allocate(), bob.allocate());
    assert_eq!((at_alice.to_string(), at_bob.to_string()), ("203.0.113.1:1025".into(), "203.0.113.1:1026".into()));
    assert!(matches!(alice.bind(0x4001, at_bob), Said::Yes(_)));
    alice.send(0x4001, b"before");
    // Bob has no channel: it comes as a Data indication.
    let packet = bob.receive();
    let message = Message::parse(&packet).unwrap();
    assert_eq!((message.method, message.attributes.peer), (Method::Data, Some(at_alice)));
    assert!(matches!(bob.bind(0x4777, at_alice), Said::Yes(_)));
    for round in 0..5_u8 {
        site.replace_relay().await;
        alice.send(0x4001, &[round; 100]);
        assert_eq!(bob.receive(), [&[0x47, 0x77, 0, 100][..], &[round; 100]].concat());
        bob.send(0x4777, &[round; 7]);
        assert_eq!(alice.receive(), [&[0x40, 0x01, 0, 7][..], &[round; 7]].concat());
    }
    // Its old nonce is good at the successor, its allocation the same, and what it refreshes is there.
    let (nonce, requests) = (alice.nonce.clone(), alice.requests);
    assert_eq!(alice.allocate(), at_alice);
    assert!(matches!(alice.ask(Method::Refresh, |w| w), Said::Yes(_)));
    assert!(matches!(alice.bind(0x4001, at_bob), Said::Yes(_)));
    assert_eq!((alice.nonce, alice.requests), (nonce, requests + 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_store_was_emptied_does_not_go_on() {
    let mut site = Site::start().await;
    let call = site.call(2, CallKind::OneToOne).await;
    let (mut alice, mut bob) = (site.client(call, 1), site.client(call, 2));
    let (at_alice, at_bob) = (alice.allocate(), bob.allocate());
    assert!(matches!(alice.bind(0x4001, at_bob), Said::Yes(_)));
    assert!(matches!(bob.bind(0x4001, at_alice), Said::Yes(_)));
    let empty = Site::start().await;
    site.store = Arc::clone(&empty.store);
    site.replace_relay().await;
    alice.send(0x4001, b"anyone?");
    bob.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(bob.socket.recv(&mut [0; 100]).is_err(), "nothing may come through");
    assert_eq!(alice.ask(Method::Refresh, |w| w), Said::No(437));
    assert_eq!(alice.ask(Method::Allocate, |w| w.attribute(attr::REQUESTED_TRANSPORT, &[17, 0, 0, 0])), Said::No(403));
}

/// R01 to R08, R10, R13, U01: sockets that listen where a relay could be made to send. None of them hears anything.
#[tokio::test(flavor = "multi_thread")]
async fn no_peer_address_makes_the_relay_send_outside_the_call() {
    let site = Site::start().await;
    let call = site.call(2, CallKind::OneToOne).await;
    let (mut alice, mut bob) = (site.client(call, 1), site.client(call, 2));
    let (_, at_bob) = (alice.allocate(), bob.allocate());
    let canaries: Vec<UdpSocket> = ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0", "0.0.0.0:0"]
        .iter()
        .filter_map(|address| UdpSocket::bind(address).ok())
        .collect();
    assert!(canaries.len() >= 3);
    let mut channel = 0x5000;
    for canary in &canaries {
        canary.set_nonblocking(true).unwrap();
        let port = canary.local_addr().unwrap().port();
        for ip in [
            "127.0.0.1",
            "127.0.0.2",
            "127.255.255.254",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::127.0.0.1]",
            "[2002:7f00:1::]",
            "[64:ff9b::127.0.0.1]",
            "255.255.255.255",
            "224.0.0.1",
        ] {
            let peer: SocketAddr = format!("{ip}:{port}").parse().unwrap();
            channel += 1;
            assert_eq!(alice.bind(channel, peer), Said::No(403), "{peer}");
            assert_eq!(alice.ask(Method::CreatePermission, |w| w.address(attr::XOR_PEER_ADDRESS, peer)), Said::No(403));
            let mut packet = [0; 128];
            let len = Writer::new(&mut packet, Class::Indication, Method::Send, [7; 12])
                .address(attr::XOR_PEER_ADDRESS, peer)
                .attribute(attr::DATA, b"to the canary")
                .finish()
                .unwrap();
            alice.socket.send(&packet[..len]).unwrap();
            alice.send(channel, b"to the canary");
        }
    }
    // Inside the prefix where nobody is: yes, and nothing.
    let nobody = VirtualAddr { octet: 9, port: 1033 }.socket_addr().into();
    assert!(matches!(alice.bind(0x4009, nobody), Said::Yes(_)));
    alice.send(0x4009, b"to nobody");
    // What was sent before this has been decided by the time that this arrives.
    assert!(matches!(alice.bind(0x4001, at_bob), Said::Yes(_)));
    alice.send(0x4001, b"to bob");
    assert!(Message::parse(&bob.receive()).is_ok());
    for canary in &canaries {
        assert!(canary.recv(&mut [0; 100]).is_err(), "a canary heard something");
    }
}

/// coturn's own client, two allocations of one leg that send to each other.
#[tokio::test(flavor = "multi_thread")]
async fn coturns_client_exchanges_data_between_two_allocations_of_one_leg() {
    let site = Site::start().await;
    let port = site.address().port().to_string();
    // Options, and how many allocations send 20 messages each. Side by side: each paces itself over some seconds.
    let runs = [(&["-c"][..], 2), (&["-c", "-s"], 2), (&["-c", "-D"], 2), (&["-c", "-m", "4"], 4), (&["-c", "-X"], 2)];
    let mut running = Vec::new();
    for (options, allocations) in runs {
        let Client { username, password, .. } = site.client(site.call(2, CallKind::OneToOne).await, 1);
        let mut client = Process::new("turnutils_uclient");
        client.args(["-y", "-n", "20", "-l", "160", "-u", &username, "-w", &password, "-p", &port]);
        client.args(options).arg("127.0.0.1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let client = client.spawn().expect("turnutils_uclient (Debian: coturn) is installed by cargo xtask test");
        running.push((options, allocations, client));
    }
    for (options, allocations, client) in running {
        let output = tokio::task::spawn_blocking(|| client.wait_with_output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{options:?}: {text}");
        assert_eq!(numbers(&text, "tot_recv_msgs=").last(), Some(&(20 * allocations)), "{options:?}: {text}");
        assert!(text.contains("Total lost packets 0 "), "{options:?}: {text}");
    }
}

/// The numbers that stand behind `name` in the client's report.
fn numbers(text: &str, name: &str) -> Vec<u32> {
    text.split(name).skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
}
