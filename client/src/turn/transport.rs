//! A way for packets to one other device, wherever it is in the call.
//!
//! Decides whom to send to: the address that the other device has said last. Leaves sockets and channels to
//! [`super::allocation`].

use std::net::IpAddr;

use tandem_wire::id::VirtualAddr;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::TurnError;
use super::allocation::{Allocation, Counts, Follower};
use crate::api::TurnServer;
use crate::limits;

/// A way for packets to one other device. Packets are lost, doubled and reordered as UDP does it. The tasks that keep it up
/// end with it.
pub struct TurnTransport {
    allocation: Allocation,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for TurnTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnTransport").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl TurnTransport {
    /// Allocates at a server, and follows the other device's address: `None` while it is not known. Gives the transport once
    /// the allocation is there; [`TurnTransport::connected`] waits for the rest.
    ///
    /// # Errors
    /// Those of [`Allocation::open`].
    pub async fn open(server: &TurnServer, peer: watch::Receiver<Option<VirtualAddr>>) -> Result<Self, TurnError> {
        Self::open_from(None, server, peer).await
    }

    /// The same, from this address of the machine.
    pub(crate) async fn open_from(
        source: Option<IpAddr>,
        server: &TurnServer,
        peer: watch::Receiver<Option<VirtualAddr>>,
    ) -> Result<Self, TurnError> {
        let allocation = Allocation::open_from(source, server).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(allocation.follower(), peer));
        Ok(Self { allocation, tasks })
    }

    /// Runs something for as long as the transport lives.
    pub(crate) fn run(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Our address in the call, now and from now on: the relay gives another one if it has lost us.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<Option<VirtualAddr>> {
        self.allocation.moves()
    }

    /// Waits until packets go out: the other device's address is known and bound. Cancel-safe.
    ///
    /// # Errors
    /// Why it is over.
    pub async fn connected(&self) -> Result<(), TurnError> {
        self.allocation.followed().await
    }

    /// Sends one packet, of at most [`limits::PAYLOAD_BYTES`]. One that the socket does not take is lost, and counted.
    ///
    /// # Errors
    /// [`TurnError::TooLarge`], [`TurnError::NotConnected`] (for a moment also while the other device moves); why it is over.
    pub async fn send(&self, payload: &[u8]) -> Result<(), TurnError> {
        let channel = self.channel_for(payload)?;
        self.allocation.send_on(channel, payload).await
    }

    /// The same without waiting, from any thread: a packet that the socket does not take at once is lost, and counted.
    ///
    /// # Errors
    /// Those of [`TurnTransport::send`].
    pub fn send_now(&self, payload: &[u8]) -> Result<(), TurnError> {
        let channel = self.channel_for(payload)?;
        self.allocation.send_now_on(channel, payload)
    }

    /// The channel to the other device, for a packet that it can take.
    fn channel_for(&self, payload: &[u8]) -> Result<u16, TurnError> {
        if payload.len() > limits::PAYLOAD_BYTES {
            return Err(TurnError::TooLarge(payload.len()));
        }
        self.allocation.is_on()?;
        self.allocation.channel().ok_or(TurnError::NotConnected)
    }

    /// Has packets given to this where they come in, on the task that reads them, instead of keeping them for
    /// [`TurnTransport::recv`]. It must not wait.
    pub fn hand_to(&self, sink: impl FnMut(&[u8]) + Send + 'static) {
        self.allocation.hand_to(sink);
    }

    /// The next packet. Cancel-safe.
    ///
    /// # Errors
    /// Why it is over.
    pub async fn recv(&self) -> Result<Vec<u8>, TurnError> {
        self.allocation.recv_from().await.map(|(packet, _)| packet)
    }

    /// How many packets were lost on this machine.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.allocation.counts()
    }

    /// Gives the allocation back. Dropped without, it ends after its lifetime, or with the call.
    pub async fn close(self) {
        self.allocation.close().await;
    }
}

/// Until nobody says any more where the other device is.
async fn follow(follower: Follower, mut peer: watch::Receiver<Option<VirtualAddr>>) {
    loop {
        let at = *peer.borrow_and_update();
        if let Some(at) = at {
            follower.follow(at).await;
        }
        if peer.changed().await.is_err() {
            return;
        }
    }
}
