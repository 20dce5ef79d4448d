// For unit tests: a phone that is signed in, events played into it, and pushes as the router words them.

import { step } from "./machine.ts";
import { type Effect, type Event, INITIAL, type State } from "./state.ts";
import type { Failure } from "./causes.ts";
import type { CallView, Place, Push } from "./wire.ts";

export const BOB = { account: "bob", device: "dev_bob" };
export const NOW_MS = 1_000_000;

export function signedIn(): State {
  return { ...INITIAL, account: "alice", device: "dev_alice", socket: "up" };
}

export interface Played {
  state: State;
  /** All that was to be done, in order. */
  effects: Effect[];
}

export function play(state: State, ...events: Event[]): Played {
  const effects: Effect[] = [];
  for (const event of events) {
    const next = step(state, event, NOW_MS);
    state = next.state;
    effects.push(...next.effects);
  }
  return { state, effects };
}

export function names(effects: readonly Effect[]): string[] {
  return effects.map(({ t }) => t);
}

export function push(type: string, call_id: string, more: Partial<Push> = {}): Push {
  return { type: `call.${type}`, call_id, revision: 10, age_ms: 0, ...more };
}

export function offer(call_id: string, more: Partial<Push> = {}): Push {
  const ring_remaining_ms = 60_000;
  return push("offer", call_id, { id: `${call_id}.0`, sealed: "e30=", from: BOB, media: "video", ring_remaining_ms, ...more });
}

export function place(call_id: string): Place {
  return { call_id, leg: 1, phase: "ringing", revision: 99, ring_expires_at: "", ice_servers: [] };
}

export function refusal(status: number, code: string, more: Partial<Failure> = {}): Failure {
  return { status, code, title: code, retry_after_ms: null, call_id: null, reason: null, ...more };
}

export function view(call_id: string, more: Partial<CallView> = {}): CallView {
  return {
    call_id,
    media: "video",
    phase: "active",
    created_at: "",
    ring_expires_at: "",
    revision: 5,
    my_leg: 1,
    from: { account: "alice", device: "dev_alice" },
    to: ["bob"],
    legs: [
      { leg: 1, account: "alice", device: "dev_alice", state: "joined" },
      { leg: 2, account: "bob", device: "dev_bob", state: "joined" },
    ],
    ...more,
  };
}
