//! How a state server reaches its store, and how everyone else reaches the state server.
//!
//! Decides which of the ways exclude one another, and that nothing is said in clear to another machine unless somebody
//! says so. Leaves connecting to the stores.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ConfigError;
use super::secret::SecretConfig;
use crate::limits;

/// `http://host:port`.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct EndpointConfig {
    pub(crate) text: String,
}

impl<'de> Deserialize<'de> for EndpointConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let good = text.strip_prefix("http://").is_some_and(is_place);
        if good { Ok(Self { text }) } else { Err(de::Error::custom("not an endpoint (as in http://127.0.0.1:7000)")) }
    }
}

/// Whether it is host and port.
fn is_place(rest: &str) -> bool {
    rest.rsplit_once(':').is_some_and(|(host, port)| {
        let port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        port && (rest.parse::<SocketAddr>().is_ok() || is_name(host))
    })
}

/// Whether it is the name of a host. 10.0.0.256 is a mistyped address: no top-level domain is a number.
fn is_name(host: &str) -> bool {
    let labels = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-');
    let last = host.rsplit('.').next().unwrap_or_default();
    labels && !last.is_empty() && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// As it is written: one endpoint, or a list of them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<EndpointConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<EndpointConfig>,
    secret: SecretConfig,
}

/// How to reach the state servers of the PoP.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "WrittenState", into = "WrittenState")]
pub(crate) struct StateConfig {
    /// The one that is asked first.
    pub(crate) endpoint: EndpointConfig,
    /// Those that are asked when it is away.
    others: Vec<EndpointConfig>,
    pub(crate) secret: SecretConfig,
}

impl TryFrom<WrittenState> for StateConfig {
    type Error = &'static str;

    fn try_from(written: WrittenState) -> Result<Self, Self::Error> {
        let WrittenState { endpoint, endpoints, secret } = written;
        if endpoint.is_some() && !endpoints.is_empty() {
            return Err("endpoint and endpoints exclude one another");
        }
        let mut all = endpoint.into_iter().chain(endpoints);
        let endpoint = all.next().ok_or("endpoint = \"http://host:port\" is missing, or endpoints = [...]")?;
        Ok(Self { endpoint, others: all.collect(), secret })
    }
}

impl From<StateConfig> for WrittenState {
    fn from(config: StateConfig) -> Self {
        let StateConfig { endpoint, others, secret } = config;
        if others.is_empty() {
            return Self { endpoint: Some(endpoint), endpoints: others, secret };
        }
        Self { endpoint: None, endpoints: std::iter::once(endpoint).chain(others).collect(), secret }
    }
}

impl StateConfig {
    /// All of them, in the order in which they are asked.
    pub(crate) fn endpoints(&self) -> Vec<&str> {
        std::iter::once(&self.endpoint).chain(&self.others).map(|endpoint| endpoint.text.as_str()).collect()
    }
}

/// A node of etcd: `http://host:port` or `https://host:port`.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
struct NodeConfig(String);

impl<'de> Deserialize<'de> for NodeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let good = rest.is_some_and(is_place);
        if good { Ok(Self(text)) } else { Err(de::Error::custom("not an endpoint (as in https://10.0.0.1:2379)")) }
    }
}

impl NodeConfig {
    fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }

    fn is_loopback(&self) -> bool {
        let place = self.0.split_once("://").map_or("", |(_, place)| place);
        place.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback()) || place.starts_with("localhost:")
    }
}

/// A file in PEM, read with the config.
#[derive(Clone)]
struct PemConfig {
    path: String,
    bytes: Vec<u8>,
    /// Others on this machine can read it.
    is_open: bool,
}

impl std::fmt::Debug for PemConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

