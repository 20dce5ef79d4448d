//! A router over a store in memory, behind the server that carries it for real.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::HeaderValue;
use tandem_auth::{Claims, Grant, TokenKey, TokenKeys};
use tandem_router::{Config, Router, limits as bounds};
use tandem_state_client::memory::MemoryStore;
use tandem_telemetry::http::{Limits, serve};
use tandem_wire::id::PopId;
use tandem_wire::party::Party;
use tandem_wire::redact::Secret;
use tandem_wire::units::Wall;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const ISSUER: &str = "app";
pub(crate) const SECRET: &[u8] = b"a-token-secret-of-thirty-two-bytes-and-more";
pub(crate) const ORIGIN: &str = "https://app.example.org";

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) store: MemoryStore,
    router: Option<Router>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// As `tandem router` serves it.
pub(crate) fn role_limits() -> Limits {
    Limits {
        read_bytes_per_second: Some(bounds::BYTES_PER_SECOND),
        drain: bounds::DRAIN,
        ..Limits::new(bounds::CONNECTIONS, bounds::BODY_BYTES)
    }
}

impl Running {
    pub(crate) async fn new() -> Self {
        let running = Self::over(MemoryStore::new(PopId(7)), role_limits()).await;
        assert!(running.ready().await);
        running
    }

    pub(crate) async fn ready(&self) -> bool {
        self.router.as_ref().expect("it runs").ready().await
    }

    /// Ends every connection, as the role does when it is stopped.
    pub(crate) async fn close(&mut self) {
        self.router.take().expect("it runs").close().await;
    }

    pub(crate) async fn over(store: MemoryStore, limits: Limits) -> Self {
        let key = TokenKey::hs256(&Secret::new(SECRET.to_vec())).unwrap();
        let config = Config {
            tokens: TokenKeys::new([(ISSUER.to_owned(), key)]).unwrap(),
            origins: vec![HeaderValue::from_static(ORIGIN)],
        };
        let router = Router::start(config, Arc::new(store.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, router.routes(), std::future::pending(), limits));
        Self { address, store, router: Some(router), task }
    }
}

pub(crate) fn now_secs() -> u64 {
    tandem_net::clock::now().wall.as_secs()
}

pub(crate) fn token(account: &str, device: &str) -> String {
    mint(account, device, Grant { call: true, admin: None }, now_secs() + 600)
}

pub(crate) fn mint(account: &str, device: &str, grant: Grant, expires: u64) -> String {
    let party = Party { account: account.parse().unwrap(), device: device.parse().unwrap() };
    let claims = Claims { party, grant, issued: Some(now_secs()), expires: Wall::from_secs(expires) };
    TokenKey::hs256(&Secret::new(SECRET.to_vec())).unwrap().mint(ISSUER, &claims).unwrap()
}
