// What the tests and the log are told of the state and of what happens. Pure.

import type { PhonePending, PhoneSnapshot } from "../phone";
import { type Event, type State, screenOf } from "./state.ts";

export function snapshotOf(state: State): PhoneSnapshot {
  const { account, device, call, ended, socket } = state;
  return {
    screen: screenOf(state),
    account,
    device,
    connected: socket === "up",
    ...(call !== null && { call: { id: call.id, peer: call.peer, phase: call.phase, role: call.role } }),
    ...(ended !== null && { ended: ended.cause }),
  };
}

export function pendingOf({ join_code, waiting }: State): PhonePending {
  return { code: join_code, waiting: waiting.map(({ device, code }) => ({ device, code })) };
}

/** What of an event is told besides its name. */
export function detailOf(event: Event): string {
  switch (event.t) {
    case "push":
      return event.push.type;
    case "socket":
      return event.socket;
    case "refused":
      return event.failure.code;
    default:
      return "";
  }
}
