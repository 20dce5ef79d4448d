//! A way to a TCP server on which its answers come late, in their order: slow, and not dead.
//!
//! Decides nothing about what passes; each piece of an answer is late by a time of its own.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

pub(crate) struct Slow {
    /// Where it takes connections.
    pub(crate) address: SocketAddr,
    delays_ms: Arc<Mutex<Range<u64>>>,
}

impl Slow {
    /// Stands before `server`, and is quick for now.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let delays_ms = Arc::new(Mutex::new(0..0));
        let delays = Arc::clone(&delays_ms);
        std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let Ok(far) = TcpStream::connect(server) else { continue };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let (there, back) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || at_once(there, far));
                let delays = Arc::clone(&delays);
                std::thread::spawn(move || late(back, near, &delays));
            }
        });
        Self { address, delays_ms }
    }

    /// From now on what is answered comes so many milliseconds late.
    pub(crate) fn delays(&self, ms: Range<u64>) {
        *self.delays_ms.lock().unwrap() = ms;
    }
}

fn at_once(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn late(mut from: TcpStream, mut to: TcpStream, delays: &Mutex<Range<u64>>) {
    let (pieces, waiting) = channel::<(SystemTime, Vec<u8>)>();
    let writer = std::thread::spawn(move || {
        for (due, piece) in waiting {
            if let Ok(early) = due.duration_since(SystemTime::now()) {
                std::thread::sleep(early);
            }
            if to.write_all(&piece).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let Range { start, end } = delays.lock().unwrap().clone();
        let spread = end.saturating_sub(start).max(1);
        let ms = start + u64::from(getrandom::u32().unwrap()) % spread;
        if pieces.send((SystemTime::now() + Duration::from_millis(ms), buffer[..read].to_vec())).is_err() {
            break;
        }
    }
    drop(pieces);
    let _ = writer.join();
}
