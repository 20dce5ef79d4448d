//! All processes of a PoP, and devices of the SDK that keep what they know.
#![allow(dead_code, reason = "each test file uses its part of this")]
#![allow(clippy::print_stderr, reason = "shown with a test that failed")]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tandem_client::{
    Call, Custody, DevTokens, Device, Keyring, Media, Party, Reason, Setup, Store, TurnTransport, VirtualAddr, Wall,
};
use tokio::time::timeout;

use crate::support::{PATIENCE, Running, get, post, tandem, until};

/// Where one device keeps its keys.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<Option<Vec<u8>>>>);

impl Store for Shelf {
    fn load(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn save(&mut self, bytes: &[u8], _: bool) -> io::Result<()> {
        *self.0.lock().unwrap() = Some(bytes.to_vec());
        Ok(())
    }
}

pub(crate) fn now() -> Wall {
    Wall::from_millis(UNIX_EPOCH.elapsed().unwrap().as_millis() as u64)
}

/// All processes of a PoP.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    process: Running,
    pub(crate) said: Value,
    http: SocketAddr,
    shelves: Mutex<HashMap<Party, Shelf>>,
}

/// What its processes logged last is what one wants to know of a test that failed.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(80)..].join("\n"));
        }
    }
}

/// What must come, comes soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it does not come")
}

pub(crate) fn party(account: &str, device: &str) -> Party {
    Party { account: account.parse().unwrap(), device: device.parse().unwrap() }
}

impl World {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(more: &[&str]) -> Self {
        Self::start_under(&[], more)
    }

    /// As what another program runs, which is told the folder of its data as well: `{data}`.
    pub(crate) fn start_under(program: &[&str], more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let words = ["dev", "--json", "--http", "127.0.0.1:0", "--turn", "127.0.0.1:0", "--data-dir"];
        let words: Vec<&str> = words.into_iter().chain([data.to_str().unwrap()]).chain(more.iter().copied()).collect();
        let mut command = tandem(&words);
        if let Some((program, arguments)) = program.split_first() {
            let arguments = arguments.iter().map(|word| word.replace("{data}", data.to_str().unwrap()));
            let mut outer = std::process::Command::new(program);
            outer.args(arguments).arg(command.get_program()).args(command.get_args());
            command = outer;
        }
        let mut process = Running::start(command, Some(&folder.path().join("log")));
        let line = process.line();
        let said: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{line:?} {}", std::fs::read_to_string(folder.path().join("log")).unwrap()));
        let page = said["page"].as_str().unwrap();
        let http = page.strip_prefix("http://").unwrap().strip_suffix('/').unwrap().parse().unwrap();
        Self { folder, process, said, http, shelves: Mutex::default() }
    }

    pub(crate) fn api(&self) -> &str {
        self.said["api"].as_str().unwrap()
    }

    pub(crate) fn setup(&self, account: &str, device: &str) -> Setup {
        self.setup_at(self.api(), account, device)
    }

    /// One that asks at another address than the others.
    pub(crate) fn setup_at(&self, api: &str, account: &str, device: &str) -> Setup {
        let party = party(account, device);
        let shelf = self.shelves.lock().unwrap().entry(party.clone()).or_default().clone();
        Setup {
            api: api.to_owned(),
            connect: self.said["connect"].as_str().unwrap().to_owned(),
            tokens: Arc::new(DevTokens::new(self.api(), party.clone()).unwrap()),
            keyring: Keyring::open(party, Custody::Device, Box::new(shelf), now()).unwrap(),
        }
    }

    /// A device that has lost what it knew, or never was.
    pub(crate) fn forget(&self, account: &str, device: &str) {
        self.shelves.lock().unwrap().remove(&party(account, device));
    }

    /// A device that is registered, connected and up to date.
    pub(crate) async fn device(&self, account: &str, device: &str) -> Device {
        let device = Device::start(self.setup(account, device)).await.unwrap();
        soon(device.ready()).await;
        device
    }

    /// Another device of the same account, which the first one vouches for.
    pub(crate) async fn second(&self, first: &Device, device: &str) -> Device {
        let second = self.device(first.party().account.as_str(), device).await;
        let pending = first.pending().await.unwrap();
        first.endorse(pending.iter().find(|pending| pending.party == *second.party()).unwrap()).await.unwrap();
        second
    }

    pub(crate) fn child(&self, name: &str) -> Value {
        let processes = get(self.http, "/v1/dev/processes").json();
        let items = processes["items"].as_array().unwrap();
        items.iter().find(|item| item["name"] == name).unwrap().clone()
    }

    /// The processes, by name and pid.
    pub(crate) fn pids(&self) -> Vec<(&'static str, u64)> {
        let children = ["state-server", "relay", "signaling", "router"]
            .map(|name| (name, self.child(name)["pid"].as_u64().unwrap()));
        children.into_iter().chain([("dev", u64::from(self.process.pid()))]).collect()
    }

