//! Where each request of a connection begins, and whether its head says the length of its body in two ways.
//!
//! Decides that, and in how many pieces a head may come (attack S07). hyper takes a Content-Length beside chunks out of the head before anyone sees it, and reads the
//! chunks (RFC 9112 section 6.3 allows it); what stands before us may have read the length. So the bytes are looked at
//! here, as they come, and such a request is refused (attack S06). Leaves every other fault of a head to hyper.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits;

/// Headers that a head may have: hyper takes no more.
const HEADERS: usize = 100;

/// Whether a head of this connection named both a length and a transfer coding. Stands in the extensions of each request.
#[derive(Debug, Clone, Default)]
pub(super) struct Ambiguous(Arc<AtomicBool>);

impl Ambiguous {
    pub(super) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the next byte belongs to.
#[derive(Debug)]
enum At {
    /// A head, of which this much has come.
    Head(Vec<u8>),
    /// A body with so many bytes to come.
    Body(u64),
    /// Nothing that we look at: chunks, behind which the connection is closed; another protocol; or no HTTP.
    Over,
}

/// Follows the bytes of one connection of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    /// In how many pieces the head has come so far.
    pieces: usize,
    head_bytes: usize,
    ambiguous: Ambiguous,
}

/// A head came in more pieces than [`limits::HEAD_PIECES`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crumbled;

impl Framing {
    /// A connection whose heads have at most `head_bytes`; `ambiguous` is told.
    pub(super) const fn new(head_bytes: usize, ambiguous: Ambiguous) -> Self {
        Self { at: At::Head(Vec::new()), pieces: 0, head_bytes, ambiguous }
    }

    /// Takes in what was read, in the order in which it was.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Crumbled> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Over => return Ok(()),
                At::Body(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    bytes = bytes.get(taken..).unwrap_or_default();
                    if *left == 0 {
                        self.at = At::Head(Vec::new());
                    }
                }
                At::Head(head) => {
                    if head.is_empty() {
                        // Empty lines before a request are no request (RFC 9112 section 2.2).
                        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                        bytes = bytes.get(blank..).unwrap_or_default();
                    }
                    let begun = head.len();
                    // An end may stand across what had come and what comes now.
                    let from = begun.saturating_sub(2);
                    head.extend_from_slice(bytes);
                    let end = head.get(from..).and_then(end_of_head).map(|end| from + end);
                    if end.unwrap_or(head.len()) > self.head_bytes {
                        self.at = At::Over;
                        return Ok(());
                    }
                    let Some(end) = end else {
                        self.pieces += 1;
                        return if self.pieces > limits::HEAD_PIECES { Err(Crumbled) } else { Ok(()) };
                    };
                    self.pieces = 0;
                    bytes = bytes.get(end.saturating_sub(begun)..).unwrap_or_default();
                    self.at = body_of(head.get(..end).unwrap_or_default(), &self.ambiguous);
                }
            }
        }
        Ok(())
    }
}

/// Where a head ends: behind its first empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut lines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    lines.find_map(|(at, _)| match bytes.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// What comes behind a whole head.
fn body_of(head: &[u8], ambiguous: &Ambiguous) -> At {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(head).is_ok_and(|status| status.is_complete()) {
        return At::Over;
    }
    let has = |name: &str| request.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    let mut lengths = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-length"));
    if has("transfer-encoding") {
        if lengths.next().is_some() {
            ambiguous.0.store(true, Ordering::Relaxed);
        }
        return At::Over;
    }
    if has("upgrade") {
        return At::Over;
    }
    // Two that differ, or one that is no number, are hyper's to refuse.
    let length = lengths.next().map_or(Some(0), |length| std::str::from_utf8(length.value).ok()?.trim().parse().ok());
    match length {
        Some(0) => At::Head(Vec::new()),
        Some(length) => At::Body(length),
        None => At::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\nhello world";
    const BOTH: &str = "POST / HTTP/1.1\r\nContent-Length: 4\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    /// Whether the connection is ambiguous, whole and cut at every place.
    fn ambiguous(text: &str) -> bool {
        let told = Ambiguous::default();
        Framing::new(1 << 10, told.clone()).read(text.as_bytes()).unwrap();
        for cut in 0..text.len() {
            let (told_cut, (one, other)) = (Ambiguous::default(), text.as_bytes().split_at(cut));
            let mut framing = Framing::new(1 << 10, told_cut.clone());
            framing.read(one).unwrap();
            framing.read(other).unwrap();
            assert_eq!(told_cut.is(), told.is(), "cut at {cut}: {text:?}");
        }
        told.is()
    }

    #[test]
    fn a_length_beside_chunks_is_found_wherever_on_a_connection_it_comes() {
        assert!(ambiguous(BOTH));
        assert!(ambiguous(&format!("{PLAIN}{PLAIN}{BOTH}")));
        assert!(ambiguous(&format!("GET / HTTP/1.1\r\nhost: x\r\n\r\n\r\n\r\n{BOTH}")));
        assert!(ambiguous(&format!("GET / HTTP/1.1\nhost: x\n\n{}", BOTH.replace("\r\n", "\n"))));
        assert!(ambiguous(&BOTH.replace("chunked", "gzip")));
    }

    #[test]
    fn one_length_alone_is_not_ambiguous_nor_is_what_only_looks_like_two() {
        assert!(!ambiguous(PLAIN));
        assert!(!ambiguous(&BOTH.replace("Content-Length: 4\r\n", "")));
        assert!(!ambiguous(&format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{BOTH}", BOTH.len())), "in a body");
        assert!(!ambiguous(&format!("GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n{BOTH}")), "another protocol");
        assert!(!ambiguous(&format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n{BOTH}", "x".repeat(2_000))), "over the bound");
    }

    #[test]
    fn nothing_is_kept_between_requests_and_of_another_protocol() {
        let mut framing = Framing::new(1 << 10, Ambiguous::default());
        framing.read(PLAIN.as_bytes()).unwrap();
        assert!(matches!(&framing.at, At::Head(head) if head.capacity() == 0));
        framing.read(b"GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n").unwrap();
        framing.read(&[0; 10_000]).unwrap();
        assert!(matches!(framing.at, At::Over));
    }

    #[test]
    fn a_head_in_crumbs_is_refused_and_each_head_has_its_own_count() {
        let mut framing = Framing::new(16 << 10, Ambiguous::default());
        // Three heads, each in as many pieces as it may have.
        for _ in 0..3 {
            framing.read(b"GET / HTTP/1.1\r\nx: ").unwrap();
            for _ in 1..limits::HEAD_PIECES {
                framing.read(b"x").unwrap();
            }
            framing.read(b"\r\n\r\n").unwrap();
        }
        // A body may come as it likes.
        framing.read(b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\n").unwrap();
        (0..1_000).for_each(|_| framing.read(b"x").unwrap());
        framing.read(b"GET / HTTP/1.1\r\nx: ").unwrap();
        let refused = (0..1 << 20).take_while(|_| framing.read(b"x").is_ok()).count();
        assert_eq!(refused, limits::HEAD_PIECES - 1);
    }
}
