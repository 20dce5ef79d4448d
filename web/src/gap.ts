// Decides how long media was away: pure arithmetic over times and counters that the probe collected.
// It knows no browser; which times are the most exact is the probe's choice, named in `Arrivals.source`.

import { SAMPLE_INTERVAL_MS } from "./limits.ts";
import type { Gap, GapSource, Kind, KindCounters, KindReport, Snapshot } from "./tandem";

/** The times at which media of one kind came, oldest first. */
export interface Arrivals {
  source: GapSource;
  at_ms: readonly number[];
}

/** What the probe collected about one kind besides the counters. */
export interface Times {
  /** From getSynchronizationSources. */
  played: readonly number[];
  /** From requestVideoFrameCallback; empty for audio. */
  frames_received: readonly number[];
}

/** One screen refresh at 60 Hz: frames are handed over at refreshes. */
const REFRESH_MS = 17;

/** How far a gap from this source may be off; for sources read on a timer, a late reading adds to it. */
export function resolutionMs(source: GapSource, kind: Kind, reading_interval_ms: number): number {
  const reading = Math.max(reading_interval_ms, SAMPLE_INTERVAL_MS);
  switch (source) {
    case "played":
      return (kind === "audio" ? 1 : REFRESH_MS) + reading;
    case "frame_received":
      return 0.1;
    case "packet_received":
      return 50 + reading;
  }
}

/**
 * The longest time without an arrival that reaches into `since_ms..until_ms`.
 * It may begin before `since_ms`, and it is open if nothing came after its start.
 * Null if nothing ever arrived before `until_ms`.
 */
export function longestGap(at_ms: readonly number[], since_ms: number, until_ms: number): Gap | null {
  let previous: number | null = null;
  let longest: Gap | null = null;
  for (const at of at_ms) {
    if (at > until_ms) break;
    if (previous !== null && at >= since_ms && at - previous > (longest?.gap_ms ?? -1)) {
      longest = { gap_ms: at - previous, from_ms: previous, to_ms: at, open: false };
    }
    previous = at;
  }
  if (previous !== null && until_ms - previous > (longest?.gap_ms ?? -1)) {
    longest = { gap_ms: until_ms - previous, from_ms: previous, to_ms: until_ms, open: true };
  }
  return longest;
}

export interface PacketGap {
  at_least_ms: number;
  at_most_ms: number;
}

/**
 * Bounds of the longest time between two packets, from readings of "when did the newest packet come".
 * Between two different values L1, L2 no packet is missed before the last reading that still said L1
 * (at least that long), and the first packet after it came no later than L2 (at most that long).
 */
export function packetGap(samples: readonly Snapshot[], kind: Kind, since_ms: number, until_ms: number): PacketGap | null {
  let newest: number | null = null;
  let silent_until = 0;
  let at_least = -1;
  let at_most = -1;
  for (const sample of samples) {
    if (sample.taken_at_ms > until_ms) break;
    const last = sample[kind]?.last_packet_at_ms ?? null;
    if (last === null) continue;
    if (newest !== null && last > newest && last >= since_ms) {
      at_least = Math.max(at_least, silent_until - newest);
      at_most = Math.max(at_most, last - newest);
    }
    if (newest === null || last >= newest) {
      newest = last;
      silent_until = Math.max(sample.taken_at_ms, last);
    }
  }
  if (newest === null) return null;
  if (silent_until >= since_ms) at_least = Math.max(at_least, silent_until - newest);
  at_most = Math.max(at_most, until_ms - newest);
  return { at_least_ms: Math.max(at_least, 0), at_most_ms: at_most };
}

/** All that can be said about one kind between a mark and the present. */
export function reportKind(
  kind: Kind,
  samples: readonly Snapshot[],
  times: Times,
  since_ms: number,
  until_ms: number,
): KindReport {
  const packets = packetGap(samples, kind, since_ms, until_ms);
  const used = best(times, samples, kind);
  const counters = since(samples, kind, since_ms);
  return {
    longest: used === null ? null : longestGap(used.at_ms, since_ms, until_ms),
    source: used?.source ?? null,
    resolution_ms: used === null ? 0 : resolutionMs(used.source, kind, readingIntervalMax(samples, since_ms)),
    packet_gap_at_least_ms: packets?.at_least_ms ?? null,
    packet_gap_at_most_ms: packets?.at_most_ms ?? null,
    frame_gap_at_most_ms: longestGap(times.frames_received, since_ms, until_ms)?.gap_ms ?? null,
    packets_received: counters.packets_received,
    packets_lost: counters.packets_lost,
    frames_decoded: counters.frames_decoded,
    audio_energy: counters.audio_energy,
  };
}

/** The best source that this browser has. */
function best(times: Times, samples: readonly Snapshot[], kind: Kind): Arrivals | null {
  if (times.played.length > 0) return { source: "played", at_ms: times.played };
  if (times.frames_received.length > 0) return { source: "frame_received", at_ms: times.frames_received };
  return packetArrivals(samples, kind);
}

/** The coarsest source: every value that "newest packet" was seen to have. */
function packetArrivals(samples: readonly Snapshot[], kind: Kind): Arrivals | null {
  const at_ms: number[] = [];
  for (const sample of samples) {
    const last = sample[kind]?.last_packet_at_ms ?? null;
    if (last !== null && last > (at_ms.at(-1) ?? -Infinity)) at_ms.push(last);
  }
  return at_ms.length === 0 ? null : { source: "packet_received", at_ms };
}

/** The longest pause between two readings since the mark: the timer is late when the machine is busy. */
export function readingIntervalMax(samples: readonly Snapshot[], since_ms: number): number {
  let longest = 0;
  let previous: number | null = null;
  for (const { at_ms } of samples) {
    if (previous !== null && at_ms >= since_ms) longest = Math.max(longest, at_ms - previous);
    previous = at_ms;
  }
  return longest;
}

type Delta = Pick<KindCounters, "packets_received" | "packets_lost" | "frames_decoded" | "audio_energy">;

/** How far the counters moved between the last sample before the mark (else the first after it) and the newest. */
function since(samples: readonly Snapshot[], kind: Kind, since_ms: number): Delta {
  let base: KindCounters | null = null;
  let newest: KindCounters | null = null;
  for (const sample of samples) {
    const counters = sample[kind];
    if (counters === null) continue;
    if (base === null || sample.at_ms <= since_ms) base = counters;
    newest = counters;
  }
  if (base === null || newest === null) {
    return { packets_received: 0, packets_lost: 0, frames_decoded: 0, audio_energy: 0 };
  }
  return {
    packets_received: newest.packets_received - base.packets_received,
    packets_lost: newest.packets_lost - base.packets_lost,
    frames_decoded: newest.frames_decoded - base.frames_decoded,
    audio_energy: newest.audio_energy - base.audio_energy,
  };
}
