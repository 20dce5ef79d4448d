//! Whose a call is when processes stop for long, run twice, or live by another clock; and what is left of a call that ended or of
//! a ticket that was used too often. Each process is in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stderr, reason = "says what was measured")]

#[path = "../xtask/src/namespaces.rs"]
#[allow(dead_code, reason = "each test file uses its part of this")]
mod namespaces;
#[path = "support/network.rs"]
mod network;
mod support;
#[path = "support/turn.rs"]
mod turn;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use namespaces::fed;
use network::{Fleet, Pair, address, relay};
use rustix::process::Signal;
use support::{until, where_time_goes_on};
use tandem_net::clock;
use tandem_wire::id::RelayId;
use turn::Said;

/// How long a relay's entry stays that says nothing: what a lease is elsewhere.
const SILENT: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(5);

fn passes(pair: &Pair) {
    until("packets go both ways", || pair.carries(100).then_some(()));
}

/// The relays that the records of a call name.
fn owners(fleet: &Fleet, pair: &Pair) -> Vec<RelayId> {
    fleet.attachments(pair.call).iter().map(|(leg, _)| leg.relay).collect()
}

/// E03, P13: one owner for writes. The owner of a call is stopped in the middle of a write, and for five seconds longer than its
/// entry stays. Others write meanwhile. Its own write comes to the store late, and is refused by the revision; resumed, it
/// writes nothing.
#[test]
fn an_owner_that_was_stopped_for_long_fails_at_the_revision_and_no_call_is_owned_twice() {
    // A relay that stands still once more begins anew, and the refusal that it is to hear of is an older run's.
    where_time_goes_on(an_owner_is_stopped_for_long);
}

fn an_owner_is_stopped_for_long() {
    let Some(fleet) = Fleet::start() else { return };
    let mut pair = fleet.pair();
    let had = fleet.relay_of(pair.bucket);
    let run = fleet.seen(had)["incarnation"].as_u64().unwrap();
    let stored = fleet.attachments(pair.call);
    // What it writes gets no further than its kernel.
    // Each channel to an address of its own, where nobody is yet.
    let [at_first, at_next, at_last] = [2, 3, 4].map(|n| SocketAddr::from(([203, 0, 113, 9], 2_000 + n)));
    fleet.drops("state", &[format!("ip saddr {}", address(&relay(had)))]);
    let asked = pair.clients[0].try_bind(0x4002, at_first, Duration::from_millis(300));
    assert_eq!(asked, None, "what is not durable is not answered");
    assert_eq!(fleet.attachments(pair.call), stored);
    fleet.signal(had, Signal::STOP);
    let stopped = clock::now().mono;
    until("others act for it", || (fleet.relay_of(pair.bucket) != had).then_some(()));
    let next = fleet.relay_of(pair.bucket);
    // Both legs are written by the next owner.
    for client in &mut pair.clients {
        assert!(matches!(client.try_bind(0x4003, at_next, PATIENCE), Some(Said::Yes(_))));
    }
    let theirs = fleet.attachments(pair.call);
    assert!(theirs.iter().zip(&stored).all(|(now, before)| now.1 > before.1));
    assert_eq!(owners(&fleet, &pair), [RelayId(next as u16); 2]);
    // The late write of the one that is stopped comes through: its kernel still has it.
    let sent = fleet.metric(&relay(next), "tandem_relay_write_conflicts_total");
    fleet.drops("state", &[]);
    until("its entry is removed", || fleet.seen(had).is_null().then_some(()));
    while clock::now().mono.since(stopped).to_std() < SILENT + Duration::from_secs(5) {
        passes(&pair);
    }
    assert_eq!(fleet.attachments(pair.call), theirs, "the late write is refused");
    fleet.signal(had, Signal::CONT);
    let conflicts = || fleet.metric(&relay(had), "tandem_relay_write_conflicts_total");
    until("it hears that its write was refused", || (conflicts() > 0).then_some(()));
    until("it is back as another run, and has its calls", || {
        // At no moment do the records name anybody but who has them.
        assert_eq!(fleet.attachments(pair.call), theirs, "it writes nothing by itself");
        (fleet.serves(had) && fleet.relay_of(pair.bucket) == had).then_some(())
    });
    assert!(fleet.seen(had)["incarnation"].as_u64().unwrap() > run);
    assert_eq!(fleet.metric(&relay(next), "tandem_relay_write_conflicts_total"), sent, "nobody fought");
    passes(&pair);
    // What it writes now is based on what the other one wrote: all channels are there.
    assert!(matches!(pair.clients[0].try_bind(0x4004, at_last, PATIENCE), Some(Said::Yes(_))));
    let numbers = |at: usize| -> Vec<u16> {
        let (leg, _) = &fleet.attachments(pair.call)[at];
        leg.allocations[0].channels.iter().map(|bound| bound.channel.get()).collect()
    };
    assert!([0x4001, 0x4003, 0x4004].iter().all(|number| numbers(0).contains(number)), "{:x?}", numbers(0));
    assert_eq!(owners(&fleet, &pair)[0], RelayId(had as u16));
}

