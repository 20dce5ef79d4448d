//! The command line.
//!
//! Decides the words and flags of each role. Leaves what their values mean to `config`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tandem_wire::id::{BucketId, CallId};

use crate::EXIT_USAGE;
use crate::config::{ConfigError, Layers, Setting};

/// A voice/video relay and signaling system. One binary, one subcommand per role.
#[derive(Debug, Parser)]
#[command(name = "tandem", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The roles.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything on this machine, for development: state server, relay, signaling and router, and a phone to call with.
    Dev(DevArgs),
    /// Negotiates calls: the device API.
    Signaling(RoleArgs),
    /// Tells devices what happens to their calls.
    Router(RoleArgs),
    /// Forwards media between the legs of calls.
    Relay(RoleArgs),
    /// Takes the packets of all clients of a PoP, and carries each to the relay that has its call.
    Lb(RoleArgs),
    /// Keeps the records of calls.
    StateServer(RoleArgs),
    /// Runs a program that ends with its parent: how `tandem dev` starts those that are not ours.
    #[command(hide = true)]
    Tied(TiedArgs),
    /// Asks running processes, on their admin ports.
    Admin(AdminArgs),
}

/// What is to be run, and whose child it is.
#[derive(Debug, Args)]
pub(crate) struct TiedArgs {
    /// The pid of the parent.
    pub(crate) parent: u32,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// What can be asked.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    #[command(subcommand)]
    pub(crate) question: Question,
}

/// A question to a running process.
#[derive(Debug, Subcommand)]
pub(crate) enum Question {
    /// Where a load balancer sends the packets of a call, and why.
    Where(WhereArgs),
    /// The relays of a PoP: who serves, by which table, and how loaded each is.
    Relays(RelaysArgs),
}

/// Which state server is asked.
#[derive(Debug, Args)]
pub(crate) struct RelaysArgs {
    /// The admin port of a state server, as in `http://127.0.0.1:9100`.
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) state: String,
    /// Prints what the state server says, as it says it: one object of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which call, and which load balancer.
#[derive(Debug, Args)]
pub(crate) struct WhereArgs {
    /// The call, as in `call_…`.
    #[arg(long, value_name = "CALL", conflicts_with = "bucket", required_unless_present = "bucket")]
    pub(crate) call: Option<CallId>,
    /// A bucket, by its four hexadecimal digits.
    #[arg(long, value_name = "DIGITS", value_parser = bucket)]
    pub(crate) bucket: Option<BucketId>,
    /// The admin port of the load balancer, as in `http://127.0.0.1:9100`.
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) lb: String,
}

/// A bucket as tickets and keys spell it.
pub(crate) fn bucket(digits: &str) -> Result<BucketId, &'static str> {
    let good = digits.len() == 4 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let number = good.then(|| u16::from_str_radix(digits, 16).ok()).flatten();
    number.map(BucketId).ok_or("a bucket is four hexadecimal digits, as in 0abc")
}

/// Flags of every role.
///
/// Config comes from the file, then the environment (`TANDEM_<ROLE>__<KEY>`, two underscores between levels), then flags;
/// each overrides the one before.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// The config file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key of the config, as in `state.endpoint=http://127.0.0.1:7000`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// The same as `--set listen=…`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The same as `--set admin=…`.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The same as `--set log.filter=…`.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Checks the config, shows it without its secrets, and ends.
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Ends this process when the one with this pid, its parent, ends: what `tandem dev` starts does not outlive it.
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) die_with_parent: Option<u32>,
}

impl RoleArgs {
    /// The layers of `role`'s config.
    pub(crate) fn layers(&self, role: &str) -> Result<Layers, ConfigError> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers.file(path)?;
        }
        layers.environment(role, std::env::vars_os())?;
        for setting in &self.set {
            layers.set(setting)?;
        }
        for (flag, key, value) in [
            ("--listen", "listen", &self.listen),
            ("--admin", "admin", &self.admin),
            ("--log", "log.filter", &self.log),
        ] {
            if let Some(text) = value {
                layers.set(&Setting { key: key.to_owned(), text: text.clone(), origin: flag.to_owned() })?;
            }
        }
        Ok(layers)
    }
}

/// Flags of `tandem dev`.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Where the page is served; on this machine only. Port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,
    /// Where signaling listens. Without it: the port after the page's, or a free one if that is 0.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) api: Option<SocketAddr>,
    /// Where devices connect. Without it: two ports after the page's, or a free one if that is 0.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) connect: Option<SocketAddr>,
    /// Where the relay listens. Port 0 picks a free one, once.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3478")]
    pub(crate) turn: SocketAddr,
    /// Where the store and the generated configs are kept.
    #[arg(long, value_name = "FOLDER", default_value = "target/dev")]
    pub(crate) data_dir: PathBuf,
    /// Says that everything is ready with one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Starts a whole PoP: three nodes of etcd, two state servers, two signaling nodes, two routers, a load balancer and
    /// relays. Its store begins empty. Needs etcd.
    #[arg(long)]
    pub(crate) fleet: bool,
    /// How many relays a fleet has.
    #[arg(long, value_name = "1..16", requires = "fleet", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) relays: u8,
    /// Sets one key of a role's config, as in `relay.log.filter=debug` or `state-server.pop=2`. May be repeated.
    #[arg(long, value_name = "ROLE.KEY=VALUE")]
    pub(crate) set: Vec<Setting>,
}

/// Reads the command line; `Err` when there is nothing more to do than exit so.
pub(crate) fn parse() -> Result<Command, ExitCode> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.command),
        Err(error) => {
            // Help and version go to stdout, mistakes to stderr; who closed those does not want to hear.
            let _ = error.print();
            Err(if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_question_names_a_call_or_a_bucket_and_not_both() {
        let call = "call_00000000000000000000000001";
        for (words, good) in [
            (&["--bucket", "0abc"][..], true),
            (&["--call", call], true),
            (&["--call", call, "--bucket", "0abc"], false),
            (&[], false),
            (&["--bucket", "abc"], false),
            (&["--bucket", "+abc"], false),
            (&["--bucket", "0ABC"], false),
            (&["--call", "call_1"], false),
        ] {
            let all = ["tandem", "admin", "where", "--lb", "http://127.0.0.1:1"];
            assert_eq!(Cli::try_parse_from(all.iter().chain(words)).is_ok(), good, "{words:?}");
        }
    }

    #[test]
    fn a_named_flag_is_as_strong_as_set_and_later() {
        let words = ["tandem", "relay", "--listen", "127.0.0.1:1", "--set", "listen=127.0.0.1:2", "--log", "warn"];
        let Command::Relay(args) = Cli::try_parse_from(words).unwrap().command else { panic!() };
        let toml = args.layers("relay").unwrap().to_toml();
        assert!(toml.contains("listen = \"127.0.0.1:1\"") && toml.contains("filter = \"warn\""), "{toml}");
    }
}
