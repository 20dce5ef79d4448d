//! The attachment record: where a leg can be reached. Its allocations, each with a client address and its channels.
//!
//! Decides what attaching, binding a channel and detaching do to it. Leaves permissions out: whether a packet passes is
//! decided per packet by who is in the call (protocol.md, "CreatePermission and ChannelBind … are notes"). Lifetimes are
//! not stored either: they are the relay's own, and start anew after a restore.
//!
//! An allocation is written as `[1,"u198.51.100.7:4242","<7 characters a channel>"]`: at most 64 B without its channels,
//! so that a leg with all of its allocations stays under 2 KiB.

use core::fmt;
use core::net::SocketAddr;

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tandem_wire::id::{AllocationId, LegId, RelayId, VirtualAddr};
use tandem_wire::redact::ClientAddr;

use super::{Call, RECORD_VERSION, RecordError, Refusal, Unknown, read};
use crate::limits;

/// A TURN channel number. 0x4000..=0x7FFF: RFC 8656 gives out 0x4000..=0x4FFF, RFC 5766 clients use them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// Takes the number if it is one.
    ///
    /// # Errors
    /// [`Refusal::ChannelRange`] outside 0x4000..=0x7FFF.
    pub const fn new(number: u16) -> Result<Self, Refusal> {
        if number >= 0x4000 && number <= 0x7FFF { Ok(Self(number)) } else { Err(Refusal::ChannelRange) }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A channel and the peer that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelBinding {
    /// The number that the client chose.
    pub channel: ChannelNumber,
    /// The address inside the virtual prefix that it bound it to.
    pub peer: VirtualAddr,
}

/// The way in that an allocation came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TURN over UDP.
    Udp,
}

impl Transport {
    const fn letter(self) -> char {
        match self {
            Self::Udp => 'u',
        }
    }

    const fn from_letter(letter: char) -> Option<Self> {
        match letter {
            'u' => Some(Self::Udp),
            _ => None,
        }
    }
}

/// One allocation of a leg.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// Its number, the last octet of its virtual address.
    pub a: AllocationId,
    /// The way in.
    pub transport: Transport,
    /// Where the client is.
    pub client: ClientAddr,
    /// The channels that the client has bound, in no order.
    pub channels: Vec<ChannelBinding>,
}

/// The stored record of where one leg is attached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// Version of the record.
    pub v: u32,
    /// The relay that wrote it last.
    pub relay: RelayId,
    /// The allocation number given last, so that a number is not used again soon.
    #[serde(rename = "last")]
    pub last_allocation: u8,
    /// The live allocations.
    #[serde(rename = "al")]
    pub allocations: Vec<Allocation>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What can be asked of an attachment record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentCommand {
    /// Gives the leg an allocation on this client address, or keeps the one that it has there.
    Attach {
        /// The way in.
        transport: Transport,
        /// Where the client is.
        client: ClientAddr,
    },
    /// Binds a channel of the allocation on this client address. Binding it again as it is changes nothing.
    BindChannel {
        /// The way in.
        transport: Transport,
        /// Where the client is.
        client: ClientAddr,
        /// The channel and its peer.
        binding: ChannelBinding,
    },
    /// Ends the allocation on this client address.
    Detach {
        /// The way in.
        transport: Transport,
        /// Where the client is.
        client: ClientAddr,
    },
}

impl AttachmentCommand {
    /// The address that it is about.
    #[must_use]
    pub const fn address(&self) -> (Transport, ClientAddr) {
        match *self {
            Self::Attach { transport, client }
            | Self::BindChannel { transport, client, .. }
            | Self::Detach { transport, client } => (transport, client),
        }
    }
}

impl Attachment {
    /// A leg that is attached nowhere.
    #[must_use]
    pub const fn empty(relay: RelayId) -> Self {
        Self { v: RECORD_VERSION, relay, last_allocation: 0, allocations: Vec::new(), unknown: Unknown::new() }
    }

