// Decides what a push means to the phone. Pushes may repeat and may be of calls that this tab knows nothing of; neither
// changes anything. Pure.

import { causeOfReason } from "./causes.ts";
import { finish, leave } from "./ending.ts";
import { doubt, isGhost } from "./ghosts.ts";
import { EARLY_PUSHES_MAX, RING_GRACE_MS, SIGNALS_HELD_MAX } from "./limits.ts";
import { rejoin } from "./resume.ts";
import { type Call, type Offer, type State, type Step, ack, same, both } from "./state.ts";
import type { Push } from "./wire.ts";

/** `sync`: told at the start of a connection, how things are. `live`: told as it happens. */
export type Told = "sync" | "live";

/** All that came before `ready`. Signals are taken last: what they belong to may be told after them. */
export function onSync(state: State, pushes: readonly Push[], now_ms: number): Step {
  const isSignal = (push: Push): boolean => push.type === "call.signal";
  const ordered = [...pushes.filter((push) => !isSignal(push)), ...pushes.filter(isSignal)];
  const before = state.call;
  let step: Step = { state: { ...state, socket: "up" }, effects: [] };
  for (const push of ordered) step = both(step, onPush(step.state, push, "sync", now_ms));
  const { call } = step.state;
  if (call === null || call.id === null || call.attempt !== before?.attempt) return step;
  if (!pushes.some((push) => push.call_id === call.id)) return both(step, look(step.state, call.id));
  const talks = call.lined && (call.phase === "connecting" || call.phase === "connected" || call.phase === "reconnecting");
  return talks ? both(step, { state: step.state, effects: [{ t: "restart", attempt: call.attempt }] }) : step;
}

export function onPush(state: State, push: Push, told: Told, now_ms: number): Step {
  const { call } = state;
  if (push.type === "call.missed") return missed(state, push, now_ms);
  if (state.looking.includes(push.call_id)) {
    return same({ ...state, held: [...state.held, push].slice(-SIGNALS_HELD_MAX) });
  }
  if (call !== null && call.id === push.call_id) return ofCall(state, call, push, now_ms);
  if (push.type === "call.offer") return offered(state, push, now_ms);
  if (call !== null && call.id === null && call.glare === null) return hold(state, call, push);
  const own_leg = push.type === "call.leg_joined" && push.my_leg !== undefined && push.my_leg === push.leg;
  if (own_leg) return told === "sync" ? unknownLeg(state, push, now_ms) : lateLeg(state, push);
  return { state, effects: ack(push.id) };
}

/** The server has named the call: what came before that is taken up. */
export function settleEarly(state: State, now_ms: number): Step {
  const { call } = state;
  if (call === null) return same(state);
  const first: Step = same({ ...state, call: { ...call, early: [] } });
  return call.early.reduce((so_far, push) => both(so_far, onPush(so_far.state, push, "live", now_ms)), first);
}

/** Asks how a call stands; its pushes wait for the answer. */
function look(state: State, call_id: string): Step {
  if (state.looking.includes(call_id)) return same(state);
  return { state: { ...state, looking: [...state.looking, call_id] }, effects: [{ t: "look", call_id }] };
}

function missed(state: State, push: Push, now_ms: number): Step {
  const entry = {
    call_id: push.call_id,
    at_ms: now_ms - push.age_ms,
    peer: push.from?.account ?? "someone",
    media: push.media ?? "audio",
    kind: "missed",
    duration_ms: null,
  } as const;
  return { state, effects: [{ t: "remember", entry }, ...ack(push.id)] };
}

/**
 * This device is in a call that this tab does not know: it was reloaded, or it has left and the server does not know yet, or
 * it was told that there is no such call.
 */
function unknownLeg(state: State, push: Push, now_ms: number): Step {
  const { call_id } = push;
  // A call given up while it was being placed: it is ended when the server has answered.
  if (state.abandoned.length > 0) return doubt(state, push);
  if (state.left.includes(call_id) || state.call !== null || isGhost(state, push, now_ms)) {
    return { state: leave(state, call_id), effects: [{ t: "end", call_id }] };
  }
  const looked = look(state, call_id);
  return { state: { ...looked.state, held: [...looked.state.held, push] }, effects: looked.effects };
}

/**
 * What this tab had asked for and given up was done after all: a store that was away still had the command. The person was
 * told that there is no call, so nobody is to ring for it.
 */
function lateLeg(state: State, push: Push): Step {
  const { call_id } = push;
  if (state.abandoned.length > 0) return doubt(state, push);
  return { state: leave(state, call_id), effects: [{ t: "end", call_id }, ...ack(push.id)] };
}

function hold(state: State, call: Call, push: Push): Step {
  return same({ ...state, call: { ...call, early: [...call.early, push].slice(-EARLY_PUSHES_MAX) } });
}

