//! The fault panel of `tandem dev`: which processes there are, and what can be done to them.
//!
//! Decides how it is asked. Leaves what it means to `tandem dev`.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

use crate::limits;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);

/// The panel of one `tandem dev`.
#[derive(Clone)]
pub struct Panel {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Panel {
    /// At the address of its page: `http://host:port/`.
    #[must_use]
    pub fn new(base: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, base: base.trim_end_matches('/').to_owned() }
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask(Method::POST, path, body.to_string()).await
    }

    /// The processes, by name and pid; of those that run now.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn processes(&self) -> Result<Vec<(String, u32)>, String> {
        let answer = self.ask(Method::GET, "/v1/dev/processes", String::new()).await?;
        let items = answer.get("items").and_then(Value::as_array).ok_or("an answer without items")?;
        let process = |item: &Value| {
            let pid = item.get("pid")?.as_u64().and_then(|pid| u32::try_from(pid).ok())?;
            let down = item.get("state").and_then(Value::as_str) == Some("down");
            (!down).then(|| Some((item.get("name")?.as_str()?.to_owned(), pid)))?
        };
        Ok(items.iter().filter_map(process).collect())
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Result<Value, String> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)));
        let request = request.map_err(|_| "--dev is no address of the form http://host:port".to_owned())?;
        let away = |_| "the fault panel cannot be reached".to_owned();
        let asked = async {
            let answer = self.client.request(request).await.map_err(away)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), limits::ANSWER_BYTES).collect().await;
            let body = body.map_err(|_| "the fault panel's answer is cut or too long".to_owned())?.to_bytes();
            let value: Value = serde_json::from_slice(&body).unwrap_or_default();
            if status.is_success() {
                return Ok(value);
            }
            let code = value.get("code").and_then(Value::as_str).unwrap_or("without a code");
            Err(format!("the fault panel refuses: {} {code}", status.as_u16()))
        };
        timeout(WITHIN, asked).await.unwrap_or_else(|_| Err("the fault panel does not answer".to_owned()))
    }
}
