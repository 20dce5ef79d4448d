//! Who the device is: tokens, which the app gets from its own backend.
//!
//! Decides how long one is used. Leaves minting to the app's backend, or in development to `POST /v1/dev/tokens`.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tandem_wire::party::Party;
use tandem_wire::redact::Secret;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::Error;
use crate::http::Http;
use crate::limits;

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Whoever gives tokens cannot be reached now.
    #[error("whoever gives tokens cannot be reached")]
    Away,
    /// There is none for this device.
    #[error("there is none for this device")]
    Refused,
}

/// Gives tokens (docs/api.md, "Conventions"). Asked about once a minute, and for every connection.
///
/// An `async` closure that gives `Result<String, TokenError>` is one too.
#[async_trait]
pub trait TokenProvider: Send + Sync + 'static {
    /// A token that is good now: a JWT for the device.
    ///
    /// # Errors
    /// [`TokenError::Away`] is tried again, [`TokenError::Refused`] is told to the app.
    async fn token(&self) -> Result<Secret, TokenError>;
}

#[async_trait]
impl<F, Fut> TokenProvider for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String, TokenError>> + Send,
{
    async fn token(&self) -> Result<Secret, TokenError> {
        Ok(Secret::new(self().await?.into_bytes()))
    }
}

/// Tokens of a backend in development (`dev = true`), which gives them to whoever asks.
pub struct DevTokens {
    http: Http,
    party: Party,
}

#[derive(Serialize)]
struct Mint<'a> {
    account: &'a str,
    device: &'a str,
}

#[derive(Deserialize)]
struct Minted {
    token: String,
}

impl DevTokens {
    /// Of the backend at `api` (`http://host:port`), for one device.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(api: &str, party: Party) -> Result<Self, Error> {
        Self::from_source(api, None, party)
    }

    /// The same, asked from this address of the machine.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn from_source(api: &str, source: Option<IpAddr>, party: Party) -> Result<Self, Error> {
        Ok(Self { http: Http::new(api, source)?, party })
    }
}

#[async_trait]
impl TokenProvider for DevTokens {
    async fn token(&self) -> Result<Secret, TokenError> {
        let Party { account, device } = &self.party;
        let mint = Mint { account: account.as_str(), device: device.as_str() };
        match self.http.post::<Minted>("/v1/dev/tokens", &mint).await {
            Ok(Minted { token }) => Ok(Secret::new(token.into_bytes())),
            Err(error) if error.is_temporary() => Err(TokenError::Away),
            Err(_) => Err(TokenError::Refused),
        }
    }
}

/// The app's tokens, of which the last is kept for a while.
#[derive(Clone)]
pub(crate) struct Tokens {
    provider: Arc<dyn TokenProvider>,
    last: Arc<Mutex<Option<(Secret, Instant)>>>,
}

impl Tokens {
    pub(crate) fn new(provider: Arc<dyn TokenProvider>) -> Self {
        Self { provider, last: Arc::default() }
    }

    /// One that was given a short while ago.
    pub(crate) async fn recent(&self) -> Result<Secret, TokenError> {
        let mut last = self.last.lock().await;
        if let Some((token, at)) = &*last
            && at.elapsed() < limits::TOKEN_REUSE
        {
            return Ok(token.clone());
        }
        let token = self.provider.token().await?;
        *last = Some((token.clone(), Instant::now()));
        Ok(token)
    }

    /// A fresh one.
    pub(crate) async fn fresh(&self) -> Result<Secret, TokenError> {
        *self.last.lock().await = None;
        self.recent().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_for_a_minute_unless_a_fresh_one_is_wanted() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let tokens = Tokens::new(Arc::new(move || {
            let n = count.fetch_add(1, Ordering::Relaxed);
            async move { Ok(format!("token {n}")) }
        }));
        for _ in 0..3 {
            assert_eq!(tokens.recent().await.unwrap().expose(), b"token 0");
        }
        assert_eq!(tokens.fresh().await.unwrap().expose(), b"token 1");
        tokio::time::advance(limits::TOKEN_REUSE).await;
        assert_eq!(tokens.recent().await.unwrap().expose(), b"token 2");
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
