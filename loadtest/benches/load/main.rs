//! `cargo xtask bench load`: 200 calls through the real processes of `tandem dev`, and what each process takes for them.
//!
//! Decides what is started. What is measured is the load test's own; what stands on the command line goes to it.
#![allow(clippy::print_stderr, reason = "a tool at a terminal")]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;

use support::Dev;

/// Enough addresses for the limits that a node has for each source: 200 calls on 14 of them are 29 devices each.
const SOURCES: &str = "127.8.0.0/28";

fn main() -> ExitCode {
    let run = || {
        let dev = Dev::start()?;
        let mut command = dev.loadtest();
        command.args(["--source", SOURCES]).args(std::env::args().skip(1).filter(|word| word != "--bench"));
        Ok::<_, Box<dyn std::error::Error>>(command.status()?)
    };
    match run() {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            eprintln!("bench load: {error}");
            ExitCode::FAILURE
        }
    }
}
