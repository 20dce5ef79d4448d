//! What is asked of a store: writers that each wait for an answer before they go on, and followers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tandem_state_client::{BucketSet, Change, Command, Key, Op, Revision, Store};
use tandem_wire::id::{BucketId, CallId, LegId, PopId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Failure;

pub(crate) const POP: PopId = PopId(1);
/// A record of a call has about as many bytes.
const RECORD: usize = 300;

/// How many a second, and how long each took, sorted, in milliseconds.
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) took_ms: Vec<f64>,
}

impl Measured {
    fn of(mut took_ms: Vec<f64>, seconds: f64) -> Self {
        took_ms.sort_by(f64::total_cmp);
        Self { per_second: took_ms.len() as f64 / seconds, took_ms }
    }

    pub(crate) fn at(&self, share: f64) -> f64 {
        self.took_ms.get(((self.took_ms.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Nobody has asked for this call before: in any bucket, as calls are.
fn new_call() -> CallId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    CallId::new(POP, BucketId((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16), u128::from(n))
}

fn put(key: Key) -> Op {
    Op { key, based_on: Revision::ZERO, change: Change::Put(vec![b'1'; RECORD]) }
}

async fn writers<F, W>(count: usize, seconds: u64, write: F) -> Result<Measured, Failure>
where
    F: Fn() -> W + Clone + Send + 'static,
    W: Future<Output = Result<(), Failure>> + Send,
{
    let (start, mut tasks) = (Instant::now(), JoinSet::new());
    let until = start + Duration::from_secs(seconds);
    for _ in 0..count {
        let write = write.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            loop {
                let asked = Instant::now();
                if asked >= until {
                    return Ok::<_, Failure>(took);
                }
                write().await?;
                took.push(asked.elapsed().as_secs_f64() * 1e3);
            }
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    Ok(Measured::of(all, start.elapsed().as_secs_f64()))
}

/// Commands of one record each, durable when they are answered.
pub(crate) async fn commands(store: &Arc<dyn Store>, count: usize, seconds: u64) -> Result<Measured, Failure> {
    let store = Arc::clone(store);
    writers(count, seconds, move || {
        let store = Arc::clone(&store);
        async move {
            store.commit(Command { ops: vec![put(Key::Attachment(new_call(), LegId::new(1)?))] }).await?;
            Ok(())
        }
    })
    .await
}

/// Plain puts of etcd's own client, with the same paths and sizes.
pub(crate) async fn puts(client: etcd_client::KvClient, count: usize, seconds: u64) -> Result<Measured, Failure> {
    writers(count, seconds, move || {
        let mut client = client.clone();
        async move {
            client.put(format!("plain/{}", Key::Call(new_call())), vec![b'1'; RECORD], None).await?;
            Ok(())
        }
    })
    .await
}

/// Makes calls with two legs each.
pub(crate) async fn fill(store: &Arc<dyn Store>, calls: usize) -> Result<(), Failure> {
    let mut tasks = JoinSet::new();
    for _ in 0..calls {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let call = new_call();
            let keys = [Key::Call(call), Key::Attachment(call, LegId::new(1)?), Key::Attachment(call, LegId::new(2)?)];
            store.commit(Command { ops: keys.map(put).to_vec() }).await?;
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// From asking `writer` for a command to seeing it at `follower`; some hundred a second.
pub(crate) async fn watch_delay(
    writer: &Arc<dyn Store>,
    follower: &Arc<dyn Store>,
    seconds: u64,
) -> Result<Measured, Failure> {
    let at = follower.restore(&BucketSet::none()).await?.revision;
    let mut watch = follower.watch(&BucketSet::all(), at).await?;
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    let (start, mut took) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(seconds) {
        pace.tick().await;
        let key = Key::Call(new_call());
        let asked = Instant::now();
        let command = Command { ops: vec![put(key)] };
        let seen = async {
            loop {
                let changes = std::future::poll_fn(|context| watch.poll_changes(context)).await;
                let changes = changes.ok_or("the watch ended")??;
                if changes.events.iter().any(|event| event.key == key) {
                    return Ok::<_, Failure>(asked.elapsed());
                }
            }
        };
        let (written, seen) = tokio::join!(writer.commit(command), seen);
        written?;
        took.push(seen?.as_secs_f64() * 1e3);
    }
    Ok(Measured::of(took, start.elapsed().as_secs_f64()))
}
