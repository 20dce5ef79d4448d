//! Attacks X01 and X02, properties P8 and P9: what devices say under the seal, and what they seal with, is in no log, metric,
//! store or memory of any of our processes, and on no wire between them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "support/sdk.rs"]
mod sdk;
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use sdk::{World, open, pass, soon};
use serde_json::Value;
use support::{free_tcp, get};
use tandem_client::Media;

/// What an app says: an SDP, more or less.
const SAID: &str =
    "v=0 o=- canary-7d1f 2 IN IP4 192.0.2.77 a=ice-pwd:canary-7d1f a=candidate:1 1 udp 1 192.0.2.77 54321 typ host";

/// Every spelling in which something could stand somewhere.
fn spellings(what: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = what.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut spellings = vec![what.to_vec(), hex.into_bytes()];
    // Base64 has three, by where in the text it begins. The first and last characters depend on what stands beside it.
    for before in 0..3 {
        let text = STANDARD.encode([&vec![0; before], what].concat());
        spellings.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    spellings
}

/// All secrets that a device keeps: whatever in its keyring is 28 bytes or more in base64.
fn secrets(kept: &Value) -> Vec<Vec<u8>> {
    match kept {
        Value::String(text) => STANDARD.decode(text).ok().filter(|bytes| bytes.len() >= 28).into_iter().collect(),
        Value::Array(values) => values.iter().flat_map(secrets).collect(),
        // Roots, by which others are known, are public.
        Value::Object(fields) => {
            fields.iter().filter(|(name, _)| *name != "pins").flat_map(|(_, v)| secrets(v)).collect()
        }
        _ => Vec::new(),
    }
}

fn files(folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
}

/// What a process holds in memory that it can write to, as its core dump would.
fn memory(pid: u64) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        memory.seek(SeekFrom::Start(from)).unwrap();
        // Some of it cannot be read (the kernel's own pages), or went away meanwhile.
        let _ = (&mut memory).take(to - from).read_to_end(&mut all);
    }
    all
}

/// Everything that goes over the loopback interface until it is stopped: what a network observer between our processes sees.
/// `None`: only root may.
fn wire(stop: Arc<AtomicBool>) -> Option<std::thread::JoinHandle<Vec<u8>>> {
    const ALL: u32 = 3_u16.to_be() as u32;
    let protocol = std::num::NonZeroU32::new(ALL).map(rustix::net::Protocol::from_raw);
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::NONBLOCK, protocol).ok()?;
    Some(std::thread::spawn(move || {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 17]);
        while !stop.load(Ordering::Relaxed) {
            match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((read, _)) => all.extend_from_slice(&buffer[..read]),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
        all
    }))
}

fn holds(text: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(text, what).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_devices_say_under_the_seal_and_their_secrets_are_nowhere_but_with_them() {
    let roles = ["state-server", "relay", "signaling", "router"];
    let admins: Vec<SocketAddr> = roles.iter().map(|_| free_tcp()).collect();
    let settings: Vec<String> = roles
        .iter()
        .zip(&admins)
        .flat_map(|(role, admin)| [format!("{role}.admin={admin}"), format!("{role}.log.filter=trace")])
        .flat_map(|setting| ["--set".to_owned(), setting])
        .collect();
    let world = World::start_with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let stop = Arc::new(AtomicBool::new(false));
    let wire = wire(Arc::clone(&stop));
    assert!(wire.is_some() || !rustix::process::geteuid().is_root(), "root may listen");

    let (alice, bob) = (world.device("alice", "dev_a").await, world.device("bob", "dev_b").await);
    let missed = alice.place(&bob.party().account, Media::Audio).await.unwrap();
    missed.hang_up().await.unwrap();
    let call = alice.place(&bob.party().account, Media::Video).await.unwrap();
    let other = loop {
        let incoming = soon(bob.incoming()).await.unwrap();
        if incoming.id() == call.id() {
            break incoming.accept().await.unwrap();
        }
    };
    let (a, b) = open(&call, &other).await;
    pass(&a, &b, "hello").await;
    call.signal(SAID.as_bytes()).await.unwrap();
    assert_eq!(soon(other.message()).await.unwrap(), SAID.as_bytes());
    // One that nobody takes: it stays in the store.
    call.signal(SAID.as_bytes()).await.unwrap();

    let mut canaries = spellings(b"canary-7d1f");
    canaries.extend(spellings(b"192.0.2.77 54321"));
    let mut kept = secrets(&world.kept("alice", "dev_a"));
    kept.extend(secrets(&world.kept("bob", "dev_b")));
    assert!(kept.len() >= 2 * 3 + 2 * 2, "{}: sign, agree, prekey, and the session's two", kept.len());
    canaries.extend(kept.iter().flat_map(|secret| spellings(secret)));

    let mut places = BTreeMap::new();
    files(world.folder.path(), &mut places);
    for (role, admin) in roles.iter().zip(&admins) {
        places.insert(format!("metrics of {role}"), get(*admin, "/metrics").body.into_bytes());
    }
    for (name, pid) in world.pids() {
        places.insert(format!("memory of {name}"), memory(pid));
    }
    stop.store(true, Ordering::Relaxed);
    if let Some(wire) = wire {
        places.insert("the wire".to_owned(), wire.join().unwrap());
    }
    // That the search finds what is there: who calls whom is in the store, in memory and on the wire.
    for part in ["state.redb", "devices.redb", "memory of state-server", "memory of router", "the wire"] {
        let mut named = places.iter().filter(|(place, _)| place.contains(part)).peekable();
        let can = part != "the wire" || named.peek().is_some();
        assert!(!can || named.any(|(_, text)| holds(text, b"alice")), "{part}: {:?}", places.keys());
    }
    for (place, text) in &places {
        for canary in &canaries {
            // Never with what was found: it might be a secret.
            assert!(!holds(text, canary), "something that only devices may know is in {place}");
        }
    }
    call.hang_up().await.unwrap();
}
