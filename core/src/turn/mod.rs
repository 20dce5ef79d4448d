//! The rules for requests: which get an answer at once, which get silence, and which have proved who sends them.
//!
//! Decides everything that can be decided without knowing a call (protocol.md, "Transport 1"): Binding, 401 and 438,
//! integrity, and whether what is asked makes sense. Leaves to the relay, which joins this with `residency` and
//! `switch`, what a proven request does to its call.
//!
//! No state before proof: what comes without a valid ticket costs one fixed table of counters, and gets at most 64 bytes.

mod answer;
mod ask;
mod limiter;

use tandem_wire::id::PopId;
use tandem_wire::nonce::NonceKey;
use tandem_wire::redact::{ClientAddr, Secret};
use tandem_wire::stun::{Class, Message, Method, StunError, TransactionId, Writer, attr};
use tandem_wire::ticket::{KeyError, LongTermKey, Ticket, TicketKeys};
use tandem_wire::units::{Now, Total};

pub use answer::Answer;
pub use ask::{Ask, Problem};
use limiter::AnswerLimiter;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is sent.
    Silence(Silence),
    /// This many bytes of the answer buffer go back to the source.
    Answer(usize),
    /// Its sender holds the ticket: ask the call.
    Proven(Proven),
}

/// Why a request gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// It is no well-formed request of a method that we serve.
    NotServed,
    /// Its source has had its answers of this second.
    Limited,
}

/// Requests by what became of them before any call was asked; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Binding requests answered.
    pub bindings: Total,
    /// Answered 401: no proof, or a wrong one.
    pub unauthorized: Total,
    /// Answered 438: the nonce is stale.
    pub stale_nonces: Total,
    /// Answered 420 without proof: it asked for MESSAGE-INTEGRITY-SHA256.
    pub sha256: Total,
    /// Proven.
    pub proven: Total,
    /// Silence: not served.
    pub not_served: Total,
    /// Silence: limited.
    pub limited: Total,
}

/// A request whose sender has proved to hold the ticket that it names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// Which leg of which call.
    pub ticket: Ticket,
    /// What is asked; or what is wrong with it, which is said only once the call is known (protocol.md: errors come only
    /// from a relay that has the call loaded).
    pub ask: Result<Ask, Problem>,
    method: Method,
    transaction: TransactionId,
    key: LongTermKey,
    fingerprint: bool,
}

/// Its key stays out of it: with it, anyone could speak as this leg.
impl core::fmt::Debug for Proven {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Proven")
            .field("ticket", &self.ticket)
            .field("ask", &self.ask)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// Why a gate cannot be made from its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The realm must leave room for 64-byte answers.
    #[error("a realm has 1 to 4 bytes")]
    Realm,
    /// The secret of the PoP is too short.
    #[error("the secret of the PoP has at least 32 bytes")]
    Secret,
    /// A ticket key cannot stand.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The gate that every request passes.
#[derive(Debug)]
pub struct Gate {
    realm: String,
    nonces: NonceKey,
    tickets: TicketKeys,
    limiter: AnswerLimiter,
    /// What was counted so far.
    pub counters: Counters,
}

/// The realm is at most this long, so that 401 and 438 are 64 bytes.
const REALM_LEN_MAX: usize = 4;

impl Gate {
    /// Makes a gate. `seed` keys the table of counters and should be random.
    ///
    /// # Errors
    /// The [`GateError`] that names what of the config cannot stand.
    pub fn new<'a>(
        pop: PopId,
        realm: &str,
        pop_secret: &Secret,
        ticket_keys: impl IntoIterator<Item = (u8, &'a Secret)>,
        seed: u64,
    ) -> Result<Self, GateError> {
        if realm.is_empty() || realm.len() > REALM_LEN_MAX {
            return Err(GateError::Realm);
        }
        if pop_secret.expose().len() < tandem_wire::ticket::SECRET_LEN_MIN {
            return Err(GateError::Secret);
        }
        Ok(Self {
            realm: realm.to_owned(),
            nonces: NonceKey::new(pop_secret).ok_or(GateError::Secret)?,
            tickets: TicketKeys::new(pop, ticket_keys)?,
            limiter: AnswerLimiter::new(seed),
            counters: Counters::default(),
        })
    }

