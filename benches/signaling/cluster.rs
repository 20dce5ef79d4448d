//! The processes that are measured, with configs of their own in a folder that goes with them.
//!
//! Its secrets are constants: it listens on loopback and lives as long as the benchmark.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tandem_auth::{Claims, Grant, TokenKey};
use tandem_state_client::RemoteStore;
use tandem_wire::party::Party;
use tandem_wire::redact::Secret;
use tandem_wire::units::Span;

use crate::{ACCOUNTS, AT_ONCE, Failure, http};

const TOKEN_SECRET: &str = "4f2c1e9a7b6d5083c2f1e0d9b8a79685";
const STATE_SECRET: &str = "1b4f0e9851971998e732078544c96b36";

/// A process that ends with us.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// State server, signaling and router.
pub(crate) struct Cluster {
    pub(crate) api: SocketAddr,
    pub(crate) connect: SocketAddr,
    pub(crate) store: RemoteStore,
    pub(crate) router: Process,
    server: Process,
    signaling: Process,
    _folder: tempfile::TempDir,
    key: TokenKey,
}

fn free() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn start(folder: &Path, role: &str, config: &str) -> Result<Process, Failure> {
    let path = folder.join(format!("{role}.toml"));
    std::fs::write(&path, config)?;
    let binary = std::env::var("TANDEM_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tandem").to_owned());
    let log = std::fs::File::create(folder.join(format!("{role}.log")))?;
    let mut child = Command::new(binary)
        .args([role, "--config"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let output = child.stdout.take().ok_or("no pipe")?;
    let mut line = String::new();
    if BufReader::new(output).read_line(&mut line)? == 0 {
        let said = std::fs::read_to_string(folder.join(format!("{role}.log")))?;
        return Err(format!("{role} has ended: {said}").into());
    }
    Ok(Process(child))
}

impl Cluster {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let (state, api, connect) = (free()?, free()?, free()?);
        let data = folder.path().join("state.redb");
        let devices = folder.path().join("devices.redb");
        let shared = format!(
            "[state]\nendpoint = \"http://{state}\"\nsecret = \"{STATE_SECRET}\"\n\
             [[api_keys]]\nid = \"bench\"\nsecret = \"{TOKEN_SECRET}\"\n"
        );
        let server = start(
            folder.path(),
            "state-server",
            &format!(
                "listen = \"{state}\"\npop = 1\nsecret = \"{STATE_SECRET}\"\ndata = {:?}\n",
                data.display().to_string()
            ),
        )?;
        let rate = "{ per_minute = 100000000, burst = 1000000 }";
        let signaling = start(
            folder.path(),
            "signaling",
            &format!(
                "listen = \"{api}\"\npop = 1\npop_secret = \"9f86d081884c7d659a2feaa0c55ad015\"\ndevices = {:?}\n\
                 relays = [{{ turn = \"turn:127.0.0.1:3478\", stun = \"stun:127.0.0.1:3478\" }}]\n\
                 ticket_keys = [{{ kid = 0, secret = \"60303ae22b998861bce3b28f33eec1be\" }}]\n\
                 [limits]\ncalls_per_account = {rate}\ncalls_per_source = {rate}\nrings_per_account = {rate}\n\
                 live_calls_per_account = 1000000\nlive_rings_per_account = 1000000\nlive_calls = 10000000\n{shared}",
                devices.display().to_string()
            ),
        )?;
        let router = start(
            folder.path(),
            "router",
            &format!("listen = \"{connect}\"\nconnections_per_source = 20000\n{shared}"),
        )?;
        let store = RemoteStore::new(&format!("http://{state}"), &Secret::new(STATE_SECRET.into()))?;
        let key = TokenKey::hs256(&Secret::new(TOKEN_SECRET.into()))?;
        let cluster = Self { api, connect, store, router, server, signaling, _folder: folder, key };
        cluster.register().await?;
        Ok(cluster)
    }

    /// Seconds of CPU that each process has used so far: state server, signaling, router, and this one.
    pub(crate) fn cpu(&self) -> Result<[f64; 4], Failure> {
        let pids = [self.server.pid(), self.signaling.pid(), self.router.pid(), std::process::id()];
        let mut used = [0.0; 4];
        for (used, pid) in used.iter_mut().zip(pids) {
            let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name may have spaces; utime and stime are the twelfth and thirteenth after it (proc_pid_stat(5)).
            let fields: Vec<&str> = text.rsplit_once(')').ok_or("no name")?.1.split_whitespace().collect();
            let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
            *used = ticks / rustix::param::clock_ticks_per_second() as f64;
        }
        Ok(used)
    }

    /// A token of an account's one device.
    pub(crate) fn token(&self, account: &str) -> Result<String, Failure> {
        let now = tandem_net::clock::now().wall;
        let claims = Claims {
            party: Party { account: account.parse()?, device: format!("dev_{account}").parse()? },
            grant: Grant { call: true, admin: None },
            issued: Some(now.as_secs()),
            expires: now.after(Span::from_secs(3_600)),
        };
        Ok(self.key.mint("bench", &claims).ok_or("no token")?)
    }

    async fn register(&self) -> Result<(), Failure> {
        let (key, signature) = ("A".repeat(43) + "=", "A".repeat(86) + "==");
        let body = format!(
            "{{\"identity\":{{\"sign\":\"{key}\",\"agree\":\"{key}\"}},\
             \"signed_prekey\":{{\"id\":1,\"key\":\"{key}\",\"signature\":\"{signature}\"}}}}"
        );
        let names: Vec<String> = (0..ACCOUNTS).flat_map(|n| [format!("caller{n}"), format!("callee{n}")]).collect();
        for chunk in names.chunks(AT_ONCE) {
            let mut tasks = tokio::task::JoinSet::new();
            for name in chunk {
                let (api, token, path) = (self.api, self.token(name)?, format!("/v1/devices/dev_{name}"));
                let body = body.clone();
                tasks.spawn(async move {
                    let mut client = http::Client::connect(api).await?;
                    client.ask("PUT", &path, &token, &body).await
                });
            }
            while let Some(done) = tasks.join_next().await {
                let (status, body) = done??;
                if status != 200 {
                    return Err(format!("a device could not be registered: {status} {body}").into());
                }
            }
        }
        Ok(())
    }
}
