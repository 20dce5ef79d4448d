//! `cargo xtask interop`: calls between browsers of different makers, and the device API under schemathesis. Apart from
//! `test`, since Firefox and schemathesis are large.
//!
//! Decides what is needed and how the API is asked. Leaves the calls to `e2e/`, and what is asked to schemathesis.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

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
    tools::see_to(&[
        tools::PROTOC,
        tools::PROTOS,
        tools::NODE,
        tools::NPM,
        tools::CHROMIUM,
        tools::FIREFOX,
        tools::PYTHON,
    ])?;
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
    let strange = token(api, "alice", "dev_fuzz")?;
    run_on(api, schemathesis, &strange, &[])?;
    // Most of what is drawn at random is not there. So once more with a call that is: first what lets it go on.
    let call = call(api)?;
    let config = place::target().join("interop/schemathesis.toml");
    std::fs::write(&config, format!("[parameters]\n\"path.call\" = \"{call}\"\n")).map_err(failed)?;
    let config = config.display().to_string();
    let caller = token(api, "alice", "dev_caller")?;
    for which in ["--exclude-path-regex", "--include-path-regex"] {
        run_on(api, schemathesis, &caller, &["--config-file", &config, which, "/calls/.*/(leave|end)$"])?;
    }
    Ok(())
}

fn run_on(api: &str, schemathesis: &str, token: &str, more: &[&str]) -> Result<(), Trouble> {
    let (document, header) = (format!("{api}/openapi.json"), format!("Authorization: Bearer {token}"));
    let (config, more) = more.split_at(more.len().min(2));
    let run = ["run", &document, "-H", &header, "--checks", CHECKS, "--max-examples", "200", "--no-color"];
    Child::new(schemathesis, &[config, &run, more].concat()).run()
}

/// A token of a device that is in no example, so that removing those leaves it good.
fn token(api: &str, account: &str, device: &str) -> Result<String, Trouble> {
    let said = request(api, "POST /v1/dev/tokens", "", &json!({ "account": account, "device": device }))?;
    text(&said, "token")
}

/// A call between two devices, answered.
fn call(api: &str) -> Result<String, Trouble> {
    let (key, signature) = ("A".repeat(43) + "=", "A".repeat(86) + "==");
    let keys = json!({
        "identity": { "sign": key, "agree": key },
        "signed_prekey": { "id": 1, "key": key, "signature": signature },
    });
    let (caller, callee) = (token(api, "alice", "dev_caller")?, token(api, "robert", "dev_callee")?);
    request(api, "PUT /v1/devices/dev_caller", &caller, &keys)?;
    request(api, "PUT /v1/devices/dev_callee", &callee, &keys)?;
    let body = json!({ "to": ["robert"], "kind": "one_to_one", "media": "audio", "sealed": { "dev_callee": "QUFB" } });
    let call = text(&request(api, "POST /v1/calls", &caller, &body)?, "call_id")?;
    request(api, &format!("POST /v1/calls/{call}/accept"), &callee, &json!({ "sealed": "QUFB" }))?;
    Ok(call)
}

fn request(api: &str, line: &str, token: &str, body: &Value) -> Result<Value, Trouble> {
    let address = api.trim_start_matches("http://");
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    let request = format!(
        "{line} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    serde_json::from_str(body).map_err(failed)
}

fn text(said: &Value, name: &str) -> Result<String, Trouble> {
    let text = said.get(name).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| Trouble::Failed(format!("no {name} in {said}")))
}

fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::Failed(error.to_string())
}