/// Two relays with one id: the newer incarnation wins, and the older one ends with exit code 75.
#[test]
fn of_two_processes_with_one_relay_s_id_the_older_one_ends_with_75_and_its_calls_go_on() {
    let Some(mut fleet) = Fleet::start() else { return };
    let talk = fleet.pair_on(1).talk();
    fleet.kill(4);
    until("relay 4 is down", || fleet.is_down(4).then_some(()));
    let before = fleet.seen(1)["incarnation"].as_u64().unwrap();
    let ended = fleet.start_twin(1, 4).ended();
    assert_eq!(ended.code(), Some(75), "{ended:?}");
    let newer = || fleet.seen(1)["incarnation"].as_u64() > Some(before) && fleet.serves(1);
    let back = || newer() && fleet.relay_of(talk.bucket) == 1;
    fleet.gap(&talk, "another process runs under its id", || (), back);
    assert_eq!(talk.strange(), 0);
}

/// A machine whose clocks since the start (CLOCK_MONOTONIC, CLOCK_BOOTTIME) show an hour more than everybody else's: nobody
/// compares such a clock with another machine's.
#[test]
fn a_relay_whose_clocks_are_an_hour_ahead_of_all_others_serves_as_they_do() {
    let ahead = ["unshare", "--time", "--monotonic", "3600", "--boottime", "3600"];
    if !std::process::Command::new(ahead[0]).args(&ahead[1..]).arg("true").status().is_ok_and(|status| status.success())
    {
        eprintln!("not run: this machine has no time namespaces");
        return;
    }
    let Some(mut fleet) = Fleet::start() else { return };
    fleet.restart_under(2, &ahead);
    let talk = fleet.pair_on(2).talk();
    fleet.gap(&talk, "its clocks are an hour ahead", || (), || true);
    let fences = fleet.metric("relay-2", "tandem_relay_fences_total");
    fleet.gap(&talk, "it is stopped", || fleet.signal(2, Signal::STOP), || fleet.is_down(2));
    fleet.gap(&talk, "it goes on", || fleet.signal(2, Signal::CONT), || fleet.relay_of(talk.bucket) == 2);
    assert!(fleet.metric("relay-2", "tandem_relay_fences_total") > fences, "it has seen that it stood still");
    assert_eq!(talk.strange(), 0);
}

