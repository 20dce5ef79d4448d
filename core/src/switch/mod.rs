//! The forwarding table of a relay: legs, their allocations, virtual addresses and channels.
//!
//! Decides where a packet goes and in which form. Leaves to others who may be in the table (`topology`, through its
//! attachments), which calls are held (`residency`), and every request that wants an answer (`turn`).
//!
//! A packet leaves only for an [`Attached`] address. The type cannot be made outside this module, and this module makes
//! it only from an attachment: there is no way to say "send this to 10.0.0.5".

mod counters;
mod egress;
mod forward;
mod rate;
mod table;

use core::hash::{Hash, Hasher};
use std::collections::{BTreeSet, VecDeque};

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashMap;
use tandem_wire::id::{AllocationId, CallId, LegId, Revision, VirtualAddr};
use tandem_wire::redact::ClientAddr;
use tandem_wire::units::{Mono, Now, Span};

use crate::limits;
use crate::topology::{Attachment, Transport};

pub use counters::{Counter, Counters};
pub use egress::{Attached, Egress, Listener};
pub use forward::{Slot, Verdict};
use rate::Rate;
use table::{Slab, SlabIndex};

/// Where a datagram came from: the address and the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The client's address as the relay, or the load balancer in front of it, saw it.
    pub client: ClientAddr,
    /// The way in.
    pub transport: Transport,
}

impl Hash for Source {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [address @ .., p0, p1] = self.client.key();
        state.write_u128(u128::from_ne_bytes(address));
        let transport: u32 = match self.transport {
            Transport::Udp => 0,
        };
        state.write_u32((transport << 16) | u32::from(u16::from_be_bytes([p0, p1])));
    }
}

/// What an allocation is, for those who ask the switch about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The call it belongs to.
    pub call: CallId,
    /// The leg it belongs to.
    pub leg: LegId,
    /// Its number.
    pub allocation: AllocationId,
}

/// How new an attachment is, to tell which of two on the same address is the older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Newness {
    /// As the store has it, since this revision.
    Stored(Revision),
    /// Attached just now, or changed and not stored yet: newer than whatever is stored.
    Now,
}

/// What can be told to the switch.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// From now on this leg is attached like this; what it was attached like before is forgotten.
    Attach {
        /// The call.
        call: CallId,
        /// The leg.
        leg: LegId,
        /// Its record.
        attachment: &'a Attachment,
        /// How new the record is. Of two that name the same address the newer one has it.
        newness: Newness,
    },
    /// The leg is gone from the call, or attached elsewhere.
    Detach {
        /// The call.
        call: CallId,
        /// The leg.
        leg: LegId,
    },
    /// The call is gone.
    Forget {
        /// The call.
        call: CallId,
    },
    /// The allocation on this address lives this long from now on.
    Refresh {
        /// Its address.
        source: Source,
        /// How long.
        lifetime: Span,
    },
    /// The client of the allocation on this address has proved itself to this listener; `None`: to one that we do not know.
    SpokeTo {
        /// Its address.
        source: Source,
        /// The listener.
        listener: Option<Listener>,
    },
}

/// What the switch has to say. Both mean: detach this allocation in its record too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Another allocation is attached on the same address: this one, the older, is not in the table.
    Evicted {
        /// Whose it was.
        owner: Owner,
        /// The address that both had.
        source: Source,
    },
    /// Its lifetime is over. It is still in the table until its record says otherwise.
    Expired {
        /// Whose it is.
        owner: Owner,
        /// Its address.
        source: Source,
    },
}

/// Why the switch refuses an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The table is full ([`limits::ALLOCATIONS_PER_RELAY`]). Try another relay.
    #[error("the relay has all the allocations that it can hold")]
    Full,
    /// There is no allocation on this address.
    #[error("no allocation on this address")]
    Unknown,
}

/// A channel as the forwarding path needs it.
#[derive(Debug, Clone, Copy)]
struct Channel {
    number: u16,
    peer: VirtualAddr,
}

