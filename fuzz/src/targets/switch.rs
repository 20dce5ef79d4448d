//! The forwarding table: a script of attachments, departures and datagrams, next to a model that is only a map.
//!
//! What must hold: nothing panics; a datagram leaves only for an address that is attached in the same call as its source;
//! what leaves is the payload that came, under a header that names the sender; the table holds what the model holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tandem_core::limits::{HEADROOM, TAILROOM};
use tandem_core::switch::{Egress, Input, Newness, Owner, Slot, Source, Switch, Verdict};
use tandem_core::topology::{Allocation, Attachment, ChannelBinding, ChannelNumber, Transport};
use tandem_wire::id::{AllocationId, CallId, LegId, RelayId, VirtualAddr};
use tandem_wire::redact::ClientAddr;
use tandem_wire::stun::{CHANNEL_HEADER_LEN, Class, DATA_HEADER_LEN, Message, Method, Writer, attr, channel_data};
use tandem_wire::units::{Mono, Now, Span};

use crate::script::Script;

/// Few of everything, so that scripts meet themselves: 3 calls, 3 legs, 3 allocations, 12 addresses, 4 channels.
const CALLS: u8 = 3;
const LEGS: u8 = 3;
const ALLOCATIONS: u8 = 3;
const CLIENTS: u8 = 12;
const CHANNELS: u16 = 4;
/// Steps of one script: longer ones say nothing new.
const STEPS_MAX: usize = 200;

/// Runs the target.
pub fn run(data: &[u8]) {
    World::default().play(data);
}

struct World {
    switch: Switch,
    /// Who is attached on which address.
    model: BTreeMap<SocketAddr, Owner>,
    now: Now,
}

impl Default for World {
    fn default() -> Self {
        Self { switch: Switch::new(7), model: BTreeMap::new(), now: Now::default() }
    }
}

