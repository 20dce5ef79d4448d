//! How long a connection lasts, and which of two does.

use std::time::Duration;

use tandem_auth::Grant;
use tandem_core::topology::CallCommand;
use tandem_state_client::memory::MemoryStore;
use tandem_telemetry::http::Limits;
use tandem_telemetry::registry::Metrics;
use tandem_wire::id::PopId;
use tokio::time::{Instant, timeout};

use super::calls::*;
use super::place::*;
use super::socket::*;

/// M13: two sockets for one device.
#[tokio::test]
async fn a_newer_connection_of_the_same_device_closes_the_older_with_4409_and_no_others() {
    let running = Running::new().await;
    let token_of = |device| token("alice", device);
    let mut other = Socket::open(running.address, &token_of("dev_a2")).await;
    let mut namesake = Socket::open(running.address, &token("bob", "dev_a1")).await;
    other.caught_up().await;
    namesake.caught_up().await;
    let mut older = Socket::open(running.address, &token_of("dev_a1")).await;
    older.caught_up().await;
    for _ in 0..20 {
        let mut newer = Socket::open(running.address, &token_of("dev_a1")).await;
        newer.caught_up().await;
        assert_eq!(older.end().await, Some(4409));
        older = newer;
    }
    // All at once: one stays.
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(Socket::open(running.address, &token_of("dev_a1")).await);
    }
    assert_eq!(older.end().await, Some(4409));
    let mut open = 0;
    for socket in &mut sockets {
        loop {
            match socket.within(Duration::from_millis(300)).await {
                None => {
                    open += 1;
                    break;
                }
                Some(Seen::Close(code)) => {
                    assert_eq!(code, 4409);
                    break;
                }
                Some(Seen::Ended) => panic!("ended without a word"),
                Some(_) => {}
            }
        }
    }
    assert_eq!(open, 1);
    for socket in [&mut other, &mut namesake] {
        assert_eq!(socket.within(Duration::from_millis(50)).await, None);
    }
}

/// Whoever gets tokens for many devices of one account does not take the places of all.
#[tokio::test]
async fn an_account_has_32_connections_and_one_more_is_told_to_come_back_with_1013() {
    let running = Running::new().await;
    let mut open = Vec::new();
    for n in 0..32 {
        let mut socket = Socket::open(running.address, &token("alice", &format!("dev_{n}"))).await;
        socket.caught_up().await;
        open.push(socket);
    }
    for _ in 0..2 {
        let mut more = Socket::open(running.address, &token("alice", "dev_32")).await;
        assert_eq!(more.end().await, Some(1013));
    }
    Socket::open(running.address, &token("bob", "dev_1")).await.caught_up().await;
    // A place that is given back is another one's.
    drop(open.pop());
    timeout(LONG, async {
        while Socket::open(running.address, &token("alice", "dev_32")).await.next().await == Seen::Close(1013) {}
    })
    .await
    .expect("its place is never free again");
    for socket in &mut open {
        assert_eq!(socket.within(Duration::from_millis(10)).await, None);
    }
}

