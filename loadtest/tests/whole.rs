//! The load test against a running Tandem, both as processes: it finds nothing where there is nothing, and what there is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::Dev;

/// Its exit code, and the report.
fn run(dev: &Dev, more: &[&str]) -> (i32, Value) {
    let few = ["--calls", "10", "--duration", "2s", "--ramp", "200ms", "--json", "-"];
    let output = dev.loadtest().args(few).args(more).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{words}{}", dev.log()));
    // Whatever a test is about, these calls were whole.
    assert_eq!(figure(&report, "calls_lost"), 0.0, "{words}");
    (output.status.code().unwrap(), report)
}

fn figure(report: &Value, name: &str) -> f64 {
    report["figures"][name].as_f64().unwrap()
}

fn file(dev: &Dev, name: &str, text: &str) -> String {
    let path = dev.folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn ten_calls_lose_nothing_and_a_second_run_with_the_same_seed_finds_the_same_accounts() {
    let dev = Dev::start().unwrap();
    for _ in 0..2 {
        let (code, report) = run(&dev, &["--budget", "planned", "--source", "127.8.0.1-127.8.0.3"]);
        let packets = &report["packets"];
        assert_eq!((code, &report["passed"]), (0, &Value::Bool(true)), "{packets}");
        // 2 s, 10 calls, both ways, 50 a second, and what was sent while the others were placed.
        let sent = packets["sent"].as_u64().unwrap();
        assert!((1_960..4_000).contains(&sent), "{sent}");
        assert_eq!(packets["received"], packets["sent"]);
        for nothing in ["lost", "duplicates", "corrupt", "invented", "leaked"] {
            assert_eq!(packets[nothing], 0, "{nothing}");
        }
        let each = report["each"].as_array().unwrap();
        assert!(each.iter().all(|call| call["received"].as_array().unwrap().len() == 2 && call["lost"].is_null()));
        let names: Vec<&str> =
            report["processes"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["loadtest", "state-server", "relay", "signaling", "router"]);
    }
}

#[test]
fn a_relay_that_is_killed_makes_gaps_that_are_put_down_to_it_and_loses_no_call() {
    let dev = Dev::start().unwrap();
    let faults = "[[fault]]\nat = \"700ms\"\nname = \"relay killed\"\npost = \"/v1/dev/processes/relay/kill\"\n\
                  body = { restart_after_ms = 150 }\n";
    let (code, report) = run(&dev, &["--faults", &file(&dev, "faults.toml", faults)]);
    assert_eq!(code, 0, "{}", report["verdict"]);
    let fault = &report["faults"][0];
    assert_eq!((&fault["name"], &fault["failed"], &fault["calls"]), (&"relay killed".into(), &Value::Null, &10.into()));
    assert!(fault["at_ms"].as_f64().unwrap() >= 700.0, "{fault}");
    // It was away for 150 ms, so that every call missed at least six packets each way.
    let gap = fault["gap_ms"]["p50"].as_f64().unwrap();
    assert!((150.0..1_500.0).contains(&gap), "{fault}");
    assert_eq!(figure(&report, "gap_ms_p50"), gap);
    assert!(figure(&report, "lost_packets") >= 120.0, "{}", report["packets"]);
    let blamed = report["gaps"].as_array().unwrap().iter().filter(|gap| gap["fault"] == 0);
    assert!(blamed.filter(|gap| gap["missing"].as_u64().unwrap() >= 6).count() >= 20, "{}", report["gaps"]);
    let relay = report["processes"].as_array().unwrap().iter().find(|one| one["name"] == "relay").unwrap();
    assert_eq!(relay["replaced"], 1);
}

#[test]
fn calls_whose_relay_stays_away_are_lost() {
    let dev = Dev::start().unwrap();
    let faults = "[[fault]]\nat = \"300ms\"\npost = \"/v1/dev/processes/relay/kill\"\n\
                  body = { restart_after_ms = 600000 }\n";
    let faults = file(&dev, "faults.toml", faults);
    let few = ["--calls", "3", "--duration", "1500ms", "--ramp", "0s", "--silence", "1s", "--json", "-"];
    let output = dev.loadtest().args(few).args(["--faults", &faults]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), figure(&report, "calls_lost")), (Some(1), 3.0), "{}", report["each"]);
    assert_eq!(report["each"][0]["lost"], "the caller heard nothing any more");
    // What never ended is as long as what was sent after it.
    assert!(figure(&report, "gap_ms_p50") >= 1_000.0, "{}", report["gaps"]);
}

