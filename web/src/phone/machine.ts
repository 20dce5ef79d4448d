// Decides what the phone does: what happens goes in, the new state and what is to be done come out. Pure: no clock, no
// network, no page. What pushes mean is pushes.ts, how a call is taken up again after a reload is resume.ts.

import { type Failure, staysUntilRead } from "./causes.ts";
import { drop, finish, finishRefused, finishUnsealed, finishUnsecured, leave, removed, yieldTo } from "./ending.ts";
import { giveUp, takeUpDoubted } from "./ghosts.ts";
import { GLARE_WAIT_MS, RING_GRACE_MS, RING_LONGEST_MS, SIGN_IN_AGAIN_MS } from "./limits.ts";
import { onPush, onSync, settleEarly } from "./pushes.ts";
import { onLooked, rejoin } from "./resume.ts";
import { isSealFault } from "./sealing/errors.ts";
import { type Call, type Effect, type Event, type State, type Step, ack, same, both } from "./state.ts";
import type { Media } from "./wire.ts";

export function step(state: State, event: Event, now_ms: number): Step {
  switch (event.t) {
    case "sign_in":
      return {
        state: { ...state, signing_in: { account: event.account, failure: null } },
        effects: [{ t: "sign_in", account: event.account }],
      };
    case "signed_in": {
      const { account, device, join_code } = event;
      const next: State = { ...state, account, device, join_code, signing_in: null };
      return join_code === null ? connect(next) : same(next);
    }
    case "own_devices": {
      if (!event.registered) return removed(state, now_ms);
      const waiting = event.waiting.filter(({ device }) => !state.turned_away.includes(device));
      const { join_code, let_in } = event;
      const ended = state.ended?.cause === "removed" ? null : state.ended;
      const next = { ...state, waiting, join_code, let_in, ended };
      return join_code === null && state.socket === "off" ? connect(next) : same(next);
    }
    case "endorse":
    case "refuse_device":
      return ofWaiting(state, event);
    case "sign_in_failed":
      return signInFailed(state, event.failure);
    case "sign_in_again": {
      const still = state.signing_in?.account === event.account && state.signing_in.failure !== null;
      return still ? step(state, { t: "sign_in", account: event.account }, now_ms) : same(state);
    }
    case "socket": {
      const next = { ...state, socket: event.socket };
      return event.socket === "elsewhere" ? yieldTo(next) : same(next);
    }
    case "take_over":
      if (state.socket !== "elsewhere") return same(state);
      return connect({ ...state, ended: null });
    case "sync":
      return onSync(state, event.pushes, now_ms);
    case "push":
      return onPush(state, event.push, "live", now_ms);
    case "looked":
      return onLooked(state, event.call_id, event.view, now_ms);
    case "dial":
      return dial(state, event.to, event.media, now_ms);
    case "home":
      if (state.call?.problem != null || state.call?.doubt === true) return state.call.offer === null ? hangUp(state, now_ms) : decline(state, now_ms);
      return same({ ...state, ended: null });
    case "ended_over": {
      const { ended } = state;
      // Another screen may have taken the place of the one that goes away by itself.
      const over = ended !== null && ended.attempt === event.attempt && !staysUntilRead(ended.cause);
      return same(over ? { ...state, ended: null } : state);
    }
    case "accept":
      return accept(state, event.camera);
    case "decline":
      return decline(state, now_ms);
    case "hang_up":
      return hangUp(state, now_ms);
    case "go_on":
      return goOn(state);
    case "confirm_identity":
      return confirmIdentity(state);
    case "confirm_own": {
      if (!state.let_in || state.account === null) return same(state);
      return { state, effects: [{ t: "confirm_identity", peer: state.account }, { t: "look_at_own" }] };
    }
    case "examined":
    case "placed":
    case "answered":
    case "rejoined":
    case "refused":
    case "no_media":
    case "media_up":
    case "media_down":
    case "media_refused":
    case "ring_over":
      return ofAttempt(state, event, now_ms);
  }
}

function connect(state: State): Step {
  return { state: { ...state, socket: "connecting" }, effects: [{ t: "connect" }] };
}

/** What the user says of a device that asks to be let in. Whether it is in now, the next look at the own devices says. */
function ofWaiting(state: State, event: Extract<Event, { t: "endorse" | "refuse_device" }>): Step {
  const device = state.waiting.find((one) => one.device === event.device);
  if (device === undefined) return same(state);
  const next = { ...state, waiting: state.waiting.filter((one) => one !== device) };
  if (event.t === "endorse") return { state: next, effects: [{ t: "endorse", device }] };
  return same({ ...next, turned_away: [...state.turned_away, device.device] });
}

