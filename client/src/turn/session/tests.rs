//! A session against a relay of a few lines, in time that the test makes.

use std::net::SocketAddr;

use super::*;

const REALM: &[u8] = b"tndm";

/// A relay that knows one client. It answers what it is told to answer.
pub(in crate::turn) struct Relay {
    nonce: Vec<u8>,
    allocated: bool,
    octet: u8,
}

impl Relay {
    pub(in crate::turn) fn new() -> Self {
        Self { nonce: b"first".to_vec(), allocated: false, octet: 1 }
    }

    fn key() -> LongTermKey {
        long_term_key(b"user", REALM, b"password")
    }

    pub(in crate::turn) fn answer(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let message = Message::parse(bytes).unwrap();
        if message.class != Class::Request {
            return None;
        }
        let mut out = [0; 256];
        let (method, transaction) = (message.method, message.transaction);
        let challenge = |code: u16, nonce: &[u8], out: &mut [u8]| {
            Writer::new(out, Class::Error, method, transaction)
                .error_code(code)
                .attribute(attr::REALM, REALM)
                .attribute(attr::NONCE, nonce)
                .finish()
        };
        let success = |out| Writer::new(out, Class::Success, method, transaction);
        let refuse = |code, out| Writer::new(out, Class::Error, method, transaction).error_code(code);
        let lifetime = &600_u32.to_be_bytes();
        let len = if !message.verify(&Self::key()) {
            challenge(401, &self.nonce, &mut out)
        } else if message.attributes.nonce != Some(&self.nonce) {
            challenge(438, &self.nonce, &mut out)
        } else if method == Method::Allocate {
            self.allocated = true;
            let relayed = VirtualAddr { octet: self.octet, port: 1_025 };
            success(&mut out)
                .address(attr::XOR_RELAYED_ADDRESS, relayed.socket_addr().into())
                .attribute(attr::LIFETIME, lifetime)
                .integrity(&Self::key())
                .finish()
        } else if !self.allocated {
            refuse(437, &mut out).integrity(&Self::key()).finish()
        } else {
            success(&mut out).attribute(attr::LIFETIME, lifetime).integrity(&Self::key()).finish()
        };
        Some(out[..len.unwrap()].to_vec())
    }
}

struct Bench {
    session: Session,
    now: Instant,
    drawn: u8,
}

impl Bench {
    fn new() -> Self {
        let session = Session::new(Secret::new(b"user".to_vec()), Secret::new(b"password".to_vec()));
        Self { session, now: Instant::now(), drawn: 0 }
    }

    /// What the session sends now.
    fn sent(&mut self) -> Option<Vec<u8>> {
        let mut out = [0; 512];
        self.drawn += 1;
        let len = self.session.poll(self.now, [self.drawn; 12], &mut out)?;
        Some(out[..len].to_vec())
    }

    /// Everything that it asks now is answered; the methods that were asked for.
    fn settle(&mut self, relay: &mut Relay) -> Vec<Method> {
        let mut methods = Vec::new();
        while let Some(request) = self.sent() {
            methods.push(Message::parse(&request).unwrap().method);
            if let Some(answer) = relay.answer(&request) {
                self.session.handle(self.now, &answer);
            }
        }
        methods
    }

    fn wait(&mut self) {
        self.now = self.session.next_deadline().unwrap();
    }

    fn connected(relay: &mut Relay) -> Self {
        let mut bench = Self::new();
        bench.settle(relay);
        bench.session.follow(VirtualAddr { octet: 1, port: 1_026 }, bench.now);
        bench.settle(relay);
        bench
    }
}

#[tokio::test]
async fn it_allocates_with_what_the_relay_asks_for_binds_and_permits() {
    let (mut bench, mut relay) = (Bench::new(), Relay::new());
    assert_eq!(bench.settle(&mut relay), [Method::Allocate, Method::Allocate]);
    assert_eq!(bench.session.relayed(), Some(VirtualAddr { octet: 1, port: 1_025 }));
    assert_eq!(bench.session.channel(), None);
    bench.session.follow(VirtualAddr { octet: 1, port: 1_026 }, bench.now);
    assert_eq!(bench.settle(&mut relay), [Method::ChannelBind, Method::CreatePermission]);
    assert_eq!(bench.session.channel(), Some(0x4000));
    // It comes back elsewhere.
    bench.session.follow(VirtualAddr { octet: 2, port: 1_026 }, bench.now);
    assert_eq!(bench.session.channel(), None);
    assert_eq!(bench.settle(&mut relay), [Method::ChannelBind, Method::CreatePermission]);
    assert_eq!(bench.session.channel(), Some(0x4001));
}

