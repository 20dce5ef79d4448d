//! The roles as processes: when they are ready, what their admin ports say, and how they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use support::{Running, finished, free_tcp, free_udp, get, relay_toml, runs, state_toml, tandem, until};

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn role(name: &str, config: &Path) -> Running {
    Running::start(tandem(&[name, "--config", config.to_str().unwrap()]), None)
}

fn address(ready: &Value, key: &str) -> SocketAddr {
    ready[key].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_relay_is_alive_before_its_store_ready_after_it_and_ends_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let (turn, admin, state) = (free_udp(), free_tcp(), free_tcp());
    let mut relay = role("relay", &written(folder.path(), "relay.toml", &relay_toml(turn, admin, state)));
    // It says nothing before it is ready, so its port is all there is to go by.
    until("its admin port", || std::net::TcpStream::connect(admin).ok());
    assert_eq!(get(admin, "/healthz").status, 200);
    let answer = get(admin, "/readyz");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["code"], "not_ready");
    until("the store was asked for", || {
        get(admin, "/metrics").body.contains("tandem_relay_restoring 1\n").then_some(())
    });

    let data = folder.path().join("state.redb");
    let mut server = role("state-server", &written(folder.path(), "state.toml", &state_toml(state, &data)));
    let ready = server.ready();
    assert_eq!((ready["role"].as_str(), address(&ready, "listen")), (Some("state-server"), state));
    let state_admin = address(&ready, "admin");
    assert_eq!(get(state_admin, "/readyz").status, 200);
    assert!(get(state_admin, "/metrics").body.contains("\ntandem_state_commands_total 0\n"));
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o077, 0, "the store is nobody else's to read");

    let ready = relay.ready();
    assert_eq!(
        (ready["role"].as_str(), address(&ready, "turn"), address(&ready, "admin")),
        (Some("relay"), turn, admin)
    );
    assert_eq!(get(admin, "/readyz").status, 200);
    assert_eq!(get(admin, "/version").json()["role"], "relay");
    let scraped = get(admin, "/metrics").body;
    for line in ["tandem_ready 1\n", "tandem_relay_restores_total 1\n", "tandem_panics_total 0\n"] {
        assert!(scraped.contains(line), "{line}: {scraped}");
    }

    // A relay that has lost its store goes on, and stays ready: its calls do.
    assert_eq!(server.end().code(), Some(0));
    assert_eq!(get(admin, "/readyz").status, 200);
    relay.signal(Signal::INT);
    assert_eq!(relay.end().code(), Some(0));
    assert!(std::net::UdpSocket::bind(turn).is_ok(), "its port is free again");
}

#[test]
fn a_second_state_server_on_the_same_file_is_told_so_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("state.redb");
    let config = written(folder.path(), "state.toml", &state_toml(free_tcp(), &data));
    let mut first = role("state-server", &config);
    let admin = address(&first.ready(), "admin");
    let listen = format!("listen={}", free_tcp());
    let output = finished(tandem(&["state-server", "--config", config.to_str().unwrap(), "--set", &listen]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("tandem: data: ") && said.contains("another process"), "{said}");
    assert_eq!(get(admin, "/readyz").status, 200);
}

#[test]
fn a_role_ends_with_its_parent_if_it_was_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let config = written(folder.path(), "state.toml", &state_toml(free_tcp(), &folder.path().join("state.redb")));
    // A shell is the parent: it starts the role, says its pid, and waits to be killed.
    let mut shell = std::process::Command::new("sh");
    let script = format!(
        "{} state-server --config '{}' --die-with-parent $$ >/dev/null & echo $!; wait",
        env!("CARGO_BIN_EXE_tandem"),
        config.display()
    );
    shell.arg("-c").arg(script);
    let mut shell = Running::start(shell, None);
    let child: u32 = shell.line().trim().parse().unwrap();
    until("it opened its store", || folder.path().join("state.redb").exists().then_some(()));
    assert!(runs(child));
    shell.killed();
    until("it ended with its parent", || (!runs(child)).then_some(()));
    // One whose parent is somebody else does not even begin.
    let somebody = std::process::id().wrapping_add(1).to_string();
    let output =
        finished(tandem(&["state-server", "--config", config.to_str().unwrap(), "--die-with-parent", &somebody]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
