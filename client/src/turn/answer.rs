//! What `tandem-wire`, whose reader is a server's, does not read out of an answer.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tandem_wire::id::VirtualAddr;
use tandem_wire::stun::{HEADER_LEN, MAGIC_COOKIE, attr};

/// The value of the first attribute of this type (RFC 8489 section 14) in a message that has been parsed.
pub(super) fn find(message: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = message.get(HEADER_LEN..)?;
    loop {
        let ([t0, t1, l0, l1], after) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = after.get(..len)?;
        if u16::from_be_bytes([*t0, *t1]) == kind {
            return Some(value);
        }
        rest = after.get(len.next_multiple_of(4)..)?;
    }
}

/// XOR-RELAYED-ADDRESS, if it is one inside a call.
pub(super) fn relayed(message: &[u8]) -> Option<VirtualAddr> {
    let [0, 1, p0, p1, ip @ ..] = find(message, attr::XOR_RELAYED_ADDRESS)? else { return None };
    let port = u16::from_be_bytes([*p0, *p1]) ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = Ipv4Addr::from_bits(u32::from_be_bytes(ip.try_into().ok()?) ^ MAGIC_COOKIE);
    VirtualAddr::from_peer(SocketAddr::V4(SocketAddrV4::new(ip, port)))
}

/// ERROR-CODE (RFC 8489 section 14.8); 0 for what is none.
pub(super) fn error_code(message: &[u8]) -> u16 {
    match find(message, attr::ERROR_CODE) {
        Some([_, _, class @ 3..=6, number @ 0..=99, ..]) => u16::from(*class) * 100 + u16::from(*number),
        _ => 0,
    }
}
