//! `cargo xtask dev`: from a fresh clone to a running Tandem.
//!
//! Decides what has to be built first. Leaves running to `tandem dev`, which this process becomes.

use crate::child::Child;
use crate::{Trouble, place, tools, web};

/// Sees to tools (a fleet keeps its calls in etcd), builds page and binary, then becomes `tandem dev` with these arguments.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Trouble> {
    tools::see_to(tools::BUILD)?;
    if arguments.contains(&"--fleet") {
        tools::see_to(&[tools::ETCD])?;
    }
    web::packages()?;
    web::build()?;
    Child::cargo("build", &[]).run()?;
    let mut all = vec!["dev"];
    all.extend(arguments);
    Err(Child::new(place::tandem("debug"), &all).become_it())
}
