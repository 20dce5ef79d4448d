//! What an idle device connection costs: the router's resident memory, and the kernel's, before and after.

use std::net::{Ipv4Addr, SocketAddr};

use crate::cluster::Cluster;
use crate::socket::Socket;
use crate::{Failure, verdict};

/// Source addresses: one has some 28,000 ports here, but each source has a share of places.
const PER_SOURCE: usize = 4_000;

fn resident(pid: u32) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    kib(&text, "Rss:")
}

/// Kernel memory in slabs, of the whole machine.
fn slab() -> Result<u64, Failure> {
    kib(&std::fs::read_to_string("/proc/meminfo")?, "Slab:")
}

fn kib(text: &str, name: &str) -> Result<u64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    Ok(line.split_whitespace().next().ok_or("no number")?.parse::<u64>()? * 1_024)
}

pub(crate) async fn measure(cluster: &Cluster, count: usize) -> Result<(), Failure> {
    let connect = async |n: usize| {
        let source = u8::try_from(1 + n / PER_SOURCE)?;
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 9, source), 0));
        Socket::connect(from, cluster.connect, &cluster.token(&format!("idle{n}"))?).await
    };
    // Some first, so that code and tables are there.
    let mut sockets = Vec::new();
    for n in 0..500.min(count) {
        sockets.push(connect(n).await?);
    }
    let (resident_before, slab_before) = (resident(cluster.router.pid())?, slab()?);
    let first = sockets.len();
    for n in first..count {
        sockets.push(connect(n).await?);
    }
    let more = (count - first).max(1) as f64;
    let resident_each = resident(cluster.router.pid())?.saturating_sub(resident_before) as f64 / more;
    let slab_each = slab()?.saturating_sub(slab_before) as f64 / more;
    // Both ends of a connection are on this machine, and are alike.
    let own = resident_each + slab_each / 2.0;
    println!(
        "{count} idle device connections: {:.1} KiB resident in the router and {:.1} KiB of kernel slab for both ends, each: \
         {:.1} KiB for the router's end (target 12 KiB: {})",
        resident_each / 1_024.0,
        slab_each / 1_024.0,
        own / 1_024.0,
        verdict(own <= 12.0 * 1_024.0)
    );
    drop(sockets);
    Ok(())
}
