//! A network between a state server and an etcd node that can be made to lose one direction, or one connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What gets through. What is held gets through later, as with a sender that repeats what was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Whole,
    /// Nothing comes back from etcd.
    NothingBack,
    /// Nothing at all.
    Cut,
    /// Nothing of one connection, of those that there were.
    WithoutConnection(usize),
    /// What comes back is late by so many milliseconds, each piece after the one before.
    Late(u64),
}

impl Network {
    fn holds(self, connection: usize, back: bool) -> bool {
        match self {
            Self::Whole | Self::Late(_) => false,
            Self::NothingBack => back,
            Self::Cut => true,
            Self::WithoutConnection(lost) => lost == connection,
        }
    }
}

pub struct Proxy {
    pub address: SocketAddr,
    network: watch::Sender<Network>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn to(etcd: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, seen) = watch::channel(Network::Whole);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(etcd).await else { continue };
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(carry(near_read, far_write, seen.clone(), number, false));
                tokio::spawn(carry(far_read, near_write, seen.clone(), number, true));
            }
        });
        Self { address, network, connections }
    }

    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    number: usize,
    back: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if network.wait_for(|network| !network.holds(number, back)).await.is_err() {
            return;
        }
        let late = match *network.borrow() {
            Network::Late(ms) if back => ms,
            _ => 0,
        };
        tokio::time::sleep(std::time::Duration::from_millis(late)).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
