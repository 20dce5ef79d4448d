//! How many attachments a second the store makes durable, at 1, 16 and 256 writers in this process; and how long it then
//! takes to open the file and to list everything.
//!
//! Each writer changes a record of its own, waits for the answer, and goes on: what a relay does when legs arrive.
//! `cargo run --release -p tandem-state-server --example commits [folder] [seconds]`. The folder decides what is
//! measured: the disk of a temporary folder may be memory, and then nothing is durable.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a tool that measures, for people who read its output"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tandem_core::topology::{Attachment, AttachmentCommand, Call, CallCommand, CallKind, Transport};
use tandem_state_client::{BucketSet, Change, Command, Key, Op, RemoteStore, Revision, Store, grpc};
use tandem_state_server::{OpenError, StateServer};
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::units::{Now, Wall};
use tokio::net::TcpListener;

const POP: PopId = PopId(1);
const RELAY: RelayId = RelayId(1);

fn now() -> Wall {
    Wall::from_secs(1_795_000_000)
}

/// The record of a leg with one allocation, as a relay writes it.
fn attachment(call: CallId, leg: LegId, client: SocketAddr) -> Vec<u8> {
    let create = CallCommand::Create { id: call, kind: CallKind::OneToOne, legs: 2 };
    let record = Call::apply(None, create, Now::default()).unwrap();
    let attach = AttachmentCommand::Attach { transport: Transport::Udp, client: ClientAddr::new(client) };
    Attachment::empty(RELAY).apply(&record, leg, RELAY, attach).unwrap().unwrap().to_json().unwrap()
}

/// One writer: a new leg each time, as when devices arrive.
async fn write(store: Arc<StateServer>, writer: u16, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let leg = LegId::new(1).unwrap();
    for round in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let random = u128::from(writer) << 40 | u128::from(round);
        let call = CallId::new(POP, BucketId((round.wrapping_mul(40_503) >> 3) as u16 ^ writer), random);
        let [_, a, b, c] = round.to_be_bytes();
        let value = attachment(call, leg, SocketAddr::from(([10, a, b, c], 1_024 + writer)));
        let op = Op { key: Key::Attachment(call, leg), based_on: Revision::ZERO, change: Change::Put(value) };
        store.commit(Command { ops: vec![op] }).await.unwrap();
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let seconds = arguments.next().map_or(5, |text| text.parse().unwrap());
    let folder = tempfile::tempdir_in(folder).unwrap();
    println!("writers  commits/s  commits/batch  batches/s");
    for writers in [1_u16, 16, 256] {
        let path = folder.path().join(format!("{writers}.redb"));
        let store = StateServer::open(&path, POP, now).unwrap();
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|writer| tokio::spawn(write(Arc::clone(&store), writer, Arc::clone(&stop), Arc::clone(&done))))
            .collect();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        let took = start.elapsed().as_secs_f64();
        let commits = done.load(Ordering::Relaxed) as f64;
        let batches = store.counters().batches.load(Ordering::Relaxed) as f64;
        println!("{writers:>7}  {:>9.0}  {:>13.1}  {:>9.0}", commits / took, commits / batches, batches / took);
        drop(store);
        list(&path, writers).await;
    }
}

/// Opens the file again, as after a crash of everything, and lists what is in it, here and over gRPC.
async fn list(path: &Path, writers: u16) {
    let start = Instant::now();
    let store = loop {
        // The writer of the one before may still be ending.
        match StateServer::open(path, POP, now) {
            Ok(store) => break store,
            Err(OpenError::InUse) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let opened = start.elapsed();
    let start = Instant::now();
    let records = store.restore(&BucketSet::all()).await.unwrap().entries.len();
    let listed = start.elapsed();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = Secret::new(vec![7; 32]);
    let remote = RemoteStore::new(&format!("http://{}", listener.local_addr().unwrap()), &secret).unwrap();
    let server = tokio::spawn(async move { grpc::serve(listener, store, &secret, std::future::pending()).await });
    let start = Instant::now();
    assert_eq!(remote.restore(&BucketSet::all()).await.unwrap().entries.len(), records);
    println!(
        "{writers:>7}  {records} records: opened in {} ms, listed in {} ms, over gRPC in {} ms",
        opened.as_millis(),
        listed.as_millis(),
        start.elapsed().as_millis()
    );
    server.abort();
}
