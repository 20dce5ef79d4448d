//! The forwarding path: one datagram in, at most one out, in the same bytes.
//!
//! Decides, per packet, by who is attached to the same call. No allocation, no copy of the payload: a header is
//! rewritten in front of it, in the headroom if it grows (RFC 8656 sections 11 and 12).
//!
//! | from \ to | channel | Data indication |
//! |---|---|---|
//! | channel | two bytes | 4 B header becomes 36 B |
//! | Send indication | the head of DATA becomes the channel's header | header rewritten |

use tandem_wire::id::VirtualAddr;
use tandem_wire::stun::{
    CHANNEL_HEADER_LEN, Class, DATA_HEADER_LEN, Message, Method, TransactionId, channel_data, data_header,
};
use tandem_wire::units::Now;

use super::{Attached, Counter, Entry, Listener, Owner, SlabIndex, Source, Switch};
use crate::limits;

/// A received datagram where it lies: with [`limits::HEADROOM`] bytes in front of it and [`limits::TAILROOM`] behind it.
#[derive(Debug)]
pub struct Slot<'a> {
    /// The whole buffer.
    pub buffer: &'a mut [u8],
    /// Where the datagram starts.
    pub start: usize,
    /// How long it is.
    pub len: usize,
}

impl Slot<'_> {
    /// The datagram.
    #[must_use]
    pub fn datagram(&self) -> &[u8] {
        self.buffer.get(self.start..self.start.saturating_add(self.len)).unwrap_or(&[])
    }

    /// Puts `header` right before the `payload` bytes at `at`, with `padding` zeros behind them.
    /// `None` if there is no room for it.
    fn rewrite(&mut self, at: usize, payload: usize, header: &[u8], padding: usize) -> Option<()> {
        let start = at.checked_sub(header.len())?;
        let end = at.checked_add(payload)?;
        self.buffer.get_mut(end..end + padding)?.fill(0);
        self.buffer.get_mut(start..at)?.copy_from_slice(header);
        self.start = start;
        self.len = header.len() + payload + padding;
        Some(())
    }
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send the slot, as it is now, to this address.
    Forward(Attached),
    /// A STUN request: it wants an answer, which is not the switch's to give.
    Request,
    /// Media from an address that no allocation has. Counted; to be dropped unless the relay is still loading.
    UnknownSource,
    /// ChannelData on a channel that this allocation has not bound. Counted; to be dropped unless the record is newer.
    UnknownChannel(Owner),
    /// Dropped, and counted.
    Drop,
}

impl Switch {
    /// Decides about one datagram that came straight from its client, and rewrites it for the one who gets it.
    pub fn datagram(&mut self, now: Now, source: Source, slot: &mut Slot<'_>) -> Verdict {
        self.tunneled(now, source, None, slot)
    }

    /// The same for one that came through a load balancer, to this listener: what goes to its client leaves from there from
    /// now on, if the packet is one that its allocation may send. `None`: a listener that we do not know.
    pub fn tunneled(&mut self, now: Now, source: Source, listener: Option<Listener>, slot: &mut Slot<'_>) -> Verdict {
        // The first byte tells (RFC 7983): 0-3 STUN, 64-127 ChannelData (RFC 5766 clients use all of 0x4000-0x7FFF).
        match slot.datagram().first() {
            Some(64..=127) => self.channel(now, source, listener, slot),
            Some(0..=3) => self.stun(now, source, listener, slot),
            Some(_) => self.dropped(Counter::NotOurs),
            None => self.dropped(Counter::Empty),
        }
    }

    fn dropped(&mut self, why: Counter) -> Verdict {
        self.counters.add(why, 1);
        Verdict::Drop
    }

    fn channel(&mut self, now: Now, source: Source, listener: Option<Listener>, slot: &mut Slot<'_>) -> Verdict {
        let Some(index) = self.flows.get(&source).copied() else {
            self.counters.add(Counter::UnknownSource, 1);
            return Verdict::UnknownSource;
        };
        let Some((number, payload)) = channel_data(slot.datagram()) else { return self.dropped(Counter::Malformed) };
        let Some(entry) = self.entries.get(index) else { return self.dropped(Counter::UnknownSource) };
        let Some(peer) = entry.peer_of(number) else {
            let owner = entry.owner;
            self.counters.add(Counter::UnknownChannel, 1);
            return Verdict::UnknownChannel(owner);
        };
        if entry.listener != listener {
            self.speaks_to(index, peer, listener);
        }
        let at = slot.start + CHANNEL_HEADER_LEN;
        self.forward(now, index, peer, slot, at, payload, [Counter::ChannelToChannel, Counter::ChannelToIndication])
    }

