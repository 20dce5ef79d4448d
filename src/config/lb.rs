//! What a load balancer must be told.
//!
//! Decides the keys, their types and their defaults, and which values cannot be. Leaves what they do to the role.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize};
use tandem_lb::Asker;
use tandem_wire::id::PopId;

use super::role::{LogConfig, NetworksConfig, StateConfig, any_admin};
use super::{ConfigError, RoleConfig};

/// One address, or a list of them.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct ListenConfig(pub(crate) Vec<SocketAddr>);

impl<'de> Deserialize<'de> for ListenConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an address, as in \"192.0.2.1:3478\", or a list of addresses")]
        enum OneOrMore {
            One(SocketAddr),
            More(Vec<SocketAddr>),
        }
        Ok(Self(match OneOrMore::deserialize(deserializer)? {
            OneOrMore::One(address) => vec![address],
            OneOrMore::More(addresses) => addresses,
        }))
    }
}

/// A load balancer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LbConfig {
    /// TURN over UDP, at up to 8 addresses. Name them: what answers from a wildcard leaves by whatever address the system
    /// routes by, and a process that is to follow on a wildcard waits for this one's end.
    pub(crate) listen: ListenConfig,
    /// Health and metrics, and on this machine where packets go.
    #[serde(default = "any_admin")]
    pub(crate) admin: SocketAddr,
    /// Who may connect there.
    #[serde(default)]
    pub(crate) admin_allow: NetworksConfig,
    /// The PoP that it serves.
    pub(crate) pop: u16,
    /// The store.
    pub(crate) state: StateConfig,
    /// What it logs.
    #[serde(default)]
    pub(crate) log: LogConfig,
    /// Not of the config: where the admin port finds the load balancer once it runs.
    #[serde(skip)]
    pub(crate) running: Arc<OnceLock<Asker>>,
}

impl LbConfig {
    /// What the load balancer's own crate is told.
    pub(crate) fn to_lb(&self) -> tandem_lb::Config {
        tandem_lb::Config { listen: self.listen.0.clone(), pop: PopId(self.pop) }
    }
}

impl RoleConfig for LbConfig {
    const ROLE: &'static str = "lb";

    fn check(&self) -> Result<(), ConfigError> {
        if self.listen.0.iter().any(|address| address.port() == 0) {
            return Err(ConfigError::new("listen", "clients must know the port: it cannot be 0"));
        }
        self.to_lb().check().map_err(|error| ConfigError::new("listen", error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, read};

    const LB: &str = "listen = \"127.0.0.1:3478\"\npop = 1\n\
        [state]\nendpoint = \"http://127.0.0.1:7000\"\nsecret = \"1b4f0e9851971998e732078544c96b36\"\n";

    fn with(setting: &str) -> Result<LbConfig, ConfigError> {
        let mut layers = Layers::from_table(LB.parse().unwrap(), "test");
        layers.set(&setting.parse().unwrap()).unwrap();
        read(&layers)
    }

    #[test]
    fn a_load_balancer_listens_at_one_address_or_several_and_shows_no_secret() {
        let one = with("listen=192.0.2.1:3478").unwrap();
        assert_eq!(one.listen.0, ["192.0.2.1:3478".parse().unwrap()]);
        let two = with("listen=[\"192.0.2.1:3478\",\"[2001:db8::1]:3478\"]").unwrap();
        assert_eq!(two.to_lb().listen.len(), 2);
        let shown = toml::to_string(&two).unwrap();
        assert!(shown.contains("(secret)") && shown.contains("2001:db8") && !shown.contains("1b4f0e"), "{shown}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        let nine = format!("listen=[{}]", ["\"127.0.0.1:1\""; 9].join(","));
        for (setting, key) in [
            ("listen=", "listen"),
            ("listen=[]", "listen"),
            ("listen=127.0.0.1", "listen"),
            ("listen=127.0.0.1:0", "listen"),
            ("listen=[\"127.0.0.1:1\",\"127.0.0.1\"]", "listen"),
            (&nine, "listen"),
            ("pop=65536", "pop"),
            ("state.endpoint=127.0.0.1:7000", "state.endpoint"),
            ("running=1", "running"),
        ] {
            let error = with(setting).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config: {key}")), "{setting}: {error}");
        }
    }
}
