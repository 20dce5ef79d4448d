// What the phone can be, what can happen to it and what it then has done: the types of the state machine.
// What follows from what is machine.ts and pushes.ts; who does it is phone.ts.

import type { CallPhase, CallRole, Cause, MediaProblem, Screen } from "../phone";
import type { Failure } from "./causes.ts";
import { RINGS_SOON_MS } from "./limits.ts";
import type { CallView, Media, Party, Place, Push } from "./wire.ts";

/** What this side sends of itself. */
export interface Sends {
  microphone: boolean;
  camera: boolean;
}

/** An offer that waits for an answer. It is acknowledged when it was answered or is void: a reload needs it again. */
export interface Offer {
  id: string | null;
  call_id: string;
  revision: number;
  from: Party;
  media: Media;
  sealed: string;
  ring_remaining_ms: number;
}

export interface Call {
  /** Counts the calls of this tab. What comes of an earlier attempt changes nothing. */
  attempt: number;
  /** Null until the server has named it. */
  id: string | null;
  role: CallRole;
  peer: string;
  /** Which of the peer's devices is in the call, once one is. */
  peer_device: string | null;
  media: Media;
  sends: Sends;
  phase: CallPhase;
  /** The newest revision that a push had. Answers do not count: they overtake the pushes that lead to them. */
  revision: number;
  started_at_ms: number;
  /** When the server had taken it, as far as this tab knows; null: not yet, or it is not ours. */
  placed_at_ms: number | null;
  /** When media first flowed. */
  connected_at_ms: number | null;
  /** Callee: what there is to answer. */
  offer: Offer | null;
  /** Callee: the offer was opened and its sender vouched for. It does not ring before. */
  examined: boolean;
  /** The peer has another identity, and the user is asked whether to take it. */
  doubt: boolean;
  /** Does a peer connection belong to it? Not after a reload, until it has rejoined. */
  lined: boolean;
  /** The call that won over ours: its offer is to be accepted. */
  glare: string | null;
  /** What could not be opened, while the user is asked whether to go on without. */
  problem: MediaProblem | null;
  /** Pushes that came before the server's answer named the call, and an offer of the one whom we call. */
  early: readonly Push[];
}

export interface Ended {
  attempt: number;
  cause: Cause;
  role: CallRole;
  peer: string | null;
  media: Media;
  /** How long both sides heard each other; null: never. */
  duration_ms: number | null;
  /** When the server says that it is worth another try. */
  again_at_ms: number | null;
  /** The server's own words, for causes that have no better. */
  detail: string | null;
}

/** `elsewhere`: closed with 4409, and not opened again by itself. */
export type Socket = "off" | "connecting" | "up" | "down" | "elsewhere";

/** A device of this account that asks to be let in. */
export interface Waiting {
  device: string;
  /** Six digits of its keys, which it shows too. */
  code: string;
  hosted: boolean;
}

export interface State {
  account: string | null;
  device: string | null;
  /** This device's own code while it waits to be let in; null: it is in. */
  join_code: string | null;
  /** It was let in, by a first device that is not the one it knew: its person is asked. */
  let_in: boolean;
  /** Those that this device can let in. */
  waiting: readonly Waiting[];
  /** Devices that the user did not let in. */
  turned_away: readonly string[];
  signing_in: { account: string; failure: Failure | null } | null;
  socket: Socket;
  call: Call | null;
  ended: Ended | null;
  attempts: number;
  /** Signals of calls that are being looked up. */
  held: readonly Push[];
  /** Calls being looked up. */
  looking: readonly string[];
  /** Calls that this tab wants no more of, newest last. */
  left: readonly string[];
  /** Attempts given up before the server had named the call; `began_ms` null: it was answered here, not placed. */
  abandoned: readonly { attempt: number; began_ms: number | null }[];
  /** Pushes that say that we are in a call, which may be one of these. */
  doubted: readonly Push[];
  /** Calls that were asked for and may come though we were told that they do not. */
  given_up: readonly { began_ms: number; until_ms: number }[];
}

export const INITIAL: State = {
  account: null,
  device: null,
  join_code: null,
  let_in: false,
  waiting: [],
  turned_away: [],
  signing_in: null,
  socket: "off",
  call: null,
  ended: null,
  attempts: 0,
  held: [],
  looking: [],
  left: [],
  abandoned: [],
  doubted: [],
  given_up: [],
};

