//! A child that does not outlive its parent, even if that is killed with SIGKILL.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

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
