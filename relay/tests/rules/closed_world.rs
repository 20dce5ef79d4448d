//! A naive model of the closed world, and clients that do whatever comes to mind: the relay does what the model says.
//!
//! The model is a list of allocations and nothing else: no table, no call in memory, no store. What it does not know,
//! because protocol.md leaves it open, it lets be either way.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use tandem_wire::id::CallId;

use crate::common::*;

/// Calls, and how many legs they have.
const CALLS: [(u32, u16); 2] = [(1, 3), (2, 2)];
/// Who there is: call, leg, address. The last two use addresses that others use too, in another call and in their own.
const SOCKETS: [(usize, u16, &str); 8] = [
    (0, 1, "198.51.100.1:1"),
    (0, 1, "198.51.100.1:2"),
    (0, 2, "198.51.100.2:1"),
    (0, 3, "[2001:db8::3]:1"),
    (1, 1, "198.51.100.4:1"),
    (1, 2, "198.51.100.5:1"),
    (1, 2, "198.51.100.1:1"),
    (0, 2, "[2001:db8::3]:1"),
];
const CHANNELS: [u16; 4] = [0x3fff, 0x4000, 0x5000, 0x7fff];

struct ModelAllocation {
    call: CallId,
    leg: u16,
    a: u8,
    at: SocketAddr,
    channels: BTreeMap<u16, SocketAddr>,
    /// In milliseconds.
    expires: u64,
}

impl ModelAllocation {
    fn address(&self) -> SocketAddr {
        ([203, 0, 113, self.a], 1024 + self.leg).into()
    }
}

#[derive(Default)]
struct Model {
    allocations: Vec<ModelAllocation>,
    last: BTreeMap<(CallId, u16), u8>,
    ended: Vec<CallId>,
    left: Vec<(CallId, u16)>,
    now: u64,
}

impl Model {
    fn at(&self, at: SocketAddr) -> Option<&ModelAllocation> {
        self.allocations.iter().find(|a| a.at == at)
    }

    fn end(&mut self, gone: impl Fn(&ModelAllocation) -> bool) {
        self.allocations.retain(|a| !gone(a));
    }

    /// Which codes are right for a request that asks nothing of its call yet; none: it is for its method to say.
    fn barred(&self, client: &Client, allocate: bool) -> Vec<u16> {
        if self.ended.contains(&client.call) {
            vec![if allocate { 403 } else { 437 }]
        } else if self.left.contains(&(client.call, client.leg.get())) {
            // That the leg is gone, or that it has no allocation: both are so.
            if allocate { vec![403] } else { vec![403, 437, 441] }
        } else {
            vec![]
        }
    }

    fn owned(&self, client: &Client) -> u16 {
        match self.at(client.at) {
            None => 437,
            Some(a) if (a.call, a.leg) == (client.call, client.leg.get()) => 0,
            Some(_) => 441,
        }
    }

    /// Gives the allocation number.
    fn allocate(&mut self, client: &Client, lifetime: u64) -> u8 {
        let (key, expires) = ((client.call, client.leg.get()), self.now + lifetime * 1_000);
        if self.owned(client) == 0 {
            let own = self.allocations.iter_mut().find(|a| a.at == client.at).unwrap();
            own.expires = expires;
            return own.a;
        }
        self.end(|a| a.at == client.at);
        let last = self.last.entry(key).or_default();
        *last = *last % 250 + 1;
        let (a, channels) = (*last, BTreeMap::new());
        self.allocations.push(ModelAllocation { call: key.0, leg: key.1, a, at: client.at, channels, expires });
        a
    }

    fn bind(&mut self, client: &Client, channel: u16, peer: SocketAddr) -> Vec<u16> {
        let outside = peer.port() == 80;
        let formal = match (channel, outside) {
            (0x3fff, true) => vec![400, 403],
            (0x3fff, false) => vec![400],
            (_, true) => vec![403],
            (_, false) => vec![],
        };
        let owned = self.owned(client);
        if !formal.is_empty() {
            // Two things are wrong: which of them is said first is open.
            return if owned == 0 { formal } else { [formal, vec![owned]].concat() };
        }
        if owned != 0 {
            return vec![owned];
        }
        let channels = &mut self.allocations.iter_mut().find(|a| a.at == client.at).unwrap().channels;
        match channels.get(&channel) {
            Some(bound) if *bound == peer => vec![0],
            Some(_) => vec![400],
            None if channels.values().any(|bound| *bound == peer) => vec![400],
            None => {
                channels.insert(channel, peer);
                vec![0]
            }
        }
    }

