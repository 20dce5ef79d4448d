//! The layers themselves: read, joined, and remembered by who set what.
//!
//! Decides how a text becomes a TOML value and which layer wins. Leaves the meaning of keys to the types they are read as.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::ConfigError;
use super::error::without_value;
use crate::limits;

/// One `key=value`, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// As in `state.endpoint`.
    pub(crate) key: String,
    /// As it was written.
    pub(crate) text: String,
    /// Named in errors: a flag or a variable.
    pub(crate) origin: String,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("a setting is key=value")?;
        Ok(Self { key: key.trim().to_owned(), text: value.to_owned(), origin: "--set".to_owned() })
    }
}

/// Values joined so far. Weaker layers first.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    table: Table,
    origins: BTreeMap<String, String>,
}

impl Layers {
    /// A layer of values made by this program.
    pub(crate) fn from_table(table: Table, origin: &str) -> Self {
        let mut layers = Self::default();
        layers.join(table, origin);
        layers
    }

    /// Adds a TOML file.
    pub(crate) fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let origin = path.display().to_string();
        let unreadable = |what: &str| ConfigError::new("--config", what).set_by(Some(&origin));
        let mut text = String::new();
        let file = File::open(path).map_err(|error| unreadable(&error.to_string()))?;
        let read = file.take(limits::CONFIG_BYTES + 1).read_to_string(&mut text);
        let read = read.map_err(|error| unreadable(&error.to_string()))?;
        if read as u64 > limits::CONFIG_BYTES {
            return Err(unreadable("the file is too large for a config"));
        }
        let table = text.parse::<Table>().map_err(|error| {
            // Only the message and the line: the line's own text may hold a secret.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            unreadable(&format!("line {line}: {}", without_value(error.message())))
        })?;
        self.join(table, &origin);
        Ok(())
    }

    /// Adds the variables of `role` out of `variables`.
    pub(crate) fn environment(
        &mut self,
        role: &str,
        variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Result<(), ConfigError> {
        let prefix = environment_prefix(role);
        // Sorted, so that the same environment always gives the same config and the same first error.
        let mut found = BTreeMap::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(&prefix)) else { continue };
            let text = value.into_string().map_err(|_| ConfigError::new(name, "the variable is not UTF-8"))?;
            found.insert(name.to_owned(), text);
        }
        for (name, text) in found {
            let rest = name.strip_prefix(&prefix).unwrap_or_default();
            let key = rest.replace("__", ".").to_ascii_lowercase();
            self.set(&Setting { key, text, origin: format!("the environment variable {name}") })?;
        }
        Ok(())
    }

    /// Adds one setting.
    pub(crate) fn set(&mut self, setting: &Setting) -> Result<(), ConfigError> {
        let wrong = |what: &str| ConfigError::new(&setting.key, what).set_by(Some(&setting.origin));
        let mut parts: Vec<&str> = setting.key.split('.').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(wrong("not a key (as in state.endpoint)"));
        }
        let last = parts.pop().unwrap_or_default();
        let value = value_of(&setting.text).map_err(wrong)?;
        let mut table = &mut self.table;
        for part in parts {
            let below = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(below) = below else {
                return Err(wrong("the key above it holds a value, not a table"));
            };
            table = below;
        }
        table.insert(last.to_owned(), value);
        self.origins.insert(setting.key.clone(), setting.origin.clone());
        Ok(())
    }

    /// Reads the joined values as a `T`. Unknown keys are the type's to refuse.
    pub(super) fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(Value::Table(self.table.clone())).map_err(|error| {
            let words = error.inner().message().to_owned();
            let path = error.path().to_string();
            let above = if path == "." { String::new() } else { path };
            // serde names a missing field by its struct, an unknown one by itself: we name both by their key.
            let named = ["missing field `", "unknown field `"]
                .iter()
                .find_map(|start| words.strip_prefix(start))
                .and_then(|rest| rest.split('`').next());
            let key = match named {
                Some(field) if above.rsplit('.').next() != Some(field) => join_key(&above, field),
                _ => above,
            };
            self.blame(ConfigError::new(key, without_value(&words)))
        })
    }

    /// Adds to `error` who set its key, or the nearest key above it.
    pub(crate) fn blame(&self, error: ConfigError) -> ConfigError {
        let mut key = error.key().to_owned();
        loop {
            if let Some(origin) = self.origins.get(&key) {
                return error.set_by(Some(origin));
            }
            match key.rfind(['.', '[']) {
                Some(at) => key.truncate(at),
                None => return error,
            }
        }
    }

    /// The joined values as TOML text. It holds every secret in clear.
    pub(crate) fn to_toml(&self) -> String {
        self.table.to_string()
    }

    fn join(&mut self, table: Table, origin: &str) {
        merge(&mut self.table, table, "", origin, &mut self.origins);
    }
}

fn merge(to: &mut Table, from: Table, above: &str, origin: &str, origins: &mut BTreeMap<String, String>) {
    for (name, value) in from {
        let key = join_key(above, &name);
        match (to.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(value)) => merge(below, value, &key, origin, origins),
            (_, Value::Table(value)) => {
                let mut below = Table::new();
                merge(&mut below, value, &key, origin, origins);
                origins.insert(key, origin.to_owned());
                to.insert(name, Value::Table(below));
            }
            (_, value) => {
                origins.insert(key, origin.to_owned());
                to.insert(name, value);
            }
        }
    }
}