impl<'de> Deserialize<'de> for PemConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = String::deserialize(deserializer)?;
        let unreadable = |_| de::Error::custom("the file cannot be read");
        let file = File::open(&path).map_err(unreadable)?;
        let is_open = file.metadata().map_err(unreadable)?.permissions().mode() & 0o077 != 0;
        let mut bytes = Vec::new();
        file.take(limits::PEM_FILE_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
        let pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
        if pem { Ok(Self { path, bytes, is_open }) } else { Err(de::Error::custom("the file is not PEM")) }
    }
}

impl Serialize for PemConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.path)
    }
}

/// How to reach etcd.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EtcdConfig {
    /// One of each node.
    endpoints: Vec<NodeConfig>,
    /// Who signed the nodes' certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<PemConfig>,
    /// Our certificate, signed for etcd's clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cert: Option<PemConfig>,
    /// Its key, which nobody else can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PemConfig>,
    /// Speaks to etcd in clear over a network. For private networks only.
    #[serde(default)]
    allow_plaintext: bool,
}

impl EtcdConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let refused = |key: &str, what: &str| Err(ConfigError::new(format!("etcd.{key}"), what));
        if self.endpoints.is_empty() {
            return refused("endpoints", "at least one node is needed");
        }
        let tls = self.endpoints.iter().filter(|node| node.is_tls()).count();
        if tls > 0 && tls < self.endpoints.len() {
            return refused("endpoints", "https and http exclude one another");
        }
        for (name, file) in [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)] {
            match (tls > 0, file) {
                (true, None) => return refused(name, "https needs ca, cert and key"),
                (false, Some(_)) => return refused(name, "it is for https endpoints"),
                _ => {}
            }
        }
        if self.key.as_ref().is_some_and(|key| key.is_open) {
            return refused("key", "the file can be read by others (chmod 600)");
        }
        if tls == 0 && !self.allow_plaintext && !self.endpoints.iter().all(NodeConfig::is_loopback) {
            return refused("endpoints", "use https, or set etcd.allow_plaintext = true if the network is private");
        }
        Ok(())
    }

    /// What the state server's own crate is told.
    pub(crate) fn to_etcd(&self) -> tandem_state_server::EtcdConfig {
        let tls = self.ca.as_ref().zip(self.cert.as_ref()).zip(self.key.as_ref());
        tandem_state_server::EtcdConfig {
            endpoints: self.endpoints.iter().map(|node| node.0.clone()).collect(),
            tls: tls.map(|((ca, cert), key)| tandem_state_server::EtcdTls {
                ca: ca.bytes.clone(),
                cert: cert.bytes.clone(),
                key: key.bytes.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::*;
    use crate::config::role::{RelayConfig, StateServerConfig};
    use crate::config::{Layers, RoleConfig, read};

    fn config<C: RoleConfig>(text: &str) -> Result<C, String> {
        read(&Layers::from_table(text.parse().unwrap(), "test")).map_err(|error| error.to_string())
    }

    const SERVER: &str = "listen = \"127.0.0.1:7000\"\npop = 1\nsecret = \"1b4f0e9851971998e732078544c96b36\"\n";

    fn server(more: &str) -> Result<StateServerConfig, String> {
        config(&format!("{SERVER}{more}"))
    }

    fn refused(more: &str) -> String {
        server(more).err().unwrap_or_default()
    }

    #[test]
    fn a_state_server_has_a_file_or_etcd_and_not_both_and_not_neither() {
        assert!(server("data = \"a.redb\"").is_ok());
        assert!(server("[etcd]\nendpoints = [\"http://127.0.0.1:2379\"]").is_ok());
        assert!(refused("").starts_with("config: data"));
        assert!(
            refused("data = \"a.redb\"\n[etcd]\nendpoints = [\"http://127.0.0.1:2379\"]").starts_with("config: data")
        );
    }

    #[test]
    fn etcd_is_spoken_to_in_clear_only_here_or_where_somebody_says_so() {
        for (endpoints, key) in [
            ("[]", "etcd.endpoints"),
            ("[\"127.0.0.1:2379\"]", "etcd.endpoints"),
            ("[\"http://10.0.0.1:2379\"]", "etcd.endpoints"),
            ("[\"http://127.0.0.1:2379\", \"http://10.0.0.1:2379\"]", "etcd.endpoints"),
            ("[\"http://127.0.0.1:2379\", \"https://10.0.0.1:2379\"]", "etcd.endpoints"),
            ("[\"https://10.0.0.1:2379\"]", "etcd.ca"),
        ] {
            let error = refused(&format!("[etcd]\nendpoints = {endpoints}"));
            assert!(error.starts_with(&format!("config: {key}")), "{endpoints}: {error}");
        }
        assert!(server("[etcd]\nendpoints = [\"http://10.0.0.1:2379\"]\nallow_plaintext = true").is_ok());
        assert!(server("[etcd]\nendpoints = [\"http://[::1]:2379\", \"http://localhost:2380\"]").is_ok());
    }

    #[test]
    fn tls_to_etcd_needs_three_files_and_a_key_that_nobody_else_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = folder.path().join(name);
            write(&path, text).unwrap();
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let cert = file("cert", "-----BEGIN CERTIFICATE-----\n", 0o644);
        let (key, open) =
            (file("key", "-----BEGIN PRIVATE KEY-----\nhush\n", 0o600), file("open", "-----BEGIN ", 0o644));
        let none = file("none", "not PEM", 0o600);
        let tls = |cert: &str, key: &str| {
            format!(
                "[etcd]\nendpoints = [\"https://10.0.0.1:2379\"]\nca = \"{cert}\"\ncert = \"{cert}\"\nkey = \"{key}\""
            )
        };
        let good = server(&tls(&cert, &key)).unwrap();
        let shown = format!("{good:?} {}", toml::to_string(&good).unwrap());
        assert!(!shown.contains("hush") && shown.contains(&key), "{shown}");
        assert!(good.etcd.unwrap().to_etcd().tls.is_some());
        for (cert, key, named) in [(&cert, &open, "etcd.key"), (&none, &key, "etcd.ca"), (&cert, &none, "etcd.key")] {
            let error = refused(&tls(cert, key));
            assert!(error.starts_with(&format!("config: {named}")), "{error}");
        }
        let clear = format!("[etcd]\nendpoints = [\"http://127.0.0.1:2379\"]\nca = \"{cert}\"");
        assert!(refused(&clear).starts_with("config: etcd.ca"));
    }

    #[test]
    fn a_state_server_is_named_once_or_several_are_listed() {
        let relay = |state: &str| {
            let text = format!(
                "listen = \"127.0.0.1:3478\"\npop = 1\nrelay_id = 1\npop_secret = \"9f86d081884c7d659a2feaa0c55ad015\"\n\
                 [[ticket_keys]]\nkid = 3\nsecret = \"60303ae22b998861bce3b28f33eec1be\"\n\
                 [state]\nsecret = \"1b4f0e9851971998e732078544c96b36\"\n{state}"
            );
            config::<RelayConfig>(&text)
        };
        let (one, two) = ("http://127.0.0.1:7000", "http://store-2.internal:7000");
        let named = relay(&format!("endpoint = \"{one}\"")).unwrap();
        assert_eq!(named.state.endpoints(), [one]);
        let listed = relay(&format!("endpoints = [\"{one}\", \"{two}\"]")).unwrap();
        assert_eq!(listed.state.endpoints(), [one, two]);
        // What is shown can be read again.
        for config in [named, listed] {
            let written = toml::to_string(&config.state).unwrap();
            let again: WrittenState =
                toml::from_str(&written.replace("(secret)", "1b4f0e9851971998e732078544c96b36")).unwrap();
            assert_eq!(StateConfig::try_from(again).unwrap().endpoints(), config.state.endpoints());
        }
        for bad in ["", "endpoints = []", &format!("endpoint = \"{one}\"\nendpoints = [\"{two}\"]")] {
            let error = relay(bad).unwrap_err();
            assert!(error.starts_with("config: state"), "{bad}: {error}");
        }
    }
}
