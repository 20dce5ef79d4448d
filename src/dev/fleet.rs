//! The children of `tandem dev --fleet`: a PoP on one machine, each process with its own config.
//!
//! Decides how many there are of each, their ports and secrets, over the configs in `infra/fleet`. Everything begins anew at
//! each start: a cluster of etcd is bound to its ports.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tandem_wire::id::PopId;
use tandem_wire::redact::Secret;

use super::children::{ANY_PORT, Children, draw, folder_for, origins, recipe, set, toml_string};
use super::door::Door;
use super::keeper::Recipe;
use super::ports;
use super::table::{Kind, Name};
use crate::Failure;
use crate::cli::DevArgs;
use crate::config::{ConfigError, Layers, Setting};

/// How many there are of each.
const ETCD_NODES: u8 = 3;
const STATE_SERVERS: u8 = 2;
const SIGNALING_NODES: u8 = 2;
const ROUTERS: u8 = 2;

/// What all of them share.
struct Secrets {
    state: String,
    directory: String,
    pop: String,
    ticket: String,
    tokens: String,
}

/// The configs as they grow, each with the name of its process.
struct Fleet<'a> {
    args: &'a DevArgs,
    folder: &'a Path,
    recipes: Vec<Recipe>,
}

impl Fleet<'_> {
    /// Adds a process: its config from `infra/fleet`, then what we set, then what the command line sets.
    fn add(&mut self, name: Name, base: &str, settings: &[(&str, String)]) -> Result<(), Failure> {
        let base = base.parse().map_err(|_| Failure::Run(format!("the config of the {name} cannot be read")))?;
        let mut layers = Layers::from_table(base, "infra/fleet");
        for (key, text) in settings {
            set(&mut layers, key, text.clone())?;
        }
        for setting in &self.args.set {
            let (whose, key) = setting.key.split_once('.').unwrap_or((&setting.key, ""));
            if whose == name.kind.as_str() || whose == name.to_string() {
                layers.set(&Setting { key: key.to_owned(), ..setting.clone() })?;
            }
        }
        self.recipes.push(recipe(name, self.folder, &layers, None)?);
        Ok(())
    }

    /// A setting that is nobody's is a mistake.
    fn check_settings(&self) -> Result<(), Failure> {
        for setting in &self.args.set {
            let whose = setting.key.split_once('.').map_or("", |(whose, _)| whose);
            let known = |recipe: &Recipe| recipe.name.kind.as_str() == whose || recipe.name.to_string() == whose;
            if !self.recipes.iter().any(known) {
                let what =
                    "a setting of `tandem dev --fleet` begins with a kind of process, or one, and a dot (relay-2.)";
                return Err(ConfigError::new(&setting.key, what).set_by(Some("--set")).into());
            }
        }
        Ok(())
    }
}

fn tcp() -> Result<SocketAddr, Failure> {
    ports::free_tcp(ANY_PORT.ip()).map_err(Failure::Run)
}

fn quoted(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", "))
}

/// Draws, writes and checks everything. Binds nothing for longer than it takes to see that it is free.
pub(crate) fn prepare(args: &DevArgs) -> Result<Children, Failure> {
    let places = super::children::Places::choose(args)?;
    let folder = folder_for(args)?;
    let secrets = Secrets { state: draw()?, directory: draw()?, pop: draw()?, ticket: draw()?, tokens: draw()? };
    let ticket_keys = format!("[{{ kid = 0, secret = \"{}\" }}]", secrets.ticket);
    let api_keys = format!("[{{ id = \"dev\", secret = \"{}\" }}]", secrets.tokens);
    let mut fleet = Fleet { args, folder: &folder, recipes: Vec::new() };

    let nodes = etcd(&mut fleet)?;
    let stores: Vec<SocketAddr> = (0..STATE_SERVERS).map(|_| tcp()).collect::<Result<_, _>>()?;
    // A client keeps to the first that answers: every other one begins with another.
    let endpoints = |number: u8| {
        let all = stores.iter().cycle().skip(usize::from(number)).take(stores.len());
        quoted(all.map(|store| format!("http://{store}")))
    };
    for (number, store) in (1..).zip(&stores) {
        let settings = [
            ("listen", store.to_string()),
            ("secret", secrets.state.clone()),
            ("etcd.endpoints", quoted(nodes.iter().map(|node| format!("http://{node}")))),
        ];
        fleet.add(
            Name::one_of(Kind::StateServer, number),
            include_str!("../../infra/fleet/state-server.toml"),
            &settings,
        )?;
    }
    let directory = tcp()?;
    let data = folder.join("directory.redb");
    wipe(&data)?;
    let settings =
        [("listen", directory.to_string()), ("secret", secrets.directory.clone()), ("data", toml_string(&data)?)];
    fleet.add(Name::only(Kind::Directory), include_str!("../../infra/fleet/directory.toml"), &settings)?;

    for number in 1..=args.relays {
        let tunnel = ports::free_udp(ANY_PORT.ip()).map_err(Failure::Run)?;
        let settings = [
            ("tunnel", tunnel.to_string()),
            ("relay_id", number.to_string()),
            ("pop_secret", secrets.pop.clone()),
            ("ticket_keys", ticket_keys.clone()),
            ("state.endpoints", endpoints(number)),
            ("state.secret", secrets.state.clone()),
        ];
        fleet.add(Name::one_of(Kind::Relay, number), include_str!("../../infra/fleet/relay.toml"), &settings)?;
    }
    let settings = [
        ("listen", quoted([places.turn.to_string()])),
        ("state.endpoints", endpoints(0)),
        ("state.secret", secrets.state.clone()),
    ];
    fleet.add(Name::only(Kind::Lb), include_str!("../../infra/fleet/lb.toml"), &settings)?;

    let mut doors = Vec::new();
    let mut door = |listen: SocketAddr, kind: Kind| doors.push(Door { listen, kind, nodes: Vec::new() });
    door(places.api, Kind::Signaling);
    door(places.connect, Kind::Router);
    for (door, count) in doors.iter_mut().zip([SIGNALING_NODES, ROUTERS]) {
        for number in 1..=count {
            let (name, listen) = (Name::one_of(door.kind, number), tcp()?);
            door.nodes.push((name, listen));
            let mut settings = vec![
                ("listen", listen.to_string()),
                ("origins", origins(&places)),
                ("api_keys", api_keys.clone()),
                ("state.endpoints", endpoints(number)),
                ("state.secret", secrets.state.clone()),
            ];
            let base = match door.kind {
                Kind::Signaling => {
                    let turn = places.turn;
                    settings.extend([
                        ("dev", "true".to_owned()),
                        ("relays", format!("[{{ turn = \"turn:{turn}?transport=udp\", stun = \"stun:{turn}\" }}]")),
                        ("pop_secret", secrets.pop.clone()),
                        ("ticket_keys", ticket_keys.clone()),
                        ("directory.endpoint", format!("http://{directory}")),
                        ("directory.secret", secrets.directory.clone()),
                    ]);
                    include_str!("../../infra/fleet/signaling.toml")
                }
                _ => include_str!("../../infra/fleet/router.toml"),
            };
            fleet.add(name, base, &settings)?;
        }
    }
    fleet.check_settings()?;
    let first = stores.first().copied().unwrap_or(ANY_PORT);
    Ok(Children {
        recipes: fleet.recipes,
        page: places.page,
        turn: places.turn,
        api: places.api,
        connect: places.connect,
        endpoint: format!("http://{first}"),
        state_secret: Secret::new(secrets.state.into_bytes()),
        pop: PopId(1),
        kid: 0,
        ticket_secret: Secret::new(secrets.ticket.into_bytes()),
        doors,
    })
}

