//! The door to several nodes of one kind: what a load balancer for HTTP does in front of them in production.
//!
//! Decides which node a new connection goes to: the next one that serves. What is open to a node that dies is cut off, as it
//! is in production; who comes again comes to another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::supervisor::Orders;
use super::table::{Kind, Name, State};
use crate::limits;

/// One door.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listen: SocketAddr,
    pub(crate) kind: Kind,
    pub(crate) nodes: Vec<(Name, SocketAddr)>,
}

impl Door {
    /// Opens it, for as long as the process lives.
    pub(crate) async fn open(self, orders: Orders) -> std::io::Result<()> {
        let listener = TcpListener::bind(self.listen).await?;
        let (door, next) = (Arc::new(self), Arc::new(AtomicUsize::new(0)));
        let places = Arc::new(Semaphore::new(limits::DOOR_CONNECTIONS));
        tokio::spawn(async move {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let Ok((client, _)) = listener.accept().await else {
                    // No descriptor is left: one that ends frees some.
                    tokio::time::sleep(limits::KNOCK_EVERY).await;
                    continue;
                };
                let (door, orders, next) = (Arc::clone(&door), orders.clone(), Arc::clone(&next));
                tokio::spawn(async move {
                    door.lead(client, &orders, &next).await;
                    drop(place);
                });
            }
        });
        Ok(())
    }

    async fn lead(&self, mut client: TcpStream, orders: &Orders, next: &AtomicUsize) {
        let serving: Vec<Name> =
            orders.processes().iter().filter(|process| process.state == State::Ready).map(|p| p.name).collect();
        let begin = next.fetch_add(1, Ordering::Relaxed);
        let nodes = self.nodes.iter().cycle().skip(begin % self.nodes.len().max(1)).take(self.nodes.len());
        for (name, address) in nodes.filter(|(name, _)| serving.contains(name)) {
            let connected = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await;
            if let Ok(Ok(mut node)) = connected {
                let _ = (client.set_nodelay(true), node.set_nodelay(true));
                // One that is paused takes connections all the same; who waits at it comes again when it is killed.
                let _ = copy_bidirectional(&mut client, &mut node).await;
                return;
            }
            tracing::debug!(%name, "does not take a connection");
        }
    }
}
