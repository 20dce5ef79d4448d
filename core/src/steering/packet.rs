//! What a client's packet can be steered by.
//!
//! Decides by the packet alone: its first byte, and in a request its USERNAME. Leaves everything that takes knowledge (who
//! the source is, who is down) to those who have it. Nothing here proves anything.

use tandem_wire::id::BucketId;
use tandem_wire::stun::{CHANNEL_HEADER_LEN, Class, Message, Method};
use tandem_wire::ticket;

use super::Dropped;

/// What steers a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steer {
    /// The bucket that stands in it.
    Ticket(BucketId),
    /// Where it comes from; if nobody knows that, any relay can answer.
    SourceOrAnyone,
    /// Where it comes from.
    Source,
}

/// Reads a packet.
pub(super) fn steer(packet: &[u8]) -> Result<Steer, Dropped> {
    match packet.first() {
        None => Err(Dropped::Empty),
        // RFC 7983, with all channels of RFC 5766.
        Some(64..=127) if packet.len() >= CHANNEL_HEADER_LEN => Ok(Steer::Source),
        Some(64..=127) => Err(Dropped::Malformed),
        Some(0..=3) => stun(&Message::parse(packet).map_err(|_| Dropped::Malformed)?),
        Some(_) => Err(Dropped::NotOurs),
    }
}

fn stun(message: &Message<'_>) -> Result<Steer, Dropped> {
    match message.class {
        Class::Success | Class::Error => Err(Dropped::NotRequest),
        Class::Indication => Ok(Steer::Source),
        Class::Request => match message.attributes.username {
            Some(name) => Ok(ticket::bucket_of(name).map_or(Steer::Source, Steer::Ticket)),
            None if matches!(message.method, Method::Binding | Method::Allocate) => Ok(Steer::SourceOrAnyone),
            None => Ok(Steer::Source),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tandem_wire::id::{CallId, LegId, PopId};
    use tandem_wire::redact::Secret;
    use tandem_wire::stun::{Writer, attr};
    use tandem_wire::ticket::TicketKey;
    use tandem_wire::units::Wall;

    use super::*;

    fn message(class: Class, method: Method, username: Option<&[u8]>) -> Vec<u8> {
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer, class, method, [7; 12]);
        if let Some(name) = username {
            writer = writer.attribute(attr::USERNAME, name);
        }
        let len = writer.finish().unwrap();
        buffer[..len].to_vec()
    }

    #[test]
    fn each_kind_of_packet_is_steered_by_what_it_has() {
        let key = TicketKey::new(0, &Secret::new(vec![7; 32])).unwrap();
        let call = CallId::new(PopId(1), BucketId(0xabcd), 9);
        let name = key.mint(call, LegId::new(1).unwrap(), Wall::from_secs(9));
        let name = Some(name.as_bytes());
        let by_ticket = Ok(Steer::Ticket(BucketId(0xabcd)));
        for (packet, wanted) in [
            (message(Class::Request, Method::Refresh, name), by_ticket),
            (message(Class::Request, Method::Allocate, name), by_ticket),
            (message(Class::Request, Method::Binding, name), by_ticket),
            (message(Class::Request, Method::Allocate, None), Ok(Steer::SourceOrAnyone)),
            (message(Class::Request, Method::Binding, None), Ok(Steer::SourceOrAnyone)),
            (message(Class::Request, Method::Refresh, None), Ok(Steer::Source)),
            (message(Class::Request, Method::Allocate, Some(b"alice")), Ok(Steer::Source)),
            // An indication proves nothing and needs no name: whatever it says, its source counts.
            (message(Class::Indication, Method::Send, name), Ok(Steer::Source)),
            (message(Class::Success, Method::Allocate, name), Err(Dropped::NotRequest)),
            (message(Class::Error, Method::Allocate, name), Err(Dropped::NotRequest)),
            (vec![0x40, 0, 0, 0], Ok(Steer::Source)),
            (vec![0x7f, 0, 0, 0], Ok(Steer::Source)),
            (vec![0x40, 0, 0], Err(Dropped::Malformed)),
            (vec![0; 20], Err(Dropped::Malformed)),
            (vec![], Err(Dropped::Empty)),
            (vec![tandem_wire::tunnel::MAGIC; 100], Err(Dropped::NotOurs)),
            (vec![0x80; 100], Err(Dropped::NotOurs)),
            (vec![22; 100], Err(Dropped::NotOurs)),
        ] {
            assert_eq!(steer(&packet), wanted, "{packet:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_panics_the_reader(mut packet in prop::collection::vec(any::<u8>(), 0..120), form: bool) {
            if form && packet.len() >= 20 {
                let len = packet.len() / 4 * 4;
                packet.truncate(len);
                packet[0] &= 1;
                packet[2..8].copy_from_slice(&[0, (len - 20) as u8, 0x21, 0x12, 0xa4, 0x42]);
            }
            let _ = steer(&packet);
        }
    }
}
