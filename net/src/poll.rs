//! Waiting for several sockets at once.
//!
//! Decides nothing: it tells which of them can be read. Sockets leave by being closed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::socket::{Socket, Waker};
use crate::sys;

/// A set of sockets.
#[derive(Debug)]
pub struct Poll {
    set: OwnedFd,
}

impl Poll {
    /// No sockets yet.
    ///
    /// # Errors
    /// What the system says, for example when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { set: sys::epoll()? })
    }

    /// Watches a socket until it is dropped, under a number of the caller's own.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&self, socket: &Socket, number: u64) -> io::Result<()> {
        sys::epoll_add(self.set.as_fd(), socket.fd(), number)
    }

    /// Tells the numbers of sockets that can be read now, up to 256 of them; the others come the next time. One that was
    /// refused can be read too: reading gives the refusal.
    ///
    /// # Errors
    /// What the system says.
    pub fn ready(&self, tell: impl FnMut(u64)) -> io::Result<()> {
        sys::epoll_ready(self.set.as_fd(), tell)
    }

    /// Waits until one of them can be read, until `waker` is woken, or for `timeout` (`None`: as long as it takes).
    ///
    /// # Errors
    /// What the system says; an interrupted wait is none.
    pub fn wait(&self, waker: &Waker, timeout: Option<Duration>) -> io::Result<()> {
        sys::wait(self.set.as_fd(), waker.fd(), timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn ready(poll: &Poll) -> Vec<u64> {
        let mut ready = Vec::new();
        poll.ready(|number| ready.push(number)).unwrap();
        ready.sort_unstable();
        ready
    }

    #[test]
    fn those_that_can_be_read_are_told_and_one_that_is_closed_no_longer_is() {
        let (poll, waker) = (Poll::new().unwrap(), Waker::new().unwrap());
        let mut sockets: Vec<Option<Socket>> =
            (0..5).map(|_| Some(Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap())).collect();
        for (socket, number) in sockets.iter().zip(0..) {
            poll.add(socket.as_ref().unwrap(), number).unwrap();
        }
        assert_eq!(ready(&poll), [] as [u64; 0]);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in [1, 3] {
            peer.send_to(b"x", sockets[n].as_ref().unwrap().local_addr()).unwrap();
        }
        poll.wait(&waker, Some(Duration::from_secs(5))).unwrap();
        assert_eq!(ready(&poll), [1, 3]);
        sockets[1] = None;
        assert_eq!(ready(&poll), [3]);
    }

    #[test]
    fn a_wait_ends_by_the_waker_and_to_the_millisecond() {
        let (poll, waker) = (Poll::new().unwrap(), Waker::new().unwrap());
        let before = crate::clock::now().mono;
        poll.wait(&waker, Some(Duration::from_micros(2_500))).unwrap();
        assert!(crate::clock::now().mono.since(before).as_nanos() >= 2_500_000);
        waker.wake();
        poll.wait(&waker, None).unwrap();
    }
}