/** It rings, once it is examined. */
function offered(state: State, push: Push, now_ms: number): Step {
  const { call } = state;
  const { call_id, from } = push;
  if (state.left.includes(call_id)) return reject(state, push, "declined");
  if (from === undefined || push.sealed === undefined) return { state, effects: ack(push.id) };
  const offer: Offer = {
    id: push.id ?? null,
    call_id,
    revision: push.revision,
    from,
    media: push.media ?? "audio",
    sealed: push.sealed,
    ring_remaining_ms: push.ring_remaining_ms ?? 0,
  };
  if (call === null) return ring(state, offer, now_ms);
  if (call.glare === call_id) return acceptInstead(state, call, offer);
  // Whom we call calls us: which of the two calls lives is known when the server has answered ours.
  if (call.id === null && call.glare === null && from.account === call.peer) return hold(state, call, push);
  const busy = reject(state, push, "busy");
  const entry = { call_id, at_ms: now_ms, peer: from.account, media: offer.media, kind: "missed", duration_ms: null } as const;
  return { state: leave(busy.state, call_id), effects: [...busy.effects, { t: "remember", entry }] };
}

function reject(state: State, push: Push, reason: "declined" | "busy"): Step {
  return { state, effects: [{ t: "reject", call_id: push.call_id, reason }, ...ack(push.id)] };
}

function ring(state: State, offer: Offer, now_ms: number): Step {
  const attempt = state.attempts + 1;
  const call: Call = {
    attempt,
    id: offer.call_id,
    role: "callee",
    peer: offer.from.account,
    peer_device: offer.from.device,
    media: offer.media,
    sends: { microphone: true, camera: offer.media === "video" },
    phase: "incoming",
    revision: offer.revision,
    started_at_ms: now_ms,
    placed_at_ms: null,
    connected_at_ms: null,
    offer,
    examined: false,
    doubt: false,
    lined: false,
    glare: null,
    problem: null,
    early: [],
  };
  return {
    state: { ...state, attempts: attempt, ended: null, call },
    effects: [
      { t: "examine", attempt, offer },
      { t: "timer", event: { t: "ring_over", attempt }, ms: offer.ring_remaining_ms + RING_GRACE_MS },
    ],
  };
}

/** Our own call lost to theirs: we wanted to talk, so it is answered at once. */
function acceptInstead(state: State, call: Call, offer: Offer): Step {
  const sends = { ...call.sends, camera: call.sends.camera && offer.media === "video" };
  const next: Call = {
    ...call,
    id: offer.call_id,
    role: "callee",
    peer_device: offer.from.device,
    media: offer.media,
    sends,
    phase: "answering",
    revision: offer.revision,
    offer,
    glare: null,
  };
  return { state: { ...state, call: next }, effects: [{ t: "accept", attempt: call.attempt, offer, sends }] };
}

function ofCall(state: State, call: Call, push: Push, now_ms: number): Step {
  const inOrder = push.revision >= call.revision;
  const seen: Call = inOrder && push.type !== "call.signal" ? { ...call, revision: push.revision } : call;
  const next: State = { ...state, call: seen };
  switch (push.type) {
    case "call.signal": {
      const hears = call.lined || call.phase === "answering" || call.phase === "reconnecting";
      return { state, effects: hears ? [{ t: "signal", attempt: call.attempt, push }] : ack(push.id) };
    }
    case "call.ringing":
      return same(inOrder && call.phase === "calling" ? { ...next, call: { ...seen, phase: "ringing" } } : state);
    case "call.accepted":
      return accepted(next, seen, push);
    case "call.answered_elsewhere":
      return finish(next, { cause: "answered-elsewhere" }, now_ms);
    case "call.cancelled":
      return finish(next, { cause: "cancelled" }, now_ms);
    case "call.ended":
      return finish(next, { cause: causeOfReason(push.reason ?? "", call) }, now_ms);
    case "call.offer":
      // Delivered again on a new connection. It is acknowledged when it was answered.
      return same(next);
    default:
      return { state: next, effects: ack(push.id) };
  }
}

function accepted(state: State, call: Call, push: Push): Step {
  const { account, device } = push;
  const waits = call.role === "caller" && (call.phase === "calling" || call.phase === "ringing");
  if (!waits || account === undefined || device === undefined) return { state, effects: ack(push.id) };
  const next: Call = { ...call, peer_device: device, phase: call.lined ? "connecting" : "reconnecting" };
  // Before a reload this tab offered with keys that are gone: the answer is of no use, a new offer is.
  if (!call.lined) {
    return { state: { ...state, call: next }, effects: [rejoin(next, push.call_id, device), ...ack(push.id)] };
  }
  return {
    state: { ...state, call: next },
    effects: [{ t: "apply_answer", attempt: call.attempt, push, device: { account, device } }],
  };
}
