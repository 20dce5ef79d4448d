// What two phones say to each other under the seal: JSON with a version and a type. Decides what is well formed; whatever
// is not, or is of a later version, is no payload.

import { toBytes, toText } from "./base64.ts";
import type { Sends } from "./state.ts";
import type { Media } from "./wire.ts";

/**
 * `pc` names the peer connection of the sender, drawn anew for each; `to` names the receiver's that it is meant for.
 * `n` counts the offers of a peer connection; an answer bears the number of its offer.
 */
export type Payload =
  | { v: 1; t: "offer"; pc: string; n: number; media: Media; sdp: string; sends: Sends }
  | { v: 1; t: "answer"; pc: string; to: string; n: number; sdp: string; sends: Sends }
  /** `fresh`: of a new peer connection, so whoever receives it needs a new one too. `to` is null then. */
  | {
      v: 1;
      t: "restart-offer";
      pc: string;
      to: string | null;
      n: number;
      fresh: boolean;
      sdp: string;
      sends: Sends;
    }
  | { v: 1; t: "candidates"; pc: string; to: string; candidates: RTCIceCandidateInit[] }
  | { v: 1; t: "media"; pc: string; sends: Sends }
  | { v: 1; t: "missed"; media: Media };

export function encode(payload: Payload): Uint8Array {
  return toBytes(JSON.stringify(payload));
}

/** Null for what is no payload. */
export function decode(bytes: Uint8Array): Payload | null {
  let value: unknown;
  try {
    value = JSON.parse(toText(bytes));
  } catch {
    return null;
  }
  if (!isFields(value) || value["v"] !== 1) return null;
  const { t, pc, to, n, sdp, media, sends, fresh, candidates } = value;
  const wanted = media === "audio" || media === "video" ? media : null;
  switch (t) {
    case "offer":
      return isText(pc) && isCount(n) && isText(sdp) && wanted !== null && isSends(sends)
        ? { v: 1, t, pc, n, media: wanted, sdp, sends }
        : null;
    case "answer":
      return isText(pc) && isText(to) && isCount(n) && isText(sdp) && isSends(sends)
        ? { v: 1, t, pc, to, n, sdp, sends }
        : null;
    case "restart-offer":
      return isText(pc) && (isText(to) || to === null) && isCount(n) && isText(sdp) && isSends(sends)
        ? { v: 1, t, pc, to, n, fresh: fresh === true, sdp, sends }
        : null;
    case "candidates":
      return isText(pc) && isText(to) && Array.isArray(candidates)
        ? { v: 1, t, pc, to, candidates: candidates.filter(isCandidate) }
        : null;
    case "media":
      return isText(pc) && isSends(sends) ? { v: 1, t, pc, sends } : null;
    case "missed":
      return wanted === null ? null : { v: 1, t, media: wanted };
    default:
      return null;
  }
}

function isFields(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value);
}

function isSends(value: unknown): value is Sends {
  return isFields(value) && typeof value["camera"] === "boolean" && typeof value["microphone"] === "boolean";
}

function isCandidate(value: unknown): value is RTCIceCandidateInit {
  return isFields(value) && isText(value["candidate"]);
}