/** A server that is away may be back soon; whatever else it said, it would say again. */
function signInFailed(state: State, failure: Failure): Step {
  if (state.signing_in === null) return same(state);
  const { account } = state.signing_in;
  const away = failure.status === 0 || failure.status >= 500;
  const again: Effect = { t: "timer", event: { t: "sign_in_again", account }, ms: SIGN_IN_AGAIN_MS };
  return { state: { ...state, signing_in: { account, failure } }, effects: away ? [again] : [] };
}

type OfAttempt = Extract<Event, { attempt: number }>;

/** What came of something that was begun earlier. */
function ofAttempt(state: State, event: OfAttempt, now_ms: number): Step {
  const { call } = state;
  if (call === null || call.attempt !== event.attempt) return late(state, event, now_ms);
  switch (event.t) {
    case "examined": {
      if (call.phase !== "incoming" || call.examined || call.offer === null) return same(state);
      return { state: { ...state, call: { ...call, examined: true } }, effects: [{ t: "ringing", call_id: call.offer.call_id }] };
    }
    case "placed":
      return settleEarly({ ...state, call: { ...call, id: event.place.call_id, placed_at_ms: now_ms, lined: true } }, now_ms);
    case "answered": {
      const phase = call.phase === "answering" ? "connecting" : call.phase;
      return { state: { ...state, call: { ...call, phase, offer: null, lined: true } }, effects: ack(call.offer?.id) };
    }
    case "rejoined":
      return same({ ...state, call: { ...call, lined: true } });
    case "refused": {
      const { failure } = event;
      if (failure.code === "glare" && failure.call_id !== null) return glare(state, call, failure.call_id, now_ms);
      if (failure.code === "identity_changed") {
        return { state: { ...state, call: { ...call, doubt: true } }, effects: [{ t: "close_line" }] };
      }
      const placing = call.role === "caller" && call.id === null && call.glare === null;
      const known = giveUp(state, placing ? call.started_at_ms : null, failure, now_ms);
      const over = isSealFault(failure.code) ? finishUnsealed(known, failure, now_ms) : finishRefused(known, failure, now_ms);
      return takeUpEarly(call, over, now_ms);
    }
    case "no_media":
      return same({ ...state, call: { ...call, problem: event.problem } });
    case "media_up":
      return same({
        ...state,
        call: { ...call, phase: "connected", connected_at_ms: call.connected_at_ms ?? now_ms },
      });
    case "media_down":
      return same(call.phase === "connected" ? { ...state, call: { ...call, phase: "reconnecting" } } : state);
    case "media_refused":
      return finishUnsecured(state, now_ms);
    case "ring_over": {
      if (call.glare !== null && call.phase === "calling") return finish(state, { cause: "failed" }, now_ms);
      const rings = call.offer !== null && (call.phase === "incoming" || call.problem !== null || call.doubt);
      if (!rings) return same(state);
      // While the server is there it is the one to say so: what it had said remains is by its clock, which may have jumped.
      const left_ms = call.started_at_ms + RING_LONGEST_MS + RING_GRACE_MS - now_ms;
      if (state.socket !== "up" || left_ms <= 0) return finish(state, { cause: "missed" }, now_ms);
      return { state, effects: [{ t: "timer", event, ms: left_ms }] };
    }
    case "ended_over":
      return same(state);
  }
}

/** A call that was given up while the server was being asked is given up there too, now that it has a name. */
function late(state: State, event: OfAttempt, now_ms: number): Step {
  const asked = state.abandoned.find(({ attempt }) => attempt === event.attempt);
  if (asked === undefined) return same(state);
  if (event.t !== "placed" && event.t !== "answered" && event.t !== "refused" && event.t !== "no_media") return same(state);
  const next = { ...state, abandoned: state.abandoned.filter((one) => one !== asked) };
  // Without a camera nothing was asked of the server.
  if (event.t === "no_media") return takeUpDoubted(next, now_ms);
  if (event.t === "refused") return takeUpDoubted(giveUp(next, asked.began_ms, event.failure, now_ms), now_ms);
  const { call_id } = event.place;
  const ended: Step = { state: leave(next, call_id), effects: [{ t: "end", call_id }] };
  return both(ended, takeUpDoubted(ended.state, now_ms));
}

