//! `tandem`: a table of contents. One subcommand per role; config errors exit 64 before any port is bound.

mod admin;
mod cli;
mod config;
mod dev;
mod fleet;
mod lifeline;
mod limits;
mod role;
mod shutdown;

use std::process::ExitCode;

use cli::Command;

/// glibc's takes a seventh of what a call costs, and its heaps of one thread each keep what others free (decision 0006).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// EX_USAGE of sysexits.h: the command line or the config is wrong, and trying again changes nothing.
const EXIT_USAGE: u8 = 64;

/// EX_TEMPFAIL: another process runs under the same id, and came later. To start this one again would take that one's place.
const EXIT_SUPERSEDED: u8 = 75;

/// Why a subcommand ended early.
#[derive(Debug)]
enum Failure {
    /// The config is wrong. Nothing was started, no port was bound.
    Config(config::ConfigError),
    /// Something else is: a port that is taken, a store that is in use.
    Run(String),
    /// Another process does this one's work.
    Superseded,
}

impl From<config::ConfigError> for Failure {
    fn from(error: config::ConfigError) -> Self {
        Self::Config(error)
    }
}

fn main() -> ExitCode {
    let result = match cli::parse() {
        Ok(Command::Dev(args)) => dev::main(&args),
        Ok(Command::Signaling(args)) => role::main::<config::clients::SignalingConfig>(&args),
        Ok(Command::Router(args)) => role::main::<config::clients::RouterConfig>(&args),
        Ok(Command::Relay(args)) => role::main::<config::role::RelayConfig>(&args),
        Ok(Command::Lb(args)) => role::main::<config::lb::LbConfig>(&args),
        Ok(Command::Admin(args)) => admin::main(&args),
        Ok(Command::StateServer(args)) => role::main::<config::role::StateServerConfig>(&args),
        Ok(Command::Tied(args)) => lifeline::run_tied(&args).map_err(Failure::Run),
        Err(exit) => return exit,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(error)) => complain(&error, EXIT_USAGE),
        Err(Failure::Run(error)) => complain(&error, 1),
        Err(Failure::Superseded) => complain(&"another process runs under this id, and came later", EXIT_SUPERSEDED),
    }
}

#[allow(clippy::print_stderr, reason = "logging may not be set up yet, and this is said to whoever started us")]
fn complain(error: &dyn std::fmt::Display, exit: u8) -> ExitCode {
    eprintln!("tandem: {error}");
    ExitCode::from(exit)
}
