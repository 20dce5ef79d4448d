//! A way to a server on which a device has another address than everybody else on this machine, and on which is kept what it
//! is told in clear.
//!
//! Decides nothing about what passes.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

/// What devices and a server said to each other, in the order in which it came.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// All values of a field of JSON.
    pub(crate) fn field(&self, name: &str) -> Vec<String> {
        let start = format!("\"{name}\":\"");
        self.text().split(&start).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    }
}

/// A TCP detour to `server`, which sees it come from `source`; gives its own address.
pub(crate) async fn tcp(server: SocketAddr, source: IpAddr) -> (SocketAddr, Said) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let said = Said::default();
    let kept = said.clone();
    tokio::spawn(async move {
        while let Ok((device, _)) = listener.accept().await {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((source, 0).into()).unwrap();
            let Ok(server) = socket.connect(server).await else { continue };
            let ((from_device, to_device), (from_server, to_server)) = (device.into_split(), server.into_split());
            tokio::spawn(pass(from_device, to_server, kept.clone()));
            tokio::spawn(pass(from_server, to_device, kept.clone()));
        }
    });
    (address, said)
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, said: Said) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        said.0.lock().unwrap().extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// A UDP detour, at `listener`, of any number of devices; the server sees each come from a port of its own of `source`.
pub(crate) fn udp(listener: UdpSocket, server: SocketAddr, source: IpAddr) {
    tokio::spawn(async move {
        let listener = Arc::new(listener);
        let mut devices: Vec<(SocketAddr, Arc<UdpSocket>)> = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while let Ok((read, device)) = listener.recv_from(&mut buffer).await {
            let known = devices.iter().find(|(known, _)| *known == device).map(|(_, socket)| Arc::clone(socket));
            let socket = match known {
                Some(socket) => socket,
                None => {
                    let socket = Arc::new(UdpSocket::bind((source, 0)).await.unwrap());
                    socket.connect(server).await.unwrap();
                    devices.push((device, Arc::clone(&socket)));
                    tokio::spawn(back(Arc::clone(&socket), Arc::clone(&listener), device));
                    socket
                }
            };
            let _ = socket.send(&buffer[..read]).await;
        }
    });
}

async fn back(server: Arc<UdpSocket>, listener: Arc<UdpSocket>, device: SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = server.recv(&mut buffer).await {
        let _ = listener.send_to(&buffer[..read], device).await;
    }
}