    /// Where media from `at` to `peer` goes, and as what: on a channel, or as an indication from an address.
    fn route(&self, at: SocketAddr, peer: SocketAddr) -> Option<(SocketAddr, Result<u16, SocketAddr>)> {
        let from = self.at(at)?;
        let to = self.allocations.iter().find(|a| a.call == from.call && a.address() == peer)?;
        let channel = to.channels.iter().find(|(_, bound)| **bound == from.address());
        Some((to.at, channel.map(|(number, _)| *number).ok_or(from.address())))
    }
}

#[derive(Debug, Clone)]
enum Act {
    Allocate(u32),
    Refresh(u32),
    Permit(SocketAddr),
    Bind(u16, SocketAddr),
    Send(u16),
    Indicate(SocketAddr),
    Pass(u64),
    FailOver,
    Restore,
    EndCall,
    Leave,
}

fn peer() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        12 => (1_u8..4, 1_u16..4).prop_map(|(a, n)| ([203, 0, 113, a], 1024 + n).into()),
        1 => Just(addr("203.0.113.254:65535")),
        1 => Just(addr("198.51.100.2:80")),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let lifetime = prop_oneof![Just(1_u32), Just(600), Just(900), Just(3_600), Just(9_999)];
    prop_oneof![
        8 => lifetime.clone().prop_map(Act::Allocate),
        3 => prop_oneof![1 => Just(0_u32), 2 => lifetime].prop_map(Act::Refresh),
        1 => peer().prop_map(Act::Permit),
        8 => (0_usize..4, peer()).prop_map(|(n, peer)| Act::Bind(CHANNELS[n], peer)),
        10 => (0_usize..4).prop_map(|n| Act::Send(CHANNELS[n])),
        8 => peer().prop_map(Act::Indicate),
        4 => prop_oneof![1_u64..2_000, 100_000_u64..700_000, Just(3_600_000)].prop_map(Act::Pass),
        1 => Just(Act::FailOver),
        1 => Just(Act::Restore),
        1 => prop_oneof![1 => Just(Act::EndCall), 2 => Just(Act::Leave)],
    ]
}

/// A relay, the model of it, and the clients.
struct Game {
    relay: Relay,
    model: Model,
    clients: Vec<Client>,
}

impl Game {
    fn new(echo: Echo) -> Self {
        let mut relay = Relay::new();
        relay.store.echo = echo;
        let calls = CALLS.map(|(n, legs)| relay.create(n, legs));
        let mut clients: Vec<Client> = SOCKETS
            .iter()
            .map(|(call, n, at)| Client::with_ticket(&relay, calls[*call], *n, at, (0, 2), 86_000))
            .collect();
        clients.iter_mut().for_each(|client| client.learn_nonce(&mut relay));
        Self { relay, model: Model::default(), clients }
    }

