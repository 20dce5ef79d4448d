//! The timeline of faults: what is done when, and which fault a gap is put down to.
//!
//! Decides how the file reads and who is to blame. Leaves doing it to [`crate::fault`].

use serde::Deserialize;
use serde_json::Value;
use tandem_wire::units::{Mono, Span};

use crate::limits;
use crate::meter::Gap;
use crate::plan::span;

/// One thing that is done to what is tested.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// How long after the calls stand.
    pub at: Span,
    /// What it is called in the report.
    pub name: String,
    /// What is done.
    pub act: Act,
}

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A signal to a process, by the name it is watched under or by its pid.
    Signal(Kind, String),
    /// All held calls are accepted.
    Accept,
    /// A command that must end well.
    Exec(Vec<String>),
    /// A request to the fault panel of `tandem dev`.
    Post {
        /// As in `/v1/dev/processes/relay/kill`.
        path: String,
        /// The request's body.
        body: Value,
    },
}

/// Which signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Cont,
    /// SIGTERM.
    Term,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Cont => "cont",
            Self::Term => "term",
        }
    }
}

/// The words after `do`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Do {
    Signal(Kind),
    Held(Held),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Held {
    Accept,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    fault: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    at: String,
    name: Option<String>,
    #[serde(rename = "do")]
    kind: Option<Do>,
    target: Option<Value>,
    exec: Option<Vec<String>>,
    post: Option<String>,
    body: Option<Value>,
}

/// Reads a timeline, TOML or JSON: a list `fault` of rows with `at` and one of `do` and `target`, `exec`, `post` and perhaps
/// `body`. In order of time.
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub fn read(text: &str) -> Result<Vec<Fault>, String> {
    let file: File = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        toml::from_str(text).map_err(|error| error.to_string())?
    };
    let rows = file.fault.into_iter().enumerate();
    let faults = rows.map(|(index, row)| fault(row).map_err(|error| format!("fault {}: {error}", index + 1)));
    let mut faults = faults.collect::<Result<Vec<_>, _>>()?;
    faults.sort_by_key(|fault| fault.at);
    Ok(faults)
}

fn fault(row: Row) -> Result<Fault, String> {
    let at = span(&row.at)?;
    let (shown, act) = match (row.kind, row.target, row.exec, row.post, row.body) {
        (Some(Do::Held(Held::Accept)), None, None, None, None) => ("accept".to_owned(), Act::Accept),
        (Some(Do::Signal(kind)), Some(target), None, None, None) => {
            let target = match target {
                Value::String(name) => name,
                Value::Number(pid) => pid.to_string(),
                _ => return Err("target is a name or a pid".to_owned()),
            };
            (format!("{} {target}", kind.word()), Act::Signal(kind, target))
        }
        (None, None, Some(words), None, None) if !words.is_empty() => (words.join(" "), Act::Exec(words)),
        (None, None, None, Some(path), body) if path.starts_with('/') => (
            format!("post {path}"),
            Act::Post { path, body: body.unwrap_or_else(|| Value::Object(Default::default())) },
        ),
        _ => {
            return Err(
                "has one of: do and target; do = \"accept\"; exec; post with a path, and perhaps body".to_owned()
            );
        }
    };
    Ok(Fault { at, name: row.name.unwrap_or(shown), act })
}

/// The fault that a gap is put down to, of those that began at these times (in order): the last one before the gap's end, if
/// the gap began within five seconds after it.
#[must_use]
pub fn blamed(faults: &[Mono], gap: &Gap) -> Option<usize> {
    let last = faults.iter().rposition(|at| *at <= gap.end())?;
    let reaches = faults.get(last)?.after(limits::FAULT_REACHES);
    (gap.start <= reaches).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_is_read_from_toml_and_json_alike_and_put_in_order() {
        let toml = "[[fault]]\nat = \"2s\"\ndo = \"kill\"\ntarget = \"relay-1\"\n\
                    [[fault]]\nat = \"500ms\"\nexec = [\"ip\", \"link\", \"set\", \"x\", \"down\"]\n\
                    [[fault]]\nat = \"3s\"\nname = \"relay gone\"\npost = \"/v1/dev/processes/relay/kill\"\n\
                    body = { restart_after_ms = 100 }\n[[fault]]\nat = \"1m\"\ndo = \"term\"\ntarget = 77\n";
        let faults = read(toml).unwrap();
        let names: Vec<&str> = faults.iter().map(|fault| fault.name.as_str()).collect();
        assert_eq!(names, ["ip link set x down", "kill relay-1", "relay gone", "term 77"]);
        assert_eq!(faults[1].act, Act::Signal(Kind::Kill, "relay-1".to_owned()));
        assert_eq!(faults[3].at, Span::from_secs(60));
        let json = r#"{"fault":[{"at":"2s","do":"kill","target":"relay-1"},
            {"at":"500ms","exec":["ip","link","set","x","down"]},
            {"at":"3s","name":"relay gone","post":"/v1/dev/processes/relay/kill","body":{"restart_after_ms":100}},
            {"at":"1m","do":"term","target":77}]}"#;
        assert_eq!(read(json).unwrap(), faults);
    }

    #[test]
    fn a_row_that_says_too_little_or_too_much_is_named() {
        for row in [
            "at = \"2s\"",
            "at = \"2s\"\ndo = \"kill\"",
            "at = \"2s\"\ndo = \"maim\"\ntarget = \"x\"",
            "at = \"2s\"\ndo = \"kill\"\ntarget = \"x\"\nexec = [\"true\"]",
            "at = \"2s\"\nexec = []",
            "at = \"2s\"\npost = \"http://elsewhere/\"",
            "at = \"soon\"\nexec = [\"true\"]",
            "at = \"2s\"\nexec = [\"true\"]\nlater = 1",
        ] {
            let error = read(&format!("[[fault]]\n{row}\n")).unwrap_err();
            assert!(error.contains("fault 1") || error.contains("line"), "{row}: {error}");
        }
    }

    #[test]
    fn a_gap_is_put_down_to_the_last_fault_before_its_end_within_five_seconds() {
        let at = |ms| Mono::default().after(Span::from_millis(ms));
        let gap = |from, to: u64| Gap {
            start: at(from),
            length: Span::from_millis(to - from),
            missing: 0,
            sent_late: Span::ZERO,
        };
        let faults = [at(10_000), at(12_000)];
        // The last packet before a fault came just before it.
        assert_eq!(blamed(&faults, &gap(9_985, 10_050)), Some(0));
        assert_eq!(blamed(&faults, &gap(11_990, 12_010)), Some(1));
        assert_eq!(blamed(&faults, &gap(9_000, 9_999)), None);
        assert_eq!(blamed(&faults, &gap(17_000, 17_100)), Some(1));
        assert_eq!(blamed(&faults, &gap(17_001, 17_100)), None);
        assert_eq!(blamed(&[], &gap(1, 2)), None);
    }
}
