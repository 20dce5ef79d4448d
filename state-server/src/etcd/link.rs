//! The nodes of an etcd cluster: one connection to each, and how long to wait for them.
//!
//! Decides which node is asked: one, until it fails, then the next. (A client that spreads its requests would lose every
//! third one to a node that hangs.) Leaves what is asked to others. Two clients a node: watches insist on a leader, so that
//! a node that has lost it breaks them off; the other asks without, so that lists can be had without one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, GetResponse, Identity, KvClient, TlsOptions, Txn,
    TxnResponse, WatchClient, WatchOptions, WatchStream,
};

use crate::backend::OpenError;
use crate::limits;

/// How to reach an etcd cluster.
#[derive(Clone)]
pub struct EtcdConfig {
    /// `http://host:port` or `https://host:port`, one of each node.
    pub endpoints: Vec<String>,
    /// Needed for `https`.
    pub tls: Option<EtcdTls>,
}

impl std::fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdConfig").field("nodes", &self.endpoints.len()).field("tls", &self.tls.is_some()).finish()
    }
}

/// Who etcd is, and who we are to it. All of it PEM.
#[derive(Clone)]
pub struct EtcdTls {
    /// Who may have signed its certificate.
    pub ca: Vec<u8>,
    /// Our certificate.
    pub cert: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

/// Why etcd did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It cannot be reached, is too slow, or has no leader.
    #[error("etcd is away: {0}")]
    Away(String),
    /// Its database has reached its quota.
    #[error("etcd has no space left (alarm NOSPACE)")]
    Full,
    /// The revision asked for is gone.
    #[error("etcd has compacted what was asked for")]
    Compacted,
    /// The answer is larger than agreed.
    #[error("etcd's answer is too large")]
    TooLarge,
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        let Error::GRpcStatus(status) = error else { return Self::Away(error.to_string()) };
        let says = |words| status.message().contains(words);
        if says("database space exceeded") {
            Self::Full
        } else if says("has been compacted") {
            Self::Compacted
        } else if says("message length too large") {
            Self::TooLarge
        } else {
            Self::Away(format!("{}: {}", status.code(), status.message()))
        }
    }
}

fn late() -> CallError {
    CallError::Away("no answer in time".to_owned())
}

struct Node {
    kv: KvClient,
    watch: WatchClient,
}

/// The nodes of a cluster.
pub(crate) struct Link {
    nodes: Vec<Node>,
    active: AtomicUsize,
}

impl Link {
    /// Connects to each node when it is first asked.
    pub(crate) async fn new(config: &EtcdConfig) -> Result<Self, OpenError> {
        let wrong = |error: Error| OpenError::System(std::io::Error::other(error));
        let mut options = ConnectOptions::new()
            .with_connect_timeout(limits::ETCD_TIMEOUT)
            .with_keep_alive(limits::ETCD_KEEP_ALIVE, limits::ETCD_KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true);
        if let Some(tls) = &config.tls {
            let tls = TlsOptions::new()
                .ca_certificate(Certificate::from_pem(&tls.ca))
                .identity(Identity::from_pem(&tls.cert, &tls.key));
            options = options.with_tls(tls);
        }
        let mut nodes = Vec::with_capacity(config.endpoints.len());
        for endpoint in &config.endpoints {
            let asking = Client::connect([endpoint], Some(options.clone())).await.map_err(wrong)?;
            let with_leader = options.clone().with_require_leader(true);
            let watching = Client::connect([endpoint], Some(with_leader)).await.map_err(wrong)?;
            nodes.push(Node {
                kv: asking.kv_client().max_decoding_message_size(limits::ETCD_LIST_LEN_MAX),
                watch: watching.watch_client().max_decoding_message_size(limits::ETCD_WATCH_LEN_MAX),
            });
        }
        if nodes.is_empty() {
            return Err(OpenError::System(std::io::Error::other("no endpoint")));
        }
        Ok(Self { nodes, active: AtomicUsize::new(0) })
    }

    /// How many nodes there are.
    pub(crate) const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node that is asked now.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// `node` has failed: the next one is asked from now on, if no one has moved on already.
    pub(crate) fn failed(&self, node: usize) {
        let next = self.after(node);
        let _ = self.active.compare_exchange(node, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The node after `node`.
    pub(crate) const fn after(&self, node: usize) -> usize {
        (node + 1) % self.nodes.len()
    }

    fn node(&self, node: usize) -> Result<&Node, CallError> {
        self.nodes.get(node).ok_or_else(|| CallError::Away("there is no such node".to_owned()))
    }

    pub(crate) async fn get(
        &self,
        node: usize,
        key: impl Into<Vec<u8>>,
        options: Option<GetOptions>,
    ) -> Result<GetResponse, CallError> {
        let mut kv = self.node(node)?.kv.clone();
        match tokio::time::timeout(limits::ETCD_TIMEOUT, kv.get(key, options)).await {
            Ok(reply) => Ok(reply?),
            Err(_) => Err(late()),
        }
    }

    pub(crate) async fn txn(&self, node: usize, txn: Txn, within: Duration) -> Result<TxnResponse, CallError> {
        let mut kv = self.node(node)?.kv.clone();
        match tokio::time::timeout(within, kv.txn(txn)).await {
            Ok(reply) => Ok(reply?),
            Err(_) => Err(late()),
        }
    }

    /// Begins to watch; the answer is there when etcd has begun.
    pub(crate) async fn watch(
        &self,
        node: usize,
        key: impl Into<Vec<u8>>,
        options: WatchOptions,
    ) -> Result<WatchStream, CallError> {
        let mut watch = self.node(node)?.watch.clone();
        match tokio::time::timeout(limits::ETCD_TIMEOUT, watch.watch(key, Some(options))).await {
            Ok(stream) => Ok(stream?),
            Err(_) => Err(late()),
        }
    }
}
