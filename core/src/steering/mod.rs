//! Where packets are steered: which relay of the PoP a client's packet goes to, and which client a relay's goes to.
//!
//! Decides by what stands in the packet, by flows that have proved themselves, by the table of buckets and by who is down; it
//! is right with an empty table of flows. Leaves proof of anything to the relays, and sockets, store and clock to the load
//! balancer. docs/fleet.md is the contract.

mod claims;
mod counters;
mod fleet;
mod flows;
mod health;
mod packet;
mod pulse;
pub mod rows;
#[cfg(test)]
mod tests;

use core::net::SocketAddr;

use tandem_wire::id::{BucketId, RelayId};
use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::{HEAD_LEN, Head};
use tandem_wire::units::{Mono, Now};

pub use claims::{Claim, Claims};
pub use counters::{Counters, Dropped};
pub use fleet::Plan;
pub use flows::FlowKey;
pub use health::{Cause, State};
pub use pulse::PROBE_DATAGRAM_LEN;
pub use rows::{BUCKETS, Place, Rows};

use crate::limits;
use crate::topology::{Incarnation, Standing};
use fleet::Fleet;
use flows::Flows;
use packet::Steer;

/// One connected socket to one relay: the shell opens and closes it as [`Output`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(pub u16);

/// What steering is told.
#[derive(Debug)]
pub enum Input {
    /// The table has changed, or was read. One that the store had before ours changes nothing, unless it has gone back to it.
    Plan(Box<Plan>),
    /// The store's index of addresses has changed.
    Claim(Claim),
    /// The network refuses what is sent on a line (ECONNREFUSED).
    Refused(Line),
}

/// What steering wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A line is to lead to this address.
    Connect {
        /// Which line.
        line: Line,
        /// The relay's tunnel address.
        to: SocketAddr,
    },
    /// A line is not needed any more.
    Disconnect {
        /// Which line.
        line: Line,
    },
    /// This is to be sent now.
    Probe {
        /// Which line.
        line: Line,
        /// The datagram.
        bytes: [u8; PROBE_DATAGRAM_LEN],
    },
    /// A relay's state has changed: for the log.
    Turned {
        /// Which relay.
        relay: RelayId,
        /// Its state now.
        state: State,
    },
    /// Relays fell silent through a fault of ours, or are heard again: for the log.
    Frozen {
        /// Whether silence counts for nothing now.
        frozen: bool,
    },
}

/// What becomes of a client's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on this line, with this head before it.
    Forward {
        /// Which line.
        line: Line,
        /// The head.
        head: [u8; HEAD_LEN],
    },
    /// It goes nowhere.
    Drop(Dropped),
}

/// What becomes of what a relay sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// What stands behind the head goes to this client.
    To {
        /// The client.
        flow: FlowKey,
        /// From which of our addresses.
        listener: u8,
    },
    /// It was about the relay itself: an echo, or a goodbye.
    Told,
    /// It goes nowhere.
    Drop(Dropped),
}

/// Where a bucket goes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The epoch of the table that is gone by.
    pub epoch: u32,
    /// Whose it is by the table.
    pub primary: Option<RelayId>,
    /// Who has it when that is down.
    pub secondary: Option<RelayId>,
    /// Who gets its packets now.
    pub now: Option<RelayId>,
    /// Whether that one acts for another.
    pub acting: bool,
    /// Whether silence counts for nothing at present.
    pub frozen: bool,
    /// Everybody.
    pub relays: Vec<Seen>,
}

/// How a relay stands with this load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which relay.
    pub id: RelayId,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// What it is to the table.
    pub standing: Standing,
    /// What it is to us.
    pub state: State,
    /// How much of itself it has in use, in thousandths, as it said last.
    pub load: u16,
}

