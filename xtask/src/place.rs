//! Where things are: the repository, the target directory, the programs that cargo builds.
//!
//! Decides paths only. Leaves it to others whether anything is there.

use std::path::{Path, PathBuf};

/// The repository's root: the directory above this crate's.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The `tandem` binary of a profile's directory (`debug`, `release`).
pub(crate) fn tandem(profile: &str) -> PathBuf {
    target().join(profile).join("tandem")
}

/// The cargo that runs us, so that a toolchain override holds for everything.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Whether CI runs us.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
