// The browser's side of docs/sealing.md, put together: what a line asks for when it dials, is called and talks. Decides in
// which order keys are checked, pinned and used; how, the other files here.

import type { DeviceList } from "../wire.ts";
import { type OfferHead, offerHead, openOffer, sealNote, sealOffer } from "./blobs.ts";
import type { Bytes } from "./bytes.ts";
import { SealError } from "./errors.ts";
import type { Keyring } from "./keyring.ts";
import { type CheckedList, checkList } from "./list.ts";
import { Nonces } from "./nonces.ts";
import { Sessions } from "./sessions.ts";
import type { DeviceName } from "./statements.ts";
import type { Store } from "./store.ts";
import type { TrustBook } from "./trust.ts";

export interface Around {
  store: Store;
  ring: Keyring;
  trust: TrustBook;
  /** Asks the server for an account's devices. */
  devices(account: string): Promise<DeviceList>;
  now_ms(): number;
}

/** What a call is placed with: a blob for each of the callee's devices. */
export interface Dialled {
  offers: Map<string, Bytes>;
  notes: Map<string, Bytes>;
}

export class Sealer {
  readonly #around: Around;
  readonly #sessions: Sessions;
  readonly #nonces: Nonces;

  constructor(around: Around) {
    this.#around = around;
    this.#sessions = new Sessions(around.store, around.ring.name.device);
    this.#nonces = new Nonces(around.store, around.ring.name.device);
  }

  /** The account's devices, all vouched for and of the identity that is pinned. Throws the two faults of it. */
  async list(account: string): Promise<CheckedList> {
    const list = await checkList(await this.#around.devices(account), account);
    await this.#around.trust.admit(list);
    return list;
  }

  /** Seals for every device of the callee; nothing when it has none. */
  async dial(callee: string, offer: Uint8Array, note: Uint8Array): Promise<Dialled> {
    const { ring, now_ms } = this.#around;
    const { devices } = await this.list(callee);
    const sealed = await Promise.all(
      devices.map(async (peer) => {
        const route = { caller: ring.name, callee: peer };
        const { blob, secrets } = await sealOffer(route, ring.agree, peer.prekey, offer);
        return { peer, blob, secrets, nonce: offerHead(blob).nonce, note: await sealNote(route, ring.agree, peer.agree, note) };
      }),
    );
    await this.#sessions.dialling(sealed, now_ms());
    return {
      offers: new Map(sealed.map(({ peer, blob }) => [peer.device, blob])),
      notes: new Map(sealed.map(({ peer, note: said }) => [peer.device, said])),
    };
  }

  /** The server has named the call that was dialled. */
  named(call_id: string): Promise<void> {
    return this.#sessions.named(call_id);
  }

  /** Opens what a call begins with, as often as it is asked. Nothing is kept of what does not open. */
  async openOffer(call_id: string, from: DeviceName, blob: Uint8Array): Promise<Bytes> {
    const { ring, now_ms } = this.#around;
    const head: OfferHead = offerHead(blob);
    const { devices } = await this.list(from.account);
    const caller = devices.find(({ device }) => device === from.device);
    if (caller === undefined) throw new SealError("bad_device_list");
    const prekey = ring.prekey(head.prekey_id);
    if (prekey === null) throw new SealError("unknown_prekey");
    const { clear, secrets } = await openOffer({ caller, callee: ring.name }, caller.agree, prekey, blob);
    await this.#nonces.bind(head.nonce, call_id, head.prekey_id);
    await this.#sessions.offered(call_id, from, secrets, head.nonce, now_ms());
    return clear;
  }

  /** This device talks with that one from now on. Throws `no_session`. */
  async talk(call_id: string, peer: DeviceName, role: "caller" | "callee"): Promise<void> {
    await this.#sessions.need(call_id, peer, role);
    await this.#sessions.only(call_id, peer);
  }

  seal(call_id: string, peer: DeviceName, clear: Uint8Array): Promise<Bytes> {
    return this.#sessions.seal(call_id, peer, clear);
  }

  open(call_id: string, peer: DeviceName, blob: Uint8Array): Promise<Bytes> {
    return this.#sessions.open(call_id, peer, blob);
  }

  forget(call_id: string): Promise<void> {
    return this.#sessions.forget(call_id);
  }

  /** Makes a new prekey when one is due, and forgets what is of no use any more. True: the device is to be registered. */
  async renew(): Promise<boolean> {
    const { ring, now_ms } = this.#around;
    const renewed = await ring.renew(now_ms());
    await this.#nonces.sweep(ring.prekeys);
    await this.#sessions.sweep(now_ms());
    return renewed;
  }
}
