// Decides what is left behind when a call is over: the screen that says why, the entry in the history, and what is given up.

import { type Failure, causeOfFailure, staysUntilRead } from "./causes.ts";
import { ENDED_SHOWN_MS, LEFT_CALLS_MAX } from "./limits.ts";
import type { Cause } from "../phone";
import {
  type Call,
  type Effect,
  type Ended,
  type HistoryEntry,
  type HistoryKind,
  type State,
  type Step,
  ack,
  same,
} from "./state.ts";

/** Why it ended, when a failed request says so. */
export interface Why {
  cause: Cause;
  failure?: Failure;
}

/** The call is over, and a screen says why. */
export function finish(state: State, why: Why, now_ms: number): Step {
  const { call } = state;
  if (call === null) return same(state);
  const { cause, failure } = why;
  const ended: Ended = {
    attempt: call.attempt,
    cause,
    role: call.role,
    peer: call.peer,
    media: call.media,
    duration_ms: call.connected_at_ms === null ? null : now_ms - call.connected_at_ms,
    again_at_ms: failure?.retry_after_ms == null ? null : now_ms + failure.retry_after_ms,
    detail: failure?.title ?? null,
  };
  const over = drop(state, historyKind(call, cause), now_ms);
  const effects = over.effects;
  if (!staysUntilRead(cause)) {
    effects.push({ t: "timer", event: { t: "ended_over", attempt: call.attempt }, ms: ENDED_SHOWN_MS });
  }
  return { state: { ...over.state, ended }, effects };
}

/** Refusals of the device, whatever it asks. */
const DOUBTED: ReadonlySet<string> = new Set(["device_not_registered", "unauthorized", "not_endorsed"]);

export function finishRefused(state: State, failure: Failure, now_ms: number): Step {
  const { call } = state;
  if (call === null) return same(state);
  const over = finish(state, { cause: causeOfFailure(failure, call.role), failure }, now_ms);
  // Whether this device was removed, or has to wait again, its account's list says.
  const doubted = DOUBTED.has(failure.code);
  return doubted ? { ...over, effects: [...over.effects, { t: "look_at_own" }] } : over;
}

/** The seal was refused: it never becomes a call here, and the server is told as little as it takes. */
export function finishUnsealed(state: State, failure: Failure, now_ms: number): Step {
  const { call } = state;
  const over = finishRefused(state, failure, now_ms);
  if (call?.id == null) return over;
  const { id: call_id } = call;
  // Another device of this account may be able to open it: this one is busy, and they ring on.
  const told: Effect = call.offer !== null ? { t: "reject", call_id, reason: "busy" } : { t: "end", call_id };
  return { ...over, effects: [...over.effects, told] };
}

/** Somebody else is at the other end of the media than the seal says: the call is over for both. */
export function finishUnsecured(state: State, now_ms: number): Step {
  const over = finish(state, { cause: "unsecured" }, now_ms);
  const call_id = state.call?.id ?? null;
  return call_id === null ? over : { ...over, effects: [...over.effects, { t: "end", call_id }] };
}

/** The call is over by the user's own will: straight home, no screen. */
export function drop(state: State, kind: HistoryKind, now_ms: number): Step {
  const { call } = state;
  if (call === null) return same(state);
  const entry = entryOf(call, kind, now_ms);
  const forget: Effect = { t: "forget", call_id: call.id, peer: call.peer };
  const effects: Effect[] = [{ t: "close_line" }, forget, { t: "remember", entry }, ...ack(call.offer?.id)];
  return { state: leave({ ...state, call: null, ended: null }, call.id), effects };
}

/** Another tab has this phone now: what it is in is that tab's, and nothing of it is given up for good. */
export function yieldTo(state: State): Step {
  const ended = ofPhone(state, "elsewhere");
  return { state: { ...state, call: null, ended, held: [], looking: [] }, effects: [{ t: "close_line" }] };
}

/** The account has no such device any more: nothing rings here, and no call can be placed. */
export function removed(state: State, now_ms: number): Step {
  if (state.ended?.cause === "removed") return same(state);
  const before = { ...state, join_code: null };
  const over = finish(before, { cause: "removed" }, now_ms);
  return { ...over, state: { ...over.state, ended: ofPhone(over.state, "removed") } };
}

/** It is about the phone, in a call or not. */
function ofPhone({ attempts, call }: State, cause: Cause): Ended {
  return {
    attempt: attempts,
    cause,
    role: call?.role ?? "callee",
    peer: call?.peer ?? null,
    media: call?.media ?? "audio",
    duration_ms: null,
    again_at_ms: null,
    detail: null,
  };
}

/** From here on pushes of this call change nothing. */
export function leave(state: State, call_id: string | null): State {
  if (call_id === null || state.left.includes(call_id)) return state;
  return { ...state, left: [...state.left, call_id].slice(-LEFT_CALLS_MAX) };
}

function historyKind(call: Call, cause: Cause): HistoryKind {
  if (call.role === "caller") return "outgoing";
  if (cause === "declined-elsewhere") return "declined";
  const answered = call.phase !== "incoming" && call.problem === null && !call.doubt;
  return answered || cause === "answered-elsewhere" ? "answered" : "missed";
}

function entryOf(call: Call, kind: HistoryKind, now_ms: number): HistoryEntry {
  return {
    call_id: call.id,
    at_ms: call.started_at_ms,
    peer: call.peer,
    media: call.media,
    kind,
    duration_ms: call.connected_at_ms === null ? null : now_ms - call.connected_at_ms,
  };
}
