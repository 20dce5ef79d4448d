//! The server's side: any [`Store`] behind gRPC.
//!
//! Decides who may ask (who has the secret) and the bounds of HTTP/2. Leaves everything else to the store.

use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;
use subtle::ConstantTimeEq as _;
use tandem_wire::id::Revision;
use tandem_wire::redact::Secret;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::proto::state_server::{State, StateServer};
use super::{AUTHORIZATION, bearer, convert, proto};
use crate::{Store, StoreError, limits};

struct Service<S>(Arc<S>);

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<S: Store + 'static> State for Service<S> {
    async fn commit(&self, request: Request<proto::CommitRequest>) -> Result<Response<proto::CommitReply>, Status> {
        let command = convert::command_from(request.into_inner()).map_err(|error| convert::to_status(&error))?;
        let result = match self.0.commit(command).await {
            Ok(revision) => proto::commit_reply::Result::Revision(revision.0),
            Err(StoreError::Stale { key }) => proto::commit_reply::Result::Stale(key.to_string()),
            Err(error) => return Err(convert::to_status(&error)),
        };
        Ok(Response::new(proto::CommitReply { result: Some(result) }))
    }

    async fn load(&self, request: Request<proto::LoadRequest>) -> Result<Response<proto::Listing>, Status> {
        let call = request.into_inner().call.parse();
        let call = call.map_err(|_| convert::to_status(&StoreError::Invalid("not a call")))?;
        let listing = self.0.load(call).await.map_err(|error| convert::to_status(&error))?;
        Ok(Response::new(proto::Listing {
            revision: listing.revision.0,
            entries: listing.entries.into_iter().map(convert::entry_to).collect(),
        }))
    }

    type RestoreStream = Replies<proto::Listing>;

    async fn restore(&self, request: Request<proto::RestoreRequest>) -> Result<Response<Self::RestoreStream>, Status> {
        let buckets = convert::buckets_from(&request.into_inner().buckets);
        let buckets = buckets.map_err(|error| convert::to_status(&error))?;
        let listing = self.0.restore(&buckets).await.map_err(|error| convert::to_status(&error))?;
        let revision = listing.revision.0;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut part = proto::Listing { revision, entries: Vec::new() };
            let mut size = 0;
            for entry in listing.entries {
                size += limits::ENTRY_OVERHEAD + entry.value.len();
                part.entries.push(convert::entry_to(entry));
                if size >= limits::LISTING_PART {
                    size = 0;
                    let whole = std::mem::replace(&mut part, proto::Listing { revision, entries: Vec::new() });
                    if sender.send(Ok(whole)).await.is_err() {
                        return;
                    }
                }
            }
            // The last part is sent even if it is empty: it says that the list is whole, and has the revision.
            let _ = sender.send(Ok(part)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type WatchStream = Replies<proto::Change>;

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let buckets = convert::buckets_from(&request.buckets).map_err(|error| convert::to_status(&error))?;
        let changes = self.0.watch(&buckets, Revision(request.after)).await;
        let changes = changes.map_err(|error| convert::to_status(&error))?;
        Ok(Response::new(Box::pin(changes.map(|change| match change {
            Ok(event) => Ok(convert::event_to(event)),
            Err(error) => Err(convert::to_status(&error)),
        }))))
    }

    async fn find_client(
        &self,
        request: Request<proto::FindClientRequest>,
    ) -> Result<Response<proto::FindClientReply>, Status> {
        let asked = convert::client_from(&request.into_inner());
        let (transport, client) = asked.map_err(|error| convert::to_status(&error))?;
        let owner = self.0.find_client(transport, client).await.map_err(|error| convert::to_status(&error))?;
        Ok(Response::new(proto::FindClientReply { owner: owner.map(convert::owner_to) }))
    }
}

/// Serves `store` on `listener` to those who have `secret`, until `shutdown` is done.
///
/// # Errors
/// What the transport says.
pub async fn serve<S: Store + 'static>(
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
        if known { Ok(request) } else { Err(convert::to_status(&StoreError::Unauthorized)) }
    };
    let service = StateServer::new(Service(store))
        .max_decoding_message_size(limits::COMMAND_LEN_MAX)
        .max_encoding_message_size(limits::MESSAGE_LEN_MAX);
    let service = tonic::service::interceptor::InterceptedService::new(service, check);
    Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(limits::HEADER_LIST_MAX)
        .http2_max_pending_accept_reset_streams(Some(limits::PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(limits::LOCAL_RESETS))
        .http2_keepalive_interval(Some(limits::KEEP_ALIVE))
        .http2_keepalive_timeout(Some(limits::KEEP_ALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(connections(listener), shutdown)
        .await
}

/// Connections as they come. A failed accept (no descriptor left, attack S11) does not end the server: the next one is
/// tried a moment later.
fn connections(listener: TcpListener) -> impl Stream<Item = Result<TcpStream, std::io::Error>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((connection, _)) => {
                    // Small answers are not to wait for each other; a socket that refuses this is closed already.
                    let _ = connection.set_nodelay(true);
                    if sender.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(limits::ACCEPT_RETRY).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}
