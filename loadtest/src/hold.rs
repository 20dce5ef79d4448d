//! Calls that are held: they ring while the others are watched, and are accepted all at once, when the timeline says so.
//!
//! Decides when that may be and when it is done: nobody is accepted before all of them ring, and it counts only if no caller
//! had been told by the time that all of them were accepted. So a fault between an accept and its push can be placed.

use std::sync::Mutex;

use tandem_client::Call;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::limits;

/// How far the held calls have come.
#[derive(Debug, Clone, Copy, Default)]
struct Come {
    ringing: usize,
    told: bool,
    accepted: usize,
    failed: usize,
}

/// Whether a caller knows that its call was accepted.
type Knows = Box<dyn Fn() -> bool + Send>;

/// The held calls of a run.
pub struct Hold {
    planned: usize,
    come: watch::Sender<Come>,
    callers: Mutex<Vec<Knows>>,
}

impl Hold {
    /// Of so many calls.
    #[must_use]
    pub fn new(planned: usize) -> Self {
        Self { planned, come: watch::Sender::new(Come::default()), callers: Mutex::default() }
    }

    /// One rings at its callee now. Waits until it is to be accepted.
    pub async fn rings(&self, call: &Call) {
        let state = call.state();
        self.rings_until_told(Box::new(move || state.borrow().peer.is_some())).await;
    }

    async fn rings_until_told(&self, caller_knows: Knows) {
        self.callers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(caller_knows);
        self.come.send_modify(|come| come.ringing += 1);
        // Its sender is ours.
        let _ = self.come.subscribe().wait_for(|come| come.told).await;
    }

    /// The accept of one was answered.
    pub fn answered(&self, good: bool) {
        self.come.send_modify(|come| {
            come.accepted += usize::from(good);
            come.failed += usize::from(!good);
        });
    }

    /// Has all of them accepted, and waits until all of that was answered.
    ///
    /// # Errors
    /// Not all of them ring, were accepted in time, or were accepted before a caller was told.
    pub async fn accept(&self) -> Result<(), String> {
        let Come { ringing, .. } = *self.come.borrow();
        if self.planned == 0 || ringing < self.planned {
            return Err(format!("{ringing} of {} held calls ring", self.planned));
        }
        self.come.send_modify(|come| come.told = true);
        let mut come = self.come.subscribe();
        let all = come.wait_for(|come| come.accepted + come.failed >= self.planned);
        let _ = timeout(limits::ACCEPT_WITHIN, all).await;
        let callers = self.callers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let knowing = callers.iter().filter(|knows| knows()).count();
        let Come { accepted, .. } = *self.come.borrow();
        if accepted < self.planned {
            return Err(format!("{accepted} of {} held calls were accepted in time", self.planned));
        }
        if knowing > 0 { Err(format!("{knowing} callers knew before all were accepted")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Calls that ring, each with what its caller knows.
    fn ringing(hold: &Arc<Hold>, knowing: &[bool], accept: bool) {
        for knows in knowing.iter().copied() {
            let hold = Arc::clone(hold);
            tokio::spawn(async move {
                hold.rings_until_told(Box::new(move || knows)).await;
                hold.answered(accept);
            });
        }
    }

    async fn accepted(planned: usize, knowing: &[bool], accept: bool) -> Result<(), String> {
        let hold = Arc::new(Hold::new(planned));
        ringing(&hold, knowing, accept);
        tokio::task::yield_now().await;
        hold.accept().await
    }

    #[tokio::test]
    async fn calls_are_accepted_when_all_of_them_ring_and_no_caller_knows_yet() {
        assert_eq!(accepted(2, &[false, false], true).await, Ok(()));
        assert_eq!(accepted(3, &[false, false], true).await, Err("2 of 3 held calls ring".to_owned()));
        assert_eq!(accepted(0, &[], true).await, Err("0 of 0 held calls ring".to_owned()));
        assert_eq!(accepted(2, &[false, true], true).await, Err("1 callers knew before all were accepted".to_owned()));
        let refused = Err("0 of 2 held calls were accepted in time".to_owned());
        assert_eq!(accepted(2, &[false, false], false).await, refused);
    }
}
