//! The client: a store that is somewhere else.
//!
//! Decides how long to wait for an answer. A server that cannot be reached is [`StoreError::Away`]; the next call tries
//! to connect again.

use async_trait::async_trait;
use tandem_core::topology::Transport;
use tandem_wire::id::{CallId, Revision};
use tandem_wire::redact::{ClientAddr, Secret};
use tokio_stream::StreamExt as _;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::proto::state_client::StateClient;
use super::status::from_status;
use super::{AUTHORIZATION, bearer, convert, proto};
use crate::{AllocationRef, BucketSet, Command, Entry, Fault, Key, Listing, Store, StoreError, Watch, limits};

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

    /// A request that the server gives up too when we do.
    fn timed<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(limits::ANSWER_TIMEOUT);
        request
    }
}

const LATE: StoreError = StoreError::Away { retry_after_ms: limits::RETRY_AFTER_MS };

/// Waits for an answer, and no longer than it may take: a server that hangs is away.
async fn answer<T>(answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, StoreError> {
    match tokio::time::timeout(limits::ANSWER_TIMEOUT, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(LATE),
    }
}

/// Puts a list together. Each part must come in time: a long list may take long, a server that hangs may not.
async fn listing(
    parts: impl Future<Output = Result<Response<Streaming<proto::Listing>>, Status>>,
) -> Result<Listing, StoreError> {
    let mut parts = answer(parts).await?;
    let mut entries = Vec::new();
    loop {
        let part = match tokio::time::timeout(limits::ANSWER_TIMEOUT, parts.next()).await {
            Ok(Some(part)) => part.map_err(|status| from_status(&status))?,
            // It broke off before its last part.
            Ok(None) | Err(_) => return Err(LATE),
        };
        for entry in part.entries {
            entries.push(convert::entry_from(entry)?);
        }
        if part.last {
            return Ok(Listing { revision: Revision(part.revision), entries });
        }
    }
}

#[async_trait]
impl Store for RemoteStore {
    async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
        // What cannot be right is not sent; which PoP the store is of, only the store knows.
        let pop = command.ops.first().ok_or(Fault::OpCount)?.key.pop();
        command.check(pop)?;
        let mut client = self.client.clone();
        let reply = answer(client.commit(Self::timed(convert::command_to(command)))).await?;
        Ok(Revision(reply.revision))
    }

    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        let mut client = self.client.clone();
        listing(client.load(Request::new(proto::LoadRequest { call: call.to_string() }))).await
    }

    async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        let mut client = self.client.clone();
        let reply = answer(client.read(Self::timed(proto::ReadRequest { key: key.to_string() }))).await?;
        reply.entry.map(convert::entry_from).transpose()
    }

    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        let mut client = self.client.clone();
        listing(client.restore(Request::new(proto::RestoreRequest {
            buckets: convert::buckets_to(buckets),
            left_out: buckets.kinds().left_out(),
        })))
        .await
    }

    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        let left_out = buckets.kinds().left_out();
        let request = proto::WatchRequest { buckets: convert::buckets_to(buckets), after: after.0, left_out };
        let mut client = self.client.clone();
        let changes = answer(client.watch(Request::new(request))).await?;
        let changes = changes.map(|changes| match changes {
            Ok(changes) => convert::changes_from(changes),
            Err(status) => Err(from_status(&status)),
        });
        Ok(Watch::new(Box::pin(changes), after))
    }

    async fn find_client(
        &self,
        transport: Transport,
        client_addr: ClientAddr,
    ) -> Result<Option<AllocationRef>, StoreError> {
        let mut client = self.client.clone();
        let reply = answer(client.find_client(Self::timed(convert::client_to(transport, client_addr)))).await?;
        reply.owner.as_ref().map(convert::owner_from).transpose()
    }
}
