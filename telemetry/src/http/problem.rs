//! What an error looks like to a client: RFC 9457 `application/problem+json`.
//!
//! Decides its fields and that 429 and 503 always say when to come back. Leaves the closed set of codes to each API; the
//! ones of this crate are below.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};

use super::guard;
use crate::limits;

/// One error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    kind: Kind,
    /// The kind of problem, in words for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this very request.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Box<str>>,
    /// The kind of problem, from a closed set, for programs.
    code: &'static str,
    /// When to come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// Names the request in reports to us; it also stands in the header `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<Box<str>>,
    /// What programs need beside the code.
    #[serde(flatten)]
    more: Option<Box<serde_json::Map<String, serde_json::Value>>>,
}

/// The code of a problem, written as a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind(&'static str);

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("urn:tandem:problem:{}", self.0))
    }
}

impl Problem {
    /// A problem of kind `code`: lower-case words joined by `_`, never reworded once clients know it.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        let come_back = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        Self {
            kind: Kind(code),
            title,
            status: status.as_u16(),
            detail: None,
            code,
            retry_after_ms: come_back.then_some(millis(limits::RETRY_AFTER)),
            request_id: None,
            more: None,
        }
    }

    /// Adds a field that programs need beside the code (RFC 9457 section 3.2).
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.more.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }

    /// Says what is wrong with this very request. No address, token, account or SDP.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into().into_boxed_str());
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after_ms(mut self, wait_ms: u64) -> Self {
        self.retry_after_ms = Some(wait_ms);
        self
    }

    /// The kind of problem.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// There is nothing at this address.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This address does not take that method")
    }

    pub(super) fn body_too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is larger than this address takes")
    }

    pub(super) fn body_too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "The body did not arrive in time")
    }

    pub(super) fn body_unreadable() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "body_unreadable", "The body broke off")
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.request_id = guard::request_id().map(String::into_boxed_str);
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after_ms.map(|ms| ms.div_ceil(1000).max(1));
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

const fn millis(duration: std::time::Duration) -> u64 {
    // Our durations are seconds, not ages of the earth.
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_problem_is_problem_json_and_503_says_when_to_come_back() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "Not ready").detail("restoring");
        let response = problem.into_response();
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "1");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:tandem:problem:not_ready", "title": "Not ready", "status": 503,
                "detail": "restoring", "code": "not_ready", "retry_after_ms": 1000,
            })
        );
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "x", "x").retry_after_ms(1_001);
        assert_eq!(problem.into_response().headers()["retry-after"], "2");
        assert!(Problem::not_found().into_response().headers().get("retry-after").is_none());
    }
}
