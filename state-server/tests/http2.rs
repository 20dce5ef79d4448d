//! The service under those who speak HTTP/2 to hurt it: attacks S01, S02 and S03.
//!
//! Frames are written by hand, since no client library would. Each test asks three things: the connection is closed,
//! memory stays what it was, and others are served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::large_futures, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use tandem_state_client::{BucketSet, RemoteStore, Store as _, conformance::POP};
use tandem_state_server::StateServer;
use tandem_wire::redact::Secret;
use tandem_wire::units::Wall;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

struct Target {
    address: std::net::SocketAddr,
    remote: RemoteStore,
    _folder: tempfile::TempDir,
}

async fn target() -> Target {
    let folder = tempfile::tempdir().unwrap();
    let store = StateServer::open(&folder.path().join("s.redb"), POP, || Wall::from_secs(1_795_000_000)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let secret = Secret::new(vec![7; 32]);
    let remote = RemoteStore::new(&format!("http://{address}"), &secret).unwrap();
    tokio::spawn(async move {
        tandem_state_client::grpc::serve(listener, store, &secret, std::future::pending()).await.unwrap();
    });
    Target { address, remote, _folder: folder }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request's headers: POST, http, a path, an authority (RFC 7541: two indexed fields, two literals).
fn request() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(0x04, "/tandem.state.v1.State/Commit"), (0x01, "state")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.bytes());
    }
    block
}

/// A literal field without indexing, with a name of its own.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0x00, u8::try_from(name.len()).unwrap()];
    block.extend(name.bytes());
    block.push(u8::try_from(value.len()).unwrap());
    block.extend(value.bytes());
    block
}

/// How the server ended the connection.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    GoAway(u32),
    Closed,
}

/// Sends `frames` for as long as the server takes them, and gives what it ended the connection with.
async fn attack(target: &Target, frames: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Ended {
    let (mut reader, mut writer) = TcpStream::connect(target.address).await.unwrap().into_split();
    writer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    writer.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let sending = tokio::spawn(async move {
        let mut buffer = Vec::new();
        for frame in frames {
            buffer.extend(frame);
            if buffer.len() > 16_384 {
                if writer.write_all(&buffer).await.is_err() {
                    return;
                }
                buffer.clear();
            }
        }
        let _ = writer.write_all(&buffer).await;
        // Kept open: it is for the server to close it.
        std::future::pending::<()>().await;
    });
    let mut received = Vec::new();
    let reading = async {
        let mut buffer = [0; 16_384];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => return Ended::Closed,
                Ok(n) => received.extend(&buffer[..n]),
            }
            // Whole frames, one after another.
            while received.len() >= 9 {
                let length = usize::from(received[0]) << 16 | usize::from(received[1]) << 8 | usize::from(received[2]);
                if received.len() < 9 + length {
                    break;
                }
                let frame: Vec<u8> = received.drain(..9 + length).collect();
                if frame[3] == GOAWAY {
                    return Ended::GoAway(u32::from_be_bytes(frame[13..17].try_into().unwrap()));
                }
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, reading).await.expect("the server never ended the connection");
    sending.abort();
    ended
}

/// Resident memory of this process, in bytes.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// Runs an attack ten times over, and asks for something in between.
async fn withstands<F: Iterator<Item = Vec<u8>> + Send + 'static>(frames: impl Fn() -> F) -> Vec<Ended> {
    let target = Arc::new(target().await);
    target.remote.restore(&BucketSet::all()).await.unwrap();
    let before = memory();
    let mut ends = Vec::new();
    for _ in 0..10 {
        let asking = tokio::spawn({
            let target = Arc::clone(&target);
            async move { target.remote.restore(&BucketSet::all()).await }
        });
        ends.push(attack(&target, frames()).await);
        asking.await.unwrap().expect("others are served");
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
    ends
}

const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test(flavor = "multi_thread")]
async fn who_resets_streams_as_fast_as_it_opens_them_is_sent_away() {
    let ends = withstands(|| {
        (0..10_000_u32).map(|n| {
            let stream = 2 * n + 1;
            [frame(HEADERS, END_HEADERS, stream, &request()), frame(RST_STREAM, 0, stream, &CANCEL)].concat()
        })
    })
    .await;
    assert!(ends.iter().all(|end| matches!(end, Ended::GoAway(ENHANCE_YOUR_CALM) | Ended::Closed)), "{ends:?}");
    assert!(ends.contains(&Ended::GoAway(ENHANCE_YOUR_CALM)), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_the_server_reset_streams_is_sent_away() {
    let malformed = [request(), field("connection", "close")].concat();
    let ends = withstands(move || {
        let malformed = malformed.clone();
        (0..100_000_u32).map(move |n| frame(HEADERS, END_HEADERS, 2 * n + 1, &malformed))
    })
    .await;
    assert!(ends.iter().all(|end| matches!(end, Ended::GoAway(ENHANCE_YOUR_CALM) | Ended::Closed)), "{ends:?}");
    assert!(ends.contains(&Ended::GoAway(ENHANCE_YOUR_CALM)), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_never_end_end_the_connection() {
    let ends = withstands(|| {
        let first = frame(HEADERS, 0, 1, &request());
        let more: Vec<u8> = (0..100).flat_map(|n| field(&format!("x-{n}"), &"v".repeat(100))).collect();
        std::iter::once(first).chain((0..10_000).map(move |_| frame(CONTINUATION, 0, 1, &more)))
    })
    .await;
    assert!(
        ends.iter().all(|end| *end == Ended::Closed || matches!(end, Ended::GoAway(code) if *code != 0)),
        "{ends:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_data_without_end_ends_the_connection() {
    let ends = withstands(|| {
        let first = frame(HEADERS, END_HEADERS, 1, &[request(), field("content-type", "application/grpc")].concat());
        std::iter::once(first).chain((0..1_000_000).map(|_| frame(DATA, 0, 1, &[])))
    })
    .await;
    assert!(
        ends.iter().all(|end| *end == Ended::Closed || matches!(end, Ended::GoAway(code) if *code != 0)),
        "{ends:?}"
    );
}
