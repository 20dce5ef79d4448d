//! Demo calls: two legs each, with a ticket a leg, for whoever asks on this machine.
//!
//! Decides which tab gets which leg. Leaves the record to `core::topology` and keeping it to the state server: this stands
//! where signaling will.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use serde::Serialize;
use tandem_core::topology::{Call, CallCommand, CallKind};
use tandem_state_client::{Change, Command, Key, Op, Revision, Store, StoreError};
use tandem_telemetry::http::Problem;
use tandem_wire::id::{BucketId, CallId, LegId, PopId};
use tandem_wire::ticket::{KeyError, TicketKey};
use tandem_wire::units::Span;

use super::children::Children;
use super::signal::Mailboxes;
use crate::limits;

/// How many legs a demo call has.
pub(crate) const LEGS: u16 = 2;

/// What a browser's RTCPeerConnection is told.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct IceServer {
    pub(crate) urls: [String; 1],
    pub(crate) username: String,
    pub(crate) credential: String,
}

/// One leg of a demo call, with its ticket.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DemoLeg {
    pub(crate) leg: u16,
    pub(crate) ice_servers: [IceServer; 1],
}

/// A demo call.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Demo {
    pub(crate) call_id: String,
    pub(crate) legs: Vec<DemoLeg>,
}

/// A tab's place in a demo call.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Joined {
    call_id: String,
    leg: u16,
    ice_servers: [IceServer; 1],
}

/// A call that is remembered: who has joined it, and what its legs say to each other.
struct Remembered {
    id: CallId,
    /// One session a leg, in order of arrival.
    sessions: Vec<String>,
    /// Tabs may join it; one that was asked for by itself is for other clients.
    open: bool,
    mailboxes: Arc<Mailboxes>,
}

/// All demo calls.
pub(crate) struct Demos {
    store: Arc<dyn Store>,
    pop: PopId,
    key: TicketKey,
    turn: String,
    calls: Mutex<VecDeque<Remembered>>,
    /// One join at a time: two tabs that come at once are to meet in one call.
    joining: tokio::sync::Mutex<()>,
}

impl Demos {
    pub(crate) fn new(children: &Children, store: Arc<dyn Store>) -> Result<Self, KeyError> {
        Ok(Self {
            store,
            pop: children.pop,
            key: TicketKey::new(children.kid, &children.ticket_secret)?,
            turn: format!("turn:{}?transport=udp", children.turn),
            calls: Mutex::new(VecDeque::new()),
            joining: tokio::sync::Mutex::new(()),
        })
    }

    /// Makes a call for clients that are not tabs of the page.
    pub(crate) async fn create(&self) -> Result<Demo, Problem> {
        let id = self.make(false).await?;
        Ok(self.demo(id))
    }

    /// Gives a tab its leg: the one that it has, or the next free one.
    pub(crate) async fn join(&self, session: &str) -> Result<Joined, Problem> {
        let characters = 1..=limits::SESSION_CHARS;
        if !characters.contains(&session.len()) || !session.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_session", "A session is a UUID"));
        }
        let _one_at_a_time = self.joining.lock().await;
        let (id, leg) = loop {
            match self.place_of(session) {
                Some((id, leg)) if self.runs(id).await? => break (id, leg),
                // Its store was wiped, or it is a day old: a tab that presses Connect again gets another one.
                Some((id, _)) => self.with(|calls| calls.retain(|call| call.id != id)),
                None => _ = self.make(true).await?,
            }
        };
        let legs = self.demo(id).legs;
        let found = legs.into_iter().find(|l| l.leg == leg).ok_or_else(Problem::not_found)?;
        Ok(Joined { call_id: id.to_string(), leg, ice_servers: found.ice_servers })
    }

    /// The mailboxes of a call that is remembered.
    pub(crate) fn mailboxes(&self, call_id: &str) -> Option<Arc<Mailboxes>> {
        let id: CallId = call_id.parse().ok()?;
        self.with(|calls| calls.iter().find(|call| call.id == id).map(|call| Arc::clone(&call.mailboxes)))
    }

    fn with<T>(&self, act: impl FnOnce(&mut VecDeque<Remembered>) -> T) -> T {
        act(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where a session is, or where it fits: the newest open call with a free leg.
    fn place_of(&self, session: &str) -> Option<(CallId, u16)> {
        self.with(|calls| {
            let number = |index: usize| u16::try_from(index + 1).ok();
            for call in calls.iter() {
                if let Some(index) = call.sessions.iter().position(|other| other == session) {
                    return Some((call.id, number(index)?));
                }
            }
            let free = |call: &&mut Remembered| call.open && call.sessions.len() < usize::from(LEGS);
            let call = calls.iter_mut().rev().find(free)?;
            call.sessions.push(session.to_owned());
            Some((call.id, number(call.sessions.len() - 1)?))
        })
    }

    /// Whether the store has this call, and has it running.
    async fn runs(&self, id: CallId) -> Result<bool, Problem> {
        let listing = self.store.load(id).await.map_err(|error| problem(&error))?;
        let record = listing.entries.iter().find(|entry| entry.key == Key::Call(id));
        Ok(record.is_some_and(|entry| Call::from_json(&entry.value).is_ok_and(|call| call.ended.is_none())))
    }

    /// Writes the record of a new call and remembers it.
    async fn make(&self, open: bool) -> Result<CallId, Problem> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| unlucky())?;
        let bits = u128::from_be_bytes(random);
        let id = CallId::new(self.pop, BucketId((bits >> 112) as u16), bits);
        let create = CallCommand::Create { id, kind: CallKind::OneToOne, legs: LEGS };
        let record = Call::apply(None, create, tandem_net::clock::now()).map_err(|_| unlucky())?;
        let value = record.to_json().map_err(|_| unlucky())?;
        let op = Op { key: Key::Call(id), based_on: Revision::ZERO, change: Change::Put(value) };
        self.store.commit(Command { ops: vec![op] }).await.map_err(|error| problem(&error))?;
        self.with(|calls| {
            if calls.len() >= limits::DEMO_CALLS {
                calls.pop_front();
            }
            calls.push_back(Remembered { id, sessions: Vec::new(), open, mailboxes: Arc::new(Mailboxes::default()) });
        });
        Ok(id)
    }

    /// The call with fresh tickets.
    fn demo(&self, id: CallId) -> Demo {
        let life = Span::from_secs(limits::DEMO_TICKET_LIFE.as_secs());
        let expiry = tandem_net::clock::now().wall.after(life);
        let legs = (1..=LEGS).filter_map(|n| {
            let username = self.key.mint(id, LegId::new(n).ok()?, expiry);
            let credential = self.key.credential(&username).to_string();
            let server = IceServer { urls: [self.turn.clone()], username, credential };
            Some(DemoLeg { leg: n, ice_servers: [server] })
        });
        Demo { call_id: id.to_string(), legs: legs.collect() }
    }
}

fn unlucky() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The call could not be made")
}

fn problem(error: &StoreError) -> Problem {
    if error.is_away() {
        let title = "The store cannot be reached; calls in progress go on";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store_away", title).retry_after_ms(limits::STORE_RETRY_MS)
    } else {
        unlucky()
    }
}
