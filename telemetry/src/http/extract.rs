//! What a handler reads out of a request: a JSON body, the query, the path.
//!
//! Decides which problem each mistake of a client becomes, each with a code of its own. Leaves what a good one means to
//! the handler. No problem repeats what the client sent, but for the names of fields.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::Problem;
use crate::limits;

/// A JSON body as a `T`. An empty body is an empty object: every field at its default, or named as missing.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Problem::body_unreadable())?.to_bytes();
        if body.is_empty() {
            return read(b"{}").map(Self);
        }
        if !is_json(&parts.headers) {
            let title = "The body must be application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", title));
        }
        read(&body).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would read an object's fields out of a list, in their order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') && parses(body) {
        let title = "The body must be a JSON object";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "wrong_type", title));
    }
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    // Once more, to say where it is wrong: keeping the path costs a good part of reading.
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path: String = error.path().to_string().chars().take(limits::ERROR_PATH_CHARS).collect();
        body_problem(error.inner(), &path, body)
    })?;
    json.end().map_err(|error| body_problem(&error, ".", body))?;
    Ok(value)
}

/// Whether it is JSON, whatever it says.
fn parses(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok()
}

fn body_problem(error: &serde_json::Error, path: &str, body: &[u8]) -> Problem {
    let (code, title) = match error.classify() {
        // What serde_json says of a number where it wants one of some words.
        Category::Syntax if parses(body) => ("wrong_type", "A field of the body has the wrong type"),
        Category::Syntax | Category::Eof | Category::Io => ("malformed_json", "The body is not JSON"),
        Category::Data => {
            // serde has no other way to say which kind of mistake it was.
            let words = error.to_string();
            if words.starts_with("unknown field") {
                ("unknown_field", "The body has a field that is not known here")
            } else if words.starts_with("missing field") {
                ("missing_field", "The body lacks a field")
            } else if words.starts_with("invalid type") {
                ("wrong_type", "A field of the body has the wrong type")
            } else {
                ("wrong_value", "A field of the body has a value that cannot be")
            }
        }
    };
    let place = format!("at {path}, line {}, column {}", error.line(), error.column());
    Problem::new(StatusCode::BAD_REQUEST, code, title).detail(place)
}

/// The query as a `T`.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let axum::extract::Query(value) = query.map_err(|_: QueryRejection| {
            Problem::new(StatusCode::BAD_REQUEST, "bad_query", "The query cannot be read")
        })?;
        Ok(Self(value))
    }
}

/// Parts of the path as a `T`. A part that cannot be read names nothing: 404.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(value)| Self(value)).map_err(|_| Problem::not_found())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[serde(rename = "count")]
        _count: u8,
        #[serde(default, rename = "lines")]
        _lines: Vec<Order>,
    }

    fn code(body: &str) -> &'static str {
        read::<Order>(body.as_bytes()).map_or_else(|problem| problem.code(), |_| "fine")
    }

    #[test]
    fn each_mistake_in_a_body_has_its_own_code() {
        assert_eq!(code(r#"{"count":1,"lines":[{"count":2}]}"#), "fine");
        assert_eq!(code(r#"{"count":1"#), "malformed_json");
        assert_eq!(code(r#"{"count":1} {}"#), "malformed_json");
        assert_eq!(code(r#"{"count":1,"more":2}"#), "unknown_field");
        assert_eq!(code("{}"), "missing_field");
        assert_eq!(code(r#"{"count":"1"}"#), "wrong_type");
        assert_eq!(code(r#"{"count":300}"#), "wrong_value");
        assert_eq!(code("[]"), "wrong_type");
        assert_eq!(code("[1,[]]"), "wrong_type");
        assert_eq!(code("["), "malformed_json");
        assert_eq!(code(r#"{"count":[]}"#), "wrong_type");
        assert_eq!(code(r#"{"\ud800":1}"#), "malformed_json");
        assert_eq!(read::<Order>(b"{\"\xff\":1}").unwrap_err().code(), "malformed_json");
    }

    #[test]
    fn a_body_nested_ten_thousand_deep_is_refused_and_the_stack_is_safe() {
        let deep = format!("{}1{}", r#"{"count":1,"lines":["#.repeat(10_000), "]}".repeat(10_000));
        assert_eq!(code(&deep), "malformed_json");
        let arrays = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let read = read::<serde_json::Value>(arrays.as_bytes());
        assert_eq!(read.unwrap_err().code(), "malformed_json");
    }

    #[test]
    fn a_problem_with_a_body_does_not_repeat_the_body() {
        let problem = read::<Order>(br#"{"count":1,"lines":[{"count":"canary-token"}]}"#).unwrap_err();
        let text = serde_json::to_string(&problem).unwrap();
        assert!(text.contains("lines[0].count") && !text.contains("canary"), "{text}");
    }
}
