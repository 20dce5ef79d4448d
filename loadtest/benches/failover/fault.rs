//! The faults: what is done to which process when, and how long anyone on a call may notice it (docs/protocol.md, "Budgets").
//!
//! Decides their list and their times. Leaves doing them to the load test, and cutting a link to [`crate::link`].

use std::error::Error;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::Dev;

/// What is done.
pub(crate) enum What {
    /// SIGKILL through the panel, one after the other; they stay away.
    Kill(&'static [&'static str]),
    /// SIGKILL; it is started again at once.
    Restart(&'static str),
    /// The load balancer as an operator replaces it: another one is started beside it, then it is told to end.
    Replace,
    /// SIGTERM: it is told to end, and started again.
    Drain(&'static str),
    /// SIGSTOP for so many seconds.
    Stop(&'static [&'static str], u64),
    /// Nothing reaches it or comes from it for so many seconds, and nobody is told so.
    Cut(&'static str, u64),
    /// SIGKILL of whichever node of etcd leads.
    KillLeader,
    /// Calls are accepted while no router can tell their callers; when all that is written, these are killed and started again.
    KillBeforePush(&'static [&'static str]),
}

/// One fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) what: What,
    /// How many relays there are.
    pub(crate) of: u8,
    /// How long packets may be missing.
    pub(crate) budget_ms: f64,
    /// Whether packets may be lost.
    pub(crate) loses: bool,
    /// For how many seconds the calls are watched: the load test takes one that is silent for the last two for lost.
    pub(crate) seconds: u64,
    /// The relays that have it.
    pub(crate) relays: &'static [u64],
}

/// Nobody has anything.
const NONE: Fault =
    Fault { name: "none", what: What::Kill(&[]), of: 4, budget_ms: NOTHING, loses: false, seconds: 5, relays: &[] };
/// Jitter of a busy machine is no gap: where nothing is to be noticed, two intervals and a half are allowed.
const NOTHING: f64 = 50.0;

const ROUTERS: [&str; 2] = ["router-1", "router-2"];

pub(crate) const FAULTS: &[Fault] = &[
    NONE,
    Fault { name: "a relay of four killed", what: What::Kill(&["relay-1"]), loses: true, relays: &[1], ..NONE },
    Fault { name: "a relay of three killed", what: What::Kill(&["relay-1"]), of: 3, loses: true, relays: &[1], ..NONE },
    Fault {
        name: "two relays of four killed, one after the other",
        what: What::Kill(&["relay-1", "relay-2"]),
        loses: true,
        seconds: 7,
        relays: &[1, 2],
        ..NONE
    },
    Fault {
        name: "three relays of four killed, one after the other",
        what: What::Kill(&["relay-1", "relay-2", "relay-3"]),
        budget_ms: 150.0,
        loses: true,
        seconds: 9,
        relays: &[1, 2, 3],
        ..NONE
    },
    Fault {
        name: "a relay stopped for 3 s",
        what: What::Stop(&["relay-1"], 3),
        budget_ms: 150.0,
        loses: true,
        seconds: 8,
        relays: &[1],
        ..NONE
    },
    Fault {
        name: "a relay's link down for 3 s",
        what: What::Cut("relay-1", 3),
        budget_ms: 150.0,
        loses: true,
        seconds: 9,
        relays: &[1],
        ..NONE
    },
    Fault { name: "a relay drained", what: What::Drain("relay-1"), seconds: 7, relays: &[1], ..NONE },
    Fault {
        name: "the load balancer killed",
        what: What::Restart("lb"),
        budget_ms: 1_000.0,
        loses: true,
        seconds: 6,
        ..NONE
    },
    Fault { name: "the load balancer replaced", what: What::Replace, seconds: 7, ..NONE },
    Fault { name: "a state server killed", what: What::Kill(&["state-server-1"]), ..NONE },
    Fault { name: "etcd's leader killed", what: What::KillLeader, seconds: 7, ..NONE },
    Fault {
        name: "all of etcd stopped for 60 s",
        what: What::Stop(&["etcd-1", "etcd-2", "etcd-3"], 60),
        seconds: 65,
        ..NONE
    },
    Fault {
        name: "signaling killed between accept and push",
        what: What::KillBeforePush(&["signaling-1", "signaling-2"]),
        seconds: 8,
        ..NONE
    },
    Fault {
        name: "the routers killed between accept and push",
        what: What::KillBeforePush(&ROUTERS),
        seconds: 8,
        ..NONE
    },
];

