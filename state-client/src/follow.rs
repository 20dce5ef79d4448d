//! Following a store for as long as a process lives, whatever happens to the connection or the server.
//!
//! Decides when to list everything anew and how long to wait in between. Leaves what the records say to whoever follows: a
//! list replaces what they knew, and what differs from it is a change like any other.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{BucketSet, Changes, Listing, Revision, Store, StoreError, limits};

/// What a follower is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Everything, as it is at one revision. It comes first, and again whenever changes were missed.
    Listed(Listing),
    /// What has changed since, in whole revisions.
    Changed(Changes),
}

/// Follows `buckets` of `store` until the receiver is dropped. Must be called in a tokio runtime.
#[must_use]
pub fn follow(store: Arc<dyn Store>, buckets: BucketSet) -> mpsc::Receiver<Followed> {
    let (sender, receiver) = mpsc::channel(limits::FOLLOWED_WAITING);
    tokio::spawn(async move {
        // It ends when nobody listens any more.
        let _ = run(&*store, &buckets, &sender).await;
    });
    receiver
}

/// Nobody listens.
struct Gone;

async fn run(store: &dyn Store, buckets: &BucketSet, sender: &mpsc::Sender<Followed>) -> Result<(), Gone> {
    let mut wait = limits::FOLLOW_RETRY;
    loop {
        match store.restore(buckets).await {
            Ok(listing) => {
                let at = listing.revision;
                tell(sender, Followed::Listed(listing)).await?;
                wait = limits::FOLLOW_RETRY;
                changes(store, buckets, at, sender).await?;
            }
            Err(error) => {
                complain(&error);
                pause(sender, wait).await?;
                wait = (wait * 2).min(limits::FOLLOW_RETRY_MAX);
            }
        }
    }
}

/// Tells changes after `at`, until only a new list can help.
async fn changes(
    store: &dyn Store,
    buckets: &BucketSet,
    mut at: Revision,
    sender: &mpsc::Sender<Followed>,
) -> Result<(), Gone> {
    let mut wait = limits::FOLLOW_RETRY;
    loop {
        let error = match store.watch(buckets, at).await {
            Ok(mut watch) => loop {
                match std::future::poll_fn(|context| watch.poll_changes(context)).await {
                    Some(Ok(changes)) => {
                        wait = limits::FOLLOW_RETRY;
                        at = changes.reached;
                        if !changes.events.is_empty() {
                            tell(sender, Followed::Changed(changes)).await?;
                        }
                    }
                    Some(Err(error)) => break error,
                    None => break StoreError::Away { retry_after_ms: 0 },
                }
            },
            Err(error) => error,
        };
        complain(&error);
        if !error.is_away() {
            return Ok(());
        }
        pause(sender, wait).await?;
        wait = (wait * 2).min(limits::FOLLOW_RETRY_MAX);
    }
}

fn complain(error: &StoreError) {
    if error.is_away() {
        tracing::debug!(%error, "cannot follow the store now");
    } else {
        tracing::warn!(%error, "cannot follow the store any further: listing everything anew");
    }
}

async fn tell(sender: &mpsc::Sender<Followed>, followed: Followed) -> Result<(), Gone> {
    sender.send(followed).await.map_err(|_| Gone)
}

async fn pause(sender: &mpsc::Sender<Followed>, wait: std::time::Duration) -> Result<(), Gone> {
    tokio::select! {
        () = tokio::time::sleep(wait) => Ok(()),
        () = sender.closed() => Err(Gone),
    }
}
