//! Keeps one child process alive: starts it, hears when it is ready, starts it again when it ends.
//!
//! Decides when a restart waits. Kills, pauses and resumes when told to. Nothing here polls: a child's death, its ready
//! line and an order are all events.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines, Take};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::table::{Kind, Name, Process, State, now_ms};
use crate::limits;

/// All children as they are; written by their keepers, followed by everyone else.
pub(crate) type Table = watch::Sender<Vec<Process>>;

/// How to start a child.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) name: Name,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<std::ffi::OsString>,
    /// What a wipe deletes.
    pub(crate) store: Option<PathBuf>,
    /// A program that is not ours says nothing when it serves: it does when it takes a connection here.
    pub(crate) serves_at: Option<SocketAddr>,
}

/// How a killed child comes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Return {
    /// Not before this long after the kill.
    pub(crate) after: Duration,
    /// With its store deleted.
    pub(crate) wipe: bool,
    /// Not before a state server is ready in a later start than this one.
    pub(crate) behind_start: Option<u32>,
}

/// What a keeper can be told.
#[derive(Debug)]
pub(crate) enum Order {
    /// SIGKILL. The answer is the pid that was killed, if one was there.
    Kill(Return, oneshot::Sender<Option<u32>>),
    /// SIGSTOP. The answer is whether there was something to stop.
    Pause(oneshot::Sender<bool>),
    /// SIGCONT.
    Resume(oneshot::Sender<bool>),
    /// SIGTERM, and no restart.
    Stop,
}

pub(crate) struct Keeper {
    pub(crate) recipe: Recipe,
    pub(crate) table: Arc<Table>,
    pub(crate) orders: mpsc::Receiver<Order>,
}

/// Why a child does not run any more.
enum Ended {
    /// By itself, or by somebody else's signal.
    Died,
    /// By our order.
    Killed(Return),
    /// For good.
    Stopped,
}

struct Live {
    child: Child,
    /// Of one of ours.
    lines: Option<Lines<BufReader<Take<ChildStdout>>>>,
}

impl Keeper {
    /// Runs until it is told to stop, or until the child ends before it ever served.
    pub(crate) async fn run(mut self) {
        let mut quick_deaths = 0;
        loop {
            let began = Instant::now();
            let ended = match self.start() {
                Ok(live) => self.live(live).await,
                Err(error) => {
                    tracing::error!(name = %self.name(), %error, "cannot be started");
                    Ended::Died
                }
            };
            let back = match ended {
                Ended::Stopped => return,
                Ended::Killed(back) => {
                    quick_deaths = 0;
                    back
                }
                Ended::Died if self.never_served() => {
                    self.update(|process| process.failed = true);
                    return;
                }
                Ended::Died => {
                    quick_deaths = if began.elapsed() < limits::QUICK_DEATH { quick_deaths + 1 } else { 0 };
                    Return { after: restart_wait(quick_deaths), ..Return::default() }
                }
            };
            if !self.rest(back).await {
                return;
            }
        }
    }

    fn name(&self) -> Name {
        self.recipe.name
    }

    fn update(&self, change: impl FnOnce(&mut Process)) {
        let name = self.name();
        self.table.send_modify(|table| {
            if let Some(process) = table.iter_mut().find(|process| process.name == name) {
                change(process);
            }
        });
    }

    /// Whether no start of it ever came so far as to serve.
    fn never_served(&self) -> bool {
        let name = self.name();
        self.table.borrow().iter().any(|process| process.name == name && process.serves.is_none())
    }

