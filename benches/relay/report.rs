//! What was measured, as a table for people and as JSON for machines.
//!
//! Decides how rounds become one number: their median, with the lowest and the highest beside it. Ratios are made round
//! by round, from runs a second apart, and then the median is taken: the machine's speed moves more between minutes than
//! the forwarders differ. A target is met or missed; nothing fails because of it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::traffic::Counts;

/// The values of one thing, one a round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median; NaN of nothing.
    pub(crate) fn median(&self) -> f64 {
        let values = self.sorted();
        match values.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => values[n / 2],
            n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
        }
    }

    /// Value by value, `f` of this one and the other one.
    pub(crate) fn with(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| f(*a, *b)).collect())
    }

    fn json(&self) -> Value {
        let values = self.sorted();
        json!({ "median": self.median(), "min": values.first(), "max": values.last(), "rounds": self.0 })
    }

    /// `median [min..max]`
    fn text(&self, decimals: usize) -> String {
        let values = self.sorted();
        match (values.first(), values.last()) {
            (Some(min), Some(max)) => format!("{:.decimals$} [{min:.decimals$}..{max:.decimals$}]", self.median()),
            _ => "-".to_owned(),
        }
    }
}

/// One forwarder at full load with one kind of traffic.
#[derive(Debug, Clone)]
pub(crate) struct Throughput {
    pub(crate) forwarder: &'static str,
    pub(crate) payload: usize,
    pub(crate) flows: usize,
    /// CPU nanoseconds a packet.
    pub(crate) cpu_ns: Series,
    /// Packets a second that came back.
    pub(crate) pps: Series,
    /// Share of the processor that the forwarder used: near 1, or the generator was the limit.
    pub(crate) busy: Series,
    pub(crate) counts: Counts,
}

/// One forwarder at a fixed load.
#[derive(Debug, Clone)]
pub(crate) struct Delay {
    pub(crate) forwarder: &'static str,
    pub(crate) pps: u64,
    /// Nanoseconds from send to receive time stamp.
    pub(crate) p50: Series,
    pub(crate) p99: Series,
    pub(crate) cpu_ns: Series,
    pub(crate) counts: Counts,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) throughput: Vec<Throughput>,
    pub(crate) delay: Vec<Delay>,
    /// Bytes of resident memory an idle allocation.
    pub(crate) memory: Vec<(&'static str, f64)>,
    pub(crate) allocations_per_second: Series,
    pub(crate) commits_per_second: Series,
    /// What Tandem was: the real processes or the hosted relay.
    pub(crate) tandem: &'static str,
}

/// A promise of issue 2, "Speed and memory".
struct Target {
    what: String,
    wanted: String,
    found: f64,
    met: bool,
}

impl Report {
    fn throughput_of(&self, forwarder: &str, like: &Throughput) -> Option<&Throughput> {
        self.throughput.iter().find(|t| t.forwarder == forwarder && t.payload == like.payload && t.flows == like.flows)
    }

