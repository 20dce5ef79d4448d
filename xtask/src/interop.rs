//! `cargo xtask interop`: calls between browsers of different makers. Apart from `test`, since Firefox is large.
//!
//! Decides what is needed. Leaves the calls to `e2e/`.

use crate::child::Child;
use crate::{Trouble, place, tools, web};

/// Sees to both browsers, builds, and runs the calls.
pub(crate) fn run() -> Result<(), Trouble> {
    tools::see_to(&[tools::PROTOC, tools::NODE, tools::NPM, tools::CHROMIUM, tools::FIREFOX])?;
    web::packages()?;
    web::build()?;
    Child::cargo("build", &[]).run()?;
    Child::new("npm", &["run", "interop", "-w", "e2e"]).env("TANDEM_BIN", place::tandem("debug")).run()
}