fn join_key(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

/// What the variables of `role` begin with.
pub(crate) fn environment_prefix(role: &str) -> String {
    format!("TANDEM_{}__", role.replace('-', "_").to_ascii_uppercase())
}

/// A text as a TOML value (the rule is at the head of [`crate::config`]).
fn value_of(text: &str) -> Result<Value, &'static str> {
    match text {
        "true" => return Ok(Value::Boolean(true)),
        "false" => return Ok(Value::Boolean(false)),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return Ok(Value::Integer(number));
    }
    if text.starts_with(['[', '{', '"', '\'']) {
        let table: Table = format!("value = {text}").parse().map_err(|_| "not a TOML value")?;
        return match (table.len(), table.into_iter().next()) {
            (1, Some((_, value))) => Ok(value),
            _ => Err("more than one TOML value"),
        };
    }
    Ok(Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Example {
        pop: u16,
        #[serde(default)]
        name: String,
        #[serde(default)]
        state: State,
        #[serde(default)]
        keys: Vec<Key>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct State {
        #[serde(default)]
        endpoint: String,
        #[serde(default)]
        retries: u8,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Key {
        kid: u8,
    }

    fn file(text: &str) -> (tempfile::TempDir, Layers) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        let mut layers = Layers::default();
        layers.file(&path).unwrap();
        (folder, layers)
    }

    fn environment(layers: &mut Layers, variables: &[(&str, &str)]) {
        layers.environment("state-server", variables.iter().map(|(k, v)| ((*k).into(), (*v).into()))).unwrap();
    }

    fn set(layers: &mut Layers, text: &str) {
        layers.set(&text.parse().unwrap()).unwrap();
    }

    #[test]
    fn a_variable_overrides_the_file_and_a_flag_overrides_both() {
        let (_folder, mut layers) = file("pop = 1\nname = \"file\"\n[state]\nendpoint = \"file\"\nretries = 1\n");
        environment(
            &mut layers,
            &[
                ("TANDEM_STATE_SERVER__NAME", "variable"),
                ("TANDEM_STATE_SERVER__STATE__ENDPOINT", "variable"),
                ("TANDEM_RELAY__NAME", "another role's"),
                ("PATH", "/bin"),
            ],
        );
        set(&mut layers, "state.endpoint=flag");
        let example: Example = layers.deserialize().unwrap();
        let state = State { endpoint: "flag".into(), retries: 1 };
        assert_eq!(example, Example { pop: 1, name: "variable".into(), state, keys: vec![] });
    }

    #[test]
    fn a_text_becomes_the_value_that_it_looks_like_and_no_other() {
        for (text, value) in [
            ("7", Value::Integer(7)),
            ("007", Value::String("007".into())),
            ("1e5", Value::String("1e5".into())),
            ("true", Value::Boolean(true)),
            ("127.0.0.1:3478", Value::String("127.0.0.1:3478".into())),
            ("\"7\"", Value::String("7".into())),
            ("", Value::String(String::new())),
            ("[1]", Value::Array(vec![Value::Integer(1)])),
            ("99999999999999999999999999999999", Value::String("99999999999999999999999999999999".into())),
        ] {
            assert_eq!(value_of(text), Ok(value), "{text}");
        }
        assert!(value_of("[1").is_err() && value_of("\"a\"\nb = 1").is_err());
    }

    #[test]
    fn a_mistake_is_named_by_its_key_and_by_who_made_it() {
        let cases: &[(&str, &[&str], &str)] = &[
            ("pop = 1\npup = 2", &[], "pup: unknown field `pup`"),
            ("name = \"x\"", &[], "pop: missing field `pop`"),
            ("pop = 70000", &[], "pop: invalid value: integer, expected u16 (set by "),
            ("pop = 1", &["state.retries=many"], "state.retries: invalid type: string, expected u8 (set by --set)"),
            ("pop = 1", &["state.retires=1"], "state.retires: unknown field `retires`"),
            ("pop = 1\n[[keys]]\nkid = 1\n[[keys]]\nkid = \"two\"", &[], "keys[1].kid: invalid type: string"),
            ("pop = 1", &["state=secret-in-the-wrong-place"], "state: invalid type: string, expected struct State"),
        ];
        for (text, settings, expected) in cases {
            let (_folder, mut layers) = file(text);
            settings.iter().for_each(|setting| set(&mut layers, setting));
            let error = layers.deserialize::<Example>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: {expected}")), "{error}");
            assert!(!error.contains("secret-in") && !error.contains("70000"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_toml_is_refused_by_its_line_without_what_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.toml");
        std::fs::write(&path, "pop = 1\npop_secret = \"canary-canary\n").unwrap();
        let error = Layers::default().file(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("bad.toml") && !error.contains("canary"), "{error}");
        let error = Layers::default().file(&folder.path().join("none.toml")).unwrap_err().to_string();
        assert!(error.starts_with("config: --config: ") && error.contains("none.toml"), "{error}");
    }

    #[test]
    fn a_key_with_an_empty_part_is_no_key() {
        let mut layers = Layers::default();
        for key in ["", ".", "a.", "a..b"] {
            let setting = Setting { key: key.into(), text: "1".into(), origin: "--set".into() };
            assert!(layers.set(&setting).is_err(), "{key}");
        }
        set(&mut layers, "pop=1");
        let error = layers.set(&"pop.x=1".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("pop.x: the key above it holds a value"), "{error}");
    }
}
