//! Two state servers over one etcd, as processes of their own: either may be killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

#[path = "support/ports.rs"]
mod ports;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ports::free_tcp;
use tandem_state_client::{BucketSet, Change, Command as Ask, Followed, Key, Op, RemoteStore, Revision, Store, follow};
use tandem_wire::id::{BucketId, CallId, PopId};
use tandem_wire::redact::Secret;
use tokio::time::{Instant, timeout};

const SECRET: &str = "1b4f0e9851971998e732078544c96b36";
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends with the test.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn etcd(folder: &Path, client: SocketAddr) -> Option<Process> {
    let (client, peer) = (format!("http://{client}"), format!("http://{}", free_tcp()));
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--logger", "zap", "--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if child.is_err() {
        eprintln!("skipped: etcd is not installed (Debian: etcd-server)");
    }
    child.ok().map(Process)
}

/// Starts a state server, and waits until it says that it is ready.
fn server(folder: &Path, etcd: SocketAddr, listen: SocketAddr) -> Process {
    let config = folder.join(format!("{}.toml", listen.port()));
    let text =
        format!("listen = \"{listen}\"\npop = 1\nsecret = \"{SECRET}\"\n[etcd]\nendpoints = [\"http://{etcd}\"]\n");
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["state-server", "--config"])
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("ready "), "{line}");
    Process(child)
}

fn call(n: u128) -> Key {
    Key::Call(CallId::new(PopId(1), BucketId(n as u16), n))
}

/// Writes until it is taken; nobody else writes this record.
async fn write(store: &RemoteStore, key: Key) -> Revision {
    timeout(PATIENCE, async {
        loop {
            let based_on = store.read(key).await.unwrap().map_or(Revision::ZERO, |entry| entry.revision);
            if based_on > Revision::ZERO {
                return based_on;
            }
            let op = Op { key, based_on, change: Change::Put(b"v".to_vec()) };
            match store.commit(Ask { ops: vec![op] }).await {
                Ok(revision) => return revision,
                Err(error) => assert!(error.is_away(), "{error}"),
            }
        }
    })
    .await
    .expect("it is not written")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_server_is_killed_and_who_used_it_goes_on_at_the_other_without_a_new_list() {
    let folder = tempfile::tempdir().unwrap();
    let (client, one, two) = (free_tcp(), free_tcp(), free_tcp());
    let Some(_etcd) = etcd(folder.path(), client) else { return };
    let (mut first, mut second) = (server(folder.path(), client, one), server(folder.path(), client, two));
    let endpoints = [format!("http://{one}"), format!("http://{two}")];
    let store = RemoteStore::of_several(&endpoints, &Secret::new(SECRET.into())).unwrap();
    let mut followed = follow(Arc::new(store.clone()), BucketSet::all());
    let mut next = async || timeout(PATIENCE, followed.recv()).await.expect("nothing came").unwrap();
    assert!(matches!(next().await, Followed::Listed(_)));
    let mut expect = async |n| match next().await {
        Followed::Changed(changes) => assert_eq!(changes.events.last().unwrap().key, call(n)),
        Followed::Listed(_) => panic!("everything was listed anew"),
    };
    write(&store, call(1)).await;
    expect(1).await;
    first.kill();
    let killed = Instant::now();
    write(&store, call(2)).await;
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    expect(2).await;
    // And back, when the other goes: what the first has missed it has when it is ready.
    let first = server(folder.path(), client, one);
    second.kill();
    write(&store, call(3)).await;
    expect(3).await;
    assert_eq!(store.restore(&BucketSet::all()).await.unwrap().entries.len(), 3);
    drop(first);
}

#[test]
fn a_config_that_has_a_file_and_etcd_ends_with_64_before_a_port_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("both.toml");
    let text = format!(
        "listen = \"127.0.0.1:7000\"\npop = 1\nsecret = \"{SECRET}\"\ndata = \"state.redb\"\n\
         [etcd]\nendpoints = [\"http://127.0.0.1:2379\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    let ended =
        Command::new(env!("CARGO_BIN_EXE_tandem")).args(["state-server", "--config"]).arg(config).output().unwrap();
    assert_eq!(ended.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("config: data"), "{ended:?}");
}