impl World {
    fn play(&mut self, data: &[u8]) {
        let mut script = Script::new(data);
        for _ in 0..STEPS_MAX {
            if script.is_empty() {
                break;
            }
            self.step(&mut script);
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 8 {
            0 | 1 => self.attach(script),
            2 => self.depart(script),
            3 => self.time(script),
            4 => self.datagram(script, false),
            5 => self.datagram(script, true),
            6 => self.send_indication(script),
            _ => self.channel_data(script),
        }
        while self.switch.poll().is_some() {}
        assert_eq!(self.switch.allocations(), self.model.len(), "the table has another size than the model");
        for (client, owner) in &self.model {
            assert_eq!(self.switch.owner(source(*client)), Some(*owner), "an address belongs to somebody else");
        }
    }

    fn attach(&mut self, script: &mut Script<'_>) {
        let (call, Some(leg)) = (call(script), leg(script)) else {
            return;
        };
        let mut record = Attachment::empty(RelayId(1));
        for _ in 0..script.byte() % 4 {
            let Ok(a) = AllocationId::new(1 + script.byte() % ALLOCATIONS) else {
                continue;
            };
            let client = ClientAddr::new(client(script));
            let channels = (0..script.byte() % 4).filter_map(|_| binding(script)).collect();
            record.allocations.push(Allocation { a, transport: Transport::Udp, client, channels });
        }
        // The record is the truth about the leg: what it does not name is gone, and on an address the last one wins.
        self.model.retain(|_, owner| {
            owner.call != call || owner.leg != leg || record.allocations.iter().any(|a| a.a == owner.allocation)
        });
        for allocation in &record.allocations {
            let owner = Owner { call, leg, allocation: allocation.a };
            self.model.retain(|_, other| *other != owner);
            self.model.insert(allocation.client.socket_addr(), owner);
        }
        let full =
            self.switch.handle(self.now, Input::Attach { call, leg, attachment: &record, newness: Newness::Now });
        assert_eq!(full, Ok(()), "twelve addresses do not fill a table");
    }

    fn depart(&mut self, script: &mut Script<'_>) {
        let (call, Some(leg)) = (call(script), leg(script)) else {
            return;
        };
        let (input, whole) = match script.byte() % 2 {
            0 => (Input::Detach { call, leg }, false),
            _ => (Input::Forget { call }, true),
        };
        self.model.retain(|_, owner| owner.call != call || !(whole || owner.leg == leg));
        assert_eq!(self.switch.handle(self.now, input), Ok(()));
    }

    fn time(&mut self, script: &mut Script<'_>) {
        self.now.mono = self.now.mono.after(Span::from_secs(u64::from(script.word())));
        let (source, lifetime) = (source(client(script)), Span::from_secs(u64::from(script.word())));
        let refreshed = self.switch.handle(self.now, Input::Refresh { source, lifetime });
        assert_eq!(refreshed.is_ok(), self.model.contains_key(&source.client.socket_addr()));
        self.switch.expire(self.now);
        let next: Option<Mono> = self.switch.next_deadline();
        assert!(next.is_none_or(|next| next > self.now.mono), "what is due stays due: its timer would never rest");
    }

    /// Any bytes at all; if `media`, under the head of a ChannelData message.
    fn datagram(&mut self, script: &mut Script<'_>, media: bool) {
        let from = client(script);
        let len = usize::from(script.byte());
        let bytes = script.bytes(len);
        let head: &[u8] = if media { &[0x40, 0] } else { &[] };
        self.forward(from, &[head, bytes].concat());
    }

    fn channel_data(&mut self, script: &mut Script<'_>) {
        let from = client(script);
        let number = channel(script);
        let padding = script.pick(&[][..], &[&[0xee], &[0xee; 2], &[0xee; 3]]);
        let len = script.byte();
        let payload = script.bytes(usize::from(len));
        let length = (payload.len() as u16).to_be_bytes();
        self.forward(from, &[&number.to_be_bytes()[..], &length, payload, padding].concat());
    }

    fn send_indication(&mut self, script: &mut Script<'_>) {
        let from = client(script);
        let peer = match script.byte() % 8 {
            0 => SocketAddr::from((script.array::<4>(), script.word())),
            _ => peer(script).socket_addr().into(),
        };
        let len = script.byte();
        let payload = script.bytes(usize::from(len));
        let mut buffer = [0; 512];
        let written = Writer::new(&mut buffer, Class::Indication, Method::Send, script.array())
            .address(attr::XOR_PEER_ADDRESS, peer)
            .attribute(attr::DATA, payload)
            .finish();
        if let Some(datagram) = written.ok().and_then(|len| buffer.get(..len)) {
            self.forward(from, datagram);
        }
    }

    /// Puts a datagram in, and looks at what comes out.
    fn forward(&mut self, from: SocketAddr, datagram: &[u8]) {
        let mut buffer = [&[0xaa; HEADROOM][..], datagram, &[0xaa; TAILROOM]].concat();
        let mut slot = Slot { buffer: &mut buffer, start: HEADROOM, len: datagram.len() };
        let verdict = self.switch.datagram(self.now, source(from), &mut slot);
        let sender = self.model.get(&from);
        match verdict {
            Verdict::Forward(to) => {
                let to = self.model.get(&Egress::from(to).client().socket_addr());
                let (Some(sender), Some(to)) = (sender, to) else { unattached() };
                assert_eq!(sender.call, to.call, "a packet leaves its call");
                let sent = slot.datagram();
                let payload = received_payload(sent, VirtualAddr::of(sender.leg, sender.allocation));
                assert!(
                    payload.is_empty() || datagram.windows(payload.len()).any(|window| window == payload),
                    "what arrives is not what was sent",
                );
                assert!(sent.len() <= datagram.len() + DATA_HEADER_LEN - CHANNEL_HEADER_LEN + TAILROOM);
            }
            Verdict::UnknownSource => assert!(sender.is_none(), "an attached address is called unknown"),
            Verdict::UnknownChannel(owner) => assert_eq!(sender, Some(&owner)),
            Verdict::Request | Verdict::Drop => assert_eq!(slot.datagram(), datagram, "dropped, but changed"),
        }
    }
}

#[allow(clippy::panic, reason = "this is how a target says that something does not hold")]
fn unattached() -> ! {
    panic!("a packet to or from an address that nobody is attached at")
}

/// What the receiver reads out of a datagram that it got: a channel's payload, or a Data indication's from `sender`.
fn received_payload(sent: &[u8], sender: VirtualAddr) -> &[u8] {
    if sent.first().is_some_and(|first| (64..=127).contains(first)) {
        let payload = channel_data(sent).and_then(|(_, len)| sent.get(CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + len));
        assert!(
            payload.is_some_and(|payload| payload.len() + CHANNEL_HEADER_LEN == sent.len()),
            "ChannelData with a tail"
        );
        return payload.unwrap_or_default();
    }
    let message = Message::parse(sent);
    let said = message.map(|message| (message.class, message.method, message.attributes.peer));
    assert_eq!(said, Ok((Class::Indication, Method::Data, Some(sender.socket_addr().into()))));
    let data = message.ok().and_then(|message| message.attributes.data);
    let payload = data.and_then(|(at, len)| sent.get(at..at + len));
    assert!(payload.is_some(), "a Data indication without DATA");
    payload.unwrap_or_default()
}

fn source(client: SocketAddr) -> Source {
    Source { client: ClientAddr::new(client), transport: Transport::Udp }
}

fn call(script: &mut Script<'_>) -> CallId {
    CallId::from_bits(u128::from(script.byte() % CALLS))
}

fn leg(script: &mut Script<'_>) -> Option<LegId> {
    LegId::new(u16::from(1 + script.byte() % LEGS)).ok()
}

fn client(script: &mut Script<'_>) -> SocketAddr {
    match script.byte() % CLIENTS {
        v6 @ 0..4 => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(v6)], 4_000)),
        v4 => SocketAddr::from(([192, 0, 2, v4], 4_000)),
    }
}

fn peer(script: &mut Script<'_>) -> VirtualAddr {
    VirtualAddr { octet: 1 + script.byte() % (ALLOCATIONS + 1), port: 1_025 + u16::from(script.byte() % LEGS) }
}

fn channel(script: &mut Script<'_>) -> u16 {
    0x4000 + u16::from(script.byte()) % CHANNELS
}

fn binding(script: &mut Script<'_>) -> Option<ChannelBinding> {
    Some(ChannelBinding { channel: ChannelNumber::new(channel(script)).ok()?, peer: peer(script) })
}

#[cfg(test)]
mod tests {
    use tandem_core::switch::Counter;

    use super::*;

    #[test]
    fn the_seeds_reach_all_four_conversions() {
        let mut reached = [0; 4];
        for seed in ["two-legs-on-channels", "channel-to-indication", "indication-to-indication"] {
            let file = format!("{}/corpus/switch/{seed}", env!("CARGO_MANIFEST_DIR"));
            let mut world = World::default();
            world.play(&std::fs::read(file).unwrap());
            let conversions = [
                Counter::ChannelToChannel,
                Counter::ChannelToIndication,
                Counter::IndicationToChannel,
                Counter::IndicationToIndication,
            ];
            for (sum, counter) in reached.iter_mut().zip(conversions) {
                *sum += world.switch.counters.get(counter);
            }
        }
        assert_eq!(reached, [2, 1, 1, 1]);
    }
}
