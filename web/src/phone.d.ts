// The contract between the phone and the browser tests: `window.phone`, and the words it uses.
// Times are milliseconds since 1970 on the clock of the browser (`performance.timeOrigin + now()`).

import type { Probe } from "./tandem";

/** The same word stands in `data-screen` of the root element. */
export type Screen =
  | "sign-in"
  /** This device waits until its account's first one lets it in. */
  | "pending"
  | "home"
  | "outgoing"
  | "incoming"
  | "media"
  /** The peer has another identity: the call waits until the person has confirmed it. */
  | "identity"
  | "call"
  | "ended";

/** Why a call is over, or why there is none. The same word stands in `data-cause` of the ended screen. */
export type Cause =
  | "declined"
  | "busy"
  | "no-answer"
  /** None of the callee's devices rang. */
  | "not-reached"
  | "cancelled"
  | "missed"
  | "answered-elsewhere"
  | "declined-elsewhere"
  | "connection-lost"
  | "no-devices"
  | "hung-up"
  | "call-exists"
  | "self-call"
  | "server-away"
  | "refused"
  | "removed"
  | "stopped"
  | "elsewhere"
  /** The media's certificate is not the one that the other side named under the seal. */
  | "unsecured"
  | "failed"
  | SealCause;

/** What the seal refused, as docs/sealing.md names it. */
export type SealCause =
  | "malformed"
  | "unknown-prekey"
  | "forged"
  | "replayed"
  | "no-session"
  | "bad-device-list"
  | "identity-changed";

/** What cannot be opened. The same word stands in `data-cause` of the media screen. */
export type MediaProblem = "camera" | "microphone";

export type CallPhase =
  | "calling"
  | "ringing"
  | "incoming"
  | "answering"
  | "connecting"
  | "connected"
  | "reconnecting";

export type CallRole = "caller" | "callee";

export interface PhoneSnapshot {
  screen: Screen;
  account: string | null;
  device: string | null;
  /** `id` is null until the server has named the call. */
  call?: { id: string | null; peer: string; phase: CallPhase; role: CallRole };
  /** The WebSocket is open and brought up to date. */
  connected: boolean;
  ended?: Cause;
}

export interface PhoneEvent {
  at: number;
  name: string;
  detail: string;
}

export interface PhoneConfig {
  api: string;
  connect: string;
}

/** Who waits to be let in: this device, or, on the account's first one, others. The same code is shown on both. */
export interface PhonePending {
  /** Of this device while it waits; else null. */
  code: string | null;
  waiting: readonly { device: string; code: string }[];
}

export interface PhoneHooks {
  state(): PhoneSnapshot;
  /** 60 digits; null while they are computed, and for whom this device has never met. */
  safety(peer: string): string | null;
  pending(): PhonePending;
  /** Lets in a device that waits; nothing for one that is not among `pending().waiting`. */
  endorse(device: string): void;
  /** The peer's new identity is taken for the same person's; a call that waits for it goes on. */
  confirmIdentity(peer: string): void;
  pc(): RTCPeerConnection | undefined;
  /** The newest last. Bounded: the oldest are dropped. */
  events(): readonly PhoneEvent[];
  /** Undefined until the page has fetched it. */
  readonly config: PhoneConfig | undefined;
  /** Measures gaps in the media of calls as the diagnostic page does; it runs only when the page has `?probe` in its query. */
  readonly probe: Probe;
}

declare global {
  interface Window {
    phone: PhoneHooks;
  }
}
