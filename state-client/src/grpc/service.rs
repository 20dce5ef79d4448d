//! The server's side: any [`Store`] behind gRPC.
//!
//! Decides who may ask (who has the secret), the bounds of HTTP/2, and how a list is cut into messages. Leaves everything
//! else to the store.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use subtle::ConstantTimeEq as _;
use tandem_wire::id::Revision;
use tandem_wire::redact::Secret;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_stream::wrappers::WatchStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::connections::connections;
use super::proto::state_server::{State, StateServer};
use super::status::{set_age, to_status};
use super::{AUTHORIZATION, bearer, convert, proto, reports};
use crate::{Entry, Fault, Listing, Store, StoreError, Watch, limits};

struct Service<S: ?Sized> {
    store: Arc<S>,
    lists: Arc<Semaphore>,
    load_streams: Arc<Semaphore>,
    /// Its sender is dropped when the server is to end.
    closing: watch::Receiver<()>,
}

impl<S: Store + ?Sized> Service<S> {
    /// A place for one list more.
    fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.lists).try_acquire_owned().map_err(|_| to_status(&AWAY))
    }

    /// An answer from what the store remembers.
    fn aged<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        set_age(response.metadata_mut(), self.store.age());
        response
    }
}

const AWAY: StoreError = StoreError::Away { retry_after_ms: limits::RETRY_AFTER_MS };

fn status(error: StoreError) -> Status {
    to_status(&error)
}

#[tonic::async_trait]
impl<S: Store + ?Sized + 'static> State for Service<S> {
    async fn commit(&self, request: Request<proto::CommitRequest>) -> Result<Response<proto::CommitReply>, Status> {
        let command = convert::command_from(request.into_inner()).map_err(status)?;
        let revision = self.store.commit(command).await.map_err(status)?;
        Ok(Response::new(proto::CommitReply { revision: revision.0 }))
    }

    type LoadStream = tokio_stream::Iter<Parts>;

    async fn load(&self, request: Request<proto::LoadRequest>) -> Result<Response<Self::LoadStream>, Status> {
        let proto::LoadRequest { call, latest } = request.into_inner();
        let call = call.parse().map_err(|_| status(StoreError::Invalid(Fault::Unreadable)))?;
        let listing = if latest { self.store.load_latest(call).await } else { self.store.load(call).await };
        let listing = listing.map_err(status)?;
        // After it has been waited for: restoring must find a place while etcd does not answer.
        let place = self.place()?;
        Ok(self.aged(tokio_stream::iter(Parts::new(listing, place))))
    }

    async fn read(&self, request: Request<proto::ReadRequest>) -> Result<Response<proto::ReadReply>, Status> {
        let key = request.into_inner().key.parse().map_err(|_| status(StoreError::Invalid(Fault::Unreadable)))?;
        let entry = self.store.read(key).await.map_err(status)?;
        Ok(self.aged(proto::ReadReply { entry: entry.map(convert::entry_to) }))
    }

    type RestoreStream = tokio_stream::Iter<Parts>;

    async fn restore(&self, request: Request<proto::RestoreRequest>) -> Result<Response<Self::RestoreStream>, Status> {
        let request = request.into_inner();
        let buckets = convert::wanted_from(&request.buckets, request.left_out).map_err(status)?;
        let place = self.place()?;
        let listing = self.store.restore(&buckets).await.map_err(status)?;
        Ok(self.aged(tokio_stream::iter(Parts::new(listing, place))))
    }

    type WatchStream = Told;

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let buckets = convert::wanted_from(&request.buckets, request.left_out).map_err(status)?;
        let watch = self.store.watch(&buckets, Revision(request.after)).await.map_err(status)?;
        let closing = WatchStream::from_changes(self.closing.clone());
        Ok(self.aged(Told { watch, closing, ended: false }))
    }

    async fn find_client(
        &self,
        request: Request<proto::FindClientRequest>,
    ) -> Result<Response<proto::FindClientReply>, Status> {
        let (transport, client) = convert::client_from(&request.into_inner()).map_err(status)?;
        let owner = self.store.find_client(transport, client).await.map_err(status)?;
        Ok(self.aged(proto::FindClientReply { owner: owner.map(convert::owner_to) }))
    }

    async fn report_load(
        &self,
        request: Request<Streaming<proto::LoadReport>>,
    ) -> Result<Response<proto::ReportLoadReply>, Status> {
        let place = Arc::clone(&self.load_streams).try_acquire_owned().map_err(|_| to_status(&AWAY))?;
        reports::hear(Arc::clone(&self.store), request.into_inner(), self.closing.clone(), place).await?;
        Ok(Response::new(proto::ReportLoadReply {}))
    }

    async fn loads(&self, _: Request<proto::LoadsRequest>) -> Result<Response<proto::LoadsReply>, Status> {
        Ok(Response::new(convert::loads_to(self.store.loads().await.map_err(status)?)))
    }
}