#[tokio::test]
async fn an_address_that_it_comes_back_to_has_the_channel_that_it_had() {
    let mut relay = Relay::new();
    let mut bench = Bench::connected(&mut relay);
    bench.session.follow(VirtualAddr { octet: 2, port: 1_026 }, bench.now);
    bench.settle(&mut relay);
    bench.session.follow(VirtualAddr { octet: 1, port: 1_026 }, bench.now);
    assert_eq!(bench.session.channel(), None, "it may have run out meanwhile");
    assert_eq!(bench.settle(&mut relay), [Method::ChannelBind, Method::CreatePermission]);
    assert_eq!(bench.session.channel(), Some(0x4000));
}

#[tokio::test]
async fn every_address_that_is_reached_gets_a_channel_of_its_own_and_keeps_it() {
    let (mut bench, mut relay) = (Bench::new(), Relay::new());
    let at = |octet| VirtualAddr { octet, port: 1_026 };
    for octet in [1, 2, 2, 1, 3] {
        assert!(bench.session.reach(at(octet), bench.now));
    }
    let asked = bench.settle(&mut relay);
    assert_eq!(asked.iter().filter(|asked| **asked == Method::ChannelBind).count(), 3);
    let channels = [(at(1), 0x4000), (at(2), 0x4001), (at(3), 0x4002)];
    assert_eq!(bench.session.channels().collect::<Vec<_>>(), channels);
    assert_eq!(bench.session.handle(bench.now, &[0x40, 1, 0, 1, 7]), Some((at(2), &[7][..])));
    // Nobody is followed: none of them is the one.
    assert_eq!(bench.session.channel(), None);
    let (began, mut asked) = (bench.now, Vec::new());
    while bench.now - began < limits::CHANNEL_EVERY {
        bench.wait();
        asked.extend(bench.settle(&mut relay));
    }
    assert_eq!(asked.iter().filter(|asked| **asked == Method::ChannelBind).count(), 3);
    // A relay that forgot it is asked for all of them, long before they are due again.
    relay.allocated = false;
    let (began, mut asked) = (bench.now, Vec::new());
    while bench.now - began < Duration::from_secs(300) {
        bench.wait();
        asked.extend(bench.settle(&mut relay));
    }
    assert_eq!(asked.iter().filter(|asked| **asked == Method::ChannelBind).count(), 3);
    assert_eq!(bench.session.channels().collect::<Vec<_>>(), channels);
}

#[tokio::test]
async fn there_are_as_many_channels_as_a_relay_gives_and_one_more_is_refused() {
    let mut bench = Bench::connected(&mut Relay::new());
    for port in 1..limits::CHANNELS {
        assert!(bench.session.reach(VirtualAddr { octet: 2, port }, bench.now));
    }
    assert!(!bench.session.reach(VirtualAddr { octet: 3, port: 1 }, bench.now));
    assert!(bench.session.reach(VirtualAddr { octet: 2, port: 1 }, bench.now), "it has one");
    assert_eq!((bench.session.over(), bench.session.channel()), (None, Some(0x4000)));
    bench.session.follow(VirtualAddr { octet: 3, port: 1 }, bench.now);
    assert_eq!(bench.session.over(), Some(TurnError::Channels));
}

#[tokio::test]
async fn a_request_without_an_answer_is_sent_seven_times_within_20_seconds_with_the_same_bytes() {
    let mut bench = Bench::new();
    let (began, first) = (bench.now, bench.sent().unwrap());
    let mut at = vec![0];
    while bench.session.over().is_none() {
        bench.wait();
        if let Some(bytes) = bench.sent() {
            assert_eq!(bytes, first);
            at.push((bench.now - began).as_millis());
        }
    }
    assert_eq!(at, [0, 250, 750, 1_750, 3_750, 7_750, 15_750]);
    assert_eq!((bench.now - began).as_millis(), 19_750);
    assert_eq!(bench.session.over(), Some(TurnError::Silent));
}

#[tokio::test]
async fn what_runs_is_renewed_and_outlives_a_relay_that_is_silent_for_minutes() {
    let mut relay = Relay::new();
    let mut bench = Bench::connected(&mut relay);
    let began = bench.now;
    let mut asked = Vec::new();
    while bench.now - began < Duration::from_secs(500) {
        bench.wait();
        asked.extend(bench.settle(&mut relay));
    }
    for (method, times) in
        [(Method::CreatePermission, 2), (Method::Refresh, 1), (Method::ChannelBind, 1), (Method::Allocate, 0)]
    {
        assert_eq!(asked.iter().filter(|asked| **asked == method).count(), times, "{method:?}");
    }
    assert!(asked.iter().filter(|asked| **asked == Method::Binding).count() > 20);
    // Nobody answers for five minutes; then the same transport goes on.
    let began = bench.now;
    while bench.now - began < Duration::from_secs(300) {
        bench.wait();
        while bench.sent().is_some() {}
        assert_eq!((bench.session.over(), bench.session.channel()), (None, Some(0x4000)));
    }
    relay.nonce = b"second".to_vec();
    let (began, mut asked) = (bench.now, Vec::new());
    while bench.now - began < limits::CHANNEL_EVERY {
        bench.wait();
        asked.extend(bench.settle(&mut relay));
    }
    for method in [Method::CreatePermission, Method::Refresh, Method::ChannelBind] {
        assert!(asked.contains(&method), "{method:?} is asked for: {asked:?}");
    }
    assert_eq!(bench.session.channel(), Some(0x4000));
}

