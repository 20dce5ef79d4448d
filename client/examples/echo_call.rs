//! A phone for machines: answers every call and gives packets back, or calls one that does and counts what comes back.
//!
//! ```text
//! cargo run -p tandem-client --example echo_call -- --api URL --connect URL --account echo
//! cargo run -p tandem-client --example echo_call -- --api URL --connect URL --account me --call echo --packets 100
//! ```
#![allow(clippy::print_stdout, reason = "what it has to say")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use clap::Parser;
use tandem_client::{
    Call, Custody, DevTokens, Device, FileStore, IncomingCall, Keyring, Media, MemoryStore, Party, Reason, Setup,
    Store, Wall,
};
use tokio::time::{interval, timeout};

/// Answers every call and echoes packets; with --call, calls such a one.
#[derive(Parser)]
struct Arguments {
    /// Signaling: http://host:port.
    #[arg(long)]
    api: String,
    /// The router: <ws://host:port/v1/connect>.
    #[arg(long)]
    connect: String,
    /// Who it is.
    #[arg(long)]
    account: String,
    /// Which device of theirs.
    #[arg(long, default_value = "dev_echo")]
    device: String,
    /// The file that its keys are kept in. Without one it is a new device each time, which its account's others must endorse.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Whom to call, instead of waiting for calls.
    #[arg(long)]
    call: Option<String>,
    /// How many packets to send, one every 20 ms.
    #[arg(long, default_value_t = 50)]
    packets: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { api, connect, account, device, keys, call, packets } = Arguments::parse();
    let party = Party { account: account.parse()?, device: device.parse()? };
    let tokens = Arc::new(DevTokens::new(&api, party.clone())?);
    let store: Box<dyn Store> = match keys {
        Some(path) => Box::new(FileStore::open(&path)?),
        None => Box::new(MemoryStore),
    };
    let now = Wall::from_millis(u64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?);
    let keyring = Keyring::open(party, Custody::Device, store, now)?;
    let device = Device::start(Setup { api, connect, tokens, keyring }).await?;
    device.ready().await;
    match call {
        Some(callee) => place(&device, &callee, packets).await,
        None => {
            println!("ready");
            while let Some(incoming) = device.incoming().await {
                tokio::spawn(async move {
                    let id = incoming.id();
                    match answer(&incoming).await {
                        Ok((packets, reason)) => println!("{id} {packets} packets, {reason}"),
                        Err(error) => println!("{id} failed: {error}"),
                    }
                });
            }
            Ok(())
        }
    }
}

/// How many packets were given back, and why the call is over.
async fn answer(incoming: &IncomingCall) -> Result<(u64, Reason), tandem_client::Error> {
    incoming.ringing().await?;
    let call = incoming.accept().await?;
    let transport = call.transport().await?;
    let mut packets = 0;
    loop {
        tokio::select! {
            packet = transport.recv() => {
                transport.send(&packet?).await?;
                packets += 1;
            }
            reason = call.ended() => return Ok((packets, reason)),
        }
    }
}

async fn place(device: &Device, callee: &str, packets: u32) -> Result<(), Box<dyn Error>> {
    let call: Call = device.place(&callee.parse()?, Media::Audio).await?;
    let transport = call.transport().await?;
    let mut ticks = interval(Duration::from_millis(20));
    let mut back = 0;
    for n in 0..packets {
        ticks.tick().await;
        transport.send(&n.to_be_bytes()).await?;
        while let Ok(packet) = timeout(Duration::from_millis(1), transport.recv()).await {
            packet?;
            back += 1;
        }
    }
    while back < packets
        && let Ok(packet) = timeout(Duration::from_secs(1), transport.recv()).await
    {
        packet?;
        back += 1;
    }
    call.hang_up().await?;
    println!("{} {back} of {packets} packets came back, {}", call.id(), call.ended().await);
    transport.close().await;
    Ok(())
}
