//! `cargo xtask bench failover`: 200 calls through a whole PoP on one machine, and what they notice of each fault.
//!
//! Decides how the runs of a fault are put together: medians, and every breach of a budget with what stood still beside it.
//! What is measured of a run is the load test's own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool at a terminal")]

mod breach;
mod fault;
mod lb;
mod link;
mod run;
#[path = "../../tests/support/mod.rs"]
mod support;
mod words;

use std::io::Write as _;
use std::process::ExitCode;

use fault::{FAULTS, Fault, What};
use run::Run;
use words::Words;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(fault: &Fault, runs: &[Run]) -> String {
    let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    let most = |figure: fn(&Run) -> f64| runs.iter().map(figure).fold(0.0, f64::max);
    format!(
        "| {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} % | {:.0} % |",
        fault.name,
        fault.budget_ms,
        of(|run| run.gap[0]),
        of(|run| run.gap[1]),
        of(|run| run.gap[2]),
        most(|run| run.gap[2]),
        of(|run| run.lost_packets),
        most(|run| run.calls_lost),
        most(|run| run.moved as f64),
        of(|run| run.cpu_percent),
        of(|run| run.machine_percent),
    )
}

/// How long the callers of held calls were left without knowing.
fn held(fault: &Fault, runs: &[Run]) -> Option<String> {
    let (p50, max): (Vec<f64>, Vec<f64>) = runs.iter().filter_map(|run| run.held).map(|[p50, max]| (p50, max)).unzip();
    let longest = max.iter().copied().fold(0.0, f64::max);
    (!p50.is_empty()).then(|| {
        let (p50, max) = (median(p50), median(max));
        format!("{}: {p50:.0} ms p50, {max:.0} ms max (medians); {longest:.0} ms in the worst run", fault.name)
    })
}

fn report(words: &Words, faults: &[&Fault]) {
    println!("{} calls, {} runs a fault, medians; milliseconds; the longest gap of each call", words.calls, words.runs);
    println!();
    println!(
        "| fault | budget | gap p50 | p99 | max | max of all runs | packets lost | calls lost | moved though healthy | CPU | machine |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let (mut breaches, mut told, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for fault in faults {
        if let (What::Cut(..), Some(why)) = (&fault.what, link::missing()) {
            left_out.push(format!("{}: {why}", fault.name));
            continue;
        }
        let mut runs = Vec::new();
        for nth in 1..=words.runs {
            match run::run(fault, nth, words) {
                Ok(mut run) => {
                    breaches.extend(run.breaches.drain(..).map(|what| format!("{}, run {nth}: {what}", fault.name)));
                    runs.push(run);
                }
                Err(error) => breaches.push(format!("{}, run {nth}: not measured: {error}", fault.name)),
            }
        }
        println!("{}", row(fault, &runs));
        let _ = std::io::stdout().flush();
        told.extend(held(fault, &runs));
    }
    if !told.is_empty() {
        println!("\nFrom when {} calls that rang were to be accepted until packets could go both ways:", words.held);
        told.iter().for_each(|line| println!("- {line}"));
    }
    left_out.iter().for_each(|line| println!("\nleft out: {line}"));
    println!("\nover budget: {}", breaches.len());
    breaches.iter().for_each(|breach| println!("- {breach}"));
}

fn main() -> ExitCode {
    let words = match words::words() {
        Ok(words) => words,
        Err(what) => {
            eprintln!("bench failover: {what}");
            return ExitCode::from(64);
        }
    };
    let wanted = |fault: &&Fault| words.only.as_ref().is_none_or(|only| fault.name.contains(only.as_str()));
    let faults: Vec<&Fault> = FAULTS.iter().filter(wanted).collect();
    if faults.is_empty() {
        let names: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
        eprintln!("bench failover: --only names none of these: {}", names.join("; "));
        return ExitCode::from(64);
    }
    report(&words, &faults);
    ExitCode::SUCCESS
}
