//! One call, from being placed to being hung up.
//!
//! Decides when a call stands and when it is lost. Leaves counting packets to [`crate::meter`].

use std::sync::{Arc, Mutex, PoisonError};

use tandem_client::{Call, CallId, Counts, Device, Error, Media, TurnTransport};
use tandem_wire::units::{Mono, Span};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::now;
use crate::hold::Hold;
use crate::limits;
use crate::meter::{Flow, Meter};
use crate::packet::{self, Side};
use crate::stream::{Leg, Stream, Streams};

/// Why a call does not count as one that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// It never stood.
    SetUp(String),
    /// It was ended, and not by us.
    Ended {
        /// Who was told.
        told: Side,
        /// Why.
        reason: String,
        /// When.
        at: Mono,
    },
    /// It stood, and nothing came any more at the end.
    Silent(Side),
}

/// What became of a call.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which it was, in the order of the plan.
    pub nth: usize,
    /// Its id, if it got one.
    pub id: Option<CallId>,
    /// From being placed until packets could go both ways; of one that was held: from when it was to be accepted.
    pub set_up: Option<Span>,
    /// Why it is lost.
    pub lost: Option<Lost>,
    /// What each side received.
    pub flows: Vec<(Side, Flow)>,
    /// Packets that the sockets did not take, or that came and were not taken.
    pub not_sent: u64,
}

/// What a call runs with.
pub struct Stage {
    /// Sends the packets.
    pub streams: Arc<Streams>,
    /// Between two packets of a leg.
    pub interval: Span,
    /// Bytes of one.
    pub packet_bytes: usize,
    /// Decides their filling.
    pub seed: u64,
    /// Without a packet for so long at the end, a call is lost.
    pub silence: Span,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Calls are being placed, which keeps this process and what is tested busier than calls do.
    Placing,
    /// All calls stand that ever did.
    Watched,
    /// They are to be hung up.
    Over,
}

/// One end of a call that stands.
struct End {
    side: Side,
    call: Call,
    transport: Arc<TurnTransport>,
    meter: Arc<Mutex<Option<Meter>>>,
    stream: Arc<Stream>,
}

/// A call that stands, and sends.
pub struct Standing {
    nth: usize,
    id: CallId,
    set_up: Span,
    ends: [End; 2],
    silence: Span,
}

impl Outcome {
    /// A call that never stood.
    #[must_use]
    pub const fn never(nth: usize, id: Option<CallId>, why: String) -> Self {
        Self { nth, id, set_up: None, lost: Some(Lost::SetUp(why)), flows: Vec::new(), not_sent: 0 }
    }
}

/// Sets a call up, from one device to the other, and begins to send both ways. One that is held rings until it may be
/// accepted, and its set-up counts from there.
///
/// # Errors
/// What became of it instead.
pub async fn set_up(
    nth: usize,
    [caller, callee]: [&Device; 2],
    stage: &Stage,
    hold: Option<&Hold>,
) -> Result<Standing, Outcome> {
    let mut began = now();
    let mut id = None;
    let both = timeout(limits::SET_UP_WITHIN, ring([caller, callee], hold, &mut id, &mut began)).await;
    let (ends, id) = match (both, id) {
        (Ok(Ok(ends)), Some(id)) => (ends, id),
        (Ok(Err(error)), id) => return Err(Outcome::never(nth, id, error.to_string())),
        (_, id) => return Err(Outcome::never(nth, id, "not in time".to_owned())),
    };
    let set_up = now().since(began);
    let stamp = packet::stamp(id);
    // Whoever sends first is heard: both listen before either sends.
    let ends = ends.map(|(side, call, transport)| {
        let transport = Arc::new(transport);
        let meter = Arc::new(Mutex::new(Some(Meter::new(stamp, side.other(), stage.interval))));
        let taking = Arc::clone(&meter);
        transport.hand_to(move |bytes| {
            if let Some(meter) = &mut *taking.lock().unwrap_or_else(PoisonError::into_inner) {
                meter.take(now(), bytes);
            }
        });
        (side, call, transport, meter)
    });
    let ends = ends.map(|(side, call, transport, meter)| {
        let way = Arc::clone(&transport) as _;
        let seed = stage.seed ^ (nth as u64) << 1 ^ u64::from(side == Side::Callee);
        let bytes = packet::filled(stage.packet_bytes, seed);
        let stream = stage.streams.add(Leg { way, stamp, side, bytes });
        End { side, call, transport, meter, stream }
    });
    Ok(Standing { nth, id, set_up, ends, silence: stage.silence })
}