#[tokio::test]
async fn a_relay_that_forgot_it_is_asked_for_another_allocation() {
    let mut relay = Relay::new();
    let mut bench = Bench::connected(&mut relay);
    (relay.allocated, relay.octet) = (false, 9);
    let began = bench.now;
    while bench.now - began < Duration::from_secs(300) {
        bench.wait();
        bench.settle(&mut relay);
    }
    assert_eq!(bench.session.relayed(), Some(VirtualAddr { octet: 9, port: 1_025 }));
    assert_eq!(bench.session.channel(), Some(0x4000));
}

#[tokio::test]
async fn an_answer_that_is_not_signed_changes_nothing() {
    let (mut bench, mut relay) = (Bench::new(), Relay::new());
    let request = bench.sent().unwrap();
    bench.session.handle(bench.now, &relay.answer(&request).unwrap());
    let request = bench.sent().unwrap();
    let transaction = Message::parse(&request).unwrap().transaction;
    let mut out = [0; 128];
    let evil: SocketAddr = "203.0.113.7:1029".parse().unwrap();
    for key in [[0; 16], [1; 16]] {
        let writer = Writer::new(&mut out, Class::Success, Method::Allocate, transaction);
        let len = writer.address(attr::XOR_RELAYED_ADDRESS, evil).integrity(&key).finish().unwrap();
        bench.session.handle(bench.now, &out[..len]);
        let writer = Writer::new(&mut out, Class::Error, Method::Allocate, transaction);
        let len = writer.error_code(403).integrity(&key).finish().unwrap();
        bench.session.handle(bench.now, &out[..len]);
    }
    assert_eq!((bench.session.relayed(), bench.session.over()), (None, None));
    bench.session.handle(bench.now, &relay.answer(&request).unwrap());
    assert!(bench.session.relayed().is_some());
}

#[tokio::test]
async fn a_relay_that_never_likes_a_nonce_is_given_up() {
    let mut bench = Bench::new();
    let mut asked = 0;
    while let Some(request) = bench.sent() {
        asked += 1;
        let mut relay = Relay { nonce: vec![asked], ..Relay::new() };
        bench.session.handle(bench.now, &relay.answer(&request).unwrap());
    }
    assert_eq!(bench.session.over(), Some(TurnError::Refused(438)));
    assert_eq!(u32::from(asked), limits::CHALLENGES + 1);
}

#[tokio::test]
async fn packets_come_out_of_channels_and_indications_and_nothing_else_does() {
    let mut bench = Bench::connected(&mut Relay::new());
    let (now, there) = (bench.now, VirtualAddr { octet: 1, port: 1_026 });
    assert_eq!(bench.session.handle(now, &[0x40, 0, 0, 2, b'h', b'i', 0, 0]), Some((there, &b"hi"[..])));
    let mut out = [0; 128];
    let peer: SocketAddr = "203.0.113.1:1026".parse().unwrap();
    let writer = Writer::new(&mut out, Class::Indication, Method::Data, [9; 12]);
    let len = writer.address(attr::XOR_PEER_ADDRESS, peer).attribute(attr::DATA, b"hi").finish().unwrap();
    assert_eq!(bench.session.handle(now, &out[..len]), Some((there, &b"hi"[..])));
    for nothing in [&[][..], &[0x40], &[0x40, 0, 0, 9, 1], &[0x40, 1, 0, 1, 1], &[0x80; 40], &[0; 40], &[20; 40]] {
        assert_eq!(bench.session.handle(now, nothing), None);
    }
}

#[tokio::test]
async fn closing_gives_the_allocation_back() {
    let mut relay = Relay::new();
    let mut bench = Bench::connected(&mut relay);
    bench.session.close();
    let request = bench.sent().unwrap();
    assert_eq!(Message::parse(&request).unwrap().attributes.lifetime, Some(0));
    bench.session.handle(bench.now, &relay.answer(&request).unwrap());
    assert_eq!(bench.session.over(), Some(TurnError::Closed));
}
