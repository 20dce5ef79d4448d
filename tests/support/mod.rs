//! Real processes of the built binary, and a small HTTP client to ask them with.
#![allow(dead_code, reason = "each test file uses its part of this")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tandem_net::clock;

mod ports;
#[allow(unused_imports, reason = "each test file uses its part of this")]
pub(crate) use ports::{free_tcp, free_udp};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Three secrets that nobody has drawn but this file.
pub(crate) const SECRETS: [&str; 3] = [
    "9f86d081884c7d659a2feaa0c55ad0159f86d081884c7d659a2feaa0c55ad015",
    "1b4f0e9851971998e732078544c96b361b4f0e9851971998e732078544c96b36",
    "60303ae22b998861bce3b28f33eec1be60303ae22b998861bce3b28f33eec1be",
];

/// The binary, in an environment without variables of ours.
pub(crate) fn tandem(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TANDEM_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it to its end. A process that does not end by itself is ended, and the test fails.
pub(crate) fn finished(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It says little, so its pipes do not fill while we wait.
    let status = wait(&mut child);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    Output { status, stdout, stderr }
}

fn wait(child: &mut Child) -> ExitStatus {
    let began = SystemTime::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed().unwrap() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the process does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process that runs until it is told to end, or the test does.
pub(crate) struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: Command, log: Option<&Path>) -> Self {
        command.stdout(Stdio::piped());
        if let Some(log) = log {
            command.stderr(std::fs::File::options().create(true).append(true).open(log).unwrap());
        }
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says; empty when it has ended.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// The JSON of its ready line.
    pub(crate) fn ready(&mut self) -> Value {
        let line = self.line();
        let json = line.strip_prefix("ready ").unwrap_or_else(|| panic!("it says {line:?}"));
        serde_json::from_str(json).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait(&mut self.child)
    }

    /// How it ends by itself, soon.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    pub(crate) fn killed(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = if headers.contains("host: ") { String::new() } else { format!("host: {address}\r\n") };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, "", "")
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    ask(address, "POST", path, "content-type: application/json\r\n", &body.to_string())
}

/// Asks again until it is so; what it is then.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = SystemTime::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed().unwrap() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// For what is about time: runs `test` again, twice at the most, when it fails and this machine stood still meanwhile for longer
/// than a relay bears (80 ms, docs/fleet.md). What it found then says nothing about us.
#[allow(clippy::print_stderr, reason = "says why a test ran once more")]
pub(crate) fn where_time_goes_on(test: impl Fn() + std::panic::RefUnwindSafe) {
    for attempt in 1.. {
        let (done, longest) = (AtomicBool::new(false), AtomicU64::new(0));
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                let pause = Duration::from_millis(10);
                while !done.load(Ordering::Relaxed) {
                    let began = clock::now().mono;
                    std::thread::sleep(pause);
                    longest.fetch_max(clock::now().mono.since(began).as_millis().saturating_sub(10), Ordering::Relaxed);
                }
            });
            let result = std::panic::catch_unwind(&test);
            done.store(true, Ordering::Relaxed);
            result
        });
        let still_ms = longest.into_inner();
        match result {
            Ok(()) => return,
            Err(_) if attempt < 3 && still_ms > 80 => {
                eprintln!("this machine stood still for {still_ms} ms: once more")
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Runs `act` on another thread and gives what comes out of it, if it does in time.
pub(crate) fn in_time<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(act()));
    receiver.recv_timeout(PATIENCE).expect("it never came")
}

/// Whether a process with this pid runs. One that has ended and was waited for by nobody does not.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // "pid (name) S …": the name may hold anything.
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).is_some_and(|state| state != 'Z')
}

/// A relay's config.
pub(crate) fn relay_toml(listen: SocketAddr, admin: SocketAddr, state: SocketAddr) -> String {
    let [state_secret, pop_secret, ticket_secret] = SECRETS;
    format!(
        "listen = \"{listen}\"\nadmin = \"{admin}\"\npop = 1\nrelay_id = 1\npop_secret = \"{pop_secret}\"\n\
         [state]\nendpoint = \"http://{state}\"\nsecret = \"{state_secret}\"\n\
         [[ticket_keys]]\nkid = 0\nsecret = \"{ticket_secret}\"\n"
    )
}

/// A load balancer's config.
pub(crate) fn lb_toml(listen: SocketAddr, admin: SocketAddr, state: SocketAddr) -> String {
    format!(
        "listen = \"{listen}\"\nadmin = \"{admin}\"\npop = 1\n[state]\nendpoint = \"http://{state}\"\nsecret = \"{}\"\n",
        SECRETS[0]
    )
}

/// A state server's config.
pub(crate) fn state_toml(listen: SocketAddr, data: &Path) -> String {
    format!(
        "listen = \"{listen}\"\nadmin = \"127.0.0.1:0\"\ndata = \"{}\"\npop = 1\nsecret = \"{}\"\n",
        data.display(),
        SECRETS[0]
    )
}
