import { expect, test } from "vitest";
import { longestGap, packetGap, readingIntervalMax, reportKind, resolutionMs } from "./gap.ts";
import type { KindCounters, Snapshot } from "./tandem";

function counters(over: Partial<KindCounters>): KindCounters {
  return {
    packets_received: 0,
    packets_lost: 0,
    bytes_received: 0,
    last_packet_at_ms: null,
    frames_decoded: 0,
    audio_energy: 0,
    ...over,
  };
}

function sample(at_ms: number, audio: Partial<KindCounters> | null, taken_at_ms = at_ms): Snapshot {
  return {
    at_ms,
    taken_at_ms,
    connection_state: "connected",
    ice_connection_state: "connected",
    pair_id: "p",
    pair: "relay a:1 <-> relay b:2",
    rtt_ms: 1,
    bytes_sent: 0,
    loss_out: null,
    audio: audio === null ? null : counters(audio),
    video: null,
  };
}

const NO_TIMES = { played: [], frames_received: [] };

test("the longest gap is the one between the two arrivals furthest apart", () => {
  expect(longestGap([0, 20, 40, 360, 380], 0, 390)).toEqual({ gap_ms: 320, from_ms: 40, to_ms: 360, open: false });
});

test("a gap that began before the mark counts when it ends after it", () => {
  expect(longestGap([0, 300, 320], 100, 330)?.gap_ms).toBe(300);
});

test("a gap that ended before the mark does not count", () => {
  expect(longestGap([0, 300, 320, 340], 310, 345)?.gap_ms).toBe(20);
});

test("silence up to the end of the report is an open gap", () => {
  expect(longestGap([0, 20, 40], 0, 5_040)).toEqual({ gap_ms: 5_000, from_ms: 40, to_ms: 5_040, open: true });
});

test("arrivals after the end of the report are not looked at", () => {
  expect(longestGap([0, 20, 900], 0, 100)).toEqual({ gap_ms: 80, from_ms: 20, to_ms: 100, open: true });
});

test("without any arrival there is no gap to speak of", () => {
  expect(longestGap([], 0, 100)).toBeNull();
  expect(longestGap([200], 0, 100)).toBeNull();
});

test("readings of the newest packet bound the gap from both sides", () => {
  // Packets every 20 ms until 100; silence until 400; the browser's figures are renewed at 60, 120, 180 ... 420, 480.
  const samples = [
    sample(60, { last_packet_at_ms: 60 }),
    sample(120, { last_packet_at_ms: 100 }),
    sample(180, { last_packet_at_ms: 100 }),
    sample(390, { last_packet_at_ms: 100 }),
    sample(450, { last_packet_at_ms: 440 }),
    sample(510, { last_packet_at_ms: 500 }),
  ];
  const gap = packetGap(samples, "audio", 0, 520);
  expect(gap).toEqual({ at_least_ms: 290, at_most_ms: 340 });
  // The true gap, 100 to 400, lies between.
});

test("a reading out of the cache does not lengthen the silence that is sure", () => {
  const samples = [
    sample(100, { last_packet_at_ms: 100 }),
    // Read at 140, but taken at 100: it says nothing about the 40 ms in between.
    sample(140, { last_packet_at_ms: 100 }, 100),
    sample(155, { last_packet_at_ms: 155 }),
  ];
  expect(packetGap(samples, "audio", 0, 155)).toEqual({ at_least_ms: 0, at_most_ms: 55 });
});

test("packets that never come again leave a silence at least as long as it was watched", () => {
  const samples = [sample(100, { last_packet_at_ms: 95 }), sample(5_095, { last_packet_at_ms: 95 })];
  expect(packetGap(samples, "audio", 100, 5_100)).toEqual({ at_least_ms: 5_000, at_most_ms: 5_005 });
});

test("a kind that never came has no packet gap", () => {
  expect(packetGap([sample(0, null), sample(20, null)], "audio", 0, 40)).toBeNull();
});

test("a report counts from the last sample before the mark", () => {
  const samples = [
    sample(0, { packets_received: 10, packets_lost: 1, audio_energy: 1 }),
    sample(90, { packets_received: 14, packets_lost: 1, audio_energy: 1.5 }),
    sample(200, { packets_received: 20, packets_lost: 4, audio_energy: 2 }),
  ];
  const report = reportKind("audio", samples, NO_TIMES, 100, 210);
  expect(report).toMatchObject({ packets_received: 6, packets_lost: 3, audio_energy: 0.5 });
});

test("the best source that there is states the gap", () => {
  const samples = [sample(0, { last_packet_at_ms: 0 }), sample(100, { last_packet_at_ms: 90 })];
  const played = { played: [0, 20, 70], frames_received: [0, 95] };
  const report = reportKind("audio", samples, played, 0, 100);
  expect(report).toMatchObject({ source: "played", frame_gap_at_most_ms: 95, packet_gap_at_most_ms: 90 });
  expect(report.longest?.gap_ms).toBe(50);

  const frames = reportKind("audio", samples, { ...played, played: [] }, 0, 100);
  expect(frames.source).toBe("frame_received");

  const packets = reportKind("audio", samples, NO_TIMES, 0, 100);
  expect(packets.source).toBe("packet_received");
  expect(packets.longest?.gap_ms).toBe(90);

  const nothing = reportKind("video", samples, NO_TIMES, 0, 100);
  expect(nothing).toMatchObject({ source: null, longest: null, packet_gap_at_most_ms: null });
});

test("late readings make the stated resolution coarser", () => {
  const samples = [sample(0, null), sample(20, null), sample(140, null)];
  expect(readingIntervalMax(samples, 0)).toBe(120);
  expect(resolutionMs("played", "audio", 20)).toBe(21);
  expect(resolutionMs("played", "audio", 120)).toBe(121);
});
