//! What signaling and the router must be told: the roles that devices speak to.
//!
//! Decides the keys, their types and their defaults, and which values cannot be. Leaves what they do to the role.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tandem_auth::rate::Rate;
use tandem_auth::{TokenKey, TokenKeyError, TokenKeys};
use tandem_signaling::policy::Policy;
use tandem_signaling::{DevTokens, RelayPoint};
use tandem_wire::id::PopId;
use tandem_wire::ticket::{TicketKey, TicketKeys};

use super::role::{LogConfig, NetworksConfig, StateConfig, TicketKeyConfig, any_admin};
use super::secret::SecretConfig;
use super::{ConfigError, RoleConfig};

/// Whose tokens are good: an issuer's id, and a secret (HS256) or a public key (EdDSA).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKeyConfig {
    /// What stands in `iss`.
    id: String,
    /// Shared with the issuer, for HS256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<SecretConfig>,
    /// The issuer's public key of Ed25519, base64 of 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
}

impl ApiKeyConfig {
    fn key(&self) -> Result<TokenKey, String> {
        match (&self.secret, &self.public_key) {
            (Some(secret), None) => TokenKey::hs256(secret.get()).map_err(|error| error.to_string()),
            (None, Some(public)) => {
                let bytes = STANDARD.decode(public).map_err(|_| TokenKeyError::PublicKey.to_string())?;
                TokenKey::ed25519(&bytes).map_err(|error| error.to_string())
            }
            _ => Err("an API key has either a secret or a public_key".to_owned()),
        }
    }
}

fn token_keys(keys: &[ApiKeyConfig]) -> Result<TokenKeys, ConfigError> {
    let mut all = Vec::new();
    for (index, config) in keys.iter().enumerate() {
        let wrong = |what: &str| ConfigError::new(format!("api_keys[{index}]"), what);
        if config.id.is_empty() || config.id.len() > 64 {
            return Err(wrong("an API key's id has 1 to 64 characters"));
        }
        all.push((config.id.clone(), config.key().map_err(|error| wrong(&error))?));
    }
    TokenKeys::new(all).map_err(|error| ConfigError::new("api_keys", error.to_string()))
}

/// The origin of pages that may ask, as in `https://app.example.org`: scheme, host and port, nothing behind.
#[derive(Debug, Clone)]
pub(crate) struct OriginConfig(pub(crate) HeaderValue);

impl<'de> Deserialize<'de> for OriginConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let host = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let good = host.is_some_and(|host| {
            !host.is_empty()
                && !host.contains(['/', '*', '?', '#', '@', ' '])
                && host.is_ascii()
                && *host == host.to_lowercase()
        });
        let value = HeaderValue::from_str(&text).ok().filter(|_| good);
        value.map(Self).ok_or_else(|| de::Error::custom("not an origin (as in https://app.example.org)"))
    }
}

impl Serialize for OriginConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.to_str().unwrap_or_default())
    }
}

fn origins(origins: &[OriginConfig]) -> Vec<HeaderValue> {
    origins.iter().map(|origin| origin.0.clone()).collect()
}

/// So many a minute, and so many at once after a quiet time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateConfig {
    per_minute: u32,
    burst: u32,
}

