//! `tandem relay`: joins config, store and relay.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem_relay::Relay;
use tandem_state_client::RemoteStore;
use tandem_telemetry::http::Networks;

use super::{Process, Role, with_source};
use crate::config::role::{LogConfig, RelayConfig};

impl Role for RelayConfig {
    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn admin(&self) -> (SocketAddr, Networks) {
        (self.admin, self.admin_allow.0.clone())
    }

    async fn serve(self, process: Process) -> Result<(), String> {
        let store = RemoteStore::new(&self.state.endpoint.text, self.state.secret.get()).map_err(|e| e.to_string())?;
        let relay = Relay::start(&self.to_relay(), Arc::new(store)).map_err(|error| with_source(&error))?;
        for source in relay.sources() {
            process.metrics.attach(source);
        }
        tokio::select! {
            ready = relay.ready() => if ready {
                process.ready("turn", relay.local_addr());
            },
            () = process.shutdown.requested() => return Ok(()),
        }
        tokio::select! {
            () = relay.ended() => Err("the packet thread has ended".to_owned()),
            () = process.shutdown.requested() => Ok(()),
        }
    }
}
