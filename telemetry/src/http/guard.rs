//! What every request goes through before its handler sees it.
//!
//! Decides that a body is whole, small and in time before anything looks at it, and gives the request a name.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::Problem;
use super::framing::Ambiguous;
use super::serve::Limits;
use crate::metric::{self, Status};

tokio::task_local! {
    static REQUEST_ID: String;
}

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The name of the request that is being handled, if one is.
pub(super) fn request_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

/// A name that no two requests share and that says nothing about how many there were.
fn draw() -> String {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}", KEY.hash_one(COUNT.fetch_add(1, Ordering::Relaxed)))
}

pub(super) async fn guard(State(limits): State<Arc<Limits>>, request: Request, next: Next) -> Response {
    let id = draw();
    let header = HeaderValue::from_str(&id);
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = REQUEST_ID
        .scope(id, async {
            if is_ambiguous(&request) {
                let title = "The length of the body is said in more than one way";
                return Problem::new(StatusCode::BAD_REQUEST, "bad_framing", title).into_response();
            }
            match whole(request, &limits).await {
                Ok(request) => next.run(request).await,
                Err(problem) => problem.into_response(),
            }
        })
        .await;
    if let Ok(header) = header {
        response.headers_mut().insert(HEADER, header);
    }
    if chunked {
        // Who stands before us may see another end of it than we do: nothing is taken from behind it.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = match response.status().as_u16() {
        0..=299 => Status::Success,
        300..=399 => Status::Redirect,
        400..=499 => Status::Client,
        500.. => Status::Server,
    };
    metric::HTTP_REQUESTS.of(status.label()).add(1);
    response
}

/// Whether what stands before us could read another length out of the request than we do (attack S06, RFC 9112 section
/// 6.3): both headers, or a transfer coding that is not exactly `chunked`.
fn is_ambiguous(request: &Request) -> bool {
    let headers = request.headers();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => {
            request.extensions().get::<Ambiguous>().is_some_and(Ambiguous::is)
                || !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        (Some(_), Some(_)) => true,
    }
}

/// The request with its body in memory.
async fn whole(request: Request, limits: &Limits) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, body));
    }
    // Content-Length says so before a byte of it is read.
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(Problem::body_too_large());
    }
    let body = Limited::new(body, limits.body_bytes).collect();
    match tokio::time::timeout(limits.body_read, body).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body.to_bytes()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::body_too_large()),
        Ok(Err(_)) => Err(Problem::body_unreadable()),
        Err(_) => Err(Problem::body_too_slow()),
    }
}
