// Remembers with which call each offer came, for as long as its prekey lives: an offer is bound to the first call that it
// came with. Decides `replayed` for offers.

import { type Bytes, hex } from "./bytes.ts";
import { SealError } from "./errors.ts";
import type { Store } from "./store.ts";

interface Kept {
  call_id: string;
  prekey_id: number;
}

export class Nonces {
  readonly #store: Store;
  readonly #prefix: string;

  constructor(store: Store, device: string) {
    this.#store = store;
    this.#prefix = `${device}/`;
  }

  /** Throws `replayed` for a nonce that came with another call. */
  async bind(nonce: Bytes, call_id: string, prekey_id: number): Promise<void> {
    const name = this.#prefix + hex(nonce);
    const before = await this.#store.get<Kept>("nonces", name);
    if (before === undefined) await this.#store.put("nonces", name, { call_id, prekey_id } satisfies Kept);
    else if (before.call_id !== call_id) throw new SealError("replayed");
  }

  /** Those of prekeys that are gone: nothing opens with them any more. */
  async sweep(prekeys: readonly number[]): Promise<void> {
    for (const [name, { prekey_id }] of await this.#store.all<Kept>("nonces", this.#prefix)) {
      if (!prekeys.includes(prekey_id)) await this.#store.delete("nonces", name);
    }
  }
}
