//! One run: a PoP of its own, the calls, the fault, and what they saw of it.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::breach::{breaches, cpu_percent, number};
use crate::fault::{Fault, Tools, What};
use crate::support::Dev;
use crate::words::Words;
use crate::{lb, link};

/// What one run came to.
pub(crate) struct Run {
    /// p50, p99 and the longest, of the longest gap of each call.
    pub(crate) gap: [f64; 3],
    pub(crate) lost_packets: f64,
    pub(crate) calls_lost: f64,
    /// Calls that moved though their relay had no fault.
    pub(crate) moved: usize,
    /// Of all cores: ours, and whatever else ran.
    pub(crate) cpu_percent: f64,
    pub(crate) machine_percent: f64,
    /// From when the held calls were to be accepted until packets could go both ways: p50 and the longest, if there were any.
    pub(crate) held: Option<[f64; 2]>,
    pub(crate) breaches: Vec<String>,
}

fn free() -> std::io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Does it.
pub(crate) fn run(fault: &Fault, nth: usize, words: &Words) -> Result<Run, Box<dyn Error>> {
    let lb = free()?;
    let relays = fault.of.to_string();
    let set = [
        "signaling.limits.connections_per_source=16384".to_owned(),
        "signaling.limits.calls_per_source={per_minute=60000,burst=2000}".to_owned(),
        "router.connections_per_source=16384".to_owned(),
        format!("lb.admin={lb}"),
    ];
    let fleet = ["--fleet", "--relays", &relays];
    let more: Vec<&str> = fleet.into_iter().chain(set.iter().flat_map(|one| ["--set", one])).collect();
    let dev = Dev::start_with(&more)?;
    let result = measure(fault, words, &dev, &lb);
    let bad = result.as_ref().map_or(true, |run| !run.breaches.is_empty());
    if let (true, Some(folder)) = (bad, &words.keep) {
        keep(&dev, &folder.join(format!("{}-{nth}", fault.name.replace([' ', ',', '\''], "-"))))?;
    }
    result
}

/// What a run that was over its budget said, for whoever wants to know why.
fn keep(dev: &Dev, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for name in ["report.json", "faults.json", "log", "lb-2.log", "loadtest.log"] {
        let from = dev.folder.path().join(name);
        if from.exists() {
            std::fs::copy(from, folder.join(name))?;
        }
    }
    Ok(())
}

fn measure(fault: &Fault, words: &Words, dev: &Dev, admin: &str) -> Result<Run, Box<dyn Error>> {
    let at = |name: &str| dev.folder.path().join(name);
    let cut = match fault.what {
        What::Cut(name, _) => Some(link::files(dev, name)?),
        _ => None,
    };
    std::fs::write(at("faults.json"), fault.timeline(dev, &Tools { cut: cut.as_ref() })?.to_string())?;
    let mut command = dev.loadtest();
    // Fifty are set up a second: half of the time is for setting up then, and not more.
    let ramp = words.calls.saturating_mul(20).max(500);
    command.args([
        "--tokens",
        "dev",
        "--calls",
        &words.calls.to_string(),
        "--held",
        &fault.held(words.held).to_string(),
    ]);
    command.args(["--ramp", &format!("{ramp}ms"), "--duration", &format!("{}s", fault.seconds)]);
    command.args(["--watch", &format!("dev={}", dev.own_pid())]);
    if let What::Replace = fault.what {
        command.args(["--watch", &format!("lb-2={}", lb::Another::pid_file(dev).display())]);
    }
    command.arg("--faults").arg(at("faults.json")).arg("--json").arg(at("report.json")).arg("--ids").arg(at("ids"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(child.stderr.take().ok_or("no pipe")?).lines();
    let mut heard = Vec::new();
    let stand = said.by_ref().map_while(Result::ok).any(|line| {
        heard.push(line.clone());
        line.contains(" calls stand")
    });
    if !stand {
        child.wait()?;
        return Err(format!("no call stands: {}", heard.join("; ")).into());
    }
    let calls: Vec<String> = std::fs::read_to_string(at("ids"))?.lines().map(str::to_owned).collect();
    let before = lb::relays_of(&calls, admin);
    let logged = dev.log().len();
    let _another = match fault.what {
        What::Replace => Some(lb::Another::start(dev)?),
        _ => None,
    };
    heard.extend(said.map_while(Result::ok));
    std::fs::write(at("loadtest.log"), heard.join("\n"))?;
    child.wait()?;
    let report: Value = serde_json::from_slice(&std::fs::read(at("report.json"))?)?;
    // The load balancer itself may have been the fault: another one listens there by now.
    let after = lb::relays_of(&calls, admin);
    let log = dev.log().get(logged..).unwrap_or_default().to_owned()
        + &std::fs::read_to_string(at("lb-2.log")).unwrap_or_default();
    let moved = lb::moved(&before, &after, &log, fault.relays);
    let mut breaches = breaches(fault, &report, &moved);
    if before.len() < words.calls {
        breaches.push(format!("of {} of {} calls it is known which relay had them", before.len(), words.calls));
    }
    let held = number(&report, "/calls/held_ms/count") > 0.0;
    Ok(Run {
        gap: ["p50", "p99", "max"].map(|which| number(&report, &format!("/gap_ms/{which}"))),
        lost_packets: number(&report, "/figures/lost_packets"),
        calls_lost: number(&report, "/figures/calls_lost"),
        moved: moved.len(),
        cpu_percent: cpu_percent(&report),
        machine_percent: number(&report, "/generator/machine_percent"),
        held: held.then(|| ["p50", "max"].map(|which| number(&report, &format!("/calls/held_ms/{which}")))),
        breaches,
    })
}