    /// How many times the packets per core of `forwarder` this one has.
    fn times(&self, this: &Throughput, forwarder: &str) -> Series {
        self.throughput_of(forwarder, this)
            .map_or_else(Series::default, |other| this.cpu_ns.with(&other.cpu_ns, |this, other| other / this))
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut at_least = |what: String, found: f64, wanted: f64, decimals: usize| {
            if found.is_finite() {
                let wanted_text = format!("at least {wanted:.decimals$}");
                targets.push(Target { what, wanted: wanted_text, found, met: found >= wanted });
            }
        };
        for t in self.throughput.iter().filter(|t| t.forwarder == "tandem") {
            let traffic = format!("{} B, {} flows", t.payload, t.flows);
            at_least(format!("packets per core, of the floor's ({traffic})"), self.times(t, "floor").median(), 0.85, 2);
            if t.flows >= 2_000 {
                let what = format!("packets per core, times coturn's ({traffic})");
                at_least(what, self.times(t, "coturn").median(), 1.5, 2);
            }
        }
        at_least("allocations a second".to_owned(), self.allocations_per_second.median(), 20_000.0, 0);
        for (forwarder, bytes) in &self.memory {
            if *forwarder == "tandem" {
                targets.push(Target {
                    what: "bytes of memory an idle allocation".to_owned(),
                    wanted: "at most 1024".to_owned(),
                    found: *bytes,
                    met: *bytes <= 1_024.0,
                });
            }
        }
        targets
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let counts = |c: &Counts| json!({ "sent": c.sent, "received": c.received, "lost": c.lost, "wrong": c.wrong, "repeated": c.repeated });
        let throughput: Vec<_> = self
            .throughput
            .iter()
            .map(|t| {
                json!({
                    "forwarder": t.forwarder, "payload_bytes": t.payload, "flows": t.flows,
                    "cpu_ns_per_packet": t.cpu_ns.json(), "pps_per_core": 1e9 / t.cpu_ns.median(),
                    "pps": t.pps.json(), "busy": t.busy.json(),
                    "times_floor": self.times(t, "floor").json(), "times_coturn": self.times(t, "coturn").json(),
                    "packets": counts(&t.counts),
                })
            })
            .collect();
        let delay: Vec<_> = self
            .delay
            .iter()
            .map(|d| {
                json!({
                    "forwarder": d.forwarder, "pps": d.pps, "p50_ns": d.p50.json(), "p99_ns": d.p99.json(),
                    "cpu_ns_per_packet": d.cpu_ns.json(), "packets": counts(&d.counts),
                })
            })
            .collect();
        let memory: Vec<_> =
            self.memory.iter().map(|(f, bytes)| json!({ "forwarder": f, "bytes_per_allocation": bytes })).collect();
        let targets: Vec<_> = self
            .targets()
            .iter()
            .map(|t| json!({ "what": t.what, "wanted": t.wanted, "found": t.found, "met": t.met }))
            .collect();
        json!({
            "tandem": self.tandem, "throughput": throughput, "delay": delay, "memory": memory,
            "allocations_per_second": self.allocations_per_second.json(),
            "store_commits_per_second": self.commits_per_second.json(),
            "targets": targets,
        })
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write_throughput(&mut out);
        self.write_delay(&mut out);
        if !self.memory.is_empty() {
            out.push_str("\nMemory an idle allocation, channel bound (RSS difference)\n");
            for (forwarder, bytes) in &self.memory {
                let _ = writeln!(out, "  {forwarder:<8} {bytes:>8.0} B");
            }
        }
        if self.allocations_per_second.median().is_finite() {
            let share = self.allocations_per_second.with(&self.commits_per_second, |a, c| 100.0 * a / c);
            out.push_str("\nAllocations, relay and store in one process (each is durable when it is answered)\n");
            let _ = writeln!(out, "  allocations/s           {}", self.allocations_per_second.text(0));
            let _ = writeln!(out, "  store alone, commits/s  {}", self.commits_per_second.text(0));
            let _ = writeln!(out, "  the first of the second {} %", share.text(0));
        }
        let targets = self.targets();
        if !targets.is_empty() {
            out.push_str("\nTargets\n");
            for t in &targets {
                let verdict = if t.met { "met   " } else { "missed" };
                let found = if t.found < 100.0 { format!("{:.2}", t.found) } else { format!("{:.0}", t.found) };
                let _ = writeln!(out, "  {verdict} {}: {found} ({})", t.what, t.wanted);
            }
        }
        out
    }

    fn write_throughput(&self, out: &mut String) {
        if self.throughput.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "Full load, at most 192 packets in flight; tandem = {}\n{:>7} {:>5}  {:<8} {:>22} {:>10} {:>8} {:>5}  \
             {:>20} {:>20} {:>6} {:>6} {:>6}",
            self.tandem,
            "payload",
            "flows",
            "",
            "cpu ns/packet",
            "pps/core",
            "pps",
            "busy",
            "x floor",
            "x coturn",
            "lost",
            "wrong",
            "again"
        );
        for t in &self.throughput {
            let _ = writeln!(
                out,
                "{:>7} {:>5}  {:<8} {:>22} {:>10.0} {:>8.0} {:>5.2}  {:>20} {:>20} {:>6} {:>6} {:>6}",
                t.payload,
                t.flows,
                t.forwarder,
                t.cpu_ns.text(0),
                1e9 / t.cpu_ns.median(),
                t.pps.median(),
                t.busy.median(),
                self.times(t, "floor").text(2),
                self.times(t, "coturn").text(2),
                t.counts.lost,
                t.counts.wrong,
                t.counts.repeated,
            );
        }
    }

    fn write_delay(&self, out: &mut String) {
        if self.delay.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\nDelay at a fixed load, in microseconds, 172 B, 2,000 flows\n{:>7}  {:<8} {:>20} {:>22} {:>10} {:>10} \
             {:>14} {:>6} {:>6} {:>6}",
            "pps", "", "p50", "p99", "p50-floor", "p99-floor", "cpu ns/packet", "lost", "wrong", "again"
        );
        for d in &self.delay {
            let floor = self.delay.iter().find(|other| other.forwarder == "floor" && other.pps == d.pps);
            let over = |of: fn(&Delay) -> &Series| {
                floor.map_or(f64::NAN, |floor| of(d).with(of(floor), |a, b| a - b).median() / 1e3)
            };
            let micros = |series: &Series| series.with(series, |ns, _| ns / 1e3).text(1);
            let _ = writeln!(
                out,
                "{:>7}  {:<8} {:>20} {:>22} {:>10.1} {:>10.1} {:>14.0} {:>6} {:>6} {:>6}",
                d.pps,
                d.forwarder,
                micros(&d.p50),
                micros(&d.p99),
                over(|d| &d.p50),
                over(|d| &d.p99),
                d.cpu_ns.median(),
                d.counts.lost,
                d.counts.wrong,
                d.counts.repeated,
            );
        }
    }
}
