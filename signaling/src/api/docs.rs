//! What the API says of itself: `/openapi.json` for programs, `/docs` for people.
//!
//! Decides how the document becomes a page: plain HTML without a script, made once. Leaves what stands in it to the
//! handlers, whose annotations it is made from.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::{calls, devices, place, relays};
use crate::refused::code;

#[derive(OpenApi)]
#[openapi(
    info(title = "Tandem device API", license(name = "Apache-2.0")),
    paths(
        devices::register, devices::remove, devices::endorse, devices::list, relays::list, place::place, calls::look,
        calls::ringing, calls::accept, calls::reject, calls::signal, calls::leave, calls::end, calls::rejoin, calls::ticket
    ),
    modifiers(&Token),
    tags(
        (name = "devices", description = "Which devices an account has, and their public keys"),
        (name = "calls", description = "Placing calls, and the verbs of those in them"),
    )
)]
struct Document;

struct Token;

impl utoipa::Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let mut codes = String::from(
            "Errors are `application/problem+json` (RFC 9457). `code` is one of those below, or one that says what is wrong \
             with a body, a path or a header as such (`malformed_json`, `unknown_field`, `missing_field`, `wrong_type`, \
             `body_too_large`, `body_too_slow`, `body_unreadable`, `unsupported_media_type`, `not_found`, \
             `method_not_allowed`).\n\n",
        );
        for (status, code, title) in code::ALL {
            let _ = writeln!(codes, "- `{code}` ({}): {title}", status.as_u16());
        }
        document.info.description = Some(codes);
        document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    }
}

/// The document, as JSON text.
#[must_use]
pub fn openapi() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| Document::openapi().to_pretty_json().unwrap_or_default());
    &JSON
}

pub(super) async fn json() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi())
}

pub(super) async fn page() -> Response {
    static PAGE: LazyLock<String> = LazyLock::new(|| render(&serde_json::from_str(openapi()).unwrap_or_default()));
    let policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, PAGE.as_str()).into_response()
}

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("docs.css"))
}

/// What lies at a JSON pointer (RFC 6901).
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The name that a `$ref` points to.
fn referred(schema: &Value) -> Option<&str> {
    text(&schema["$ref"]).strip_prefix("#/components/schemas/")
}

/// What a schema is, in a few words.
fn words(schema: &Value) -> String {
    if let Some(name) = referred(schema) {
        return format!("<a href=\"#{0}\">{0}</a>", escape(name));
    }
    for any in ["oneOf", "anyOf", "allOf"] {
        if let Some(schemas) = schema[any].as_array() {
            let parts: Vec<String> = schemas.iter().map(words).collect();
            return parts.join(" or ");
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|value| format!("<code>{}</code>", escape(text(value)))).collect();
        return values.join(" · ");
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        kind => text(kind).to_owned(),
    };
    match kind.as_str() {
        "array" => format!("list of {}", words(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map to {}", words(&schema["additionalProperties"]))
        }
        _ => escape(&kind),
    }
}

fn render(document: &Value) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Tandem device API</title><link rel=stylesheet href=/docs/style.css><main>",
    );
    let info = &document["info"];
    let _ = write!(
        page,
        "<h1>{} <small>{}</small></h1><p>For programs: <a href=/openapi.json>openapi.json</a>.</p>",
        escape(text(&info["title"])),
        escape(text(&info["version"]))
    );
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            operation_of(&mut page, path, method, operation);
        }
    }
    page.push_str("<h2>What stands in them</h2>");
    for (name, schema) in at(document, "/components/schemas").as_object().into_iter().flatten() {
        schema_of(&mut page, name, schema);
    }
    let _ = write!(page, "<h2>Errors</h2><pre>{}</pre></main></html>", escape(text(&info["description"])));
    page
}

fn operation_of(page: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        page,
        "<section><h3><b>{}</b> <code>{}</code></h3><p>{}</p><ul>",
        escape(&method.to_uppercase()),
        escape(path),
        escape(text(&operation["summary"]))
    );
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
        let what = text(&parameter["description"]);
        let _ = write!(page, "<li>{} <code>{}</code>: {}", escape(place), escape(name), escape(what));
    }
    let body = at(operation, "/requestBody/content/application~1json/schema");
    if !body.is_null() {
        let _ = write!(page, "<li>body: {}", words(body));
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let content = response["content"].as_object().and_then(|content| content.values().next());
        let what = content.map_or_else(|| escape(text(&response["description"])), |content| words(&content["schema"]));
        let _ = write!(page, "<li>{}: {what}", escape(status));
    }
    page.push_str("</ul></section>");
}

fn schema_of(page: &mut String, name: &str, schema: &Value) {
    let _ =
        write!(page, "<section id=\"{0}\"><h3>{0}</h3><p>{1}</p>", escape(name), escape(text(&schema["description"])));
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().map(text).collect();
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let mut rows = String::new();
    for properties in parts.chain([schema]).map(|part| &part["properties"]) {
        for (field, schema) in properties.as_object().into_iter().flatten() {
            let optional = if required.contains(&field.as_str()) { "" } else { "?" };
            let what = escape(text(&schema["description"]));
            let _ = write!(rows, "<tr><td><code>{}{optional}</code><td>{}<td>{what}", escape(field), words(schema));
        }
    }
    if rows.is_empty() {
        let _ = write!(page, "<p>{}</p></section>", words(schema));
    } else {
        let _ = write!(page, "<table>{rows}</table></section>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_every_route_and_every_code() {
        let document: Value = serde_json::from_str(openapi()).unwrap();
        let paths: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(paths.len(), 14, "{paths:?}");
        let description = text(&document["info"]["description"]);
        assert!(code::ALL.iter().all(|(_, code, _)| description.contains(&format!("`{code}`"))));
        assert_eq!(document["components"]["securitySchemes"]["token"]["bearerFormat"], "JWT");
    }

    #[test]
    fn the_page_for_people_who_write_clients_lists_every_code() {
        let page = include_str!("../../../docs/api.md");
        for (status, code, _) in code::ALL {
            let listed = page.lines().any(|line| line.contains(status.as_str()) && line.contains(&format!("`{code}`")));
            assert!(listed, "{code}");
        }
    }

    #[test]
    fn the_page_shows_every_operation_and_escapes_what_it_shows() {
        let page = render(&serde_json::from_str(openapi()).unwrap());
        for words in ["<code>/v1/calls/{call}/accept</code>", "id=\"PlaceInCall\"", "devices_changed", "ice_servers"] {
            assert!(page.contains(words), "{words}");
        }
        let hostile = serde_json::json!({ "info": { "title": "<script>\"&" } });
        assert!(render(&hostile).contains("&lt;script&gt;&quot;&amp;"));
    }
}
