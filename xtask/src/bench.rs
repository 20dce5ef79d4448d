//! `cargo xtask bench`: measurements that need a release build and the machine for themselves.
//!
//! Decides what is built and handed over. Leaves measuring to the benches.

use crate::child::Child;
use crate::{Trouble, failover, place, tools, web};

/// Runs the bench that is named first; the rest goes to it.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Trouble> {
    match arguments {
        ["relay", rest @ ..] => {
            tools::see_to(&[tools::COTURN])?;
            bench("tandem", "relay", rest)
        }
        ["lb", rest @ ..] => bench("tandem", "lb", rest),
        ["signaling", rest @ ..] => bench("tandem", "signaling", rest),
        ["load", rest @ ..] => bench("tandem-loadtest", "load", rest),
        ["failover", rest @ ..] => failover::run(rest),
        ["state", rest @ ..] => {
            tools::see_to(&[tools::PROTOC, tools::PROTOS, tools::ETCD])?;
            // The store's own crate: neither page nor binary is needed.
            let mut all = vec!["--package", "tandem-state-server", "--bench", "state", "--"];
            all.extend(rest);
            Child::cargo("bench", &all).run()
        }
        [] => Err(Trouble::Usage(format!("which bench? There are: {THERE_ARE}"))),
        [other, ..] => Err(Trouble::Usage(format!("there is no bench {other}. There are: {THERE_ARE}"))),
    }
}

const THERE_ARE: &str = "relay, lb, signaling, state, load, failover";

fn bench(package: &str, name: &str, arguments: &[&str]) -> Result<(), Trouble> {
    tools::see_to(&[tools::PROTOC, tools::PROTOS, tools::NODE, tools::NPM])?;
    web::packages()?;
    web::build()?;
    Child::cargo("build", &["--release"]).run()?;
    let mut all = vec!["--package", package, "--bench", name, "--"];
    all.extend(arguments);
    Child::cargo("bench", &all).env("TANDEM_BIN", place::tandem("release")).run()
}
