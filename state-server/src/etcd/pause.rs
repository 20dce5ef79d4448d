//! Waiting before something is tried again: longer each time, and half of it by chance, so that state servers that lost
//! etcd at one moment do not come back at one.

use std::time::Duration;

use crate::limits;

/// The next wait.
pub(crate) struct Pause {
    next: Duration,
    tried: bool,
}

impl Pause {
    pub(crate) const fn new() -> Self {
        Self { next: limits::ETCD_RETRY, tried: false }
    }

    /// Says why it is waited, aloud the first time.
    pub(crate) fn because(&mut self, what: &'static str, error: &dyn std::fmt::Display) {
        if self.tried {
            tracing::debug!(%error, "{what}");
        } else {
            tracing::warn!(%error, "{what}");
        }
        self.tried = true;
    }

    pub(crate) async fn wait(&mut self) {
        let wait = jittered(self.next);
        self.next = (self.next * 2).min(limits::ETCD_RETRY_MAX);
        tokio::time::sleep(wait).await;
    }
}

/// Between half of it and all of it.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let mut chance = [0; 1];
    // Without chance it is all of it.
    if getrandom::fill(&mut chance).is_err() {
        return wait;
    }
    let [chance] = chance;
    wait / 2 + wait / 512 * u32::from(chance)
}
