//! Log lines on stderr.
//!
//! Decides that a record is one line whatever stands in its fields, what a panic says, and how a filter is written. Leaves
//! to whoever logs to name no address, token, account or SDP.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::panic::PanicHookInfo;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::metric;

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which records are written: `info`, or `warn,tandem_relay=debug`. Without a level for everything: `off`.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Targets);

impl Filter {
    /// Everything from `info` up.
    #[must_use]
    pub fn info() -> Self {
        Self(Targets::new().with_default(tracing::Level::INFO))
    }
}

impl std::str::FromStr for Filter {
    type Err = BadFilter;

    fn from_str(text: &str) -> Result<Self, BadFilter> {
        // `Targets` takes an empty item for `error`, and a word that is no level for a target: an operator who mistypes
        // `wran` would log nothing but that.
        let targets: Targets = text.parse().map_err(|_| BadFilter)?;
        let mistyped = text.split(',').any(|item| {
            item.is_empty()
                || !item.contains('=') && item.trim().parse::<tracing_subscriber::filter::LevelFilter>().is_err()
        });
        if mistyped { Err(BadFilter) } else { Ok(Self(targets)) }
    }
}

/// A filter that names no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a log filter is a level (off, error, warn, info, debug, trace) or target=level, separated by commas")]
pub struct BadFilter;

/// Logging is set up already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("logging is set up already")]
pub struct AlreadySetUp;

/// Writes the records that `filter` lets pass to stderr from now on.
///
/// # Errors
/// [`AlreadySetUp`] on the second call in a process.
pub fn init(format: Format, filter: &Filter) -> Result<(), AlreadySetUp> {
    tracing_subscriber::registry().with(layer(format, filter, io::stderr)).try_init().map_err(|_| AlreadySetUp)
}

fn layer<W>(format: Format, filter: &Filter, out: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // No colours: their escape sequences are what the writer below takes out.
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(OneLine(out));
    match format {
        Format::Text => layer.with_filter(filter.0.clone()).boxed(),
        Format::Json => layer.json().flatten_event(true).with_filter(filter.0.clone()).boxed(),
    }
}

/// Escapes every control character of a record but the newline at its end (attack X03).
///
/// The formatter hands over a record with one write, so what is inside it cannot be taken for another record, cannot
/// move a terminal's cursor, and cannot turn the direction of what follows.
struct OneLine<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let (body, end): (&[u8], &[u8]) = match record {
            [body @ .., b'\n'] => (body, b"\n"),
            body => (body, b""),
        };
        if body.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            self.0.write_all(record)?;
        } else {
            let mut line = escape(&String::from_utf8_lossy(body)).into_bytes();
            line.extend_from_slice(end);
            self.0.write_all(&line)?;
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// `\u00XX`, which JSON reads too: a JSON record stays one.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let hidden =
            c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden {
            // Everything that is hidden lies below U+10000. Writing to a `String` does not fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Replaces what Rust does on a panic: one record with the place in the code, and one more in `tandem_panics_total`.
/// What the panic says is left out: it may hold what a client sent (attack X02).
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(on_panic));
}

fn on_panic(info: &PanicHookInfo<'_>) {
    metric::PANICS.add(1);
    let (file, line) = info.location().map_or(("unknown", 0), |at| (place(at.file()), at.line()));
    tracing::error!(file, line, "panicked");
}

/// The path without what leads to the source tree on the machine that built it.
fn place(path: &str) -> &str {
    let start = path.rmatch_indices('/').nth(2).map_or(0, |(at, _)| at + 1);
    path.get(start..).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str, act: impl FnOnce()) -> String {
        let page = Page::default();
        let out = page.clone();
        let layer = layer(format, &filter.parse().unwrap(), move || out.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
        page.text()
    }

    const NASTY: &str = "a\nERROR forged: b\r\x1b[2J\u{9b}31m\u{202e}\u{2028}\0 %s%n \" 'é日本";

    #[test]
    fn a_record_is_one_line_whatever_stands_in_its_fields() {
        for format in [Format::Text, Format::Json] {
            let text = logged(format, "info", || {
                tracing::info!(shown = %NASTY, debugged = ?NASTY, "message {NASTY}");
                tracing::info!("second");
            });
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.ends_with("second\n") || text.ends_with("}\n"), "{text}");
            let body = text.replace('\n', "");
            assert!(!body.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{body:?}");
            assert!(body.contains("%s%n") && body.contains("é日本"), "{body}");
        }
    }

    #[test]
    fn a_json_record_holds_its_field_as_it_was() {
        let text = logged(Format::Json, "info", || tracing::info!(name = NASTY, "x"));
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["name"], NASTY);
        assert_eq!(record["message"], "x");
    }

    #[test]
    fn a_filter_decides_by_target_and_level() {
        let text = logged(Format::Text, "warn,tandem_telemetry::log=debug", || {
            tracing::debug!("seen");
            tracing::debug!(target: "other", "not seen");
            tracing::warn!(target: "other", "warned");
            tracing::trace!("not seen");
        });
        assert!(text.contains("seen") && text.contains("warned") && !text.contains("not seen"), "{text}");
    }

    #[test]
    fn a_mistyped_filter_is_refused() {
        for bad in ["wran", "info,", "", "info,,debug", "a=loud", "info;debug"] {
            assert_eq!(bad.parse::<Filter>(), Err(BadFilter), "{bad}");
        }
        for good in ["info", "off", "WARN", "warn,tandem_relay=debug", "tandem_relay=trace"] {
            assert!(good.parse::<Filter>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_panic_is_logged_by_its_place_and_without_its_words() {
        let text = logged(Format::Text, "info", || {
            install_panic_hook();
            let canary = String::from("canary 192.0.2.77");
            let result = std::panic::catch_unwind(|| panic!("{canary}"));
            let _ = std::panic::take_hook();
            assert!(result.is_err());
        });
        assert!(text.contains("telemetry/src/log.rs") && text.contains("panicked"), "{text}");
        assert!(!text.contains("canary") && !text.contains("192.0.2"), "{text}");
    }

    #[test]
    fn the_place_of_a_panic_does_not_say_where_it_was_built() {
        assert_eq!(place("/home/somebody/registry/src/index/axum-0.8.9/src/serve.rs"), "axum-0.8.9/src/serve.rs");
        assert_eq!(place("relay/src/thread.rs"), "relay/src/thread.rs");
        assert_eq!(place("src/a/b/c.rs"), "a/b/c.rs");
    }
}
