//! What the built binary does with its command line and its config, as a process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Output;

use support::{SECRETS, finished, free_tcp, relay_toml, tandem};

/// A good config, whose ports are taken: what would bind one of them ends with 1 and not with 64.
struct Taken {
    folder: tempfile::TempDir,
    _udp: UdpSocket,
    _tcp: TcpListener,
    config: PathBuf,
}

impl Taken {
    fn new() -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("relay.toml");
        let text = relay_toml(udp.local_addr().unwrap(), tcp.local_addr().unwrap(), free_tcp());
        std::fs::write(&config, text).unwrap();
        Self { folder, _udp: udp, _tcp: tcp, config }
    }

    fn relay(&self, more: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut arguments = vec!["relay", "--config", self.config.to_str().unwrap()];
        arguments.extend(more);
        let mut command = tandem(&arguments);
        command.envs(environment.iter().copied());
        finished(command)
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn assert_no_secret(output: &Output) {
    for secret in SECRETS {
        assert!(!text(&output.stdout).contains(secret) && !text(&output.stderr).contains(secret), "{output:?}");
    }
}

#[test]
fn a_config_that_does_not_read_ends_with_64_and_the_name_of_its_key_before_any_port_is_bound() {
    let taken = Taken::new();
    for (setting, key) in [
        ("listen=10.0.0.0/33", "listen"),
        ("listen=10.0.0.0-", "listen"),
        ("admin_allow=[\"10.0.0.0/33\"]", "admin_allow"),
        ("admin_allow=[\"127.0.0.0/8\",\"10.0.0.0-\"]", "admin_allow"),
        ("admin_allow=[\"127.0.0.0/8\",\"\"]", "admin_allow"),
        ("admin_allow=", "admin_allow"),
        ("ticket_keys=[]", "ticket_keys"),
        ("pop_secret=changeme", "pop_secret"),
        ("state.secret=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "state.secret"),
        ("state.secret=file:no/such/file", "state.secret"),
        ("state.endpiont=http://127.0.0.1:7000", "state.endpiont"),
        ("lisent=127.0.0.1:1", "lisent"),
    ] {
        let output = taken.relay(&["--set", setting], &[]);
        assert_eq!(output.status.code(), Some(64), "{setting}: {output:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with(&format!("tandem: config: {key}")) && said.contains("--set"), "{setting}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_no_secret(&output);
    }
    // Of a relay in a fleet: addresses that cannot be sent from, and one that this machine does not have.
    let tunnel = std::fs::read_to_string(&taken.config).unwrap().replacen("listen", "tunnel", 1);
    let fleet = taken.folder.path().join("fleet.toml");
    std::fs::write(&fleet, tunnel).unwrap();
    let nine: Vec<String> = (1..=9).map(|n| format!("\"127.0.0.{n}:3478\"")).collect();
    for direct in
        ["\"192.0.2.1:3478\"", "\"[2001:db8::1]:3478\"", "\"127.0.0.1:0\"", "\"0.0.0.0:3478\"", &nine.join(",")]
    {
        let setting = format!("return.direct=[{direct}]");
        let output = finished(tandem(&["relay", "--config", fleet.to_str().unwrap(), "--set", &setting]));
        assert_eq!(output.status.code(), Some(64), "{setting}: {output:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with("tandem: config: return.direct: ") && said.contains("--set"), "{setting}: {said}");
    }
    let output = taken.relay(&["--set", "return.direct=[\"127.0.0.1:3478\"]"], &[]);
    assert_eq!(output.status.code(), Some(64), "without a tunnel: {output:?}");
    // The same ports under a good config: now they are wanted.
    let output = taken.relay(&[], &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("cannot be bound"), "{output:?}");
}

#[test]
fn a_config_is_checked_and_shown_without_its_secrets_and_without_binding_anything() {
    let output = Taken::new().relay(&["--check-config"], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).starts_with("config ok\n") && text(&output.stdout).contains("realm = \"tndm\""));
    assert_no_secret(&output);
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_the_environment() {
    let taken = Taken::new();
    let environment = [
        ("TANDEM_RELAY__REALM", "env"),
        ("TANDEM_RELAY__LOG__FILTER", "debug"),
        ("TANDEM_RELAY__POP_SECRET", "env:SOMEBODYS_OWN"),
        ("SOMEBODYS_OWN", SECRETS[1]),
        ("TANDEM_STATE_SERVER__POP", "not this role's"),
    ];
    let more = ["--check-config", "--set", "realm=flag", "--set", "pop=7", "--admin", "127.0.0.1:9"];
    let output = taken.relay(&more, &environment);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    for line in ["realm = \"flag\"", "filter = \"debug\"", "pop = 7", "admin = \"127.0.0.1:9\"", "relay_id = 1"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_no_secret(&output);
    for (variable, value, key) in [
        ("TANDEM_RELAY__PUP", "1", "pup"),
        ("TANDEM_RELAY__POP", "many", "pop"),
        ("TANDEM_RELAY__STATE__SECRET", "env:NOT_THERE", "state.secret"),
    ] {
        let output = taken.relay(&["--check-config"], &[(variable, value)]);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with(&format!("tandem: config: {key}: ")) && said.contains(variable), "{said}");
    }
}

#[test]
fn a_state_server_in_clear_on_a_network_does_not_start_unless_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("state.toml");
    let anywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    std::fs::write(&config, support::state_toml(anywhere, &folder.path().join("state.redb"))).unwrap();
    let run = |more: &[&str]| {
        let mut arguments = vec!["state-server", "--check-config", "--config", config.to_str().unwrap()];
        arguments.extend(more);
        finished(tandem(&arguments))
    };
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).starts_with("tandem: config: listen: "), "{output:?}");
    assert_eq!(run(&["--set", "allow_plaintext=true"]).status.code(), Some(0));
    assert!(!folder.path().join("state.redb").exists());
}

#[test]
fn a_wrong_command_line_ends_with_64_and_a_right_question_with_0() {
    for words in [
        &[][..],
        &["rely"],
        &["relay", "--confg", "x"],
        &["relay", "--set", "novalue"],
        &["dev", "--http", "nowhere"],
        &["dev", "--turn", "127.0.0.1"],
        &["dev", "--http", "0.0.0.0:0"],
        &["dev", "--turn", "0.0.0.0:0"],
        &["relay", "--config", "no/such/file"],
        &["relay"],
    ] {
        let output = finished(tandem(words));
        assert_eq!(output.status.code(), Some(64), "{words:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{words:?}: {output:?}");
    }
    for words in [&["--help"][..], &["relay", "--help"], &["--version"]] {
        let output = finished(tandem(words));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).contains("tandem"), "{output:?}");
    }
}