/// A list in parts, each made when there is room for it on the connection.
struct Parts {
    revision: u64,
    entries: std::iter::Peekable<std::vec::IntoIter<Entry>>,
    whole: bool,
    _place: OwnedSemaphorePermit,
}

impl Parts {
    fn new(listing: Listing, place: OwnedSemaphorePermit) -> Self {
        let entries = listing.entries.into_iter().peekable();
        Self { revision: listing.revision.0, entries, whole: false, _place: place }
    }
}

impl Iterator for Parts {
    type Item = Result<proto::Listing, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.whole {
            return None;
        }
        let (mut entries, mut size) = (Vec::new(), 0);
        while size < limits::LISTING_PART {
            let Some(entry) = self.entries.next() else { break };
            size += limits::ENTRY_OVERHEAD + entry.value.len();
            entries.push(convert::entry_to(entry));
        }
        self.whole = self.entries.peek().is_none();
        Some(Ok(proto::Listing { revision: self.revision, entries, last: self.whole }))
    }
}

/// Changes, until there are no more, or the server ends.
struct Told {
    watch: Watch,
    closing: WatchStream<()>,
    ended: bool,
}

impl Stream for Told {
    type Item = Result<proto::Changes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(None) = Pin::new(&mut self.closing).poll_next(context) {
            self.ended = true;
            return Poll::Ready(Some(Err(to_status(&AWAY))));
        }
        match self.watch.poll_changes(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(changes))) => Poll::Ready(Some(Ok(convert::changes_to(changes)))),
            Poll::Ready(end) => {
                self.ended = true;
                Poll::Ready(end.map(|end| Err(end.err().map_or_else(|| Status::internal(""), status))))
            }
        }
    }
}

/// Serves `store` on `listener` to those who have `secret`, until `shutdown` is done. Then those who follow are told that
/// the store is away, requests under way are finished, and it returns.
///
/// # Errors
/// What the transport says.
pub async fn serve<S: Store + ?Sized + 'static>(
    listener: TcpListener,
    store: Arc<S>,
    secret: &Secret,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    // A secret that cannot stand in a header lets nobody in.
    let expected = bearer(secret);
    let check = move |request: Request<()>| {
        let sent = request.metadata().get(AUTHORIZATION);
        let known = match (&expected, sent) {
            (Some(expected), Some(sent)) => bool::from(expected.as_bytes().ct_eq(sent.as_bytes())),
            _ => false,
        };
        if known { Ok(request) } else { Err(to_status(&StoreError::Unauthorized)) }
    };
    let (open, closing) = watch::channel(());
    let until = async move {
        shutdown.await;
        drop(open);
    };
    let lists = Arc::new(Semaphore::new(limits::LISTS_AT_ONCE));
    let load_streams = Arc::new(Semaphore::new(limits::LOAD_STREAMS));
    let service = StateServer::new(Service { store, lists, load_streams, closing })
        .max_decoding_message_size(limits::COMMAND_LEN_MAX)
        .max_encoding_message_size(limits::MESSAGE_LEN_MAX);
    Server::builder()
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(limits::HEADER_LIST_MAX)
        .http2_max_pending_accept_reset_streams(Some(limits::PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(limits::LOCAL_RESETS))
        .http2_keepalive_interval(Some(limits::KEEP_ALIVE))
        .http2_keepalive_timeout(Some(limits::KEEP_ALIVE))
        .add_service(InterceptedService::new(service, check))
        .serve_with_incoming_shutdown(connections(listener), until)
        .await
}
