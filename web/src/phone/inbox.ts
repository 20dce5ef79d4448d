// Decides which pushes with an id are new: they are delivered again on every connection until they are acknowledged.
// Pure.

import { PUSH_IDS_MAX } from "./limits.ts";
import type { Push } from "./wire.ts";

/** Those that say how things stand are told each time; the machine takes a repetition for what it is. */
const TOLD_EACH_TIME = new Set(["call.offer", "call.accepted"]);

export type Verdict = "new" | "in_hand" | "done";

export class Inbox {
  readonly #known = new Map<string, "in_hand" | "done">();

  /** `in_hand`: it is being handled, and will be acknowledged. `done`: acknowledge it again. */
  admit(push: Push): Verdict {
    if (push.id === undefined) return "new";
    const before = this.#known.get(push.id);
    if (before === "done") return "done";
    if (before === "in_hand" && !TOLD_EACH_TIME.has(push.type)) return "in_hand";
    this.#known.set(push.id, "in_hand");
    const oldest = this.#known.keys().next();
    if (this.#known.size > PUSH_IDS_MAX && oldest.done !== true) this.#known.delete(oldest.value);
    return "new";
  }

  done(ids: readonly string[]): void {
    for (const id of ids) this.#known.set(id, "done");
  }
}
