//! A load balancer over a store in memory: this binary, started with a hidden argument.
//!
//! Decides what stands in the store: the relays that it is told of, and an attachment for each client, in buckets that follow
//! one another.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tandem_core::topology::{Allocation, Attachment, Incarnation, Member, Standing, Table, Transport};
use tandem_lb::{Config, Lb};
use tandem_state_client::memory::MemoryStore;
use tandem_state_client::{Change, Command, Key, Op, Revision, Store};
use tandem_wire::id::{AllocationId, BucketId, CallId, LegId, PopId, RelayId};
use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::Cookie;

use crate::{Failure, client};

/// The hidden argument; the port of the clients, their number and the ports of relays follow it.
pub(crate) const CHILD: &str = "--lb-child";
const POP: PopId = PopId(1);
/// The run of every relay.
pub(crate) const INCARNATION: u64 = 1;

/// The cookie of a relay.
pub(crate) const fn cookie(relay: usize) -> Cookie {
    Cookie::from_bits(relay as u64 + 1)
}

/// The bucket of a client: a step through all of them that no table of ours has in its order.
pub(crate) const fn bucket(n: usize) -> BucketId {
    BucketId((n as u16).wrapping_mul(40_503))
}

/// What the child does.
pub(crate) fn child(arguments: &[String]) -> Result<(), Failure> {
    let port: u16 = arguments.first().ok_or("no port")?.parse()?;
    let clients: usize = arguments.get(1).ok_or("no number of clients")?.parse()?;
    let ports: Vec<u16> =
        arguments.get(2..).unwrap_or(&[]).iter().map(|port| port.parse()).collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let store = Arc::new(MemoryStore::new(POP));
        let put = async |key, value| {
            let op = Op { key, based_on: Revision::ZERO, change: Change::Put(value) };
            store.commit(Command { ops: vec![op] }).await
        };
        let rows = ports.iter().enumerate().map(|(n, port)| {
            let tunnel = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            Member::starting(Incarnation(INCARNATION), cookie(n), tunnel).row(RelayId(n as u16), Standing::Serving)
        });
        put(Key::Table(POP), Table::new(1, rows.collect()).to_json()?).await?;
        for n in 0..clients {
            let call = CallId::new(POP, bucket(n), n as u128);
            let mut record = Attachment::empty(RelayId(0));
            let client = ClientAddr::new(SocketAddr::from((client::ip(n), port)));
            let allocation =
                Allocation { a: AllocationId::new(1)?, transport: Transport::Udp, client, channels: Vec::new() };
            record.allocations.push(allocation);
            put(Key::Attachment(call, LegId::new(1)?), record.to_json()?).await?;
        }
        let lb = Lb::start(&Config { listen: vec![(Ipv4Addr::LOCALHOST, 0).into()], pop: POP }, store.clone())?;
        let addresses = lb.ready().await?.ok_or("the load balancer has ended")?;
        println!("{}", addresses.first().ok_or("no address")?.port());
        std::future::pending().await
    })
}