    fn play(&mut self, who: usize, act: &Act) -> Result<(), TestCaseError> {
        let Self { relay, model, clients } = self;
        let client = &mut clients[who];
        match act {
            Act::Allocate(secs) => {
                let reply =
                    client.ask(relay, kind::ALLOCATE, &[Part::udp(), Part::lifetime(*secs)]).expect("an answer");
                let barred = model.barred(client, true);
                if barred.is_empty() {
                    let granted = secs.clamp(&600, &3_600);
                    let a = model.allocate(client, u64::from(*granted));
                    let relayed = SocketAddr::from(([203, 0, 113, a], 1024 + client.leg.get()));
                    prop_assert_eq!((reply.code, reply.relayed), (0, Some(relayed)));
                    prop_assert_eq!((reply.lifetime, reply.mapped), (Some(*granted), Some(client.at)));
                } else {
                    prop_assert!(barred.contains(&reply.code), "{} of {:?}", reply.code, barred);
                }
            }
            Act::Refresh(secs) => {
                let reply = client.ask(relay, kind::REFRESH, &[Part::lifetime(*secs)]).expect("an answer");
                let mut right = model.barred(client, false);
                if right.is_empty() {
                    right.push(model.owned(client));
                }
                prop_assert!(right.contains(&reply.code), "{} of {:?}", reply.code, right);
                if reply.code == 0 {
                    let granted = if *secs == 0 { 0 } else { secs.clamp(&600, &3_600).to_owned() };
                    prop_assert_eq!(reply.lifetime, Some(granted));
                    let expires = model.now + u64::from(granted) * 1_000;
                    model.allocations.iter_mut().filter(|a| a.at == client.at).for_each(|a| a.expires = expires);
                }
            }
            Act::Permit(peer) => {
                let code = client.permit(relay, &peer.to_string()).expect("an answer");
                let mut right = model.barred(client, false);
                if right.is_empty() {
                    let owned = model.owned(client);
                    right.extend(if peer.port() == 80 { vec![403, owned] } else { vec![owned] });
                    right.retain(|code| peer.port() != 80 || *code != 0);
                }
                prop_assert!(right.contains(&code), "{code} of {right:?}");
            }
            Act::Bind(channel, peer) => {
                let code = client.bind(relay, *channel, &peer.to_string()).expect("an answer");
                let mut right = model.barred(client, false);
                if right.is_empty() {
                    right = model.bind(client, *channel, *peer);
                }
                prop_assert!(right.contains(&code), "{code} of {right:?}");
            }
            Act::Send(channel) => {
                let bound = model.at(client.at).and_then(|a| a.channels.get(channel));
                let route = bound.and_then(|peer| model.route(client.at, *peer));
                let sent = client.send(relay, *channel, b"payload");
                check_route(&sent, route)?;
            }
            Act::Indicate(peer) => {
                let route = model.route(client.at, *peer);
                let sent = client.indicate(relay, &peer.to_string(), b"payload");
                check_route(&sent, route)?;
            }
            Act::Pass(millis) => {
                prop_assert!(relay.pass(*millis).is_empty(), "time alone sends nothing");
                model.now += millis;
            }
            Act::FailOver => {
                relay.fail_over();
                let hour = model.now + 3_600_000;
                model.allocations.iter_mut().for_each(|a| a.expires = hour);
            }
            Act::Restore => relay.restore(),
            Act::EndCall => {
                if !model.ended.contains(&client.call) {
                    relay.end(client.call);
                    model.ended.push(client.call);
                    model.end(|a| a.call == client.call);
                }
            }
            Act::Leave => {
                let (call, leg) = (client.call, client.leg.get());
                if !model.ended.contains(&call) && !model.left.contains(&(call, leg)) {
                    relay.leave(call, leg);
                    model.left.push((call, leg));
                    model.end(|a| (a.call, a.leg) == (call, leg));
                }
            }
        }
        let now = self.model.now;
        self.model.end(|a| a.expires <= now);
        for (_, _, at) in SOCKETS {
            let owner = self.relay.owner(addr(at)).map(|o| (o.call, o.leg.get(), o.allocation.get()));
            prop_assert_eq!(owner, self.model.at(addr(at)).map(|a| (a.call, a.leg, a.a)), "who has {}", at);
        }
        prop_assert_eq!(self.relay.engine.switch().allocations(), self.model.allocations.len());
        Ok(())
    }
}

fn check_route(sent: &[Sent], route: Option<(SocketAddr, Result<u16, SocketAddr>)>) -> Result<(), TestCaseError> {
    let Some((to, how)) = route else {
        prop_assert!(sent.is_empty(), "nobody is there");
        return Ok(());
    };
    prop_assert_eq!(sent.len(), 1);
    prop_assert_eq!(sent[0].to, to);
    let expected = match how {
        Ok(channel) => model::channel_data(channel, b"payload"),
        Err(from) => {
            let parts = [Part::Addr(attr::PEER, from), Part::data(b"payload")];
            model::encode(kind::DATA, model::transaction_of(&sent[0].bytes), &parts)
        }
    };
    prop_assert_eq!(&sent[0].bytes, &expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]
    #[test]
    fn whatever_clients_do_the_relay_does_what_a_naive_model_says(
        acts in prop::collection::vec((0_usize..SOCKETS.len(), act()), 1..80),
        echo in prop_oneof![Just(Echo::Never), Just(Echo::BeforeTheAnswer), Just(Echo::AfterTheAnswer)],
    ) {
        let mut game = Game::new(echo);
        for (who, act) in acts {
            game.play(who, &act)?;
        }
    }
}
