//! The client: a store that is somewhere else.
//!
//! Decides how long to wait for an answer. A server that cannot be reached is [`StoreError::Away`]; the next call tries
//! to connect again.

use std::time::Duration;

use async_trait::async_trait;
use tandem_core::topology::Transport;
use tandem_wire::id::{CallId, Revision};
use tandem_wire::redact::{ClientAddr, Secret};
use tokio_stream::StreamExt as _;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::proto::state_client::StateClient;
use super::{AUTHORIZATION, bearer, convert, proto};
use crate::{AllocationRef, BucketSet, Command, Listing, Store, StoreError, Watch, limits};

/// Puts the secret on every request.
#[derive(Clone)]
struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(AUTHORIZATION, self.0.clone());
        Ok(request)
    }
}

/// A state server in another process.
#[derive(Clone)]
pub struct RemoteStore {
    client: StateClient<InterceptedService<Channel, Bearer>>,
}

impl std::fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RemoteStore")
    }
}

/// An endpoint or a secret that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// Not `http://host:port`.
    #[error("the endpoint of the state server is not http://host:port")]
    Endpoint,
    /// The secret cannot stand in a header.
    #[error("the secret of the state server cannot be used")]
    Secret,
}

impl RemoteStore {
    /// A client of the server at `endpoint` (`http://host:port`). It connects when it is first used. Must be called in a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn new(endpoint: &str, secret: &Secret) -> Result<Self, RemoteError> {
        let endpoint: Endpoint = endpoint.parse().map_err(|_| RemoteError::Endpoint)?;
        if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().authority().is_none() {
            return Err(RemoteError::Endpoint);
        }
        let channel = endpoint
            .connect_timeout(limits::CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(limits::KEEP_ALIVE)
            .keep_alive_timeout(limits::KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy();
        let bearer = Bearer(bearer(secret).ok_or(RemoteError::Secret)?);
        let client = StateClient::with_interceptor(channel, bearer)
            .max_decoding_message_size(limits::MESSAGE_LEN_MAX)
            .max_encoding_message_size(limits::MESSAGE_LEN_MAX);
        Ok(Self { client })
    }

    /// A request that is given up after `timeout`, on both sides.
    fn timed<T>(message: T, timeout: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        request
    }
}

/// Waits for an answer, and no longer than `timeout`: a server that hangs is away.
async fn within<T>(
    timeout: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(convert::from_status(&status)),
        Err(_) => Err(StoreError::Away { retry_after_ms: 0 }),
    }
}

#[async_trait]
impl Store for RemoteStore {
    async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
        let request = Self::timed(convert::command_to(command), limits::ANSWER_TIMEOUT);
        let mut client = self.client.clone();
        match within(limits::ANSWER_TIMEOUT, client.commit(request)).await?.result {
            Some(proto::commit_reply::Result::Revision(revision)) => Ok(Revision(revision)),
            Some(proto::commit_reply::Result::Stale(key)) => {
                Err(key.parse().map_or(StoreError::Garbled, |key| StoreError::Stale { key }))
            }
            None => Err(StoreError::Garbled),
        }
    }

    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        let request = Self::timed(proto::LoadRequest { call: call.to_string() }, limits::ANSWER_TIMEOUT);
        let mut client = self.client.clone();
        let reply = within(limits::ANSWER_TIMEOUT, client.load(request)).await?;
        let entries = reply.entries.into_iter().map(convert::entry_from).collect::<Result<_, _>>()?;
        Ok(Listing { revision: Revision(reply.revision), entries })
    }

    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        let request = proto::RestoreRequest { buckets: convert::buckets_to(buckets) };
        let mut client = self.client.clone();
        let mut parts = within(limits::ANSWER_TIMEOUT, client.restore(Request::new(request))).await?;
        let mut listing: Option<Listing> = None;
        loop {
            // Each part in time: a long list may take long, a server that hangs may not.
            let part = match tokio::time::timeout(limits::ANSWER_TIMEOUT, parts.next()).await {
                Ok(Some(part)) => part.map_err(|status| convert::from_status(&status))?,
                Ok(None) => return listing.ok_or(StoreError::Garbled),
                Err(_) => return Err(StoreError::Away { retry_after_ms: 0 }),
            };
            let listing =
                listing.get_or_insert_with(|| Listing { revision: Revision(part.revision), entries: Vec::new() });
            for entry in part.entries {
                listing.entries.push(convert::entry_from(entry)?);
            }
        }
    }

    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        let request = proto::WatchRequest { buckets: convert::buckets_to(buckets), after: after.0 };
        let mut client = self.client.clone();
        let changes = within(limits::ANSWER_TIMEOUT, client.watch(Request::new(request))).await?;
        Ok(Box::pin(changes.map(|change| match change {
            Ok(change) => convert::event_from(change),
            Err(status) => Err(convert::from_status(&status)),
        })))
    }

    async fn find_client(
        &self,
        transport: Transport,
        client_addr: ClientAddr,
    ) -> Result<Option<AllocationRef>, StoreError> {
        let request = Self::timed(convert::client_to(transport, client_addr), limits::ANSWER_TIMEOUT);
        let mut client = self.client.clone();
        let reply = within(limits::ANSWER_TIMEOUT, client.find_client(request)).await?;
        reply.owner.as_ref().map(convert::owner_from).transpose()
    }
}
