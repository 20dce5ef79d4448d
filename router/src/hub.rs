//! Joins the store, the rules of queues and the connections: one task that owns all of it.
//!
//! Decides nothing by itself: `core::call` says who is told of a change, `core::mailbox` what is delivered and deleted. It
//! never waits: what a connection does not take is given up, what has to be written is handed to [`crate::writer`].

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use tandem_core::call::pushes;
use tandem_core::mailbox::{Cause, ConnectionId, Input, Mailboxes, Output};
use tandem_core::topology::Phase;
use tandem_state_client::{self as state, BucketSet, Changes, Followed, Kinds, Listing, Revision, Store, follow};
use tandem_telemetry::metric::router as metric;
use tandem_wire::id::CallId;
use tandem_wire::party::{DeviceKey, Party};
use tandem_wire::units::Mono;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::absent::Absent;
use crate::connection::{End, Outgoing};
use crate::limits;
use crate::outbox::{Connection, Fed, Waiting, record_text};
use crate::push::BlobId;
use crate::view::{Changed, View, key};
use crate::writer::{Done, Writer};

/// What connections have to say.
#[derive(Debug)]
pub(crate) enum Event {
    /// A device has connected.
    Connected {
        id: ConnectionId,
        party: Party,
        /// When its token was issued, in seconds.
        issued: Option<u64>,
        /// Until when it is good.
        expires: Mono,
        outgoing: mpsc::Sender<Outgoing>,
    },
    /// A connection is gone.
    Disconnected(ConnectionId),
    /// A device has these blobs.
    Acked(ConnectionId, Vec<BlobId>),
    /// The connection has sent what it was handed.
    Taken(ConnectionId),
}

struct Hub {
    view: View,
    mailboxes: Mailboxes,
    connections: HashMap<ConnectionId, Connection>,
    /// How many each account has, by a hash of it: ids of accounts are long.
    accounts: HashMap<u64, usize>,
    hasher: RandomState,
    writer: Writer,
    absent: Absent,
    at: Revision,
}

/// Follows the store and serves the connections for as long as anybody can connect. `caught_up` turns true with the first
/// list.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    mut events: mpsc::Receiver<Event>,
    caught_up: watch::Sender<bool>,
    mut closing: watch::Receiver<bool>,
) {
    let wanted = Kinds::CALLS.and(Kinds::BLOBS).and(Kinds::NOTES).and(Kinds::REMOVALS);
    let mut followed = follow(Arc::clone(&store), BucketSet::all().only(wanted));
    let mut hub = Hub {
        view: View::default(),
        mailboxes: Mailboxes::default(),
        connections: HashMap::new(),
        accounts: HashMap::new(),
        hasher: RandomState::new(),
        writer: Writer::new(store),
        absent: Absent::default(),
        at: Revision::ZERO,
    };
    // Nobody is served before the store has been seen as a whole.
    match followed.recv().await {
        Some(told) => hub.told(told),
        None => return,
    }
    caught_up.send_replace(true);
    let mut tokens = interval(limits::TOKENS_EVERY);
    tokens.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let arrival = Instant::now() + limits::ARRIVAL;
    let mut arriving = true;
    loop {
        tokio::select! {
            told = followed.recv() => match told {
                Some(told) => hub.told(told),
                None => return,
            },
            event = events.recv() => match event {
                Some(event) => hub.event(event),
                None => return,
            },
            done = hub.writer.done() => hub.written(done),
            _ = tokens.tick() => hub.look_at_tokens(),
            () = sleep_until(arrival), if arriving => {
                arriving = false;
                hub.find_lost();
            }
            _ = closing.wait_for(|closing| *closing) => return hub.close(),
        }
        hub.drain();
    }
}

impl Hub {
    fn told(&mut self, told: Followed) {
        match told {
            Followed::Listed(listing) => self.listed(listing),
            Followed::Changed(changes) => self.changed(changes),
        }
        let (calls, blobs) = self.view.sizes();
        metric::CALLS.set(gauge(calls));
        metric::BLOBS.set(gauge(blobs));
    }

    fn listed(&mut self, listing: Listing) {
        self.at = listing.revision;
        let changes = self.view.replace(listing);
        self.tell(changes);
    }