    fn start(&self) -> std::io::Result<Live> {
        let mut command = Command::new(&self.recipe.program);
        if self.recipe.serves_at.is_none() {
            command.arg0("tandem");
        }
        command.args(&self.recipe.arguments);
        // A variable that is meant for a production role does not change what we wrote into its config.
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"TANDEM_") {
                command.env_remove(variable);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        if self.recipe.serves_at.is_some() {
            // What others log is not ours to show.
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        // Ctrl-C is for us; we end our children in our own order.
        command.process_group(0);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        let pid = child.id();
        self.update(|process| process.started(pid, now_ms()));
        let lines = stdout.map(|stdout| BufReader::new(stdout.take(limits::READY_LINE_BYTES)).lines());
        Ok(Live { child, lines })
    }

    /// From its start to its end.
    async fn live(&mut self, mut live: Live) -> Ended {
        let mut back = None;
        let mut listening = self.recipe.serves_at.is_none();
        let mut knocking = std::pin::pin!(knock(self.recipe.serves_at));
        let mut open = false;
        loop {
            tokio::select! {
                () = &mut knocking, if !open => {
                    open = true;
                    let serves = serde_json::json!({ "client": self.recipe.serves_at });
                    self.update(|process| process.ready(now_ms(), serves));
                }
                status = live.child.wait() => {
                    self.update(|process| {
                        process.down(now_ms());
                        process.pid = None;
                    });
                    if let Some(back) = back {
                        return Ended::Killed(back);
                    }
                    let how = status.map_or_else(|error| error.to_string(), describe);
                    tracing::warn!(name = %self.name(), how, "ended");
                    return Ended::Died;
                }
                line = next_line(&mut live.lines), if listening => match line {
                    Ok(Some(line)) => self.hear(&line),
                    // Closed, or it said more than anyone wants to hear. What it does still counts.
                    Ok(None) | Err(_) => listening = false,
                },
                order = self.orders.recv() => match order {
                    Some(Order::Kill(how, answer)) => {
                        let pid = live.child.id();
                        self.update(|process| process.down(now_ms()));
                        // It may have died a moment ago; then the end is already on its way.
                        let _ = live.child.start_kill();
                        back = Some(how);
                        let _ = answer.send(pid);
                    }
                    Some(Order::Pause(answer)) => {
                        let done = signal(&live.child, Signal::STOP);
                        if done {
                            self.update(|process| if process.state != State::Paused { process.paused(now_ms()) });
                        }
                        let _ = answer.send(done);
                    }
                    Some(Order::Resume(answer)) => {
                        let done = signal(&live.child, Signal::CONT);
                        if done {
                            self.update(|process| if process.state == State::Paused { process.resumed(now_ms()) });
                        }
                        let _ = answer.send(done);
                    }
                    Some(Order::Stop) | None => {
                        self.end(live.child).await;
                        return Ended::Stopped;
                    }
                },
            }
        }
    }

    fn hear(&self, line: &str) {
        let Some(json) = line.strip_prefix("ready ") else { return };
        match serde_json::from_str(json) {
            Ok(serves) => self.update(|process| process.ready(now_ms(), serves)),
            Err(error) => {
                tracing::error!(name = %self.name(), %error, "said something else than that it is ready")
            }
        }
    }

    /// Ends it politely, and then not.
    async fn end(&self, mut child: Child) {
        // A stopped process hears SIGTERM only when it goes on.
        signal(&child, Signal::TERM);
        signal(&child, Signal::CONT);
        if tokio::time::timeout(limits::STOP_PATIENCE, child.wait()).await.is_err() {
            tracing::warn!(name = %self.name(), "does not end; killing it");
            let _ = child.kill().await;
        }
        self.update(|process| {
            process.down(now_ms());
            process.pid = None;
        });
    }

    /// Waits until it may start again; `false` if it never may.
    async fn rest(&mut self, back: Return) -> bool {
        let mut back = back;
        loop {
            let mut table = self.table.subscribe();
            let start = back.behind_start;
            let due = async {
                tokio::time::sleep(back.after).await;
                if let Some(start) = start {
                    let ready = |process: &Process| {
                        process.name.kind == Kind::StateServer
                            && process.state == State::Ready
                            && process.starts > start
                    };
                    // Its sender is ours.
                    let _ = table.wait_for(|table| table.iter().any(ready)).await;
                }
            };
            tokio::select! {
                () = due => break,
                order = self.orders.recv() => match order {
                    Some(Order::Kill(how, answer)) => {
                        // A store that was to be deleted still is.
                        back = Return { wipe: back.wipe || how.wipe, ..how };
                        let _ = answer.send(None);
                    }
                    Some(Order::Pause(answer) | Order::Resume(answer)) => _ = answer.send(false),
                    Some(Order::Stop) | None => return false,
                },
            }
        }
        if back.wipe
            && let Some(store) = &self.recipe.store
        {
            match std::fs::remove_file(store) {
                Ok(()) => tracing::warn!("the store was deleted, as ordered"),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::error!(%error, "the store could not be deleted"),
            }
        }
        true
    }
}

async fn next_line(lines: &mut Option<Lines<BufReader<Take<ChildStdout>>>>) -> std::io::Result<Option<String>> {
    match lines {
        Some(lines) => lines.next_line().await,
        None => Ok(None),
    }
}

/// How long the next start waits after so many quick deaths in a row.
fn restart_wait(quick_deaths: u32) -> Duration {
    match quick_deaths.checked_sub(limits::QUICK_DEATHS) {
        None => Duration::ZERO,
        Some(more) => limits::RESTART_WAIT.saturating_mul(1 << more.min(16)).min(limits::RESTART_WAIT_MAX),
    }
}

/// Waits until somebody takes connections at `address`; for ever if there is none. A program of others has no event for it.
async fn knock(address: Option<SocketAddr>) {
    let Some(address) = address else { return std::future::pending().await };
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(limits::KNOCK_EVERY).await;
    }
}

fn signal(child: &Child, signal: Signal) -> bool {
    // Until it was waited for, its pid is nobody else's.
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_at_once_until_the_third_quick_death_in_a_row() {
        let waits: Vec<_> = [0, 1, 2, 3, 4, 7, 8, 100].map(|n| restart_wait(n).as_millis()).into();
        assert_eq!(waits, [0, 0, 0, 250, 500, 4_000, 5_000, 5_000]);
    }
}
