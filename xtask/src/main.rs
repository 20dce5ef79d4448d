//! `cargo xtask`: a table of contents. Every chore around the product that is more than one cargo command.
//!
//! Decides which chore a command line names and what the process exits with. Leaves each chore to the module of its name.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks on its terminal")]

mod bench;
mod checked;
mod child;
mod dev;
mod failover;
mod fuzz;
mod interop;
mod namespaces;
mod place;
mod stamp;
mod step;
mod tidy;
mod tools;
mod topology;
mod web;

use std::process::ExitCode;

/// What went wrong with a chore, and whose fault it is.
#[derive(Debug)]
enum Trouble {
    /// The command line names nothing that we do. Exit 64 (EX_USAGE).
    Usage(String),
    /// This machine lacks something that we may not install. Exit 2.
    Missing(String),
    /// Something failed, for this reason. Exit 1.
    Failed(String),
    /// Something failed and has said everything already. Exit 1.
    Said,
}

const USAGE: &str = "\
Usage: cargo xtask <command>

  dev [args…]                     build everything and start Tandem on this machine (args go to `tandem dev`)
  test [step…]                    check everything, or only the named steps
  tidy                            hold the rules that no compiler knows
  fuzz [--seconds N] [--keep] [target…]
                                  feed the parsers and the switch made-up input; --keep adds what was new to fuzz/corpus
  bench relay [args…]             measure the relay against a bare forwarder and coturn
  bench signaling [args…]         measure how soon calls ring, set-ups a second, idle connections
  bench load [args…]              200 calls with faults at will, and what each process takes (args go to tandem-loadtest)
  bench failover [--runs N] [--only WORD] [--only-sdk|--only-chromium]
                                  what 200 calls, and one between Chromiums, notice of each fault of a PoP
  interop                         calls between different browsers; the API under schemathesis
  topology up [direct]|down|status  clients, load balancer, relays and state in network namespaces, until the input ends; remove
                                  what crashed runs left; list them";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["dev", rest @ ..] => dev::run(rest),
        ["test", rest @ ..] => checked::run(rest),
        ["tidy"] => tidy::run(),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["interop"] => interop::run(),
        ["topology", rest @ ..] => topology::run(rest),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        [other, ..] => Err(Trouble::Usage(format!("there is no `cargo xtask {other}`"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Usage(what)) => {
            eprintln!("xtask: {what}\n\n{USAGE}");
            ExitCode::from(64)
        }
        Err(Trouble::Missing(what)) => {
            eprintln!("xtask: {what}");
            ExitCode::from(2)
        }
        Err(Trouble::Failed(what)) => {
            eprintln!("xtask: {what}");
            ExitCode::FAILURE
        }
        Err(Trouble::Said) => ExitCode::FAILURE,
    }
}
