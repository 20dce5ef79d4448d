//! A phone for machines with real sound and pictures: a browser calls it (or is called by it), and sees and hears itself. What
//! an app does that puts a WebRTC stack on the SDK: descriptions and candidates go under the seal, packets by an allocation.
//!
//! Decides who calls whom and what is said about it on standard output, one line of JSON for each; the call is [`talk`], the
//! WebRTC of it [`peer`].
//!
//! ```text
//! cargo run -p tandem-client --example webrtc_echo -- --api URL --connect URL --account robot
//! cargo run -p tandem-client --example webrtc_echo -- --api URL --connect URL --account robot --call alice
//! ```
#![allow(clippy::print_stdout, reason = "what it has to say")]

mod peer;
mod talk;

use std::error::Error;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use clap::Parser;
use serde_json::json;
use tandem_client::{Custody, DevTokens, Device, Keyring, MemoryStore, Party, Setup, Wall};

use talk::Fingerprint;

/// Answers every call of a browser, and gives back what it hears and sees; with --call, calls one.
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
    /// Its keys are held by an operator, as with a cloud business API.
    #[arg(long)]
    hosted: bool,
    /// Whom to call, instead of waiting for calls.
    #[arg(long)]
    call: Option<String>,
    /// Names the fingerprint of another certificate under the seal than the one it shows: what a browser must refuse.
    #[arg(long)]
    wrong_fingerprint: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { api, connect, account, hosted, call, wrong_fingerprint } = Arguments::parse();
    let custody = if hosted { Custody::Hosted } else { Custody::Device };
    let fingerprint = if wrong_fingerprint { Fingerprint::OfAnother } else { Fingerprint::Own };
    let party = Party { account: account.parse()?, device: "dev_robot".parse()? };
    let tokens = Arc::new(DevTokens::new(&api, party.clone())?);
    let now = Wall::from_millis(u64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?);
    let keyring = Keyring::open(party, custody, Box::new(MemoryStore), now)?;
    let device = Device::start(Setup { api, connect, tokens, keyring }).await?;
    device.ready().await;
    println!("{}", json!({ "ready": true }));
    if let Some(callee) = call {
        return talk::place(&device, &callee.parse()?, fingerprint).await;
    }
    while let Some(incoming) = device.incoming().await {
        let safety = device.safety_number(&incoming.from().account);
        // What goes wrong in one call (a browser that hangs up while it is being answered, for one) is that call's.
        if let Err(error) = talk::answer(&incoming, safety, fingerprint).await {
            println!("{}", json!({ "failed": error.to_string() }));
        }
    }
    Ok(())
}
