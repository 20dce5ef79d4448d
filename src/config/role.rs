//! What each role must be told.
//!
//! Decides the keys, their types and their defaults, and which values cannot be. Leaves what they do to the role.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tandem_relay::Entrance;
use tandem_state_server::StateServer;
use tandem_telemetry::http::Networks;
use tandem_telemetry::log::{Filter, Format};
use tandem_wire::id::{PopId, RelayId};

use super::secret::SecretConfig;
pub(crate) use super::store::EtcdConfig;
pub(super) use super::store::StateConfig;
use super::{ConfigError, RoleConfig};

/// The admin port of a role that says nothing of it: this machine only, any free port.
pub(super) fn any_admin() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// How a role logs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// `text` or `json`.
    pub(crate) format: Format,
    /// As in `info`, or `warn,tandem_relay=debug`.
    pub(crate) filter: FilterConfig,
}

/// A text that was read as something, and is shown as it was written.
fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<(String, T), D::Error> {
    let text = String::deserialize(deserializer)?;
    let value = text.parse().map_err(de::Error::custom)?;
    Ok((text, value))
}

/// Which records are written.
#[derive(Debug, Clone)]
pub(crate) struct FilterConfig {
    text: String,
    pub(crate) filter: Filter,
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self { text: "info".to_owned(), filter: Filter::info() }
    }
}

impl<'de> Deserialize<'de> for FilterConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer).map(|(text, filter)| Self { text, filter })
    }
}

impl Serialize for FilterConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// From where an admin port takes connections: a list of networks, each as in `10.0.0.0/8`.
#[derive(Debug, Clone)]
pub(crate) struct NetworksConfig(pub(crate) Networks);

impl Default for NetworksConfig {
    fn default() -> Self {
        Self(Networks::loopback())
    }
}

impl<'de> Deserialize<'de> for NetworksConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        // One item that cannot be read refuses them all (attack R09).
        let networks = texts.iter().map(|text| text.parse().map_err(de::Error::custom));
        Ok(Self(Networks::new(networks.collect::<Result<_, _>>()?)))
    }
}

impl Serialize for NetworksConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

/// A state server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateServerConfig {
    /// Where relays and other services reach it.
    pub(crate) listen: SocketAddr,
    /// Listens where others can reach it, though what is said there can be read on the way. For private networks only,
    /// until this port speaks TLS.
    #[serde(default)]
    allow_plaintext: bool,
    /// Health and metrics, and on this machine the relays and their load.
    #[serde(default = "any_admin")]
    pub(crate) admin: SocketAddr,
    /// Who may connect there.
    #[serde(default)]
    pub(crate) admin_allow: NetworksConfig,
    /// The file of the store, if it is embedded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    /// The PoP whose store it is.
    pub(crate) pop: u16,
    /// What others must know to be let in.
    pub(crate) secret: SecretConfig,
    /// What it logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
    /// The cluster that the store is in, if it is in etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etcd: Option<EtcdConfig>,
    /// Not of the config: where the admin port finds the store once it is open.
    #[serde(skip)]
    pub(crate) running: Arc<OnceLock<Arc<StateServer>>>,
}

impl RoleConfig for StateServerConfig {
    const ROLE: &'static str = "state-server";

    fn check(&self) -> Result<(), ConfigError> {
        if !self.listen.ip().is_loopback() && !self.allow_plaintext {
            let what = "this port speaks no TLS yet: set allow_plaintext = true if the network is private";
            return Err(ConfigError::new("listen", what));
        }
        match (&self.data, &self.etcd) {
            (None, None) => Err(ConfigError::new("data", "the path of a file is missing, or a table [etcd]")),
            (Some(_), Some(_)) => Err(ConfigError::new("data", "a file and [etcd] exclude one another")),
            (Some(data), None) if data.as_os_str().is_empty() => {
                Err(ConfigError::new("data", "not the path of a file"))
            }
            (Some(_), None) => Ok(()),
            (None, Some(etcd)) => etcd.check(),
        }
    }
}

/// The TURN realm: 1 to 4 bytes, so that refusals stay 64 bytes long.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct RealmConfig(pub(crate) String);

impl Default for RealmConfig {
    fn default() -> Self {
        Self("tndm".to_owned())
    }
}

impl<'de> Deserialize<'de> for RealmConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if (1..=4).contains(&text.len()) { Ok(Self(text)) } else { Err(de::Error::custom("a realm has 1 to 4 bytes")) }
    }
}

/// One key that tickets are verified with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TicketKeyConfig {
    /// 0 to 7.
    pub(crate) kid: u8,
    pub(crate) secret: SecretConfig,
}

/// How a relay of a fleet sends to clients.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReturnConfig {
    /// Past the load balancers: their public addresses, in the order of their `listen`. This machine has each of them too, on
    /// `lo`. Empty: through the load balancers.
    pub(crate) direct: Vec<SocketAddr>,
}

impl ReturnConfig {
    const fn is_through(&self) -> bool {
        self.direct.is_empty()
    }
}

