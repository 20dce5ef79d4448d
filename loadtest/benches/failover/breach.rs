//! What of a run is over its budget, a line each, with what stood still beside it.
//!
//! Decides what a breach is. A run under others' work breaches too: the line says by whom it was kept waiting.

use serde_json::Value;

use crate::fault::Fault;

/// Our processes, of all cores.
pub(crate) const CPU_PERCENT: f64 = 60.0;

pub(crate) fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("?")
}

/// CPU of all our processes, in percent of all cores.
pub(crate) fn cpu_percent(report: &Value) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    let each = list(report, "processes").iter().map(|process| number(process, "/cpu_percent"));
    each.filter(|percent| percent.is_finite()).sum::<f64>() / cores
}

/// All of them.
pub(crate) fn breaches(fault: &Fault, report: &Value, moved: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    let mut whole = |what: String| all.push(format!("{what}; longest waits of the run: {}", waits_of_run(report)));
    for call in list(report, "each").iter().filter(|call| call.get("lost").is_some_and(Value::is_string)) {
        whole(format!("call {} ({}) lost: {}", number(call, "/nth"), text(call, "id"), text(call, "lost")));
    }
    if !moved.is_empty() {
        whole(format!("{} calls moved though their relay was healthy: {}", moved.len(), moved.join(", ")));
    }
    for (figure, what) in
        [("leaked", "packets leaked"), ("corrupt", "packets corrupt"), ("duplicates", "packets twice")]
    {
        // Not measured is a breach too.
        let count = number(report, &format!("/figures/{figure}"));
        if count != 0.0 {
            whole(format!("{count} {what}"));
        }
    }
    let lost = number(report, "/figures/lost_packets");
    if !fault.loses && lost != 0.0 {
        whole(format!("{lost} packets lost, and none may be"));
    }
    let cpu = cpu_percent(report);
    if cpu > CPU_PERCENT {
        whole(format!("CPU {cpu:.0} % of all cores"));
    }
    for done in list(report, "faults") {
        if let Some(why) = done.get("failed").and_then(Value::as_str) {
            whole(format!("the fault \"{}\" was not done: {why}", text(done, "name")));
        }
    }
    if let Some(late) = late_accept(report) {
        whole(late);
    }
    all.extend(gap(fault, report));
    all
}

/// Calls were accepted, and somebody was killed before all of it was written: not what was to be tested.
fn late_accept(report: &Value) -> Option<String> {
    let faults = list(report, "faults");
    let accept = faults.iter().find(|done| text(done, "name") == "accept")?;
    let written = number(accept, "/at_ms") + number(accept, "/took_ms");
    let killed = faults.iter().filter(|done| text(done, "name").starts_with("kill "));
    let first = killed.map(|done| number(done, "/at_ms")).fold(f64::INFINITY, f64::min);
    (written >= first).then(|| format!("the accepts were written {:.1} ms after the kill", written - first))
}

/// The longest gap, if it is too long.
fn gap(fault: &Fault, report: &Value) -> Option<String> {
    if number(report, "/gap_ms/max") <= fault.budget_ms {
        return None;
    }
    let mut over: Vec<&Value> =
        list(report, "gaps").iter().filter(|gap| number(gap, "/ms") > fault.budget_ms).collect();
    over.sort_by(|one, other| number(other, "/ms").total_cmp(&number(one, "/ms")));
    let Some(gap) = over.first() else { return Some("gaps were not measured".to_owned()) };
    let after = gap.get("fault").and_then(Value::as_u64).map_or("no fault", |nth| {
        report.pointer(&format!("/faults/{nth}/name")).and_then(Value::as_str).unwrap_or("?")
    });
    Some(format!(
        "{} gaps too long; the longest {:.1} ms from {:.0} ms on in call {}, after {after}; {} packets missing; sent {:.1} ms late, \
         generator's stall {:.1} ms, waits beside it: {}; machine {:.0} % busy",
        over.len(),
        number(gap, "/ms"),
        number(gap, "/at_ms"),
        number(gap, "/nth"),
        number(gap, "/missing"),
        number(gap, "/sent_late_ms"),
        number(gap, "/stall_ms"),
        waits(report, list(gap, "waits").iter().map(|wait| (text(wait, "process"), number(wait, "/ms"))).collect()),
        number(report, "/generator/machine_percent"),
    ))
}

fn waits_of_run(report: &Value) -> String {
    let each = list(report, "processes").iter().map(|one| (text(one, "name"), number(one, "/wait_ms_max")));
    let noted = each.filter(|(_, ms)| *ms > WAIT_NOTED_MS).collect();
    format!("{}; machine {:.0} % busy", waits(report, noted), number(report, "/generator/machine_percent"))
}

/// What the load test notes of a wait.
const WAIT_NOTED_MS: f64 = 5.0;

/// Each process: how long it waited for a core, or that it did not for long.
fn waits(report: &Value, mut noted: Vec<(&str, f64)>) -> String {
    noted.sort_by(|one, other| other.1.total_cmp(&one.1));
    let all = list(report, "processes").iter().map(|one| text(one, "name"));
    let quiet: Vec<&str> = all.filter(|name| !noted.iter().any(|(other, _)| other == name)).collect();
    let mut words: Vec<String> = noted.iter().map(|(name, ms)| format!("{name} {ms:.1} ms")).collect();
    if !quiet.is_empty() {
        words.push(format!("at most {WAIT_NOTED_MS:.0} ms: {}", quiet.join(" ")));
    }
    words.join(", ")
}