    /// The folder of its data, as its processes see it.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        let path = self.folder.path().join("data");
        std::path::Path::new(&format!("/proc/{}/root", self.process.pid())).join(path.strip_prefix("/").unwrap())
    }

    /// Ends all of it; what it kept stays for as long as the world does.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.process.end()
    }

    /// What a device keeps.
    pub(crate) fn kept(&self, account: &str, device: &str) -> Value {
        let shelves = self.shelves.lock().unwrap();
        let shelf = shelves[&party(account, device)].0.lock().unwrap();
        serde_json::from_slice(shelf.as_ref().unwrap()).unwrap()
    }

    /// Stops a process with SIGSTOP, or lets it go on.
    pub(crate) fn pause(&self, name: &str, paused: bool) {
        let order = if paused { "pause" } else { "resume" };
        let answer = post(self.http, &format!("/v1/dev/processes/{name}/{order}"), &json!({}));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// SIGKILLs a process. `for_ms`: for how long it stays away.
    pub(crate) fn kill(&self, name: &str, for_ms: u64) -> Killed<'_> {
        let answer = post(self.http, &format!("/v1/dev/processes/{name}/kill"), &json!({ "restart_after_ms": for_ms }));
        assert_eq!(answer.status, 200, "{answer:?}");
        let killed = Killed { world: self, name: name.to_owned(), pid: answer.json()["pid"].as_u64().unwrap() };
        until(&format!("{name} is down"), || (self.child(name)["pid"] != killed.pid).then_some(()));
        killed
    }

    /// A call that runs, with packets going both ways.
    pub(crate) async fn pair(&self) -> Pair {
        let (alice, bob) = tokio::join!(self.device("alice", "dev_a"), self.device("bob", "dev_b"));
        let call = alice.place(&bob.party().account, Media::Video).await.unwrap();
        let incoming = soon(bob.incoming()).await.unwrap();
        let other = incoming.accept().await.unwrap();
        let (a, b) = open(&call, &other).await;
        let pair = Pair { alice, bob, call, other, a, b };
        pair.talk("at first").await;
        pair
    }
}

/// A process that was killed.
pub(crate) struct Killed<'a> {
    world: &'a World,
    name: String,
    pid: u64,
}

impl Killed<'_> {
    pub(crate) fn is_away(&self) -> bool {
        self.world.child(&self.name)["pid"].is_null()
    }

    pub(crate) fn back(&self) {
        until(&format!("{} is back", self.name), || {
            let child = self.world.child(&self.name);
            (child["state"] == "ready" && child["pid"] != self.pid).then_some(())
        });
    }
}

pub(crate) struct Pair {
    pub(crate) alice: Device,
    pub(crate) bob: Device,
    pub(crate) call: Call,
    pub(crate) other: Call,
    pub(crate) a: TurnTransport,
    pub(crate) b: TurnTransport,
}

impl Pair {
    /// Packets go both ways.
    pub(crate) async fn talk(&self, word: &str) {
        let (there, back) = (format!("{word}, there"), format!("{word}, back"));
        tokio::join!(pass(&self.a, &self.b, &there), pass(&self.b, &self.a, &back));
    }

    pub(crate) fn places(&self) -> [Option<VirtualAddr>; 2] {
        [*self.a.moves().borrow(), *self.b.moves().borrow()]
    }

    pub(crate) async fn hung_up(&self) {
        self.call.hang_up().await.unwrap();
        assert_eq!(soon(self.call.ended()).await, Reason::Hangup);
        assert_eq!(soon(self.other.ended()).await, Reason::Hangup);
    }
}

pub(crate) async fn open(call: &Call, other: &Call) -> (TurnTransport, TurnTransport) {
    match timeout(PATIENCE, async { tokio::try_join!(call.transport(), other.transport()) }).await {
        Ok(opened) => opened.unwrap(),
        Err(_) => {
            let had = async |call: &Call| timeout(PATIENCE / 10, call.allocation()).await.map(|had| had.map(|_| ()));
            let sides =
                [(call.state().borrow().clone(), had(call).await), (other.state().borrow().clone(), had(other).await)];
            panic!("no transport comes: {sides:#?}");
        }
    }
}

/// Says it until it is heard: packets may be lost.
pub(crate) async fn pass(from: &TurnTransport, to: &TurnTransport, word: &str) {
    soon(async {
        loop {
            from.send(word.as_bytes()).await.unwrap();
            while let Ok(packet) = timeout(Duration::from_millis(20), to.recv()).await {
                if packet.unwrap() == word.as_bytes() {
                    return;
                }
            }
        }
    })
    .await;
}
