//! Other processes, as the kernel accounts for them: how much CPU they took, and how long their threads waited for a core.
//!
//! Decides how often is looked. The kernel tells of each thread how long it has waited in all (`schedstat`): what that grew by
//! within one look is the longest that the thread can have stood still in it for want of a core.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde::Serialize;
use tandem_wire::units::{Mono, Span};

use crate::clock::{Ms, now};
use crate::limits;

/// What this process is called among those that are watched.
pub const SELF: &str = "loadtest";

/// How a process is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// By its pid.
    Pid(u32),
    /// By a file that holds its pid, and another one when it was started again.
    File(PathBuf),
    /// By its name at the fault panel.
    Panel,
}

/// The processes that are watched, and which pid each has now.
#[derive(Debug, Default)]
pub struct Registry(Mutex<Vec<(String, Who, Option<u32>)>>);

impl Registry {
    /// With these.
    #[must_use]
    pub fn new(named: impl IntoIterator<Item = (String, Who)>) -> Self {
        let own = (SELF.to_owned(), Who::Pid(std::process::id()));
        let rows = std::iter::once(own).chain(named).take(limits::WATCHED);
        let rows = rows.map(|(name, who)| {
            let pid = if let Who::Pid(pid) = who { Some(pid) } else { None };
            (name, who, pid)
        });
        Self(Mutex::new(rows.collect()))
    }

    /// Takes in what the fault panel says; a process that it does not name does not run.
    pub fn told(&self, processes: &[(String, u32)]) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, who, pid) in rows.iter_mut() {
            if *who == Who::Panel {
                *pid = processes.iter().find(|(other, _)| other == name).map(|(_, pid)| *pid);
            }
        }
        for (name, pid) in processes {
            if rows.len() < limits::WATCHED && !rows.iter().any(|(other, ..)| other == name) {
                rows.push((name.clone(), Who::Panel, Some(*pid)));
            }
        }
    }

    /// The pid of this name now; a number is its own.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        if let Ok(pid) = name.parse() {
            return Some(pid);
        }
        self.pids().into_iter().find(|(other, _)| other == name)?.1
    }

    fn pids(&self) -> Vec<(String, Option<u32>)> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = |(name, who, pid)| {
            let pid = match who {
                Who::File(path) => fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()),
                Who::Pid(_) | Who::Panel => pid,
            };
            (name, pid)
        };
        rows.into_iter().map(now).collect()
    }
}

/// What was seen of one process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Watched {
    /// What it is called.
    pub name: String,
    /// CPU that it took while the calls stood.
    pub cpu_seconds: f64,
    /// The same, in percent of one core.
    pub cpu_percent: f64,
    /// The longest that one of its threads waited for a core within one look.
    pub wait_ms_max: Ms,
    /// When.
    pub wait_at_ms: Option<Ms>,
    /// How often another process took its place.
    pub replaced: u32,
    #[serde(skip)]
    waits: Vec<(Mono, Span)>,
}

impl Watched {
    /// The longest wait of a look that saw some of the time between these two.
    #[must_use]
    pub fn beside(&self, from: Mono, to: Mono) -> Span {
        let look = Span::from_nanos(u64::try_from(limits::LOOK_EVERY.as_nanos()).unwrap_or(u64::MAX));
        let seen = self.waits.iter().filter(|(at, _)| *at >= from && *at <= to.after(look));
        seen.map(|(_, wait)| *wait).max().unwrap_or(Span::ZERO)
    }
}

#[derive(Default)]
struct Seen {
    pid: Option<u32>,
    /// CPU of the process as it was at the last look, in ticks.
    ticks: Option<u64>,
    used: u64,
    replaced: u32,
    waited: HashMap<u32, u64>,
    waits: Vec<(Mono, Span)>,
    longest: Option<(Mono, Span)>,
}

impl Seen {
    fn look(&mut self, pid: Option<u32>, now: Mono) {
        let Some(pid) = pid else { return };
        if self.pid != Some(pid) {
            // What another one has used until it was first seen is its own start.
            self.replaced += u32::from(self.pid.is_some());
            let first = if self.pid.is_some() { Some(0) } else { None };
            *self = Self { pid: Some(pid), ticks: first, waited: HashMap::new(), ..std::mem::take(self) };
        }
        if let Some(ticks) = ticks(pid) {
            self.used += ticks.saturating_sub(self.ticks.unwrap_or(ticks));
            self.ticks = Some(ticks);
        }
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
        let mut most = 0;
        for task in tasks.flatten() {
            let Some(id) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let stat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let Some(waited) = stat.split_whitespace().nth(1).and_then(|word| word.parse().ok()) else { continue };
            let before = self.waited.insert(id, waited);
            most = most.max(waited.saturating_sub(before.unwrap_or(waited)));
        }
        let wait = Span::from_nanos(most);
        if self.longest.is_none_or(|(_, longest)| wait > longest) {
            self.longest = Some((now, wait));
        }
        if wait > limits::WAIT_NOTED && self.waits.len() < limits::WAITS {
            self.waits.push((now, wait));
        }
    }
}

/// User and system time of a process, in ticks of the kernel's clock (proc_pid_stat(5): fields 14 and 15).
fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, spaces and brackets too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(field(14)? + field(15)?)
}

/// Time that all cores of this machine have spent, in ticks: whoever else uses it is in there too.
#[derive(Debug, Clone, Copy)]
pub struct Busy {
    busy: u64,
    all: u64,
}

