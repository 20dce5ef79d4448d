//! One allocation, from the client's side: which request is due, and what an answer changes.
//!
//! Decides when to ask, ask again and give up. One request is under way at a time: an allocation, a channel and a permission
//! are three round trips in its life, and order is worth more than one of them. Time and randomness arrive as arguments.

use std::time::Duration;

use tandem_wire::id::VirtualAddr;
use tandem_wire::redact::Secret;
use tandem_wire::stun::{Class, Message, Method, TransactionId, Writer, attr, channel_data};
use tandem_wire::ticket::{LongTermKey, long_term_key};
use tokio::time::Instant;

use super::{TurnError, answer};
use crate::limits;

/// The lowest channel (RFC 8656 section 12).
const CHANNEL_BASE: u16 = 0x4000;
/// 17, UDP, and three bytes that are zero (RFC 8656 section 18.8).
const UDP: [u8; 4] = [17, 0, 0, 0];

/// What there is to ask for, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Allocate,
    /// Ends the allocation.
    End,
    Bind,
    Permit,
    Refresh,
}

/// When each is due.
#[derive(Debug, Default)]
struct Timers {
    /// The other device's channel is to be bound, or renewed.
    bind: Option<Instant>,
    /// The permission is to be given, or renewed.
    permit: Option<Instant>,
    /// The allocation is to be renewed.
    refresh: Option<Instant>,
    /// Something is to be sent, so that NATs remember.
    keepalive: Option<Instant>,
}

/// A request that waits for its answer.
struct Pending {
    need: Need,
    transaction: TransactionId,
    bytes: Vec<u8>,
    sends: u32,
    /// The pause after the next time it is sent.
    pause: Duration,
    due: Instant,
}

/// Where the other device is, and our channel to it.
#[derive(Debug, Clone, Copy)]
struct Peer {
    at: VirtualAddr,
    channel: u16,
    bound: bool,
}

/// Call [`Session::handle`] for every datagram, then [`Session::poll`] until it gives `None`, then wait until
/// [`Session::next_deadline`] or the next datagram. It has no `Debug`: keys and tickets are in it.
pub(super) struct Session {
    username: Secret,
    credential: Secret,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: Option<LongTermKey>,
    challenges: u32,
    relayed: Option<VirtualAddr>,
    peer: Option<Peer>,
    channels: u16,
    timers: Timers,
    pending: Option<Pending>,
    ending: bool,
    over: Option<TurnError>,
}

impl Session {
    pub(super) fn new(username: Secret, credential: Secret) -> Self {
        Self {
            username,
            credential,
            realm: Vec::new(),
            nonce: Vec::new(),
            key: None,
            challenges: 0,
            relayed: None,
            peer: None,
            channels: 0,
            timers: Timers::default(),
            pending: None,
            ending: false,
            over: None,
        }
    }

    /// Our address in the call.
    pub(super) const fn relayed(&self) -> Option<VirtualAddr> {
        self.relayed
    }

    /// The channel that packets go out on.
    pub(super) fn channel(&self) -> Option<u16> {
        self.peer.filter(|peer| peer.bound && self.over.is_none()).map(|peer| peer.channel)
    }

    /// Why nothing goes on any more.
    pub(super) const fn over(&self) -> Option<TurnError> {
        self.over
    }

    /// The other device is there, from now on.
    pub(super) fn set_peer(&mut self, at: VirtualAddr, now: Instant) {
        if self.peer.is_some_and(|peer| peer.at == at) {
            return;
        }
        if self.channels == limits::CHANNELS {
            return self.end(TurnError::Channels);
        }
        self.peer = Some(Peer { at, channel: CHANNEL_BASE + self.channels, bound: false });
        self.channels += 1;
        (self.timers.bind, self.timers.permit) = (Some(now), Some(now));
        // What was asked for the old one is not waited for.
        self.pending.take_if(|pending| matches!(pending.need, Need::Bind | Need::Permit));
    }

    /// Gives the allocation back.
    pub(super) fn close(&mut self) {
        if self.relayed.is_none() {
            return self.end(TurnError::Closed);
        }
        self.ending = true;
        self.pending = None;
    }

