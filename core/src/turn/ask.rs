//! What a proven request asks for, or what is wrong with it.
//!
//! Decides what RFC 8656 leaves to a server's form: which attributes a method needs, which it cannot have here (DON'T-
//! FRAGMENT, a reserved port, IPv6, TCP), and that a peer lies inside the virtual prefix.

use tandem_wire::id::VirtualAddr;
use tandem_wire::stun::{Message, Method, attr};
use tandem_wire::units::Span;

use crate::limits;
use crate::topology::{ChannelBinding, ChannelNumber};

/// What a client asks its call for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// An allocation on the address that the request came from.
    Allocate {
        /// For how long, already within what is granted.
        lifetime: Span,
    },
    /// The allocation on this address to live on, or to end (zero).
    Refresh {
        /// For how long.
        lifetime: Span,
    },
    /// A note that the client shall hear from peers, all of them inside the virtual prefix.
    CreatePermission,
    /// A channel.
    ChannelBind(ChannelBinding),
}

/// Why a proven request is refused: the code of RFC 8656 section 19 and, with 420, the attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// The error code.
    pub code: u16,
    unknown: [u16; 8],
    unknown_count: u8,
}

impl Problem {
    /// A problem with nothing to add to its code.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        Self { code, unknown: [0; 8], unknown_count: 0 }
    }

    fn unknown_attributes<'a>(kinds: impl IntoIterator<Item = &'a u16>) -> Self {
        let mut problem = Self::new(420);
        for (slot, kind) in problem.unknown.iter_mut().zip(kinds) {
            *slot = *kind;
            problem.unknown_count += 1;
        }
        problem
    }

    /// With 420: the attributes that were not understood.
    #[must_use]
    pub fn unknown(&self) -> &[u16] {
        self.unknown.get(..usize::from(self.unknown_count)).unwrap_or(&[])
    }
}

/// UDP's protocol number (REQUESTED-TRANSPORT).
const UDP: u8 = 17;
/// IPv4's family number (REQUESTED-ADDRESS-FAMILY).
const IPV4: u8 = 1;

impl Ask {
    /// Reads a request of one of the four methods that need a ticket.
    pub(super) fn read(message: &Message<'_>) -> Result<Self, Problem> {
        let a = &message.attributes;
        if a.integrity_sha256 {
            return Err(Problem::unknown_attributes(&[attr::MESSAGE_INTEGRITY_SHA256]));
        }
        if !a.unknown().is_empty() {
            return Err(Problem::unknown_attributes(a.unknown()));
        }
        match message.method {
            Method::Allocate => {
                match a.transport {
                    None => return Err(Problem::new(400)),
                    Some(UDP) => {}
                    Some(_) => return Err(Problem::new(442)),
                }
                if a.family.is_some_and(|family| family != IPV4) {
                    return Err(Problem::new(440));
                }
                // There are no ports to reserve. EVEN-PORT alone is let pass (decision 0003).
                if a.reservation_token || a.even_port == Some(true) {
                    return Err(Problem::new(508));
                }
                Ok(Self::Allocate { lifetime: granted(a.lifetime.filter(|secs| *secs > 0)) })
            }
            Method::Refresh => {
                if a.family.is_some_and(|family| family != IPV4) {
                    return Err(Problem::new(443));
                }
                Ok(Self::Refresh { lifetime: if a.lifetime == Some(0) { Span::ZERO } else { granted(a.lifetime) } })
            }
            Method::CreatePermission => {
                if a.peer.is_none() {
                    return Err(Problem::new(400));
                }
                if message.peers().any(|peer| VirtualAddr::from_peer(peer).is_none()) {
                    return Err(Problem::new(403));
                }
                Ok(Self::CreatePermission)
            }
            _ => {
                let (Some(channel), Some(peer)) = (a.channel, a.peer) else { return Err(Problem::new(400)) };
                let channel = ChannelNumber::new(channel).map_err(|_| Problem::new(400))?;
                let peer = VirtualAddr::from_peer(peer).ok_or(Problem::new(403))?;
                Ok(Self::ChannelBind(ChannelBinding { channel, peer }))
            }
        }
    }
}

/// RFC 8656 section 7.2: never less than the default, never more than the maximum.
fn granted(asked: Option<u32>) -> Span {
    let asked = asked.map_or(limits::LIFETIME_DEFAULT, |secs| Span::from_secs(u64::from(secs)));
    asked.clamp(limits::LIFETIME_DEFAULT, limits::LIFETIME_MAX)
}