impl Busy {
    /// Until now.
    #[must_use]
    pub fn now() -> Self {
        Self::read(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// proc_stat(5), its first line: user, nice, system, idle, iowait, irq, softirq, steal. A guest's time is in user already.
    fn read(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        let all = ticks.iter().sum();
        Self { busy: all - ticks.iter().skip(3).take(2).sum::<u64>(), all }
    }

    /// How much of the time since then they were busy, in percent.
    #[must_use]
    pub fn percent_since(self) -> f64 {
        self.percent_until(Self::now())
    }

    fn percent_until(self, now: Self) -> f64 {
        let all = now.all.saturating_sub(self.all).max(1);
        (now.busy.saturating_sub(self.busy) as f64 / all as f64 * 1_000.0).round() / 10.0
    }
}

fn look(registry: &Registry, all: &mut Vec<(String, Seen)>) {
    for (name, pid) in registry.pids() {
        let index = all.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
            all.push((name, Seen::default()));
            all.len() - 1
        });
        if let Some((_, seen)) = all.get_mut(index) {
            seen.look(pid, now());
        }
    }
}

/// A thread that looks at all processes.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(String, Seen)>>>,
    start: Mono,
}

impl Watch {
    /// Begins to look.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(registry: Arc<Registry>) -> std::io::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        // What was used before does not count, so the first look is before anything else happens.
        let mut all = Vec::new();
        look(&registry, &mut all);
        let looking = move || {
            loop {
                thread::park_timeout(limits::LOOK_EVERY);
                // The last look is after the end.
                let last = stopped.load(Ordering::Acquire);
                look(&registry, &mut all);
                if last {
                    return all;
                }
            }
        };
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(looking)?;
        Ok(Self { stop, thread: Some(thread), start: now() })
    }

    /// Looks once more, and says what was seen.
    #[must_use]
    pub fn stop(mut self) -> Vec<Watched> {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return Vec::new() };
        thread.thread().unpark();
        let all = thread.join().unwrap_or_default();
        let took = now().since(self.start).to_std().as_secs_f64();
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let watched = |(name, seen): (String, Seen)| {
            let cpu_seconds = seen.used as f64 / per_second;
            Watched {
                name,
                cpu_seconds,
                cpu_percent: (cpu_seconds / took.max(0.001) * 1_000.0).round() / 10.0,
                wait_ms_max: seen.longest.map_or(Ms(0.0), |(_, wait)| wait.into()),
                wait_at_ms: seen.longest.map(|(at, _)| Ms::between(self.start, at)),
                replaced: seen.replaced,
                waits: seen.waits,
            }
        };
        all.into_iter().map(watched).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_uses_is_seen() {
        let watch = Watch::start(Arc::new(Registry::new([]))).unwrap();
        let before = ticks(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while ticks(std::process::id()).unwrap() < before + 3 {
            sum = (0..100_000_u64).fold(sum, |sum, n| sum.wrapping_mul(31) ^ n);
        }
        let watched = watch.stop();
        assert_eq!((watched.len(), watched[0].name.as_str()), (1, SELF));
        assert!(watched[0].cpu_seconds >= 0.02, "{watched:?} {sum}");
    }

    #[test]
    fn a_machine_is_busy_when_its_cores_neither_idle_nor_wait_for_a_disk() {
        let before = Busy::read("cpu  100 0 50 1000 10 0 5 5 77 0\ncpu0 1 2 3\n");
        let after = Busy::read("cpu  140 10 70 1050 60 0 15 15 99 0\n");
        assert_eq!(before.percent_until(after), 47.4);
        assert_eq!(before.percent_until(before), 0.0);
    }

    #[test]
    fn names_follow_the_panel_and_files_and_numbers_are_pids() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let named = [("lb".to_owned(), Who::Pid(5)), ("relay-1".to_owned(), Who::File(file.clone()))];
        let registry = Registry::new(named);
        assert_eq!([registry.pid("lb"), registry.pid("relay-1"), registry.pid("77")], [Some(5), None, Some(77)]);
        fs::write(&file, "6\n").unwrap();
        assert_eq!(registry.pid("relay-1"), Some(6));
        registry.told(&[("router".to_owned(), 8), ("lb".to_owned(), 9)]);
        assert_eq!([registry.pid("router"), registry.pid("lb")], [Some(8), Some(5)]);
        registry.told(&[("router".to_owned(), 10)]);
        assert_eq!(registry.pid("router"), Some(10));
        registry.told(&[]);
        assert_eq!(registry.pid("router"), None);
    }

    #[test]
    fn a_process_that_was_replaced_counts_from_its_start() {
        let mut seen = Seen::default();
        let own = std::process::id();
        seen.look(Some(own), now());
        assert_eq!(seen.used, 0);
        seen.pid = Some(1);
        seen.ticks = Some(u64::MAX);
        seen.look(Some(own), now());
        assert_eq!((seen.replaced, seen.used), (1, seen.ticks.unwrap()));
        seen.look(None, now());
        assert_eq!(seen.replaced, 1);
    }

    #[test]
    fn a_wait_is_beside_what_the_look_that_saw_it_could_see() {
        let at = |ms| Mono::default().after(Span::from_millis(ms));
        let watched = Watched {
            name: String::new(),
            cpu_seconds: 0.0,
            cpu_percent: 0.0,
            wait_ms_max: Ms(0.0),
            wait_at_ms: None,
            replaced: 0,
            waits: vec![(at(1_000), Span::from_millis(30))],
        };
        let beside = |from, to| watched.beside(at(from), at(to)).as_millis();
        assert_eq!([beside(800, 850), beside(880, 920), beside(950, 1_200), beside(1_001, 1_200)], [0, 30, 30, 0]);
    }
}
