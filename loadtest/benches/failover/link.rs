//! A relay's link: what nftables is told so that it is down, and up again.
//!
//! Decides what belongs to the link: its tunnel, and every TCP connection that it has. All of it is dropped on its way in, to
//! either side and in silence, as a cable that was pulled does it; a socket is told nothing. Only in a network namespace of
//! our own, which `cargo xtask bench failover` makes.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use crate::support::Dev;

/// Set by xtask where the network is our own: elsewhere no packet is dropped.
pub(crate) const OWN_NETWORK: &str = "TANDEM_BENCH_NETNS";

/// Why no link can be cut here; `None`: one can.
pub(crate) fn missing() -> Option<&'static str> {
    let own = std::env::var_os(OWN_NETWORK).is_some();
    (!own)
        .then_some("no network namespace of our own (`cargo xtask bench failover` as root makes one, with ip and nft)")
}

/// Writes the two files for the link of this process as it is now.
pub(crate) fn files(dev: &Dev, name: &str) -> Result<[String; 2], Box<dyn Error>> {
    let pid = dev.pid(name).ok_or("there is no such process")?;
    let inodes = sockets(pid)?;
    let mut rules = String::new();
    for (protocol, table) in [("udp", "udp"), ("tcp", "tcp")] {
        let ports: BTreeSet<u16> = ports(&std::fs::read_to_string(format!("/proc/{pid}/net/{table}"))?, &inodes);
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        if list.is_empty() {
            return Err(format!("{name} has no {protocol} socket").into());
        }
        for way in ["sport", "dport"] {
            rules.push_str(&format!("    {protocol} {way} {{ {list} }} drop\n"));
        }
    }
    let chain = "type filter hook input priority filter; policy accept;";
    let down = format!("table inet tandem_link {{\n  chain in {{\n    {chain}\n{rules}  }}\n}}\n");
    let write = |file: &str, text: &str| -> Result<String, Box<dyn Error>> {
        let path: &Path = &dev.folder.path().join(file);
        std::fs::write(path, text)?;
        Ok(path.to_str().ok_or("a path that is no text")?.to_owned())
    };
    Ok([write("link-down.nft", &down)?, write("link-up.nft", "delete table inet tandem_link\n")?])
}

/// The inodes of its sockets.
fn sockets(pid: u64) -> std::io::Result<BTreeSet<String>> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let inode = |link: std::path::PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    Ok(files.filter_map(|file| inode(std::fs::read_link(file.path()).ok()?)).collect())
}

/// The local ports of these sockets in a table of proc_net_tcp(5): the second column ends with the port, the tenth is the inode.
fn ports(table: &str, inodes: &BTreeSet<String>) -> BTreeSet<u16> {
    let port = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        inodes.contains(*columns.get(9)?).then_some(())?;
        u16::from_str_radix(columns.get(1)?.rsplit_once(':')?.1, 16).ok()
    };
    table.lines().filter_map(port).collect()
}
