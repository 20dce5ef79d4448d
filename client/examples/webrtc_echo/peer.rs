//! One peer connection: str0m, which has neither socket nor clock, and gives back what it hears and sees.
//!
//! Decides which media there is and what is echoed. Leaves to [`crate::talk`] what is said under the seal, and where packets
//! come from and go to.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, KeyframeRequestKind, MediaData, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcError};
use tandem_client::{VirtualAddr, limits};

/// What [`Peer::poll`] asks for, until it asks to wait.
pub(crate) enum Next {
    /// Send this there.
    Send(Vec<u8>, VirtualAddr),
    /// Somebody should know.
    Tell(Value),
    /// Nothing until then, or until a packet comes.
    Wait(Instant),
}

/// How many frames were given back.
#[derive(Default)]
pub(crate) struct Echoed {
    audio: u64,
    video: u64,
}

impl Echoed {
    pub(crate) fn said(&self) -> Value {
        json!({ "audio": self.audio, "video": self.video })
    }
}

/// Hand it every packet by [`Peer::hear`], poll it until it says to wait, and call [`Peer::passed`] when it has waited. What
/// went wrong meanwhile, the next [`Peer::poll`] says.
pub(crate) struct Peer {
    /// Large, and part of futures.
    rtc: Box<Rtc>,
    at: Option<SocketAddr>,
    wrong: Option<RtcError>,
    pub(crate) echoed: Echoed,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn rtc() -> Box<Rtc> {
    // Our packets leave room for what the relay and the tunnel put around them.
    let most = limits::PAYLOAD_BYTES..=limits::DATAGRAM_PAYLOAD_BYTES;
    Box::new(Rtc::builder().set_mtu(most).clear_codecs().enable_opus(true, false).enable_vp8(true).build(now()))
}

impl Peer {
    fn new(rtc: Box<Rtc>) -> Self {
        Self { rtc, at: None, wrong: None, echoed: Echoed::default() }
    }

    /// One that answers, and its answer.
    pub(crate) fn answering(offer: &str) -> Result<(Self, String), Box<dyn Error>> {
        let mut rtc = rtc();
        let answer = rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(offer)?)?;
        Ok((Self::new(rtc), answer.to_sdp_string()))
    }

    /// One that offers sound and pictures; its offer, and what to hold the answer against.
    pub(crate) fn offering() -> Result<(Self, String, SdpPendingOffer), Box<dyn Error>> {
        let mut rtc = rtc();
        let mut changes = rtc.sdp_api();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            changes.add_media(kind, Direction::SendRecv, None, None, None);
        }
        let (offer, pending) = changes.apply().ok_or("an offer of two media is one")?;
        Ok((Self::new(rtc), offer.to_sdp_string(), pending))
    }

    /// The answer to its offer.
    pub(crate) fn answered(&mut self, pending: SdpPendingOffer, answer: &str) -> Result<(), Box<dyn Error>> {
        Ok(self.rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(answer)?)?)
    }

    /// Its answer to a later offer of the same peer connection, with another way to it (RFC 8829 section 3.5.1: an ICE restart).
    pub(crate) fn answer_again(&mut self, offer: &str) -> Result<String, Box<dyn Error>> {
        Ok(self.rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(offer)?)?.to_sdp_string())
    }

    /// The fingerprint of its certificate, as descriptions have it.
    pub(crate) fn fingerprint(&mut self) -> String {
        self.rtc.direct_api().local_dtls_fingerprint().to_string()
    }

    /// The fingerprint of another certificate.
    pub(crate) fn fingerprint_of_another() -> String {
        Self::new(rtc()).fingerprint()
    }

    /// It is here in the call; its candidate, for the other side.
    pub(crate) fn is_at(&mut self, here: VirtualAddr) -> Result<String, Box<dyn Error>> {
        let here = SocketAddr::from(here.socket_addr());
        let candidate = Candidate::relayed(here, here, "udp")?;
        let said = candidate.to_sdp_string();
        self.rtc.add_local_candidate(candidate);
        self.at = Some(here);
        Ok(said)
    }

    /// The other side may be there. Whether it is in the call at all, is looked at where packets leave.
    pub(crate) fn maybe_at(&mut self, candidate: &str) {
        // What is no address (a browser's mDNS names) is no candidate here.
        if let Ok(candidate) = Candidate::from_sdp_string(candidate) {
            self.rtc.add_remote_candidate(candidate);
        }
    }

    /// Takes a packet in.
    pub(crate) fn hear(&mut self, packet: &[u8], from: VirtualAddr) {
        let Some(destination) = self.at else { return };
        let source = SocketAddr::from(from.socket_addr());
        // What is neither STUN, DTLS nor RTP is nothing.
        if let Ok(contents) = packet.try_into() {
            let receive = Receive { proto: Protocol::Udp, source, destination, contents };
            self.take(Input::Receive(now(), receive));
        }
    }

    /// It has waited.
    pub(crate) fn passed(&mut self) {
        self.take(Input::Timeout(now()));
    }

    fn take(&mut self, input: Input<'_>) {
        self.wrong = self.rtc.handle_input(input).err().or(self.wrong.take());
    }

    /// What is next.
    pub(crate) fn poll(&mut self) -> Result<Next, Box<dyn Error>> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong.into());
        }
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(then) => return Ok(Next::Wait(then)),
                Output::Transmit(packet) => {
                    if let Some(to) = VirtualAddr::from_peer(packet.destination) {
                        return Ok(Next::Send(packet.contents.to_vec(), to));
                    }
                }
                Output::Event(Event::Connected) => return Ok(Next::Tell(json!({ "connected": true }))),
                Output::Event(Event::MediaData(data)) => {
                    if let Some(first) = self.echo(data)? {
                        return Ok(Next::Tell(json!({ "echoes": first })));
                    }
                }
                // Who cannot go on with our pictures is served by a key frame of theirs.
                Output::Event(Event::KeyframeRequest(asked)) => {
                    if let Some(mut writer) = self.rtc.writer(asked.mid)
                        && writer.is_request_keyframe_possible(KeyframeRequestKind::Pli)
                    {
                        writer.request_keyframe(None, KeyframeRequestKind::Pli)?;
                    }
                }
                Output::Event(_) => {}
            }
        }
    }

    /// Gives a frame back by the line that it came on. Says its kind if it is the first.
    fn echo(&mut self, data: MediaData) -> Result<Option<&'static str>, Box<dyn Error>> {
        let (kind, count) = match data.params.spec().codec.is_audio() {
            true => ("audio", &mut self.echoed.audio),
            false => ("video", &mut self.echoed.video),
        };
        *count += 1;
        let first = (*count == 1).then_some(kind);
        if let Some(writer) = self.rtc.writer(data.mid) {
            writer.write(data.pt, data.network_time, data.time, data.data)?;
        }
        Ok(first)
    }
}
