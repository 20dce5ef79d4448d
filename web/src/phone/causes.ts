// Decides which of the phone's causes a server's reason or a failed request is. Pure; the words for people are words.ts.

import type { CallRole, Cause, SealCause } from "../phone";
import type { Call } from "./state.ts";
import { type SealFault, isSealFault } from "./sealing/errors.ts";

/** A request that was not done: `status` 0 is no answer at all. */
export interface Failure {
  status: number;
  code: string;
  title: string;
  retry_after_ms: number | null;
  /** The call that the refusal names: glare, call_exists. */
  call_id: string | null;
  /** Why the call had ended, with `call_ended`. */
  reason: string | null;
}

/** What an ended call's reason means to this side of it. */
export function causeOfReason(reason: string, { role, phase }: Pick<Call, "role" | "phase">): Cause {
  const answered = phase !== "incoming";
  switch (reason) {
    case "hangup":
      return "hung-up";
    // A device of one side was removed. Whether it is this one, the account's list of devices says.
    case "kicked":
      if (!answered) return "cancelled";
      return phase === "calling" || phase === "ringing" ? "no-answer" : "hung-up";
    case "timeout":
      if (role === "callee") return "missed";
      return phase === "calling" ? "not-reached" : "no-answer";
    case "busy":
      return role === "caller" ? "busy" : "missed";
    case "declined":
      return role === "caller" ? "declined" : "declined-elsewhere";
    case "answered_elsewhere":
      return "answered-elsewhere";
    case "rejected_elsewhere":
      return "declined-elsewhere";
    case "cancelled":
      return "cancelled";
    case "connection_lost":
      // A caller that vanished while it rang: to the callee a call that was given up.
      return role === "callee" && !answered ? "cancelled" : "connection-lost";
    case "shed":
    case "relay_lost":
      return "connection-lost";
    case "ended_by_operator":
      return "stopped";
    default:
      return "failed";
  }
}

export function causeOfFailure(failure: Failure, role: CallRole): Cause {
  const { status, code, reason } = failure;
  if (isSealFault(code)) return SEAL_CAUSES[code];
  if (status === 0 || status >= 500) return "server-away";
  if (status === 429) return "refused";
  switch (code) {
    case "no_devices":
      return "no-devices";
    case "call_exists":
      return "call-exists";
    case "self_call":
      return "self-call";
    case "answered_elsewhere":
      return "answered-elsewhere";
    case "call_ended":
      return reason === null ? "cancelled" : causeOfReason(reason, { role, phase: "incoming" });
    case "not_found":
      return role === "callee" ? "cancelled" : "connection-lost";
    default:
      return "failed";
  }
}

const SEAL_CAUSES: Record<SealFault, SealCause> = {
  malformed: "malformed",
  unknown_prekey: "unknown-prekey",
  forged: "forged",
  replayed: "replayed",
  no_session: "no-session",
  bad_device_list: "bad-device-list",
  identity_changed: "identity-changed",
};

/** These stay until the user has read them; the others go home by themselves. */
const STAYING: ReadonlySet<Cause> = new Set<Cause>([
  "connection-lost",
  "no-devices",
  "server-away",
  "refused",
  "removed",
  "stopped",
  "elsewhere",
  "unsecured",
  "failed",
  ...Object.values(SEAL_CAUSES),
]);

export function staysUntilRead(cause: Cause): boolean {
  return STAYING.has(cause);
}
