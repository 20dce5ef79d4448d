//! The page, out of the binary.
//!
//! Decides content types, caching and what the page may load: nothing that is not its own.

use axum::http::{HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tandem_telemetry::http::Problem;

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Scripts, styles and pictures from here only, connections to here and to those named, and video of a call; nothing
/// inline, nothing may frame it.
fn policy(connect: &[&str]) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {}; \
         media-src 'self' blob: mediastream:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        connect.join(" ")
    )
}

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>Tandem</title>\
    <p>The page is not built into this binary. Run <code>cargo xtask dev</code>, which builds it.";

/// The file at this address, as a page that may connect to `connect`.
pub(crate) fn file(uri: &Uri, connect: &[&str]) -> Response {
    let path = if uri.path() == "/" { "/index.html" } else { uri.path() };
    let found = FILES.iter().find(|(name, _)| *name == path);
    let (name, bytes): (&str, &'static [u8]) = match found {
        Some((name, bytes)) => (name, bytes),
        None if path == "/index.html" => (path, NOT_BUILT.as_bytes()),
        None => return Problem::not_found().into_response(),
    };
    // Vite puts the hash of a file's content into the names below assets/.
    let cache = if name.starts_with("/assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let policy = policy(connect);
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, content_type(name)),
        (header::CACHE_CONTROL, cache),
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    (StatusCode::OK, headers, bytes).into_response()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "map") => "application/json",
        _ => "application/octet-stream",
    }
}
