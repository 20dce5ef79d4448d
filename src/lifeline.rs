//! A child that does not outlive its parent, even if that is killed with SIGKILL.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::cli::TiedArgs;

/// Has the kernel kill this process when its parent, `parent`, ends (Linux, PR_SET_PDEATHSIG).
///
/// The kernel looks at the thread that made us, so `tandem dev` makes its children on its main thread.
pub(crate) fn tie_to(parent: u32) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("cannot be tied to its parent: {error}"))?;
    // It may have ended before that line; then somebody else is our parent now.
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if parent.is_some() && getppid() == parent { Ok(()) } else { Err("its parent has ended".to_owned()) }
}

/// Becomes a program that is not ours, tied to our parent; returns only if it cannot.
pub(crate) fn run_tied(args: &TiedArgs) -> Result<(), String> {
    tie_to(args.parent)?;
    let Some((program, arguments)) = args.command.split_first() else { return Err("nothing to run".to_owned()) };
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{} cannot be run: {error}", program.display()))
}