    fn changed(&mut self, changes: Changes) {
        let Changes { events, reached } = changes;
        let mut events = events.into_iter().peekable();
        // Revision by revision: what one command wrote is seen as a whole, an offer with the call that it belongs to.
        while let Some(first) = events.next() {
            let revision = first.revision;
            let mut seen = Vec::new();
            let mut event = Some(first);
            while let Some(change) = event {
                seen.extend(match change.value {
                    Some(value) => self.view.put(&state::Entry { key: change.key, revision, value }),
                    None => self.view.remove(change.key),
                });
                event = events.next_if(|next| next.revision == revision);
            }
            self.tell(seen);
        }
        self.at = reached;
    }

    /// Tells what has changed: calls first, then what was sealed.
    fn tell(&mut self, changes: Vec<Changed>) {
        for change in &changes {
            if let Changed::Call(id, old) = change {
                self.tell_call(*id, old.as_ref());
            }
        }
        for change in changes {
            match change {
                Changed::Call(..) => {}
                Changed::Stored(to, blob, revision) => self.mailboxes.handle(Input::Stored(to, blob, revision)),
                Changed::Gone(to, blob) => self.mailboxes.handle(Input::Gone(to, blob)),
                Changed::Removed(device) => self.removed(device),
            }
        }
        self.drain();
    }

    fn tell_call(&mut self, id: CallId, old: Option<&tandem_core::topology::Call>) {
        let Some(known) = self.view.call(id) else { return };
        let now = tandem_net::clock::now().wall;
        let mut told = Vec::new();
        for push in pushes(old, &known.call) {
            let device = push.to.key();
            let Some(connection) = self.mailboxes.connection(device) else { continue };
            let text = record_text(&self.view, known, push.to, device, push.what, now);
            told.extend(text.map(|text| (connection, text)));
        }
        // A device that is connected here is not away, whoever thought so; one that has left here is, if nobody has said so since.
        let mut wrong = Vec::new();
        for leg in known.call.legs.iter().filter(|_| known.call.phase() != Phase::Ended) {
            let Some(party) = &leg.party else { continue };
            let connected = self.mailboxes.connection(party.key()).is_some();
            let was_there = old.is_some_and(|old| old.leg_of(party).is_some_and(|leg| leg.away.is_none()));
            match (leg.away.is_some(), connected) {
                (true, false) if was_there => self.absent.settled(party.key(), id),
                (true, true) => wrong.push(party.clone()),
                (false, false) if self.absent.owed(party.key(), id) => wrong.push(party.clone()),
                _ => {}
            }
        }
        for party in wrong {
            self.presence(&party);
        }
        for (connection, text) in told {
            self.tell_connection(connection, Waiting::Change(text));
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected { id, party, issued, expires, outgoing } => {
                if self.view.is_void(&party, issued) {
                    let _ = outgoing.try_send(Outgoing::Close(End::Unauthorized));
                    return;
                }
                let of_account = self.accounts.entry(self.hasher.hash_one(&party.account)).or_default();
                if *of_account >= limits::ACCOUNT_CONNECTIONS {
                    let _ = outgoing.try_send(Outgoing::Close(End::Overloaded));
                    return;
                }
                *of_account += 1;
                let device = party.key();
                self.connections.insert(id, Connection::new(party, issued, expires, outgoing));
                metric::CONNECTIONS.set(gauge(self.connections.len()));
                self.mailboxes.handle(Input::Connected(device, id));
                self.absent.back(device);
            }
            Event::Disconnected(id) => {
                self.gone(id);
                self.drain();
            }
            Event::Taken(id) => {
                if let Some(open) = self.connections.get_mut(&id) {
                    open.taken();
                }
                self.feed(id);
            }
            Event::Acked(id, blobs) => {
                let Some(connection) = self.connections.get(&id) else { return };
                let device = connection.device;
                for blob in blobs {
                    // Of another revision it is another blob, which the device has not seen.
                    if self.view.blob_revision(device, blob.name) == Some(blob.revision) {
                        self.mailboxes.handle(Input::Acked(device, id, blob.name));
                    }
                }
            }
        }
    }

    /// Does what the rules of queues say.
    fn drain(&mut self) {
        while let Some(output) = self.mailboxes.poll() {
            match output {
                Output::Close(connection, cause) => {
                    let end = match cause {
                        Cause::Elsewhere => End::Elsewhere,
                        Cause::Removed => End::Unauthorized,
                    };
                    self.end(connection, end);
                }
                Output::Greet(device, connection) => self.greet(device, connection),
                Output::Ready(_, connection) => self.tell_connection(connection, Waiting::Ready),
                Output::Deliver(_, connection, blob) => self.tell_connection(connection, Waiting::Blob(blob)),
                Output::Delete(device, blob, revision) => {
                    metric::ACKED.add(1);
                    self.writer.delete(key(device, blob), revision);
                }
                // Written down where the connection's end is noticed: there its party is still known.
                Output::Left(_) => {}
            }
        }
    }

