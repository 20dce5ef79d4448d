//! Doing what the timeline says, when it says so.
//!
//! Decides nothing about when. A fault that could not be done is said: a test whose fault failed has shown nothing.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tandem_wire::units::{Mono, Span};
use tokio::process::Command;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::now;
use crate::hold::Hold;
use crate::limits;
use crate::panel::Panel;
use crate::timeline::{Act, Fault, Kind};
use crate::watch::Registry;

/// A fault that was done, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What it is called.
    pub name: String,
    /// When it was begun.
    pub at: Mono,
    /// How long doing it took.
    pub took: Span,
    /// Why it could not be done.
    pub failed: Option<String>,
}

/// Who does them.
#[derive(Clone)]
pub struct Doer {
    /// Which process has which pid.
    pub registry: Arc<Registry>,
    /// For those that are asked of `tandem dev`.
    pub panel: Option<Panel>,
    /// The calls that are held.
    pub hold: Arc<Hold>,
}

impl Doer {
    /// Does all of them, each at its time after now, also if the one before takes longer. In order of time.
    pub async fn run(self, faults: Vec<Fault>) -> Vec<Done> {
        let start = Instant::now();
        let one = |fault: Fault| {
            let doer = self.clone();
            tokio::spawn(async move {
                sleep_until(start + Duration::from_nanos(fault.at.as_nanos())).await;
                let at = now();
                let failed = doer.act(&fault.act).await.err();
                Done { name: fault.name, at, took: now().since(at), failed }
            })
        };
        let under_way: Vec<_> = faults.into_iter().map(one).collect();
        let mut all = Vec::new();
        for fault in under_way {
            if let Ok(done) = fault.await {
                all.push(done);
            }
        }
        all.sort_by_key(|done| done.at);
        all
    }

    async fn act(&self, act: &Act) -> Result<(), String> {
        match act {
            Act::Signal(kind, target) => {
                let pid = self.registry.pid(target).ok_or_else(|| format!("{target} does not run"))?;
                signal(*kind, pid)
            }
            Act::Accept => self.hold.accept().await,
            Act::Exec(words) => exec(words).await,
            Act::Post { path, body } => {
                let panel = self.panel.as_ref().ok_or("there is no fault panel: name it with --dev")?;
                panel.post(path, body).await.map(drop)
            }
        }
    }
}

fn signal(kind: Kind, pid: u32) -> Result<(), String> {
    // Neither init nor ourselves: a slip in a file must not end the measurement, or the machine.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1 && u32::try_from(*pid) != Ok(std::process::id()));
    let pid = pid.and_then(Pid::from_raw).ok_or("this process is not signalled")?;
    let signal = match kind {
        Kind::Kill => Signal::KILL,
        Kind::Stop => Signal::STOP,
        Kind::Cont => Signal::CONT,
        Kind::Term => Signal::TERM,
    };
    kill_process(pid, signal).map_err(|error| error.to_string())
}

async fn exec(words: &[String]) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let status = timeout(limits::EXEC_WITHIN, command.status()).await;
    match status.map_err(|_| "it does not end".to_owned())?.map_err(|error| error.to_string())? {
        status if status.success() => Ok(()),
        status => Err(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(at_ms: u64, name: &str, act: Act) -> Fault {
        Fault { at: Span::from_millis(at_ms), name: name.to_owned(), act }
    }

    #[tokio::test]
    async fn faults_are_done_at_their_time_and_what_could_not_be_done_is_said() {
        let exec = |words: &[&str]| Act::Exec(words.iter().map(|word| (*word).to_owned()).collect());
        let doer = Doer { registry: Arc::new(Registry::new([])), panel: None, hold: Arc::new(Hold::new(0)) };
        let begin = now();
        let done = doer
            .run(vec![
                fault(0, "good", exec(&["true"])),
                fault(30, "bad", exec(&["false"])),
                fault(40, "none", exec(&["no-such-program"])),
                fault(50, "nobody", Act::Signal(Kind::Kill, "relay-9".to_owned())),
                fault(60, "ourselves", Act::Signal(Kind::Kill, std::process::id().to_string())),
                fault(70, "panel", Act::Post { path: "/x".to_owned(), body: serde_json::json!({}) }),
                fault(80, "accept", Act::Accept),
            ])
            .await;
        let failed: Vec<&str> =
            done.iter().filter(|done| done.failed.is_some()).map(|done| done.name.as_str()).collect();
        assert_eq!(failed, ["bad", "none", "nobody", "ourselves", "panel", "accept"]);
        assert!(done[1].at.since(begin) >= Span::from_millis(30));
    }

    #[tokio::test]
    async fn a_signal_reaches_the_process_of_this_name() {
        let mut child = Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
        let named = [("it".to_owned(), crate::watch::Who::Pid(child.id().unwrap()))];
        let doer = Doer { registry: Arc::new(Registry::new(named)), panel: None, hold: Arc::new(Hold::new(0)) };
        let done = doer.run(vec![fault(0, "kill", Act::Signal(Kind::Kill, "it".to_owned()))]).await;
        assert_eq!(done[0].failed, None);
        assert!(!child.wait().await.unwrap().success());
    }
}
