//! The report in words, for a person at a terminal.
//!
//! Decides what of it is worth a line. The rest stands in the JSON.

use std::fmt::{self, Display, Formatter, Write as _};

use crate::report::{GapRow, Report};
use crate::stats::Spread;

/// Lines about single calls and gaps: what does not fit a screen is not read.
const LINES: usize = 10;

struct Ms3<'a>(&'a Spread);

impl Display for Ms3<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Spread { p50, p99, max, .. } = self.0;
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms")
    }
}

/// The report in words.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> fmt::Result {
    let Report { plan, calls, packets, .. } = report;
    writeln!(
        out,
        "{} calls, {:.1} s, {} packets of {} B a second each way, seed {}",
        plan.calls,
        report.watched_ms.0 / 1_000.0,
        plan.pps,
        plan.packet_bytes,
        plan.seed
    )?;
    writeln!(out, "calls     {} stood, {} lost; set up in {}", calls.stood, calls.lost, Ms3(&calls.set_up_ms))?;
    writeln!(
        out,
        "packets   {} sent, {} came; {} lost ({} not taken by our own sockets), {} twice, {} out of order, {} corrupt, \
         {} invented, {} leaked",
        packets.sent,
        packets.received,
        packets.lost,
        packets.not_sent,
        packets.duplicates,
        packets.reordered,
        packets.corrupt,
        packets.invented,
        packets.leaked
    )?;
    writeln!(out, "delay     {}", Ms3(&report.delay_ms))?;
    writeln!(out, "gap       {} (the longest of each call)", Ms3(&report.gap_ms))?;
    for fault in &report.faults {
        write!(out, "fault     {} {}: ", fault.at_ms, fault.name)?;
        match &fault.failed {
            Some(why) => writeln!(out, "NOT DONE: {why}")?,
            None => writeln!(out, "a gap over 40 ms in {} calls, {}", fault.calls, Ms3(&fault.gap_ms))?,
        }
    }
    for one in &report.processes {
        write!(out, "process   {:14} {:5.1} % of a core", one.name, one.cpu_percent)?;
        writeln!(out, ", waited for one {} at most{}", one.wait_ms_max, replaced(one.replaced))?;
    }
    let generator = &report.generator;
    writeln!(
        out,
        "generator stood still for {} at most ({} times over 5 ms); {:.1} µs of CPU a packet, both ends",
        generator.stall_ms_max, generator.stalls, generator.cpu_us_per_packet
    )?;
    let lost: Vec<_> = report.each.iter().filter_map(|call| Some((call, call.lost.as_ref()?))).collect();
    for (call, why) in lost.iter().take(LINES) {
        writeln!(out, "lost      call {} ({}): {why}", call.nth, call.id.as_deref().unwrap_or("no id"))?;
    }
    more(lost.len(), "lost", out)?;
    let mut gaps: Vec<&GapRow> = report.gaps.iter().collect();
    gaps.sort_by(|one, other| other.ms.0.total_cmp(&one.ms.0));
    for gap in gaps.iter().take(LINES) {
        write!(out, "longest   {} at {} in call {}, {} missing", gap.ms, gap.at_ms, gap.nth, gap.missing)?;
        if let Some(fault) = gap.fault.and_then(|index| report.faults.get(index)) {
            write!(out, ", after \"{}\"", fault.name)?;
        }
        write!(out, "; sent {} late, generator's stall {}", gap.sent_late_ms, gap.stall_ms)?;
        for wait in &gap.waits {
            write!(out, ", {} waited {}", wait.process, wait.ms)?;
        }
        writeln!(out)?;
    }
    more(gaps.len(), "gaps over 40 ms", out)?;
    for line in &report.verdict {
        let word = if line.passed { "ok      " } else { "FAILED  " };
        writeln!(out, "{word}  {} {} of at most {}", line.figure.word(), figure(line.measured), figure(line.most))?;
    }
    writeln!(out, "{}", if report.passed { "passed" } else { "FAILED" })
}

fn more(all: usize, what: &str, out: &mut String) -> fmt::Result {
    if all > LINES { writeln!(out, "          … and {} more ({what}): see the JSON", all - LINES) } else { Ok(()) }
}

fn replaced(times: u32) -> String {
    if times == 0 { String::new() } else { format!(", replaced {times} times") }
}

/// Whole numbers as such, others to a thousandth.
fn figure(value: f64) -> String {
    if value.is_infinite() {
        "(not measured)".to_owned()
    } else if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}