    /// Applies `command` of relay `by` to this record of `leg` in `call`; `None` when it changes nothing.
    ///
    /// # Errors
    /// The [`Refusal`] that names why the record stays as it is. Detaching is never refused for the state of the call.
    pub fn apply(
        &self,
        call: &Call,
        leg: LegId,
        by: RelayId,
        command: AttachmentCommand,
    ) -> Result<Option<Self>, Refusal> {
        match command {
            AttachmentCommand::Attach { transport, client } => {
                call.admits(leg)?;
                if self.find(transport, client).is_some() {
                    return Ok(None);
                }
                if self.allocations.len() >= limits::ALLOCATIONS_PER_LEG {
                    return Err(Refusal::AllocationQuota);
                }
                let a = self.next_allocation().ok_or(Refusal::AllocationQuota)?;
                let mut next = Self { relay: by, last_allocation: a.get(), ..self.clone() };
                // One is the rule: grow by one, not to the four that a vector starts with.
                next.allocations.reserve_exact(1);
                next.allocations.push(Allocation { a, transport, client, channels: Vec::new() });
                Ok(Some(next))
            }
            AttachmentCommand::BindChannel { transport, client, binding } => {
                call.admits(leg)?;
                let allocation = self.find(transport, client).ok_or(Refusal::UnknownAllocation)?;
                if allocation.channels.contains(&binding) {
                    return Ok(None);
                }
                if allocation.channels.iter().any(|c| c.channel == binding.channel || c.peer == binding.peer) {
                    return Err(Refusal::ChannelConflict);
                }
                if allocation.channels.len() >= limits::CHANNELS_PER_ALLOCATION {
                    return Err(Refusal::ChannelQuota);
                }
                let a = allocation.a;
                let mut next = Self { relay: by, ..self.clone() };
                if let Some(allocation) = next.allocations.iter_mut().find(|other| other.a == a) {
                    allocation.channels.reserve_exact(1);
                    allocation.channels.push(binding);
                }
                Ok(Some(next))
            }
            AttachmentCommand::Detach { transport, client } => {
                let a = self.find(transport, client).ok_or(Refusal::UnknownAllocation)?.a;
                let mut next = Self { relay: by, ..self.clone() };
                next.allocations.retain(|other| other.a != a);
                Ok(Some(next))
            }
        }
    }

    /// The allocation on this client address.
    #[must_use]
    pub fn find(&self, transport: Transport, client: ClientAddr) -> Option<&Allocation> {
        self.allocations.iter().find(|a| a.transport == transport && a.client == client)
    }

    /// The next free number after the one given last, going round: a number rests as long as it can before it is used
    /// again, so that what is still under way to an old allocation does not reach a new one.
    fn next_allocation(&self) -> Option<AllocationId> {
        let start = u16::from(self.last_allocation);
        (0..u16::from(AllocationId::MAX))
            .map(|step| (start + step) % u16::from(AllocationId::MAX) + 1)
            .filter_map(|octet| AllocationId::new(u8::try_from(octet).ok()?).ok())
            .find(|a| self.allocations.iter().all(|other| other.a != *a))
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`RecordError::Newer`] for a version that this process does not know, [`RecordError::Malformed`] for the rest.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes, |record: &Self| record.v)
    }

    /// Writes the record down.
    ///
    /// # Errors
    /// [`RecordError::Malformed`], if an unknown field cannot be written back.
    pub fn to_json(&self) -> Result<Vec<u8>, RecordError> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// Base64url digits (RFC 4648 section 5).
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// 14 bits channel, 8 bits octet, 16 bits port = 38 bits: seven digits of six.
const CHANNEL_DIGITS: usize = 7;

fn push_channel(text: &mut String, binding: ChannelBinding) {
    let bits = (u64::from(binding.channel.get() - 0x4000) << 24)
        | (u64::from(binding.peer.octet) << 16)
        | u64::from(binding.peer.port);
    for group in (0..CHANNEL_DIGITS).rev() {
        let index = ((bits >> (group * 6)) & 63) as usize;
        text.push(char::from(DIGITS.get(index).copied().unwrap_or(b'A')));
    }
}