export type Event =
  // The user.
  | { t: "sign_in"; account: string }
  | { t: "dial"; to: string; media: Media }
  | { t: "accept"; camera: boolean }
  | { t: "decline" }
  | { t: "hang_up" }
  | { t: "go_on" }
  | { t: "home" }
  | { t: "take_over" }
  | { t: "confirm_identity" }
  | { t: "confirm_own" }
  | { t: "endorse"; device: string }
  | { t: "refuse_device"; device: string }
  // The server, by request.
  | { t: "signed_in"; account: string; device: string; join_code: string | null }
  | { t: "own_devices"; registered: boolean; join_code: string | null; let_in: boolean; waiting: readonly Waiting[] }
  | { t: "sign_in_failed"; failure: Failure }
  | { t: "placed"; attempt: number; place: Place }
  | { t: "answered"; attempt: number; place: Place }
  | { t: "rejoined"; attempt: number; place: Place }
  | { t: "examined"; attempt: number }
  | { t: "refused"; attempt: number; failure: Failure }
  | { t: "looked"; call_id: string; view: CallView | null }
  // The server, by push. `sync` is all that came before `ready`.
  | { t: "socket"; socket: Socket }
  | { t: "sync"; pushes: readonly Push[] }
  | { t: "push"; push: Push }
  // The media.
  | { t: "no_media"; attempt: number; problem: MediaProblem }
  | { t: "media_up"; attempt: number }
  | { t: "media_down"; attempt: number }
  /** What is at the other end is not what the sealed description names. */
  | { t: "media_refused"; attempt: number }
  // Time.
  | { t: "ring_over"; attempt: number }
  | { t: "ended_over"; attempt: number }
  | { t: "sign_in_again"; account: string };

export type HistoryKind = "outgoing" | "answered" | "missed" | "declined";

export interface HistoryEntry {
  call_id: string | null;
  at_ms: number;
  peer: string;
  media: Media;
  kind: HistoryKind;
  duration_ms: number | null;
}

export type Effect =
  | { t: "sign_in"; account: string }
  | { t: "connect" }
  | { t: "dial"; attempt: number; to: string; media: Media; sends: Sends }
  | { t: "examine"; attempt: number; offer: Offer }
  | { t: "accept"; attempt: number; offer: Offer; sends: Sends }
  | { t: "rejoin"; attempt: number; call_id: string; peer: Party; media: Media; sends: Sends; polite: boolean }
  | { t: "apply_answer"; attempt: number; push: Push; device: Party }
  | { t: "signal"; attempt: number; push: Push }
  | { t: "restart"; attempt: number }
  | { t: "close_line" }
  | { t: "confirm_identity"; peer: string }
  | { t: "endorse"; device: Waiting }
  | { t: "look_at_own" }
  /** What was kept to talk in this call, and what was new about its peer. */
  | { t: "forget"; call_id: string | null; peer: string }
  | { t: "ringing"; call_id: string }
  | { t: "reject"; call_id: string; reason: "declined" | "busy" }
  | { t: "end"; call_id: string }
  | { t: "look"; call_id: string }
  | { t: "ack"; ids: string[] }
  | { t: "timer"; event: Event; ms: number }
  | { t: "remember"; entry: HistoryEntry };

export interface Step {
  state: State;
  effects: Effect[];
}

/** Nothing is to be done. */
export function same(state: State): Step {
  return { state, effects: [] };
}

/** One step after another: the later state, the effects of both. */
export function both(before: Step, after: Step): Step {
  return { state: after.state, effects: [...before.effects, ...after.effects] };
}

/** The pushes are done with: those with an id are acknowledged. */
export function ack(...ids: (string | null | undefined)[]): Effect[] {
  const known = ids.filter((id) => id != null);
  return known.length === 0 ? [] : [{ t: "ack", ids: known }];
}

/** The call rings nowhere, and has had the time to. */
export function ringsNowhere(call: Call | null, now_ms: number): boolean {
  return call?.phase === "calling" && call.placed_at_ms !== null && now_ms - call.placed_at_ms >= RINGS_SOON_MS;
}

/** The screen follows from the state and from nothing else. */
export function screenOf(state: State): Screen {
  if (state.account === null) return "sign-in";
  const { call } = state;
  // One that was in may have to wait again: the account has another first device. What it talks in goes on.
  if (call === null && state.join_code !== null && state.ended === null) return "pending";
  if (call === null) return state.ended === null ? "home" : "ended";
  if (call.doubt) return "identity";
  if (call.problem !== null) return "media";
  switch (call.phase) {
    case "calling":
    case "ringing":
      return "outgoing";
    case "incoming":
      return call.examined ? "incoming" : "home";
    default:
      return "call";
  }
}
