//! What is asked of the processes: bare durable writes, calls, and calls whose rings are awaited.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tandem_state_client::{Change, Command, Key, Op, Revision, Store};
use tandem_wire::id::{BucketId, CallId, LegId, PopId};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::http::Client;
use crate::socket::Socket;
use crate::{ACCOUNTS, Failure};

/// A record of a call has about as many bytes.
const RECORD: usize = 300;

/// What is written in one command of the floor: sizes of its records.
pub(crate) type Records = &'static [usize];
/// The least that is a durable write.
pub(crate) const ONE_RECORD: Records = &[RECORD];
/// As many bytes in as many records as a call that is placed: call, pair, offer, note.
pub(crate) const OF_A_CALL: Records = &[600, 60, 2_300, 410];

/// Durable writes a second of the store alone, over the same gRPC.
pub(crate) async fn floor(cluster: &Cluster, records: Records, seconds: u64, at_once: usize) -> Result<f64, Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let store = cluster.store.clone();
        tasks.spawn(async move {
            let mut count = 0_u64;
            while Instant::now() < until {
                let n = NEXT.fetch_add(1, Ordering::Relaxed);
                // Where calls go: into any bucket. Of a kind that signaling and router do not follow, so that it is the
                // store's work alone.
                let bucket = BucketId((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16);
                let call = CallId::new(PopId(1), bucket, u128::from(n));
                let ops = records.iter().zip(1..).map(|(bytes, leg)| {
                    let key = Key::Attachment(call, LegId::new(leg)?);
                    Ok::<_, Failure>(Op { key, based_on: Revision::ZERO, change: Change::Put(vec![b'1'; *bytes]) })
                });
                store.commit(Command { ops: ops.collect::<Result<_, _>>()? }).await?;
                count += 1;
            }
            Ok::<_, Failure>(count)
        });
    }
    let mut total = 0;
    while let Some(done) = tasks.join_next().await {
        total += done??;
    }
    Ok(total as f64 / seconds as f64)
}

fn body(callee: usize) -> String {
    // Chromium's offer of sound and picture has 1,606 B when it is sealed (e2e/src/sdk.test.ts), a note 194 B.
    let sealed = "QUFB".repeat(536);
    let note = "QUFB".repeat(65);
    format!(
        "{{\"to\":[\"callee{callee}\"],\"kind\":\"one_to_one\",\"media\":\"video\",\
         \"sealed\":{{\"dev_callee{callee}\":\"{sealed}\"}},\"missed\":{{\"dev_callee{callee}\":\"{note}\"}}}}"
    )
}

/// Calls a second that are placed: each is answered with its ticket, and so rings.
pub(crate) async fn setups(cluster: &Cluster, seconds: u64, at_once: usize, round: usize) -> Result<f64, Failure> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let tokens: Arc<Vec<String>> =
        Arc::new((0..ACCOUNTS).map(|n| cluster.token(&format!("caller{n}"))).collect::<Result<_, _>>()?);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (api, tokens) = (cluster.api, Arc::clone(&tokens));
        tasks.spawn(async move {
            let mut client = Client::connect(api).await?;
            let mut count = 0_u64;
            while Instant::now() < until {
                // Every pair calls once, so that none is in a call with each other already.
                let n = NEXT.fetch_add(1, Ordering::Relaxed) % (ACCOUNTS * ACCOUNTS);
                let (caller, callee) = (n % ACCOUNTS, n / ACCOUNTS);
                let (status, answer) = client.ask("POST", "/v1/calls", &tokens[caller], &body(callee)).await?;
                if status != 201 {
                    return Err(format!("round {round}: a call was refused: {status} {answer}").into());
                }
                count += 1;
            }
            Ok::<_, Failure>(count)
        });
    }
    let mut total = 0;
    while let Some(done) = tasks.join_next().await {
        total += done??;
    }
    Ok(total as f64 / seconds as f64)
}

/// Delays in milliseconds from the request to the ring on the callee's socket, sorted. Calls are placed on time, whatever
/// the earlier ones do, and ended once they have rung.
pub(crate) async fn rings(cluster: &Cluster, per_second: u64, seconds: u64) -> Result<Vec<f64>, Failure> {
    let (told, mut rung) = mpsc::unbounded_channel();
    for n in 0..ACCOUNTS {
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut socket = Socket::connect(from, cluster.connect, &cluster.token(&format!("callee{n}"))?).await?;
        let told = told.clone();
        tokio::spawn(async move {
            while let Ok(text) = socket.next().await {
                let now = Instant::now();
                if text.contains("\"call.offer\"") {
                    let at = text.find("call_0").unwrap_or_default();
                    let _ = told.send((text.get(at..at + 31).unwrap_or_default().to_owned(), now));
                }
            }
        });
    }
    let placed: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let mut ticks = tokio::time::interval(Duration::from_nanos(1_000_000_000 / per_second));
    let mut tasks = JoinSet::new();
    let count = per_second * seconds;
    for n in 0..count {
        ticks.tick().await;
        let n = usize::try_from(n)? % (ACCOUNTS * ACCOUNTS);
        // Other pairs than those of the set-ups: caller and callee trade places.
        let (caller, callee) = (n % ACCOUNTS, (n + n / ACCOUNTS + 1) % ACCOUNTS);
        let (api, token, placed) = (cluster.api, cluster.token(&format!("callee{caller}"))?, Arc::clone(&placed));
        tasks.spawn(async move {
            let began = Instant::now();
            let mut client = Client::connect(api).await?;
            if caller == callee {
                return Ok(());
            }
            let (status, answer) = client.ask("POST", "/v1/calls", &token, &body(callee)).await?;
            if status == 409 {
                return Ok(());
            }
            if status != 201 {
                return Err(Failure::from(format!("a call was refused: {status} {answer}")));
            }
            let at = answer.find("call_0").ok_or("no call")?;
            let call = answer.get(at..at + 31).unwrap_or_default().to_owned();
            placed.lock().await.insert(call.clone(), began);
            tokio::time::sleep(Duration::from_millis(500)).await;
            client.ask("POST", &format!("/v1/calls/{call}/end"), &token, "{}").await?;
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    drop(told);
    let placed = placed.lock().await;
    let (mut delays, mut heard) = (Vec::new(), 0);
    while let Ok((call, at)) = rung.try_recv() {
        if let Some(began) = placed.get(&call) {
            heard += 1;
            delays.push(at.duration_since(*began).as_secs_f64() * 1_000.0);
        }
    }
    if heard < placed.len() {
        return Err(format!("{} of {} calls did not ring", placed.len() - heard, placed.len()).into());
    }
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}
