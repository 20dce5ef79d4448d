//! The engine on etcd: several state servers over one store.
//!
//! Decides that everything reaches the cache by the watch and by nothing else, so that what others write and what we write
//! come in one order. Uses nothing newer than etcd 3.4.
//!
//! `commits` writes, `watcher` feeds the cache, `keeper` looks whether both still work, `audit` whether nothing was
//! lost; `link` are the nodes, `origin` says
//! which store it is.

mod audit;
mod batch;
mod commits;
mod engine;
mod keeper;
mod link;
mod list;
mod origin;
mod pause;
mod watcher;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tandem_wire::id::PopId;
use tandem_wire::units::Wall;
use tokio::sync::{RwLock, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use link::{EtcdConfig, EtcdTls};

use crate::backend::OpenError;
use crate::cache::Cache;
use crate::shared::Shared;
use crate::writer::Job;
use commits::Commits;
pub(crate) use engine::Engine;
use engine::Renew;
use keeper::Keeper;
use link::Link;
use list::{Listed, list};
use origin::{Origin, Paths, Trouble};
use pause::Pause;
use watcher::Watcher;

/// An engine that runs.
pub(crate) struct Running {
    pub(crate) shared: Arc<Shared>,
    pub(crate) latest: watch::Receiver<tandem_state_client::Revision>,
    pub(crate) writable: watch::Receiver<bool>,
    /// `None`: it is not on etcd.
    pub(crate) engine: Option<Arc<Engine>>,
    /// Ends it when it is dropped.
    pub(crate) tasks: JoinSet<()>,
}

/// Lists the store, or makes it, and goes on from there. Waits for etcd for as long as it takes.
pub(crate) async fn start(
    config: &EtcdConfig,
    pop: PopId,
    now: fn() -> Wall,
    jobs: mpsc::Receiver<Job>,
) -> Result<Running, OpenError> {
    let (engine, renew) = list_first(config, pop, now).await?;
    let (shared, latest) = (Arc::clone(&engine.shared), engine.latest.subscribe());
    let (writable, mut tasks) = (engine.writable.subscribe(), JoinSet::new());
    tasks.spawn(Watcher { engine: Arc::clone(&engine), renew }.run());
    tasks.spawn(Keeper { engine: Arc::clone(&engine) }.run());
    tasks.spawn(audit::run(Arc::clone(&engine)));
    tasks.spawn(Commits { engine: Arc::clone(&engine), jobs, aside: VecDeque::new() }.run());
    Ok(Running { shared, latest, writable, engine: Some(engine), tasks })
}

/// All of it but what runs.
async fn list_first(
    config: &EtcdConfig,
    pop: PopId,
    now: fn() -> Wall,
) -> Result<(Arc<Engine>, mpsc::Receiver<Renew>), OpenError> {
    let link = Link::new(config).await?;
    let paths = Paths::of(pop);
    let asked = Instant::now();
    let (origin, listed, with_leader) = read_first(&link, &paths, pop, now).await?;
    let latest = watch::Sender::new(listed.listing.revision);
    let shared = Arc::new(Shared::aging(Cache::new(pop, listed.listing)));
    if with_leader {
        shared.was_current(asked);
    }
    shared.counters.strangers.store(listed.strangers, Ordering::Relaxed);
    let (renew, renewing) = mpsc::channel(1);
    let (origin, writable) = (RwLock::new(origin), watch::Sender::new(true));
    Ok((Arc::new(Engine { link, pop, paths, now, shared, origin, latest, writable, renew }), renewing))
}

/// The first list: by the majority's word from whichever node gives it; if none does, as one node has it, so that calls go
/// on where there is no leader. `true`: by the majority's.
async fn read_first(
    link: &Link,
    paths: &Paths,
    pop: PopId,
    now: fn() -> Wall,
) -> Result<(Origin, Listed, bool), OpenError> {
    let mut pause = Pause::new();
    loop {
        for local in [false, true] {
            for node in 0..link.len() {
                match read_at(link, node, paths, pop, now, local).await {
                    Ok(Some((origin, listed))) => return Ok((origin, listed, !local)),
                    Ok(None) => {}
                    Err(Trouble::Open(error)) => return Err(error),
                    Err(Trouble::Call(error)) => {
                        link.failed(node);
                        pause.because("etcd cannot be listed now", &error);
                    }
                }
            }
        }
        pause.wait().await;
    }
}

async fn read_at(
    link: &Link,
    node: usize,
    paths: &Paths,
    pop: PopId,
    now: fn() -> Wall,
    local: bool,
) -> Result<Option<(Origin, Listed)>, Trouble> {
    let origin = if local {
        let Some(origin) = Origin::read(link, node, paths, true).await?.origin else { return Ok(None) };
        origin
    } else {
        Origin::read_or_make(link, node, paths, now()).await?
    };
    let listed = list(link, node, (paths, &origin, pop), local).await?;
    Ok(Some((origin, listed)))
}

#[cfg(test)]
mod tests;
