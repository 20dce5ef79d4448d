//! `cargo xtask bench failover`: 200 calls through a whole PoP on one machine, and what they notice of each fault.
//!
//! Decides the faults, and how their runs are put together: medians over the runs, and every breach of a budget with what
//! stood still beside it. What is measured of a run is the load test's own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool at a terminal")]

mod fault;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::process::{ExitCode, Stdio};

use fault::{FAULTS, Fault};
use serde_json::Value;
use support::{Dev, ask};

/// What may be asked for.
struct Words {
    runs: usize,
    calls: String,
    only: Option<String>,
}

fn words() -> Result<Words, String> {
    let mut words = Words { runs: 5, calls: "200".to_owned(), only: None };
    let mut given = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = given.next() {
        let value = given.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--runs" => words.runs = value.parse().map_err(|_| "--runs needs a number".to_owned())?,
            "--calls" => words.calls = value,
            "--only" => words.only = Some(value),
            _ => return Err(format!("there is no {word}: --runs, --calls and --only")),
        }
    }
    Ok(words)
}

/// What one run came to.
struct Run {
    gap: [f64; 3],
    lost_packets: f64,
    calls_lost: f64,
    /// Of 512 buckets, those that moved though their relay had no fault.
    moved: usize,
    /// Both cores.
    cpu_percent: f64,
    breach: Option<String>,
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// The relay of each of some buckets.
fn owners(lb: &str) -> BTreeMap<u16, u64> {
    let owner = |bucket: u16| {
        let answer = ask(lb, "GET", &format!("/where?bucket={bucket:04x}"), "", "").ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((bucket, serde_json::from_str::<Value>(body).ok()?.get("now")?.as_u64()?))
    };
    (0..=u16::MAX).step_by(128).filter_map(owner).collect()
}

fn free() -> std::io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn run(fault: &Fault, calls: &str) -> Result<Run, Box<dyn Error>> {
    let lb = free()?;
    let set = [
        "signaling.limits.connections_per_source=16384".to_owned(),
        "signaling.limits.calls_per_source={per_minute=60000,burst=2000}".to_owned(),
        "router.connections_per_source=16384".to_owned(),
        format!("lb.admin={lb}"),
    ];
    let more: Vec<&str> = ["--fleet"].into_iter().chain(set.iter().flat_map(|one| ["--set", one])).collect();
    let dev = Dev::start_with(&more)?;
    let timeline = dev.folder.path().join("faults.json");
    std::fs::write(&timeline, fault.timeline(&dev)?.to_string())?;
    let report = dev.folder.path().join("report.json");
    let before = owners(&lb);
    let mut command = dev.loadtest();
    command.args(["--tokens", "dev", "--calls", calls, "--ramp", "10s", "--duration", fault.lasts]);
    command.arg("--faults").arg(&timeline).arg("--json").arg(&report).stdout(Stdio::null()).stderr(Stdio::null());
    command.status()?;
    let report: Value = serde_json::from_slice(&std::fs::read(&report)?)?;
    // The load balancer itself may have been the fault: another one listens there by now.
    let after = owners(&lb);
    let healthy = |relay: &u64| !fault.relays.contains(relay);
    let moved = before.iter().filter(|(bucket, relay)| healthy(relay) && after.get(bucket) != Some(relay)).count();
    let cpu = report.get("processes").and_then(Value::as_array).map_or(0.0, |processes| {
        processes.iter().map(|process| number(process, "/cpu_percent")).filter(|percent| percent.is_finite()).sum()
    });
    let gap = ["p50", "p99", "max"].map(|which| number(&report, &format!("/gap_ms/{which}")));
    let lost: Vec<String> = lost(&report);
    let late = gap.iter().any(|gap| *gap > fault.budget_ms).then(|| beside(&report));
    let breach = late.into_iter().chain(lost).reduce(|one, other| format!("{one}; {other}"));
    Ok(Run {
        gap,
        lost_packets: number(&report, "/figures/lost_packets"),
        calls_lost: number(&report, "/figures/calls_lost"),
        moved,
        cpu_percent: cpu / 2.0,
        breach,
    })
}

/// The longest gap of a run, and what stood still beside it.
fn beside(report: &Value) -> String {
    let gaps = report.get("gaps").and_then(Value::as_array);
    let longest = gaps.and_then(|gaps| gaps.iter().max_by(|a, b| number(a, "/ms").total_cmp(&number(b, "/ms"))));
    let Some(gap) = longest else { return "no gap over 40 ms is kept".to_owned() };
    let waits = gap.get("waits").map(ToString::to_string).unwrap_or_default();
    let name = gap.get("fault").and_then(Value::as_u64).map_or("no fault".to_owned(), |nth| {
        report.pointer(&format!("/faults/{nth}/name")).and_then(Value::as_str).unwrap_or("?").to_owned()
    });
    format!(
        "{:.1} ms at {:.0} ms, after {name}; {} packets missing; sent {:.1} ms late, generator's stall {:.1} ms, waits {waits}",
        number(gap, "/ms"),
        number(gap, "/at_ms"),
        number(gap, "/missing"),
        number(gap, "/sent_late_ms"),
        number(gap, "/stall_ms"),
    )
}

/// The calls that were lost, and why.
fn lost(report: &Value) -> Vec<String> {
    let each = report.get("each").and_then(Value::as_array);
    let lost = each.into_iter().flatten().filter(|call| call.get("lost").is_some_and(|lost| !lost.is_null()));
    lost.map(|call| format!("call {} lost: {}", number(call, "/nth"), call.get("lost").unwrap_or(&Value::Null)))
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> ExitCode {
    let words = match words() {
        Ok(words) => words,
        Err(what) => {
            eprintln!("bench failover: {what}");
            return ExitCode::from(64);
        }
    };
    println!("{} calls, {} runs a fault, medians; milliseconds; the longest gap of each call", words.calls, words.runs);
    println!(
        "| fault | budget | gap p50 | p99 | max | packets lost | calls lost | moved though healthy | CPU of both cores |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut breaches = Vec::new();
    for fault in FAULTS.iter().filter(|fault| words.only.as_ref().is_none_or(|only| fault.name.contains(only.as_str())))
    {
        let mut runs = Vec::new();
        for _ in 0..words.runs {
            match run(fault, &words.calls) {
                Ok(run) => runs.push(run),
                Err(error) => breaches.push(format!("{}: a run was not measured: {error}", fault.name)),
            }
        }
        let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
        println!(
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} % |",
            fault.name,
            fault.budget_ms,
            of(|run| run.gap[0]),
            of(|run| run.gap[1]),
            of(|run| run.gap[2]),
            of(|run| run.lost_packets),
            runs.iter().map(|run| run.calls_lost).fold(0.0, f64::max),
            runs.iter().map(|run| run.moved).max().unwrap_or_default(),
            of(|run| run.cpu_percent),
        );
        breaches.extend(runs.into_iter().filter_map(|run| run.breach).map(|what| format!("{}: {what}", fault.name)));
    }
    println!("\nover budget: {}", breaches.len());
    breaches.iter().for_each(|breach| println!("- {breach}"));
    ExitCode::SUCCESS
}