/// Steers. The shell hands in packets with [`Steering::datagram`] and [`Steering::returned`], and all else with
/// [`Steering::handle`]; after each of these it takes outputs until there are none. When [`Steering::next_deadline`] has come,
/// it first hands in what relays have sent, then calls [`Steering::expire`].
pub struct Steering {
    fleet: Fleet,
    flows: Flows,
    /// The addresses that clients speak to: nobody speaks from there.
    own: Vec<ClientAddr>,
}

impl core::fmt::Debug for Steering {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Steering")
            .field("epoch", &self.fleet.epoch)
            .field("flows", &self.flows.len())
            .finish_non_exhaustive()
    }
}

impl Steering {
    /// Knows nobody yet. `seed` is drawn anew by each process.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_cap(seed, limits::FLOWS)
    }

    /// The same with room for so many flows only: tests and fuzzers reach its edges.
    #[must_use]
    pub fn with_cap(seed: u64, flows: usize) -> Self {
        // Two keys, so that neither use says anything about the other.
        Self { fleet: Fleet::new(!seed), flows: Flows::new(seed, flows), own: Vec::new() }
    }

    /// Clients speak to these addresses, which are numbered in this order.
    pub fn listens_at(&mut self, own: &[SocketAddr]) {
        self.own = own.iter().map(|address| ClientAddr::new(*address)).collect();
    }

    /// Takes something in.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Plan(plan) => {
                if self.fleet.take_over(now.mono, *plan) {
                    for tunnel in self.fleet.tunnels() {
                        self.flows.forget(*tunnel);
                    }
                    self.fleet.thaw(now.mono);
                }
            }
            Input::Claim(Claim::Taken { flow, .. }) if self.is_ours(flow.client) => {}
            Input::Claim(Claim::Taken { flow, bucket }) => self.flows.claim(now.mono, flow, bucket),
            Input::Claim(Claim::Released { flow, bucket }) => self.flows.release(flow, bucket),
            Input::Refused(line) => self.fleet.refused(now.mono, line),
        }
    }

    /// What to do next; `None`: nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.fleet.outputs.pop_front()
    }

    /// When to call [`Steering::expire`]. It can only become later by what relays send.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.fleet.next_deadline()
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Now) {
        if self.fleet.expire(now.mono) {
            self.flows.sweep(now.mono);
        }
    }

    /// Where a client's packet goes, which came to the listener with this number. Allocates nothing.
    #[inline]
    pub fn datagram(&mut self, now: Now, flow: FlowKey, listener: u8, packet: &[u8]) -> Verdict {
        match self.steer(now, flow, listener, packet) {
            Ok((line, head)) => {
                self.fleet.counters.forwarded += 1;
                self.fleet.counters.acting += u64::from(head.acting);
                Verdict::Forward { line, head: head.to_bytes() }
            }
            Err(why) => {
                self.fleet.counters.drop(why);
                Verdict::Drop(why)
            }
        }
    }

    #[inline]
    fn steer(&mut self, now: Now, flow: FlowKey, listener: u8, packet: &[u8]) -> Result<(Line, Head), Dropped> {
        let steer = packet::steer(packet)?;
        // Media comes from sources that are known, and a relay's is never among these.
        let known = match steer {
            Steer::Ticket(bucket) => Some(bucket),
            Steer::Source | Steer::SourceOrAnyone => self.flows.touch(now.mono, flow, listener),
        };
        let (bucket, choice) = match known {
            Some(bucket) => (bucket, self.fleet.choose(bucket)),
            None if steer == Steer::SourceOrAnyone => {
                let [.., high, low] = self.flows.hash(flow).to_be_bytes();
                let bucket = BucketId(u16::from_be_bytes([high, low]));
                (bucket, self.fleet.choose_for_new(bucket))
            }
            None => return Err(Dropped::UnknownSource),
        };
        if steer != Steer::Source && self.is_ours(flow.client) {
            return Err(Dropped::OurOwnSource);
        }
        let choice = choice.ok_or(Dropped::NoTable)?;
        let (line, head) = self.fleet.head(choice, flow.client, bucket, listener).ok_or(Dropped::NoTable)?;
        Ok((line, Head { tcp: flow.tcp, ..head }))
    }

    /// A client's packet that was not even shown to us: with a head it would be too long.
    pub fn too_long(&mut self) {
        self.fleet.counters.drop(Dropped::TooLong);
    }

    /// Whether an address is a relay's or our own: no client speaks from there, and no flow is kept for it.
    fn is_ours(&self, client: ClientAddr) -> bool {
        self.own.contains(&client) || self.fleet.is_relay(client)
    }

    /// Where something goes that a relay sent on a line. Allocates nothing for a packet.
    #[inline]
    pub fn returned(&mut self, now: Now, line: Line, bytes: &[u8]) -> Back {
        match self.back(now, line, bytes) {
            Ok(back) => back,
            Err(why) => {
                self.fleet.counters.drop(why);
                Back::Drop(why)
            }
        }
    }

    #[inline]
    fn back(&mut self, now: Now, line: Line, bytes: &[u8]) -> Result<Back, Dropped> {
        let (head, rest) = Head::read(bytes).map_err(|_| Dropped::NoHead)?;
        if !head.back {
            return Err(Dropped::NotBack);
        }
        if head.probe || rest.is_empty() {
            return self.fleet.told(now.mono, line, &head, rest).map(|()| Back::Told);
        }
        let relay = self.fleet.at_line(line).ok_or(Dropped::NoHead)?;
        if head.cookie != relay.cookie {
            return Err(Dropped::WrongCookie);
        }
        let flow = FlowKey { client: head.client, tcp: head.tcp };
        if self.is_ours(flow.client) {
            return Err(Dropped::OurOwnSource);
        }
        if head.proven {
            self.flows.learn(now.mono, flow, head.listener, head.bucket);
        }
        // A relay that has just taken over does not know yet by which of several ways the client came.
        let listener = if self.own.len() > 1 { self.flows.listener(flow) } else { None };
        self.fleet.counters.returned += 1;
        Ok(Back::To { flow, listener: listener.unwrap_or(head.listener) })
    }

    /// Where the packets of a bucket go: the answer of the code that sends them.
    #[must_use]
    pub fn locate(&self, bucket: BucketId) -> Location {
        let fleet = &self.fleet;
        let id = |place: Place| fleet.relay(place).map(|relay| relay.id);
        let choice = fleet.choose(bucket);
        let row = |of: fn(&Rows, BucketId) -> Option<Place>| {
            fleet.rows.as_ref().and_then(|rows| of(rows, bucket)).and_then(id)
        };
        Location {
            epoch: fleet.epoch,
            primary: row(Rows::primary),
            secondary: row(Rows::secondary),
            now: choice.and_then(|choice| id(choice.place)),
            acting: choice.is_some_and(|choice| choice.acting),
            frozen: fleet.frozen.is_some(),
            relays: fleet
                .relays
                .iter()
                .map(|relay| Seen {
                    id: relay.id,
                    incarnation: relay.incarnation,
                    standing: relay.standing,
                    state: relay.health.state(),
                    load: relay.health.load,
                })
                .collect(),
        }
    }

    /// The epoch of the table that is gone by; 0 before there is one.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.fleet.epoch
    }

    /// Whether there is a table to go by.
    #[must_use]
    pub const fn has_table(&self) -> bool {
        self.fleet.rows.is_some()
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.fleet.counters
    }

    /// Flows that are remembered, those of them that the store names, and those that had to go for lack of room.
    #[must_use]
    pub fn flows(&self) -> [u64; 3] {
        [self.flows.len() as u64, self.flows.indexed() as u64, self.flows.evicted.get()]
    }

    /// How many relays are probing, up, suspect and down, and 1 if silence counts for nothing.
    #[must_use]
    pub fn relays(&self) -> [u64; 5] {
        let [probing, up, suspect, down] = self.fleet.states();
        [probing, up, suspect, down, u64::from(self.fleet.frozen.is_some())]
    }
}
