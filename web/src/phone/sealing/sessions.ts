// What two devices say to each other in a call after the offer: a session for each call and peer device, with its counters.
// Decides `no_session` and, by sequence numbers, `replayed`. A number is kept before its blob is sent.

import { type Bytes, equal } from "./bytes.ts";
import { type Direction, type Secrets, openSession, sealSession, sessionNumber } from "./blobs.ts";
import { SealError } from "./errors.ts";
import { SEQUENCE_MAX, SESSION_KEPT_MS } from "./limits.ts";
import type { DeviceName } from "./statements.ts";
import type { Store } from "./store.ts";

interface Kept {
  role: "caller" | "callee";
  secrets: Secrets;
  /** Of the offer that it came from. */
  nonce: Bytes;
  /** The next number to send, and the last that was opened. */
  next: number;
  opened: number;
  begun_at_ms: number;
}

/** Stands where the call's id does while the server has not named the call. */
const DIALLING = "";

export class Sessions {
  readonly #store: Store;
  readonly #device: string;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(store: Store, device: string) {
    this.#store = store;
    this.#device = device;
  }

  /** A call is dialled: nothing of the one dialled before is left. */
  async dialling(begun: readonly { peer: DeviceName; secrets: Secrets; nonce: Bytes }[], now_ms: number): Promise<void> {
    await this.forget(DIALLING);
    for (const { peer, secrets, nonce } of begun) {
      await this.#put(DIALLING, peer, { role: "caller", secrets, nonce, next: 1, opened: 0, begun_at_ms: now_ms });
    }
  }

  /** The server has named the call that is dialled. */
  async named(call_id: string): Promise<void> {
    const from = this.#prefix(DIALLING);
    for (const [name, kept] of await this.#store.all<Kept>("sessions", from)) {
      await this.#store.put("sessions", this.#prefix(call_id) + name.slice(from.length), kept);
      await this.#store.delete("sessions", name);
    }
  }

  /** An offer was opened: the same one again finds the session as it is. */
  async offered(call_id: string, peer: DeviceName, secrets: Secrets, nonce: Bytes, now_ms: number): Promise<void> {
    const before = await this.#get(call_id, peer);
    if (before !== undefined && equal(before.nonce, nonce)) return;
    await this.#put(call_id, peer, { role: "callee", secrets, nonce, next: 1, opened: 0, begun_at_ms: now_ms });
  }

  /** Throws `no_session`. Our call whose name never reached this page (it was reloaded) is the one dialled last. */
  async need(call_id: string, peer: DeviceName, role: "caller" | "callee"): Promise<void> {
    if ((await this.#get(call_id, peer)) !== undefined) return;
    if (role === "callee" || (await this.#get(DIALLING, peer)) === undefined) throw new SealError("no_session");
    await this.named(call_id);
  }

  /** The peer's device is in the call: those of its others are of no use any more. */
  async only(call_id: string, peer: DeviceName): Promise<void> {
    const prefix = this.#prefix(call_id);
    for (const [name] of await this.#store.all<Kept>("sessions", prefix)) {
      if (name !== prefix + who(peer)) await this.#store.delete("sessions", name);
    }
  }

  /** Throws `no_session`, and `malformed` for what does not fit. */
  seal(call_id: string, peer: DeviceName, clear: Uint8Array): Promise<Bytes> {
    return this.#inTurn(async () => {
      const kept = await this.#get(call_id, peer);
      if (kept === undefined || kept.next > SEQUENCE_MAX) throw new SealError("no_session");
      await this.#put(call_id, peer, { ...kept, next: kept.next + 1 });
      return sealSession(directions(kept).out, call_id, kept.next, clear);
    });
  }

  /** Throws `no_session`, `malformed`, `replayed`, `forged`. */
  open(call_id: string, peer: DeviceName, blob: Uint8Array): Promise<Bytes> {
    return this.#inTurn(async () => {
      const n = sessionNumber(blob);
      const kept = await this.#get(call_id, peer);
      if (kept === undefined) throw new SealError("no_session");
      if (n <= kept.opened) throw new SealError("replayed");
      const clear = await openSession(directions(kept).in, call_id, blob);
      await this.#put(call_id, peer, { ...kept, opened: n });
      return clear;
    });
  }

  async forget(call_id: string): Promise<void> {
    for (const [name] of await this.#store.all<Kept>("sessions", this.#prefix(call_id))) {
      await this.#store.delete("sessions", name);
    }
  }

  /** Those of calls that must be over. */
  async sweep(now_ms: number): Promise<void> {
    for (const [name, { begun_at_ms }] of await this.#store.all<Kept>("sessions", `${this.#device}/`)) {
      if (now_ms - begun_at_ms > SESSION_KEPT_MS) await this.#store.delete("sessions", name);
    }
  }

  #get(call_id: string, peer: DeviceName): Promise<Kept | undefined> {
    return this.#store.get("sessions", this.#prefix(call_id) + who(peer));
  }

  #put(call_id: string, peer: DeviceName, kept: Kept): Promise<void> {
    return this.#store.put("sessions", this.#prefix(call_id) + who(peer), kept);
  }

  #prefix(call_id: string): string {
    return `${this.#device}/${call_id}/`;
  }

  /** Counters are read and kept by one at a time. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

/** Neither ids of accounts nor of devices have a `/`. */
function who({ account, device }: DeviceName): string {
  return `${account}/${device}`;
}

function directions({ role, secrets }: Kept): { out: Direction; in: Direction } {
  const { caller_to_callee, callee_to_caller } = secrets;
  return role === "caller" ? { out: caller_to_callee, in: callee_to_caller } : { out: callee_to_caller, in: caller_to_callee };
}
