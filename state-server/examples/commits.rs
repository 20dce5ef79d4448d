//! How many attachments a second the store makes durable, at 1, 16 and 256 writers in this process.
//!
//! Each writer changes a record of its own, waits for the answer, and goes on: what a relay does when legs arrive.
//! `cargo run --release -p tandem-state-server --example commits [folder] [seconds]`. The folder decides what is
//! measured: the disk of a temporary folder may be memory, and then nothing is durable.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool that measures, for people who read its output"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tandem_core::topology::{Attachment, AttachmentCommand, Call, CallCommand, CallKind, Transport};
use tandem_state_client::{Change, Command, Key, Op, Revision, Store};
use tandem_state_server::StateServer;
use tandem_wire::id::{BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::Now;

const POP: PopId = PopId(1);
const RELAY: RelayId = RelayId(1);

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
        let store = StateServer::open(&path, POP, || tandem_wire::units::Wall::from_secs(1_795_000_000)).unwrap();
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
    }
}
