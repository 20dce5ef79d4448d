//! The faults: what is done to which process when, and how long anyone on a call may notice it (docs/protocol.md, "Budgets").

use std::error::Error;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::Dev;

/// What is done.
pub(crate) enum What {
    /// SIGKILL through the panel; it stays away.
    Kill(&'static [&'static str]),
    /// SIGKILL; it is started again at once.
    Replace(&'static str),
    /// SIGTERM: it is told to end, and started again.
    Drain(&'static str),
    /// SIGSTOP for so many seconds.
    Stop(&'static [&'static str], u64),
    /// SIGKILL of whichever node of etcd leads.
    KillLeader,
}

/// One fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) what: What,
    /// How long packets may be missing.
    pub(crate) budget_ms: f64,
    pub(crate) lasts: &'static str,
    /// The relays that have it.
    pub(crate) relays: &'static [u64],
}

/// Jitter of a busy machine is no gap: where nothing is to be noticed, two intervals and a half are allowed.
const NOTHING: f64 = 50.0;

pub(crate) const FAULTS: &[Fault] = &[
    Fault { name: "none", what: What::Kill(&[]), budget_ms: NOTHING, lasts: "8s", relays: &[] },
    Fault { name: "a relay killed", what: What::Kill(&["relay-1"]), budget_ms: 50.0, lasts: "9s", relays: &[1] },
    Fault {
        name: "two of four relays killed, one after the other",
        what: What::Kill(&["relay-1", "relay-2"]),
        budget_ms: 50.0,
        lasts: "10s",
        relays: &[1, 2],
    },
    Fault {
        name: "three of four relays killed, one after the other",
        what: What::Kill(&["relay-1", "relay-2", "relay-3"]),
        budget_ms: 150.0,
        lasts: "11s",
        relays: &[1, 2, 3],
    },
    Fault {
        name: "a relay stopped for 3 s",
        what: What::Stop(&["relay-1"], 3),
        budget_ms: 150.0,
        lasts: "12s",
        relays: &[1],
    },
    Fault { name: "a relay drained", what: What::Drain("relay-1"), budget_ms: NOTHING, lasts: "10s", relays: &[1] },
    Fault {
        name: "the load balancer killed",
        what: What::Replace("lb"),
        budget_ms: 1_000.0,
        lasts: "10s",
        relays: &[],
    },
    Fault {
        name: "a state server killed",
        what: What::Kill(&["state-server-1"]),
        budget_ms: NOTHING,
        lasts: "9s",
        relays: &[],
    },
    Fault { name: "etcd's leader killed", what: What::KillLeader, budget_ms: NOTHING, lasts: "10s", relays: &[] },
    Fault {
        name: "all of etcd stopped for 60 s",
        what: What::Stop(&["etcd-1", "etcd-2", "etcd-3"], 60),
        budget_ms: NOTHING,
        lasts: "70s",
        relays: &[],
    },
    Fault {
        name: "a signaling node and a router killed",
        what: What::Kill(&["signaling-1", "router-1"]),
        budget_ms: NOTHING,
        lasts: "9s",
        relays: &[],
    },
];

/// From when all calls stand to the first fault, and between two.
const FIRST_SECONDS: u64 = 3;
const BETWEEN_SECONDS: u64 = 2;

impl Fault {
    /// As the load test takes it.
    pub(crate) fn timeline(&self, dev: &Dev) -> Result<Value, Box<dyn Error>> {
        let at = |seconds: u64| format!("{seconds}s");
        let kill = |name: &str, restart_after_ms: u64, seconds: u64| {
            let body = json!({ "restart_after_ms": restart_after_ms });
            let path = format!("/v1/dev/processes/{name}/kill");
            json!({ "at": at(seconds), "name": format!("kill {name}"), "post": path, "body": body })
        };
        let signal = |name: &str, what: &str, seconds: u64| json!({ "at": at(seconds), "do": what, "target": name });
        let faults: Vec<Value> = match self.what {
            What::Kill(names) => {
                let times = (0..).map(|nth| FIRST_SECONDS + nth * BETWEEN_SECONDS);
                names.iter().zip(times).map(|(name, seconds)| kill(name, 600_000, seconds)).collect()
            }
            What::Replace(name) => vec![kill(name, 0, FIRST_SECONDS)],
            What::Drain(name) => vec![signal(name, "term", FIRST_SECONDS)],
            What::Stop(names, seconds) => {
                let stop = names.iter().map(|name| signal(name, "stop", FIRST_SECONDS));
                stop.chain(names.iter().map(|name| signal(name, "cont", FIRST_SECONDS + seconds))).collect()
            }
            What::KillLeader => vec![kill(&leader(dev)?, 600_000, FIRST_SECONDS)],
        };
        Ok(json!({ "fault": faults }))
    }
}

/// The name of the node of etcd that leads now.
fn leader(dev: &Dev) -> Result<String, Box<dyn Error>> {
    for nth in 1..=3 {
        let name = format!("etcd-{nth}");
        let Some(pid) = dev.pid(&name) else { continue };
        let words = std::fs::read(format!("/proc/{pid}/cmdline"))?;
        let words: Vec<String> =
            words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let mut after = words.iter().skip_while(|word| *word != "--listen-client-urls").skip(1);
        let url = after.next().ok_or("etcd's command line has no address")?;
        let asked = ["--endpoints", url, "endpoint", "status", "-w", "json"];
        let said = Command::new("etcdctl").env("ETCDCTL_API", "3").args(asked).output()?;
        let said: Value = serde_json::from_slice(&said.stdout)?;
        let [me, leads] = ["/0/Status/header/member_id", "/0/Status/leader"].map(|path| said.pointer(path).cloned());
        if me.is_some() && me == leads {
            return Ok(name);
        }
    }
    Err("no node of etcd leads".into())
}
