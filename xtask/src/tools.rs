//! The programs of other people that we need: protoc, node, Chromium, coturn, Firefox.
//!
//! Decides what is missing, and installs it from Debian as root. Leaves rustup and cargo's own tools alone: whoever runs
//! us has them.

use std::path::Path;

use crate::Trouble;
use crate::child::Child;

/// A program, and how to come by it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// What it is called by.
    pub(crate) program: &'static str,
    /// The Debian packages that bring it.
    pub(crate) packages: &'static [&'static str],
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// The oldest version that will do, where an older one is about.
    pub(crate) version_min: Option<(u32, u32)>,
}

/// Compiles the state server's contract.
pub(crate) const PROTOC: Tool =
    Tool { program: "protoc", packages: &["protobuf-compiler"], purpose: "the gRPC contract", version_min: None };
/// What etcd's contract is written in terms of; not a program, but the same holds for it.
pub(crate) const PROTOS: Tool = Tool {
    program: "/usr/include/google/protobuf/descriptor.proto",
    packages: &["libprotobuf-dev"],
    purpose: "etcd's gRPC contract",
    version_min: None,
};
/// The store of a PoP with several state servers; its tests start clusters of their own. Debian starts a server of its own
/// as a service where there is systemd: nothing here needs that one.
pub(crate) const ETCD: Tool =
    Tool { program: "etcd", packages: &["etcd-server"], purpose: "the store on etcd", version_min: None };
/// Asks and mends etcd from a terminal; the tests of its faults do.
pub(crate) const ETCDCTL: Tool =
    Tool { program: "etcdctl", packages: &["etcd-client"], purpose: "the store on etcd", version_min: None };
/// Builds the page and runs its tests. The floor is Vite's (package.json, "engines").
pub(crate) const NODE: Tool = Tool {
    program: "node",
    packages: &["nodejs", "npm"],
    purpose: "the web page",
    // Debian 13 has it; on Debian 12 node has to come from elsewhere.
    version_min: Some((20, 19)),
};
/// Comes with node, but is a package of its own in Debian.
pub(crate) const NPM: Tool = Tool { program: "npm", packages: &["npm"], purpose: "the web page", version_min: None };
/// The browser of the end-to-end tests.
pub(crate) const CHROMIUM: Tool =
    Tool { program: "chromium", packages: &["chromium"], purpose: "calls between browsers", version_min: None };
/// A TURN client and server that we did not write.
pub(crate) const COTURN: Tool =
    Tool { program: "turnutils_uclient", packages: &["coturn"], purpose: "a TURN client of others", version_min: None };
/// Makes the network namespaces in which a phone loses an address.
pub(crate) const IP: Tool =
    Tool { program: "ip", packages: &["iproute2"], purpose: "tests in network namespaces", version_min: None };
/// Drops packets in them. Where it is in Debian; the path of who is not root does not lead there.
pub(crate) const NFT: Tool =
    Tool { program: "/usr/sbin/nft", packages: &["nftables"], purpose: "faults of a network", version_min: None };
/// Runs schemathesis.
pub(crate) const PYTHON: Tool = Tool {
    program: "python3",
    packages: &["python3", "python3-venv"],
    purpose: "fuzzing the API by its document",
    version_min: None,
};
/// The other browser.
pub(crate) const FIREFOX: Tool =
    Tool { program: "firefox-esr", packages: &["firefox-esr"], purpose: "calls with Firefox", version_min: None };

/// What the product and its page are built with.
pub(crate) const BUILD: &[Tool] = &[PROTOC, PROTOS, NODE, NPM];
/// What `cargo xtask test` needs.
pub(crate) const TEST: &[Tool] = &[PROTOC, PROTOS, NODE, NPM, CHROMIUM, COTURN, IP, NFT, ETCD, ETCDCTL];

/// Sees to it that all of `tools` are there.
///
/// # Errors
/// [`Trouble::Missing`] with what to install when we are not root or Debian's version is too old; [`Trouble::Failed`]
/// when the installation fails.
pub(crate) fn see_to(tools: &[Tool]) -> Result<(), Trouble> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        return Err(Trouble::Missing(what_to_install(&missing)));
    }
    install(&packages(&missing))?;
    let missing: Vec<Tool> = missing.into_iter().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() { Ok(()) } else { Err(Trouble::Missing(what_to_install(&missing))) }
}

impl Tool {
    pub(crate) fn is_there(&self) -> bool {
        if self.program.starts_with('/') {
            return Path::new(self.program).is_file();
        }
        if !on_path(self.program) {
            return false;
        }
        let Some(floor) = self.version_min else { return true };
        Child::new(self.program, &["--version"]).quiet().and_then(|said| version(&said)).is_some_and(|v| v >= floor)
    }
}

fn on_path(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    std::env::split_paths(&path).any(|dir| is_executable(&dir.join(program)))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

pub(crate) fn is_root() -> bool {
    Child::new("id", &["-u"]).quiet().is_some_and(|said| said.trim() == "0")
}

/// Major and minor of a text like `v20.19.2`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.trim().trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Each package once, in the order of the tools.
fn packages(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for package in tools.iter().flat_map(|tool| tool.packages) {
        if !packages.contains(package) {
            packages.push(*package);
        }
    }
    packages
}

fn what_to_install(missing: &[Tool]) -> String {
    let mut text = String::from("this machine lacks:\n");
    for tool in missing {
        let version = tool.version_min.map_or(String::new(), |(major, minor)| format!(" {major}.{minor} or newer"));
        text.push_str(&format!("  {}{version}, for {}\n", tool.program, tool.purpose));
    }
    text.push_str(&format!("Install them, on Debian as root:\n  apt-get install {}", packages(missing).join(" ")));
    if missing.iter().any(|tool| tool.program == NODE.program) {
        text.push_str("\nDebian 12's node is too old: take one from another source there.");
    }
    text
}

fn install(packages: &[&str]) -> Result<(), Trouble> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&["update"])?;
    if apt(&arguments).is_ok() {
        return Ok(());
    }
    // A large install can break half-way and leave packages unpacked but not set up: mend that, then once more.
    apt(&["install", "--yes", "--fix-broken"])?;
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> Result<(), Trouble> {
    Child::new("apt-get", arguments).env("DEBIAN_FRONTEND", "noninteractive").run()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GHOST: Tool =
        Tool { program: "no-such-program", packages: &["ghost", "npm"], purpose: "this test", version_min: None };

    #[test]
    fn a_tool_is_there_when_it_is_on_the_path_and_new_enough() {
        let shell = Tool { program: "sh", packages: &[], purpose: "", version_min: None };
        assert!(shell.is_there());
        assert!(!GHOST.is_there());
        let cargo = Tool { program: "cargo", version_min: Some((20, 19)), ..shell };
        assert!(!cargo.is_there());
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("v20.19.2\n"), Some((20, 19)));
        assert!(version("v20.9.0") < version("v20.19.0"));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn who_is_not_root_is_told_each_package_once_and_what_it_is_for() {
        let text = what_to_install(&[GHOST, NODE, NPM]);
        assert!(text.contains("no-such-program, for this test"), "{text}");
        assert!(text.contains("node 20.19 or newer"), "{text}");
        assert!(text.contains("apt-get install ghost npm nodejs\n"), "{text}");
    }
}
