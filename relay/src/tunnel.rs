//! The relay's end of the tunnel: heads taken off and put on, and probes echoed by the thread that carries the packets.
//!
//! Decides whom to believe: a head with our cookie, and nobody else. Leaves what is done with a packet to the engine.

use std::net::SocketAddr;

use tandem_core::limits::ALLOCATIONS_PER_RELAY;
use tandem_core::switch::{Egress, Slot, Source};
use tandem_core::topology::Transport;
use tandem_net::batch::{Batch, Destination};
use tandem_wire::id::BucketId;
use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::{Cookie, HEAD_LEN, Head, PROBE_LEN, Probe};
use tandem_wire::units::{Now, Total};

use crate::direct::Direct;
use crate::duty::Hint;
use crate::engine::{Engine, Sent};
use crate::limits;

/// Where a datagram goes.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// To another process of the fleet: the load balancer, or a relay that the table names.
    Inward(SocketAddr),
    /// To its client, past the load balancer, by this socket.
    Direct(Egress, u16),
}

impl Way {
    /// Where it is taken in.
    #[must_use]
    pub fn socket_addr(&self) -> SocketAddr {
        self.address()
    }
}

impl Destination for Way {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Inward(process) => *process,
            Self::Direct(to, _) => to.address(),
        }
    }

    fn through(&self) -> u16 {
        match self {
            Self::Inward(_) => 0,
            Self::Direct(_, socket) => *socket,
        }
    }
}

/// Counted at this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Datagrams without a head of ours, or with another cookie.
    pub foreign: Total,
    /// Probes echoed.
    pub probes: Total,
    /// Packets passed on to the relay that has their bucket.
    pub passed_on: Total,
    /// Packets for clients that went through the load balancer.
    pub returned: Total,
    /// Packets for clients while no load balancer is known to send them through.
    pub no_way_out: Total,
}

/// One end of the tunnel. The packet thread hands it what its socket receives, and what the engine wants sent to clients.
#[derive(Debug)]
pub struct Tunnel {
    cookie: Cookie,
    /// Who steered the latest packet to us, or probed.
    balancer: Option<SocketAddr>,
    /// Of the table that the relay goes by.
    pub epoch: u32,
    /// Which run of the relay this is.
    pub incarnation: u64,
    /// Echoes say that the relay wants no more.
    pub draining: bool,
    /// A load balancer says that by this table it takes us for down.
    pub down: bool,
    /// The way past the load balancer.
    pub(crate) direct: Direct,
    /// What was counted so far.
    pub counters: Counters,
}

impl Tunnel {
    /// Believes heads with this cookie, and knows no load balancer yet; everything for clients goes through one.
    #[must_use]
    pub fn new(cookie: Cookie) -> Self {
        Self::with_direct(cookie, Direct::default())
    }

    /// The same, with a way past the load balancer.
    pub(crate) fn with_direct(cookie: Cookie, direct: Direct) -> Self {
        Self {
            cookie,
            balancer: None,
            epoch: 0,
            incarnation: 0,
            draining: false,
            down: false,
            direct,
            counters: Counters::default(),
        }
    }

