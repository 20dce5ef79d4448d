//! Requests to signaling over HTTP/1.1, one after another on connections that are kept.
//!
//! Decides what is tried again: what did not come through, and 503. Leaves what is asked to [`crate::api`].

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tandem_wire::redact::Secret;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Problem};
use crate::jitter::{Jitter, draw};
use crate::limits;
use crate::token::Tokens;

/// One request, before it is known where it goes and who asks.
#[derive(Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) body: Option<Bytes>,
    /// The request's own name, by which it is known when it is repeated.
    pub(crate) key: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(crate) const fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, body: None, key: None }
    }

    pub(crate) fn with(method: Method, path: &'a str, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(|_| Error::Unreadable)?;
        Ok(Self { method, path, body: Some(body.into()), key: None })
    }
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) enum Asker<'a> {
    Nobody,
    Device(&'a Tokens),
}

/// Where signaling is.
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

/// What came back, or did not.
enum Attempt {
    Good(Bytes),
    Refused(Problem),
    Lost,
}

impl Http {
    /// `source`: the address of this machine that requests come from; without one the system's choice.
    pub(crate) fn new(base: &str, source: Option<IpAddr>) -> Result<Self, Error> {
        const FORM: Error = Error::Address("http://host:port");
        let base = base.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| FORM)?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(FORM);
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_local_address(source);
        connector.set_connect_timeout(Some(limits::CONNECT_WITHIN));
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(2).build(connector);
        Ok(Self { client, base: base.to_owned() })
    }

    /// A request of nobody.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        read(&self.ask(Asked::with(Method::POST, path, body)?, Asker::Nobody).await?)
    }

    /// The body of the good answer.
    pub(crate) async fn ask(&self, asked: Asked<'_>, asker: Asker<'_>) -> Result<Bytes, Error> {
        let until = Instant::now() + limits::PATIENCE;
        let mut jitter = Jitter::new(limits::RETRY);
        let mut renewed = false;
        loop {
            let token = match asker {
                Asker::Nobody => None,
                Asker::Device(tokens) if renewed => Some(tokens.fresh().await?),
                Asker::Device(tokens) => Some(tokens.recent().await?),
            };
            let attempt = timeout(limits::ATTEMPT, self.attempt(&asked, token.as_ref())).await;
            let (error, pause) = match attempt.unwrap_or(Ok(Attempt::Lost))? {
                Attempt::Good(body) => return Ok(body),
                // The token was good a moment ago: its key or its device may have changed.
                Attempt::Refused(problem) if problem.status == 401 && token.is_some() && !renewed => {
                    renewed = true;
                    continue;
                }
                Attempt::Refused(problem) if problem.status == 503 => {
                    let pause = Duration::from_millis(problem.retry_after_ms.unwrap_or(0));
                    (Error::Refused(Box::new(problem)), pause)
                }
                Attempt::Refused(problem) => return Err(Error::Refused(Box::new(problem))),
                Attempt::Lost => (Error::Away, Duration::ZERO),
            };
            let pause = pause + jitter.pause(draw());
            if Instant::now() + pause > until {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn attempt(&self, asked: &Asked<'_>, token: Option<&Secret>) -> Result<Attempt, Error> {
        let mut request = Request::builder().method(&asked.method).uri(format!("{}{}", self.base, asked.path));
        if let Some(token) = token {
            let value = [b"Bearer ", token.expose()].concat();
            let mut value = HeaderValue::from_bytes(&value).map_err(|_| crate::token::TokenError::Refused)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if asked.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = asked.key {
            request = request.header("idempotency-key", key);
        }
        let body = Full::new(asked.body.clone().unwrap_or_default());
        let request = request.body(body).map_err(|_| Error::Address("http://host:port"))?;
        let Ok(answer) = self.client.request(request).await else { return Ok(Attempt::Lost) };
        let status = answer.status();
        match Limited::new(answer.into_body(), limits::ANSWER_BYTES).collect().await {
            Ok(body) if status.is_success() => Ok(Attempt::Good(body.to_bytes())),
            Ok(body) => Ok(Attempt::Refused(Problem::read(status.as_u16(), &body.to_bytes()))),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Error::Unreadable),
            Err(_) if status == StatusCode::SERVICE_UNAVAILABLE => Ok(Attempt::Refused(Problem::read(503, &[]))),
            Err(_) => Ok(Attempt::Lost),
        }
    }
}

/// Reads an answer.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|_| Error::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that gives these answers, one a connection; an empty one closes it.
    async fn server(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = vec![0; 4_096];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}")
    }

    const AWAY: &str =
        "HTTP/1.1 503 x\r\ncontent-length: 33\r\nconnection: close\r\n\r\n{\"code\":\"store_away\",\"status\":503}";
    const GONE: &str = "HTTP/1.1 409 x\r\ncontent-length: 21\r\nconnection: close\r\n\r\n{\"code\":\"call_ended\"}";
    const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

    #[tokio::test]
    async fn what_did_not_come_through_and_what_is_away_is_asked_again() {
        let http = Http::new(&server(&["", AWAY, "HTTP/1.1 200", GOOD]).await, None).unwrap();
        assert_eq!(http.ask(Asked::get("/v1/x"), Asker::Nobody).await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn a_request_comes_from_its_source() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let source = "127.8.0.9".parse().unwrap();
        let http = Http::new(&base, Some(source)).unwrap();
        let asked = tokio::spawn(async move { http.ask(Asked::get("/v1/x"), Asker::Nobody).await });
        assert_eq!(listener.accept().await.unwrap().1.ip(), source);
        asked.abort();
    }

    #[tokio::test]
    async fn a_refusal_is_final() {
        let http = Http::new(&server(&[GONE]).await, None).unwrap();
        let error = http.ask(Asked::get("/v1/x"), Asker::Nobody).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::CallEnded));
    }

    #[test]
    fn only_plain_http_is_spoken_for_now() {
        for base in ["https://a", "a", "", "ws://a:1", "http://"] {
            assert!(matches!(Http::new(base, None), Err(Error::Address(_))), "{base}");
        }
        assert!(Http::new("http://127.0.0.1:80/", None).is_ok());
    }
}
