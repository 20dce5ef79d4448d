//! Steps: run in order, timed, with a table at the end.
//!
//! Decides that a failed step does not stop those that do not need it, so that a person sees everything at once. Leaves
//! it to the caller which steps there are.

use std::time::{Duration, Instant};

use crate::Trouble;

/// One step.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// What it is called on the command line and in the table.
    pub(crate) name: &'static str,
    /// Steps without which it makes no sense. One that was not asked for counts as done.
    pub(crate) needs: &'static [&'static str],
    /// Does it.
    pub(crate) run: fn() -> Result<Done, Trouble>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    /// Passed, with lines worth repeating at the end.
    Passed(Vec<String>),
    /// Failed: with lines worth repeating, and the reason.
    Failed(Vec<String>, String),
    /// Could not be done here, for this reason.
    Skipped(String),
}

/// One line of the table.
#[derive(Debug)]
struct Line {
    name: &'static str,
    done: Done,
    took: Duration,
}

/// Runs `steps`, or of them only those that are `named`; prints the table and, last, `N passed, N failed`.
///
/// # Errors
/// [`Trouble::Usage`] for a name that no step has; [`Trouble::Missing`] at once when a step says so; [`Trouble::Said`]
/// when a step failed.
pub(crate) fn run(steps: &[Step], named: &[&str]) -> Result<(), Trouble> {
    let chosen = choose(steps, named)?;
    let mut lines: Vec<Line> = Vec::new();
    let whole = stopwatch();
    for step in chosen {
        println!("\n==> {}", step.name);
        let start = stopwatch();
        let broken = step
            .needs
            .iter()
            .find(|need| lines.iter().any(|line| line.name == **need && !matches!(line.done, Done::Passed(_))));
        let done = match broken {
            Some(need) => Done::Skipped(format!("needs {need}")),
            None => match (step.run)() {
                Ok(done) => done,
                Err(Trouble::Missing(what)) => return Err(Trouble::Missing(what)),
                Err(Trouble::Failed(what) | Trouble::Usage(what)) => Done::Failed(Vec::new(), what),
                Err(Trouble::Said) => Done::Failed(Vec::new(), "see above".to_owned()),
            },
        };
        let line = Line { name: step.name, done, took: start.elapsed() };
        println!("{}", line.text());
        lines.push(line);
    }
    println!("\n==> all of it took {}\n", seconds(whole.elapsed()));
    for line in &lines {
        println!("{}", line.text());
        if let Done::Passed(kept) | Done::Failed(kept, _) = &line.done {
            kept.iter().for_each(|kept| println!("      {}", kept.trim()));
        }
    }
    println!("\n{}", closing_line(&lines));
    if lines.iter().any(|line| matches!(line.done, Done::Failed(..))) { Err(Trouble::Said) } else { Ok(()) }
}

fn choose(steps: &[Step], named: &[&str]) -> Result<Vec<Step>, Trouble> {
    if let Some(unknown) = named.iter().find(|name| steps.iter().all(|step| step.name != **name)) {
        let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        return Err(Trouble::Usage(format!("there is no step {unknown}. There are: {}", names.join(" "))));
    }
    Ok(steps.iter().filter(|step| named.is_empty() || named.contains(&step.name)).copied().collect())
}

/// The line that CI reads.
fn closing_line(lines: &[Line]) -> String {
    let count = |which: fn(&Done) -> bool| lines.iter().filter(|line| which(&line.done)).count();
    let passed = count(|done| matches!(done, Done::Passed(_)));
    let failed = count(|done| matches!(done, Done::Failed(..)));
    let skipped = count(|done| matches!(done, Done::Skipped(_)));
    let tail = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    format!("{passed} passed, {failed} failed{tail}")
}

impl Line {
    fn text(&self) -> String {
        let (verdict, why) = match &self.done {
            Done::Passed(_) => ("ok", ""),
            Done::Failed(_, why) => ("FAILED", why.as_str()),
            Done::Skipped(why) => ("skipped", why.as_str()),
        };
        format!("{:12} {verdict:8} {:>9}  {why}", self.name, seconds(self.took)).trim_end().to_owned()
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[allow(clippy::disallowed_methods, reason = "times are shown to people; nothing is decided by them")]
fn stopwatch() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const fn step(name: &'static str, needs: &'static [&'static str], run: fn() -> Result<Done, Trouble>) -> Step {
        Step { name, needs, run }
    }

    fn good() -> Result<Done, Trouble> {
        Ok(Done::Passed(Vec::new()))
    }

    fn bad() -> Result<Done, Trouble> {
        Err(Trouble::Failed("broken".to_owned()))
    }

    #[test]
    fn a_failed_step_stops_those_that_need_it_and_no_others() {
        static RUN: AtomicU32 = AtomicU32::new(0);
        let independent = || {
            RUN.fetch_add(1, Ordering::Relaxed);
            good()
        };
        let dependent = || {
            RUN.fetch_add(100, Ordering::Relaxed);
            good()
        };
        let steps = [step("build", &[], bad), step("tests", &["build"], dependent), step("fmt", &[], independent)];
        assert!(matches!(run(&steps, &[]), Err(Trouble::Said)));
        assert_eq!(RUN.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn only_the_named_steps_run_and_what_they_need_counts_as_done() {
        let steps = [step("build", &[], bad), step("tests", &["build"], good)];
        assert!(run(&steps, &["tests"]).is_ok());
        assert!(matches!(run(&steps, &["test"]), Err(Trouble::Usage(what)) if what.contains("build tests")));
    }

    #[test]
    fn a_machine_that_lacks_something_ends_it_at_once() {
        let missing = || Err(Trouble::Missing("chromium".to_owned()));
        let never = || panic!("ran although a tool is missing");
        let steps = [step("tools", &[], missing), step("fmt", &[], never)];
        assert!(matches!(run(&steps, &[]), Err(Trouble::Missing(_))));
    }

    #[test]
    fn the_closing_line_counts_steps_in_the_words_that_ci_reads() {
        let line = |done| Line { name: "x", done, took: Duration::ZERO };
        let mut lines = vec![line(Done::Passed(Vec::new())), line(Done::Failed(Vec::new(), String::new()))];
        assert_eq!(closing_line(&lines), "1 passed, 1 failed");
        lines.push(line(Done::Skipped("no network".to_owned())));
        assert_eq!(closing_line(&lines), "1 passed, 1 failed, 1 skipped");
    }
}
