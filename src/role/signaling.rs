//! `tandem signaling`: joins config, directory, store and API.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_signaling::directory::Directory;
use tandem_signaling::directory::embedded::EmbeddedDirectory;
use tandem_signaling::directory::stored::StoredDirectory;
use tandem_signaling::{Signaling, limits as bounds};
use tandem_state_client::RemoteStore;
use tandem_telemetry::http::{Limits, Networks, serve_within};
use tandem_wire::id::PopId;
use tokio::net::TcpListener;

use super::{Process, Role, Stop};
use crate::config::clients::SignalingConfig;
use crate::config::role::LogConfig;

impl Role for SignalingConfig {
    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn admin(&self) -> (SocketAddr, Networks) {
        (self.admin, self.admin_allow.0.clone())
    }

    async fn serve(self, process: Process) -> Result<(), Stop> {
        // Push tokens are nobody else's to read.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let directory = directory(&self).await?;
        let store =
            RemoteStore::of_several(&self.state.endpoints(), self.state.secret.get()).map_err(|e| e.to_string())?;
        let config = self.to_signaling().map_err(|error| error.to_string())?;
        let per_source = config.policy.connections_per_source;
        let signaling = Signaling::start(config, Arc::new(store), directory).map_err(|error| error.to_string())?;
        let listener =
            TcpListener::bind(self.listen).await.map_err(|error| format!("listen: cannot be bound: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("listen: cannot be bound: {error}"))?;
        tokio::select! {
            _ = signaling.ready() => process.ready("http", address),
            () = process.shutdown.requested() => return Ok(()),
        }
        let limits = Limits {
            from: Networks::everywhere(),
            connections_per_source: per_source,
            drain: bounds::DRAIN,
            ..Limits::new(bounds::CONNECTIONS, bounds::BODY_BYTES)
        };
        let until = process.shutdown.clone();
        let cors = signaling.cors();
        let outer = |router: axum::Router| router.layer(cors);
        serve_within(listener, signaling.router(), outer, async move { until.requested().await }, limits).await;
        Ok(())
    }
}

/// The directory of devices, as the config says.
async fn directory(config: &SignalingConfig) -> Result<Arc<dyn Directory>, Stop> {
    if let Some(at) = &config.directory {
        let store = RemoteStore::of_several(&at.endpoints(), at.secret.get());
        let store = store.map_err(|error| format!("directory: {error}"))?;
        return Ok(Arc::new(StoredDirectory::new(Arc::new(store), PopId(config.pop))));
    }
    let path = config.devices.clone().unwrap_or_default();
    match tokio::task::spawn_blocking(move || EmbeddedDirectory::open(&path)).await {
        Ok(opened) => Ok(Arc::new(opened.map_err(|error| format!("devices: {error}"))?)),
        Err(_) => Err("devices: the directory could not be opened".to_owned().into()),
    }
}
