//! Whole calls, through real processes and with the SDK: what two people see, whoever is killed meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "support/sdk.rs"]
mod sdk;
mod support;

use std::time::Duration;

use sdk::{Pair, World, open, party, pass, soon};
use tandem_client::{
    Allocation, Call, CallId, Code, Device, Error, IncomingCall, Link, Media, Phase, Reason, Rejection, TurnError,
    TurnTransport, VirtualAddr,
};
use tokio::time::timeout;

/// Waits until a device has lost its connection and has another one, and is up to date.
async fn back_again(device: &Device, before: u64) {
    let mut link = device.link();
    soon(link.wait_for(|link| matches!(link, Link::Ready(revision) if *revision >= before))).await.unwrap();
}

async fn ringing_at(call: &Call, device: &str) {
    let device = device.parse().unwrap();
    soon(call.state().wait_for(|state| state.ringing.contains(&device))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_rings_is_accepted_carries_packets_both_ways_and_is_hung_up() {
    let world = World::start();
    let (alice, bob) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await);
    let call = alice.place(&bob.party().account, Media::Video).await.unwrap();
    assert_eq!(call.state().borrow().phase, Phase::Ringing);
    assert!(matches!(call.signal(b"too early").await, Err(Error::NotAccepted)));
    let incoming = soon(bob.incoming()).await.unwrap();
    assert_eq!((incoming.id(), incoming.from(), incoming.media()), (call.id(), alice.party(), Media::Video));
    assert!(incoming.ring_remaining() > Duration::from_secs(30));
    incoming.ringing().await.unwrap();
    ringing_at(&call, "dev_b").await;
    let other = incoming.accept().await.unwrap();
    let peer = soon(call.accepted()).await.unwrap();
    assert_eq!((&peer.party, peer.leg.unwrap().get()), (bob.party(), 2));
    let (a, b) = open(&call, &other).await;
    let pair = Pair { alice, bob, call, other, a, b };
    pair.talk("hello").await;
    let largest = vec![b'x'; tandem_client::limits::PAYLOAD_BYTES];
    pass(&pair.a, &pair.b, std::str::from_utf8(&largest).unwrap()).await;
    assert!(pair.a.send(&[0; tandem_client::limits::PAYLOAD_BYTES + 1]).await.is_err());

    pair.other.signal(b"by signal").await.unwrap();
    assert_eq!(soon(pair.call.message()).await.unwrap(), b"by signal");
    assert_eq!(pair.call.ticket().await.unwrap().leg.get(), 1);
    pair.hung_up().await;
    assert!(matches!(soon(pair.call.message()).await, Err(Error::Ended(Reason::Hangup))));
    pair.call.hang_up().await.unwrap();
    assert_eq!(pair.call.ticket().await.unwrap_err().code(), Some(Code::CallEnded));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_device_is_told_that_the_call_was_answered_elsewhere() {
    let world = World::start();
    let (alice, one) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b1").await);
    let two = world.second(&one, "dev_b2").await;
    let call = alice.place(&one.party().account, Media::Audio).await.unwrap();
    let (at_one, at_two) = (soon(one.incoming()).await.unwrap(), soon(two.incoming()).await.unwrap());
    // Both at once: one has it, and the other is told by the answer and by a push.
    let (first, second) = tokio::join!(at_one.accept(), at_two.accept());
    let (winner, looser, other) = match (first, second) {
        (Ok(call), Err(error)) => (call, at_two, error),
        (Err(error), Ok(call)) => (call, at_one, error),
        (Ok(_), Ok(_)) => panic!("both have it"),
        (Err(one), Err(two)) => panic!("{one} {two}"),
    };
    assert_eq!(other.code(), Some(Code::AnsweredElsewhere));
    assert_eq!(soon(looser.ended()).await, Reason::AnsweredElsewhere);
    let (a, b) = open(&call, &winner).await;
    pass(&a, &b, "hello").await;
    winner.hang_up().await.unwrap();
    assert_eq!(soon(call.ended()).await, Reason::Hangup);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_declines_who_is_busy_and_who_gives_up_is_told_to_the_other() {
    let world = World::start();
    let (alice, one) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b1").await);
    let two = world.second(&one, "dev_b2").await;
    let ring = async || {
        let call = alice.place(&one.party().account, Media::Audio).await.unwrap();
        (call, soon(one.incoming()).await.unwrap(), soon(two.incoming()).await.unwrap())
    };

    let (call, at_one, at_two) = ring().await;
    at_one.reject(Rejection::Declined).await.unwrap();
    assert_eq!(soon(call.ended()).await, Reason::Declined);
    assert_eq!(soon(at_two.ended()).await, Reason::RejectedElsewhere);
    assert!(matches!(soon(call.transport()).await, Err(Error::Ended(Reason::Declined))));

    let (call, at_one, at_two) = ring().await;
    at_one.reject(Rejection::Busy).await.unwrap();
    soon(call.state().wait_for(|state| state.busy.len() == 1)).await.unwrap();
    assert_eq!(call.state().borrow().phase, Phase::Ringing, "the other one rings on");
    at_two.reject(Rejection::Busy).await.unwrap();
    assert_eq!(soon(call.ended()).await, Reason::Busy);

    let (call, at_one, at_two) = ring().await;
    call.hang_up().await.unwrap();
    assert_eq!(soon(call.ended()).await, Reason::Cancelled);
    assert_eq!([soon(at_one.ended()).await, soon(at_two.ended()).await], [Reason::Cancelled; 2]);
    assert!(matches!(at_one.accept().await, Err(Error::Ended(Reason::Cancelled))));
    at_one.reject(Rejection::Declined).await.unwrap();
    let missed = soon(one.missed()).await.unwrap();
    assert_eq!((missed.call, &missed.from), (call.id(), alice.party()));
    assert_eq!(missed.media, Some(Media::Audio), "as the caller's sealed note says");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_that_comes_online_while_it_rings_is_rung_and_later_told_what_it_missed() {
    let world = World::start();
    let alice = world.device("alice", "dev_a").await;
    drop(world.device("bob", "dev_b").await);
    let bob = party("bob", "dev_b").account;
    let missed = alice.place(&bob, Media::Audio).await.unwrap();
    missed.hang_up().await.unwrap();
    assert_eq!(soon(missed.ended()).await, Reason::Cancelled);
    let call = alice.place(&bob, Media::Audio).await.unwrap();

    let bob = world.device("bob", "dev_b").await;
    let incoming = soon(bob.incoming()).await.unwrap();
    assert_eq!(incoming.id(), call.id());
    assert_eq!(soon(bob.missed()).await.unwrap().call, missed.id());
    let other = incoming.accept().await.unwrap();
    let (a, b) = open(&call, &other).await;
    tokio::join!(pass(&a, &b, "one"), pass(&b, &a, "other"));
    // What was acknowledged does not come again.
    drop(bob);
    let bob = world.device("bob", "dev_b").await;
    assert!(timeout(Duration::from_millis(100), bob.missed()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_call_each_other_at_the_same_time_are_in_one_call() {
    let world = World::start();
    let (alice, bob) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await);
    let (one, two) =
        tokio::join!(alice.place(&bob.party().account, Media::Audio), bob.place(&alice.party().account, Media::Audio));
    let (call, callee, error) = match (one, two) {
        (Ok(call), Err(error)) => (call, &bob, error),
        (Err(error), Ok(call)) => (call, &alice, error),
        (one, two) => panic!("{:?} {:?}", one.err(), two.err()),
    };
    assert_eq!((error.code(), error.problem().unwrap().call_id), (Some(Code::Glare), Some(call.id())));
    let incoming = soon(callee.incoming()).await.unwrap();
    assert_eq!(incoming.id(), call.id());
    let other = incoming.accept().await.unwrap();
    let (a, b) = open(&call, &other).await;
    tokio::join!(pass(&a, &b, "one"), pass(&b, &a, "other"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_connects_elsewhere_or_is_removed_is_told_and_does_not_fight() {
    let world = World::start();
    let bob = world.device("bob", "dev_b").await;
    let elsewhere = world.device("bob", "dev_b").await;
    soon(bob.link().wait_for(|link| *link == Link::Displaced)).await.unwrap();
    // It does not take the connection back by itself, but when it is told to.
    assert!(timeout(Duration::from_millis(300), bob.link().wait_for(|link| *link != Link::Displaced)).await.is_err());
    bob.reconnect();
    soon(bob.link().wait_for(|link| matches!(link, Link::Ready(_)))).await.unwrap();
    soon(elsewhere.link().wait_for(|link| *link == Link::Displaced)).await.unwrap();
    elsewhere.remove().await.unwrap();
    // Its token is void. One that is minted in a later second than the removal would be good again.
    soon(bob.link().wait_for(|link| !matches!(link, Link::Ready(_)))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_begins_anew_comes_back_to_its_leg_and_to_its_packets() {
    let world = World::start();
    let Pair { alice, bob, call, other, a, b } = world.pair().await;
    let id: CallId = other.id();
    drop((bob, other, b));
    let bob = world.device("bob", "dev_b").await;
    let other = bob.rejoin(id).await.unwrap();
    let b = soon(other.transport()).await.unwrap();
    assert_eq!(call.state().borrow().ended, None);
    let pair = Pair { alice, bob, call, other, a, b };
    pair.talk("again").await;
    pair.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signaling_is_killed_right_after_it_answered_an_accept_and_the_caller_is_told_all_the_same() {
    let world = World::start();
    let (alice, bob) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await);
    let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
    let incoming = soon(bob.incoming()).await.unwrap();
    let other = incoming.accept().await.unwrap();
    let killed = world.kill("signaling", 1_000);
    let peer = soon(call.accepted()).await.unwrap();
    assert_eq!(&peer.party, bob.party());
    assert!(killed.is_away(), "she is told by whoever is left");
    let (a, b) = open(&call, &other).await;
    let pair = Pair { alice, bob, call, other, a, b };
    pair.talk("hello").await;
    pair.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signaling_is_killed_while_it_rings_and_the_call_goes_on() {
    let world = World::start();
    let (alice, bob) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await);
    let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
    let incoming = soon(bob.incoming()).await.unwrap();
    let killed = world.kill("signaling", 300);
    incoming.ringing().await.unwrap();
    ringing_at(&call, "dev_b").await;
    killed.back();
    // Asked while it is away, a call is placed once all the same.
    let carol = world.device("carol", "dev_c").await;
    let killed = world.kill("signaling", 300);
    let another = alice.place(&carol.party().account, Media::Audio).await.unwrap();
    killed.back();
    assert_eq!(soon(carol.incoming()).await.unwrap().id(), another.id());
    assert!(timeout(Duration::from_millis(100), carol.incoming()).await.is_err());
    let other = incoming.accept().await.unwrap();
    let (a, b) = open(&call, &other).await;
    tokio::join!(pass(&a, &b, "one"), pass(&b, &a, "other"));
}

/// A call that rings at bob, and the two devices.
async fn ring(world: &World) -> (Device, Device, Call, IncomingCall) {
    let (alice, bob) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await);
    let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
    let incoming = soon(bob.incoming()).await.unwrap();
    (alice, bob, call, incoming)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_router_is_killed_while_it_rings_and_both_devices_come_back_up_to_date() {
    let world = World::start();
    let (alice, bob, call, incoming) = ring(&world).await;
    let killed = world.kill("router", 500);
    // What happens while nobody can be told is told when they are back.
    incoming.ringing().await.unwrap();
    let other = incoming.accept().await.unwrap();
    let at = other.state().borrow().revision;
    assert!(killed.is_away() && call.state().borrow().phase == Phase::Ringing);
    killed.back();
    tokio::join!(back_again(&alice, at), back_again(&bob, at));
    let peer = soon(call.accepted()).await.unwrap();
    assert_eq!(&peer.party, bob.party());
    let (a, b) = open(&call, &other).await;
    let pair = Pair { alice, bob, call, other, a, b };
    pair.talk("hello").await;
    pair.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_router_is_killed_in_a_call_and_what_was_said_meanwhile_is_not_lost() {
    let world = World::start();
    let pair = world.pair().await;
    for round in 0..2 {
        let killed = world.kill("router", 300);
        for n in 0..4_u8 {
            pair.call.signal(&[round, n]).await.unwrap();
        }
        pair.talk(&format!("round {round}")).await;
        killed.back();
        for n in 0..4_u8 {
            assert_eq!(soon(pair.other.message()).await.unwrap(), [round, n]);
        }
    }
    assert!(timeout(Duration::from_millis(200), pair.other.message()).await.is_err(), "each is said once");
    assert_eq!(pair.call.state().borrow().phase, Phase::Active);
    // Hung up while nobody can be told.
    let killed = world.kill("router", 300);
    pair.other.hang_up().await.unwrap();
    assert_eq!(soon(pair.call.ended()).await, Reason::Hangup);
    killed.back();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_is_killed_in_a_call_and_packets_go_on_on_the_same_transport() {
    let world = World::start();
    let pair = world.pair().await;
    let (places, mut pushes) = (pair.places(), pair.alice.pushes());
    for round in 0..3 {
        let killed = world.kill("relay", 0);
        pair.talk(&format!("round {round}")).await;
        killed.back();
    }
    assert_eq!(pair.places(), places);
    assert!(pushes.try_recv().is_err(), "nobody had to say anything");
    pair.hung_up().await;
}

fn at(allocation: &Allocation) -> VirtualAddr {
    allocation.moves().borrow().unwrap()
}

/// Says it until it is heard: packets may be lost.
async fn heard(from: &Allocation, to: &Allocation, packet: &[u8]) {
    soon(async {
        loop {
            from.send_to(packet, at(to)).await.unwrap();
            while let Ok(heard) = timeout(Duration::from_millis(20), to.recv_from()).await {
                if heard.unwrap() == (packet.to_vec(), at(from)) {
                    return;
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_with_a_stack_of_its_own_has_sockets_in_the_call_and_sends_from_each_to_each() {
    let world = World::start();
    let (alice, bob) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await);
    let call = alice.place(&bob.party().account, Media::Video).await.unwrap();
    // While it rings: a caller gathers its candidates.
    let a = soon(call.allocation()).await.unwrap();
    let other = soon(bob.incoming()).await.unwrap().accept().await.unwrap();
    // Two of one device, as a browser has that is in two networks.
    let (b, b2) = soon(async { tokio::try_join!(other.allocation(), other.allocation()) }).await.unwrap();
    assert_ne!(at(&b), at(&b2));
    let most = tandem_client::limits::DATAGRAM_PAYLOAD_BYTES;
    for round in 0..3_u8 {
        for (from, to) in [(&a, &b), (&b, &a), (&a, &b2), (&b2, &a)] {
            // By indications at first, then by channels.
            heard(from, to, &vec![round; most]).await;
            soon(from.bind(at(to))).await.unwrap();
        }
        // The same sockets go on at another relay process.
        let places = [at(&a), at(&b), at(&b2)];
        world.kill("relay", 0).back();
        heard(&a, &b, b"went on").await;
        assert_eq!([at(&a), at(&b), at(&b2)], places);
    }
    assert_eq!(a.send_to(&vec![0; most + 1], at(&b)).await, Err(TurnError::TooLarge(most + 1)));
    // Where nobody is, nothing comes of it.
    a.send_to(b"nobody", VirtualAddr { octet: 200, port: 1_090 }).await.unwrap();
    heard(&a, &b, b"and on").await;
    call.hang_up().await.unwrap();
    assert_eq!(soon(other.ended()).await, Reason::Hangup);
    assert!(matches!(soon(other.allocation()).await, Err(Error::Ended(Reason::Hangup))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_the_relay_from_the_moment_that_it_was_given() {
    let world = World::start();
    let bob = world.device("bob", "dev_b").await;
    let mut refused = 0;
    for n in 0..20 {
        let alice = world.device(&format!("alice{n}"), "dev_a").await;
        let call = alice.place(&bob.party().account, Media::Audio).await.unwrap();
        let incoming = soon(bob.incoming()).await.unwrap();
        let nobody = || tokio::sync::watch::channel(None).1;
        let other = incoming.accept().await.unwrap();
        let (one, two) = (call.server().unwrap(), other.server().unwrap());
        let (a, b) = tokio::join!(TurnTransport::open(&one, nobody()), TurnTransport::open(&two, nobody()));
        a.unwrap();
        refused += u32::from(b.is_err_and(|error| error == TurnError::Refused(403)));
        other.hang_up().await.unwrap();
    }
    assert_eq!(refused, 0, "of 20");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_server_is_killed_in_a_call_and_the_call_goes_on() {
    let world = World::start();
    let pair = world.pair().await;
    let killed = world.kill("state-server", 800);
    pair.talk("without the store").await;
    assert!(killed.is_away());
    pair.call.signal(b"when it is back").await.unwrap();
    killed.back();
    assert_eq!(soon(pair.other.message()).await.unwrap(), b"when it is back");
    pair.talk("with the store").await;
    pair.hung_up().await;
    // A call that is placed while the store is away is placed when it is back.
    let killed = world.kill("state-server", 500);
    let call = pair.alice.place(&pair.bob.party().account, Media::Audio).await.unwrap();
    killed.back();
    assert_eq!(soon(pair.bob.incoming()).await.unwrap().id(), call.id());
}
