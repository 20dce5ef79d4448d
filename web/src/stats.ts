// Decides what a browser's statistics report says: reduces it to one `Snapshot`, and two snapshots to rates.
// Pure; which report, and when, is the probe's.

import type { KindCounters, Kind, Snapshot } from "./tandem";

/** One entry of an RTCStatsReport. Browsers differ in what they fill in, so every member is looked at before use. */
export type StatsEntry = Readonly<Record<string, unknown>>;

export interface States {
  connection_state: RTCPeerConnectionState;
  ice_connection_state: RTCIceConnectionState;
}

export function reduceStats(entries: Iterable<StatsEntry>, states: States, at_ms: number): Snapshot {
  const byId = new Map<string, StatsEntry>();
  for (const entry of entries) {
    const id = text(entry["id"]);
    if (id !== null) byId.set(id, entry);
  }
  const all = [...byId.values()];
  const pair = selectedPair(all, byId);
  const inbound = (kind: Kind): KindCounters | null => {
    const found = all.find((e) => e["type"] === "inbound-rtp" && e["kind"] === kind);
    return found === undefined ? null : counters(found);
  };
  const outbound = all.filter((e) => e["type"] === "outbound-rtp");
  const rtt = pair === null ? null : number(pair["currentRoundTripTime"]);
  return {
    at_ms,
    taken_at_ms: number(all.find((e) => e["type"] === "inbound-rtp")?.["timestamp"]) ?? at_ms,
    ...states,
    pair_id: pair === null ? null : text(pair["id"]),
    pair: pair === null ? null : pairText(pair, byId),
    rtt_ms: rtt === null ? null : rtt * 1000,
    bytes_sent: outbound.reduce((sum, e) => sum + (number(e["bytesSent"]) ?? 0), 0),
    loss_out: lossOut(all),
    audio: inbound("audio"),
    video: inbound("video"),
  };
}

/** The transport names its pair (Chromium); Firefox marks the pair itself. */
function selectedPair(all: readonly StatsEntry[], byId: ReadonlyMap<string, StatsEntry>): StatsEntry | null {
  for (const transport of all.filter((e) => e["type"] === "transport")) {
    const named = byId.get(text(transport["selectedCandidatePairId"]) ?? "");
    if (named !== undefined) return named;
  }
  const pairs = all.filter((e) => e["type"] === "candidate-pair");
  return pairs.find((e) => e["selected"] === true) ?? null;
}

function pairText(pair: StatsEntry, byId: ReadonlyMap<string, StatsEntry>): string {
  const end = (id: unknown): string => {
    const candidate = byId.get(text(id) ?? "");
    if (candidate === undefined) return "unknown";
    const address = text(candidate["address"]) ?? "hidden";
    const shown = address.includes(":") ? `[${address}]` : address;
    return `${text(candidate["candidateType"]) ?? "unknown"} ${shown}:${number(candidate["port"]) ?? "?"}`;
  };
  return `${end(pair["localCandidateId"])} <-> ${end(pair["remoteCandidateId"])}`;
}

function counters(entry: StatsEntry): KindCounters {
  return {
    packets_received: number(entry["packetsReceived"]) ?? 0,
    packets_lost: number(entry["packetsLost"]) ?? 0,
    bytes_received: number(entry["bytesReceived"]) ?? 0,
    last_packet_at_ms: number(entry["lastPacketReceivedTimestamp"]),
    frames_decoded: number(entry["framesDecoded"]) ?? 0,
    audio_energy: number(entry["totalAudioEnergy"]) ?? 0,
  };
}

/** The worse of audio and video: a mean would hide it. */
function lossOut(all: readonly StatsEntry[]): number | null {
  const fractions = all
    .filter((e) => e["type"] === "remote-inbound-rtp")
    .map((e) => number(e["fractionLost"]))
    .filter((f) => f !== null);
  return fractions.length === 0 ? null : Math.max(...fractions);
}

export interface Rates {
  in_bps: number;
  out_bps: number;
}

/** Bits a second between two snapshots of the same peer connection; null when time did not move or counters went back. */
export function rates(before: Snapshot, after: Snapshot): Rates | null {
  const seconds = (after.taken_at_ms - before.taken_at_ms) / 1000;
  const bytes_in = bytesReceived(after) - bytesReceived(before);
  const bytes_out = after.bytes_sent - before.bytes_sent;
  if (seconds <= 0 || bytes_in < 0 || bytes_out < 0) return null;
  return { in_bps: (bytes_in * 8) / seconds, out_bps: (bytes_out * 8) / seconds };
}

function bytesReceived(s: Snapshot): number {
  return (s.audio?.bytes_received ?? 0) + (s.video?.bytes_received ?? 0);
}

export interface Loss {
  lost: number;
  of: number;
  /** 0..1 */
  share: number;
}

/** Packets that never came, of all that should have. Late duplicates can make a browser's count negative: then none. */
export function lossIn(s: Snapshot): Loss {
  const received = (s.audio?.packets_received ?? 0) + (s.video?.packets_received ?? 0);
  const lost = Math.max(0, (s.audio?.packets_lost ?? 0) + (s.video?.packets_lost ?? 0));
  const of = received + lost;
  return { lost, of, share: of === 0 ? 0 : lost / of };
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
