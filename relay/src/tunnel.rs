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
pub(crate) enum Way {
    /// To another process of the fleet: the load balancer, or a relay that the table names.
    Inward(SocketAddr),
    /// To its client, past the load balancer, by this socket.
    Direct(Egress, u16),
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
pub(crate) struct Counters {
    /// Datagrams without a head of ours, or with another cookie.
    pub(crate) foreign: Total,
    /// Probes echoed.
    pub(crate) probes: Total,
    /// Packets passed on to the relay that has their bucket.
    pub(crate) passed_on: Total,
    /// Packets for clients that went through the load balancer.
    pub(crate) returned: Total,
    /// Packets for clients while no load balancer is known to send them through.
    pub(crate) no_way_out: Total,
}

/// One end of the tunnel.
#[derive(Debug)]
pub(crate) struct Tunnel {
    cookie: Cookie,
    /// Who steered the latest packet to us, or probed.
    balancer: Option<SocketAddr>,
    pub(crate) epoch: u32,
    pub(crate) incarnation: u64,
    pub(crate) draining: bool,
    /// A load balancer says that by this table it takes us for down.
    pub(crate) down: bool,
    /// The way past the load balancer.
    pub(crate) direct: Direct,
    pub(crate) counters: Counters,
}

impl Tunnel {
    pub(crate) fn new(cookie: Cookie, direct: Direct) -> Self {
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

    /// Decides about one datagram of the fleet, with the engine's help.
    pub(crate) fn datagram(
        &mut self,
        engine: &mut Engine,
        now: Now,
        from: ClientAddr,
        slot: &mut Slot<'_>,
    ) -> Option<Way> {
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
        let hint =
            Hint { bucket: head.bucket, acting: head.acting, epoch: head.epoch, hops: head.hops, listener };
        match engine.tunneled(now, source, hint, slot) {
            Sent::Nothing => None,
            // Nothing that proves a client is answered at once: that goes to `push`.
            Sent::To(to) => {
                if let Some(socket) = self.direct.way(to) {
                    return Some(Way::Direct(to, socket));
                }
                put(slot, &self.back(to.client(), head.bucket, false));
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
        let head = self.back(to.client(), proves.unwrap_or(BucketId(0)), proves.is_some());
        if let Some(out) = self.out() {
            batch.push(out, &head.to_bytes(), bytes);
        }
    }

    /// Queues the notice that this relay ends: a head with nothing behind it.
    pub(crate) fn say_goodbye(&mut self, batch: &mut Batch) {
        let Some(balancer) = self.balancer else { return };
        let head = Head { leaving: true, ..self.back(ClientAddr::new(balancer), BucketId(0), false) };
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

    const fn back(&self, client: ClientAddr, bucket: BucketId, proven: bool) -> Head {
        Head { back: true, proven, ..Head::to_relay(client, bucket, self.epoch, self.cookie) }
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
