//! A fleet over a network that fails: cables, one direction of them, a part of the packets; and what strangers on that network
//! send. Each process is in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stderr, reason = "says what was measured")]

#[path = "../xtask/src/namespaces.rs"]
mod namespaces;
#[path = "support/network.rs"]
mod network;
mod support;
#[path = "support/turn.rs"]
mod turn;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::{Command, Stdio};

use namespaces::{PUBLIC, Topology, fed, remove_leftovers, standing};
use network::{Fleet, TUNNEL_PORT, TURN, address, channel_data, relay};
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, sendto, socket_with};
use support::until;
use tandem_net::clock;
use tandem_wire::id::BucketId;
use tandem_wire::redact::ClientAddr;
use tandem_wire::stun::{Class, Method, Writer};
use tandem_wire::tunnel::{Cookie, Head, Probe};

/// Whatever comes from a part.
fn from(part: &str) -> String {
    format!("ip saddr {}", address(part))
}

#[test]
fn a_network_is_built_beside_others_and_removes_what_a_crashed_run_left() {
    let Some(topology) = network::built() else { return };
    let mut ended = Command::new("true").spawn().unwrap();
    let gone = ended.id();
    ended.wait().unwrap();
    // Another run, which ends when we do.
    let mut running = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let [left, others] = [gone, running.id()].map(|maker| format!("tandem-net-{maker}-lb"));
    for name in [&left, &others] {
        fed("ip", &["netns", "add", name], "").unwrap();
    }
    let names = || standing().unwrap().into_iter().map(|one| one.name).collect::<Vec<_>>();
    let ours = topology.namespace("lb");
    assert!([&left, &others, &ours].iter().all(|name| names().contains(name)));
    drop(topology);
    assert!(!names().contains(&ours), "it is torn down");
    let panicked = std::panic::catch_unwind(|| {
        let _again = Topology::build().unwrap();
        assert!(names().contains(&ours) && !names().contains(&left) && names().contains(&others), "{:?}", names());
        panic!("on purpose");
    });
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"on purpose"));
    assert!(!names().contains(&ours), "torn down after a panic too");
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(remove_leftovers().unwrap() > 0 && !names().contains(&others), "that one is garbage too, now");
}

#[test]
fn a_call_goes_on_when_a_cable_is_pulled_or_loses_one_direction_and_nothing_breaks_when_it_is_back() {
    let Some(mut fleet) = Fleet::start() else { return };
    let talk = fleet.pair().talk();
    let moved = |had: u64| fleet.is_down(had) && fleet.relay_of(talk.bucket) != had;
    let first = fleet.relay_of(talk.bucket);
    fleet.gap(&talk, "the relay's cable is pulled", || fleet.plug(&relay(first), false), || moved(first));
    // When it has answered well for a second it is told that it is taken for down, and has a new table written.
    let back = |relay: u64| fleet.relay_of(talk.bucket) == relay;
    fleet.gap(
        &talk,
        "it is plugged in again, and has its calls back",
        || fleet.plug(&relay(first), true),
        || back(first),
    );

    let cut = || fleet.drops(&relay(first), &[from("lb")]);
    fleet.gap(&talk, "nothing of the load balancer's reaches the relay", cut, || moved(first));
    fleet.gap(&talk, "it does again", || fleet.drops(&relay(first), &[]), || back(first));

    let cut = || fleet.drops("lb", &[from(&relay(first))]);
    fleet.gap(&talk, "nothing of the relay's reaches the load balancer", cut, || moved(first));
    // It goes on hearing probes: that nobody hears it, it cannot know.
    let before = fleet.metric(&relay(first), PROBES);
    until("it is still probed", || (fleet.metric(&relay(first), PROBES) > before).then_some(()));
    fleet.gap(&talk, "it is heard again", || fleet.drops("lb", &[]), || back(first));

    // Another run of it fills first, and then has the call again.
    fleet.restart(first);
    until("the call is back", || (fleet.relay_of(talk.bucket) == first).then_some(()));
    fleet.gap(&talk, "a relay was started anew", || (), || true);
    assert_eq!(talk.strange(), 0);
}

const DIRECT: &str = "tandem_relay_returned_packets_total{path=\"direct\"}";