#[test]
fn calls_that_are_held_are_accepted_by_the_timeline_and_their_callers_are_told_after_a_kill_in_between() {
    let dev = Dev::start().unwrap();
    let faults = "[[fault]]\nat = \"700ms\"\ndo = \"stop\"\ntarget = \"router\"\n\
                  [[fault]]\nat = \"750ms\"\ndo = \"accept\"\n\
                  [[fault]]\nat = \"1500ms\"\npost = \"/v1/dev/processes/signaling/kill\"\n\
                  body = { restart_after_ms = 0 }\n\
                  [[fault]]\nat = \"1600ms\"\ndo = \"cont\"\ntarget = \"router\"\n";
    let ids = dev.folder.path().join("ids");
    let faults = file(&dev, "faults.toml", faults);
    let more = ["--held", "4", "--duration", "5s", "--faults", &faults, "--ids", ids.to_str().unwrap()];
    let (code, report) = run(&dev, &more);
    assert_eq!(code, 0, "{} {}", report["verdict"], report["faults"]);
    assert_eq!((&report["calls"]["planned"], &report["calls"]["stood"]), (&14.into(), &14.into()));
    let held = &report["calls"]["held_ms"];
    assert_eq!((&held["count"], &report["calls"]["set_up_ms"]["count"]), (&4.into(), &10.into()));
    // Accepted at 750 ms, and nobody could be told before the router went on.
    assert!(held["p50"].as_f64().unwrap() >= 800.0, "{held}");
    let each = report["each"].as_array().unwrap();
    let written = std::fs::read_to_string(ids).unwrap();
    let others = each.iter().filter(|call| call["nth"].as_u64().unwrap() < 10);
    assert!(
        written.lines().count() == 10 && others.map(|call| call["id"].as_str().unwrap()).all(|id| written.contains(id))
    );
}

#[test]
fn held_calls_that_cannot_be_accepted_are_a_fault_that_was_not_done() {
    let dev = Dev::start().unwrap();
    // With the signaling node stopped nothing is accepted, so that the fault is not done in time.
    let faults = "[[fault]]\nat = \"600ms\"\ndo = \"stop\"\ntarget = \"signaling\"\n\
                  [[fault]]\nat = \"650ms\"\ndo = \"accept\"\n\
                  [[fault]]\nat = \"6500ms\"\ndo = \"cont\"\ntarget = \"signaling\"\n";
    let faults = file(&dev, "faults.toml", faults);
    let (code, report) = run(&dev, &["--held", "2", "--duration", "9s", "--faults", &faults]);
    assert_eq!((code, figure(&report, "faults_failed")), (1, 1.0));
    assert_eq!(report["faults"][1]["failed"], "0 of 2 held calls were accepted in time");
}

/// A token of a node in development.
fn token(dev: &Dev, account: &str, device: &str) -> String {
    let body = format!("{{\"account\":\"{account}\",\"device\":\"{device}\"}}");
    let answer = dev.ask("POST", "/v1/dev/tokens", "", &body).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str::<Value>(body).unwrap()["token"].as_str().unwrap().to_owned()
}

#[test]
fn devices_are_those_of_a_file_and_a_call_that_somebody_else_ended_is_lost() {
    let dev = Dev::start().unwrap();
    let names = [("a", "dev_a"), ("b", "dev_b"), ("c", "dev_c"), ("d", "dev_d")];
    let tokens = names.map(|(account, device)| token(&dev, account, device));
    let lines: String =
        names.iter().zip(&tokens).map(|((account, device), token)| format!("{account} {device} {token}\n")).collect();
    let mut command = dev.loadtest();
    command.args(["--tokens", &file(&dev, "tokens", &lines), "--calls", "2", "--duration", "1s", "--ramp", "0s"]);
    let mut child = command.args(["--json", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("2 of 2 calls stand")));
    let removed = dev.ask("DELETE", "/v1/devices/dev_d", &tokens[3], "").unwrap();
    assert!(removed.starts_with("HTTP/1.1 204"), "{removed}");
    // So that it can say all that it has to say.
    let words = std::thread::spawn(move || said.map(|line| line.unwrap() + "\n").collect::<String>());
    let mut json = String::new();
    child.stdout.take().unwrap().read_to_string(&mut json).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{}", words.join().unwrap());
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((figure(&report, "calls_lost"), &report["each"][0]["lost"]), (1.0, &Value::Null));
    let lost = report["each"][1]["lost"].as_str().unwrap();
    assert!(lost.contains("was told Kicked at"), "{lost}");
    for name in ["dev_a", tokens[0].as_str()] {
        assert!(!json.contains(name), "a report names nobody");
    }
}

#[test]
fn what_is_over_its_budget_fails_and_says_by_how_much() {
    let dev = Dev::start().unwrap();
    let budget = file(&dev, "budget.toml", "gap_ms_max = 0\n");
    let (code, report) = run(&dev, &["--duration", "500ms", "--budget", &budget]);
    assert_eq!((code, &report["passed"]), (1, &Value::Bool(false)));
    let failed: Vec<&Value> =
        report["verdict"].as_array().unwrap().iter().filter(|line| line["passed"] == false).collect();
    assert_eq!((failed.len(), &failed[0]["figure"]), (1, &Value::from("gap_ms_max")));
    assert!(failed[0]["measured"].as_f64().unwrap() >= 19.0, "{failed:?}");
}

#[test]
fn what_cannot_be_measured_is_neither_passed_nor_failed() {
    let run = |api: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-loadtest"));
        command.args(["--api", api, "--connect", "ws://127.0.0.1:9/v1/connect", "--calls", "1"]).args(more);
        command.output().unwrap().status.code().unwrap()
    };
    assert_eq!(run("http://127.0.0.1:9", &["--dev", "http://127.0.0.1:9"]), 2);
    assert_eq!(run("ftp://127.0.0.1", &[]), 2);
    assert_eq!(run("http://127.0.0.1:9", &["--budget", "no-such"]), 64);
    assert_eq!(run("http://127.0.0.1:9", &["--no-such-flag"]), 64);
}