/// S09: a socket that never reads while a hundred thousand things happen.
#[tokio::test]
async fn a_socket_that_never_reads_is_closed_and_its_device_finds_everything_when_it_comes_back() {
    let counted = Metrics::new();
    counted.install().unwrap();
    // One place, which the deaf one has until it is closed; and a second instead of ten for it to take a byte.
    let limits = Limits { connections: 1, write_stall: Duration::from_secs(1), ..role_limits() };
    let running = Running::over(MemoryStore::new(PopId(7)), limits).await;
    assert!(running.ready().await);
    let id = answered(&running.store, 1, &[]).await;
    let bearer = token("bob", "dev_1");
    let mut deaf = Socket::open_narrow(running.address, &bearer).await;
    let mut happened = 0;
    while !is_away(&running.store, id, "bob").await {
        assert!(happened < 100_000, "it is there, and has read nothing");
        write(&running.store, id, vec![CallCommand::Disconnect(party("alice"))]).await;
        write(&running.store, id, vec![CallCommand::Rejoin(party("alice"))]).await;
        happened += 2;
        // The router has its turn: the store of a test never makes anybody wait.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
    assert!(happened > 128, "{happened}: given up before it had the chance to read");
    let headers = format!("{}sec-websocket-protocol: tandem.v1\r\nauthorization: Bearer {bearer}\r\n", upgrade());
    let place_is_free = async {
        loop {
            match knock(running.address, "/v1/connect", &headers).await {
                Ok(socket) => return socket,
                Err((status, _)) => assert_eq!(status, 503),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut back = timeout(LONG, place_is_free).await.expect("it has its place for ever");
    let told = back.caught_up().await;
    assert!(told.iter().any(|push| push["type"] == "call.leg_joined"), "{told:?}");
    says_of(&running.store, id, "bob", false).await;
    // It was over before anything else took its place, and why is counted.
    assert_ne!(deaf.end().await, Some(4409));
    let slow = r#"tandem_router_connections_closed_total{cause="slow"} 1"#;
    assert!(counted.render().contains(slow), "{}", counted.render());
}

/// S15, docs/api.md: 4401.
#[tokio::test]
async fn a_token_that_expires_closes_its_open_connection_with_4401_within_two_seconds() {
    let running = Running::new().await;
    let expires = now_secs() + 2;
    let grant = Grant { call: true, admin: None };
    let mut socket = Socket::open(running.address, &mint("alice", "dev_a1", grant, expires)).await;
    let mut longer = Socket::open(running.address, &token("alice", "dev_a2")).await;
    socket.caught_up().await;
    longer.caught_up().await;
    assert_eq!(timeout(Duration::from_secs(5), socket.end()).await, Ok(Some(4401)));
    let late = now_secs();
    assert!((expires..=expires + 2).contains(&late), "expired at {expires}, closed at {late}");
    assert_eq!(longer.within(Duration::from_millis(100)).await, None);
}

/// A connection that was closed is not kept by one that does not answer the close.
#[tokio::test]
async fn who_does_not_answer_a_close_is_cut_off() {
    let running = Running::new().await;
    let mut older = Socket::open(running.address, &token("alice", "dev_a1")).await;
    older.caught_up().await;
    let mut newer = Socket::open(running.address, &token("alice", "dev_a1")).await;
    newer.caught_up().await;
    assert_eq!(older.end().await, Some(4409));
    let began = Instant::now();
    assert_eq!(older.end().await, None);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Connections while the store is away, at the start and later.
#[tokio::test]
async fn without_the_store_nobody_is_told_anything_wrong_and_with_it_everybody_is_served() {
    let store = MemoryStore::new(PopId(7));
    store.set_away(true);
    let running = Running::over(store, role_limits()).await;
    let ready = timeout(Duration::from_millis(300), running.ready()).await;
    assert!(ready.is_err(), "ready, and has seen nothing");
    let headers = format!(
        "{}sec-websocket-protocol: tandem.v1\r\nauthorization: Bearer {}\r\n",
        upgrade(),
        token("alice", "dev_a1")
    );
    // It may be refused, or wait; it must not be told that it is up to date.
    let early = knock(running.address, "/v1/connect", &headers).await;
    let early = match early {
        Ok(mut socket) => {
            let said = socket.within(Duration::from_millis(300)).await;
            assert!(matches!(said, None | Some(Seen::Close(1013))), "{said:?}");
            said.is_none().then_some(socket)
        }
        Err((status, answer)) => {
            assert!(status == 503 && answer.contains("retry-after"), "{answer}");
            None
        }
    };
    running.store.set_away(false);
    assert!(timeout(LONG, running.ready()).await.unwrap());
    if let Some(mut socket) = early {
        timeout(LONG, socket.caught_up()).await.expect("it waits for ever");
    }
    let mut socket = Socket::open(running.address, &token("bob", "dev_b1")).await;
    socket.caught_up().await;
    // Away once more: who is connected stays so.
    running.store.set_away(true);
    assert_eq!(socket.within(Duration::from_millis(500)).await, None);
    running.store.set_away(false);
    socket.frame(PING, b"").await.unwrap();
    assert_eq!(socket.next().await, Seen::Pong);
}

/// docs/api.md: 1001 when the router goes away.
#[tokio::test]
async fn a_router_that_stops_says_so_to_everybody() {
    let mut running = Running::new().await;
    let mut sockets = Vec::new();
    for n in 0..50 {
        let mut socket = Socket::open(running.address, &token(&format!("account-{n}"), "dev_1")).await;
        socket.caught_up().await;
        sockets.push(socket);
    }
    timeout(LONG, running.close()).await.expect("it does not end");
    for socket in &mut sockets {
        assert_eq!(socket.end().await, Some(1001));
    }
}
