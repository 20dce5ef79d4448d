//! One device's connection, from its upgrade to its close: one small task.
//!
//! Decides when a device is silent for too long, says too much or takes too little. Leaves what is pushed to the hub. It
//! holds no queue but the one that the hub fills: what a device does not take stays in the store.

use std::io;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use serde::Deserialize;
use tandem_auth::rate::Bucket;
use tandem_core::mailbox::ConnectionId;
use tandem_telemetry::http::Place;
use tandem_telemetry::metric::router::{CLOSED, Cause};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::hub::Event;
use crate::limits;
use crate::push::BlobId;

/// What the hub has for a connection.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A push.
    Text(Utf8Bytes),
    /// Say to the hub that everything before this has been sent.
    Tell,
    /// It is over.
    Close(End),
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process ends.
    GoingAway,
    /// The device was silent for too long.
    Idle,
    /// It takes too little of what it is sent.
    Slow,
    /// It says too much.
    Flood,
    /// It sent a frame that is too large.
    TooLarge,
    /// It sent something that is not understood.
    NotUnderstood,
    /// Its token is no longer good.
    Unauthorized,
    /// It has connected anew.
    Elsewhere,
    /// Its account has too many connections.
    Overloaded,
}

impl End {
    /// The code of RFC 6455 section 7.4, or ours, and a word for people.
    const fn frame(self) -> (u16, &'static str) {
        match self {
            Self::GoingAway => (1001, "going away"),
            Self::Idle => (1001, "idle"),
            Self::Slow => (1008, "too slow"),
            Self::Flood => (1008, "too many frames"),
            Self::Overloaded => (1013, "too many connections of this account"),
            Self::TooLarge => (1009, "frame too large"),
            Self::NotUnderstood => (4400, "not understood"),
            Self::Unauthorized => (4401, "token no longer good"),
            Self::Elsewhere => (4409, "connected elsewhere"),
        }
    }

    const fn cause(self) -> Cause {
        match self {
            Self::GoingAway => Cause::GoingAway,
            Self::Idle => Cause::Idle,
            Self::Slow => Cause::Slow,
            Self::Flood => Cause::Flood,
            Self::TooLarge => Cause::TooLarge,
            Self::NotUnderstood => Cause::NotUnderstood,
            Self::Unauthorized => Cause::Unauthorized,
            Self::Elsewhere => Cause::Elsewhere,
            Self::Overloaded => Cause::Overloaded,
        }
    }
}

/// What a device says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Said {
    /// It has these blobs.
    Ack {
        /// Their names.
        ids: Vec<String>,
    },
}

/// Serves a device until it or we have had enough.
pub(crate) async fn serve(
    mut socket: WebSocket,
    id: ConnectionId,
    mut outgoing: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<Event>,
    place: Option<Arc<Place>>,
) {
    let end = run(&mut socket, id, &mut outgoing, &events).await;
    // What the hub still has for it stays in the store.
    drop(outgoing);
    let _ = events.send(Event::Disconnected(id)).await;
    // A device that ends it is answered: reading on sends what tungstenite has ready for it.
    if end.is_none() {
        let _ = timeout(limits::CLOSING, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
    }
    if let Some(end) = end {
        CLOSED.of(end.cause().label()).add(1);
        let (code, reason) = end.frame();
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = timeout(limits::CLOSING, async {
            if socket.send(Message::Close(Some(frame))).await.is_ok() {
                // Until it has said that it heard, so that the reason is not lost to a reset.
                while let Some(Ok(_)) = socket.recv().await {}
            }
        })
        .await;
    }
    drop(place);
}

/// Gives why we end it; `None` if the device did.
async fn run(
    socket: &mut WebSocket,
    id: ConnectionId,
    outgoing: &mut mpsc::Receiver<Outgoing>,
    events: &mpsc::Sender<Event>,
) -> Option<End> {
    let mut heard = Instant::now();
    let mut pinged = heard;
    let mut frames = Bucket::new(limits::FRAMES);
    loop {
        let due = (heard + limits::IDLE).min(heard.max(pinged) + limits::PING_EVERY);
        tokio::select! {
            next = outgoing.recv() => match next {
                Some(Outgoing::Text(text)) => {
                    if let Err(error) = socket.send(Message::Text(text)).await {
                        return stalled(error).then_some(End::Slow);
                    }
                }
                Some(Outgoing::Tell) => events.send(Event::Taken(id)).await.ok()?,
                Some(Outgoing::Close(end)) => return Some(end),
                // The hub gave it up: it took too little.
                None => return Some(End::Slow),
            },
            said = socket.recv() => {
                heard = Instant::now();
                if frames.take(tandem_net::clock::now().mono).is_err() {
                    return Some(End::Flood);
                }
                match said? {
                    Ok(message) => match understand(&message) {
                        Heard::Acks(blobs) => events.send(Event::Acked(id, blobs)).await.ok()?,
                        Heard::Alive => {}
                        Heard::Nonsense => return Some(End::NotUnderstood),
                        Heard::Close => return None,
                    },
                    Err(error) => return too_large(error).then_some(End::TooLarge),
                }
            }
            () = sleep_until(due) => {
                if heard.elapsed() >= limits::IDLE {
                    return Some(End::Idle);
                }
                pinged = Instant::now();
                if let Err(error) = socket.send(Message::Ping(Bytes::new())).await {
                    return stalled(error).then_some(End::Slow);
                }
            }
        }
    }
}

/// What a message comes to.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Acks(Vec<BlobId>),
    Alive,
    Nonsense,
    Close,
}

fn understand(message: &Message) -> Heard {
    match message {
        Message::Text(text) => match serde_json::from_str(text.as_str()) {
            Ok(Said::Ack { ids }) if ids.len() <= limits::ACKS_PER_MESSAGE => {
                // A name that is none names nothing (attack M01).
                Heard::Acks(ids.iter().filter_map(|id| BlobId::read(id)).collect())
            }
            _ => Heard::Nonsense,
        },
        Message::Binary(_) => Heard::Nonsense,
        // tungstenite answers pings by itself.
        Message::Ping(_) | Message::Pong(_) => Heard::Alive,
        Message::Close(_) => Heard::Close,
    }
}

/// It took nothing for as long as a server waits ([`tandem_telemetry::http::Limits::write_stall`]).
fn stalled(error: axum::Error) -> bool {
    let error = error.into_inner();
    matches!(error.downcast_ref(), Some(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::TimedOut)
}

fn too_large(error: axum::Error) -> bool {
    let error = error.into_inner();
    matches!(error.downcast_ref(), Some(tungstenite::Error::Capacity(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_acknowledgements_are_understood() {
        let text = |text: &str| understand(&Message::Text(text.into()));
        assert_eq!(text(r#"{"type":"ack","ids":["call_x.1.1", "../..", ""]}"#), Heard::Acks(vec![]));
        for nonsense in
            ["", "{}", "[]", r#"{"type":"ack"}"#, r#"{"type":"ack","ids":[],"x":1}"#, r#"{"type":"other","ids":[]}"#]
        {
            assert_eq!(text(nonsense), Heard::Nonsense, "{nonsense}");
        }
        assert_eq!(text(&format!(r#"{{"type":"ack","ids":[{}""]}}"#, "\"\",".repeat(64))), Heard::Nonsense);
        assert_eq!(understand(&Message::Binary(Bytes::new())), Heard::Nonsense);
    }
}
