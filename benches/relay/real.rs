//! The product as it is run: `tandem state-server` and `tandem relay`, two processes of the binary that `TANDEM_BIN` names.
//!
//! Decides their config. Its secrets are constants: they listen on loopback and live as long as the benchmark.

use std::ffi::OsString;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tandem_state_client::{RemoteStore, Store};
use tandem_wire::redact::Secret;

use crate::process::Process;
use crate::{Failure, GENERATOR_CPU, calls};

const STATE_SECRET: &str = "1b4f0e9851971998e732078544c96b36";
const POP_SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015";
const TICKET_SECRET: &str = "60303ae22b998861bce3b28f33eec1be";

/// The secret of its tickets, which have key 0.
pub(crate) fn ticket_secret() -> Secret {
    Secret::new(TICKET_SECRET.as_bytes().to_vec())
}

/// Both processes, running.
pub(crate) struct Real {
    pub(crate) relay: Process,
    /// Kept so that it runs; it is idle while packets are measured.
    pub(crate) store: Process,
    pub(crate) port: u16,
}

/// Starts both, the relay on `cpu` and the store beside the generator, with `count` calls in the store.
pub(crate) fn start(binary: &OsString, cpu: usize, directory: &Path, count: usize) -> Result<Real, Failure> {
    let folder = directory.join("real");
    std::fs::create_dir(&folder)?;
    let config = folder.join("state-server.toml");
    let data = folder.join("state.redb");
    std::fs::write(
        &config,
        format!("listen = \"127.0.0.1:0\"\ndata = {data:?}\npop = {}\nsecret = \"{STATE_SECRET}\"\n", calls::POP.0),
    )?;
    let mut command = Command::new(binary);
    command.arg("state-server").arg("--config").arg(&config);
    let mut store = Process::start("state-server", command, GENERATOR_CPU, &folder)?;
    let listen = served(&store.line()?, "listen")?;
    let endpoint = format!("http://{listen}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let secret = Secret::new(STATE_SECRET.as_bytes().to_vec());
        let remote: Arc<dyn Store> = Arc::new(RemoteStore::new(&endpoint, &secret)?);
        calls::create(&remote, 0..count).await
    })?;

    let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = folder.join("relay.toml");
    std::fs::write(
        &config,
        format!(
            "listen = \"127.0.0.1:{port}\"\npop = {}\nrelay_id = 1\npop_secret = \"{POP_SECRET}\"\n\
             [state]\nendpoint = \"{endpoint}\"\nsecret = \"{STATE_SECRET}\"\n\
             [[ticket_keys]]\nkid = 0\nsecret = \"{TICKET_SECRET}\"\n",
            calls::POP.0
        ),
    )?;
    let mut command = Command::new(binary);
    command.arg("relay").arg("--config").arg(&config);
    let mut relay = Process::start("relay", command, cpu, &folder)?;
    served(&relay.line()?, "turn")?;
    Ok(Real { relay, store, port })
}

/// Where a role says that it serves.
fn served(line: &str, listener: &str) -> Result<String, Failure> {
    let ready: serde_json::Value = serde_json::from_str(line.strip_prefix("ready ").ok_or("not ready")?)?;
    Ok(ready.get(listener).and_then(serde_json::Value::as_str).ok_or("it does not say where it serves")?.to_owned())
}
