//! An etcd cluster of a test's own: processes on free ports of this machine, each with a temporary folder.
//!
//! Decides nothing. Ends its processes by their ids.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "each test uses some of it, and says why it cannot run"
)]

#[path = "../../../tests/support/ports.rs"]
mod ports;
pub mod proxy;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ports::free_tcp;
use rustix::process::{Pid, Signal};
use tandem_state_client::conformance::POP;
use tandem_state_client::{Change, Key, Op, Revision};
use tandem_state_server::{EtcdConfig, EtcdTls, StateServer};
use tandem_wire::id::{BucketId, CallId};
use tandem_wire::units::Wall;

pub use std::sync::Arc;

pub fn now() -> Wall {
    Wall::from_secs(1_795_000_000)
}

pub fn call(n: u128) -> CallId {
    CallId::new(POP, BucketId(n as u16), n)
}

pub fn put(key: Key, based_on: Revision, value: impl Into<Vec<u8>>) -> Op {
    Op { key, based_on, change: Change::Put(value.into()) }
}

struct Node {
    child: Option<Child>,
    client: SocketAddr,
    peer: SocketAddr,
}

pub struct Cluster {
    nodes: Vec<Node>,
    folder: tempfile::TempDir,
    more: Vec<String>,
}

fn is_installed() -> bool {
    let version = |program: &str, word: &str| {
        let mut command = Command::new(program);
        command.arg(word).env("ETCDCTL_API", "3").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    version("etcd", "--version") && version("etcdctl", "version")
}

impl Cluster {
    /// Some nodes that run; `None`, and a word why, where etcd is not installed.
    pub fn start(nodes: usize) -> Option<Self> {
        Self::start_with(nodes, &[])
    }

    pub fn start_with(nodes: usize, more: &[&str]) -> Option<Self> {
        if !is_installed() {
            eprintln!("skipped: etcd is not installed (Debian: etcd-server and etcd-client)");
            return None;
        }
        let nodes = (0..nodes).map(|_| Node { child: None, client: free_tcp(), peer: free_tcp() }).collect();
        let more = more.iter().map(ToString::to_string).collect();
        let mut cluster = Self { nodes, folder: tempfile::tempdir().unwrap(), more };
        (0..cluster.nodes.len()).for_each(|n| cluster.run(n));
        Some(cluster)
    }

    fn name(n: usize) -> String {
        format!("node{n}")
    }

    /// Starts a node, or starts it again on what it had.
    pub fn run(&mut self, n: usize) {
        let members: Vec<String> =
            self.nodes.iter().enumerate().map(|(n, node)| format!("{}=http://{}", Self::name(n), node.peer)).collect();
        let scheme = if self.more.iter().any(|flag| flag.starts_with("--cert-file")) { "https" } else { "http" };
        let data = self.data(n);
        let node = &mut self.nodes[n];
        let (client, peer) = (format!("{scheme}://{}", node.client), format!("http://{}", node.peer));
        let mut command = Command::new("etcd");
        command
            .args(["--name", &Self::name(n), "--data-dir"])
            .arg(data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &members.join(","), "--logger", "zap", "--log-level", "error"])
            .args(&self.more)
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        node.child = Some(command.spawn().unwrap());
    }

    pub fn data(&self, n: usize) -> std::path::PathBuf {
        self.folder.path().join(Self::name(n))
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn address(&self, n: usize) -> SocketAddr {
        self.nodes[n].client
    }

    pub fn kill(&mut self, n: usize) {
        let mut child = self.nodes[n].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, n: usize, signal: Signal) {
        let child = self.nodes[n].child.as_ref().unwrap();
        rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Hangs a node: its connections stay, and nothing comes.
    pub fn pause(&self, n: usize) {
        self.signal(n, Signal::STOP);
    }

    pub fn resume(&self, n: usize) {
        self.signal(n, Signal::CONT);
    }

    /// All nodes, from the n-th on.
    pub fn config_from(&self, first: usize) -> EtcdConfig {
        let count = self.nodes.len();
        let endpoints = (0..count).map(|n| format!("http://{}", self.nodes[(first + n) % count].client)).collect();
        EtcdConfig { endpoints, tls: None }
    }

    pub fn config(&self) -> EtcdConfig {
        self.config_from(0)
    }

    pub async fn server(&self) -> Arc<StateServer> {
        StateServer::connect(&self.config(), POP, now).await.unwrap()
    }

    /// A client of etcd that knows nothing of us, as soon as etcd answers.
    pub async fn stranger(&self) -> etcd_client::Client {
        let endpoint = format!("http://{}", self.nodes[0].client);
        let mut client = etcd_client::Client::connect([endpoint], None).await.unwrap();
        while client.get("x", None).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        client
    }

    pub fn etcdctl(&self, n: usize, arguments: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.nodes[n].client.to_string()])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// What etcdctl says as somebody with these flags; `None` if it is refused, or not answered in time.
    pub fn let_in(&self, scheme: &str, who: &[&str], what: &[&str]) -> Option<String> {
        self.let_in_with(scheme, who, what, "")
    }

    /// The same, with something to read.
    pub fn let_in_with(&self, scheme: &str, who: &[&str], what: &[&str], read: &str) -> Option<String> {
        use std::io::Write as _;
        let endpoint = format!("{scheme}://{}", self.nodes[0].client);
        // A watch has no end of its own.
        let mut child = Command::new("timeout")
            .env("ETCDCTL_API", "3")
            .args(["3", "etcdctl", "--dial-timeout", "1s", "--command-timeout", "2s", "--endpoints", &endpoint])
            .args(who)
            .args(what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(read.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // One that watches is let in if it is told anything.
        let watched = output.status.code() == Some(124) && !said.is_empty();
        (output.status.success() || watched).then_some(said)
    }

    /// Of etcd: major, minor, patch.
    pub fn version(&self) -> (u32, u32, u32) {
        let said = Command::new("etcd").arg("--version").output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        let numbers: Vec<u32> = said
            .lines()
            .find_map(|line| line.strip_prefix("etcd Version: "))
            .unwrap()
            .split('.')
            .map(|number| number.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0))
            .collect();
        (numbers[0], numbers[1], numbers[2])
    }

    /// Which node leads.
    pub fn leader(&self) -> usize {
        (0..self.nodes.len())
            .find(|n| {
                let status = self.etcdctl(*n, &["endpoint", "status", "--write-out", "fields"]);
                let field = |name: &str| {
                    let line = status.lines().find(|line| line.starts_with(&format!("\"{name}\"")))?;
                    Some(line.rsplit_once(" : ")?.1.to_owned())
                };
                field("Leader").is_some() && field("Leader") == field("MemberID")
            })
            .unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                // It may be hanging, or gone.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

pub fn tls(folder: &Path) -> EtcdTls {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    EtcdTls { ca: read("ca.pem"), cert: read("client.pem"), key: read("client.key") }
}
