//! `tandem dev` and the load test, as processes.
#![allow(dead_code, reason = "the tests and the bench each use their part of this")]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// The binary that is tested: the one that is named, or the one beside ours, which `cargo build` makes.
pub(crate) fn tandem() -> Result<PathBuf, Box<dyn Error>> {
    let beside = Path::new(env!("CARGO_BIN_EXE_tandem-loadtest")).with_file_name("tandem");
    let path = std::env::var_os("TANDEM_BIN").map_or(beside, PathBuf::from);
    if path.is_file() { Ok(path) } else { Err("there is no tandem to test: `cargo build` makes one".into()) }
}

/// All processes of a PoP. They end with it.
pub(crate) struct Dev {
    child: Child,
    _output: BufReader<ChildStdout>,
    said: Value,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dev {
    /// Starts it; it serves then.
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        Self::start_with(&[])
    }

    /// The same, with more on its command line.
    pub(crate) fn start_with(more: &[&str]) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(tandem()?);
        command.args(["dev", "--json", "--http", "127.0.0.1:0", "--turn", "127.0.0.1:0", "--data-dir"]);
        command.arg(folder.path().join("data")).args(more).stdin(Stdio::null()).stdout(Stdio::piped());
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut child = command.stderr(log).spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let said = serde_json::from_str(&line);
        let dev = Self { child, _output: output, said: said.as_ref().cloned().unwrap_or_default(), folder };
        said.map_err(|_| format!("tandem dev: {}", dev.log()))?;
        Ok(dev)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The load test, pointed at it.
    pub(crate) fn loadtest(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-loadtest"));
        for (flag, key) in [("--api", "api"), ("--connect", "connect"), ("--dev", "page")] {
            command.arg(flag).arg(self.said.get(key).and_then(Value::as_str).unwrap_or_default());
        }
        command.stdin(Stdio::null());
        command
    }

    /// Asks signaling; status line, headers and body as they came.
    pub(crate) fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Result<String, Box<dyn Error>> {
        let api = self.said.get("api").and_then(Value::as_str).unwrap_or_default();
        ask(api, method, path, token, body)
    }

    /// The pid of `tandem dev` itself.
    pub(crate) fn own_pid(&self) -> u32 {
        self.child.id()
    }

    /// The pid of a process, by its name.
    pub(crate) fn pid(&self, name: &str) -> Option<u64> {
        let processes = self.said.get("processes")?.as_array()?;
        processes.iter().find(|process| process.get("name").is_some_and(|other| other == name))?.get("pid")?.as_u64()
    }
}

/// Asks whoever listens there; status line, headers and body as they came.
pub(crate) fn ask(at: &str, method: &str, path: &str, token: &str, body: &str) -> Result<String, Box<dyn Error>> {
    let api = at.trim_start_matches("http://");
    let mut stream = TcpStream::connect(api)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