async fn ring(
    [caller, callee]: [&Device; 2],
    hold: Option<&Hold>,
    id: &mut Option<CallId>,
    began: &mut Mono,
) -> Result<[(Side, Call, TurnTransport); 2], Error> {
    let call = caller.place(&callee.party().account, Media::Audio).await?;
    *id = Some(call.id());
    // What rings is another one's if an earlier run of the same seed was not hung up.
    let incoming = loop {
        match callee.incoming().await {
            Some(incoming) if incoming.id() == call.id() => break incoming,
            Some(_) => {}
            None => return Err(Error::NotAccepted),
        }
    };
    incoming.ringing().await?;
    if let Some(hold) = hold {
        hold.rings(&call).await;
        *began = now();
    }
    let accepted = incoming.accept().await;
    if let Some(hold) = hold {
        hold.answered(accepted.is_ok());
    }
    let other = accepted?;
    let (here, there) = tokio::try_join!(call.transport(), other.transport())?;
    Ok([(Side::Caller, call, here), (Side::Callee, other, there)])
}

impl Standing {
    /// Which call it is.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.id
    }

    /// Until the run is over. Gaps and delays count from when all calls stand.
    async fn watched(&self, mut parts: watch::Receiver<Part>) {
        // Its sender lives until all calls are over.
        let _ = parts.wait_for(|part| *part >= Part::Watched).await;
        for end in &self.ends {
            if let Some(meter) = &mut *end.meter.lock().unwrap_or_else(PoisonError::into_inner) {
                meter.watch();
            }
        }
        let _ = parts.wait_for(|part| *part == Part::Over).await;
    }

    /// Runs until it is told to stop, or until it is over; hangs up, and says what became of it.
    pub async fn run(self, parts: watch::Receiver<Part>) -> Outcome {
        let [caller, callee] = &self.ends;
        let ended = tokio::select! {
            () = self.watched(parts) => None,
            reason = caller.call.ended() => Some((Side::Caller, reason)),
            reason = callee.call.ended() => Some((Side::Callee, reason)),
        };
        let stopped = now();
        let mut lost = ended.map(|(told, reason)| Lost::Ended { told, reason: reason.to_string(), at: stopped });
        for end in &self.ends {
            end.stream.stop();
        }
        // What is under way may still come; that nothing more does is no event.
        tokio::time::sleep(limits::LINGER).await;
        let mut flows = Vec::new();
        let mut not_sent = 0;
        for (end, other) in [(caller, callee), (callee, caller)] {
            let meter = end.meter.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(meter) = meter else { continue };
            let flow = meter.finish(other.stream.sent());
            let Counts { not_sent: refused, not_taken } = end.transport.counts();
            not_sent += refused + not_taken;
            let silent = flow.last.is_none_or(|last| stopped.since(last) > self.silence);
            if silent && lost.is_none() {
                lost = Some(Lost::Silent(end.side));
            }
            flows.push((end.side, flow));
        }
        let hung_up = async {
            // One that cannot be hung up ends by itself when its devices are gone; it was measured before.
            let _ = caller.call.hang_up().await;
            caller.call.ended().await;
        };
        let _ = timeout(limits::HANG_UP_WITHIN, hung_up).await;
        let Self { nth, id, set_up, ends, .. } = self;
        for end in ends {
            // The thread that sends has let go of it by now; if not, it ends with the call.
            if let Some(transport) = Arc::into_inner(end.transport) {
                transport.close().await;
            }
        }
        Outcome { nth, id: Some(id), set_up: Some(set_up), lost, flows, not_sent }
    }
}
