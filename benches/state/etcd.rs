//! An etcd cluster of the bench's own, and what it makes of plain puts.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tandem_state_server::EtcdConfig;

use crate::Failure;

pub(crate) struct Cluster {
    nodes: Vec<Child>,
    pub(crate) endpoints: Vec<String>,
}

fn free() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Cluster {
    /// Starts `count` nodes with their data in `folder`.
    pub(crate) async fn start(folder: &Path, count: usize) -> Result<Self, Failure> {
        let mut places = Vec::new();
        for n in 0..count {
            places.push((format!("node{n}"), format!("http://{}", free()?), format!("http://{}", free()?)));
        }
        let members: Vec<String> = places.iter().map(|(name, _, peer)| format!("{name}={peer}")).collect();
        let mut cluster = Self { nodes: Vec::new(), endpoints: Vec::new() };
        for (name, client, peer) in &places {
            let child = Command::new("etcd")
                .args(["--name", name, "--data-dir"])
                .arg(folder.join(format!("{count}-{name}")))
                .args(["--listen-client-urls", client, "--advertise-client-urls", client])
                .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
                .args(["--initial-cluster", &members.join(","), "--logger", "zap", "--log-level", "error"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            cluster.nodes.push(child);
            cluster.endpoints.push(client.clone());
        }
        let mut client = cluster.client().await?;
        while client.put("ready", "", None).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Ok(cluster)
    }

    /// Asks the first node, as the state server does: what is compared is the work, not who does it.
    pub(crate) async fn client(&self) -> Result<etcd_client::KvClient, Failure> {
        let first = self.endpoints.first().ok_or("no node")?;
        Ok(etcd_client::Client::connect([first], None).await?.kv_client())
    }

    pub(crate) fn config(&self) -> EtcdConfig {
        EtcdConfig { endpoints: self.endpoints.clone(), tls: None }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}