/// A relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelayConfig {
    /// TURN over UDP, for clients. Name the address that they use: what answers from a wildcard leaves by whatever address
    /// the system routes by. Either this, or `tunnel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,
    /// In a fleet: where load balancers and other relays of the PoP send packets. An address of the private network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tunnel: Option<SocketAddr>,
    /// In a fleet: how packets go to clients.
    #[serde(default, rename = "return", skip_serializing_if = "ReturnConfig::is_through")]
    pub(crate) returns: ReturnConfig,
    /// Health and metrics.
    #[serde(default = "any_admin")]
    pub(crate) admin: SocketAddr,
    /// Who may connect there.
    #[serde(default)]
    pub(crate) admin_allow: NetworksConfig,
    /// The PoP that it serves.
    pub(crate) pop: u16,
    /// Which relay of the PoP it is.
    pub(crate) relay_id: u16,
    /// The TURN realm.
    #[serde(default)]
    pub(crate) realm: RealmConfig,
    /// Shared by all relays of the PoP: nonces come from it.
    pub(crate) pop_secret: SecretConfig,
    /// Up to 8, each with a number of its own.
    pub(crate) ticket_keys: Vec<TicketKeyConfig>,
    /// The store.
    pub(crate) state: StateConfig,
    /// What it logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
}

impl RelayConfig {
    fn entrance(&self) -> Result<Entrance, ConfigError> {
        match (self.listen, self.tunnel) {
            (Some(listen), None) if listen.port() == 0 => {
                Err(ConfigError::new("listen", "clients must know the port: it cannot be 0"))
            }
            (Some(_), None) if !self.returns.is_through() => {
                let what = "a relay that clients speak to itself has no load balancer to go past";
                Err(ConfigError::new("return.direct", what))
            }
            (Some(listen), None) => Ok(Entrance::Clients(listen)),
            (None, Some(tunnel)) if tunnel.ip().is_unspecified() => {
                Err(ConfigError::new("tunnel", "others send to this address: it cannot be a wildcard"))
            }
            (None, Some(listen)) => Ok(Entrance::Tunnel { listen, direct: self.returns.direct.clone() }),
            (Some(_), Some(_)) => {
                Err(ConfigError::new("tunnel", "a relay takes packets either from clients or in a fleet"))
            }
            (None, None) => {
                Err(ConfigError::new("listen", "missing: where clients or (tunnel) a load balancer reach it"))
            }
        }
    }

    /// What the relay's own crate is told.
    ///
    /// # Errors
    /// The key that cannot stand.
    pub(crate) fn to_relay(&self) -> Result<tandem_relay::Config, ConfigError> {
        Ok(tandem_relay::Config {
            entrance: self.entrance()?,
            pop: PopId(self.pop),
            relay: RelayId(self.relay_id),
            realm: self.realm.0.clone(),
            pop_secret: self.pop_secret.get().clone(),
            ticket_keys: self.ticket_keys.iter().map(|key| (key.kid, key.secret.get().clone())).collect(),
        })
    }
}

impl RoleConfig for RelayConfig {
    const ROLE: &'static str = "relay";

