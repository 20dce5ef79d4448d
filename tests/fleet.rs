//! A whole PoP on etcd, and calls of the SDK through its load balancer: whatever one process is killed, they go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stderr, reason = "says why a test did not run, and what was measured")]

#[path = "support/sdk.rs"]
mod sdk;
mod support;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use sdk::{Pair, World, open, soon};
use serde_json::Value;
use support::{finished, free_tcp, get, tandem, until};
use tandem_client::{Call, Device, Media};

/// A fleet, and the admin ports of its load balancer, relays and state servers.
struct Fleet {
    world: World,
    lb: SocketAddr,
    relays: [SocketAddr; 4],
    states: [SocketAddr; 2],
}

impl Fleet {
    /// `None`: etcd is not installed.
    fn start() -> Option<Self> {
        if !["/usr/bin/etcd", "/usr/local/bin/etcd"].iter().any(|path| std::path::Path::new(path).exists()) {
            eprintln!("not run: a fleet needs etcd (Debian: etcd-server)");
            return None;
        }
        let (lb, relays, states) = (free_tcp(), [(); 4].map(|()| free_tcp()), [(); 2].map(|()| free_tcp()));
        let mut settings = vec![format!("lb.admin={lb}")];
        settings.extend((1..).zip(relays).map(|(n, admin)| format!("relay-{n}.admin={admin}")));
        settings.extend((1..).zip(states).map(|(n, admin)| format!("state-server-{n}.admin={admin}")));
        let words: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        Some(Self { world: World::start_with(&[&["--fleet"], &words[..]].concat()), lb, relays, states })
    }