    fn end(&mut self, why: TurnError) {
        self.over.get_or_insert(why);
        self.pending = None;
    }

    /// Takes a datagram in; what it carries for the app.
    pub(super) fn handle<'a>(&mut self, now: Instant, datagram: &'a [u8]) -> Option<&'a [u8]> {
        match datagram.first()? {
            64..=127 => {
                let (_, len) = channel_data(datagram)?;
                datagram.get(4..4 + len)
            }
            _ => {
                let message = Message::parse(datagram).ok()?;
                if (message.class, message.method) == (Class::Indication, Method::Data) {
                    let (at, len) = message.attributes.data?;
                    return datagram.get(at..at + len);
                }
                self.hear(now, datagram, &message);
                None
            }
        }
    }

    fn hear(&mut self, now: Instant, bytes: &[u8], message: &Message<'_>) {
        let Some(pending) = self.pending.take_if(|pending| pending.transaction == message.transaction) else { return };
        let proven = self.key.as_ref().is_some_and(|key| message.verify(key));
        match message.class {
            Class::Success if proven => self.succeed(now, pending.need, bytes, message),
            Class::Error => match (answer::error_code(bytes), message.attributes.realm, message.attributes.nonce) {
                (401 | 438, Some(realm), Some(nonce)) if self.challenges < limits::CHALLENGES => {
                    self.challenges += 1;
                    (self.realm, self.nonce) = (realm.to_vec(), nonce.to_vec());
                    self.key = Some(long_term_key(self.username.expose(), realm, self.credential.expose()));
                }
                // Who cannot prove to know our key cannot refuse what was asked with it; but these come without.
                (code @ (400 | 401 | 420 | 438), ..) => self.fail(now, pending.need, code),
                (code, ..) if proven => self.fail(now, pending.need, code),
                _ => self.pending = Some(pending),
            },
            // Anyone could have sent it.
            _ => self.pending = Some(pending),
        }
    }

    fn succeed(&mut self, now: Instant, need: Need, bytes: &[u8], message: &Message<'_>) {
        self.challenges = 0;
        let lifetime = Duration::from_secs(message.attributes.lifetime.unwrap_or(limits::LIFETIME_S).into());
        // Before two thirds of it are over: time for a relay that is away for minutes.
        let renew = now + lifetime * 2 / 3;
        match need {
            Need::Allocate => match answer::relayed(bytes) {
                Some(relayed) => {
                    self.relayed = Some(relayed);
                    self.timers.refresh = Some(renew);
                    self.timers.keepalive = Some(now + limits::KEEPALIVE);
                }
                None => self.end(TurnError::Unreadable),
            },
            Need::End => self.end(TurnError::Closed),
            Need::Refresh => self.timers.refresh = Some(renew),
            Need::Permit => self.timers.permit = Some(now + limits::PERMISSION_EVERY),
            Need::Bind => {
                self.timers.bind = Some(now + limits::CHANNEL_EVERY);
                if let Some(peer) = &mut self.peer {
                    peer.bound = true;
                }
            }
        }
    }

    fn fail(&mut self, now: Instant, need: Need, code: u16) {
        match need {
            Need::End => self.end(TurnError::Closed),
            // The relay does not know us any more: from the start, with the same socket.
            Need::Bind | Need::Permit | Need::Refresh if code == 437 => {
                self.relayed = None;
                self.timers = Timers::default();
                if let Some(peer) = &mut self.peer {
                    peer.bound = false;
                    (self.timers.bind, self.timers.permit) = (Some(now), Some(now));
                }
            }
            // A channel is permission enough.
            Need::Permit => self.timers.permit = Some(now + limits::PERMISSION_EVERY),
            Need::Allocate | Need::Bind | Need::Refresh => self.end(TurnError::Refused(code)),
        }
    }

    /// The next request to send, written into `out`. `transaction` is random, and used if a new request is due.
    pub(super) fn poll(&mut self, now: Instant, transaction: TransactionId, out: &mut [u8]) -> Option<usize> {
        if self.over.is_some() {
            return None;
        }
        if self.pending.is_none()
            && let Some(need) = self.need(now)
        {
            let len = self.write(need, transaction, out)?;
            let bytes = out.get(..len)?.to_vec();
            self.pending = Some(Pending { need, transaction, bytes, sends: 0, pause: limits::RTO, due: now });
        }
        if let Some(pending) = &mut self.pending
            && pending.due <= now
        {
            if pending.sends == limits::SENDS {
                let need = pending.need;
                self.unanswered(now, need);
                return None;
            }
            pending.sends += 1;
            pending.due = now + pending.pause;
            pending.pause *= 2;
            if pending.sends == limits::SENDS {
                pending.due = now + limits::RTO * limits::LAST_WAIT;
            }
            self.timers.keepalive = Some(now + limits::KEEPALIVE);
            out.get_mut(..pending.bytes.len())?.copy_from_slice(&pending.bytes);
            return Some(pending.bytes.len());
        }
        if self.timers.keepalive.is_some_and(|due| due <= now) {
            self.timers.keepalive = Some(now + limits::KEEPALIVE);
            return Writer::new(out, Class::Indication, Method::Binding, transaction).finish().ok();
        }
        None
    }

    /// What runs goes on without the relay's word; it is asked again later.
    fn unanswered(&mut self, now: Instant, need: Need) {
        self.pending = None;
        let later = Some(now + limits::ASK_AGAIN);
        match need {
            Need::Allocate => self.end(TurnError::Silent),
            Need::End => self.end(TurnError::Closed),
            Need::Bind => self.timers.bind = later,
            Need::Permit => self.timers.permit = later,
            Need::Refresh => self.timers.refresh = later,
        }
    }

    fn need(&self, now: Instant) -> Option<Need> {
        let due = |timer: Option<Instant>| timer.is_some_and(|due| due <= now);
        match self.relayed {
            None => Some(Need::Allocate),
            Some(_) if self.ending => Some(Need::End),
            Some(_) if due(self.timers.bind) => Some(Need::Bind),
            Some(_) if due(self.timers.permit) => Some(Need::Permit),
            Some(_) => due(self.timers.refresh).then_some(Need::Refresh),
        }
    }

    fn write(&self, need: Need, transaction: TransactionId, out: &mut [u8]) -> Option<usize> {
        let request = |out, method| Writer::new(out, Class::Request, method, transaction);
        let lifetime = |seconds: u32| seconds.to_be_bytes();
        let writer = match need {
            Need::Allocate => request(out, Method::Allocate)
                .attribute(attr::REQUESTED_TRANSPORT, &UDP)
                .attribute(attr::LIFETIME, &lifetime(limits::LIFETIME_S)),
            Need::End => request(out, Method::Refresh).attribute(attr::LIFETIME, &lifetime(0)),
            Need::Refresh => request(out, Method::Refresh).attribute(attr::LIFETIME, &lifetime(limits::LIFETIME_S)),
            Need::Bind => {
                let Peer { at, channel, .. } = self.peer?;
                let [c0, c1] = channel.to_be_bytes();
                request(out, Method::ChannelBind)
                    .attribute(attr::CHANNEL_NUMBER, &[c0, c1, 0, 0])
                    .address(attr::XOR_PEER_ADDRESS, at.socket_addr().into())
            }
            Need::Permit => request(out, Method::CreatePermission)
                .address(attr::XOR_PEER_ADDRESS, self.peer?.at.socket_addr().into()),
        };
        let Some(key) = &self.key else { return writer.finish().ok() };
        writer
            .attribute(attr::USERNAME, self.username.expose())
            .attribute(attr::REALM, &self.realm)
            .attribute(attr::NONCE, &self.nonce)
            .integrity(key)
            .finish()
            .ok()
    }

    /// When [`Session::poll`] has something to say again, if nothing comes before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let Timers { bind, permit, refresh, keepalive } = &self.timers;
        match (self.over, &self.pending) {
            (Some(_), _) => None,
            (None, Some(pending)) => Some(keepalive.map_or(pending.due, |due| due.min(pending.due))),
            (None, None) => [bind, permit, refresh, keepalive].into_iter().flatten().min().copied(),
        }
    }
}

#[cfg(test)]
mod tests;
