//! The processes that are measured: started on a processor of their own, read while they run, ended with us.
//!
//! Decides what is charged to a forwarder: the CPU time of all of its threads, which includes the kernel's work on its
//! behalf (/proc/<pid>/task/*/schedstat), and its resident memory (/proc/<pid>/smaps_rollup).

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::{Failure, sys};

/// A running process. Dropping it kills it.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    output: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on processor `cpu`; what it says on stderr goes into a file in `directory`.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        cpu: usize,
        directory: &Path,
    ) -> Result<Self, Failure> {
        let log = directory.join(format!("{name}.log"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        sys::bind_child(&mut command, cpu);
        let mut child = command.spawn().map_err(|error| format!("{name} does not start: {error}"))?;
        let output = child.stdout.take().ok_or_else(|| format!("{name} has no pipe"))?;
        Ok(Self { name, child, output: BufReader::new(output), log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that it prints.
    pub(crate) fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(self.failure("has ended"));
        }
        Ok(line.trim_end().to_owned())
    }

    /// What went wrong with it, and the end of what it said about that.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(8).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        format!("{} {what}: {}", self.name, tail.join(" | ")).into()
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.failure(&format!("has ended ({status})"))),
        }
    }

    /// CPU time that all of its threads have used so far, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Result<u64, Failure> {
        let mut total = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // A thread that ends between listing and reading takes its time with it: none does while we measure.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            total += text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(total)
    }

    /// Resident memory in bytes, exactly (the counters in `status` lag behind by up to 64 pages a thread).
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse::<u64>().ok())
            .ok_or("smaps_rollup has no Rss")?;
        Ok(kib * 1_024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
