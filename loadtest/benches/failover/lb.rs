//! What the load balancer says: where calls go, and which relays it took for down. And another load balancer beside it.
//!
//! Decides which calls count as moved though their relay was healthy.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Dev, ask, tandem};

/// The relay of each call, by the load balancer that serves there.
pub(crate) fn relays_of(calls: &[String], lb: &str) -> BTreeMap<String, u64> {
    let relay = |call: &String| {
        let answer = ask(lb, "GET", &format!("/where?call={call}"), "", "").ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((call.clone(), serde_json::from_str::<Value>(body).ok()?.get("now")?.as_u64()?))
    };
    calls.iter().filter_map(relay).collect()
}

/// The relays that the load balancer of this log took for down, however shortly.
fn taken_for_down(log: &str) -> BTreeSet<u64> {
    let lines = log.lines().filter(|line| line.contains("a relay is taken for down"));
    let relay = |line: &str| {
        let digits = line.split("relay=").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    lines.filter_map(relay).collect()
}

/// Calls whose relay had no fault, and that are at another one now, or were while their own was taken for down.
pub(crate) fn moved(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    log: &str,
    hurt: &[u64],
) -> Vec<String> {
    let down = taken_for_down(log);
    let of = |(call, relay): (&String, &u64)| {
        let moved = after.get(call) != Some(relay) || down.contains(relay);
        (!hurt.contains(relay) && moved).then(|| format!("{call} of relay {relay}"))
    };
    before.iter().filter_map(of).collect()
}

/// Another load balancer on the same public port, of the same config. It ends with this.
pub(crate) struct Another(Child);

impl Another {
    /// Where its pid stands once it serves.
    pub(crate) fn pid_file(dev: &Dev) -> PathBuf {
        dev.folder.path().join("lb-2.pid")
    }

    /// Starts it; it serves then.
    pub(crate) fn start(dev: &Dev) -> Result<Self, Box<dyn Error>> {
        let config = dev.folder.path().join("data/lb.toml");
        let mut command = Command::new(tandem()?);
        command.arg("lb").arg("--config").arg(config).args(["--set", "admin=127.0.0.1:0"]);
        command.args(["--die-with-parent", &std::process::id().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let log = std::fs::File::create(dev.folder.path().join("lb-2.log"))?;
        let mut another = Self(command.stderr(log).spawn()?);
        let mut line = String::new();
        BufReader::new(another.0.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
        if !line.starts_with("ready ") {
            return Err("the other load balancer does not serve".into());
        }
        std::fs::write(Self::pid_file(dev), another.0.id().to_string())?;
        Ok(another)
    }
}

impl Drop for Another {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
