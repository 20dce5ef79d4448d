//! Signaling: the device API, and what happens to calls by itself.
//!
//! Decides who may ask, how often, and what a request must say. Leaves every transition of a call to `core::topology` over
//! the record in the store: this service keeps no call, never calls the router, and may run any number of times at once.

mod api;
pub mod directory;
mod ids;
mod keeper;
pub mod limits;
mod live;
mod node;
pub mod policy;
mod refused;

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use tandem_auth::TokenKeys;
use tandem_auth::rate::Limiter;
use tandem_state_client::Store;
use tandem_wire::id::PopId;
use tandem_wire::redact::Secret;
use tandem_wire::ticket::TicketKey;
use tokio::sync::watch;
use tower_http::cors::CorsLayer;

pub use api::{DevTokens, RelayPoint, openapi};
use directory::Directory;
use policy::Policy;

/// What a node must be told.
#[derive(Debug)]
pub struct Config {
    /// The PoP whose calls it makes.
    pub pop: PopId,
    /// Whose tokens are good.
    pub tokens: TokenKeys,
    /// What tickets are signed with.
    pub tickets: TicketKey,
    /// What all signaling nodes of the PoP share.
    pub pop_secret: Secret,
    /// The PoP's relays, as clients reach them.
    pub relays: Vec<RelayPoint>,
    /// Whose pages may read what we answer, as in `https://app.example.org`.
    pub origins: Vec<HeaderValue>,
    /// How much anybody may ask for.
    pub policy: Policy,
    /// Mints tokens for whoever asks; development only.
    pub dev: Option<DevTokens>,
}

/// Why a node cannot start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The secret of the PoP cannot be used.
    #[error("the secret of the PoP cannot be used")]
    Secret,
}

/// A running node. Dropping it ends what it does by itself.
pub struct Signaling {
    router: Router,
    cors: CorsLayer,
    caught_up: watch::Receiver<bool>,
    keeper: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for Signaling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signaling")
    }
}

impl Drop for Signaling {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Signaling {
    /// Starts following the store. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: Config, store: Arc<dyn Store>, directory: Arc<dyn Directory>) -> Result<Self, StartError> {
        let Config { pop, tokens, tickets, pop_secret, relays, origins, policy, dev } = config;
        let ids = ids::CallIds::new(pop, &pop_secret).ok_or(StartError::Secret)?;
        let latest = Limiter::new(limits::LATEST_PER_ACCOUNT);
        let node = Arc::new(node::Node { pop, store, directory, live: live::Live::default(), latest });
        let (sender, caught_up) = watch::channel(false);
        let keeper = tokio::spawn(keeper::keep(Arc::clone(&node), sender));
        let gates = api::Gates::new(policy);
        let api = api::Api { node, gates, tokens, tickets, relays, dev, ids };
        Ok(Self { router: api::router(Arc::new(api)), cors: api::cors(&origins), caught_up, keeper })
    }

    /// The routes.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// What goes around everything that is served: pages of the configured origins may read it, errors too.
    pub fn cors(&self) -> CorsLayer {
        self.cors.clone()
    }

    /// Waits until the store has been seen as a whole: before that a removed device's token could pass for good.
    pub async fn ready(&self) -> bool {
        self.caught_up.clone().wait_for(|caught_up| *caught_up).await.is_ok()
    }
}
