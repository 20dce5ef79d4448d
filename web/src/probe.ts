// Looks at a running peer connection every 20 ms and keeps what it saw. What it means is gap.ts and stats.ts.
//
// How exact the times are (Chromium 156, measured):
// - getSynchronizationSources is not cached. For audio it says to 1 ms when the newest packet's sound was handed to
//   playout; for video, at which screen refresh (17 ms) the newest frame was handed over. No frame is missed at 20 ms.
// - requestVideoFrameCallback says to 0.1 ms when a frame's last packet came in, but leaves out every other frame
//   when the machine is busy.
// - getStats answers from a cache for about 50 ms, so `lastPacketReceivedTimestamp`, exact in itself, is seen only
//   every 50 to 70 ms.
// So: sources first, the other two as bounds.

import { Capped } from "./capped.ts";
import { nowMs, sinceEpochMs } from "./clock.ts";
import { readingIntervalMax, reportKind } from "./gap.ts";
import { ARRIVALS_MAX, SAMPLE_INTERVAL_MS, SAMPLES_MAX } from "./limits.ts";
import { reduceStats, type StatsEntry } from "./stats.ts";
import type { Frame, Kind, KindReport, Probe, SideReport, Snapshot, TandemEvent } from "./tandem";

/** What the report adds from elsewhere in the page. */
export interface Context {
  call_id: string | null;
  leg: number | null;
  events: readonly TandemEvent[];
}

export class PageProbe implements Probe {
  readonly #context: () => Context;
  readonly #samples = new Capped<Snapshot>(SAMPLES_MAX);
  readonly #played = { audio: new Capped<number>(ARRIVALS_MAX), video: new Capped<number>(ARRIVALS_MAX) };
  readonly #frames = new Capped<Frame>(ARRIVALS_MAX);
  #stop: AbortController | null = null;

  constructor(context: () => Context) {
    this.#context = context;
  }

  get running(): boolean {
    return this.#stop !== null;
  }

  get samples(): readonly Snapshot[] {
    return this.#samples.items;
  }

  get frames(): readonly Frame[] {
    return this.#frames.items;
  }

  /** Samples this peer connection and the frames of this element until `stop`. Forgets the peer connection before. */
  start(pc: RTCPeerConnection, video: HTMLVideoElement): void {
    this.stop();
    for (const kept of [this.#samples, this.#played.audio, this.#played.video, this.#frames]) kept.clear();
    const stop = new AbortController();
    this.#stop = stop;

    let reading = false;
    const timer = setInterval(() => {
      this.#readSources(pc);
      if (reading) return;
      reading = true;
      snapshotOf(pc)
        .then((sample) => {
          if (!stop.signal.aborted) this.#samples.push(sample);
        })
        .catch(() => undefined)
        .finally(() => {
          reading = false;
        });
    }, SAMPLE_INTERVAL_MS);
    stop.signal.addEventListener("abort", () => clearInterval(timer));
    this.#watchFrames(video, stop.signal);
  }

  /** Ends the sampling; what was seen stays for reports. */
  stop(): void {
    this.#stop?.abort();
    this.#stop = null;
  }

  mark(): number {
    return nowMs();
  }

  report(since_ms: number): SideReport {
    const until_ms = nowMs();
    const { call_id, leg, events } = this.#context();
    const samples = this.#samples.items;
    const window = samples.filter((s) => s.at_ms >= since_ms);
    const pairs: string[] = [];
    for (const { pair_id, pair } of window) {
      const text = `${pair_id ?? "none"}: ${pair ?? "none"}`;
      if (text !== pairs.at(-1)) pairs.push(text);
    }
    const framesReceived = this.#frames.items.map((f) => f.received_at_ms).filter((at) => at !== null);
    const kind = (which: Kind): KindReport => {
      const times = { played: this.#played[which].items, frames_received: which === "video" ? framesReceived : [] };
      return reportKind(which, samples, times, since_ms, until_ms);
    };
    const shown = this.#frames.items.filter((f) => f.presented_at_ms >= since_ms).map((f) => f.presented);
    return {
      since_ms,
      until_ms,
      call_id,
      leg,
      samples: window.length,
      sample_interval_ms_max: readingIntervalMax(samples, since_ms),
      frames_shown: (shown.at(-1) ?? 0) - (shown[0] ?? 0),
      dropped:
        this.#samples.dropped + this.#played.audio.dropped + this.#played.video.dropped + this.#frames.dropped,
      pairs,
      audio: kind("audio"),
      video: kind("video"),
      events: events.filter((e) => e.at_ms >= since_ms),
    };
  }

  #readSources(pc: RTCPeerConnection): void {
    for (const receiver of pc.getReceivers()) {
      const newest = receiver.getSynchronizationSources().reduce((t, s) => Math.max(t, sinceEpochMs(s.timestamp)), 0);
      const times = receiver.track.kind === "audio" ? this.#played.audio : this.#played.video;
      if (newest > (times.last ?? 0)) times.push(newest);
    }
  }

  #watchFrames(video: HTMLVideoElement, signal: AbortSignal): void {
    if (!("requestVideoFrameCallback" in video)) return;
    const next: VideoFrameRequestCallback = (_now, frame) => {
      if (signal.aborted) return;
      this.#frames.push({
        received_at_ms: frame.receiveTime === undefined ? null : sinceEpochMs(frame.receiveTime),
        presented_at_ms: sinceEpochMs(frame.presentationTime),
        presented: frame.presentedFrames,
      });
      handle = video.requestVideoFrameCallback(next);
    };
    let handle = video.requestVideoFrameCallback(next);
    signal.addEventListener("abort", () => video.cancelVideoFrameCallback(handle));
  }
}

/** One reading of a peer connection. */
export async function snapshotOf(pc: RTCPeerConnection): Promise<Snapshot> {
  const report = await pc.getStats();
  const entries: StatsEntry[] = [];
  report.forEach((entry: StatsEntry) => entries.push(entry));
  const states = { connection_state: pc.connectionState, ice_connection_state: pc.iceConnectionState };
  return reduceStats(entries, states, nowMs());
}
