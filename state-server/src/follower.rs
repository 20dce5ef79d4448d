//! One who follows: reads on from where it is, at its own pace.
//!
//! Decides nothing. It holds no changes of its own: who is too slow falls off the end of those that are kept, is told so,
//! and lists everything anew.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_core::Stream;
use tandem_state_client::{BucketSet, Changes, Revision, StoreError};
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::wrappers::WatchStream;

use crate::limits;
use crate::shared::{AWAY, Shared};

/// What a watch reads from.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    /// Wakes us when there is more. It ends with the writer.
    latest: WatchStream<Revision>,
    buckets: BucketSet,
    at: Revision,
    /// Which life of the cache it began in.
    life: u64,
    /// Changes that were passed over since the other side was last told where we are.
    untold: usize,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    pub(crate) fn new(
        shared: Arc<Shared>,
        latest: WatchStream<Revision>,
        buckets: BucketSet,
        (after, life): (Revision, u64),
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { shared, latest, buckets, at: after, life, untold: 0, ended: false, _place: place }
    }
}

impl Stream for Follower {
    type Item = Result<Changes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            match self.shared.read(|cache| cache.changes_in(self.life, &self.buckets, self.at)) {
                Ok((changes, passed)) => {
                    self.at = changes.reached;
                    self.untold += passed;
                    if !changes.events.is_empty() || self.untold >= limits::UNTOLD {
                        self.untold = 0;
                        return Poll::Ready(Some(Ok(changes)));
                    }
                }
                Err(error) => {
                    self.ended = true;
                    self.shared.counters.compacted.fetch_add(1, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(error)));
                }
            }
            // Asked after reading: what is written in between has woken it already.
            match Pin::new(&mut self.latest).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(AWAY)));
                }
            }
        }
    }
}