    /// Decides about the request in `datagram`; an answer is written into `out`.
    pub fn decide(&mut self, now: Now, client: ClientAddr, datagram: &[u8], out: &mut [u8]) -> Decision {
        let Ok(message) = Message::parse(datagram) else { return self.silence(Silence::NotServed) };
        match (message.class, message.method) {
            (Class::Request, Method::Binding) => self.binding(now, client, &message, out),
            (Class::Request, Method::Allocate | Method::Refresh | Method::CreatePermission | Method::ChannelBind) => {
                self.prove(now, client, &message, out)
            }
            _ => self.silence(Silence::NotServed),
        }
    }

    /// The only thing that grows with no source.
    #[cfg(test)]
    fn limiter_table(&self) -> &[limiter::Count] {
        self.limiter.table()
    }

    fn silence(&mut self, why: Silence) -> Decision {
        match why {
            Silence::NotServed => self.counters.not_served += 1,
            Silence::Limited => self.counters.limited += 1,
        }
        Decision::Silence(why)
    }

    fn binding(&mut self, now: Now, client: ClientAddr, message: &Message<'_>, out: &mut [u8]) -> Decision {
        // CHANGE-REQUEST, PADDING and the like (RFC 5780) would have us send elsewhere, or more (attack R30).
        if !message.attributes.unknown().is_empty() {
            return self.silence(Silence::NotServed);
        }
        let answer = Writer::new(out, Class::Success, Method::Binding, message.transaction)
            .address(attr::XOR_MAPPED_ADDRESS, client.socket_addr())
            .finish();
        self.unproven(now, client, answer, |counters| &mut counters.bindings)
    }

    /// Sends an answer to a source that has proved nothing, if it may have one more this second.
    fn unproven(
        &mut self,
        now: Now,
        client: ClientAddr,
        answer: Result<usize, StunError>,
        counter: fn(&mut Counters) -> &mut Total,
    ) -> Decision {
        let Ok(len) = answer else { return self.silence(Silence::NotServed) };
        if !self.limiter.allow(now, client) {
            return self.silence(Silence::Limited);
        }
        *counter(&mut self.counters) += 1;
        Decision::Answer(len)
    }

    fn prove(&mut self, now: Now, client: ClientAddr, message: &Message<'_>, out: &mut [u8]) -> Decision {
        let a = &message.attributes;
        if a.integrity.is_none() && a.integrity_sha256 {
            // It would never prove itself to us otherwise: say that there is no such thing here (attack R25).
            let answer = Writer::new(out, Class::Error, message.method, message.transaction)
                .error_code(420)
                .unknown_attributes(&[attr::MESSAGE_INTEGRITY_SHA256])
                .finish();
            return self.unproven(now, client, answer, |counters| &mut counters.sha256);
        }
        let (Some(_), Some(username), Some(_), Some(nonce)) = (a.integrity, a.username, a.realm, a.nonce) else {
            return self.challenge(now, client, message, out, 401);
        };
        if self.nonces.check(nonce, client, now.wall).is_err() {
            return self.challenge(now, client, message, out, 438);
        }
        let Ok((ticket, key)) = self.tickets.open(username, &self.realm) else {
            return self.challenge(now, client, message, out, 401);
        };
        if !message.verify(&key) {
            return self.challenge(now, client, message, out, 401);
        }
        // An expired ticket opens nothing new, and ends nothing that runs.
        if message.method == Method::Allocate && ticket.check_expiry(now.wall).is_err() {
            return self.challenge(now, client, message, out, 401);
        }
        self.counters.proven += 1;
        Decision::Proven(Proven {
            ticket,
            ask: Ask::read(message),
            method: message.method,
            transaction: message.transaction,
            key,
            fingerprint: a.fingerprint,
        })
    }

    /// 401 or 438: 64 bytes, with a fresh nonce.
    fn challenge(
        &mut self,
        now: Now,
        client: ClientAddr,
        message: &Message<'_>,
        out: &mut [u8],
        code: u16,
    ) -> Decision {
        let nonce = self.nonces.mint(client, now.wall);
        let answer = Writer::new(out, Class::Error, message.method, message.transaction)
            .error_code(code)
            .attribute(attr::REALM, self.realm.as_bytes())
            .attribute(attr::NONCE, &nonce)
            .finish();
        let counter: fn(&mut Counters) -> &mut Total = match code {
            438 => |counters| &mut counters.stale_nonces,
            _ => |counters| &mut counters.unauthorized,
        };
        self.unproven(now, client, answer, counter)
    }
}

#[cfg(test)]
mod tests;