/// What has gone to clients past the load balancer, and through it.
fn returned(fleet: &Fleet) -> (u64, u64) {
    let direct = (1..=4).filter(|id| fleet.runs(*id)).map(|id| fleet.metric(&relay(id), DIRECT)).sum();
    (direct, fleet.watched("lb"))
}

/// Media goes past the load balancer, and nothing through it: for 400 packets on end. Where a relay stands still because its
/// machine does, others act for it at once, and what proves their clients goes through once more.
fn goes_direct(fleet: &Fleet, what: &str) {
    until(&format!("{what}: the load balancer sends nothing to clients"), || {
        let before = returned(fleet);
        until(what, || (returned(fleet).0 > before.0 + 400).then_some(()));
        let after = returned(fleet);
        eprintln!("{what}: {} packets past the load balancer, {} through it", after.0 - before.0, after.1 - before.1);
        (after.1 == before.1).then_some(())
    });
}

#[test]
fn over_direct_return_the_load_balancer_sends_nothing_of_a_call_whose_relay_is_killed_but_the_first_packets_after() {
    let Some(fleet) = Fleet::start_direct() else { return };
    fleet.watch("lb", &format!("ip saddr {PUBLIC} udp sport 3478"));
    // What proves nobody is answered directly, and from where it was asked for.
    let answer = fleet.within("clients", || {
        let mut buffer = [0; 64];
        let len = Writer::new(&mut buffer, Class::Request, Method::Binding, [7; 12]).finish().unwrap();
        let socket = UdpSocket::bind((address("clients"), 0)).unwrap();
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        socket.send_to(&buffer[..len], TURN).unwrap();
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        (from, len, buffer[0])
    });
    assert_eq!((answer, fleet.watched("lb")), ((TURN, 32, 1), 0));

    let pair = fleet.pair();
    // Two to Allocate and two to ChannelBind.
    assert_eq!(fleet.watched("lb"), 4, "what proves a client goes through");
    let talk = pair.talk();
    goes_direct(&fleet, "a call");
    let first = fleet.relay_of(talk.bucket);
    let through = fleet.watched("lb");
    let moved = || fleet.is_down(first) && fleet.relay_of(talk.bucket) != first;
    fleet.gap(&talk, "its relay is killed", || fleet.kill(first), moved);
    let through = fleet.watched("lb") - through;
    eprintln!("until the next relay had heard both clients, {through} packets went through the load balancer");
    assert!(through < 40, "a fifth of a second's at most");
    goes_direct(&fleet, "at the next relay");

    let before = fleet.watched("lb");
    let serves = || fleet.serves(fleet.relay_of(talk.bucket));
    fleet.gap(
        &talk,
        "the load balancer is killed, and the next one has learned nothing",
        || fleet.restart_lb(),
        serves,
    );
    assert_eq!(fleet.watched("lb"), before, "the relay knows where its clients speak to");
    goes_direct(&fleet, "beside the next load balancer");
    assert_eq!(talk.strange(), 0);
}

/// L06, with a real network.
#[test]
fn a_relay_that_loses_thirty_percent_is_taken_out_within_ten_seconds() {
    let Some(fleet) = Fleet::start() else { return };
    let talk = fleet.pair().talk();
    let had = fleet.relay_of(talk.bucket);
    let began = clock::now().mono;
    let lossy = || fleet.drops(&relay(had), &[format!("{} numgen random mod 100 < 30", from("lb"))]);
    fleet.gap(&talk, "a relay loses 30 %", lossy, || fleet.is_down(had));
    let took = clock::now().mono.since(began).as_millis();
    eprintln!("a relay that loses 30 % of what comes is taken out after {took} ms: {}", fleet.seen(had)["state"]);
    assert!(took < 10_000);
    assert_ne!(fleet.relay_of(talk.bucket), had);
}

/// One way alone is as bad as both: what is asked of the store is not heard there, or its answers do not come.
#[test]
fn a_relay_that_the_store_does_not_hear_of_is_taken_from_the_table_and_comes_back_as_another_run() {
    cut_off_from_the_store("in both directions", |state, relay| [state, relay].map(str::to_owned).to_vec());
}