    /// Has a device told how its calls stand.
    fn greet(&mut self, device: DeviceKey, connection: ConnectionId) {
        let calls: Vec<CallId> = self.view.calls_of(device).into_iter().map(|known| known.call.id).collect();
        for call in calls {
            self.tell_connection(connection, Waiting::Call(call));
        }
    }

    /// Tells a connection something, behind what it is still to be told.
    fn tell_connection(&mut self, connection: ConnectionId, what: Waiting) {
        if let Some(open) = self.connections.get_mut(&connection) {
            open.waiting(what);
            self.feed(connection);
        }
    }

    /// Hands a connection as much of what it is to be told as it takes now.
    fn feed(&mut self, connection: ConnectionId) {
        let Some(open) = self.connections.get_mut(&connection) else { return };
        match open.feed(&self.view, self.at) {
            Fed::Going => {}
            Fed::Ready => {
                let party = open.party.clone();
                self.presence(&party);
            }
            Fed::Slow => self.gone(connection),
        }
    }

    /// Writes down whether a device is there, for the calls in which it has a leg.
    fn presence(&mut self, party: &Party) {
        let connected = self.mailboxes.connection(party.key()).is_some();
        self.writer.presence(party, connected, &self.view);
    }

    fn written(&mut self, done: Done) {
        let connected = |device| self.mailboxes.connection(device).is_some();
        // It was said to be there and has left again, which the view may show later than that.
        if let Done::Presence(device, true) = done
            && !connected(device)
        {
            self.absent.left(device, tandem_net::clock::now().mono);
        }
        self.writer.settle(done, connected, &self.view);
    }

    /// After a start: devices of live calls that have not come back are lost.
    fn find_lost(&mut self) {
        let absent = |party: &Party| self.mailboxes.connection(party.key()).is_none();
        let legs =
            self.view.calls().filter(|known| known.call.phase() != Phase::Ended).flat_map(|known| &known.call.legs);
        let lost: Vec<Party> = legs.filter_map(|leg| leg.party.clone()).filter(absent).collect();
        for party in lost {
            self.presence(&party);
        }
    }

    fn removed(&mut self, device: DeviceKey) {
        let Some(connection) = self.mailboxes.connection(device) else { return };
        let open = self.connections.get(&connection);
        // One that registered anew has a token that is good.
        if open.is_some_and(|open| self.view.is_void(&open.party, open.issued)) {
            self.mailboxes.handle(Input::Removed(device));
        }
    }

    fn look_at_tokens(&mut self) {
        let now = tandem_net::clock::now().mono;
        let over: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, open)| open.expires <= now).map(|(id, _)| *id).collect();
        for connection in over {
            self.end(connection, End::Unauthorized);
        }
        self.absent.forget_old(now);
    }

    /// Ends a connection with a word. Its task says when it is gone.
    fn end(&mut self, connection: ConnectionId, end: End) {
        if let Some(open) = self.connections.get(&connection)
            && open.outgoing.try_send(Outgoing::Close(end)).is_err()
        {
            self.gone(connection);
        }
    }

    /// A connection has ended, or takes nothing more: what it was not told its device finds when it comes back.
    fn gone(&mut self, connection: ConnectionId) {
        let Some(open) = self.connections.remove(&connection) else { return };
        if let Entry::Occupied(mut of_account) = self.accounts.entry(self.hasher.hash_one(&open.party.account)) {
            *of_account.get_mut() -= 1;
            if *of_account.get() == 0 {
                of_account.remove();
            }
        }
        metric::CONNECTIONS.set(gauge(self.connections.len()));
        self.mailboxes.handle(Input::Disconnected(open.device, connection));
        // A newer connection of the device has closed this one.
        if self.mailboxes.connection(open.device).is_none() {
            self.absent.left(open.device, tandem_net::clock::now().mono);
            self.presence(&open.party);
        }
    }

    /// Ends all connections: their devices connect anew, here or elsewhere, and their calls go on.
    fn close(&mut self) {
        for open in self.connections.values() {
            let _ = open.outgoing.try_send(Outgoing::Close(End::GoingAway));
        }
        self.connections.clear();
    }
}

#[allow(clippy::cast_precision_loss, reason = "what is counted is capped far below 2^53")]
const fn gauge(n: usize) -> f64 {
    n as f64
}
