//! Answers to proven requests, signed with the key that proved them.

use tandem_wire::id::VirtualAddr;
use tandem_wire::redact::ClientAddr;
use tandem_wire::stun::{Class, StunError, Writer, attr};
use tandem_wire::units::Span;

use super::{Problem, Proven};

/// What a proven request is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Here is your allocation.
    Allocated {
        /// The address that its peers reach it by.
        relayed: VirtualAddr,
        /// How long it lives unless it is refreshed.
        lifetime: Span,
    },
    /// Your allocation lives this long, or has ended (zero).
    Refreshed {
        /// How long it lives from now on.
        lifetime: Span,
    },
    /// Done: CreatePermission, ChannelBind.
    Done,
    /// No.
    Refused(Problem),
}

impl Proven {
    /// Writes `answer` to this request of `client` into `out` and gives its length.
    ///
    /// # Errors
    /// [`StunError::Space`], if `out` is shorter than [`crate::limits::ANSWER_LEN_MAX`].
    pub fn answer(&self, client: ClientAddr, answer: Answer, out: &mut [u8]) -> Result<usize, StunError> {
        let class = if matches!(answer, Answer::Refused(_)) { Class::Error } else { Class::Success };
        let writer = Writer::new(out, class, self.method, self.transaction);
        let writer = match answer {
            Answer::Allocated { relayed, lifetime } => writer
                .address(attr::XOR_RELAYED_ADDRESS, relayed.socket_addr().into())
                .attribute(attr::LIFETIME, &seconds(lifetime))
                .address(attr::XOR_MAPPED_ADDRESS, client.socket_addr()),
            Answer::Refreshed { lifetime } => writer.attribute(attr::LIFETIME, &seconds(lifetime)),
            Answer::Done => writer,
            Answer::Refused(problem) => {
                let writer = writer.error_code(problem.code);
                if problem.unknown().is_empty() { writer } else { writer.unknown_attributes(problem.unknown()) }
            }
        };
        let writer = writer.integrity(&self.key);
        if self.fingerprint { writer.fingerprint() } else { writer }.finish()
    }
}

fn seconds(lifetime: Span) -> [u8; 4] {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).to_be_bytes()
}