/// One allocation in the table.
#[derive(Debug)]
struct Entry {
    source: Source,
    call: SlabIndex,
    owner: Owner,
    newness: Newness,
    expires: Mono,
    /// Which listener its client spoke to last, if this relay has heard it.
    listener: Option<Listener>,
    /// Sorted by number.
    channels: Box<[Channel]>,
}

impl Entry {
    fn address(&self) -> VirtualAddr {
        VirtualAddr::of(self.owner.leg, self.owner.allocation)
    }
}

/// One call in the table: who can be reached in it.
#[derive(Debug)]
struct Members {
    /// Sorted by address.
    entries: Vec<(VirtualAddr, SlabIndex)>,
    rate: Rate,
}

type Table<K> = HashMap<K, SlabIndex, SeedableRandomState>;

/// The forwarding table.
///
/// Drive it so: [`Switch::handle`] what changes, [`Switch::datagram`] what arrives, then [`Switch::poll`] until `None`.
/// Call [`Switch::expire`] when [`Switch::next_deadline`] has come.
#[derive(Debug)]
pub struct Switch {
    flows: Table<Source>,
    entries: Slab<Entry>,
    calls: Table<CallId>,
    members: Slab<Members>,
    expiries: BTreeSet<(Mono, SlabIndex)>,
    outputs: VecDeque<Output>,
    /// Transaction numbers of Data indications: nobody answers them, they only have to differ.
    indications: u64,
    /// What was counted so far.
    pub counters: Counters,
}

