// The contract between this page and the harness: `window.tandem`, and the shapes it hands out.
// Times are milliseconds since 1970 on the clock of the browser (`performance.timeOrigin + now()`).

export type Kind = "audio" | "video";

export type TandemEventType =
  | "connectionstatechange"
  | "iceconnectionstatechange"
  | "icegatheringstatechange"
  | "signalingstatechange"
  | "selectedcandidatepairchange"
  | "icecandidateerror"
  | "negotiation"
  | "signaling"
  | "page";

export interface TandemEvent {
  at_ms: number;
  /** Counts the peer connections of this tab from 1; 0 before the first. */
  round: number;
  type: TandemEventType;
  detail: string;
}

/** What `inbound-rtp` says about one kind at one moment. Counters run from the start of the peer connection. */
export interface KindCounters {
  packets_received: number;
  packets_lost: number;
  bytes_received: number;
  /** When the newest packet came in, if the browser tells. */
  last_packet_at_ms: number | null;
  /** Video only, else 0. */
  frames_decoded: number;
  /** Audio only, else 0. Rises only while there is sound. */
  audio_energy: number;
}

/** One reading of all that is measured. */
export interface Snapshot {
  /** When it was read. */
  at_ms: number;
  /** When the browser took it: Chromium answers from a cache for about 50 ms. */
  taken_at_ms: number;
  connection_state: RTCPeerConnectionState;
  ice_connection_state: RTCIceConnectionState;
  pair_id: string | null;
  /** `relay 203.0.113.2:1025 <-> relay 203.0.113.1:1026`: local first. */
  pair: string | null;
  rtt_ms: number | null;
  bytes_sent: number;
  /** Share of our packets that the other side reports lost, 0..1. */
  loss_out: number | null;
  audio: KindCounters | null;
  video: KindCounters | null;
}

/** How a gap was measured, from the best source to the coarsest. */
export type GapSource =
  /**
   * Times at which a packet's content was handed to the ear or the eye (getSynchronizationSources).
   * Audio to 1 ms; video to one screen refresh, 17 ms; both read every 20 ms, so no frame is missed.
   */
  | "played"
  /**
   * Times at which the last packet of a shown frame came in (requestVideoFrameCallback, `receiveTime`).
   * Exact to 0.1 ms, but under load the browser calls back for one frame in two: an upper bound.
   */
  | "frame_received"
  /** `lastPacketReceivedTimestamp` in getStats: exact in itself, but seen only every 50 to 70 ms. */
  | "packet_received";

export interface Gap {
  gap_ms: number;
  from_ms: number;
  to_ms: number;
  /** Nothing had come by the end of the report: the gap goes on. */
  open: boolean;
}

export interface KindReport {
  /** The longest time without media since the mark, by the most exact source there is. */
  longest: Gap | null;
  source: GapSource | null;
  /** How far the gap may be from the truth. */
  resolution_ms: number;
  /** The same from the packet counters, as bounds: the truth lies between. */
  packet_gap_at_least_ms: number | null;
  packet_gap_at_most_ms: number | null;
  /** Video: the longest time between shown frames by when they came in; the truth is this or less. */
  frame_gap_at_most_ms: number | null;
  /** Change since the mark. */
  packets_received: number;
  packets_lost: number;
  frames_decoded: number;
  audio_energy: number;
}

export interface SideReport {
  since_ms: number;
  until_ms: number;
  call_id: string | null;
  leg: number | null;
  /** Readings of the probe since the mark, and the longest time between two of them. */
  samples: number;
  sample_interval_ms_max: number;
  /** Frames shown since the mark, by the browser's count; it includes those without a callback. */
  frames_shown: number;
  /** Records dropped at a cap since the probe started. */
  dropped: number;
  /** Every selected pair since the mark, in order; one, if it never changed. */
  pairs: string[];
  audio: KindReport;
  video: KindReport;
  events: TandemEvent[];
}

export interface Frame {
  /** Null where the browser does not tell (Firefox, for some streams). */
  received_at_ms: number | null;
  presented_at_ms: number;
  /** Jumps by more than one where callbacks were left out. */
  presented: number;
}

export interface Probe {
  /** Is a peer connection being sampled? It is, from its first state change to its end. */
  readonly running: boolean;
  readonly samples: readonly Snapshot[];
  /** When each frame that requestVideoFrameCallback told of came in, and the count of frames shown until then. */
  readonly frames: readonly Frame[];
  /** The present moment, for `report`. */
  mark(): number;
  report(since_ms: number): SideReport;
}

export interface TandemHooks {
  readonly pc: RTCPeerConnection | null;
  readonly call_id: string | null;
  readonly leg: number | null;
  readonly events: readonly TandemEvent[];
  readonly probe: Probe;
  /** A reading made now, or null without a peer connection. */
  snapshot(): Promise<Snapshot | null>;
}

declare global {
  interface Window {
    tandem: TandemHooks;
  }
}
