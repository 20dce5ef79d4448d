//! A phone for machines: answers every call and gives packets back, or calls one that does and counts what comes back.
//!
//! ```text
//! cargo run -p tandem-client --example echo_call -- --api URL --connect URL --account echo
//! cargo run -p tandem-client --example echo_call -- --api URL --connect URL --account me --call echo --packets 100
//! ```
#![allow(clippy::print_stdout, reason = "what it has to say")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tandem_client::{Call, ClearSealing, DevTokens, Device, DeviceKeys, IncomingCall, Media, Party, Reason, Setup};
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
    /// Whom to call, instead of waiting for calls.
    #[arg(long)]
    call: Option<String>,
    /// How many packets to send, one every 20 ms.
    #[arg(long, default_value_t = 50)]
    packets: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { api, connect, account, device, call, packets } = Arguments::parse();
    let party = Party { account: account.parse()?, device: device.parse()? };
    let tokens = Arc::new(DevTokens::new(&api, party.clone())?);
    let (sealing, keys) = (Arc::new(ClearSealing), DeviceKeys::random()?);
    let device = Device::start(Setup { api, connect, party, tokens, sealing, keys }).await?;
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