    /// Decides about one datagram of the fleet, with the engine's help: what it gives back is to be sent that way from the slot,
    /// as that is now.
    pub fn datagram(&mut self, engine: &mut Engine, now: Now, from: ClientAddr, slot: &mut Slot<'_>) -> Option<Way> {
        let head = match Head::read(slot.datagram()) {
            Ok((head, _)) if head.cookie == self.cookie && !head.back => head,
            _ => {
                self.counters.foreign += 1;
                return None;
            }
        };
        if head.hops == 0 {
            self.balancer = Some(from.socket_addr());
        }
        let listener = self.direct.heard(&head, self.epoch);
        slot.start += HEAD_LEN;
        slot.len -= HEAD_LEN;
        if head.probe {
            return self.echo(engine, &head, from, slot);
        }
        let source = Source { client: head.client, transport: Transport::Udp };
        let hint = Hint { bucket: head.bucket, acting: head.acting, epoch: head.epoch, hops: head.hops, listener };
        match engine.tunneled(now, source, hint, slot) {
            Sent::Nothing => None,
            // Nothing that proves a client is answered at once: that goes to `push`.
            Sent::To(to) => {
                if let Some(socket) = self.direct.way(to) {
                    return Some(Way::Direct(to, socket));
                }
                put(slot, &self.back(to, head.bucket, false));
                self.out()
            }
            Sent::PassOn(peer) => {
                self.counters.passed_on += 1;
                let on = Head { hops: 1, acting: false, epoch: self.epoch, cookie: peer.cookie, ..head };
                put(slot, &on);
                Some(Way::Inward(peer.tunnel))
            }
        }
    }

    /// Queues an answer, or a packet that was held, for a client. One that proves it goes through the load balancer, which
    /// has learned of its flow before the client can use it.
    pub(crate) fn push(&mut self, batch: &mut Batch, to: Egress, proves: Option<BucketId>, bytes: &[u8]) {
        if proves.is_none()
            && let Some(socket) = self.direct.way(to)
        {
            return batch.push(Way::Direct(to, socket), &[], bytes);
        }
        let head = self.back(to, proves.unwrap_or(BucketId(0)), proves.is_some());
        if let Some(out) = self.out() {
            batch.push(out, &head.to_bytes(), bytes);
        }
    }

    /// Queues the notice that this relay ends: a head with nothing behind it.
    pub(crate) fn say_goodbye(&mut self, batch: &mut Batch) {
        let Some(balancer) = self.balancer else { return };
        let head = Head::to_relay(ClientAddr::new(balancer), BucketId(0), self.epoch, self.cookie);
        let head = Head { back: true, leaving: true, ..head };
        for _ in 0..limits::GOODBYES {
            batch.push(Way::Inward(balancer), &head.to_bytes(), &[]);
        }
    }

    /// A probe comes back with who we are and how we do.
    fn echo(&mut self, engine: &Engine, head: &Head, from: ClientAddr, slot: &mut Slot<'_>) -> Option<Way> {
        let probe = Probe::read(slot.datagram())?;
        self.counters.probes += 1;
        self.down |= head.down && head.epoch == self.epoch;
        let load = engine.switch().allocations().saturating_mul(1_000) / ALLOCATIONS_PER_RELAY;
        let load = u16::try_from(load).unwrap_or(u16::MAX);
        let echo = Probe { incarnation: self.incarnation, load, ..probe };
        slot.buffer.get_mut(slot.start..slot.start + PROBE_LEN)?.copy_from_slice(&echo.to_bytes());
        slot.len = PROBE_LEN;
        put(slot, &Head { back: true, down: false, leaving: self.draining, epoch: self.epoch, ..*head });
        Some(Way::Inward(from.socket_addr()))
    }

    /// The head of what goes to a client: with where it spoke to, as far as that is known.
    fn back(&self, to: Egress, bucket: BucketId, proven: bool) -> Head {
        let listener = to.listener().map_or(0, |listener| listener.number);
        Head { back: true, proven, listener, ..Head::to_relay(to.client(), bucket, self.epoch, self.cookie) }
    }

    fn out(&mut self) -> Option<Way> {
        match self.balancer {
            Some(_) => self.counters.returned += 1,
            None => self.counters.no_way_out += 1,
        }
        self.balancer.map(Way::Inward)
    }
}

