import { expect, test } from "vitest";
import { lossIn, rates, reduceStats, type StatsEntry } from "./stats.ts";

const STATES = { connection_state: "connected", ice_connection_state: "connected" } as const;

const CANDIDATES: StatsEntry[] = [
  { id: "L", type: "local-candidate", candidateType: "relay", address: "203.0.113.2", port: 1025 },
  { id: "R", type: "remote-candidate", candidateType: "relay", address: "203.0.113.1", port: 1026 },
  { id: "H", type: "local-candidate", candidateType: "host", address: "fd00::2", port: 5000 },
];

const PAIR: StatsEntry = {
  id: "P",
  type: "candidate-pair",
  localCandidateId: "L",
  remoteCandidateId: "R",
  currentRoundTripTime: 0.0035,
};

const INBOUND: StatsEntry[] = [
  {
    id: "A",
    type: "inbound-rtp",
    kind: "audio",
    timestamp: 980,
    packetsReceived: 50,
    packetsLost: 2,
    bytesReceived: 4_000,
    lastPacketReceivedTimestamp: 975.5,
    totalAudioEnergy: 0.25,
  },
  {
    id: "V",
    type: "inbound-rtp",
    kind: "video",
    timestamp: 980,
    packetsReceived: 148,
    packetsLost: 0,
    bytesReceived: 96_000,
    lastPacketReceivedTimestamp: 960,
    framesDecoded: 60,
  },
];

test("the pair that the transport names is shown with both ends", () => {
  const other = { ...PAIR, id: "Q", localCandidateId: "H" };
  const transport = { id: "T", type: "transport", selectedCandidatePairId: "P" };
  const snapshot = reduceStats([...CANDIDATES, other, PAIR, transport], STATES, 1_000);
  expect(snapshot).toMatchObject({
    pair_id: "P",
    pair: "relay 203.0.113.2:1025 <-> relay 203.0.113.1:1026",
    rtt_ms: 3.5,
  });
});

test("without a transport the pair that marks itself is shown, as in Firefox", () => {
  const other = { ...PAIR, id: "Q", selected: false };
  const snapshot = reduceStats([...CANDIDATES, other, { ...PAIR, selected: true }], STATES, 1_000);
  expect(snapshot.pair_id).toBe("P");
});

test("a pair that is not selected is not shown", () => {
  expect(reduceStats([...CANDIDATES, PAIR], STATES, 1_000)).toMatchObject({ pair: null, pair_id: null, rtt_ms: null });
});

test("an IPv6 end is written in brackets", () => {
  const transport = { id: "T", type: "transport", selectedCandidatePairId: "P" };
  const snapshot = reduceStats([...CANDIDATES, { ...PAIR, localCandidateId: "H" }, transport], STATES, 1_000);
  expect(snapshot.pair).toBe("host [fd00::2]:5000 <-> relay 203.0.113.1:1026");
});

test("counters of both kinds are taken over, with the time the browser took them", () => {
  const snapshot = reduceStats(INBOUND, STATES, 1_000);
  expect(snapshot.taken_at_ms).toBe(980);
  expect(snapshot.audio).toMatchObject({ packets_received: 50, last_packet_at_ms: 975.5, audio_energy: 0.25 });
  expect(snapshot.video).toMatchObject({ frames_decoded: 60, bytes_received: 96_000 });
});

test("members that are missing or of another type count as nothing", () => {
  const odd = [{ id: "A", type: "inbound-rtp", kind: "audio", packetsReceived: "many", lastPacketReceivedTimestamp: NaN }];
  expect(reduceStats(odd, STATES, 1_000).audio).toMatchObject({ packets_received: 0, last_packet_at_ms: null });
});

test("an empty report is a snapshot without figures", () => {
  expect(reduceStats([], STATES, 1_000)).toMatchObject({ pair: null, audio: null, video: null, taken_at_ms: 1_000 });
});

test("loss going out is the worse of the two kinds", () => {
  const remote = [
    { id: "1", type: "remote-inbound-rtp", fractionLost: 0.01 },
    { id: "2", type: "remote-inbound-rtp", fractionLost: 0.2 },
  ];
  expect(reduceStats(remote, STATES, 0).loss_out).toBe(0.2);
});

test("rates are bits a second between two snapshots", () => {
  const before = reduceStats([...INBOUND, { id: "O", type: "outbound-rtp", bytesSent: 0 }], STATES, 1_000);
  const later = INBOUND.map((e) => ({ ...e, timestamp: 1_480, bytesReceived: 100_000 }));
  const after = reduceStats([...later, { id: "O", type: "outbound-rtp", bytesSent: 62_500 }], STATES, 1_500);
  expect(rates(before, after)).toEqual({ in_bps: 1_600_000, out_bps: 1_000_000 });
});

test("there is no rate when time stands still or the counters began anew", () => {
  const snapshot = reduceStats(INBOUND, STATES, 1_000);
  expect(rates(snapshot, snapshot)).toBeNull();
  const anew = reduceStats(INBOUND.map((e) => ({ ...e, timestamp: 2_000, bytesReceived: 0 })), STATES, 2_000);
  expect(rates(snapshot, anew)).toBeNull();
});

test("loss coming in is the share of all packets that should have come", () => {
  expect(lossIn(reduceStats(INBOUND, STATES, 0))).toEqual({ lost: 2, of: 200, share: 0.01 });
  expect(lossIn(reduceStats([], STATES, 0))).toEqual({ lost: 0, of: 0, share: 0 });
});

test("a negative count of losses, from late duplicates, is no loss", () => {
  const odd = INBOUND.map((e) => ({ ...e, packetsLost: -3 }));
  expect(lossIn(reduceStats(odd, STATES, 0)).lost).toBe(0);
});
