//! What the children are told: their configs, written into the data folder.
//!
//! Decides secrets (drawn anew at each start), ports and paths. What is written is checked like any other config before
//! anything starts.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tandem_wire::id::PopId;
use tandem_wire::redact::Secret;
use toml::Table;

use super::keeper::Recipe;
use super::ports;
use super::table::Name;
use crate::Failure;
use crate::cli::DevArgs;
use crate::config::role::{RelayConfig, StateServerConfig};
use crate::config::{self, ConfigError, Layers, RoleConfig, Setting};

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The children, ready to be started, and what `tandem dev` shares with them.
#[derive(Debug)]
pub(crate) struct Children {
    pub(crate) recipes: [Recipe; 2],
    pub(crate) turn: SocketAddr,
    pub(crate) endpoint: String,
    pub(crate) state_secret: Secret,
    pub(crate) pop: PopId,
    /// The key that demo tickets are signed with.
    pub(crate) kid: u8,
    pub(crate) ticket_secret: Secret,
}

impl Children {
    /// Draws, writes and checks everything. Binds nothing for longer than it takes to see that it is free.
    pub(crate) fn prepare(args: &DevArgs) -> Result<Self, Failure> {
        let run = Failure::Run;
        let turn = if args.turn.port() == 0 { ports::free_udp(args.turn.ip()).map_err(run)? } else { args.turn };
        let store = ports::free_tcp(ANY_PORT.ip()).map_err(run)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&args.data_dir)
            .map_err(|error| run(format!("the data folder cannot be made: {error}")))?;
        let folder = fs::canonicalize(&args.data_dir)
            .map_err(|error| run(format!("the data folder cannot be read: {error}")))?;
        let data = folder.join("state.redb");

        let mut relay = Layers::from_table(relay_table(turn, store)?, "tandem dev");
        let mut state_server = Layers::from_table(Table::new(), "tandem dev");
        for (key, text) in [("listen", store.to_string()), ("admin", ANY_PORT.to_string())] {
            set(&mut state_server, key, text)?;
        }
        set(&mut state_server, "data", toml_string(&data)?)?;
        apply(args, &mut relay, &mut state_server)?;
        let checked: RelayConfig = config::read(&relay).map_err(of(Name::Relay))?;
        // What both must know is the relay's to say, and the state server's to follow.
        set(&mut state_server, "pop", checked.pop.to_string())?;
        let state_secret = checked.state.secret.get().clone();
        set(&mut state_server, "secret", String::from_utf8_lossy(state_secret.expose()).into_owned())?;
        let checked_server: StateServerConfig = config::read(&state_server).map_err(of(Name::StateServer))?;

        let recipes = [
            recipe(Name::StateServer, &folder, &state_server, Some(checked_server.data))?,
            recipe(Name::Relay, &folder, &relay, None)?,
        ];
        let Some(key) = checked.ticket_keys.first() else {
            return Err(ConfigError::new("relay.ticket_keys", "at least one ticket key is needed").into());
        };
        Ok(Self {
            recipes,
            turn: checked.listen,
            endpoint: checked.state.endpoint.text,
            state_secret,
            pop: PopId(checked.pop),
            kid: key.kid,
            ticket_secret: key.secret.get().clone(),
        })
    }
}

fn relay_table(turn: SocketAddr, store: SocketAddr) -> Result<Table, Failure> {
    let (state_secret, pop_secret, ticket_secret) = (draw()?, draw()?, draw()?);
    let text = format!(
        "listen = \"{turn}\"\nadmin = \"{ANY_PORT}\"\npop = 1\nrelay_id = 1\npop_secret = \"{pop_secret}\"\n\n\
         [state]\nendpoint = \"http://{store}\"\nsecret = \"{state_secret}\"\n\n\
         [[ticket_keys]]\nkid = 0\nsecret = \"{ticket_secret}\"\n"
    );
    text.parse().map_err(|_| Failure::Run("the config of the relay cannot be written".to_owned()))
}

/// 32 random bytes in hexadecimal.
fn draw() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Run(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A path as a quoted TOML string, whatever it holds.
fn toml_string(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| Failure::Run("the data folder's name is not UTF-8".to_owned()))?;
    Ok(toml::Value::from(text).to_string())
}

fn set(layers: &mut Layers, key: &str, text: String) -> Result<(), Failure> {
    Ok(layers.set(&Setting { key: key.to_owned(), text, origin: "tandem dev".to_owned() })?)
}

/// Hands `--set relay.key=value` to the relay's config, and so on.
fn apply(args: &DevArgs, relay: &mut Layers, state_server: &mut Layers) -> Result<(), Failure> {
    for setting in &args.set {
        let (role, key) = setting.key.split_once('.').unwrap_or((&setting.key, ""));
        let layers = match role {
            RelayConfig::ROLE if !key.is_empty() => &mut *relay,
            StateServerConfig::ROLE if !key.is_empty() => &mut *state_server,
            _ => {
                let what = "a setting of `tandem dev` begins with `relay.` or `state-server.`";
                return Err(ConfigError::new(&setting.key, what).set_by(Some("--set")).into());
            }
        };
        layers.set(&Setting { key: key.to_owned(), ..setting.clone() })?;
    }
    Ok(())
}

/// Names the role in front of the key.
fn of(name: Name) -> impl Fn(ConfigError) -> ConfigError {
    move |error| error.below(name.as_str())
}

fn recipe(name: Name, folder: &Path, layers: &Layers, store: Option<PathBuf>) -> Result<Recipe, Failure> {
    let path = folder.join(format!("{}.toml", name.as_str()));
    write_private(&path, &layers.to_toml())
        .map_err(|error| Failure::Run(format!("the config of the {} cannot be written: {error}", name.as_str())))?;
    let parent = std::process::id().to_string();
    let arguments =
        vec![name.as_str().into(), "--config".into(), path.into(), "--die-with-parent".into(), parent.into()];
    // The file that we run, even if another one has been put in its place since.
    Ok(Recipe { name, program: "/proc/self/exe".into(), arguments, store })
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
            data_dir: folder.join("a folder with \"quotes\""),
            json: true,
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