/// Writes a head in front of what lies in the slot. There is room: what was received had one, and a packet grows by less
/// than the headroom that was there before that.
fn put(slot: &mut Slot<'_>, head: &Head) {
    let Some(start) = slot.start.checked_sub(HEAD_LEN) else { return };
    if let Some(room) = slot.buffer.get_mut(start..slot.start) {
        room.copy_from_slice(&head.to_bytes());
        slot.start = start;
        slot.len += HEAD_LEN;
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use tandem_core::limits::{HEADROOM, TAILROOM};
    use tandem_core::residency::{Input, Snapshot};
    use tandem_core::topology::{Allocation, Attachment, Call, CallCommand, CallKind, ChannelBinding, ChannelNumber};
    use tandem_core::turn::Gate;
    use tandem_wire::id::{AllocationId, CallId, LegId, PopId, RelayId, Revision, VirtualAddr};
    use tandem_wire::redact::Secret;
    use tandem_wire::stun::{Class, Message, Method, Writer, attr};
    use tandem_wire::ticket::{TicketKey, long_term_key};
    use tandem_wire::units::{Mono, Span, Wall};

    use super::*;
    use crate::engine::Output;

    const CALL: CallId = CallId::new(PopId(1), BucketId(0xabcd), 9);
    const REALM: &str = "tndm";

    fn now() -> Now {
        Now { mono: Mono::default().after(Span::from_secs(5)), wall: Wall::from_secs(1_795_521_600) }
    }

    fn client(leg: u16) -> ClientAddr {
        ClientAddr::new(SocketAddr::from(([192, 0, 2, leg as u8], 4_000)))
    }

    /// A relay that has restored a call of two legs, which have channels to each other.
    fn restored() -> Engine {
        let key = Secret::new(vec![2; 32]);
        let gate = Gate::new(PopId(1), REALM, &Secret::new(vec![1; 32]), [(0, &key)], 7).unwrap();
        let mut engine = Engine::new(RelayId(1), gate, 7);
        let create = CallCommand::Create { id: CALL, kind: CallKind::OneToOne, legs: 2 };
        let record = Call::apply(None, create, now()).unwrap();
        let leg = |n| LegId::new(n).unwrap();
        let a = AllocationId::new(1).unwrap();
        let attachment = |n: u16| {
            let peer = VirtualAddr::of(leg(3 - n), a);
            let channels = vec![ChannelBinding { channel: ChannelNumber::new(0x4000 + n).unwrap(), peer }];
            let mut attachment = Attachment::empty(RelayId(1));
            attachment.allocations = vec![Allocation { a, transport: Transport::Udp, client: client(n), channels }];
            (leg(n), attachment, Revision(7))
        };
        let snapshot =
            Snapshot { at: Revision(9), call: Some((record, Revision(6))), legs: vec![attachment(1), attachment(2)] };
        for event in [Input::RestoreBegan, Input::Loaded { call: CALL, snapshot }, Input::Restored] {
            engine.store(now(), event);
        }
        engine
    }

    /// A tunnel that has one public address.
    fn tunnel() -> Tunnel {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Tunnel::with_direct(Cookie::from_bits(7), Direct::open(&[free]).unwrap())
    }

    /// What becomes of a packet of a leg's: which way, and as what.
    fn comes(tunnel: &mut Tunnel, engine: &mut Engine, leg: u16, packet: &[u8]) -> Option<(Way, Vec<u8>)> {
        let head = Head { acting: true, ..Head::to_relay(client(leg), CALL.bucket(), 1, tunnel.cookie) };
        let mut buffer = vec![0; HEADROOM + HEAD_LEN + 2_000 + TAILROOM];
        let bytes = [&head.to_bytes()[..], packet].concat();
        buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(&bytes);
        let mut slot = Slot { buffer: &mut buffer, start: HEADROOM, len: bytes.len() };
        let from = ClientAddr::new("10.0.0.3:5000".parse().unwrap());
        let way = tunnel.datagram(engine, now(), from, &mut slot)?;
        Some((way, slot.datagram().to_vec()))
    }

    /// A Refresh of the first leg, with a nonce that it is told first.
    fn refresh(tunnel: &mut Tunnel, engine: &mut Engine) -> Vec<u8> {
        let key = TicketKey::new(0, &Secret::new(vec![2; 32])).unwrap();
        let name = key.mint(CALL, LegId::new(1).unwrap(), now().wall.after(Span::from_secs(60)));
        let key = long_term_key(name.as_bytes(), REALM.as_bytes(), key.credential(&name).as_bytes());
        let mut buffer = [0; 400];
        let len = Writer::new(&mut buffer, Class::Request, Method::Refresh, [1; 12]).finish().unwrap();
        let (way, challenge) = comes(tunnel, engine, 1, &buffer[..len]).unwrap();
        assert!(matches!(way, Way::Direct(..)), "what asks for a proof proves nothing");
        let nonce = Message::parse(&challenge).unwrap().attributes.nonce.unwrap().to_vec();
        let writer = Writer::new(&mut buffer, Class::Request, Method::Refresh, [2; 12]);
        let writer = writer.attribute(attr::USERNAME, name.as_bytes()).attribute(attr::REALM, REALM.as_bytes());
        let len = writer.attribute(attr::NONCE, &nonce).integrity(&key).finish().unwrap();
        buffer[..len].to_vec()
    }

    #[test]
    fn a_restored_leg_is_answered_through_the_load_balancer_until_it_has_spoken() {
        let (mut tunnel, mut engine) = (tunnel(), restored());
        let mut way = |leg, packet: &[u8]| comes(&mut tunnel, &mut engine, leg, packet).map(|(way, _)| way);
        assert!(matches!(way(1, b"\x40\x01\x00\x01x"), Some(Way::Inward(_))));
        assert!(matches!(way(1, b"\x40\x01\x00\x01x"), Some(Way::Inward(_))), "the other one still has not");
        let Some(Way::Direct(to, 1)) = way(2, b"\x40\x02\x00\x01x") else { panic!("not past it") };
        assert_eq!(to.client(), client(1));
        assert!(matches!(way(1, b"\x40\x01\x00\x01x"), Some(Way::Direct(to, 1)) if to.client() == client(2)));
        assert_eq!((tunnel.counters.returned.get(), tunnel.direct.counters.sent.get()), (2, 2));
    }

    #[test]
    fn what_goes_direct_has_no_head_and_without_public_addresses_nothing_does() {
        let (mut tunnel, mut engine) = (tunnel(), restored());
        comes(&mut tunnel, &mut engine, 2, b"\x40\x02\x00\x01x").unwrap();
        let (_, bytes) = comes(&mut tunnel, &mut engine, 1, b"\x40\x01\x00\x02hi").unwrap();
        assert_eq!(bytes, b"\x40\x02\x00\x02hi");
        tunnel.direct = Direct::default();
        let (way, bytes) = comes(&mut tunnel, &mut engine, 1, b"\x40\x01\x00\x02hi").unwrap();
        assert!(matches!(way, Way::Inward(_)));
        assert_eq!((Head::read(&bytes).unwrap().1, bytes.len()), (&b"\x40\x02\x00\x02hi"[..], HEAD_LEN + 6));
    }

    #[test]
    fn a_relay_that_is_fenced_sends_nothing_direct_that_it_would_not_send_otherwise() {
        let (mut tunnel, mut engine) = (tunnel(), restored());
        let request = refresh(&mut tunnel, &mut engine);
        comes(&mut tunnel, &mut engine, 2, b"\x40\x02\x00\x01x").unwrap();
        engine.fence(true);
        assert!(comes(&mut tunnel, &mut engine, 1, &request).is_none() && engine.poll().is_none());
        // Media between legs that it knows goes on, as it does through the load balancer.
        let (way, _) = comes(&mut tunnel, &mut engine, 1, b"\x40\x01\x00\x01x").unwrap();
        assert!(matches!(way, Way::Direct(..)));
        engine.fence(false);
        assert!(comes(&mut tunnel, &mut engine, 1, &request).is_none());
        assert!(matches!(engine.poll(), Some(Output::Answer { proves: Some(_), .. })), "it is served");
    }
}
