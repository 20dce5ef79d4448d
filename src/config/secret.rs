//! Secrets in a config: as they are, from the environment (`env:NAME`) or from a file of their own (`file:PATH`).
//!
//! Decides that a secret has at least 32 bytes, is not one that stands in examples (attack R27), and is never shown.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tandem_wire::redact::Secret;
use tandem_wire::ticket::SECRET_LEN_MIN;

use crate::limits;

/// A secret that may be used.
#[derive(Debug, Clone)]
pub(crate) struct SecretConfig(Secret);

impl SecretConfig {
    /// The secret, for the one who needs it.
    pub(crate) const fn get(&self) -> &Secret {
        &self.0
    }
}

/// Words that stand in examples and guides.
const EXAMPLES: [&str; 6] = ["example", "changeme", "change-me", "change_me", "secret", "password"];
/// Beginnings of ones that stand in documents and that the other rules let pass; without case.
const EXAMPLE_SECRETS: [&str; 5] = [
    "0123456789abcdef0123456789abcdef",
    "00112233445566778899aabbccddeeff",
    "000102030405060708090a0b0c0d0e0f",
    "abcdefghijklmnopqrstuvwxyz012345",
    "abcdefghijklmnopqrstuvwxyz123456",
];
/// 32 random characters, even of hexadecimal's sixteen, have more different ones than this.
const DIFFERENT_BYTES_MIN: usize = 8;

fn resolve(text: String) -> Result<String, &'static str> {
    if let Some(name) = text.strip_prefix("env:") {
        return std::env::var(name).map_err(|_| "the environment has no such variable");
    }
    let Some(path) = text.strip_prefix("file:") else { return Ok(text) };
    let unreadable = "the file of the secret cannot be read";
    let file = File::open(path).map_err(|_| unreadable)?;
    if file.metadata().map_err(|_| unreadable)?.permissions().mode() & 0o077 != 0 {
        return Err("the file of the secret can be read by others (chmod 600)");
    }
    let mut text = String::new();
    file.take(limits::SECRET_FILE_BYTES).read_to_string(&mut text).map_err(|_| unreadable)?;
    Ok(text.trim_end().to_owned())
}

fn check(text: &str) -> Result<(), &'static str> {
    if text.len() < SECRET_LEN_MIN {
        return Err("a secret has at least 32 bytes");
    }
    let lower = text.to_lowercase();
    if EXAMPLES.iter().any(|word| lower.contains(word)) || EXAMPLE_SECRETS.iter().any(|known| lower.starts_with(known))
    {
        return Err("an example is no secret: draw one (openssl rand -hex 32)");
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.sort_unstable();
    bytes.dedup();
    if bytes.len() < DIFFERENT_BYTES_MIN {
        return Err("a secret that repeats itself is none: draw one (openssl rand -hex 32)");
    }
    Ok(())
}

impl<'de> Deserialize<'de> for SecretConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = resolve(String::deserialize(deserializer)?).map_err(de::Error::custom)?;
        check(&text).map_err(de::Error::custom)?;
        Ok(Self(Secret::new(text.into_bytes())))
    }
}

impl Serialize for SecretConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SecretConfig, String> {
        toml::Value::from(text).try_into().map_err(|error: toml::de::Error| error.message().to_owned())
    }

    const GOOD: &str = "9f86d081884c7d659a2feaa0c55ad015";

    #[test]
    fn short_example_and_repeated_secrets_are_refused_without_being_shown() {
        let cases = [
            "",
            "short",
            &GOOD[..31],
            &"a".repeat(64),
            &format!("Example-{GOOD}"),
            &"Changeme".repeat(5),
            &"0123456789ABCDEF".repeat(4),
        ];
        for bad in cases {
            let error = read(bad).unwrap_err();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
        let good = read(GOOD).unwrap();
        assert_eq!(good.get().expose(), GOOD.as_bytes());
        let shown = format!("{good:?} {}", toml::Value::try_from(&good).unwrap());
        assert!(!shown.contains("9f86"), "{shown}");
    }

    #[test]
    fn a_secret_comes_from_a_file_only_if_nobody_else_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, format!("{GOOD}\n")).unwrap();
        let named = format!("file:{}", path.display());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&named).unwrap_err().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&named).unwrap().get().expose(), GOOD.as_bytes());
        assert!(read("file:no/such/file").is_err() && read("env:TANDEM_NO_SUCH_VARIABLE").is_err());
    }
}