    fn stun(&mut self, now: Now, source: Source, listener: Option<Listener>, slot: &mut Slot<'_>) -> Verdict {
        let Ok(message) = Message::parse(slot.datagram()) else { return self.dropped(Counter::Malformed) };
        match (message.class, message.method) {
            (Class::Request, _) => Verdict::Request,
            (Class::Indication, Method::Send) => {
                let Some(index) = self.flows.get(&source).copied() else {
                    self.counters.add(Counter::UnknownSource, 1);
                    return Verdict::UnknownSource;
                };
                // RFC 8656 section 11.2: without both, or with an attribute that we do not understand, it is dropped.
                let (Some(peer), Some((offset, payload)), []) =
                    (message.attributes.peer, message.attributes.data, message.attributes.unknown())
                else {
                    return self.dropped(Counter::Malformed);
                };
                let Some(peer) = VirtualAddr::from_peer(peer) else { return self.dropped(Counter::OutsidePrefix) };
                self.speaks_to(index, peer, listener);
                let at = slot.start + offset;
                self.forward(
                    now,
                    index,
                    peer,
                    slot,
                    at,
                    payload,
                    [Counter::IndicationToChannel, Counter::IndicationToIndication],
                )
            }
            // Never answered, so that two servers cannot be set to answering each other (CVE-2024-2169).
            _ => self.dropped(Counter::NotRequest),
        }
    }

    /// Takes `payload` bytes at `at` from allocation `from` to whoever is at `peer`.
    #[allow(clippy::too_many_arguments, reason = "one packet: when, from whom, to whom, and where its payload lies")]
    fn forward(
        &mut self,
        now: Now,
        from: SlabIndex,
        peer: VirtualAddr,
        slot: &mut Slot<'_>,
        at: usize,
        payload: usize,
        [on_channel, as_indication]: [Counter; 2],
    ) -> Verdict {
        let Some((sender, receiver)) = self.pair(from, peer) else { return self.dropped(Counter::NobodyThere) };
        let to = Attached { source: receiver.source, listener: receiver.listener };
        let (call, channel) = (receiver.call, receiver.channel_to(sender));
        if !self.members.get_mut(call).is_some_and(|members| members.rate.spends(now.mono, payload)) {
            return self.dropped(Counter::OverRate);
        }
        let (how, rewritten) = match channel {
            Some(number) => {
                let ([n0, n1], Ok([l0, l1])) = (number.to_be_bytes(), u16::try_from(payload).map(u16::to_be_bytes))
                else {
                    return self.dropped(Counter::Malformed);
                };
                (on_channel, slot.rewrite(at, payload, &[n0, n1, l0, l1], 0))
            }
            None => {
                self.indications = self.indications.wrapping_add(1);
                let Some(header) = data_header(sender, transaction(self.indications), payload) else {
                    return self.dropped(Counter::Malformed);
                };
                let padding = payload.next_multiple_of(4) - payload;
                (as_indication, slot.rewrite(at, payload, &header, padding))
            }
        };
        if rewritten.is_none() {
            return self.dropped(Counter::NoHeadroom);
        }
        self.counters.add(how, 1);
        self.counters.add(Counter::PayloadBytes, payload as u64);
        Verdict::Forward(to)
    }

    /// A packet that is delivered says where its client speaks to; one that is for nobody says nothing.
    fn speaks_to(&mut self, index: SlabIndex, peer: VirtualAddr, listener: Option<Listener>) {
        if self.pair(index, peer).is_some() {
            self.spoke_to(index, listener);
        }
    }

    /// The client of an allocation has spoken to this listener, or to one that we do not know.
    pub(super) fn spoke_to(&mut self, index: SlabIndex, listener: Option<Listener>) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.listener = listener;
        }
    }

    /// The sender's own virtual address, and whoever is attached at `peer` in the same call.
    fn pair(&self, from: SlabIndex, peer: VirtualAddr) -> Option<(VirtualAddr, &Entry)> {
        let sender = self.entries.get(from)?;
        let members = &self.members.get(sender.call)?.entries;
        let at = members.partition_point(|(address, _)| *address < peer);
        let (address, index) = members.get(at)?;
        if *address != peer {
            return None;
        }
        Some((sender.address(), self.entries.get(*index)?))
    }
}

impl Entry {
    fn peer_of(&self, number: u16) -> Option<VirtualAddr> {
        let at = self.channels.partition_point(|channel| channel.number < number);
        self.channels.get(at).filter(|channel| channel.number == number).map(|channel| channel.peer)
    }

    fn channel_to(&self, peer: VirtualAddr) -> Option<u16> {
        self.channels.iter().find(|channel| channel.peer == peer).map(|channel| channel.number)
    }
}

/// A Data indication's transaction number: nobody answers it, it only has to differ from the last one.
fn transaction(count: u64) -> TransactionId {
    let mut id = *b"tndm\0\0\0\0\0\0\0\0";
    id.iter_mut().skip(4).zip(count.to_be_bytes()).for_each(|(to, from)| *to = from);
    id
}

const _: () = assert!(limits::HEADROOM >= DATA_HEADER_LEN - CHANNEL_HEADER_LEN);
