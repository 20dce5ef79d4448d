//! What the children are told: their configs, written into the data folder.
//!
//! Decides secrets (drawn anew at each start), ports and paths. What is written is checked like any other config before
//! anything starts.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tandem_wire::id::PopId;
use tandem_wire::redact::Secret;
use toml::Table;

use super::door::Door;
use super::keeper::Recipe;
use super::ports;
use super::table::{Kind, Name};
use crate::Failure;
use crate::cli::DevArgs;
use crate::config::clients::{RouterConfig, SignalingConfig};
use crate::config::role::{RelayConfig, StateServerConfig};
use crate::config::{self, ConfigError, Layers, RoleConfig, Setting};

pub(super) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The children, ready to be started, and what `tandem dev` shares with them.
#[derive(Debug)]
pub(crate) struct Children {
    pub(crate) recipes: Vec<Recipe>,
    /// Where the page is to be served.
    pub(crate) page: SocketAddr,
    pub(crate) turn: SocketAddr,
    /// Where signaling and the router serve.
    pub(crate) api: SocketAddr,
    pub(crate) connect: SocketAddr,
    pub(crate) endpoint: String,
    pub(crate) state_secret: Secret,
    pub(crate) pop: PopId,
    /// The key that demo tickets are signed with.
    pub(crate) kid: u8,
    pub(crate) ticket_secret: Secret,
    /// In a fleet: in front of its signaling nodes and its routers.
    pub(crate) doors: Vec<Door>,
}

/// Where everything listens.
pub(super) struct Places {
    pub(super) page: SocketAddr,
    pub(super) turn: SocketAddr,
    store: SocketAddr,
    pub(super) api: SocketAddr,
    pub(super) connect: SocketAddr,
}

impl Places {
    pub(super) fn choose(args: &DevArgs) -> Result<Self, Failure> {
        let tcp = |ip| ports::free_tcp(ip).map_err(Failure::Run);
        let (given, ip) = (args.http.port(), args.http.ip());
        // Beside the page's port, or anywhere if that may be anywhere.
        let beside = |wanted: Option<SocketAddr>, steps: u16| match (wanted, given.checked_add(steps)) {
            (Some(address), _) if address.port() != 0 => Ok(address),
            (None, Some(port)) if given != 0 => Ok(SocketAddr::new(ip, port)),
            (wanted, _) => tcp(wanted.map_or(ip, |address| address.ip())),
        };
        Ok(Self {
            page: if given == 0 { tcp(ip)? } else { args.http },
            turn: match args.turn.port() {
                0 => ports::free_udp(args.turn.ip()).map_err(Failure::Run)?,
                _ => args.turn,
            },
            store: tcp(ANY_PORT.ip())?,
            api: beside(args.api, 1)?,
            connect: beside(args.connect, 2)?,
        })
    }
}

/// The config of each role, as it grows.
struct Configs {
    state_server: Layers,
    relay: Layers,
    signaling: Layers,
    router: Layers,
}

impl Configs {
    fn of(&mut self, role: &str) -> Option<&mut Layers> {
        match role {
            StateServerConfig::ROLE => Some(&mut self.state_server),
            RelayConfig::ROLE => Some(&mut self.relay),
            SignalingConfig::ROLE => Some(&mut self.signaling),
            RouterConfig::ROLE => Some(&mut self.router),
            _ => None,
        }
    }

    /// Hands `--set relay.key=value` to the relay's config, and so on.
    fn apply(&mut self, args: &DevArgs) -> Result<(), Failure> {
        for setting in &args.set {
            let (role, key) = setting.key.split_once('.').unwrap_or((&setting.key, ""));
            match self.of(role).filter(|_| !key.is_empty()) {
                Some(layers) => layers.set(&Setting { key: key.to_owned(), ..setting.clone() })?,
                None => {
                    let what = "a setting of `tandem dev` begins with the name of a role and a dot (relay.)";
                    return Err(ConfigError::new(&setting.key, what).set_by(Some("--set")).into());
                }
            }
        }
        Ok(())
    }
}

