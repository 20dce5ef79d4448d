//! A phone for machines that a browser can call, without media: it opens the browser's offer, answers it with an SDP that
//! takes none of its media, and says what it hears under the seal. What an app with a transport of its own does.
//!
//! ```text
//! cargo run -p tandem-client --example sdp_call -- --api URL --connect URL --account robot
//! ```
#![allow(clippy::print_stdout, reason = "what it has to say")]

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use clap::Parser;
use serde_json::{Value, json};
use tandem_client::{Call, Custody, DevTokens, Device, IncomingCall, Keyring, MemoryStore, Party, Setup, Wall};

/// Answers every call of a browser.
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
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { api, connect, account, hosted } = Arguments::parse();
    let custody = if hosted { Custody::Hosted } else { Custody::Device };
    let party = Party { account: account.parse()?, device: "dev_robot".parse()? };
    let tokens = Arc::new(DevTokens::new(&api, party.clone())?);
    let now = Wall::from_millis(u64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?);
    let keyring = Keyring::open(party, custody, Box::new(MemoryStore), now)?;
    let device = Device::start(Setup { api, connect, tokens, keyring }).await?;
    device.ready().await;
    println!("{}", json!({ "ready": true }));
    while let Some(incoming) = device.incoming().await {
        let safety = device.safety_number(&incoming.from().account);
        let call = answer(&incoming).await?;
        println!("{}", json!({ "answered": incoming.id(), "safety": safety }));
        talk(&call).await?;
    }
    Ok(())
}

async fn answer(incoming: &IncomingCall) -> Result<Call, Box<dyn Error>> {
    let offer: Value = serde_json::from_slice(incoming.said())?;
    let sdp = offer.get("sdp").and_then(Value::as_str).ok_or("the offer has no SDP")?;
    println!("{}", json!({ "offered": sdp.lines().find(|line| line.starts_with("a=fingerprint:")) }));
    incoming.ringing().await?;
    let answer = json!({
        "v": 1, "t": "answer", "pc": "robot", "to": offer.get("pc"), "n": offer.get("n"),
        "sdp": without_media(sdp), "sends": { "microphone": true, "camera": false },
    });
    Ok(incoming.accept_saying(answer.to_string().as_bytes()).await?)
}

/// Says back what it hears, until the call is over.
async fn talk(call: &Call) -> Result<(), Box<dyn Error>> {
    loop {
        let said = match call.heard().await {
            Ok(said) => said,
            Err(tandem_client::Error::Ended(reason)) => {
                println!("{}", json!({ "ended": reason.to_string() }));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let said: Value = serde_json::from_slice(&said)?;
        println!("{}", json!({ "heard": said.get("t"), "sends": said.get("sends") }));
        if said.get("t").is_some_and(|t| t == "media") {
            let sends = json!({ "microphone": false, "camera": false });
            call.say(json!({ "v": 1, "t": "media", "pc": "robot", "sends": sends }).to_string().as_bytes()).await?;
        }
    }
}

/// An answer that refuses each of the offer's media (RFC 3264 section 6: port zero).
fn without_media(offer: &str) -> String {
    let mut answer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n".to_owned();
    for section in offer.split("\r\nm=").skip(1) {
        let mut words = section.lines().next().unwrap_or_default().split(' ');
        let (kind, protocol) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
        let format = words.next().unwrap_or_default();
        let mid = section.lines().find(|line| line.starts_with("a=mid:")).unwrap_or_default();
        let _ = write!(answer, "m={kind} 0 {protocol} {format}\r\nc=IN IP4 0.0.0.0\r\n{mid}\r\na=inactive\r\n");
    }
    answer
}
