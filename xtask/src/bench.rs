//! `cargo xtask bench`: measurements that need a release build and the machine for themselves.
//!
//! Decides what is built and handed over. Leaves measuring to the benches.

use crate::child::Child;
use crate::{Trouble, place, tools, web};

/// Runs the bench that is named first; the rest goes to it.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Trouble> {
    match arguments {
        ["relay", rest @ ..] => {
            tools::see_to(&[tools::COTURN])?;
            bench("tandem", "relay", rest)
        }
        ["signaling", rest @ ..] => bench("tandem", "signaling", rest),
        ["load", rest @ ..] => bench("tandem-loadtest", "load", rest),
        [] => Err(Trouble::Usage("which bench? There are: relay, signaling, load".to_owned())),
        [other, ..] => Err(Trouble::Usage(format!("there is no bench {other}. There are: relay, signaling, load"))),
    }
}

fn bench(package: &str, name: &str, arguments: &[&str]) -> Result<(), Trouble> {
    tools::see_to(&[tools::PROTOC, tools::NODE, tools::NPM])?;
    web::packages()?;
    web::build()?;
    Child::cargo("build", &["--release"]).run()?;
    let mut all = vec!["--package", package, "--bench", name, "--"];
    all.extend(arguments);
    Child::cargo("bench", &all).env("TANDEM_BIN", place::tandem("release")).run()
}
