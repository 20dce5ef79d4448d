// The keys of one device: its identity, and its prekeys, which are renewed when they are seven days old and deleted when
// they are fourteen (docs/sealing.md, "Keys"). Decides what the device registers itself with.

import { toBase64 } from "../base64.ts";
import type { Identity, SignedPrekey } from "../wire.ts";
import { type AgreePair, makeAgreePair } from "./agreement.ts";
import { PREKEY_KEPT_MS, PREKEY_RENEWED_MS } from "./limits.ts";
import { type DeviceName, type SignPair, deviceStatement, makeSignPair, prekeyStatement, sign } from "./statements.ts";
import type { Store } from "./store.ts";

interface Prekey {
  id: number;
  pair: AgreePair;
  /** By the device's `sign`, base64. */
  signature: string;
  made_at_ms: number;
}

interface Kept {
  account: string;
  device: string;
  sign: SignPair;
  agree: AgreePair;
  /** The newest last. */
  prekeys: Prekey[];
  /** Of this device, base64: its own until its account's first device has given it another. */
  endorsement: string;
  used_at_ms: number;
}

export interface Registration {
  identity: Identity;
  signed_prekey: SignedPrekey;
  endorsement: string;
}

export class Keyring {
  readonly #store: Store;
  #kept: Kept;

  private constructor(store: Store, kept: Kept) {
    this.#store = store;
    this.#kept = kept;
  }

  static async make(store: Store, name: DeviceName, now_ms: number): Promise<Keyring> {
    const [own, agree] = await Promise.all([makeSignPair(), makeAgreePair()]);
    const endorsement = toBase64(await sign(own.private, deviceStatement(name, own.public, agree.public, "device")));
    const { account, device } = name;
    const ring = new Keyring(store, { account, device, sign: own, agree, prekeys: [], endorsement, used_at_ms: now_ms });
    await ring.renew(now_ms);
    return ring;
  }

  /** Null when the device has no keys here. */
  static async load(store: Store, { account, device }: DeviceName): Promise<Keyring | null> {
    const kept = await store.get<Kept>("devices", device);
    return kept?.account === account ? new Keyring(store, kept) : null;
  }

  /** The devices of this account that were used here, the latest first. */
  static async known(store: Store, account: string): Promise<string[]> {
    const all = (await store.all<Kept>("devices", "")).map(([, kept]) => kept).filter((kept) => kept.account === account);
    return all.sort((a, b) => b.used_at_ms - a.used_at_ms).map(({ device }) => device);
  }

  get name(): DeviceName {
    const { account, device } = this.#kept;
    return { account, device };
  }

  get sign(): SignPair {
    return this.#kept.sign;
  }

  get agree(): AgreePair {
    return this.#kept.agree;
  }

  get registration(): Registration {
    const { sign: own, agree, prekeys, endorsement } = this.#kept;
    const newest = prekeys.at(-1);
    if (newest === undefined) throw new Error("a keyring without a prekey");
    const { id, pair, signature } = newest;
    return {
      identity: { sign: toBase64(own.public), agree: toBase64(agree.public) },
      signed_prekey: { id, key: toBase64(pair.public), signature },
      endorsement,
    };
  }

  prekey(id: number): AgreePair | null {
    return this.#kept.prekeys.find((prekey) => prekey.id === id)?.pair ?? null;
  }

  /** The ids of the prekeys that live. */
  get prekeys(): number[] {
    return this.#kept.prekeys.map(({ id }) => id);
  }

  /** True when there is a new prekey, which is then to be registered. */
  async renew(now_ms: number): Promise<boolean> {
    const { name } = this;
    const newest = this.#kept.prekeys.at(-1);
    const due = newest === undefined || now_ms - newest.made_at_ms >= PREKEY_RENEWED_MS;
    let prekeys = this.#kept.prekeys;
    if (due) {
      const id = (newest?.id ?? 0) + 1;
      const pair = await makeAgreePair();
      const signature = toBase64(await sign(this.#kept.sign.private, prekeyStatement(name, id, pair.public)));
      prekeys = [...prekeys, { id, pair, signature, made_at_ms: now_ms }];
    }
    prekeys = prekeys.filter(({ made_at_ms }) => now_ms - made_at_ms < PREKEY_KEPT_MS);
    await this.#keep({ prekeys, used_at_ms: now_ms });
    return due;
  }

  async endorsed(endorsement: string): Promise<void> {
    if (endorsement !== this.#kept.endorsement) await this.#keep({ endorsement });
  }

  /** Back to its own endorsement, for an account that has another root now or none. False: it was its own already. */
  async endorseItself(): Promise<boolean> {
    const { sign: own, agree, endorsement } = this.#kept;
    const itself = toBase64(await sign(own.private, deviceStatement(this.name, own.public, agree.public, "device")));
    await this.endorsed(itself);
    return endorsement !== itself;
  }

  async #keep(changed: Partial<Kept>): Promise<void> {
    const kept = { ...this.#kept, ...changed };
    await this.#store.put("devices", kept.device, kept);
    this.#kept = kept;
  }
}
