//! `cargo xtask interop`: calls between browsers of different makers, and the device API under schemathesis. Apart from
//! `test`, since Firefox and schemathesis are large.
//!
//! Decides what is needed and how the API is asked. Leaves the calls to `e2e/`, and what is asked to schemathesis.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::child::Child;
use crate::{Trouble, place, tools, web};

/// What fuzzes an API by its OpenAPI document (PyPI).
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// What must hold of each answer; whether a request that the document allows is refused is the API's own business.
const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth";
/// Rates that a fuzzer would only run into.
const RATES: [&str; 7] = [
    "registrations_per_account",
    "removals_per_device",
    "lookups_per_account",
    "lookups_per_source",
    "calls_per_account",
    "calls_per_source",
    "signals_per_device",
];

/// Sees to both browsers and schemathesis, builds, and runs the calls and the requests.
pub(crate) fn run() -> Result<(), Trouble> {
    tools::see_to(&[tools::PROTOC, tools::NODE, tools::NPM, tools::CHROMIUM, tools::FIREFOX, tools::PYTHON])?;
    web::packages()?;
    web::build()?;
    Child::cargo("build", &[]).run()?;
    let browsers = Child::new("npm", &["run", "interop", "-w", "e2e"]).env("TANDEM_BIN", place::tandem("debug")).run();
    let api = api();
    browsers.and(api)
}

fn api() -> Result<(), Trouble> {
    let venv = place::target().join("schemathesis");
    let program = venv.join("bin/schemathesis");
    if !program.is_file() {
        let folder = venv.display().to_string();
        Child::new("python3", &["-m", "venv", &folder]).run()?;
        Child::new(venv.join("bin/pip"), &["install", "--quiet", SCHEMATHESIS]).run()?;
    }
    let data = place::target().join("interop");
    let _ = std::fs::remove_dir_all(&data);
    let mut dev = Command::new(place::tandem("debug"));
    dev.args(["dev", "--json", "--http", "127.0.0.1:0", "--turn", "127.0.0.1:0", "--data-dir"]).arg(&data);
    for rate in RATES {
        dev.args(["--set", &format!("signaling.limits.{rate}={{per_minute=1000000,burst=100000}}")]);
    }
    let mut dev = dev.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let asked = ask(&mut dev, &program.display().to_string());
    // It ends its children with itself.
    let _ = dev.kill();
    let _ = dev.wait();
    asked
}

fn ask(dev: &mut std::process::Child, schemathesis: &str) -> Result<(), Trouble> {
    let output = dev.stdout.take().ok_or_else(|| Trouble::Failed("tandem dev has no stdout".to_owned()))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).map_err(failed)?;
    let said: Value = serde_json::from_str(&line).map_err(failed)?;
    let api = said.get("api").and_then(Value::as_str).ok_or_else(|| Trouble::Failed("no api".to_owned()))?;
    let token = token(api)?;
    let (document, header) = (format!("{api}/openapi.json"), format!("Authorization: Bearer {token}"));
    Child::new(
        schemathesis,
        &["run", &document, "-H", &header, "--checks", CHECKS, "--max-examples", "200", "--no-color"],
    )
    .run()
}

/// A token of a device that is in no example, so that removing those leaves it good.
fn token(api: &str) -> Result<String, Trouble> {
    let address = api.trim_start_matches("http://");
    let body = r#"{"account":"alice","device":"dev_fuzz"}"#;
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    let request = format!(
        "POST /v1/dev/tokens HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    let said: Value = serde_json::from_str(body).map_err(failed)?;
    said.get("token").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| Trouble::Failed("no token".to_owned()))
}

fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::Failed(error.to_string())
}