#[test]
fn a_relay_whose_words_do_not_reach_the_store_is_taken_from_the_table_and_comes_back_as_another_run() {
    cut_off_from_the_store("on the way to it", |state, _| vec![state.to_owned()]);
}

#[test]
fn a_relay_that_does_not_hear_the_store_is_taken_from_the_table_and_comes_back_as_another_run() {
    cut_off_from_the_store("on the way from it", |_, relay| vec![relay.to_owned()]);
}

/// `deaf`: which of the two, the state server and the relay, hear nothing of the other.
fn cut_off_from_the_store(how: &str, deaf: impl Fn(&str, &str) -> Vec<String>) {
    let Some(fleet) = Fleet::start() else { return };
    let talk = fleet.pair().talk();
    let had = fleet.relay_of(talk.bucket);
    let before = fleet.seen(had)["incarnation"].as_u64().unwrap();
    let deaf = deaf("state", &relay(had));
    let other = |part: &str| if part == "state" { relay(had) } else { "state".to_owned() };
    let cut = || deaf.iter().for_each(|part| fleet.drops(part, &[from(&other(part))]));
    let began = clock::now().mono;
    let out = || fleet.seen(had).is_null() && fleet.relay_of(talk.bucket) != had;
    fleet.gap(&talk, &format!("a relay is away from the store {how}, and out of the table"), cut, out);
    eprintln!("it was taken from the table after {} ms", clock::now().mono.since(began).as_millis());
    let began = clock::now().mono;
    let mend = || deaf.iter().for_each(|part| fleet.drops(part, &[]));
    let back = || fleet.serves(had) && fleet.relay_of(talk.bucket) == had;
    fleet.gap(&talk, "it is back, and has its calls again", mend, back);
    eprintln!("it served again after {} ms", clock::now().mono.since(began).as_millis());
    assert!(fleet.seen(had)["incarnation"].as_u64().unwrap() > before, "another run");
    assert_eq!(talk.strange(), 0);
}

#[test]
fn packets_of_any_size_that_a_path_takes_go_through_and_those_in_pieces_go_whole_or_not_at_all() {
    let Some(fleet) = Fleet::start() else { return };
    let pair = fleet.pair();
    let had = relay(fleet.relay_of(pair.bucket));
    // The paths here take 1,500 B: 1,436 of a client's, a head of 36, and headers of IP and UDP, 28.
    for (len, whole) in [(1, true), (1_400 - 4, true), (1_436 - 4, true), (1_437 - 4, false), (1_472 - 4, false)] {
        let before = ["lb", &had].map(|part| fleet.ip_counter(part, "FragCreates"));
        assert!(pair.carries(len), "{len} B go both ways");
        let after = ["lb", &had].map(|part| fleet.ip_counter(part, "FragCreates"));
        let pieces = [after[0] - before[0], after[1] - before[1]];
        eprintln!("a client's packet of {} B: {pieces:?} pieces in the tunnel, there and back", len + 4);
        assert_eq!(pieces == [0, 0], whole, "{len}");
    }

    // L05. A packet of a client that comes in pieces: what fits a slot goes through whole, and what does not goes nowhere.
    assert!(pair.carries(1_944 - 4));
    let dropped = |cause| fleet.metric("lb", &format!("tandem_lb_dropped_packets_total{{cause=\"{cause}\"}}"));
    assert_eq!((dropped("too_long"), dropped("oversized")), (0, 0));
    pair.clients[0].send(0x4001, &[7; 1_945 - 4]);
    pair.clients[0].send(0x4001, &[7; 3_000]);
    until("they are counted", || ((dropped("too_long"), dropped("oversized")) == (1, 1)).then_some(()));

    // By hand: the first piece alone, the last alone, and both.
    let client = ipv4(pair.clients[0].socket.local_addr().unwrap());
    let said = channel_data(&[9; 200]);
    let datagram = [&udp_header(client, ipv4(TURN), said.len())[..], &said].concat();
    let first = |id| ip_packet(*client.ip(), id, MORE, &datagram[..104]);
    let last = |id| ip_packet(*client.ip(), id, 104 / 8, &datagram[104..]);
    let came = fleet.ip_counter("lb", "ReasmReqds");
    fleet.within("clients", || send_raw(&[first(1), last(2)]));
    assert_eq!(fleet.ip_counter("lb", "ReasmReqds") - came, 2, "they arrived");
    assert!(pair.carries(100), "what comes next is what was sent next");
    fleet.within("clients", || send_raw(&[first(3), last(3)]));
    assert_eq!(pair.hears(1), Some(vec![9; 200]), "the two are a packet");
    assert!(pair.carries(100));

    // Somebody says that the way to a client, and the way to its relay, take 600 bytes (ICMP 3, 4): packets go on, whole or in
    // pieces, to whom they went before.
    let others = fleet.pair();
    let tunnel = SocketAddrV4::new(address(&had), TUNNEL_PORT);
    let line = fleet.within("lb", || line_to(tunnel));
    let narrow = [(ipv4(TURN), client), (line, tunnel)].map(|(from, to)| {
        let quoted = [&ip_packet_to(*from.ip(), *to.ip(), 9, 0, &[])[..], &udp_header(from, to, 1_400)].concat();
        too_big(Ipv4Addr::new(10, 87, 0, 1), *from.ip(), 600, &quoted)
    });
    let came = fleet.icmp_counter("lb", "InDestUnreachs");
    fleet.within("clients", || send_raw(&narrow));
    until("it is heard", || (fleet.icmp_counter("lb", "InDestUnreachs") - came == 2).then_some(()));
    for len in [100, 596, 1_100, 1_400 - 4] {
        assert!(pair.carries(len) && others.carries(len), "{len} B go both ways");
    }
    assert_eq!((dropped("too_long"), dropped("oversized")), (1, 1));
}

