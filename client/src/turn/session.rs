//! One allocation, from the client's side: which request is due, and what an answer changes.
//!
//! Decides when to ask, ask again and give up. One request is under way at a time: an allocation, and a channel and a
//! permission for each peer, are a few round trips in its life, and order is worth more than one of them. Time and randomness
//! arrive as arguments.

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
    /// A channel to this peer.
    Bind(usize),
    /// A permission for this peer.
    Permit(usize),
    Refresh,
}

/// When each is due.
#[derive(Debug, Default)]
struct Timers {
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

/// Somebody in the call, and our channel there.
#[derive(Debug, Clone, Copy)]
struct Peer {
    at: VirtualAddr,
    channel: u16,
    bound: bool,
    /// It is renewed.
    kept: bool,
    /// The channel is to be bound, or renewed.
    bind: Option<Instant>,
    /// The permission is to be given, or renewed.
    permit: Option<Instant>,
}

impl Peer {
    /// Everything is asked for, from the start.
    const fn anew(&mut self, now: Instant) {
        self.bound = false;
        (self.bind, self.permit) = (Some(now), Some(now));
    }

    /// Nothing is asked for any more.
    const fn leave(&mut self) {
        self.kept = false;
        (self.bind, self.permit) = (None, None);
    }
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
    /// In the order of their channels; at most [`limits::CHANNELS`].
    peers: Vec<Peer>,
    /// The one that [`Session::channel`] is about.
    followed: Option<VirtualAddr>,
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
            peers: Vec::new(),
            followed: None,
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

    /// The channel to the one that is followed.
    pub(super) fn channel(&self) -> Option<u16> {
        self.channels().find(|(at, _)| Some(*at) == self.followed).map(|(_, channel)| channel)
    }

    /// The channels that packets may go out on, and where to.
    pub(super) fn channels(&self) -> impl Iterator<Item = (VirtualAddr, u16)> {
        let usable = |peer: &&Peer| peer.bound && peer.kept && self.over.is_none();
        self.peers.iter().filter(usable).map(|peer| (peer.at, peer.channel))
    }

    /// Why nothing goes on any more.
    pub(super) const fn over(&self) -> Option<TurnError> {
        self.over
    }

    /// The other device is there from now on, and nowhere else. It is over if there is no channel for it.
    pub(super) fn follow(&mut self, at: VirtualAddr, now: Instant) {
        if self.followed.replace(at) == Some(at) {
            return;
        }
        self.peers.iter_mut().filter(|peer| peer.at != at).for_each(Peer::leave);
        // What was asked for the old one is not waited for.
        self.pending.take_if(|pending| matches!(pending.need, Need::Bind(_) | Need::Permit(_)));
        if !self.reach(at, now) {
            self.end(TurnError::Channels);
        }
    }

    /// A channel to this address is bound, and kept. False if there are no more: indications go there all the same.
    pub(super) fn reach(&mut self, at: VirtualAddr, now: Instant) -> bool {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.at == at) {
            if !peer.kept {
                peer.kept = true;
                // An address has the same channel for as long as the allocation lives (RFC 8656 section 12).
                peer.anew(now);
            }
            return true;
        }
        let Some(channel) = u16::try_from(self.peers.len()).ok().filter(|count| *count < limits::CHANNELS) else {
            return false;
        };
        let (bind, permit) = (Some(now), Some(now));
        self.peers.push(Peer { at, channel: CHANNEL_BASE + channel, bound: false, kept: true, bind, permit });
        true
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

    /// Takes a datagram in; what it carries for the app, and who sent it.
    pub(super) fn handle<'a>(&mut self, now: Instant, datagram: &'a [u8]) -> Option<(VirtualAddr, &'a [u8])> {
        match datagram.first()? {
            64..=127 => {
                let (channel, len) = channel_data(datagram)?;
                let from = self.peers.get(usize::from(channel.checked_sub(CHANNEL_BASE)?))?.at;
                Some((from, datagram.get(4..4 + len)?))
            }
            _ => {
                let message = Message::parse(datagram).ok()?;
                if (message.class, message.method) == (Class::Indication, Method::Data) {
                    let from = VirtualAddr::from_peer(message.attributes.peer?)?;
                    let (at, len) = message.attributes.data?;
                    return Some((from, datagram.get(at..at + len)?));
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
            Need::Permit(_) => self.again(need, now + limits::PERMISSION_EVERY),
            Need::Bind(index) => {
                self.again(need, now + limits::CHANNEL_EVERY);
                if let Some(peer) = self.peers.get_mut(index) {
                    peer.bound = true;
                }
            }
        }
    }

    /// It is due again then.
    fn again(&mut self, need: Need, then: Instant) {
        match need {
            Need::Bind(index) => {
                if let Some(peer) = self.peers.get_mut(index) {
                    peer.bind = Some(then);
                }
            }
            Need::Permit(index) => {
                if let Some(peer) = self.peers.get_mut(index) {
                    peer.permit = Some(then);
                }
            }
            Need::Refresh => self.timers.refresh = Some(then),
            Need::Allocate | Need::End => {}
        }
    }

    fn fail(&mut self, now: Instant, need: Need, code: u16) {
        match need {
            Need::End => self.end(TurnError::Closed),
            // The relay does not know us any more: from the start, with the same socket.
            Need::Bind(_) | Need::Permit(_) | Need::Refresh if code == 437 => {
                self.relayed = None;
                self.timers = Timers::default();
                self.peers.iter_mut().filter(|peer| peer.kept).for_each(|peer| peer.anew(now));
            }
            // A channel is permission enough.
            Need::Permit(_) => self.again(need, now + limits::PERMISSION_EVERY),
            Need::Allocate | Need::Bind(_) | Need::Refresh => self.end(TurnError::Refused(code)),
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
        match need {
            Need::Allocate => self.end(TurnError::Silent),
            Need::End => self.end(TurnError::Closed),
            Need::Bind(_) | Need::Permit(_) | Need::Refresh => self.again(need, now + limits::ASK_AGAIN),
        }
    }

    fn need(&self, now: Instant) -> Option<Need> {
        let due = |timer: Option<Instant>| timer.is_some_and(|due| due <= now);
        let first = |timer: fn(&Peer) -> Option<Instant>| self.peers.iter().position(|peer| due(timer(peer)));
        match self.relayed {
            None => Some(Need::Allocate),
            Some(_) if self.ending => Some(Need::End),
            Some(_) => first(|peer| peer.bind)
                .map(Need::Bind)
                .or_else(|| first(|peer| peer.permit).map(Need::Permit))
                .or_else(|| due(self.timers.refresh).then_some(Need::Refresh)),
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
            Need::Bind(index) => {
                let Peer { at, channel, .. } = *self.peers.get(index)?;
                let [c0, c1] = channel.to_be_bytes();
                request(out, Method::ChannelBind)
                    .attribute(attr::CHANNEL_NUMBER, &[c0, c1, 0, 0])
                    .address(attr::XOR_PEER_ADDRESS, at.socket_addr().into())
            }
            Need::Permit(index) => request(out, Method::CreatePermission)
                .address(attr::XOR_PEER_ADDRESS, self.peers.get(index)?.at.socket_addr().into()),
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
        let Timers { refresh, keepalive } = self.timers;
        match (self.over, &self.pending) {
            (Some(_), _) => None,
            (None, Some(pending)) => Some(keepalive.map_or(pending.due, |due| due.min(pending.due))),
            (None, None) => {
                let peers = self.peers.iter().flat_map(|peer| [peer.bind, peer.permit]);
                peers.chain([refresh, keepalive]).flatten().min()
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
