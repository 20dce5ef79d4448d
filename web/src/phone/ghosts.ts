// Decides which calls exist though this tab was told that they do not: a store that was away still had the command. Nobody
// here is in such a call, and it rings at the other end, so it is ended. A call from before a reload is none. Pure.

import type { Failure } from "./causes.ts";
import { GHOST_COMES_WITHIN_MS, GIVEN_UP_MAX, SERVERS_APART_MS, SIGNALS_HELD_MAX } from "./limits.ts";
import { onPush } from "./pushes.ts";
import { type State, type Step, ack, same, both } from "./state.ts";
import type { Push } from "./wire.ts";

/** A call was asked for at `began_ms`, and nobody can say what became of it. A refusal that names its reason can. */
export function giveUp(state: State, began_ms: number | null, failure: Failure, now_ms: number): State {
  const unknown = failure.status === 0 || failure.status >= 500;
  if (began_ms === null || !unknown) return state;
  const request = { began_ms, until_ms: now_ms + GHOST_COMES_WITHIN_MS };
  return { ...state, given_up: [...state.given_up, request].slice(-GIVEN_UP_MAX) };
}

/** Whether a request that was given up may have made the call that this push says we are in. */
export function isGhost(state: State, push: Push, now_ms: number): boolean {
  const since_ms = now_ms - push.age_ms;
  return state.given_up.some(({ began_ms, until_ms }) => now_ms < until_ms && since_ms + SERVERS_APART_MS >= began_ms);
}

/** It may be a call that was given up before the server had answered: it is looked at when that is known. */
export function doubt(state: State, push: Push): Step {
  return { state: { ...state, doubted: [...state.doubted, push].slice(-SIGNALS_HELD_MAX) }, effects: ack(push.id) };
}

/** The server has answered: what is still doubted is none of what it named. */
export function takeUpDoubted(state: State, now_ms: number): Step {
  if (state.abandoned.length > 0) return same(state);
  const first: Step = same({ ...state, doubted: [] });
  const others = state.doubted.filter((push) => !state.left.includes(push.call_id));
  return others.reduce((so_far, push) => both(so_far, onPush(so_far.state, push, "sync", now_ms)), first);
}
