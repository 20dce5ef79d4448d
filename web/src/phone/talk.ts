// What this device and the other one say to each other in a call, under the seal: one thing after another, since sequence
// numbers must arrive in their order. Decides what is not heard; what is said is line.ts.

import type { Api } from "./api.ts";
import { fromBase64 } from "./base64.ts";
import { type Payload, decode, encode } from "./payload.ts";
import { SealError } from "./sealing/errors.ts";
import type { Sealer } from "./sealing/sealer.ts";
import type { Party, Place } from "./wire.ts";

export class Talk {
  readonly #api: Api;
  readonly #sealer: Sealer;
  readonly #ending: AbortSignal;
  #with: { call_id: string; peer: Party } | null = null;
  #sending: Promise<unknown> = Promise.resolve();

  constructor(api: Api, sealer: Sealer, ending: AbortSignal) {
    this.#api = api;
    this.#sealer = sealer;
    this.#ending = ending;
  }

  /** The other side is known from now on. Throws `no_session`. */
  async begin(call_id: string, peer: Party, role: "caller" | "callee"): Promise<void> {
    await this.#sealer.talk(call_id, peer, role);
    this.#with = { call_id, peer };
  }

  /** Answers the call. */
  accept(payload: Payload): Promise<Place> {
    return this.#inTurn(async () => {
      const { call_id, peer } = this.#known();
      return this.#api.accept(call_id, await this.#sealer.seal(call_id, peer, encode(payload)));
    });
  }

  say(payload: Payload): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#with === null) return;
      const { call_id, peer } = this.#with;
      const sealed = await this.#sealer.seal(call_id, peer, encode(payload));
      await this.#api.signal(call_id, new Map([[peer.device, sealed]]), this.#ending);
    });
  }

  /** Throws `SealError`; what opens and is no payload is null. */
  async hear(call_id: string, from: Party, sealed: string): Promise<Payload | null> {
    return decode(await this.#sealer.open(call_id, from, blobOf(sealed)));
  }

  #known(): { call_id: string; peer: Party } {
    if (this.#with === null) throw new SealError("no_session");
    return this.#with;
  }

  /** Sealed and sent before the next is sealed. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#sending.then(work);
    this.#sending = done.catch(() => undefined);
    return done;
  }
}

/** Opens what a call begins with. Throws `SealError`, and `Refused` when the caller's devices cannot be asked for. */
export async function openOffer(
  sealer: Sealer,
  { call_id, from, sealed }: { call_id: string; from: Party; sealed: string },
): Promise<Extract<Payload, { t: "offer" }>> {
  const payload = decode(await sealer.openOffer(call_id, from, blobOf(sealed)));
  if (payload?.t !== "offer") throw new SealError("malformed");
  return payload;
}

function blobOf(sealed: string): Uint8Array {
  try {
    return fromBase64(sealed);
  } catch {
    throw new SealError("malformed");
  }
}