    /// What a relay's metric says.
    fn metric(&self, relay: u64, name: &str) -> u64 {
        let text = get(self.relays[relay as usize - 1], "/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("a metric").parse().unwrap()
    }

    fn place_of(&self, call: &Call) -> Value {
        let answer = get(self.lb, &format!("/where?call={}", call.id()));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The relay that has a call now.
    fn relay_of(&self, call: &Call) -> u64 {
        self.place_of(call)["now"].as_u64().expect("a relay has it")
    }

    /// SIGKILLs a process, which stays away.
    fn kill(&self, name: &str) {
        self.world.kill(name, 120_000);
    }

    /// The relays as a state server tells of them.
    fn relays_at(&self, state: usize) -> Vec<Value> {
        let answer = get(self.states[state - 1], "/relays");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["relays"].as_array().unwrap().clone()
    }

    /// The relays whose load a state server knows, with the epoch that each goes by.
    fn loads_at(&self, state: usize) -> Vec<(u64, u64)> {
        let load = |relay: &Value| Some((relay["relay"].as_u64()?, relay["load"]["epoch"].as_u64()?));
        self.relays_at(state).iter().filter_map(load).collect()
    }

    async fn others(&self) -> [Device; 2] {
        let (carol, dave) = tokio::join!(self.world.device("carol", "dev_c"), self.world.device("dave", "dev_d"));
        [carol, dave]
    }

    /// Calls until it rings: while etcd looks for a leader, calls are refused with a hint.
    async fn rings(&self, [from, to]: &[Device; 2]) {
        let began = SystemTime::now();
        let call = loop {
            match from.place(&to.party().account, Media::Audio).await {
                Ok(call) => break call,
                Err(error) => assert!(began.elapsed().unwrap() < 2 * support::PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        soon(to.incoming()).await.unwrap();
        call.hang_up().await.unwrap();
    }

    /// A new call of two others, which talks and is hung up.
    async fn another(&self, others: &[Device; 2]) {
        let [carol, dave] = others;
        let call = carol.place(&dave.party().account, Media::Audio).await.unwrap();
        let other = soon(dave.incoming()).await.unwrap().accept().await.unwrap();
        let (a, b) = open(&call, &other).await;
        sdk::pass(&a, &b, "in another call").await;
        call.hang_up().await.unwrap();
        soon(other.ended()).await;
    }
}

/// Says it both ways, and how long that took.
async fn talk(pair: &Pair, after: &str) {
    let began = SystemTime::now();
    pair.talk(after).await;
    eprintln!("{after}: packets went both ways within {:?}", began.elapsed().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_of_four_relays_are_killed_in_a_row_and_the_call_goes_on_with_the_same_addresses() {
    let Some(fleet) = Fleet::start() else { return };
    let pair = fleet.world.pair().await;
    let places = pair.places();
    let mut had = Vec::new();
    for n in 1..=3 {
        let relay = fleet.relay_of(&pair.call);
        assert!(!had.contains(&relay), "{relay} was killed");
        fleet.kill(&format!("relay-{relay}"));
        had.push(relay);
        talk(&pair, &format!("relay {n} killed")).await;
    }
    let place = fleet.place_of(&pair.call);
    assert_eq!((place["acting"].as_bool(), place["epoch"].as_u64()), (Some(true), Some(1)), "{place}");
    assert_eq!(pair.places(), places, "nobody on the call noticed");
    let others = fleet.others().await;
    fleet.another(&others).await;
    // `tandem admin where` says the same as the load balancer does.
    let (lb, call) = (format!("http://{}", fleet.lb), pair.call.id().to_string());
    let said = finished(tandem(&["admin", "where", "--call", &call, "--lb", &lb]));
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success() && text.contains(place["bucket"].as_str().unwrap()), "{text}");
    pair.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_stood_still_does_no_harm_when_it_goes_on_and_a_new_table_takes_it_in_again() {
    let Some(fleet) = Fleet::start() else { return };
    let pair = fleet.world.pair().await;
    let places = pair.places();
    let relay = fleet.relay_of(&pair.call);
    let name = format!("relay-{relay}");
    fleet.world.pause(&name, true);
    talk(&pair, "a relay stopped").await;
    assert_ne!(fleet.relay_of(&pair.call), relay);
    fleet.world.pause(&name, false);
    talk(&pair, "it goes on").await;
    let read_again =
        || fleet.metric(relay, "tandem_relay_fences_total") > 0 && fleet.metric(relay, "tandem_relay_fenced") == 0;
    until("the relay has read the table again", || read_again().then_some(()));
    until("a new table gives its calls back to it", || {
        let place = fleet.place_of(&pair.call);
        (place["epoch"].as_u64() > Some(1) && place["now"] == relay).then_some(())
    });
    talk(&pair, "it has them again").await;
    fleet.world.kill(&name, 0).back();
    let serves = |relays: &Value| {
        relays
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["relay"] == relay && r["standing"] == "serving" && r["state"] == "up")
    };
    until("the relay serves again, warm", || {
        let place = fleet.place_of(&pair.call);
        (place["now"] == relay && serves(&place["relays"])).then_some(())
    });
    talk(&pair, "it is back").await;
    assert_eq!(pair.places(), places);
    pair.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_told_to_end_is_missed_by_nobody() {
    let Some(fleet) = Fleet::start() else { return };
    let pair = fleet.world.pair().await;
    let relay = fleet.relay_of(&pair.call);
    let child = fleet.world.child(&format!("relay-{relay}"));
    let pid = rustix::process::Pid::from_raw(child["pid"].as_i64().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    // Packets go on while its share goes to others: each is heard.
    let mut sent = 0_u32;
    let mut heard = 0;
    let moved = async {
        while fleet.place_of(&pair.call)["epoch"].as_u64() < Some(2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    tokio::pin!(moved);
    let mut every = tokio::time::interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            () = &mut moved => break,
            _ = every.tick() => {
                pair.a.send(&sent.to_be_bytes()).await.unwrap();
                sent += 1;
            }
            packet = pair.b.recv() => {
                assert_eq!(packet.unwrap(), u32::to_be_bytes(heard), "in order, and none is missing");
                heard += 1;
            }
        }
    }
    while heard < sent {
        assert_eq!(soon(pair.b.recv()).await.unwrap(), heard.to_be_bytes());
        heard += 1;
    }
    eprintln!("a relay drained: {sent} of {sent} packets arrived");
    assert_ne!(fleet.relay_of(&pair.call), relay);
    pair.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_balancer_a_state_server_and_etcds_nodes_are_killed_and_the_call_goes_on() {
    let Some(fleet) = Fleet::start() else { return };
    let pair = fleet.world.pair().await;
    let places = pair.places();
    let others = fleet.others().await;
    fleet.world.kill("lb", 0).back();
    talk(&pair, "the load balancer was replaced").await;
    fleet.kill("state-server-1");
    talk(&pair, "a state server killed").await;
    fleet.another(&others).await;
    fleet.kill("signaling-1");
    fleet.kill("router-1");
    talk(&pair, "a signaling node and a router killed").await;
    fleet.another(&others).await;
    fleet.kill("etcd-1");
    talk(&pair, "a node of etcd killed").await;
    fleet.rings(&others).await;
    // Without a quorum: what runs goes on, and a new call is refused.
    fleet.world.pause("etcd-2", true);
    talk(&pair, "etcd gone").await;
    let [carol, dave] = &others;
    let refused = carol.place(&dave.party().account, Media::Audio).await;
    assert!(refused.is_err(), "there is nowhere to write it");
    fleet.world.pause("etcd-2", false);
    // What was asked for meanwhile may have been done since: then the caller's device ends it, and they can call again.
    fleet.rings(&others).await;
    assert_eq!(pair.places(), places);
    pair.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_server_knows_every_relay_s_load_and_one_that_was_killed_knows_it_again() {
    let Some(fleet) = Fleet::start() else { return };
    let pair = fleet.world.pair().await;
    let all = [(1, 1), (2, 1), (3, 1), (4, 1)];
    for state in [1, 2] {
        until("it knows everybody", || (fleet.loads_at(state) == all).then_some(()));
    }
    // The call's two allocations are at the relay that has it, and at its secondary.
    talk(&pair, "a call").await;
    until("the relay that has the call says so", || {
        let has = fleet.relay_of(&pair.call);
        let relays = fleet.relays_at(2);
        let load = &relays.iter().find(|relay| relay["relay"] == has)?["load"];
        (load["calls"] == 1 && load["allocations"] == 2 && relays.len() == 4).then_some(())
    });
    fleet.world.kill("state-server-1", 3_000).back();
    until("the other one hears on", || {
        let young = fleet.relays_at(2).iter().all(|relay| relay["load"]["age_ms"].as_u64() < Some(1_500));
        (fleet.loads_at(2) == all && young).then_some(())
    });
    until("it knows everybody again", || (fleet.loads_at(1) == all).then_some(()));
    // One that is gone is not known any more, and what the others say goes on.
    fleet.kill("relay-3");
    until("it says nothing any more", || (fleet.loads_at(1) == [all[0], all[1], all[3]]).then_some(()));
    let said = finished(tandem(&["admin", "relays", "--state", &format!("http://{}", fleet.states[1])]));
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success() && text.lines().count() == 6 && text.contains("serving"), "{text}");
    let json = finished(tandem(&["admin", "relays", "--json", "--state", &format!("http://{}", fleet.states[1])]));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["relays"].as_array().unwrap().len(), 4, "{json}");
    eprintln!("{text}");
    let other = finished(tandem(&["admin", "relays", "--state", &format!("http://{}", fleet.lb)]));
    assert!(!other.status.success(), "a load balancer is no state server");
    pair.hung_up().await;
}
