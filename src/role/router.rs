//! `tandem router`: joins config, store and device connections.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_router::{Router, limits as bounds};
use tandem_state_client::RemoteStore;
use tandem_telemetry::http::{Limits, Networks, serve};
use tokio::net::TcpListener;

use super::{Process, Role, Stop};
use crate::config::clients::RouterConfig;
use crate::config::role::LogConfig;

impl Role for RouterConfig {
    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn admin(&self) -> (SocketAddr, Networks) {
        (self.admin, self.admin_allow.0.clone())
    }

    async fn serve(self, process: Process) -> Result<(), Stop> {
        let store =
            RemoteStore::of_several(&self.state.endpoints(), self.state.secret.get()).map_err(|e| e.to_string())?;
        let router = Router::start(self.to_router().map_err(|error| error.to_string())?, Arc::new(store));
        let listener =
            TcpListener::bind(self.listen).await.map_err(|error| format!("listen: cannot be bound: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("listen: cannot be bound: {error}"))?;
        tokio::select! {
            _ = router.ready() => process.ready("http", address),
            () = process.shutdown.requested() => return Ok(()),
        }
        let limits = Limits {
            from: Networks::everywhere(),
            connections_per_source: self.connections_per_source,
            read_bytes_per_second: Some(bounds::BYTES_PER_SECOND),
            drain: bounds::DRAIN,
            ..Limits::new(bounds::CONNECTIONS, bounds::BODY_BYTES)
        };
        let until = process.shutdown.clone();
        serve(listener, router.routes(), async move { until.requested().await }, limits).await;
        router.close().await;
        Ok(())
    }
}
