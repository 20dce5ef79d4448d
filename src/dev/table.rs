//! What is known of each child process, as the page and the harness see it.
//!
//! Decides what the states mean and how long an outage was. Leaves starting and killing to the keepers.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// What a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Etcd,
    StateServer,
    /// The state server that keeps the directory of devices.
    Directory,
    Relay,
    Lb,
    Signaling,
    Router,
}

/// A child of `tandem dev`: what it is, and its number where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) kind: Kind,
    number: Option<u8>,
}

impl Kind {
    /// The subcommand that it is.
    pub(crate) const fn subcommand(self) -> &'static str {
        match self {
            Self::Directory => Self::StateServer.as_str(),
            kind => kind.as_str(),
        }
    }

    /// As its processes are called.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::StateServer => "state-server",
            Self::Directory => "directory",
            Self::Relay => "relay",
            Self::Lb => "lb",
            Self::Signaling => "signaling",
            Self::Router => "router",
        }
    }
}

impl Name {
    /// The only one of its kind.
    pub(crate) const fn only(kind: Kind) -> Self {
        Self { kind, number: None }
    }

    /// One of several, counted from 1.
    pub(crate) const fn one_of(kind: Kind, number: u8) -> Self {
        Self { kind, number: Some(number) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{}-{number}", self.kind.as_str()),
            None => f.write_str(self.kind.as_str()),
        }
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a child stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It runs and has not said that it serves.
    Starting,
    /// It serves.
    Ready,
    /// It does not run.
    Down,
    /// It is stopped by SIGSTOP.
    Paused,
}

/// One child. Times are wall milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    pub(crate) name: Name,
    pub(crate) pid: Option<u32>,
    pub(crate) state: State,
    /// How often it was started.
    pub(crate) starts: u32,
    pub(crate) started_at_ms: u64,
    /// Since when it serves; of this start.
    pub(crate) ready_at_ms: Option<u64>,
    /// When it was last killed, ended or was paused.
    pub(crate) down_at_ms: Option<u64>,
    /// From the last time that it was down to when it served again.
    pub(crate) outage_ms: Option<u64>,
    /// It ended before it ever served: there is something wrong that a restart does not mend.
    #[serde(skip)]
    pub(crate) failed: bool,
    /// Where it serves, by its own words when it last became ready: addresses by their names. Nothing until then.
    pub(crate) serves: Option<serde_json::Value>,
}

impl Process {
    pub(crate) const fn new(name: Name) -> Self {
        Self {
            name,
            pid: None,
            state: State::Down,
            starts: 0,
            started_at_ms: 0,
            ready_at_ms: None,
            down_at_ms: None,
            outage_ms: None,
            failed: false,
            serves: None,
        }
    }

    pub(crate) fn started(&mut self, pid: Option<u32>, now_ms: u64) {
        self.pid = pid;
        self.state = State::Starting;
        self.starts += 1;
        self.started_at_ms = now_ms;
        self.ready_at_ms = None;
    }

    pub(crate) fn ready(&mut self, now_ms: u64, serves: serde_json::Value) {
        self.serves = Some(serves);
        self.ready_at_ms = Some(now_ms);
        // One that was paused while its line was on its way serves when it is resumed.
        if self.state == State::Starting {
            self.serves_again(now_ms);
        }
    }

    fn serves_again(&mut self, now_ms: u64) {
        self.state = State::Ready;
        self.outage_ms = self.down_at_ms.map(|down| now_ms.saturating_sub(down));
    }

    /// It was killed or has ended. Said twice of one death, the first time counts.
    pub(crate) fn down(&mut self, now_ms: u64) {
        // One that was paused was down already.
        if !matches!(self.state, State::Down | State::Paused) {
            self.down_at_ms = Some(now_ms);
        }
        self.state = State::Down;
    }

    pub(crate) fn paused(&mut self, now_ms: u64) {
        self.down(now_ms);
        self.state = State::Paused;
    }

    pub(crate) fn resumed(&mut self, now_ms: u64) {
        if self.ready_at_ms.is_some() {
            self.ready_at_ms = Some(now_ms);
            self.serves_again(now_ms);
        } else {
            self.state = State::Starting;
        }
    }
}

/// Wall milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ready_at(now_ms: u64) -> Process {
        let mut process = Process::new(Name::only(Kind::Relay));
        process.started(Some(7), now_ms - 5);
        process.ready(now_ms, json!({}));
        process
    }

    #[test]
    fn the_first_start_is_no_outage() {
        assert_eq!(ready_at(100).outage_ms, None);
    }

    #[test]
    fn an_outage_is_from_the_kill_to_being_ready_again() {
        let mut process = ready_at(100);
        process.down(200);
        process.down(203);
        process.started(Some(8), 210);
        assert_eq!((process.state, process.ready_at_ms, process.outage_ms), (State::Starting, None, None));
        process.ready(250, json!({}));
        assert_eq!((process.state, process.down_at_ms, process.outage_ms), (State::Ready, Some(200), Some(50)));
    }

    #[test]
    fn a_pause_is_an_outage_from_its_first_moment_even_if_a_kill_ends_it() {
        let mut process = ready_at(100);
        process.paused(200);
        process.resumed(260);
        assert_eq!((process.state, process.outage_ms), (State::Ready, Some(60)));
        process.paused(300);
        process.down(350);
        process.started(Some(8), 360);
        process.ready(400, json!({}));
        assert_eq!(process.outage_ms, Some(100));
    }

    #[test]
    fn a_process_paused_before_it_served_is_starting_again_when_it_is_resumed() {
        let mut process = Process::new(Name::only(Kind::Relay));
        process.started(Some(7), 10);
        process.paused(20);
        process.resumed(30);
        assert_eq!(process.state, State::Starting);
        process.paused(40);
        process.ready(45, json!({}));
        assert_eq!(process.state, State::Paused);
        process.resumed(50);
        assert_eq!((process.state, process.outage_ms), (State::Ready, Some(10)));
    }

    #[test]
    fn a_process_is_written_as_the_contract_says() {
        let text = serde_json::to_value(ready_at(100)).unwrap();
        assert_eq!(
            text,
            json!({"name":"relay","pid":7,"state":"ready","starts":1,"started_at_ms":95,"ready_at_ms":100,
                   "down_at_ms":null,"outage_ms":null,"serves":{}})
        );
        assert_eq!(serde_json::to_value(Name::only(Kind::StateServer)).unwrap(), json!("state-server"));
        assert_eq!(Name::one_of(Kind::Relay, 3).to_string(), "relay-3");
    }
}
