//! Every metric's name, kind, unit and meaning, and every value that a label may have.
//!
//! Decides what a scrape can show: labels come from the enums here and from nowhere else, so that no call, device or
//! address can become one. Leaves counting to those who count, and rendering to [`crate::registry`].

pub mod lb;
pub mod relay;
pub mod router;
pub mod signaling;
pub mod state;

use metrics::{Key, Label, Level, Metadata, Unit};

/// Only goes up, or is whatever it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up while the process lives. Its name ends in `_total`.
    Counter,
    /// What it is now.
    Gauge,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// As Prometheus knows it: `tandem_…`, unit last.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// What it is counted in.
    pub unit: Unit,
    /// What it means, in one sentence.
    pub help: &'static str,
}

/// One line of a scrape: a metric with the values of its labels.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    /// The metric.
    pub metric: &'static Metric,
    /// Its labels; empty for most.
    pub labels: &'static [Label],
}

static METADATA: Metadata<'static> = Metadata::new("tandem", Level::INFO, None);

impl Metric {
    /// The metric without labels.
    #[must_use]
    pub const fn plain(&'static self) -> Series {
        Series { metric: self, labels: &[] }
    }

    /// The metric with the labels of one value, as its enum's `label()` gives them.
    #[must_use]
    pub const fn of(&'static self, labels: &'static [Label]) -> Series {
        Series { metric: self, labels }
    }

    /// Adds `n` to this counter of the process.
    pub fn add(&'static self, n: u64) {
        self.plain().add(n);
    }

    /// Sets this gauge of the process.
    pub fn set(&'static self, value: f64) {
        let series = self.plain();
        metrics::with_recorder(|recorder| recorder.register_gauge(&series.key(), &METADATA).set(value));
    }
}

impl Series {
    /// Adds `n` to this counter of the process.
    pub fn add(self, n: u64) {
        metrics::with_recorder(|recorder| recorder.register_counter(&self.key(), &METADATA).increment(n));
    }

    pub(crate) const fn key(self) -> Key {
        Key::from_static_parts(self.metric.name, self.labels)
    }

    pub(crate) fn record(self, recorder: &impl metrics::Recorder, value: u64) {
        match self.metric.kind {
            Kind::Counter => recorder.register_counter(&self.key(), &METADATA).absolute(value),
            // 2^53 of anything is more than a gauge of ours ever shows.
            #[allow(clippy::cast_precision_loss, reason = "gauges are small numbers")]
            Kind::Gauge => recorder.register_gauge(&self.key(), &METADATA).set(value as f64),
        }
    }
}

/// Declares metrics once: a static each, and the list of all of them.
macro_rules! metrics {
    ($(#[$list_doc:meta])* $list:ident: $($(#[doc = $help:literal])+ $id:ident = $kind:ident $unit:ident $name:literal;)*) => {
        $(
            $(#[doc = $help])+
            pub static $id: $crate::metric::Metric = $crate::metric::Metric {
                name: $name,
                kind: $crate::metric::Kind::$kind,
                unit: ::metrics::Unit::$unit,
                help: concat!($($help),+).trim_ascii(),
            };
        )*
        $(#[$list_doc])*
        pub static $list: &[&$crate::metric::Metric] = &[$(&$id,)*];
    };
}
pub(crate) use metrics;

/// Declares the values that a label may have.
macro_rules! label {
    ($(#[$doc:meta])* $id:ident = $key:literal: $($(#[$value_doc:meta])* $value:ident = $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $id {
            $($(#[$value_doc])* $value,)*
        }

        impl $id {
            /// The label with this value.
            #[must_use]
            pub const fn label(self) -> &'static [::metrics::Label] {
                match self {
                    $(Self::$value => const { &[::metrics::Label::from_static_parts($key, $text)] },)*
                }
            }
        }
    };
}
pub(crate) use label;

label! {
    /// First digit of an HTTP status.
    Status = "status":
    /// 1xx and 2xx.
    Success = "2xx",
    /// 3xx.
    Redirect = "3xx",
    /// 4xx: the client's fault.
    Client = "4xx",
    /// 5xx: ours.
    Server = "5xx",
}

label! {
    /// Why an HTTP connection was closed before its client wanted.
    Closed = "cause":
    /// Over the cap of connections.
    OverCap = "over_cap",
    /// From a network that may not connect.
    NotAllowed = "not_allowed",
    /// Too slow with a head or a body, or idle.
    Slow = "slow",
    /// Sent more than anybody has to say, or a head in more pieces than anybody cuts it into.
    Flood = "flood",
}

metrics! {
    /// The metrics of every process.
    PROCESS:
    /// Panics since the process started. Each cost what it happened on; any is a bug.
    PANICS = Counter Count "tandem_panics_total";
    /// 1 while the process takes new work.
    READY = Gauge Count "tandem_ready";
    /// HTTP requests answered, by the first digit of their status.
    HTTP_REQUESTS = Counter Count "tandem_http_requests_total";
    /// HTTP connections that are open.
    HTTP_CONNECTIONS = Gauge Count "tandem_http_connections";
    /// HTTP connections that we closed before their client wanted.
    HTTP_CLOSED = Counter Count "tandem_http_connections_closed_total";
    /// Accepting a connection failed; out of files, mostly.
    HTTP_ACCEPT_ERRORS = Counter Count "tandem_http_accept_errors_total";
}

/// Every metric that there is.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    [PROCESS, lb::LB, relay::RELAY, router::ROUTER, signaling::SIGNALING, state::STATE].into_iter().flatten().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_metric_is_named_once_and_says_its_kind_and_what_it_means() {
        let mut names = BTreeSet::new();
        for metric in all() {
            assert!(names.insert(metric.name), "{} is there twice", metric.name);
            assert!(metric.name.starts_with("tandem_"), "{}", metric.name);
            assert!(metric.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert_eq!(metric.name.contains("_bytes"), metric.unit == Unit::Bytes, "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{}: {}", metric.name, metric.help);
        }
    }
}