/// Declares the keys of `[limits]`, each with the field of [`Policy`] that it overrides.
macro_rules! limits_config {
    (rates: $($rate:ident),*; counts: $($count:ident),*;) => {
        /// How much anybody may ask for. What is not there is as `tandem_signaling::policy` says.
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct LimitsConfig {
            $(#[serde(skip_serializing_if = "Option::is_none")] $rate: Option<RateConfig>,)*
            $(#[serde(skip_serializing_if = "Option::is_none")] $count: Option<usize>,)*
        }

        impl LimitsConfig {
            fn policy(&self) -> Result<Policy, ConfigError> {
                let mut policy = Policy::default();
                $(if let Some(RateConfig { per_minute, burst }) = self.$rate {
                    if per_minute == 0 || burst == 0 {
                        let key = concat!("limits.", stringify!($rate));
                        return Err(ConfigError::new(key, "a rate has at least 1 a minute and 1 at once"));
                    }
                    policy.$rate = Rate { per_minute, burst };
                })*
                $(policy.$count = self.$count.unwrap_or(policy.$count);)*
                Ok(policy)
            }
        }
    };
}

limits_config! {
    rates: calls_per_account, calls_per_source, rings_per_account, lookups_per_account, lookups_per_source,
        signals_per_device, registrations_per_account, removals_per_device, bad_tokens_per_source;
    counts: live_calls_per_account, live_rings_per_account, live_calls, connections_per_source;
}

/// A relay as clients reach it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelayPointConfig {
    /// As in `turn:203.0.113.7:3478?transport=udp`.
    turn: String,
    /// As in `stun:203.0.113.7:3478`.
    stun: String,
}

/// Signaling.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalingConfig {
    /// The device API, HTTP/1.1 and HTTP/2 in clear: TLS ends in front of it.
    pub(crate) listen: SocketAddr,
    /// Health and metrics.
    #[serde(default = "any_admin")]
    pub(crate) admin: SocketAddr,
    /// Who may connect there.
    #[serde(default)]
    pub(crate) admin_allow: NetworksConfig,
    /// The file of the directory of devices, for the only signaling node of a PoP. Either this, or `directory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) devices: Option<PathBuf>,
    /// The state server that keeps the directory, for any number of nodes. It is another one than that of the calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<StateConfig>,
    /// The PoP whose calls it makes.
    pub(crate) pop: u16,
    /// Shared by all signaling nodes and relays of the PoP.
    pop_secret: SecretConfig,
    /// Whose tokens are good.
    api_keys: Vec<ApiKeyConfig>,
    /// Tickets are signed with the first.
    ticket_keys: Vec<TicketKeyConfig>,
    /// The PoP's relays.
    relays: Vec<RelayPointConfig>,
    /// Whose pages may read what it answers.
    #[serde(default)]
    origins: Vec<OriginConfig>,
    /// Development only: mints tokens for whoever asks, signed with the first API key.
    #[serde(default)]
    pub(crate) dev: bool,
    /// How much anybody may ask for.
    #[serde(default)]
    limits: LimitsConfig,
    /// The store.
    pub(crate) state: StateConfig,
    /// What it logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
}

impl SignalingConfig {
    /// What signaling's own crate is told.
    pub(crate) fn to_signaling(&self) -> Result<tandem_signaling::Config, ConfigError> {
        let wrong = |key: &str, error: &dyn std::fmt::Display| ConfigError::new(key, error.to_string());
        let secrets = self.ticket_keys.iter().map(|key| (key.kid, key.secret.get()));
        TicketKeys::new(PopId(self.pop), secrets).map_err(|error| wrong("ticket_keys", &error))?;
        let first =
            self.ticket_keys.first().ok_or_else(|| wrong("ticket_keys", &"at least one ticket key is needed"))?;
        let tickets = TicketKey::new(first.kid, first.secret.get()).map_err(|error| wrong("ticket_keys", &error))?;
        if self.relays.is_empty() || self.relays.len() > 8 {
            return Err(wrong("relays", &"1 to 8 relays"));
        }
        for (index, RelayPointConfig { turn, stun }) in self.relays.iter().enumerate() {
            if !turn.starts_with("turn:") && !turn.starts_with("turns:") {
                return Err(wrong(&format!("relays[{index}].turn"), &"not a TURN URI (RFC 7065)"));
            }
            if !stun.starts_with("stun:") {
                return Err(wrong(&format!("relays[{index}].stun"), &"not a STUN URI (RFC 7064)"));
            }
        }
        let dev = match (self.dev, self.api_keys.first()) {
            (true, Some(first)) => {
                let key = first.key().map_err(|error| wrong("api_keys[0]", &error))?;
                Some(DevTokens { issuer: first.id.clone(), key })
            }
            _ => None,
        };
        let point = |point: &RelayPointConfig| RelayPoint { turn: point.turn.clone(), stun: point.stun.clone() };
        Ok(tandem_signaling::Config {
            pop: PopId(self.pop),
            tokens: token_keys(&self.api_keys)?,
            tickets,
            pop_secret: self.pop_secret.get().clone(),
            relays: self.relays.iter().map(point).collect(),
            origins: origins(&self.origins),
            policy: self.limits.policy()?,
            dev,
        })
    }
}

impl RoleConfig for SignalingConfig {
    const ROLE: &'static str = "signaling";

    fn check(&self) -> Result<(), ConfigError> {
        match (&self.devices, &self.directory) {
            (Some(devices), None) if devices.as_os_str().is_empty() => {
                return Err(ConfigError::new("devices", "not the path of a file"));
            }
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) => {
                return Err(ConfigError::new("directory", "devices are either in a file or at a state server"));
            }
            (None, None) => {
                return Err(ConfigError::new("devices", "missing: the file of the directory, or [directory]"));
            }
        }
        if self.dev && !self.listen.ip().is_loopback() {
            return Err(ConfigError::new(
                "dev",
                "development only: it hands out tokens, on this machine's loopback only",
            ));
        }
        self.to_signaling().map(|_| ())
    }

    fn is_development(&self) -> bool {
        self.dev
    }
}

