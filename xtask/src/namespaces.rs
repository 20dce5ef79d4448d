//! A small network on one machine: clients, load balancer, relays and state server in network namespaces of their own, joined
//! by a bridge.
//!
//! Decides the parts, their addresses, and whose leftovers may go: a namespace carries the pid of its maker, and one whose
//! maker is gone is garbage. Leaves what runs there, and which faults there are, to whoever builds it. The tests of the root
//! package use this file as it is: the standard library alone, and `ip` of iproute2.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

/// What each namespace is called by: this, the pid of its maker, and the part.
pub(crate) const PREFIX: &str = "tandem-net-";
/// The part whose namespace the bridge is in. There each part's cable is called as the part: to pull it, set that link down.
pub(crate) const CORE: &str = "core";

/// The parts, with their addresses in one network of /24. No two of these networks can meet, however many there are.
pub(crate) const PARTS: [(&str, Ipv4Addr); 7] = [
    ("clients", Ipv4Addr::new(10, 87, 0, 2)),
    ("lb", Ipv4Addr::new(10, 87, 0, 3)),
    ("state", Ipv4Addr::new(10, 87, 0, 4)),
    ("relay-1", Ipv4Addr::new(10, 87, 0, 11)),
    ("relay-2", Ipv4Addr::new(10, 87, 0, 12)),
    ("relay-3", Ipv4Addr::new(10, 87, 0, 13)),
    ("relay-4", Ipv4Addr::new(10, 87, 0, 14)),
];
/// The load balancer's public address, beside the one that it speaks to relays from.
pub(crate) const PUBLIC: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 100);

/// The network. It is torn down when this is dropped.
#[derive(Debug)]
pub(crate) struct Topology {
    maker: u32,
}

impl Topology {
    /// Removes what crashed runs left, and builds the network. Needs root.
    ///
    /// # Errors
    /// What cannot be made, in the words of `ip`; what was made by then is removed.
    pub(crate) fn build() -> Result<Self, String> {
        remove_leftovers()?;
        let topology = Self { maker: std::process::id() };
        let all = PARTS.iter().map(|(part, _)| *part).chain([CORE]);
        ip(None, all.map(|part| format!("netns add {}", topology.namespace(part))))?;
        let mut lines = vec!["link add name bridge type bridge".to_owned(), "link set bridge up".to_owned()];
        for (part, _) in PARTS {
            let there = topology.namespace(part);
            lines.push(format!("link add name {part} type veth peer name eth0 netns {there}"));
            lines.push(format!("link set dev {part} master bridge up"));
        }
        ip(Some(&topology.namespace(CORE)), lines)?;
        for (part, address) in PARTS {
            let public = (part == "lb").then(|| format!("address add {PUBLIC}/24 dev eth0"));
            let lines = [format!("address add {address}/24 dev eth0")].into_iter().chain(public);
            let up = ["lo", "eth0"].map(|link| format!("link set {link} up"));
            ip(Some(&topology.namespace(part)), lines.chain(up))?;
        }
        Ok(topology)
    }

    /// Gives the public address to a part too, on `lo`, where nobody asks for it: it may send from there, and what is sent to
    /// the address goes to the load balancer as before. What an operator does for direct return (docs/operations.md).
    ///
    /// # Errors
    /// What cannot be set, in the words of `sh` or `ip`.
    pub(crate) fn share_public(&self, part: &str) -> Result<(), String> {
        let namespace = self.namespace(part);
        // First: it is not to be told to anybody for a moment either.
        let quiet = ["arp_ignore 1", "arp_announce 2"].map(|setting| {
            let (name, value) = setting.split_once(' ').unwrap_or((setting, ""));
            format!("echo {value} > /proc/sys/net/ipv4/conf/all/{name}\n")
        });
        fed("ip", &["netns", "exec", &namespace, "sh", "-e"], &quiet.concat())?;
        ip(Some(&namespace), [format!("address add {PUBLIC}/32 dev lo")])
    }

    /// The name of a part's namespace, as `ip netns exec` takes it.
    pub(crate) fn namespace(&self, part: &str) -> String {
        format!("{PREFIX}{}-{part}", self.maker)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // What cannot be removed is a leftover for the next one.
        if let Ok(all) = standing() {
            all.iter().filter(|one| one.maker == self.maker).for_each(|one| drop(one.remove()));
        }
    }
}

/// A namespace of such a network.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Its whole name.
    pub(crate) name: String,
    /// The pid of the process that made it.
    pub(crate) maker: u32,
}

impl Namespace {
    /// Whether its maker runs, or another process that has its pid now: then it is not ours to remove.
    pub(crate) fn is_kept(&self) -> bool {
        Path::new("/proc").join(self.maker.to_string()).exists()
    }

    fn remove(&self) -> Result<(), String> {
        ip(None, [format!("netns delete {}", self.name)])
    }
}

/// Every namespace of such a network on this machine.
///
/// # Errors
/// In the words of `ip`.
pub(crate) fn standing() -> Result<Vec<Namespace>, String> {
    let output = Command::new("ip").args(["netns", "list"]).output().map_err(|error| format!("ip: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let known = text.lines().filter_map(|line| {
        let name = line.split(' ').next()?;
        let maker = name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()?;
        Some(Namespace { name: name.to_owned(), maker })
    });
    Ok(known.collect())
}

/// Removes the namespaces whose makers are gone, and tells how many they were.
///
/// # Errors
/// In the words of `ip`.
pub(crate) fn remove_leftovers() -> Result<usize, String> {
    let gone: Vec<Namespace> = standing()?.into_iter().filter(|one| !one.is_kept()).collect();
    // Somebody else may be removing them too: what counts is that they are gone.
    gone.iter().for_each(|one| drop(one.remove()));
    match standing()?.iter().find(|one| !one.is_kept()) {
        Some(left) => Err(format!("{} cannot be removed (are we root?)", left.name)),
        None => Ok(gone.len()),
    }
}

/// Commands for `ip`, one a line, in a namespace or outside of all.
fn ip(namespace: Option<&str>, lines: impl IntoIterator<Item = String>) -> Result<(), String> {
    let inside = namespace.map(|name| ["-n", name]);
    let mut arguments: Vec<&str> = inside.iter().flatten().copied().collect();
    arguments.extend(["-batch", "-"]);
    let text: String = lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect();
    fed("ip", &arguments, &text)
}

/// Runs a program that reads `text`.
///
/// # Errors
/// What it says on stderr, if it does not end well.
pub(crate) fn fed(program: &str, arguments: &[&str], text: &str) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{program}: {error}");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(said)?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read to the end says why.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(said)?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