function dial(state: State, to: string, media: Media, now_ms: number): Step {
  if (state.account === null || state.call !== null) return same(state);
  const attempt = state.attempts + 1;
  const call: Call = {
    attempt,
    id: null,
    role: "caller",
    peer: to,
    peer_device: null,
    media,
    sends: { microphone: true, camera: media === "video" },
    phase: "calling",
    revision: 0,
    started_at_ms: now_ms,
    placed_at_ms: null,
    connected_at_ms: null,
    offer: null,
    examined: false,
    doubt: false,
    lined: false,
    glare: null,
    problem: null,
    early: [],
  };
  return {
    state: { ...state, attempts: attempt, ended: null, call },
    effects: [{ t: "dial", attempt, to, media, sends: call.sends }],
  };
}

function accept(state: State, camera: boolean): Step {
  const { call } = state;
  if (call?.offer == null || call.phase !== "incoming") return same(state);
  const sends = { microphone: true, camera: camera && call.media === "video" };
  return {
    state: { ...state, call: { ...call, phase: "answering", sends } },
    effects: [{ t: "accept", attempt: call.attempt, offer: call.offer, sends }],
  };
}

function decline(state: State, now_ms: number): Step {
  const { call } = state;
  if (call?.offer == null || (call.phase !== "incoming" && call.problem === null && !call.doubt)) return same(state);
  const over = drop(state, "declined", now_ms);
  return { ...over, effects: [...over.effects, { t: "reject", call_id: call.offer.call_id, reason: "declined" }] };
}

function hangUp(state: State, now_ms: number): Step {
  const { call } = state;
  if (call === null) return same(state);
  if (call.phase === "incoming") return decline(state, now_ms);
  // Whether the server has it, or will have it, is known when it answers.
  const placing = call.role === "caller" && call.id === null && call.glare === null;
  const asked = call.problem === null && !call.doubt && (placing || call.phase === "answering");
  const given_up = { attempt: call.attempt, began_ms: placing ? call.started_at_ms : null };
  const before = asked ? { ...state, abandoned: [...state.abandoned, given_up] } : state;
  const end: Effect[] = call.id === null ? [] : [{ t: "end", call_id: call.id }];
  if (call.phase === "calling" || call.phase === "ringing") {
    const over = drop(before, "outgoing", now_ms);
    return takeUpEarly(call, { ...over, effects: [...over.effects, ...end] }, now_ms);
  }
  const over = finish(before, { cause: "hung-up" }, now_ms);
  return { ...over, effects: [...over.effects, ...end] };
}

/** The user goes on without what could not be opened: without the camera first, then without the microphone. */
function goOn(state: State): Step {
  const { call } = state;
  if (call?.problem == null) return same(state);
  const sends = call.problem === "camera" ? { ...call.sends, camera: false } : { microphone: false, camera: false };
  return goAhead(state, { ...call, sends, problem: null });
}

/** The user takes the peer's other identity for the same person's. */
function confirmIdentity(state: State): Step {
  const { call } = state;
  if (call === null || !call.doubt) return same(state);
  const { state: going, effects } = goAhead(state, { ...call, doubt: false });
  return { state: going, effects: [{ t: "confirm_identity", peer: call.peer }, ...effects] };
}

/** What was asked for is tried again. */
function goAhead(state: State, next: Call): Step {
  const { attempt, media, sends, offer, peer, peer_device } = next;
  const going: State = { ...state, call: next };
  if (offer !== null && next.phase === "incoming") return { state: going, effects: [{ t: "examine", attempt, offer }] };
  if (offer !== null) return { state: going, effects: [{ t: "accept", attempt, offer, sends }] };
  if (next.id !== null && peer_device !== null) return { state: going, effects: [rejoin(next, next.id, peer_device)] };
  return { state: going, effects: [{ t: "dial", attempt, to: peer, media, sends }] };
}

/** The other one's call won over ours. Its offer may be here already; else it comes. */
function glare(state: State, call: Call, call_id: string, now_ms: number): Step {
  const waiting: State = { ...state, call: { ...call, glare: call_id, early: [] } };
  const first: Step = {
    state: waiting,
    effects: [
      { t: "close_line" },
      { t: "timer", event: { t: "ring_over", attempt: call.attempt }, ms: GLARE_WAIT_MS },
    ],
  };
  return call.early.reduce((so_far, push) => both(so_far, onPush(so_far.state, push, "live", now_ms)), first);
}

/** What was told while we were dialling, and had to wait for what comes of it: who rang, and a call given up before this one. */
function takeUpEarly(call: Call, over: Step, now_ms: number): Step {
  return call.early.reduce((so_far, push) => both(so_far, onPush(so_far.state, push, "live", now_ms)), over);
}
