//! The client: a store that is somewhere else, at one state server or several.
//!
//! Decides which server is asked and how long to wait for its answer. One is asked until it is away; then the next. What
//! only reads is asked again there at once. A command is sent again only if the first server was never reached: one whose
//! fate is unknown is [`StoreError::Away`], and whoever sent it reads before it decides anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tandem_core::topology::Transport;
use tandem_wire::id::{CallId, Revision};
use tandem_wire::redact::{ClientAddr, Secret};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::proto::state_client::StateClient;
use super::status::{age_ms, from_status};
use super::{AUTHORIZATION, bearer, convert, proto, reports};
use crate::{
    AllocationRef, BucketSet, Command, Entry, Fault, Key, Listing, Reports, SeenLoad, Store, StoreError, Watch, limits,
};

/// Puts the secret on every request.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(AUTHORIZATION, self.0.clone());
        Ok(request)
    }
}

pub(super) type Client = StateClient<InterceptedService<Channel, Bearer>>;

/// One or several state servers of one store, in other processes.
#[derive(Clone)]
pub struct RemoteStore {
    servers: Arc<[Client]>,
    /// The one that is asked.
    active: Arc<AtomicUsize>,
    /// What the last answer said of its age, in milliseconds.
    age_ms: Arc<AtomicU64>,
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
        Self::of_several(&[endpoint], secret)
    }

    /// A client of several servers of one store, of which the first is asked until it is away. As [`Self::new`].
    ///
    /// # Errors
    /// [`RemoteError`]; no endpoint is none that can be used.
    pub fn of_several(endpoints: &[impl AsRef<str>], secret: &Secret) -> Result<Self, RemoteError> {
        let bearer = Bearer(bearer(secret).ok_or(RemoteError::Secret)?);
        let servers: Vec<Client> =
            endpoints.iter().map(|endpoint| client(endpoint.as_ref(), bearer.clone())).collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(RemoteError::Endpoint);
        }
        Ok(Self { servers: servers.into(), active: Arc::default(), age_ms: Arc::default() })
    }

    /// The server to ask, and its number; `tried` others were asked before it.
    fn server(&self, first: usize, tried: usize) -> Result<(usize, Client), StoreError> {
        let number = (first + tried) % self.servers.len();
        self.servers.get(number).map(|client| (number, client.clone())).ok_or(LATE)
    }

    /// Server `number` is away: the next one is asked from now on, if nobody has moved on already.
    fn is_away(&self, number: usize) {
        let next = (number + 1) % self.servers.len();
        let _ = self.active.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How long one server may take: all of them together, what an answer may take.
    fn patience(&self) -> Duration {
        limits::ANSWER_TIMEOUT / u32::try_from(self.servers.len()).unwrap_or(u32::MAX)
    }

    /// Asks one server after another, until one is not away.
    async fn ask<T, F>(&self, question: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let first = self.active.load(Ordering::Relaxed);
        let mut error = LATE;
        for tried in 0..self.servers.len() {
            let (number, client) = self.server(first, tried)?;
            match question(client).await {
                Err(away) if away.is_away() => {
                    self.is_away(number);
                    error = away;
                }
                answer => return answer,
            }
        }
        Err(error)
    }

    /// A request that the server gives up too when we do.
    fn timed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.patience());
        request
    }

    /// Waits for an answer, and no longer than it may take: a server that hangs is away.
    async fn answer<T>(&self, answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, StoreError> {
        let response = match tokio::time::timeout(self.patience(), answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => return Err(from_status(&status)),
            Err(_) => return Err(LATE),
        };
        self.age_ms.store(age_ms(response.metadata()), Ordering::Relaxed);
        Ok(response.into_inner())
    }

    /// Puts a list together. Each part must come in time: a long list may take long, a server that hangs may not.
    async fn listing(
        &self,
        parts: impl Future<Output = Result<Response<Streaming<proto::Listing>>, Status>>,
    ) -> Result<Listing, StoreError> {
        let mut parts = self.answer(parts).await?;
        let mut entries = Vec::new();
        loop {
            let part = match tokio::time::timeout(self.patience(), parts.next()).await {
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
}

fn client(endpoint: &str, bearer: Bearer) -> Result<Client, RemoteError> {
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
    Ok(StateClient::with_interceptor(channel, bearer)
        .max_decoding_message_size(limits::MESSAGE_LEN_MAX)
        .max_encoding_message_size(limits::MESSAGE_LEN_MAX))
}

const LATE: StoreError = StoreError::Away { retry_after_ms: limits::RETRY_AFTER_MS };

/// Whether a request was never sent, since there was no connection to send it on.
fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl RemoteStore {
    async fn load_of(&self, request: proto::LoadRequest) -> Result<Listing, StoreError> {
        self.ask(async |mut client| self.listing(client.load(Request::new(request.clone()))).await).await
    }
}

#[async_trait]
impl Store for RemoteStore {
    async fn commit(&self, command: Command) -> Result<Revision, StoreError> {
        // What cannot be right is not sent; which PoP the store is of, only the store knows.
        let pop = command.ops.first().ok_or(Fault::OpCount)?.key.pop();
        command.check(pop)?;
        let first = self.active.load(Ordering::Relaxed);
        let mut request = convert::command_to(command);
        for tried in 0..self.servers.len() {
            let (number, mut client) = self.server(first, tried)?;
            // The last one that is asked may have it: there is nobody to send it to after that.
            let last = tried + 1 == self.servers.len();
            let message = if last { std::mem::take(&mut request) } else { request.clone() };
            // All of the time there is: who gives up on a command does not know what became of it.
            let mut timed = Request::new(message);
            timed.set_timeout(limits::ANSWER_TIMEOUT);
            let status = match tokio::time::timeout(limits::ANSWER_TIMEOUT, client.commit(timed)).await {
                Ok(Ok(reply)) => return Ok(Revision(reply.into_inner().revision)),
                Ok(Err(status)) => status,
                Err(_) => {
                    self.is_away(number);
                    return Err(LATE);
                }
            };
            let error = from_status(&status);
            if error.is_away() {
                self.is_away(number);
            }
            if !never_sent(&status) {
                return Err(error);
            }
        }
        Err(LATE)
    }

    async fn load(&self, call: CallId) -> Result<Listing, StoreError> {
        self.load_of(proto::LoadRequest { call: call.to_string(), latest: false }).await
    }

    async fn load_latest(&self, call: CallId) -> Result<Listing, StoreError> {
        self.load_of(proto::LoadRequest { call: call.to_string(), latest: true }).await
    }

    async fn read(&self, key: Key) -> Result<Option<Entry>, StoreError> {
        let request = proto::ReadRequest { key: key.to_string() };
        let reply = self.ask(async |mut client| self.answer(client.read(self.timed(request.clone()))).await).await?;
        reply.entry.map(convert::entry_from).transpose()
    }

    async fn restore(&self, buckets: &BucketSet) -> Result<Listing, StoreError> {
        let left_out = buckets.kinds().left_out();
        let request = proto::RestoreRequest { buckets: convert::buckets_to(buckets), left_out };
        self.ask(async |mut client| self.listing(client.restore(Request::new(request.clone()))).await).await
    }

    async fn watch(&self, buckets: &BucketSet, after: Revision) -> Result<Watch, StoreError> {
        let left_out = buckets.kinds().left_out();
        let request = proto::WatchRequest { buckets: convert::buckets_to(buckets), after: after.0, left_out };
        let changes =
            self.ask(async |mut client| self.answer(client.watch(Request::new(request.clone()))).await).await?;
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
        let request = convert::client_to(transport, client_addr);
        let reply =
            self.ask(async |mut client| self.answer(client.find_client(self.timed(request.clone()))).await).await?;
        reply.owner.as_ref().map(convert::owner_from).transpose()
    }

    /// Tells every server, whichever is asked otherwise: whoever asks any of them then has the whole.
    async fn report_load(&self, load: Reports) {
        let servers = self.servers.iter().cloned();
        let mut telling: JoinSet<()> = servers.map(|server| reports::tell(server, load.clone())).collect();
        drop(load);
        while telling.join_next().await.is_some() {}
    }

    async fn loads(&self) -> Result<Vec<SeenLoad>, StoreError> {
        let ask = async |mut client: Client| self.answer(client.loads(self.timed(proto::LoadsRequest {}))).await;
        convert::loads_from(&self.ask(ask).await?)
    }

    fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms.load(Ordering::Relaxed))
    }
}
