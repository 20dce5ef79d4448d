//! One file, one process: the second one is told so.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tandem_state_client::conformance::POP;
use tandem_state_server::{OpenError, StateServer};
use tandem_wire::units::Wall;

/// Set in the process that is only there to hold the file.
const HOLD: &str = "TANDEM_TEST_HOLDS";

fn now() -> Wall {
    Wall::from_secs(1_795_000_000)
}

/// Not a test of its own: what the other process runs. It has the file until its input ends.
#[test]
fn a_process_that_holds_the_file() {
    let Some(path) = std::env::var_os(HOLD).map(PathBuf::from) else { return };
    let store = StateServer::open(&path, POP, now).unwrap();
    std::io::stdout().write_all(b"\nholding\n").unwrap();
    std::io::stdout().flush().unwrap();
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    drop(store);
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use_and_gets_it_when_the_first_is_gone() {
    use std::io::{BufRead as _, BufReader};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_holds_the_file", "--nocapture"])
        .env(HOLD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "holding"), "the other process did not open the file");
    let error = StateServer::open(&path, POP, now).unwrap_err();
    assert!(matches!(error, OpenError::InUse), "{error}");
    assert_eq!(error.to_string(), "the store is in use by another process");
    // Killed, not ended: a lock that outlived its process would keep its successor out.
    holder.kill().unwrap();
    holder.wait().unwrap();
    StateServer::open(&path, POP, now).unwrap();
}
