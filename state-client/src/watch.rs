//! Following a store: changes, one after another.
//!
//! Decides that a revision is never torn apart: either all changes of a command have been handed out or none, whatever
//! happens to the connection in between. So who resumes after the last revision that it saw misses nothing.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tandem_wire::id::Revision;

use crate::store::{Event, StoreError};

/// Changes of whole revisions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// In the order of their revisions; operations of one command have the same one and stand side by side. May be
    /// empty: then nothing of what is watched has changed.
    pub events: Vec<Event>,
    /// Whatever happened up to this revision, to what is watched, has been told with this.
    pub reached: Revision,
}

/// Where changes come from.
pub type Source = Pin<Box<dyn Stream<Item = Result<Changes, StoreError>> + Send>>;

/// Changes in the order of their revisions. It gives one [`Event`] at a time, or, with [`Watch::poll_changes`], as many as
/// there are. When it cannot go on it gives an error, and then nothing more.
pub struct Watch {
    /// `None` after an error.
    source: Option<Source>,
    waiting: VecDeque<Event>,
    /// What will have been told when nothing waits any more.
    reaching: Revision,
    reached: Revision,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("reached", &self.reached)
            .field("waiting", &self.waiting.len())
            .field("ended", &self.source.is_none())
            .finish()
    }
}

impl Watch {
    /// Follows `source`, which tells what comes after `after`.
    #[must_use]
    pub const fn new(source: Source, after: Revision) -> Self {
        Self { source: Some(source), waiting: VecDeque::new(), reaching: after, reached: after }
    }

    /// Everything up to this revision has been handed out: where to resume. It may be later than the last event's, since
    /// what others change counts too; then resuming asks for less of what is no longer kept.
    #[must_use]
    pub const fn reached(&self) -> Revision {
        self.reached
    }

    /// The next changes, whole revisions at a time; `None` when it has ended.
    pub fn poll_changes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Changes, StoreError>>> {
        if !self.waiting.is_empty() {
            self.reached = self.reaching;
            return Poll::Ready(Some(Ok(Changes { events: self.waiting.drain(..).collect(), reached: self.reaching })));
        }
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        match source.as_mut().poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(changes))) => {
                self.reaching = changes.reached;
                self.reached = changes.reached;
                Poll::Ready(Some(Ok(changes)))
            }
            Poll::Ready(end) => {
                self.source = None;
                Poll::Ready(end)
            }
        }
    }
}

impl Stream for Watch {
    type Item = Result<Event, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                // Not yet with the last of a revision in sight: with all of it.
                if self.waiting.is_empty() {
                    self.reached = self.reaching;
                }
                return Poll::Ready(Some(Ok(event)));
            }
            let before = self.reached;
            match self.poll_changes(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(changes))) => {
                    if !changes.events.is_empty() {
                        self.reached = before;
                    }
                    self.waiting = changes.events.into();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use tandem_wire::id::CallId;
    use tokio_stream::StreamExt as _;

    fn event(revision: u64) -> Event {
        Event { key: Key::Call(CallId::from_bits(1)), revision: Revision(revision), value: None }
    }

    fn changes(events: &[u64], reached: u64) -> Result<Changes, StoreError> {
        Ok(Changes { events: events.iter().copied().map(event).collect(), reached: Revision(reached) })
    }

    fn watch(items: Vec<Result<Changes, StoreError>>) -> Watch {
        Watch::new(Box::pin(tokio_stream::iter(items)), Revision(4))
    }

    #[tokio::test]
    async fn it_says_where_to_resume_only_when_a_whole_batch_is_handed_out() {
        let mut watch = watch(vec![changes(&[5, 5, 7], 9), changes(&[], 12), changes(&[13], 13)]);
        assert_eq!(watch.reached(), Revision(4));
        for expected in [(5, 4), (5, 4), (7, 9), (13, 13)] {
            let event = watch.next().await.unwrap().unwrap();
            assert_eq!((event.revision.0, watch.reached().0), expected);
        }
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn after_an_error_nothing_more_comes() {
        let mut watch = watch(vec![Err(StoreError::Compacted), changes(&[6], 6)]);
        assert_eq!(watch.next().await, Some(Err(StoreError::Compacted)));
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn changes_come_as_whole_as_they_are() {
        let mut watch = watch(vec![changes(&[5, 5], 5), changes(&[6], 8)]);
        watch.next().await.unwrap().unwrap();
        let next = std::future::poll_fn(|context| watch.poll_changes(context)).await;
        assert_eq!(next, Some(changes(&[5], 5)), "what was begun is finished first");
        let next = std::future::poll_fn(|context| watch.poll_changes(context)).await;
        assert_eq!(next, Some(changes(&[6], 8)));
        assert_eq!(watch.reached(), Revision(8));
    }
}
