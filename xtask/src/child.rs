//! Running another program: said before it starts, its output passed on as it comes, a few of its lines kept.
//!
//! Decides how a command is shown and what of its output is remembered. Leaves it to the caller what to run.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::{Trouble, place};

/// How long the output of a child that has ended may stay open: something that it left behind may hold it for ever.
const LINGER: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(5) };

/// A program to run, in the repository's root unless told otherwise.
#[derive(Debug)]
pub(crate) struct Child {
    shown: String,
    command: Command,
}

impl Child {
    /// `program` with these arguments.
    pub(crate) fn new(program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let name = Path::new(program.as_ref()).file_name().unwrap_or(program.as_ref()).to_string_lossy().into_owned();
        let mut shown = name;
        for argument in arguments {
            shown.push(' ');
            shown.push_str(argument);
        }
        let mut command = Command::new(program);
        command.args(arguments).current_dir(place::root());
        Self { shown, command }
    }

    /// cargo with these arguments; CI holds it to the committed lockfile, and keeps nothing for a next build.
    pub(crate) fn cargo(subcommand: &str, arguments: &[&str]) -> Self {
        let mut all: Vec<&str> = subcommand.split(' ').collect();
        if place::in_ci() && subcommand != "fmt" {
            all.push("--locked");
        }
        all.extend(arguments);
        let child = Self::new(place::cargo(), &all);
        if place::in_ci() { child.env("CARGO_INCREMENTAL", "0") } else { child }
    }

    /// Sets an environment variable for it.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    /// Runs it, with our own terminal.
    ///
    /// # Errors
    /// [`Trouble::Failed`] when it cannot be started or does not end well.
    pub(crate) fn run(mut self) -> Result<(), Trouble> {
        self.announce();
        let status = self.command.status().map_err(|error| self.not_started(&error))?;
        if status.success() { Ok(()) } else { Err(self.ended(status)) }
    }

    /// Runs it without a word and gives its standard output; `None` when it cannot be started or does not end well.
    pub(crate) fn quiet(mut self) -> Option<String> {
        let output = self.command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it, passes its output on, and keeps the lines that `keep` likes (colours taken out).
    ///
    /// # Errors
    /// As [`Child::run`]; the kept lines are given either way.
    pub(crate) fn run_keeping(self, keep: fn(&str) -> bool) -> (Vec<String>, Result<(), Trouble>) {
        self.run_sifting(|_| true, keep)
    }

    /// The same, but passes on only the lines that `show` likes.
    ///
    /// # Errors
    /// As [`Child::run`]; the kept lines are given either way.
    pub(crate) fn run_sifting(
        mut self,
        show: fn(&str) -> bool,
        keep: fn(&str) -> bool,
    ) -> (Vec<String>, Result<(), Trouble>) {
        self.announce();
        // Through a pipe programs think that nobody watches: tell them of the terminal that is behind it.
        if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            self.command.env("CARGO_TERM_COLOR", "always").env("FORCE_COLOR", "1");
        }
        let reader = match std::io::pipe().and_then(|(reader, writer)| Ok((reader, writer.try_clone()?, writer))) {
            Ok((reader, out, err)) => {
                self.command.stdin(Stdio::null()).stdout(out).stderr(err);
                reader
            }
            Err(error) => return (Vec::new(), Err(self.not_started(&error))),
        };
        let mut running = match self.command.spawn() {
            Ok(running) => running,
            Err(error) => return (Vec::new(), Err(self.not_started(&error))),
        };
        // Our own ends of the pipe go with the command; the output ends when the child's do.
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        let (lines, kept) = mpsc::channel();
        thread::spawn(move || pass_on(reader, show, keep, &lines));
        let status = running.wait();
        let mut all = Vec::new();
        while let Ok(line) = kept.recv_timeout(LINGER) {
            all.push(line);
        }
        let result = match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.ended(status)),
            Err(error) => Err(self.not_started(&error)),
        };
        (all, result)
    }

    fn announce(&self) {
        println!("$ {}", self.shown);
        // What follows is written by another process, straight to the terminal.
        let _ = std::io::stdout().flush();
    }

    fn not_started(&self, error: &std::io::Error) -> Trouble {
        Trouble::Failed(format!("`{}` cannot be run: {error}", self.shown))
    }

    fn ended(&self, status: std::process::ExitStatus) -> Trouble {
        Trouble::Failed(format!("`{}` ended with {status}", self.shown))
    }

    /// Becomes the program: comes back only if that fails.
    pub(crate) fn become_it(mut self) -> Trouble {
        use std::os::unix::process::CommandExt as _;
        self.announce();
        let error = self.command.exec();
        self.not_started(&error)
    }
}

fn pass_on(from: impl std::io::Read, show: fn(&str) -> bool, keep: fn(&str) -> bool, lines: &mpsc::Sender<String>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let plain = without_colours(&String::from_utf8_lossy(&line));
        if show(&plain) {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&line).and_then(|()| out.flush());
        }
        if keep(&plain) && lines.send(plain).is_err() {
            return;
        }
    }
}

/// The line as it reads: without `ESC [ … letter` and without the end of line.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.trim_end().chars();
    while let Some(character) = characters.next() {
        if character != '\u{1b}' {
            plain.push(character);
        } else if characters.next() == Some('[') {
            for skipped in characters.by_ref() {
                if skipped.is_ascii_alphabetic() {
                    break;
                }
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_asked_for_are_kept_without_their_colours() {
        let child = Child::new("sh", &["-c", "printf 'noise\\n\\033[32mSummary\\033[0m 3 tests\\n' >&2; echo more"]);
        let (kept, result) = child.run_keeping(|line| line.starts_with("Summary"));
        assert_eq!(kept, ["Summary 3 tests"]);
        assert!(result.is_ok());
    }

    #[test]
    fn a_child_that_fails_is_a_failure_and_its_lines_are_kept() {
        let (kept, result) = Child::new("sh", &["-c", "echo kept; exit 3"]).run_keeping(|_| true);
        assert_eq!(kept, ["kept"]);
        assert!(matches!(result, Err(Trouble::Failed(what)) if what.contains("exit status: 3")));
        assert!(Child::new("sh", &["-c", "exit 3"]).quiet().is_none());
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure_that_names_it() {
        let (_, result) = Child::new("no-such-program", &["--now"]).run_keeping(|_| true);
        assert!(matches!(result, Err(Trouble::Failed(what)) if what.contains("no-such-program --now")));
    }

    #[test]
    fn what_a_child_leaves_behind_does_not_hold_us_up() {
        let (kept, result) = Child::new("sh", &["-c", "tail -f /dev/null & echo $!"]).run_keeping(|_| true);
        assert!(result.is_ok());
        // It was still there, with the pipe open, when we went on.
        assert!(Child::new("kill", &[&kept[0]]).quiet().is_some());
    }
}
