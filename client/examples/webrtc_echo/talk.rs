//! One call with a browser: what is said under the seal (the words of web/src/phone/payload.ts), and packets between the
//! allocation and the peer connection until it is over.

use std::error::Error;
use std::time::Instant;

use serde_json::{Value, json};
use tandem_client::{AccountId, Allocation, Call, Device, IncomingCall, Media, Reason};
use tokio::time::sleep_until;

use crate::peer::{Next, Peer};

/// Whose fingerprint is named under the seal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fingerprint {
    /// That of the certificate that is shown.
    Own,
    /// One that is not shown.
    OfAnother,
}

/// The name of our peer connection, by which the other side tells it from others.
const OURS: &str = "robot";

fn say(what: &Value) {
    println!("{what}");
}

fn text<'a>(said: &'a Value, key: &'static str) -> Result<&'a str, Box<dyn Error>> {
    said.get(key).and_then(Value::as_str).ok_or_else(|| format!("what was said has no {key}").into())
}

/// Answers a call, and talks until it is over.
pub(crate) async fn answer(
    incoming: &IncomingCall,
    safety: Option<String>,
    fingerprint: Fingerprint,
) -> Result<(), Box<dyn Error>> {
    let offer: Value = serde_json::from_slice(incoming.said())?;
    let sdp = text(&offer, "sdp")?;
    say(&json!({ "offered": sdp.lines().find(|line| line.starts_with("a=fingerprint:")) }));
    incoming.ringing().await?;
    let (mut peer, answer) = Peer::answering(sdp)?;
    let answer = json!({
        "v": 1, "t": "answer", "pc": OURS, "to": offer.get("pc"), "n": offer.get("n"),
        "sdp": with_fingerprint(&answer, &mut peer, fingerprint), "sends": offer.get("sends"),
    });
    let call = incoming.accept_saying(answer.to_string().as_bytes()).await?;
    say(&json!({ "answered": incoming.id(), "safety": safety }));
    let allocation = call.allocation().await?;
    Talk { call: &call, allocation: &allocation, theirs: text(&offer, "pc")?.to_owned(), peer }.until_over().await
}

/// Calls somebody with sound and pictures, and talks until it is over.
pub(crate) async fn place(device: &Device, callee: &AccountId, fingerprint: Fingerprint) -> Result<(), Box<dyn Error>> {
    let (mut peer, offer, pending) = Peer::offering()?;
    let offer = json!({
        "v": 1, "t": "offer", "pc": OURS, "n": 1, "media": "video",
        "sdp": with_fingerprint(&offer, &mut peer, fingerprint), "sends": { "microphone": true, "camera": true },
    });
    let call = device.place_saying(callee, Media::Video, offer.to_string().as_bytes()).await?;
    say(&json!({ "placed": call.id() }));
    let accepted = call.accepted().await;
    if let Err(tandem_client::Error::Ended(reason)) = accepted {
        over(&peer, reason);
        return Ok(());
    }
    accepted?;
    let answer: Value = serde_json::from_slice(&call.answer().ok_or("an accepted call has an answer")?)?;
    peer.answered(pending, text(&answer, "sdp")?)?;
    let allocation = call.allocation().await?;
    Talk { call: &call, allocation: &allocation, theirs: text(&answer, "pc")?.to_owned(), peer }.until_over().await
}

fn with_fingerprint(sdp: &str, peer: &mut Peer, fingerprint: Fingerprint) -> String {
    match fingerprint {
        Fingerprint::Own => sdp.to_owned(),
        Fingerprint::OfAnother => sdp.replace(&peer.fingerprint(), &Peer::fingerprint_of_another()),
    }
}

fn over(peer: &Peer, reason: Reason) {
    say(&json!({ "echoed": peer.echoed.said() }));
    say(&json!({ "ended": reason.to_string() }));
}

struct Talk<'a> {
    call: &'a Call,
    allocation: &'a Allocation,
    /// The name of their peer connection.
    theirs: String,
    peer: Peer,
}

impl Talk<'_> {
    async fn until_over(mut self) -> Result<(), Box<dyn Error>> {
        let mut moves = self.allocation.moves();
        moves.mark_changed();
        let ended = loop {
            let then = match self.go_on().await {
                Ok(then) => then,
                // A browser that was named another certificate under the seal refuses ours: it ends the call.
                Err(error) => {
                    say(&json!({ "refused": error.to_string() }));
                    break self.call.ended().await;
                }
            };
            tokio::select! {
                packet = self.allocation.recv_from() => {
                    let (packet, from) = packet?;
                    self.peer.hear(&packet, from);
                }
                () = sleep_until(then.into()) => self.peer.passed(),
                // The allocation has an address, at first and when the relay gives another one.
                Ok(()) = moves.changed() => self.offer_candidate().await?,
                said = self.call.heard() => match said {
                    Ok(said) => self.hear(&serde_json::from_slice(&said)?).await?,
                    Err(tandem_client::Error::Ended(reason)) => break reason,
                    Err(error) => return Err(error.into()),
                },
            }
        };
        over(&self.peer, ended);
        Ok(())
    }

    /// Does what is next, until there is nothing before then.
    async fn go_on(&mut self) -> Result<Instant, Box<dyn Error>> {
        loop {
            match self.peer.poll()? {
                Next::Send(packet, to) => self.allocation.send_to(&packet, to).await?,
                Next::Tell(what) => say(&what),
                Next::Wait(then) => return Ok(then),
            }
        }
    }

    /// A way was lost, or the page was loaded anew and has another peer connection.
    async fn answer_again(&mut self, offer: &Value) -> Result<(), Box<dyn Error>> {
        let (theirs, sdp) = (text(offer, "pc")?, text(offer, "sdp")?);
        let answer = if theirs == self.theirs {
            self.peer.answer_again(sdp)?
        } else {
            let (peer, answer) = Peer::answering(sdp)?;
            (self.peer, self.theirs) = (peer, theirs.to_owned());
            answer
        };
        let (n, sends) = (offer.get("n"), offer.get("sends"));
        let answer = json!({ "v": 1, "t": "answer", "pc": OURS, "to": theirs, "n": n, "sdp": answer, "sends": sends });
        self.say(&answer).await?;
        self.offer_candidate().await
    }

    /// Says where it is, if it is anywhere now.
    async fn offer_candidate(&mut self) -> Result<(), Box<dyn Error>> {
        let here = *self.allocation.moves().borrow();
        if let Some(here) = here {
            let candidates = [json!({ "candidate": self.peer.is_at(here)?, "sdpMLineIndex": 0 })];
            let said = json!({ "v": 1, "t": "candidates", "pc": OURS, "to": self.theirs, "candidates": candidates });
            self.say(&said).await?;
        }
        Ok(())
    }

    async fn say(&self, what: &Value) -> Result<(), Box<dyn Error>> {
        Ok(self.call.say(what.to_string().as_bytes()).await?)
    }

    async fn hear(&mut self, said: &Value) -> Result<(), Box<dyn Error>> {
        say(&json!({ "heard": said.get("t"), "sends": said.get("sends") }));
        match text(said, "t")? {
            "candidates" => {
                let candidates = said.get("candidates").and_then(Value::as_array);
                for candidate in candidates.into_iter().flatten() {
                    self.peer.maybe_at(text(candidate, "candidate")?);
                }
                Ok(())
            }
            "restart-offer" => self.answer_again(said).await,
            // An echo sends what it is sent.
            "media" => self.say(&json!({ "v": 1, "t": "media", "pc": OURS, "sends": said.get("sends") })).await,
            _ => Ok(()),
        }
    }
}
