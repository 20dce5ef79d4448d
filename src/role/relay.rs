//! `tandem relay`: joins config, store and relay.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_relay::Relay;
use tandem_state_client::RemoteStore;
use tandem_telemetry::http::Networks;

use super::{Process, Role, Stop, with_source};
use crate::config::ConfigError;
use crate::config::role::{LogConfig, RelayConfig};

impl Role for RelayConfig {
    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn admin(&self) -> (SocketAddr, Networks) {
        (self.admin, self.admin_allow.0.clone())
    }

    fn check_here(&self) -> Result<(), ConfigError> {
        let entrance = self.to_relay()?.entrance;
        entrance.check_here().map_err(|error| ConfigError::new("return.direct", error.to_string()))
    }

    async fn serve(self, process: Process) -> Result<(), Stop> {
        let store =
            RemoteStore::of_several(&self.state.endpoints(), self.state.secret.get()).map_err(|e| e.to_string())?;
        let relay = Relay::start(&self.to_relay().map_err(|error| error.to_string())?, Arc::new(store))
            .map_err(|error| with_source(&error))?;
        for source in relay.sources() {
            process.metrics.attach(source);
        }
        tokio::select! {
            ready = relay.ready() => if ready {
                process.ready(if self.tunnel.is_some() { "tunnel" } else { "turn" }, relay.local_addr());
            },
            () = process.shutdown.requested() => return Ok(()),
        }
        tokio::select! {
            () = relay.ended() => Err("the packet thread has ended".to_owned().into()),
            () = relay.superseded() => Err(Stop::Superseded),
            () = process.shutdown.requested() => {
                // In a fleet others take its calls over before it goes.
                relay.leave().await;
                Ok(())
            }
        }
    }
}
