// Decides how a call is taken up again that the server knows and this tab does not, or that the server said nothing of.
// Pure.

import { causeOfReason } from "./causes.ts";
import { finish } from "./ending.ts";
import { onPush } from "./pushes.ts";
import { type Call, type Effect, type State, type Step, same, both } from "./state.ts";
import type { CallView, Push } from "./wire.ts";

/** `view` null: the server knows no such call. */
export function onLooked(state: State, call_id: string, view: CallView | null, now_ms: number): Step {
  if (!state.looking.includes(call_id)) return same(state);
  const mine = state.held.filter((push) => push.call_id === call_id);
  const next: State = {
    ...state,
    looking: state.looking.filter((id) => id !== call_id),
    held: state.held.filter((push) => push.call_id !== call_id),
  };
  const settled = next.call?.id === call_id ? checked(next, next.call, view, now_ms) : resumed(next, view, mine, now_ms);
  return mine.reduce((so_far, push) => both(so_far, onPush(so_far.state, push, "live", now_ms)), settled);
}

/** The call of this tab, of which the server said nothing when the connection came back. */
function checked(state: State, call: Call, view: CallView | null, now_ms: number): Step {
  if (view === null) return finish(state, { cause: "connection-lost" }, now_ms);
  if (view.phase === "ended") return finish(state, { cause: causeOfReason(view.ended?.reason ?? "", call) }, now_ms);
  const talks = view.phase === "active" && call.lined;
  return { state, effects: talks ? [{ t: "restart", attempt: call.attempt }] : [] };
}

function resumed(state: State, view: CallView | null, told: readonly Push[], now_ms: number): Step {
  const none = same(state);
  if (view === null || view.phase === "ended" || view.my_leg === undefined || state.call !== null) return none;
  if (state.left.includes(view.call_id)) return { state, effects: [{ t: "end", call_id: view.call_id }] };
  const role = view.from.account === state.account && view.from.device === state.device ? "caller" : "callee";
  const other = view.legs.find((leg) => leg.leg !== view.my_leg && leg.state !== "left");
  const peer = other?.account ?? (role === "caller" ? view.to[0] : view.from.account);
  if (peer === undefined) return none;
  const talks = view.phase === "active" && other !== undefined;
  // A push of an answered call says how long ago that was.
  const age_ms = Math.max(0, ...told.map((push) => push.age_ms));
  const attempt = state.attempts + 1;
  const call: Call = {
    attempt,
    id: view.call_id,
    role,
    peer,
    peer_device: other?.device ?? null,
    media: view.media,
    sends: { microphone: true, camera: view.media === "video" },
    phase: talks ? "reconnecting" : "calling",
    revision: 0,
    started_at_ms: now_ms - age_ms,
    placed_at_ms: role === "caller" ? now_ms : null,
    connected_at_ms: talks ? now_ms - age_ms : null,
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
    effects: talks ? [rejoin(call, view.call_id, other.device)] : [],
  };
}

/** Back into a call with a new peer connection, and an offer to the other side. */
export function rejoin(call: Call, call_id: string, device: string): Effect {
  const { attempt, media, sends, role, peer } = call;
  return { t: "rejoin", attempt, call_id, peer: { account: peer, device }, media, sends, polite: role === "callee" };
}