/// R14 over a fleet: with the call ends everything that its tickets could do, at whatever relay they come to.
#[test]
fn an_ended_call_s_tickets_open_nothing_anywhere_and_its_media_stops_within_a_second() {
    let Some(fleet) = Fleet::start() else { return };
    let talk = fleet.pair().talk();
    let had = fleet.relay_of(talk.bucket);
    let mut late = fleet.client_at((address("clients"), 0), talk.call, 1);
    assert!(matches!(late.try_allocate(PATIENCE), Some(Said::Yes(_))), "the ticket is good while the call is");
    let began = clock::now().mono;
    fleet.end(talk.call);
    until("no packet comes any more", || (talk.silent_ms() > 300).then_some(()));
    let took = clock::now().mono.since(began).as_millis().saturating_sub(300);
    eprintln!("media of an ended call goes on for {took} ms at the most");
    assert!(took < 1_000);
    until("its allocations are gone", || {
        let all = (1..=4).map(|id| fleet.metric(&relay(id), "tandem_relay_allocations"));
        (all.sum::<u64>() == 0).then_some(())
    });
    let refused = |fleet: &Fleet, what: &str| {
        for leg in [1, 2] {
            let mut client = fleet.client_at((address("clients"), 0), talk.call, leg);
            assert_eq!(client.try_allocate(PATIENCE), Some(Said::No(403)), "{what}");
        }
    };
    refused(&fleet, "at the relay that had it");
    assert_eq!(late.try_refresh(600, PATIENCE), Some(Said::No(437)), "it has no allocation");
    // One that acts for another owns the refusal too, and has to ask the store first.
    fleet.kill(had);
    until("others act for it", || (fleet.relay_of(talk.bucket) != had).then_some(()));
    refused(&fleet, "at its secondary");
    // A relay that cannot ask is silent rather than wrong (docs/protocol.md, "While a call is loading").
    let next = fleet.relay_of(talk.bucket);
    fleet.kill(next);
    until("the next one acts", || (![had, next].contains(&fleet.relay_of(talk.bucket))).then_some(()));
    refused(&fleet, "at one that had never heard of it");
    assert_eq!(talk.strange(), 0);
}

/// R21 over a fleet. Over UDP there is no half-closed connection; what comes near it is a client that goes without a word and comes
/// back from another port, a thousand times. Places are given back when an allocation ends and not before.
#[test]
fn a_ticket_has_its_24_allocations_alive_however_often_its_holder_goes_without_a_word() {
    let Some(fleet) = Fleet::start() else { return };
    let pair = fleet.pair();
    let had = fleet.relay_of(pair.bucket);
    // Answers without proof are a hundred a second for each address: many addresses.
    let hosts: Vec<Ipv4Addr> = (120..=199).map(|host| Ipv4Addr::new(10, 87, 0, host)).collect();
    let lines: String = hosts.iter().map(|host| format!("address add {host}/24 dev eth0\n")).collect();
    fed("ip", &["-n", &fleet.namespace("clients"), "-batch", "-"], &lines).unwrap();
    // And no port twice: who sends the same from the same port again gets the same answer (RFC 8656 section 7.2).
    let attempt = |fleet: &Fleet, n: usize| {
        let port = u16::try_from(20_000 + n).unwrap();
        let mut client = fleet.client_at((hosts[n % hosts.len()], port), pair.call, 1);
        match client.try_allocate(PATIENCE) {
            Some(Said::Yes(_)) => true,
            said => {
                assert_eq!(said, Some(Said::No(486)), "attempt {n}");
                false
            }
        }
    };
    let alive = |fleet: &Fleet| fleet.attachments(pair.call)[0].0.allocations.len();
    // One of 24 is the call's own.
    let opened = (0..1_000).filter(|n| attempt(&fleet, *n)).count();
    assert_eq!((opened, alive(&fleet)), (23, 24));
    passes(&pair);
    // Whoever takes over counts on from what is stored.
    fleet.kill(had);
    until("others act for it", || (fleet.relay_of(pair.bucket) != had).then_some(()));
    let opened = (1_000..1_100).filter(|n| attempt(&fleet, *n)).count();
    assert_eq!((opened, alive(&fleet)), (0, 24));
    passes(&pair);
}
