// What a device remembers of other accounts: the root that it saw first, the devices it has met, whether a person has
// compared the safety number. Decides `identity_changed`, and what is announced (docs/sealing.md, "What a device remembers
// of others").

import { fromBase64, toBase64 } from "../base64.ts";
import type { Bytes } from "./bytes.ts";
import { SealError } from "./errors.ts";
import type { CheckedList } from "./list.ts";
import { safetyNumber } from "./safety.ts";
import type { Store } from "./store.ts";

interface Kept {
  /** Base64. */
  root: string;
  devices: string[];
  /** Those of them whose keys an operator holds. */
  hosted: string[];
  /** A person has compared the safety number, while the root was this one. */
  compared: boolean;
  /** Another root that was seen and is not confirmed. */
  changed: string | null;
}

/** What the page shows of a peer. */
export interface Known {
  /** Of its root, or of the one that waits to be confirmed; null while it is being computed. */
  safety: string | null;
  compared: boolean;
  /** Another identity waits to be confirmed. */
  changed: boolean;
  hosted: readonly string[];
  /** Devices that were not there before this call. */
  fresh: readonly string[];
}

export class TrustBook {
  readonly #store: Store;
  readonly #account: string;
  /** A number is there, or something new is known. */
  readonly #told: () => void;
  readonly #kept = new Map<string, Kept>();
  readonly #numbers = new Map<string, string | null>();
  readonly #fresh = new Map<string, readonly string[]>();
  #own: Bytes | null = null;

  private constructor(store: Store, account: string, told: () => void) {
    this.#store = store;
    this.#account = account;
    this.#told = told;
  }

  static async load(store: Store, account: string, told: () => void): Promise<TrustBook> {
    const book = new TrustBook(store, account, told);
    const prefix = `${account}/`;
    for (const [name, kept] of await store.all<Kept>("trust", prefix)) book.#kept.set(name.slice(prefix.length), kept);
    const own = book.#kept.get(account);
    if (own !== undefined) book.#own = fromBase64(own.root);
    return book;
  }

  /**
   * The list was checked and is about to be used: pins a root that is seen for the first time, and remembers the devices.
   * Throws `identity_changed`.
   */
  async admit({ account, root, devices }: CheckedList): Promise<void> {
    if (root === null) return;
    const seen = toBase64(root);
    const before = this.#kept.get(account);
    if (before !== undefined && before.root !== seen) {
      await this.#keep(account, { ...before, changed: seen });
      throw new SealError("identity_changed");
    }
    if (account === this.#account) this.#own = root;
    const ids = devices.map(({ device }) => device);
    // Of an identity that is seen for the first time, or was just confirmed, all devices are new: that says nothing.
    const met = before?.devices ?? [];
    const fresh = met.length === 0 ? [] : ids.filter((id) => !met.includes(id));
    if (fresh.length > 0) this.#fresh.set(account, [...(this.#fresh.get(account) ?? []), ...fresh]);
    const hosted = devices.filter(({ custody }) => custody === "hosted").map(({ device }) => device);
    await this.#keep(account, { root: seen, devices: ids, hosted, compared: before?.compared ?? false, changed: null });
  }

  /** The list of this account, whose root is this device itself: nobody has to be asked. */
  async found(list: CheckedList): Promise<true> {
    const before = this.#kept.get(list.account);
    if (list.root !== null && before !== undefined && before.root !== toBase64(list.root)) {
      await this.#keep(list.account, { root: toBase64(list.root), devices: [], hosted: [], compared: false, changed: null });
    }
    await this.admit(list);
    return true;
  }

  known(peer: string): Known | null {
    const kept = this.#kept.get(peer);
    if (kept === undefined) return null;
    return {
      safety: this.safety(peer),
      compared: kept.compared,
      changed: kept.changed !== null,
      hosted: kept.hosted,
      fresh: this.#fresh.get(peer) ?? [],
    };
  }

  /** Null at first: it takes a moment to compute, and is told then. */
  safety(peer: string): string | null {
    const kept = this.#kept.get(peer);
    const own = this.#own;
    if (kept === undefined || own === null || peer === this.#account) return null;
    const root = kept.changed ?? kept.root;
    const name = `${peer} ${root} ${toBase64(own)}`;
    const number = this.#numbers.get(name);
    if (number !== undefined) return number;
    this.#numbers.set(name, null);
    void safetyNumber({ account: this.#account, root: own }, { account: peer, root: fromBase64(root) }).then((made) => {
      this.#numbers.set(name, made);
      this.#told();
    });
    return null;
  }

  /** The person takes the new identity for the same person's: it is pinned, and was compared with nobody. */
  async confirm(peer: string): Promise<void> {
    const kept = this.#kept.get(peer);
    if (kept?.changed == null) return;
    await this.#keep(peer, { root: kept.changed, devices: [], hosted: [], compared: false, changed: null });
  }

  async compared(peer: string, done: boolean): Promise<void> {
    const kept = this.#kept.get(peer);
    if (kept !== undefined) await this.#keep(peer, { ...kept, compared: done && kept.changed === null });
  }

  /** What was new at the last call is new no more. */
  seen(peer: string): void {
    this.#fresh.delete(peer);
  }

  async #keep(account: string, kept: Kept): Promise<void> {
    if (JSON.stringify(kept) === JSON.stringify(this.#kept.get(account))) return;
    this.#kept.set(account, kept);
    await this.#store.put("trust", `${this.#account}/${account}`, kept);
    this.#told();
  }
}