/// ICMP: a packet of ours was too big for a path that takes so many bytes (RFC 1191).
fn too_big(from: Ipv4Addr, to: Ipv4Addr, mtu: u16, quoted: &[u8]) -> Vec<u8> {
    let mut icmp = [&[3, 4, 0, 0, 0, 0][..], &mtu.to_be_bytes(), quoted].concat();
    let words = icmp.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = ip_packet_to(from, to, 0, 0, &icmp);
    packet[9] = 1;
    packet
}

/// L04. Nobody but the load balancer and the relays knows a cookie.
#[test]
fn heads_from_strangers_and_borrowed_addresses_do_nothing() {
    let Some(fleet) = Fleet::start() else { return };
    let talk = fleet.pair().talk();
    let had = fleet.relay_of(talk.bucket);
    let tunnel = SocketAddrV4::new(address(&relay(had)), TUNNEL_PORT);
    let client = ClientAddr::new("10.87.0.2:4000".parse().unwrap());
    let head = Head::to_relay(client, BucketId(7), 1, Cookie::from_bits(0x5eed));
    let heads = [
        head,
        Head { acting: true, epoch: u32::MAX, ..head },
        Head { hops: 1, ..head },
        Head { probe: true, ..head },
        Head { back: true, ..head },
        Head { back: true, leaving: true, ..head },
        Head { back: true, proven: true, ..head },
        Head { back: true, probe: true, ..head },
    ];
    // A probe's echo would name a later run of the relay.
    let echo = Probe { incarnation: u64::MAX, ..Probe::read(&[0; 24]).unwrap() }.to_bytes();
    let tails = [&[][..], &echo, &channel_data(&[9; 100])];
    let forged: Vec<Vec<u8>> =
        heads.iter().flat_map(|head| tails.iter().map(|tail| [&head.to_bytes()[..], tail].concat())).collect();
    let count = forged.len() as u64;
    let lb = |cause: &str| fleet.metric("lb", &format!("tandem_lb_dropped_packets_total{{cause=\"{cause}\"}}"));
    let foreign = || fleet.metric(&relay(had), "tandem_relay_dropped_packets_total{cause=\"foreign\"}");
    let comes = |what: &str, wanted: u64, now: &dyn Fn() -> u64| until(what, || (now() >= wanted).then_some(()));

    // From a client, to the public port and to a relay.
    fleet.within("clients", || {
        let socket = UdpSocket::bind((address("clients"), 4_000)).unwrap();
        for bytes in &forged {
            socket.send_to(bytes, TURN).unwrap();
            socket.send_to(bytes, tunnel).unwrap();
        }
    });
    comes("no client sends heads", count, &|| lb("not_ours"));
    comes("no relay takes them", count, &foreign);

    // As if they came from the relay: to the public port, and to the load balancer's own end of the tunnel.
    let line = fleet.within("lb", || line_to(tunnel));
    let sends = |from: SocketAddrV4, to: SocketAddrV4, datagrams: &[Vec<u8>]| {
        let packet = |bytes: &Vec<u8>| {
            ip_packet_to(*from.ip(), *to.ip(), 0, 0, &[&udp_header(from, to, bytes.len())[..], bytes].concat())
        };
        fleet.within("clients", || send_raw(&datagrams.iter().map(packet).collect::<Vec<_>>()));
    };
    sends(tunnel, ipv4(TURN), &forged);
    comes("no relay sends heads there", 2 * count, &|| lb("not_ours"));
    sends(tunnel, line, &forged);
    comes("nobody but the relay has its cookie", count, &|| lb("wrong_cookie") + lb("not_back"));
    assert!(lb("wrong_cookie") > 0);
    // What would be answered, to whoever is named as its sender.
    let mut buffer = [0; 64];
    let len = Writer::new(&mut buffer, Class::Request, Method::Binding, [7; 12]).finish().unwrap();
    let asked = [buffer[..len].to_vec()];
    sends(tunnel, ipv4(TURN), &asked);
    // The kernel takes nothing that names an address of its own as its sender: it is sent all the same.
    sends(ipv4(TURN), ipv4(TURN), &asked);
    comes("no relay asks", 1, &|| lb("our_own_source"));

    for cause in ["leaving", "replaced"] {
        assert_eq!(fleet.metric("lb", &format!("tandem_lb_failovers_total{{cause=\"{cause}\"}}")), 0);
    }
    fleet.gap(&talk, "strangers sent heads", || (), || true);
    assert_eq!(talk.strange(), 0);
}

