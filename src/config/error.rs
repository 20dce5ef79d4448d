//! A mistake in a config: which key, what is wrong with it, and who set it.
//!
//! Decides that no value is repeated: it may be a secret that stands in the wrong place.

use std::fmt;

/// Exit 64 (EX_USAGE of sysexits.h).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    key: String,
    problem: String,
    origin: Option<String>,
}

impl ConfigError {
    /// `key` as in `state.endpoint`; empty for the whole.
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into(), origin: None }
    }

    /// Says who set the key.
    pub(crate) fn set_by(mut self, origin: Option<&str>) -> Self {
        self.origin = origin.map(str::to_owned);
        self
    }

    /// Says that the key stands below `above`.
    pub(crate) fn below(mut self, above: &str) -> Self {
        self.key = if self.key.is_empty() { above.to_owned() } else { format!("{above}.{}", self.key) };
        self
    }

    /// The key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("config")?;
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.problem)?;
        match &self.origin {
            Some(origin) => write!(f, " (set by {origin})"),
            None => Ok(()),
        }
    }
}

/// serde's words without the value that they repeat: "invalid type: string "hunter2", expected u16" becomes "invalid type:
/// string, expected u16".
pub(super) fn without_value(words: &str) -> String {
    let first_line = words.lines().next().unwrap_or_default();
    for start in ["invalid type: ", "invalid value: "] {
        let Some(rest) = first_line.strip_prefix(start) else { continue };
        // The value stands between the first quote or backtick and the last ", expected".
        let Some((found, expected)) = rest.rsplit_once(", expected ") else {
            return start.trim_end_matches(": ").to_owned();
        };
        let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
        return format!("{start}{kind}, expected {expected}");
    }
    first_line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_key_problem_and_who_set_it() {
        let error = ConfigError::new("state.endpoint", "not an endpoint").set_by(Some("--set"));
        assert_eq!(error.to_string(), "config: state.endpoint: not an endpoint (set by --set)");
        assert_eq!(ConfigError::new("", "unreadable").to_string(), "config: unreadable");
    }

    #[test]
    fn the_value_is_taken_out_of_serdes_words() {
        for (words, clean) in [
            ("invalid type: string \"hunter2\", expected u16\n", "invalid type: string, expected u16"),
            ("invalid type: integer `1234567`, expected a string", "invalid type: integer, expected a string"),
            ("invalid type: map, expected a sequence", "invalid type: map, expected a sequence"),
            ("invalid type: string \"a, expected b\", expected u16", "invalid type: string, expected u16"),
            ("invalid value: integer `70000`, expected u16", "invalid value: integer, expected u16"),
            ("missing field `pop`", "missing field `pop`"),
        ] {
            assert_eq!(without_value(words), clean);
        }
    }
}