    fn check(&self) -> Result<(), ConfigError> {
        use tandem_core::turn::GateError;
        let relay = self.to_relay()?;
        relay.entrance.check().map_err(|error| ConfigError::new("return.direct", error.to_string()))?;
        relay.check().map_err(|error| {
            let key = match error {
                GateError::Realm => "realm",
                GateError::Secret => "pop_secret",
                GateError::Key(_) => "ticket_keys",
            };
            ConfigError::new(key, error.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, read};

    const RELAY: &str = "listen = \"127.0.0.1:3478\"\npop = 1\nrelay_id = 1\npop_secret = \"9f86d081884c7d659a2feaa0c55ad015\"\n\
        [state]\nendpoint = \"http://127.0.0.1:7000\"\nsecret = \"1b4f0e9851971998e732078544c96b36\"\n\
        [[ticket_keys]]\nkid = 3\nsecret = \"60303ae22b998861bce3b28f33eec1be\"\n";
    const STATE_SERVER: &str =
        "listen = \"127.0.0.1:7000\"\ndata = \"state.redb\"\npop = 1\nsecret = \"1b4f0e9851971998e732078544c96b36\"\n";

    fn with(text: &str, settings: &[&str]) -> Layers {
        let mut layers = Layers::from_table(text.parse().unwrap(), "test");
        settings.iter().for_each(|setting| layers.set(&setting.parse().unwrap()).unwrap());
        layers
    }

    #[test]
    fn a_relay_and_a_state_server_are_read_and_shown_without_their_secrets() {
        let relay: RelayConfig = read(&with(RELAY, &[])).unwrap();
        let server: StateServerConfig = read(&with(STATE_SERVER, &[])).unwrap();
        assert_eq!((relay.realm.0.as_str(), relay.ticket_keys[0].kid, server.pop), ("tndm", 3, 1));
        let shown = toml::to_string(&relay).unwrap() + &toml::to_string(&server).unwrap();
        assert!(shown.contains("(secret)") && shown.contains("127.0.0.1:3478"), "{shown}");
        for secret in ["9f86d0", "1b4f0e", "60303a"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        let keys: String =
            (0..8).map(|kid| format!("{{kid={kid},secret=\"60303ae22b998861bce3b28f33eec1be\"}},")).collect();
        for (setting, key) in [
            ("listen=10.0.0.0/33", "listen"),
            ("listen=", "listen"),
            ("listen=127.0.0.1:0", "listen"),
            ("tunnel=127.0.0.1:7100", "tunnel"),
            ("realm=", "realm"),
            ("realm=tandem", "realm"),
            ("pop=65536", "pop"),
            ("pop_secret=short", "pop_secret"),
            ("state.endpoint=127.0.0.1:7000", "state.endpoint"),
            ("state.endpoint=http://:7000", "state.endpoint"),
            ("state.endpoint=http://a/b:7000", "state.endpoint"),
            ("state.endpoint=http://10.0.0.256:7000", "state.endpoint"),
            ("state.endpoint=http://10.0.0.1/8:7000", "state.endpoint"),
            ("state.endpoint=http://::1:7000", "state.endpoint"),
            ("state.endpoint=http://store:+7000", "state.endpoint"),
            ("ticket_keys=[]", "ticket_keys"),
            (&format!("ticket_keys=[{keys}{{kid=7,secret=\"60303ae22b998861bce3b28f33eec1be\"}}]"), "ticket_keys"),
            ("ticket_keys=[{kid=8,secret=\"60303ae22b998861bce3b28f33eec1be\"}]", "ticket_keys"),
            ("admin_allow=[\"10.0.0.0/33\"]", "admin_allow"),
            ("admin_allow=[\"10.0.0.0-\"]", "admin_allow"),
            ("admin_allow=[\"\"]", "admin_allow"),
            ("log.filter=wran", "log.filter"),
            ("log.format=xml", "log.format"),
        ] {
            let error = read::<RelayConfig>(&with(RELAY, &[setting])).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: {key}")), "{setting}: {error}");
            assert!(!error.contains("60303a"), "{error}");
        }
        let fleet = RELAY.replace("listen = \"127.0.0.1:3478\"", "");
        let error = read::<RelayConfig>(&with(&fleet, &[])).unwrap_err().to_string();
        assert!(error.starts_with("config: listen"), "{error}");
        let error = read::<RelayConfig>(&with(&fleet, &["tunnel=0.0.0.0:7100"])).unwrap_err().to_string();
        assert!(error.starts_with("config: tunnel"), "{error}");
        assert!(read::<RelayConfig>(&with(&fleet, &["tunnel=127.0.0.1:0"])).is_ok());
        let nine: Vec<String> = (1..=9).map(|n| format!("\"192.0.2.{n}:3478\"")).collect();
        let direct = |count: usize| format!("return.direct=[{}]", nine[..count].join(","));
        let relay: RelayConfig = read(&with(&fleet, &["tunnel=127.0.0.1:7100", &direct(8)])).unwrap();
        assert_eq!((relay.returns.direct.len(), toml::to_string(&relay).unwrap().contains("[return]")), (8, true));
        let through: RelayConfig = read(&with(&fleet, &["tunnel=127.0.0.1:7100", &direct(0)])).unwrap();
        assert!(!toml::to_string(&through).unwrap().contains("return"), "what is the rule is not shown");
        for (settings, key) in [
            (["tunnel=127.0.0.1:7100", &direct(9)], "return.direct"),
            (["tunnel=127.0.0.1:7100", "return.direct=[\"192.0.2.1:0\"]"], "return.direct"),
            (["tunnel=127.0.0.1:7100", "return.direct=[\"0.0.0.0:3478\"]"], "return.direct"),
            (["tunnel=127.0.0.1:7100", "return.direct=[\"127.0.0.1:7100\"]"], "return.direct"),
            (["tunnel=127.0.0.1:7100", "return.direct=[\"192.0.2.1\"]"], "return.direct"),
            (["tunnel=127.0.0.1:7100", "return.through=true"], "return.through"),
            (["listen=127.0.0.1:3478", "return.direct=[\"192.0.2.1:3478\"]"], "return.direct"),
        ] {
            let error = read::<RelayConfig>(&with(&fleet, &settings)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: {key}")), "{settings:?}: {error}");
        }
        for good in ["http://store.internal:7000", "http://[::1]:7000", "http://localhost:7000"] {
            assert!(read::<RelayConfig>(&with(RELAY, &[&format!("state.endpoint={good}")])).is_ok(), "{good}");
        }
        assert!(read::<RelayConfig>(&with(RELAY, &[&format!("ticket_keys=[{keys}]")])).is_ok(), "eight may be there");
        for (setting, key) in [("listen=0.0.0.0:7000", "listen"), ("data=", "data"), ("secret=example", "secret")] {
            let error = read::<StateServerConfig>(&with(STATE_SERVER, &[setting])).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: {key}")), "{setting}: {error}");
        }
        assert!(
            read::<StateServerConfig>(&with(STATE_SERVER, &["listen=0.0.0.0:7000", "allow_plaintext=true"])).is_ok()
        );
    }
}