const PROBES: &str = "tandem_relay_probes_total";
/// The flag of a piece that is not the last.
const MORE: u16 = 0x2000;

fn ipv4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => panic!("IPv6"),
    }
}

/// A UDP header without checksum, which IPv4 allows.
fn udp_header(from: SocketAddrV4, to: SocketAddrV4, len: usize) -> [u8; 8] {
    let mut header = [0; 8];
    for (place, number) in header.chunks_mut(2).zip([from.port(), to.port(), len as u16 + 8]) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    header
}

/// A packet, or a piece of one, for the public address.
fn ip_packet(from: Ipv4Addr, id: u16, fragment: u16, data: &[u8]) -> Vec<u8> {
    ip_packet_to(from, PUBLIC, id, fragment, data)
}

/// The kernel fills the checksum in.
fn ip_packet_to(from: Ipv4Addr, to: Ipv4Addr, id: u16, fragment: u16, data: &[u8]) -> Vec<u8> {
    let [id, fragment, len] = [id, fragment, 20 + data.len() as u16].map(u16::to_be_bytes);
    let start = [[0x45, 0], len, id, fragment, [64, 17], [0, 0]].concat();
    [&start[..], &from.octets(), &to.octets(), data].concat()
}

fn send_raw(packets: &[Vec<u8>]) {
    let raw = Some(Protocol::from_raw(std::num::NonZeroU32::new(255).unwrap()));
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, raw).unwrap();
    for packet in packets {
        let to = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap());
        sendto(&socket, packet, SendFlags::empty(), &SocketAddrV4::new(to, 0)).unwrap();
    }
}

/// This end of the socket that is connected to `peer`.
fn line_to(peer: SocketAddrV4) -> SocketAddrV4 {
    // Addresses are 32 bits in the machine's order, in hexadecimal digits.
    let text =
        |address: SocketAddrV4| format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let local = row.filter(|row| row[2] == text(peer)).map(|row| row[1].to_owned()).next().expect("a line");
    let (ip, port) = local.split_once(':').unwrap();
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).unwrap().to_ne_bytes());
    SocketAddrV4::new(ip, u16::from_str_radix(port, 16).unwrap())
}
