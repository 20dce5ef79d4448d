//! The floor: a forwarder that makes the system calls of a load balancer and decides nothing. It is this binary, started with a
//! hidden argument.
//!
//! Inwards every packet gets a constant head and goes to the relay that the last bits of its address name; outwards the head is
//! cut off and the address in it is where the rest goes. No table, no cookie, no table of flows, no health.

use std::net::{Ipv4Addr, SocketAddr};

use tandem_net::batch::{Batch, Hop};
use tandem_net::poll::Poll;
use tandem_net::socket::{Socket, Waker};
use tandem_wire::id::BucketId;
use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::{Cookie, HEAD_LEN, Head};

use crate::Failure;

/// The hidden argument; the port of the clients, their number and the ports of relays follow it.
pub(crate) const CHILD: &str = "--floor-child";

/// What the child does.
pub(crate) fn child(arguments: &[String]) -> Result<(), Failure> {
    let public = Socket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let (poll, waker) = (Poll::new()?, Waker::new()?);
    poll.add(&public, u64::MAX)?;
    let mut lines = Vec::new();
    for (port, number) in arguments.get(2..).unwrap_or(&[]).iter().zip(0..) {
        let line = Socket::connected(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?)))?;
        poll.add(&line, number)?;
        lines.push(line);
    }
    println!("{}", public.local_addr().port());
    let nobody = ClientAddr::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let head = Head::to_relay(nobody, BucketId(0), 0, Cookie::from_bits(0)).to_bytes();
    // The relays learn where the lines are.
    for line in &lines {
        line.send(&head)?;
    }
    let mut batch = Batch::between_sockets();
    let mut ready = Vec::new();
    loop {
        ready.clear();
        poll.ready(|number| ready.push(number))?;
        let mut more = false;
        for number in &ready {
            if *number == u64::MAX {
                more |= batch.receive(&public) == tandem_net::batch::BATCH;
                batch.route_each(|client, slot| {
                    let [.., last, _, _] = client.key();
                    slot.start -= HEAD_LEN;
                    slot.len += HEAD_LEN;
                    slot.buffer.get_mut(slot.start..slot.start + HEAD_LEN)?.copy_from_slice(&head);
                    slot.buffer.get_mut(slot.start + 10..slot.start + 28)?.copy_from_slice(&client.key());
                    Some(Hop::connected(u16::from(last) % lines.len() as u16))
                });
                batch.flush_each(|line| lines.get(usize::from(line)), |_| {});
            } else if let Some(line) = lines.get(*number as usize) {
                more |= batch.receive_connected(line).datagrams == tandem_net::batch::BATCH;
                batch.route_each(|_, slot| {
                    let (head, _) = Head::read(slot.datagram()).ok()?;
                    slot.start += HEAD_LEN;
                    slot.len -= HEAD_LEN;
                    Some(Hop::to(0, &public, head.client))
                });
                batch.flush_each(|_| Some(&public), |_| {});
            }
        }
        if !more {
            poll.wait(&waker, None)?;
        }
    }
}