/// A router.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouterConfig {
    /// Where devices connect, HTTP/1.1 in clear: TLS ends in front of it.
    pub(crate) listen: SocketAddr,
    /// Health and metrics.
    #[serde(default = "any_admin")]
    pub(crate) admin: SocketAddr,
    /// Who may connect there.
    #[serde(default)]
    pub(crate) admin_allow: NetworksConfig,
    /// Whose tokens are good.
    api_keys: Vec<ApiKeyConfig>,
    /// Whose pages may connect.
    #[serde(default)]
    origins: Vec<OriginConfig>,
    /// Connections of one source.
    #[serde(default = "connections_per_source")]
    pub(crate) connections_per_source: usize,
    /// The store.
    pub(crate) state: StateConfig,
    /// What it logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
}

/// An office behind one address has as many devices.
const fn connections_per_source() -> usize {
    2_048
}

impl RouterConfig {
    /// What the router's own crate is told.
    pub(crate) fn to_router(&self) -> Result<tandem_router::Config, ConfigError> {
        Ok(tandem_router::Config { tokens: token_keys(&self.api_keys)?, origins: origins(&self.origins) })
    }
}

impl RoleConfig for RouterConfig {
    const ROLE: &'static str = "router";

    fn check(&self) -> Result<(), ConfigError> {
        self.to_router().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, read};

    const SHARED: &str = "[state]\nendpoint = \"http://127.0.0.1:7000\"\nsecret = \"1b4f0e9851971998e732078544c96b36\"\n\
        [[api_keys]]\nid = \"app\"\nsecret = \"5feceb66ffc86f38d952786c6d696c79\"\n";
    const SIGNALING: &str = "listen = \"127.0.0.1:8081\"\ndevices = \"devices.redb\"\npop = 1\n\
        pop_secret = \"9f86d081884c7d659a2feaa0c55ad015\"\norigins = [\"https://app.test\"]\n\
        ticket_keys = [{ kid = 3, secret = \"60303ae22b998861bce3b28f33eec1be\" }]\n\
        relays = [{ turn = \"turn:127.0.0.1:3478?transport=udp\", stun = \"stun:127.0.0.1:3478\" }]\n";
    const ROUTER: &str = "listen = \"127.0.0.1:8082\"\norigins = [\"https://app.test\"]\n";

    fn with(text: &str, settings: &[&str]) -> Layers {
        let mut layers = Layers::from_table(format!("{text}{SHARED}").parse().unwrap(), "test");
        settings.iter().for_each(|setting| layers.set(&setting.parse().unwrap()).unwrap());
        layers
    }

    #[test]
    fn signaling_and_a_router_are_read_and_shown_without_their_secrets() {
        let signaling: SignalingConfig = read(&with(SIGNALING, &[])).unwrap();
        let router: RouterConfig = read(&with(ROUTER, &[])).unwrap();
        let shown = toml::to_string(&signaling).unwrap() + &toml::to_string(&router).unwrap();
        assert!(shown.contains("(secret)") && shown.contains("https://app.test"), "{shown}");
        for secret in ["9f86d0", "1b4f0e", "60303a", "5fece"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let set: SignalingConfig =
            read(&with(SIGNALING, &["limits.calls_per_account={per_minute=7,burst=2}", "limits.live_calls=9"]))
                .unwrap();
        let policy = set.to_signaling().unwrap().policy;
        assert_eq!((policy.calls_per_account, policy.live_calls), (Rate { per_minute: 7, burst: 2 }, 9));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (setting, key) in [
            ("api_keys=[]", "api_keys"),
            ("api_keys=[{id=\"a\"}]", "api_keys"),
            ("api_keys=[{id=\"a\",public_key=\"AAAA\"}]", "api_keys"),
            ("api_keys=[{id=\"a\",secret=\"short\"}]", "api_keys"),
            ("ticket_keys=[]", "ticket_keys"),
            ("relays=[]", "relays"),
            ("relays=[{turn=\"127.0.0.1\",stun=\"stun:a\"}]", "relays"),
            ("origins=[\"*\"]", "origins"),
            ("origins=[\"https://app.test/\"]", "origins"),
            ("origins=[\"null\"]", "origins"),
            ("limits.calls_per_account={per_minute=0,burst=1}", "limits.calls_per_account"),
            ("limits.cals=1", "limits.cals"),
            ("devices=", "devices"),
            ("directory={endpoint=\"http://127.0.0.1:7001\",secret=\"1b4f0e9851971998e732078544c96b36\"}", "directory"),
            ("pop_secret=short", "pop_secret"),
        ] {
            let error = read::<SignalingConfig>(&with(SIGNALING, &[setting])).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: {key}")), "{setting}: {error}");
        }
        let error = read::<SignalingConfig>(&with(SIGNALING, &["dev=true", "listen=0.0.0.0:8081"])).unwrap_err();
        assert!(error.to_string().starts_with("config: dev"), "{error}");
    }
}