fn wipe(path: &Path) -> Result<(), Failure> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::Run(format!("what an earlier fleet left behind cannot be deleted: {error}")))
        }
        _ => Ok(()),
    }
}

/// The nodes of etcd, by where their clients reach them.
fn etcd(fleet: &mut Fleet<'_>) -> Result<Vec<SocketAddr>, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path).map(|folder| folder.join("etcd")).find(|program| program.is_file());
    let Some(program) = program else {
        return Err(Failure::Run(
            "a fleet keeps its calls in etcd, which is not installed (Debian: etcd-server)".to_owned(),
        ));
    };
    let nodes: Vec<(u8, SocketAddr, SocketAddr)> =
        (1..=ETCD_NODES).map(|number| Ok((number, tcp()?, tcp()?))).collect::<Result<_, Failure>>()?;
    let cluster: Vec<String> = nodes.iter().map(|(number, _, peer)| format!("etcd-{number}=http://{peer}")).collect();
    let (cluster, token) = (cluster.join(","), draw()?);
    let parent = std::process::id().to_string();
    for (number, client, peer) in &nodes {
        let name = Name::one_of(Kind::Etcd, *number);
        let data = fleet.folder.join(name.to_string());
        wipe(&data)?;
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let mut arguments: Vec<std::ffi::OsString> = vec!["tied".into(), parent.clone().into(), program.clone().into()];
        let name_text = name.to_string();
        for (flag, value) in [
            ("--name", name_text.as_str()),
            ("--listen-client-urls", &client_url),
            ("--advertise-client-urls", &client_url),
            ("--listen-peer-urls", &peer_url),
            ("--initial-advertise-peer-urls", &peer_url),
            ("--initial-cluster", &cluster),
            ("--initial-cluster-state", "new"),
            ("--initial-cluster-token", &token),
            ("--auto-compaction-mode", "revision"),
            ("--auto-compaction-retention", "100000"),
            ("--logger", "zap"),
            ("--log-level", "error"),
        ] {
            arguments.extend([flag.into(), value.into()]);
        }
        arguments.extend(["--data-dir".into(), data.into()]);
        let serves_at = Some(*client);
        fleet.recipes.push(Recipe { name, program: "/proc/self/exe".into(), arguments, store: None, serves_at });
    }
    Ok(nodes.into_iter().map(|(_, client, _)| client).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::clients::{RouterConfig, SignalingConfig};
    use crate::config::lb::LbConfig;
    use crate::config::role::{RelayConfig, StateServerConfig};
    use crate::config::{self, RoleConfig};

    /// The configs in `infra` are what an operator begins with: each can stand but for its secrets.
    #[test]
    fn the_configs_in_infra_can_stand_once_they_have_secrets() {
        fn check<R: RoleConfig>(text: &str) {
            let text = text.replace("set-me", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
            let layers = Layers::from_table(text.parse().unwrap(), "test");
            config::read::<R>(&layers).map_err(|error| panic!("{}: {error}", R::ROLE)).ok();
        }
        check::<StateServerConfig>(include_str!("../../infra/fleet/state-server.toml"));
        check::<StateServerConfig>(include_str!("../../infra/fleet/directory.toml"));
        check::<RelayConfig>(include_str!("../../infra/fleet/relay.toml"));
        check::<LbConfig>(include_str!("../../infra/fleet/lb.toml"));
        check::<SignalingConfig>(include_str!("../../infra/fleet/signaling.toml"));
        check::<RouterConfig>(include_str!("../../infra/fleet/router.toml"));
    }
}