fn read_channel(digits: &[u8]) -> Option<ChannelBinding> {
    let mut bits = 0_u64;
    for digit in digits {
        bits = (bits << 6) | DIGITS.iter().position(|d| d == digit)? as u64;
    }
    let number = u16::try_from(bits >> 24).ok().filter(|n| *n < 0x4000)?;
    let channel = ChannelNumber::new(0x4000 + number).ok()?;
    let [_, _, _, _, _, octet, high, low] = bits.to_be_bytes();
    Some(ChannelBinding { channel, peer: VirtualAddr { octet, port: u16::from_be_bytes([high, low]) } })
}

impl Serialize for Allocation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut channels = String::with_capacity(self.channels.len() * CHANNEL_DIGITS);
        for binding in &self.channels {
            push_channel(&mut channels, *binding);
        }
        let mut parts = serializer.serialize_seq(Some(3))?;
        parts.serialize_element(&self.a)?;
        parts.serialize_element(&format!("{}{}", self.transport.letter(), self.client.socket_addr()))?;
        parts.serialize_element(&channels)?;
        parts.end()
    }
}

impl<'de> Deserialize<'de> for Allocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AllocationVisitor)
    }
}

struct AllocationVisitor;

impl<'de> Visitor<'de> for AllocationVisitor {
    type Value = Allocation;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[allocation, \"transport and address\", \"channels\"]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Allocation, A::Error> {
        let missing = || de::Error::custom("an allocation has three parts");
        let a = parts.next_element()?.ok_or_else(missing)?;
        let client: String = parts.next_element()?.ok_or_else(missing)?;
        let channels: String = parts.next_element()?.ok_or_else(missing)?;
        // The address itself stays out of the message: an error may be logged.
        let mut letters = client.chars();
        let transport = letters
            .next()
            .and_then(Transport::from_letter)
            .ok_or_else(|| de::Error::custom("an allocation has a transport that this version does not know"))?;
        let address: SocketAddr =
            letters.as_str().parse().map_err(|_| de::Error::custom("an allocation has an address that is none"))?;
        let digits = channels.as_bytes();
        let bindings: Option<Vec<_>> = digits.chunks(CHANNEL_DIGITS).map(read_channel).collect();
        match bindings {
            Some(channels) if digits.len().is_multiple_of(CHANNEL_DIGITS) => {
                Ok(Allocation { a, transport, client: ClientAddr::new(address), channels })
            }
            _ => Err(de::Error::custom("an allocation has channels that are none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{CallCommand, CallKind, EndReason};
    use proptest::prelude::*;
    use tandem_wire::id::CallId;
    use tandem_wire::units::Now;

    const RELAY: RelayId = RelayId(3);

    fn call() -> Call {
        let create = CallCommand::Create { id: CallId::from_bits(9), kind: CallKind::OneToOne, legs: 2 };
        Call::apply(None, create, Now::default()).unwrap()
    }

    fn leg(n: u16) -> LegId {
        LegId::new(n).unwrap()
    }

    fn client(port: u16) -> ClientAddr {
        ClientAddr::new(SocketAddr::from(([198, 51, 100, 7], port)))
    }

    fn attach(port: u16) -> AttachmentCommand {
        AttachmentCommand::Attach { transport: Transport::Udp, client: client(port) }
    }

    fn bind(port: u16, channel: u16, octet: u8, peer_port: u16) -> AttachmentCommand {
        AttachmentCommand::BindChannel {
            transport: Transport::Udp,
            client: client(port),
            binding: ChannelBinding {
                channel: ChannelNumber::new(channel).unwrap(),
                peer: VirtualAddr { octet, port: peer_port },
            },
        }
    }

    fn apply(record: &Attachment, command: AttachmentCommand) -> Result<Option<Attachment>, Refusal> {
        record.apply(&call(), leg(1), RELAY, command)
    }

    #[test]
    fn the_same_client_address_gets_the_same_allocation() {
        let one = apply(&Attachment::empty(RELAY), attach(1)).unwrap().unwrap();
        assert_eq!(apply(&one, attach(1)), Ok(None));
        let two = apply(&one, attach(2)).unwrap().unwrap();
        assert_eq!(two.allocations.iter().map(|a| a.a.get()).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_leg_gets_24_allocations_and_no_more() {
        let mut record = Attachment::empty(RELAY);
        for port in 0..24 {
            record = apply(&record, attach(port)).unwrap().unwrap();
        }
        assert_eq!(apply(&record, attach(99)), Err(Refusal::AllocationQuota));
        let detach = AttachmentCommand::Detach { transport: Transport::Udp, client: client(5) };
        let freed = apply(&record, detach).unwrap().unwrap();
        assert!(apply(&freed, attach(99)).unwrap().is_some());
    }

    #[test]
    fn a_number_rests_until_all_others_had_their_turn() {
        let mut record = apply(&Attachment::empty(RELAY), attach(1)).unwrap().unwrap();
        let mut seen = Vec::new();
        for port in 2..=260 {
            record = apply(&record, attach(port)).unwrap().unwrap();
            seen.push(record.last_allocation);
            let detach = AttachmentCommand::Detach { transport: Transport::Udp, client: client(port) };
            record = apply(&record, detach).unwrap().unwrap();
        }
        assert_eq!(seen[..249], (2..=250).collect::<Vec<u8>>());
        assert_eq!(seen[249], 2, "1 is still in use");
    }

    #[test]
    fn a_channel_keeps_its_peer_and_a_peer_its_channel() {
        let record = apply(&Attachment::empty(RELAY), attach(1)).unwrap().unwrap();
        let bound = apply(&record, bind(1, 0x4000, 1, 1026)).unwrap().unwrap();
        assert_eq!(apply(&bound, bind(1, 0x4000, 1, 1026)), Ok(None));
        assert_eq!(apply(&bound, bind(1, 0x4000, 2, 1026)), Err(Refusal::ChannelConflict));
        assert_eq!(apply(&bound, bind(1, 0x4001, 1, 1026)), Err(Refusal::ChannelConflict));
        assert_eq!(apply(&bound, bind(2, 0x4001, 1, 1026)), Err(Refusal::UnknownAllocation));
        assert!(apply(&bound, bind(1, 0x7fff, 2, 1026)).unwrap().is_some());
    }

    #[test]
    fn an_allocation_gets_256_channels_and_no_more() {
        let mut record = apply(&Attachment::empty(RELAY), attach(1)).unwrap().unwrap();
        for n in 0..256_u16 {
            record = apply(&record, bind(1, 0x4000 + n, 1, 2000 + n)).unwrap().unwrap();
        }
        assert_eq!(apply(&record, bind(1, 0x7000, 1, 9000)), Err(Refusal::ChannelQuota));
    }

    #[test]
    fn only_numbers_from_4000_to_7fff_are_channels() {
        for number in [0, 0x3fff, 0x8000, 0xffff] {
            assert_eq!(ChannelNumber::new(number), Err(Refusal::ChannelRange), "{number:#x}");
        }
    }

    #[test]
    fn nobody_attaches_to_an_ended_call_but_anyone_may_detach() {
        let record = apply(&Attachment::empty(RELAY), attach(1)).unwrap().unwrap();
        let end = CallCommand::End { reason: EndReason::Hangup };
        let ended = Call::apply(Some(&call()), end, Now::default()).unwrap();
        assert_eq!(record.apply(&ended, leg(1), RELAY, attach(2)), Err(Refusal::CallEnded));
        assert_eq!(record.apply(&ended, leg(1), RELAY, bind(1, 0x4000, 1, 1026)), Err(Refusal::CallEnded));
        let detach = AttachmentCommand::Detach { transport: Transport::Udp, client: client(1) };
        assert!(record.apply(&ended, leg(1), RELAY, detach).unwrap().unwrap().allocations.is_empty());
    }

    #[test]
    fn an_attachment_has_this_golden_text() {
        let record = apply(&Attachment::empty(RELAY), attach(4242)).unwrap().unwrap();
        let record = apply(&record, bind(4242, 0x4001, 2, 1026)).unwrap().unwrap();
        let json = String::from_utf8(record.to_json().unwrap()).unwrap();
        assert_eq!(json, r#"{"v":1,"relay":3,"last":1,"al":[[1,"u198.51.100.7:4242","AABAgQC"]]}"#);
        assert_eq!(Attachment::from_json(json.as_bytes()).unwrap(), record);
    }

    #[test]
    fn an_error_of_a_record_does_not_name_the_address_in_it() {
        let text = r#"{"v":1,"relay":3,"last":1,"al":[[1,"u198.51.100.7:port",""]]}"#;
        let error = Attachment::from_json(text.as_bytes()).unwrap_err();
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains("198.51"), "{printed}");
    }

    #[test]
    fn records_that_are_none_are_refused() {
        for al in [
            r#"[0,"u1.2.3.4:5",""]"#,
            r#"[251,"u1.2.3.4:5",""]"#,
            r#"[1,"q1.2.3.4:5",""]"#,
            r#"[1,"",""]"#,
            r#"[1,"u1.2.3.4:5","AAAAAA"]"#,
            r#"[1,"u1.2.3.4:5","_______"]"#,
            r#"[1,"u1.2.3.4:5"]"#,
        ] {
            let text = format!(r#"{{"v":1,"relay":3,"last":1,"al":[{al}]}}"#);
            assert!(matches!(Attachment::from_json(text.as_bytes()), Err(RecordError::Malformed(_))), "{al}");
        }
    }

    #[test]
    fn an_attachment_stays_under_128_b_and_64_b_an_allocation_and_8_b_a_channel() {
        let longest = SocketAddr::from(([0x2001, 0xdb8, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff], 65_535));
        let channels: Vec<_> = (0..256)
            .map(|n| ChannelBinding {
                channel: ChannelNumber::new(0x7fff - n).unwrap(),
                peer: VirtualAddr { octet: 250, port: 65_024 - n },
            })
            .collect();
        for (allocations, bound) in [(0, 0), (1, 0), (24, 0), (1, 256), (24, 256)] {
            let record = Attachment {
                relay: RelayId(u16::MAX),
                last_allocation: 250,
                allocations: (0..allocations)
                    .map(|n| Allocation {
                        a: AllocationId::new(250 - n).unwrap(),
                        transport: Transport::Udp,
                        client: ClientAddr::new(longest),
                        channels: channels[..bound].to_vec(),
                    })
                    .collect(),
                ..Attachment::empty(RELAY)
            };
            let size = record.to_json().unwrap().len();
            let allowed = 128 + usize::from(allocations) * (64 + 8 * bound);
            assert!(size < allowed, "{allocations} allocations of {bound} channels: {size} of {allowed} bytes");
        }
    }

    proptest! {
        #[test]
        fn an_attachment_survives_its_text(
            ports in prop::collection::btree_set(any::<u16>(), 0..24),
            channels in prop::collection::btree_map(0x4000_u16..0x8000, (any::<u8>(), any::<u16>()), 0..20),
            v6: bool,
        ) {
            let ip: core::net::IpAddr = if v6 { "2001:db8::7".parse().unwrap() } else { "198.51.100.7".parse().unwrap() };
            let record = Attachment {
                allocations: ports.iter().zip(1..).map(|(port, a)| Allocation {
                    a: AllocationId::new(a).unwrap(),
                    transport: Transport::Udp,
                    client: ClientAddr::new(SocketAddr::new(ip, *port)),
                    channels: channels.iter().map(|(n, (octet, port))| ChannelBinding {
                        channel: ChannelNumber::new(*n).unwrap(),
                        peer: VirtualAddr { octet: *octet, port: *port },
                    }).collect(),
                }).collect(),
                ..Attachment::empty(RELAY)
            };
            prop_assert_eq!(Attachment::from_json(&record.to_json().unwrap()).unwrap(), record);
        }
    }
}
