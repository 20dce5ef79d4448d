//! The end of a process, asked for by a signal or from within.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A wish to end, shared by everyone who has to know.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown(Arc<watch::Sender<bool>>);

impl Shutdown {
    /// Asked for by nobody yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Asked for by SIGTERM and SIGINT from now on. Must be called in a tokio runtime.
    pub(crate) fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let mut signals = signal(kind)?;
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                signals.recv().await;
                shutdown.request();
            });
        }
        Ok(shutdown)
    }

    /// Asks for the end.
    pub(crate) fn request(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the end is asked for.
    pub(crate) async fn requested(&self) {
        // The sender lives as long as we do.
        let _ = self.0.subscribe().wait_for(|requested| *requested).await;
    }
}