impl Children {
    /// Draws, writes and checks everything. Binds nothing for longer than it takes to see that it is free.
    pub(crate) fn prepare(args: &DevArgs) -> Result<Self, Failure> {
        if args.fleet {
            return super::fleet::prepare(args);
        }
        let places = Places::choose(args)?;
        let folder = folder_for(args)?;
        let mut configs = Configs {
            state_server: Layers::from_table(Table::new(), "tandem dev"),
            relay: Layers::from_table(relay_table(&places)?, "tandem dev"),
            signaling: Layers::from_table(signaling_table(&places)?, "tandem dev"),
            router: Layers::from_table(router_table(&places)?, "tandem dev"),
        };
        for (key, text) in [("listen", places.store.to_string()), ("admin", ANY_PORT.to_string())] {
            set(&mut configs.state_server, key, text)?;
        }
        set(&mut configs.state_server, "data", toml_string(&folder.join("state.redb"))?)?;
        set(&mut configs.signaling, "devices", toml_string(&folder.join("devices.redb"))?)?;
        configs.apply(args)?;

        // What others must know too is the relay's to say, and theirs to follow.
        let relay: RelayConfig = config::read(&configs.relay).map_err(of(Name::only(Kind::Relay)))?;
        let Some(key) = relay.ticket_keys.first() else {
            return Err(ConfigError::new("relay.ticket_keys", "at least one ticket key is needed").into());
        };
        let Some(turn) = relay.listen else {
            return Err(ConfigError::new("relay.listen", "the one relay of `tandem dev` speaks to clients").into());
        };
        let text = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
        let state_secret = relay.state.secret.get().clone();
        set(&mut configs.state_server, "pop", relay.pop.to_string())?;
        set(&mut configs.state_server, "secret", text(&state_secret))?;
        set(&mut configs.signaling, "pop", relay.pop.to_string())?;
        set(&mut configs.signaling, "pop_secret", text(relay.pop_secret.get()))?;
        let ticket_key = format!("[{{ kid = {}, secret = {} }}]", key.kid, toml::Value::from(text(key.secret.get())));
        set(&mut configs.signaling, "ticket_keys", ticket_key)?;
        for layers in [&mut configs.signaling, &mut configs.router] {
            set(layers, "state.endpoint", relay.state.endpoint.text.clone())?;
            set(layers, "state.secret", text(&state_secret))?;
        }
        let state_server: StateServerConfig =
            config::read(&configs.state_server).map_err(of(Name::only(Kind::StateServer)))?;
        let signaling: SignalingConfig = config::read(&configs.signaling).map_err(of(Name::only(Kind::Signaling)))?;
        let router: RouterConfig = config::read(&configs.router).map_err(of(Name::only(Kind::Router)))?;

        Ok(Self {
            recipes: vec![
                recipe(Name::only(Kind::StateServer), &folder, &configs.state_server, state_server.data)?,
                recipe(Name::only(Kind::Relay), &folder, &configs.relay, None)?,
                recipe(Name::only(Kind::Signaling), &folder, &configs.signaling, None)?,
                recipe(Name::only(Kind::Router), &folder, &configs.router, None)?,
            ],
            page: places.page,
            turn,
            api: signaling.listen,
            connect: router.listen,
            endpoint: relay.state.endpoint.text,
            state_secret,
            pop: PopId(relay.pop),
            kid: key.kid,
            ticket_secret: key.secret.get().clone(),
            doors: Vec::new(),
        })
    }
}

/// The folder of the stores and configs, which nobody else can look into.
pub(super) fn folder_for(args: &DevArgs) -> Result<PathBuf, Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&args.data_dir)
        .map_err(|error| Failure::Run(format!("the data folder cannot be made: {error}")))?;
    fs::canonicalize(&args.data_dir).map_err(|error| Failure::Run(format!("the data folder cannot be read: {error}")))
}

/// A config of ours as a table.
fn table(text: &str) -> Result<Table, Failure> {
    text.parse().map_err(|_| Failure::Run("a config cannot be written".to_owned()))
}

fn relay_table(places: &Places) -> Result<Table, Failure> {
    let (state_secret, pop_secret, ticket_secret) = (draw()?, draw()?, draw()?);
    let Places { turn, store, .. } = places;
    table(&format!(
        "listen = \"{turn}\"\nadmin = \"{ANY_PORT}\"\npop = 1\nrelay_id = 1\npop_secret = \"{pop_secret}\"\n\n\
         [state]\nendpoint = \"http://{store}\"\nsecret = \"{state_secret}\"\n\n\
         [[ticket_keys]]\nkid = 0\nsecret = \"{ticket_secret}\"\n"
    ))
}

/// The page, by each name that this machine has for itself.
pub(super) fn origins(places: &Places) -> String {
    let (page, port) = (places.page, places.page.port());
    format!("[\"http://{page}\", \"http://localhost:{port}\"]")
}

