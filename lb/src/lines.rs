//! The lines: a connected socket to each relay.
//!
//! Decides nothing: opens and closes them as steering says. One that cannot be opened is tried again with each probe; until
//! then its relay is silent, which steering knows what to do about.

use std::net::SocketAddr;

use tandem_core::steering::Line;
use tandem_net::poll::Poll;
use tandem_net::socket::Socket;

/// Where a line leads, and its socket if there is one.
#[derive(Debug)]
struct Way {
    to: SocketAddr,
    socket: Option<Socket>,
}

/// All lines, by their numbers, and what waits for them.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) poll: Poll,
    ways: Vec<Option<Way>>,
}

/// Sockets have these numbers in the poll: public ones as they come, lines from here on.
const FIRST: u64 = 1 << 16;

impl Lines {
    pub(crate) const fn new(poll: Poll) -> Self {
        Self { poll, ways: Vec::new() }
    }

    /// The line whose socket has this number in the poll.
    pub(crate) fn numbered(number: u64) -> Option<Line> {
        number.checked_sub(FIRST).and_then(|line| u16::try_from(line).ok()).map(Line)
    }

    pub(crate) fn connect(&mut self, line: Line, to: SocketAddr) {
        let at = usize::from(line.0);
        if at >= self.ways.len() {
            self.ways.resize_with(at + 1, || None);
        }
        if let Some(way) = self.ways.get_mut(at) {
            *way = Some(Way { to, socket: None });
        }
        self.open(line);
    }

    pub(crate) fn disconnect(&mut self, line: Line) {
        if let Some(way) = self.ways.get_mut(usize::from(line.0)) {
            *way = None;
        }
    }

    /// Opens the socket of a line, if it is not open.
    pub(crate) fn open(&mut self, line: Line) {
        let Some(Some(way)) = self.ways.get_mut(usize::from(line.0)) else { return };
        if way.socket.is_some() {
            return;
        }
        let opened = Socket::connected(way.to).and_then(|socket| {
            self.poll.add(&socket, FIRST + u64::from(line.0))?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => way.socket = Some(socket),
            Err(error) => tracing::debug!(line = line.0, %error, "a line to a relay cannot be opened"),
        }
    }

    pub(crate) fn socket(&self, line: Line) -> Option<&Socket> {
        self.ways.get(usize::from(line.0))?.as_ref()?.socket.as_ref()
    }
}