impl Switch {
    /// An empty switch; `seed` keys its hash tables and should be random, so that nobody can aim at one of their slots.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self {
            flows: HashMap::with_hasher(state.clone()),
            entries: Slab::new(),
            calls: HashMap::with_hasher(state),
            members: Slab::new(),
            expiries: BTreeSet::new(),
            outputs: VecDeque::new(),
            indications: seed,
            counters: Counters::default(),
        }
    }

    /// How many allocations are in the table.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.flows.len()
    }

    /// Whose the allocation on this address is.
    #[must_use]
    pub fn owner(&self, source: Source) -> Option<Owner> {
        Some(self.entries.get(*self.flows.get(&source)?)?.owner)
    }

    /// Changes the table.
    ///
    /// # Errors
    /// [`Refusal::Full`] when an allocation has no room (the others of the leg are in); [`Refusal::Unknown`] when there
    /// is nothing to refresh.
    pub fn handle(&mut self, now: Now, input: Input<'_>) -> Result<(), Refusal> {
        match input {
            Input::Attach { call, leg, attachment, newness } => self.attach(now, call, leg, attachment, newness),
            Input::Detach { call, leg } => {
                self.remove_where(call, |owner| owner.leg == leg);
                Ok(())
            }
            Input::Forget { call } => {
                self.remove_where(call, |_| true);
                Ok(())
            }
            Input::Refresh { source, lifetime } => {
                let index = *self.flows.get(&source).ok_or(Refusal::Unknown)?;
                self.set_expiry(index, now.mono.after(lifetime));
                Ok(())
            }
            Input::SpokeTo { source, listener } => {
                let index = *self.flows.get(&source).ok_or(Refusal::Unknown)?;
                self.spoke_to(index, listener);
                Ok(())
            }
        }
    }

    fn attach(
        &mut self,
        now: Now,
        call: CallId,
        leg: LegId,
        attachment: &Attachment,
        newness: Newness,
    ) -> Result<(), Refusal> {
        self.remove_where(call, |owner| {
            owner.leg == leg && attachment.allocations.iter().all(|a| a.a != owner.allocation)
        });
        let mut result = Ok(());
        for allocation in &attachment.allocations {
            let source = Source { client: allocation.client, transport: allocation.transport };
            let owner = Owner { call, leg, allocation: allocation.a };
            let mut channels: Box<[Channel]> = allocation
                .channels
                .iter()
                .map(|binding| Channel { number: binding.channel.get(), peer: binding.peer })
                .collect();
            channels.sort_unstable_by_key(|channel| channel.number);
            let held = self.flows.get(&source).copied();
            match held.and_then(|index| self.entries.get_mut(index)) {
                Some(entry) if entry.owner == owner => {
                    entry.channels = channels;
                    entry.newness = newness;
                }
                // Both records name this address, and the other one is newer: a relay died between giving the address
                // away and writing that down.
                Some(entry) if entry.newness > newness => self.outputs.push_back(Output::Evicted { owner, source }),
                other => {
                    let older = other.map(|entry| entry.owner);
                    if let Some(older) = older {
                        self.remove_where(older.call, |owner| owner == older);
                        self.outputs.push_back(Output::Evicted { owner: older, source });
                    }
                    if self.flows.len() >= limits::ALLOCATIONS_PER_RELAY {
                        self.counters.add(Counter::TableFull, 1);
                        result = Err(Refusal::Full);
                        continue;
                    }
                    // The same allocation on another address: its old one is no longer good.
                    self.remove_where(call, |other| other == owner);
                    self.insert(now, source, owner, channels, newness);
                }
            }
        }
        result
    }

    fn insert(&mut self, now: Now, source: Source, owner: Owner, channels: Box<[Channel]>, newness: Newness) {
        let members = &mut self.members;
        let call = *self
            .calls
            .entry(owner.call)
            .or_insert_with(|| members.insert(Members { entries: Vec::new(), rate: Rate::default() }));
        let entry = Entry { source, call, owner, newness, expires: Mono::default(), listener: None, channels };
        let address = entry.address();
        let index = self.entries.insert(entry);
        self.flows.insert(source, index);
        if let Some(members) = self.members.get_mut(call) {
            let at = members.entries.partition_point(|(other, _)| *other < address);
            // Two legs are the rule: grow by one, not to the four that a vector starts with.
            members.entries.reserve_exact(1);
            members.entries.insert(at, (address, index));
        }
        self.set_expiry(index, now.mono.after(limits::LIFETIME_MAX));
    }

    fn set_expiry(&mut self, index: SlabIndex, expires: Mono) {
        if let Some(entry) = self.entries.get_mut(index) {
            self.expiries.remove(&(entry.expires, index));
            entry.expires = expires;
            self.expiries.insert((expires, index));
        }
    }

    /// Takes the allocations of a call that `gone` names out of the table, and the call with the last of them.
    fn remove_where(&mut self, call: CallId, gone: impl Fn(Owner) -> bool) {
        let Some(&call_index) = self.calls.get(&call) else { return };
        let Some(members) = self.members.get_mut(call_index) else { return };
        let (entries, flows, expiries) = (&mut self.entries, &mut self.flows, &mut self.expiries);
        members.entries.retain(|(_, index)| {
            if !entries.get(*index).is_some_and(|entry| gone(entry.owner)) {
                return true;
            }
            if let Some(entry) = entries.remove(*index) {
                flows.remove(&entry.source);
                expiries.remove(&(entry.expires, *index));
            }
            false
        });
        if members.entries.is_empty() {
            self.members.remove(call_index);
            self.calls.remove(&call);
        }
    }

    /// Gives out what there is to say, oldest first.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the next allocation's lifetime is over.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Says which allocations' lifetimes are over at `now`. Each is said once; it stays in the table until it is
    /// detached.
    pub fn expire(&mut self, now: Now) {
        while let Some((at, index)) = self.expiries.first().copied() {
            if at > now.mono {
                return;
            }
            self.expiries.pop_first();
            if let Some(entry) = self.entries.get(index) {
                self.outputs.push_back(Output::Expired { owner: entry.owner, source: entry.source });
            }
        }
    }
}

#[cfg(test)]
mod tests;