/// The secret that tokens are signed with comes in twice: signaling mints and both verify.
fn api_keys() -> Result<&'static str, Failure> {
    static SECRET: OnceLock<String> = OnceLock::new();
    if SECRET.get().is_none() {
        let secret = draw()?;
        let _ = SECRET.set(format!("[[api_keys]]\nid = \"dev\"\nsecret = \"{secret}\"\n"));
    }
    Ok(SECRET.get().map(String::as_str).unwrap_or_default())
}

fn signaling_table(places: &Places) -> Result<Table, Failure> {
    let Places { turn, api, .. } = places;
    table(&format!(
        "listen = \"{api}\"\nadmin = \"{ANY_PORT}\"\ndev = true\norigins = {}\n\
         relays = [{{ turn = \"turn:{turn}?transport=udp\", stun = \"stun:{turn}\" }}]\n\n{}",
        origins(places),
        api_keys()?
    ))
}

fn router_table(places: &Places) -> Result<Table, Failure> {
    let connect = places.connect;
    table(&format!("listen = \"{connect}\"\nadmin = \"{ANY_PORT}\"\norigins = {}\n\n{}", origins(places), api_keys()?))
}

/// 32 random bytes in hexadecimal.
pub(super) fn draw() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Run(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A path as a quoted TOML string, whatever it holds.
pub(super) fn toml_string(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| Failure::Run("the data folder's name is not UTF-8".to_owned()))?;
    Ok(toml::Value::from(text).to_string())
}

pub(super) fn set(layers: &mut Layers, key: &str, text: String) -> Result<(), Failure> {
    Ok(layers.set(&Setting { key: key.to_owned(), text, origin: "tandem dev".to_owned() })?)
}

/// Names the role in front of the key.
fn of(name: Name) -> impl Fn(ConfigError) -> ConfigError {
    move |error| error.below(&name.to_string())
}

pub(super) fn recipe(name: Name, folder: &Path, layers: &Layers, store: Option<PathBuf>) -> Result<Recipe, Failure> {
    let path = folder.join(format!("{name}.toml"));
    write_private(&path, &layers.to_toml())
        .map_err(|error| Failure::Run(format!("the config of the {name} cannot be written: {error}")))?;
    let parent = std::process::id().to_string();
    let arguments =
        vec![name.kind.subcommand().into(), "--config".into(), path.into(), "--die-with-parent".into(), parent.into()];
    // The file that we run, even if another one has been put in its place since.
    Ok(Recipe { name, program: "/proc/self/exe".into(), arguments, store, serves_at: None })
}

/// Writes a file that nobody else may read, even while it is being written and whatever was there before.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn args(folder: &Path, settings: &[&str]) -> DevArgs {
        DevArgs {
            http: ANY_PORT,
            turn: ANY_PORT,
            api: None,
            connect: None,
            data_dir: folder.join("a folder with \"quotes\""),
            json: true,
            fleet: false,
            relays: 4,
            set: settings.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn the_configs_are_private_and_name_the_same_store_and_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let children = Children::prepare(&args(folder.path(), &["relay.realm=dev", "relay.pop=7"])).unwrap();
        let read = |name: &str| {
            let path = folder.path().join("a folder with \"quotes\"").join(name);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::read_to_string(path).unwrap().parse::<Table>().unwrap()
        };
        let (relay, server) = (read("relay.toml"), read("state-server.toml"));
        assert_eq!(relay["state"]["secret"], server["secret"]);
        assert_eq!(
            relay["state"]["endpoint"].as_str().unwrap(),
            format!("http://{}", server["listen"].as_str().unwrap())
        );
        assert_eq!((relay["realm"].as_str(), server["pop"].as_integer()), (Some("dev"), Some(7)));
        assert_eq!(children.pop, PopId(7));
        let again = Children::prepare(&args(folder.path(), &[])).unwrap();
        assert_ne!(again.ticket_secret, children.ticket_secret);
        assert_ne!(again.state_secret, children.state_secret);
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_role_before_anything_starts() {
        let folder = tempfile::tempdir().unwrap();
        for (setting, key) in [
            ("relay.realm=much-too-long", "relay.realm"),
            ("relay.relam=dev", "relay.relam"),
            ("state-server.listen=10.0.0.0/33", "state-server.listen"),
            ("state-server.listen=0.0.0.0:7000", "state-server.listen"),
            ("realm=dev", "realm"),
            ("relay=dev", "relay"),
        ] {
            match Children::prepare(&args(folder.path(), &[setting])) {
                Err(Failure::Config(error)) => {
                    let text = error.to_string();
                    assert!(text.starts_with(&format!("config: {key}")) && text.contains("--set"), "{setting}: {text}");
                }
                other => panic!("{setting}: {other:?}"),
            }
        }
    }
}