/// From when all calls stand to the first fault, and between two. Calls that are held ring by then.
const FIRST_MS: u64 = 2_000;
const BETWEEN_MS: u64 = 2_000;
/// When the load balancer that is replaced is told to end: the other one serves by then.
const END_MS: u64 = 3_000;
/// From the routers' stop to the accept, to the kill, and on to when the routers go on. The load test says so if the accept
/// has not been answered, and written, by the time of the kill.
const ACCEPT_AFTER_MS: u64 = 100;
const KILL_AFTER_MS: u64 = 1_100;
const CONT_AFTER_MS: u64 = 1_150;
/// That long is nobody started again who is to stay away.
const AWAY_MS: u64 = 600_000;

/// What a fault needs beside the processes.
pub(crate) struct Tools<'a> {
    /// Files of nft that cut a link and mend it.
    pub(crate) cut: Option<&'a [String; 2]>,
}

impl Fault {
    /// How many calls are held, of so many.
    pub(crate) fn held(&self, held: usize) -> usize {
        if let What::KillBeforePush(_) = self.what { held } else { 0 }
    }

    /// As the load test takes it.
    pub(crate) fn timeline(&self, dev: &Dev, tools: &Tools<'_>) -> Result<Value, Box<dyn Error>> {
        let at = |ms: u64| format!("{ms}ms");
        let kill = |name: &str, restart_after_ms: u64, ms: u64| {
            let body = json!({ "restart_after_ms": restart_after_ms });
            let path = format!("/v1/dev/processes/{name}/kill");
            json!({ "at": at(ms), "name": format!("kill {name}"), "post": path, "body": body })
        };
        let signal = |name: &str, what: &str, ms: u64| json!({ "at": at(ms), "do": what, "target": name });
        let signals = |names: &'static [&'static str], what: &'static str, ms: u64| {
            names.iter().map(move |name| signal(name, what, ms))
        };
        let faults: Vec<Value> = match self.what {
            What::Kill(names) => {
                let times = (0..).map(|nth| FIRST_MS + nth * BETWEEN_MS);
                names.iter().zip(times).map(|(name, ms)| kill(name, AWAY_MS, ms)).collect()
            }
            What::Restart(name) => vec![kill(name, 0, FIRST_MS)],
            What::Replace => vec![signal("lb", "term", END_MS)],
            What::Drain(name) => vec![signal(name, "term", FIRST_MS)],
            What::Stop(names, seconds) => {
                signals(names, "stop", FIRST_MS).chain(signals(names, "cont", FIRST_MS + seconds * 1_000)).collect()
            }
            What::Cut(_, seconds) => {
                let [down, up] = tools.cut.ok_or("no link can be cut here")?;
                let nft = |name: &str, file: &str, ms: u64| json!({ "at": at(ms), "name": name, "exec": ["nft", "-f", file] });
                vec![nft("link down", down, FIRST_MS), nft("link up", up, FIRST_MS + seconds * 1_000)]
            }
            What::KillLeader => vec![kill(&leader(dev)?, AWAY_MS, FIRST_MS)],
            What::KillBeforePush(names) => {
                let accept = json!({ "at": at(FIRST_MS + ACCEPT_AFTER_MS), "do": "accept" });
                let kills = names.iter().map(|name| kill(name, 0, FIRST_MS + KILL_AFTER_MS));
                // Those that were killed are others by then, which nobody has stopped.
                let again = if names == ROUTERS { &[][..] } else { &ROUTERS };
                let stop = signals(&ROUTERS, "stop", FIRST_MS).chain([accept]).chain(kills);
                stop.chain(signals(again, "cont", FIRST_MS + CONT_AFTER_MS)).collect()
            }
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
