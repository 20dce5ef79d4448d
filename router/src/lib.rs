//! The core message router, in its first form: device connections, and pushes of what happens to their calls.
//!
//! Decides who is let in and how a connection is borne. Leaves calls to signaling, whom it never meets: it follows the
//! store, and tells each device by revision what has changed. Messages other than calls come later: a queue here holds
//! names of sealed blobs (`core::mailbox`), whatever they are about.

mod absent;
mod connect;
mod connection;
mod hub;
pub mod limits;
mod outbox;
mod push;
mod view;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::http::HeaderValue;
use axum::routing::get;
use tandem_auth::TokenKeys;
use tandem_auth::rate::Limiter;
use tandem_state_client::Store;
use tokio::sync::{mpsc, watch};

/// What a router must be told.
#[derive(Debug)]
pub struct Config {
    /// Whose tokens are good.
    pub tokens: TokenKeys,
    /// Whose pages may connect, as in `https://app.example.org`. What sends no `Origin` is no page.
    pub origins: Vec<HeaderValue>,
}

/// A running router.
pub struct Router {
    routes: axum::Router,
    caught_up: watch::Receiver<bool>,
    closing: watch::Sender<bool>,
    hub: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Router")
    }
}

impl Router {
    /// Starts following the store. Must be called in a tokio runtime.
    #[must_use]
    pub fn start(config: Config, store: Arc<dyn Store>) -> Self {
        let Config { tokens, origins } = config;
        let (events, waiting) = mpsc::channel(limits::EVENTS_WAITING);
        let (caught_up_sender, caught_up) = watch::channel(false);
        let (closing, closing_receiver) = watch::channel(false);
        let hub = tokio::spawn(hub::run(store, waiting, caught_up_sender, closing_receiver));
        let bad_tokens = Limiter::new(limits::BAD_TOKENS);
        // Later connections have higher numbers, those of a process that comes after this one too.
        let next = AtomicU64::new(tandem_net::clock::now().wall.as_millis() << 20);
        let door = connect::Door { tokens, origins, bad_tokens, events, next };
        let routes = axum::Router::new().route("/v1/connect", get(connect::connect)).with_state(Arc::new(door));
        Self { routes, caught_up, closing, hub }
    }

    /// The routes.
    pub fn routes(&self) -> axum::Router {
        self.routes.clone()
    }

    /// Waits until the store has been seen as a whole.
    pub async fn ready(&self) -> bool {
        self.caught_up.clone().wait_for(|caught_up| *caught_up).await.is_ok()
    }

    /// Ends every connection with a word, and gives them a moment to hear it.
    pub async fn close(self) {
        self.closing.send_replace(true);
        let _ = self.hub.await;
    }
}
