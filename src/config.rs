//! Config in layers: a TOML file, then the environment, then flags; each overrides the one before.
//!
//! Decides how the layers are read and joined, and that a mistake is named by its key before anything starts. Leaves what
//! the keys mean to [`role`].
//!
//! One scheme for the environment: `TANDEM_<ROLE>__<KEY>`, with two underscores between levels, as in
//! `TANDEM_RELAY__STATE__ENDPOINT` for `state.endpoint` of a relay. Each role reads only its own, so that two of them
//! can share an environment. Flags are `--set state.endpoint=…`.
//!
//! A text from the environment or a flag is a string, unless it reads as a TOML boolean or integer, or begins with `[`,
//! `{` or a quote: then it is that TOML value.

pub(crate) mod clients;
mod error;
mod layers;
pub(crate) mod lb;
pub(crate) mod role;
pub(crate) mod secret;
mod store;

pub(crate) use error::ConfigError;
pub(crate) use layers::{Layers, Setting};

use serde::de::DeserializeOwned;

/// What a role's config can do beside being read.
pub(crate) trait RoleConfig: DeserializeOwned {
    /// The role, as its subcommand is called.
    const ROLE: &'static str;

    /// Checks what no single key shows.
    fn check(&self) -> Result<(), ConfigError>;

    /// Whether it does what only `tandem dev` may.
    fn is_development(&self) -> bool {
        false
    }
}

/// Reads a role's config out of its layers.
pub(crate) fn read<C: RoleConfig>(layers: &Layers) -> Result<C, ConfigError> {
    let config: C = layers.deserialize()?;
    config.check().map_err(|error| layers.blame(error))?;
    Ok(config)
}
